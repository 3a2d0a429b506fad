import json
from pathlib import Path

import numpy as np
import pytest

from hpcbench.analysis.figures.captions import conditions_note, missing_points_note
from hpcbench.analysis.figures.legends import series_labels
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.configuration_names import describe_configuration, device_name
from hpcbench.analysis.summary.figure_tables import plotted_numbers
from hpcbench.analysis.summary.points import row_dicts, summarise
from hpcbench.analysis.summary.varying_axes import BATCH_SIZE
from hpcbench.records.columns import Record
from tests.helpers.builders_scan import Load, record, through_parquet, variant


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return lambda records: through_parquet(records, tmp_path / "results")


def along_batches(frame):
    return series.series_along(summarise(frame), BATCH_SIZE)


def test_repeats_become_their_mean_with_a_student_t_interval(load):
    """Three repeats 90, 100, 110 infer/s: mean 100, half-width 4.303 * 10 / sqrt(3)."""
    frame = load(record(repeat=i, throughput_infer_per_s=v) for i, v in enumerate((90, 100, 110)))
    (row,) = row_dicts(summarise(frame))
    assert row["throughput_infer_per_s"] == pytest.approx(100)
    assert row["throughput_infer_per_s_low"] == pytest.approx(100 - 24.84, abs=0.01)
    assert row["throughput_infer_per_s_high"] == pytest.approx(100 + 24.84, abs=0.01)
    assert (row["repeats"], row["measured"], row["status"]) == (3, 3, "ok")


def test_the_bar_of_two_repeats_is_these_two(load):
    """Student's t of two values reaches far out of any panel."""
    frame = load(record(repeat=i, throughput_infer_per_s=v) for i, v in enumerate((90, 100)))
    numbers = plotted_numbers(along_batches(frame), ("throughput_infer_per_s",))
    (row,) = row_dicts(numbers)
    assert row["throughput_infer_per_s_min"] == pytest.approx(90)
    assert row["throughput_infer_per_s_max"] == pytest.approx(100)
    # It is no interval, and has no name of one.
    assert np.isnan(row["throughput_infer_per_s_low"])
    assert np.isnan(row["throughput_infer_per_s_high"])


def test_the_bar_of_three_repeats_is_their_interval_and_no_range(load):
    frame = load(record(repeat=i, throughput_infer_per_s=v) for i, v in enumerate((90, 100, 110)))
    (row,) = row_dicts(plotted_numbers(along_batches(frame), ("throughput_infer_per_s",)))
    assert row["throughput_infer_per_s_low"] == pytest.approx(100 - 24.84, abs=0.01)
    assert np.isnan(row["throughput_infer_per_s_min"])


def test_a_point_measured_once_has_no_interval(load):
    """One repeat says nothing about the spread."""
    (row,) = row_dicts(summarise(load([record()])))
    assert row["throughput_infer_per_s"] == 100
    assert np.isnan(row["throughput_infer_per_s_low"])
    assert np.isnan(row["throughput_infer_per_s_high"])


@pytest.mark.parametrize(
    "changed",
    [
        {"gpu_name": "Tesla T4"},
        {"gpu_count": 2},
        {"cpu_name": "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz"},
        {"cpu_count": 16},
        {"pool": "other"},
        {"site": "elsewhere"},
        {"protocol": "http"},
        {"asynchronous": False},
        {"shapes": '{"pf_points": [2, 100]}'},
        {"measurement_interval_ms": 1000},
        {"max_trials": 20},
        {"input_data": "zero"},
        {"concurrency": 8},
        {"variant": variant(instance_count=2)},
        {"model_digest": "sha256:0123"},
        {"server_image_digest": "sha256:4567"},
        {"percentile": 99},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_measurements_that_differ_in_more_than_the_repeat_are_not_pooled(load, changed):
    """Unlike hardware, software, loads or settings make series of their own, named apart."""
    points = along_batches(load([record(), record(**changed)]))
    assert points["series"].tolist() == [0, 1]
    _, texts = series_labels(points, BATCH_SIZE.merged_columns)
    assert len(set(texts.values())) == 2


def test_what_differs_in_the_name_of_node_or_campaign_only_is_pooled(load):
    """Two nodes of one kind, and two campaigns, measured the same point."""
    frame = load(
        [record(node="n1", campaign="a"), record(node="n2", campaign="b", repeat=1, point_id="b")]
    )
    (row,) = row_dicts(summarise(frame))
    assert (row["measured"], row["campaigns"]) == (2, "a, b")


def test_a_point_is_unstable_if_one_of_its_repeats_is(load):
    """A mean is no better than what it was made from."""
    frame = load([record(repeat=0), record(repeat=1, status="unstable")])
    (row,) = row_dicts(summarise(frame))
    assert (row["status"], row["measured"]) == ("unstable", 2)


def test_a_failed_repeat_counts_but_gives_no_figure(load):
    """Even where the record holds metrics from before the failure."""
    frame = load(
        [record(repeat=0), record(repeat=1, status="failed", throughput_infer_per_s=900.0)]
    )
    (row,) = row_dicts(summarise(frame))
    assert row["throughput_infer_per_s"] == 100
    assert (row["repeats"], row["measured"], row["lacking"]) == (2, 1, "failed")


def test_a_failure_that_knows_no_hardware_stays_in_its_series(load):
    """Else a point that died early would be a line of its own."""
    lost = record(
        batch=4,
        status="failed",
        gpu_name=None,
        gpu_count=None,
        cpu_name=None,
        cpu_count=None,
        instance_kind=None,
    )
    points = along_batches(load([record(), lost]))
    assert points["series"].tolist() == [0, 0]
    assert points["status"].tolist() == ["ok", "failed"]


@pytest.mark.parametrize(
    ("columns", "latency_ms"),
    [
        ({"percentile": 95, "latency_percentile_us": 7000.0}, 7),
        ({"percentile": 99, "latency_percentile_us": None, "latency_p99_us": 9000.0}, 9),
        ({"percentile": None, "latency_avg_us": 40000.0}, 40),
    ],
    ids=["the percentile", "its own column", "the mean"],
)
def test_latency_is_the_percentile_asked_for_or_else_the_mean(load, columns, latency_ms):
    """In ms."""
    (row,) = row_dicts(summarise(load([record(**columns)])))
    assert row["latency_ms"] == pytest.approx(latency_ms)


def test_series_count_by_size_and_the_plain_variant_comes_first(load):
    """10 after 2, and a variant without accelerator is the reference."""
    fast = '{"name": "tensorrt"}'
    order = [(1, None), (1, fast), (2, None), (10, None)]
    points = summarise(
        load(record(variant=variant(instance_count=n, accelerator=a)) for n, a in reversed(order))
    )
    variants = [json.loads(text) for text in points["variant"]]
    assert [(v["accelerator"], v["instance_count"]) for v in variants] == [
        *((None, 1), (fast, 1), (None, 2), (None, 10)),
    ]


def test_the_ratio_is_one_for_the_first_series_and_has_the_interval_of_welch(load):
    """A batch that the first lacks has no ratio, and the first has no interval to itself."""
    frame = load(
        [
            *(
                record("A", 1, i, throughput_infer_per_s=100.0 + v)
                for i, v in enumerate((-1, 0, 1))
            ),
            *(
                record("B", 1, i, throughput_infer_per_s=200.0 + v)
                for i, v in enumerate((-2, 0, 2))
            ),
            record("B", 4),
        ]
    )
    quantity = "throughput_infer_per_s"
    points = series.with_ratios(along_batches(frame), [quantity])
    found = points.set_index(["model_label", "batch_size"])
    ratio = found[f"{quantity}_ratio"]
    assert ratio["A", 1] == 1
    assert np.isnan(found[f"{quantity}_ratio_low"]["A", 1])
    assert ratio["B", 1] == pytest.approx(2)
    assert np.isnan(ratio["B", 4])
    # Both means have a relative error of 1 % / sqrt(3); four degrees of freedom: t = 2.776.
    half = 2.776 * 0.01 * np.sqrt(2 / 3)
    assert found[f"{quantity}_ratio_high"]["B", 1] == pytest.approx(2 * np.exp(half), rel=1e-3)
    assert found[f"{quantity}_ratio_low"]["B", 1] == pytest.approx(2 * np.exp(-half), rel=1e-3)


def test_the_reference_is_the_first_series_that_was_measured(load):
    """A first model that failed everywhere must not empty the ratio panel."""
    frame = load([record("A", status="failed"), record("B")])
    points = series.with_ratios(along_batches(frame), ["throughput_infer_per_s"])
    assert points["throughput_infer_per_s_ratio"].tolist()[1] == 1


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({}, "A100-SXM4-40GB"),
        ({"gpu_name": "Tesla T4", "gpu_count": 4}, "4 \N{MULTIPLICATION SIGN} Tesla T4"),
        ({"gpu_name": "NVIDIA GeForce RTX 4090"}, "GeForce RTX 4090"),
        ({"gpu_name": None}, "AMD EPYC 7763 (32 CPUs)"),
        (
            {"gpu_name": None, "cpu_name": "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz"},
            "Intel Xeon Gold 6226R (32 CPUs)",
        ),
        ({"instance_kind": "KIND_CPU", "cpu_count": 1}, "AMD EPYC 7763 (1 CPU)"),
        ({"gpu_name": None, "cpu_name": None}, "unknown device"),
    ],
)
def test_devices_have_short_names(load, columns, name):
    """The GPU, or the processor where the model ran on none."""
    (row,) = row_dicts(summarise(load([record(**columns)])))
    assert device_name(row) == name


def test_what_else_a_server_had_loaded_is_said_in_words(load):
    beside = [
        {"model_label": "A", "variant": {"warmup": True, "accelerator": None}, "load": None},
        {
            "model_label": "B",
            "variant": {},
            "shapes": {"x": [16, 50]},
            "load": {"batch_size": 8, "concurrency": 2, "measurement_interval_ms": 250},
        },
    ]
    (row,) = row_dicts(summarise(load([record(beside=json.dumps(beside))])))
    assert describe_configuration(row)["beside"] == (
        "beside A (warmup, no accelerator) idle and B (x 16\N{MULTIPLICATION SIGN}50, "
        "batch size 8, concurrency 2)"
    )


def test_the_legend_names_only_what_differs_and_always_the_device(load):
    """What all share is its title."""

    def legend(*records: Record) -> tuple[str, list[str]]:
        title, texts = series_labels(along_batches(load(records)), BATCH_SIZE.merged_columns)
        return title, list(texts.values())

    one, t4 = record(), {"pool": "t4", "gpu_name": "Tesla T4"}
    fast = variant(accelerator='{"name": "tensorrt", "precision_mode": "FP16"}', instance_count=2)
    assert legend(one) == ("A100-SXM4-40GB", ["PN-AK4 ONNX"])
    assert legend(one, record("Tau")) == ("A100-SXM4-40GB", ["PN-AK4 ONNX", "Tau"])
    assert legend(one, record(**t4)) == ("PN-AK4 ONNX", ["A100-SXM4-40GB", "Tesla T4"])
    assert legend(one, record("Tau", **t4)) == (
        "",
        ["PN-AK4 ONNX, A100-SXM4-40GB", "Tau, Tesla T4"],
    )
    assert legend(one, record(concurrency=8)) == (
        "PN-AK4 ONNX, A100-SXM4-40GB",
        ["concurrency 4", "concurrency 8"],
    )
    assert legend(one, record(variant=fast))[1] == [
        "base",
        "2 instances, TensorRT FP16",
    ]


def test_the_conditions_that_all_share_are_said_once(load):
    """Concurrency, protocol, input and windows."""
    points = along_batches(load([record("A"), record("B")]))
    assert conditions_note(points, BATCH_SIZE.merged_columns) == (
        "Conditions: concurrency 4, asynchronous gRPC, random input, 9 s windows."
    )


def test_no_absent_point_goes_unmentioned(load):
    """Points without a result, with fewer repeats, and without one of the two quantities."""
    points = along_batches(
        load(
            [
                record("A"),
                record("A", 1, 1, "timeout"),
                record("B", 4, status="not_applicable"),
                record("B", 8, status="unstable", latency_percentile_us=None),
            ]
        )
    )
    named = {"throughput_infer_per_s": "throughput [infer/s]", "latency_ms": "p95 latency [ms]"}
    _, texts = series_labels(points, BATCH_SIZE.merged_columns)
    note = missing_points_note(points, texts, BATCH_SIZE, named)
    assert "Fewer repeats: A at batch size 1 (1 of 2 timeout)." in note
    assert "No result (crosses): B at batch size 4 (not applicable)." in note
    assert "No p95 latency: B at batch size 8." in note
