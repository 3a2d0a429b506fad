import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analysis import axes, table, words
from analysis.figures import draw_all, throughput_latency_vs_batch
from hpcbench.errors import BadInput
from hpcbench.records import Record
from hpcbench.store import load_results, write_records

BATCHES = (1, 4, 8, 16, 32, 64, 128)
LONG = (
    "ParticleNet AK4 regression, ONNX Runtime, simplified graph",
    "ParticleNet AK4 regression, TorchScript traced on CUDA 12",
    "DeepTau no-split TensorFlow graph with frozen weights",
    "DeepMET response-tune TensorFlow v2, UL2018",
    "Higgs interaction network $p_T$ & Σ%, ONNX opset 17",
)


def variant(**axes: Any) -> str:
    base = dict.fromkeys(
        ("instance_count", "preferred_batch_size", "max_queue_delay_us", "accelerator"), "base"
    )
    return json.dumps(base | axes)


def record(
    label: str = "PN-AK4 ONNX", batch: int = 1, repeat: int = 0, status: str = "ok", **changed: Any
) -> Record:
    """A measurement as a run would leave it, at 100 infer/s and batch / 2 ms unless changed."""
    measured = status in ("ok", "unstable")
    now = datetime.now(UTC)
    columns: dict[str, Any] = {
        "campaign": "scan",
        "site": "local",
        "pool": "gpu",
        "placement_id": "placement",
        "reason": None if status == "ok" else "out of memory",
        "model": label.split(maxsplit=1)[0],
        "variant": variant(),
        "concurrency": 4,
        "protocol": "grpc",
        "asynchronous": True,
        "measurement_interval_ms": 9000,
        "percentile": 95,
        "input_data": "random",
        "gpu_name": "NVIDIA A100-SXM4-40GB",
        "gpu_count": 1,
        "cpu_name": "AMD EPYC 7763 64-Core Processor",
        "cpu_count": 32,
        "instance_kind": "KIND_GPU",
        "throughput_infer_per_s": 100.0 if measured else None,
        "latency_percentile_us": 500.0 * batch if measured else None,
        "latency_avg_us": 400.0 * batch if measured else None,
        "started_at": now,
        "ended_at": now,
        **changed,
    }
    identity = [v for k, v in columns.items() if k not in ("pool", "reason")]
    columns.setdefault("point_id", f"{label} {batch} {[str(v) for v in identity]}")
    return Record(model_label=label, batch_size=batch, repeat=repeat, status=status, **columns)


def scan(label: str = "PN-AK4 ONNX", repeats: int = 1, scale: float = 1.0, **changed: Any):
    """A scan over batch sizes whose throughput rises and levels off, with some spread."""
    return [
        record(
            label,
            batch,
            repeat,
            throughput_infer_per_s=scale * 800 * batch / (1 + batch / 24) * (1 + 0.02 * repeat),
            latency_percentile_us=4e6 / scale / 800 * (1 + batch / 24) * (1 - 0.02 * repeat),
            point_id=f"{label} {batch} {changed}",
            **changed,
        )
        for batch in BATCHES
        for repeat in range(repeats)
    ]


Load = Callable[[Iterable[Record]], pd.DataFrame]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return lambda records: through_parquet(records, tmp_path / "results")


def through_parquet(records: Iterable[Record], folder: Path) -> pd.DataFrame:
    """Records as they come back from a results folder."""
    (folder / "records").mkdir(parents=True, exist_ok=True)
    write_records(folder / "records" / "placement.parquet", list(records))
    return load_results(folder)


CASES: dict[str, list[Record]] = {
    "one model, one repeat": scan(),
    "two models, three repeats": [
        *scan("PN-AK4 ONNX", 3),
        *scan("DeepTau", 3, scale=0.15)[:-3],
        *(record("DeepTau", 128, repeat, "failed") for repeat in range(3)),
    ],
    "two models close to each other": [*scan("A", 2), *scan("B", 2, scale=1.04)],
    "five models with long labels": [
        r
        for rank, label in enumerate(LONG)
        for r in [*scan(label, 3, scale=1.7**rank), record(label, 256, status="timeout")]
    ],
    "eight series": [
        r
        for count in (1, 2)
        for accelerator in (None, '{"name": "tensorrt", "precision_mode": "FP16"}')
        for concurrency in (4, 16)
        for r in scan(
            scale=count * concurrency * (2 if accelerator else 1),
            repeats=2,
            variant=variant(instance_count=count, accelerator=accelerator),
            concurrency=concurrency,
        )
    ],
    "one point": [record(batch=16)],
    "two GPUs": [
        *scan(repeats=3),
        *scan(repeats=3, scale=0.2, pool="t4", gpu_name="Tesla T4"),
    ],
    "many batch sizes": [record(batch=b) for b in (*range(1, 33), 48, 64, 96, 128, 1000)],
    "no latency": scan(percentile=None, latency_avg_us=None),
    "a label too long for a line and an endless campaign": scan("W" * 200, campaign="w" * 200),
    "values over many decades": [
        record(label, batch, throughput_infer_per_s=10.0**power * batch)
        for power, label in enumerate("abcdefg", start=-2)
        for batch in BATCHES
    ],
}


@pytest.fixture(params=CASES, scope="module")
def figure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Figure:
    folder = tmp_path_factory.mktemp("results")
    return drawn(through_parquet(CASES[request.param], folder))


def drawn(frame: pd.DataFrame) -> Figure:
    figure = throughput_latency_vs_batch(table.summarise(frame))
    figure.draw_without_rendering()
    return figure


def marks(ax: Axes, kind: str) -> list[Any]:
    return [line for line in ax.lines if line.get_gid() == kind]


def visible_texts(figure: Figure) -> list[Text]:
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and not is_hidden_tick(text, figure)
    ]


def is_hidden_tick(text: Text, figure: Figure) -> bool:
    """Labels that shared axes leave undrawn, and those of ticks out of view."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            if any(text in (tick.label1, tick.label2) for tick in ticks):
                return text not in tick_labels(ax)
    return False


def tick_labels(ax: Axes) -> list[Text]:
    labels = []
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        labels += [
            tick.label1
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            if low <= tick.get_loc() <= high
            and tick.label1.get_visible()
            and tick.label1.get_text()
        ]
    return labels


def overlap(one: Bbox, other: Bbox) -> bool:
    shared = Bbox.intersection(one, other)
    return shared is not None and shared.width > 0.5 and shared.height > 0.5


# --- the table ---------------------------------------------------------------------------------


def test_repeats_become_their_mean_with_a_student_t_interval(load):
    """Three repeats 90, 100, 110 infer/s: mean 100, half-width 4.303 * 10 / sqrt(3)."""
    frame = load(record(repeat=i, throughput_infer_per_s=v) for i, v in enumerate((90, 100, 110)))
    (row,) = table.records(table.summarise(frame))
    assert row["throughput_infer_per_s"] == pytest.approx(100)
    assert row["throughput_infer_per_s_low"] == pytest.approx(100 - 24.84, abs=0.01)
    assert row["throughput_infer_per_s_high"] == pytest.approx(100 + 24.84, abs=0.01)
    assert (row["repeats"], row["measured"], row["status"]) == (3, 3, "ok")


def test_two_repeats_span_their_interval(load):
    """Student's t of two values reaches far out of any panel: the bar is the two values."""
    frame = load(record(repeat=i, throughput_infer_per_s=v) for i, v in enumerate((90, 100)))
    (row,) = table.records(table.summarise(frame))
    assert row["throughput_infer_per_s_low"] == pytest.approx(90)
    assert row["throughput_infer_per_s_high"] == pytest.approx(100)


def test_a_point_measured_once_has_no_interval(load):
    """One repeat says nothing about the spread."""
    (row,) = table.records(table.summarise(load([record()])))
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
    points = table.summarise(load([record(), record(**changed)]))
    assert points["series"].tolist() == [0, 1]
    _, texts = words.legend(points)
    assert len(set(texts.values())) == 2


def test_what_a_name_of_node_or_campaign_tells_apart_is_pooled(load):
    """Two nodes of one kind, and two campaigns, measured the same point."""
    frame = load(
        [record(node="n1", campaign="a"), record(node="n2", campaign="b", repeat=1, point_id="b")]
    )
    (row,) = table.records(table.summarise(frame))
    assert (row["measured"], row["campaigns"]) == (2, "a, b")


def test_a_point_is_unstable_if_one_of_its_repeats_is(load):
    """A mean is no better than what it was made from."""
    frame = load([record(repeat=0), record(repeat=1, status="unstable")])
    (row,) = table.records(table.summarise(frame))
    assert (row["status"], row["measured"]) == ("unstable", 2)


def test_a_failed_repeat_counts_but_gives_no_figure(load):
    """Even where the record holds figures from before the failure."""
    frame = load(
        [record(repeat=0), record(repeat=1, status="failed", throughput_infer_per_s=900.0)]
    )
    (row,) = table.records(table.summarise(frame))
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
    points = table.summarise(load([record(), lost]))
    assert points["series"].tolist() == [0, 0]
    assert points["status"].tolist() == ["ok", "failed"]


@pytest.mark.parametrize(
    ("columns", "latency_ms"),
    [
        ({"percentile": 95, "latency_percentile_us": 7000.0}, 7),
        ({"percentile": 99, "latency_percentile_us": None, "latency_p99_us": 9000.0}, 9),
        ({"percentile": None, "latency_avg_us": 5000.0}, 5),
    ],
    ids=["the percentile", "its own column", "the mean"],
)
def test_latency_is_the_percentile_asked_for_or_else_the_mean(load, columns, latency_ms):
    """In ms."""
    (row,) = table.records(table.summarise(load([record(**columns)])))
    assert row["latency_ms"] == pytest.approx(latency_ms)


def test_series_count_by_size_and_the_plain_variant_comes_first(load):
    """10 after 2, and a variant without accelerator is the reference."""
    fast = '{"name": "tensorrt"}'
    order = [(1, None), (1, fast), (2, None), (10, None)]
    points = table.summarise(
        load(record(variant=variant(instance_count=n, accelerator=a)) for n, a in reversed(order))
    )
    variants = [json.loads(text) for text in points["variant"]]
    assert [(v["accelerator"], v["instance_count"]) for v in variants] == [
        *((None, 1), (fast, 1), (None, 2), (None, 10)),
    ]


def test_the_ratio_is_one_for_the_first_series_and_carries_both_errors(load):
    """Relative half-widths add in quadrature; a batch that the first lacks has no ratio."""
    frame = load(
        [
            *(record("A", 1, i, throughput_infer_per_s=v) for i, v in enumerate((99.0, 101.0))),
            *(record("B", 1, i, throughput_infer_per_s=v) for i, v in enumerate((198.0, 202.0))),
            record("B", 4),
        ]
    )
    points = table.with_ratios(table.summarise(frame)).set_index(["model_label", "batch_size"])
    ratio = points["throughput_infer_per_s_ratio"]
    assert ratio["A", 1] == 1
    assert ratio["B", 1] == pytest.approx(2)
    assert np.isnan(ratio["B", 4])
    relative = 1 / 100
    high = points["throughput_infer_per_s_ratio_high"]["B", 1]
    assert high == pytest.approx(2 * (1 + relative * np.sqrt(2)), rel=1e-3)


def test_the_reference_is_the_first_series_that_was_measured(load):
    """A first model that failed everywhere must not empty the ratio panel."""
    points = table.with_ratios(table.summarise(load([record("A", status="failed"), record("B")])))
    assert points["throughput_infer_per_s_ratio"].tolist()[1] == 1


# --- words -------------------------------------------------------------------------------------


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
    (row,) = table.records(table.summarise(load([record(**columns)])))
    assert words.device(row) == name


def test_the_legend_names_only_what_differs_and_always_the_device(load):
    """What all share is its title."""

    def legend(*records: Record) -> tuple[str, list[str]]:
        title, texts = words.legend(table.summarise(load(records)))
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
        "default instances, default accelerator",
        "2 instances, TensorRT FP16",
    ]


def test_the_conditions_that_all_share_are_told_once(load):
    """Concurrency, protocol, input and windows."""
    points = table.summarise(load([record("A"), record("B")]))
    assert words.conditions(points) == (
        "Conditions: concurrency 4, asynchronous gRPC, random input, 9 s windows."
    )


def test_no_absent_point_goes_untold(load):
    """Points without a result, with fewer repeats, and without one of the two quantities."""
    points = table.summarise(
        load(
            [
                record("A"),
                record("A", 1, 1, "timeout"),
                record("B", 4, status="not_applicable"),
                record("B", 8, status="unstable", latency_percentile_us=None),
            ]
        )
    )
    _, texts = words.legend(points)
    told = words.absences(points, texts, "p95 latency")
    assert "Fewer repeats: A at batch size 1 (1 of 2 timeout)." in told
    assert "No result (crosses): B at batch size 4 (not applicable)." in told
    assert "No p95 latency: B at batch size 8." in told


# --- the figure --------------------------------------------------------------------------------


def test_every_text_lies_inside_the_figure(figure):
    """No label is cut off."""
    for text in visible_texts(figure):
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text


def test_no_two_texts_overlap(figure):
    """Tick labels, axis labels, legend, header and notes keep clear of each other."""
    for one, other in combinations(visible_texts(figure), 2):
        assert not overlap(one.get_window_extent(), other.get_window_extent()), (one, other)


def test_the_legend_covers_no_panel(figure):
    """So that it can cover no point."""
    (legend,) = figure.legends
    for ax in figure.axes:
        assert not overlap(legend.get_window_extent(), ax.get_window_extent())


def test_every_point_lies_inside_its_panel(figure):
    """Limits follow the values."""
    for ax in figure.axes:
        for line in [*marks(ax, "settled"), *marks(ax, "hollow")]:
            inside = ax.bbox.padded(1)
            assert all(inside.contains(*xy) for xy in ax.transData.transform(line.get_xydata()))


def test_both_axes_are_logarithmic_and_labelled_with_units(figure):
    """Throughput left, latency right."""
    throughput, latency = figure.axes[:2]
    for ax in (throughput, latency):
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert throughput.get_ylabel() == "Throughput [infer/s]"
    assert latency.get_ylabel() in ("p95 latency [ms]", "Mean latency [ms]")
    assert figure.axes[-1].get_xlabel() == "Batch size [inferences per request]"


def test_panels_keep_their_shape_whatever_stands_around_them(figure):
    """Long legends and notes make the figure taller, not the panels smaller."""
    for ax in figure.axes[:2]:
        box = ax.get_window_extent()
        assert box.width > 0.38 * figure.bbox.width
        assert 5 * figure.dpi < box.height < 8 * figure.dpi


def test_ticks_stand_at_the_batch_sizes_measured(load):
    """As plain numbers, and nothing between them."""
    figure = drawn(load(scan()))
    for ax in figure.axes:
        assert [label.get_text() for label in ax.get_xticklabels()] == [str(b) for b in BATCHES]
        assert list(ax.get_xticks(minor=True)) == []


def test_crowded_batch_sizes_keep_their_ticks_and_thin_their_labels(load):
    """Powers of two are the last to go."""
    sizes = range(1, 65)
    ax = drawn(load(record(batch=size) for size in sizes)).axes[0]
    labelled = [int(label.get_text()) for label in ax.get_xticklabels()]
    assert {1, 2, 4, 8, 16, 32, 64} <= set(labelled) < set(sizes)
    assert sorted([*labelled, *ax.get_xticks(minor=True)]) == list(sizes)


def test_unstable_points_are_hollow_with_the_marker_of_their_series(load):
    """Settled ones are filled."""
    ax = drawn(load([*scan()[:-1], record(batch=128, status="unstable")])).axes[0]
    (hollow,), (settled,) = marks(ax, "hollow"), marks(ax, "settled")
    assert list(hollow.get_xdata()) == [128]
    assert 128 not in settled.get_xdata()
    assert hollow.get_markerfacecolor() == "white"
    assert settled.get_markerfacecolor() == settled.get_color() == hollow.get_color()
    assert settled.get_marker() == hollow.get_marker()


def test_failed_points_leave_the_line_and_get_a_cross_below_it(load):
    """Where no point of a line can be."""
    figure = drawn(load([*scan()[:-1], record(batch=128, status="failed")]))
    for ax in figure.axes:
        (line,), (cross,) = marks(ax, "line"), marks(ax, "absent")
        assert 128 not in line.get_xdata()
        assert list(cross.get_xdata()) == [128]
        lowest = ax.transAxes.inverted().transform(ax.transData.transform(line.get_xydata()))
        assert cross.get_ydata()[0] < lowest[:, 1].min()
    assert "128 (failed)" in figure.get_supxlabel()


def test_series_differ_in_colour_and_in_marker(load):
    """In case one of the two cannot be seen."""
    ax = drawn(load(CASES["eight series"])).axes[0]
    lines = marks(ax, "settled")
    assert len({line.get_color() for line in lines}) == len(lines) == 8
    assert len({line.get_marker() for line in lines}) == 8


def test_several_series_stand_over_their_ratio_to_the_first(load):
    """Which is 1 throughout."""
    figure = drawn(load(CASES["two models, three repeats"]))
    assert len(figure.axes) == 4
    for ax in figure.axes[2:]:
        first, second = marks(ax, "line")
        assert first.get_ydata() == pytest.approx(1)
        assert not np.isclose(second.get_ydata(), 1).any()


def test_a_single_series_has_no_ratio_panel(load):
    """It would show a line at 1."""
    assert len(drawn(load(scan())).axes) == 2


def test_repeats_have_error_bars_and_the_figure_says_of_what_kind(load):
    """A point measured once has none, and that is said too."""
    repeated, once = drawn(load(scan(repeats=3))), drawn(load(scan()))
    assert all(container.has_yerr for container in repeated.axes[0].containers)
    segments = repeated.axes[0].collections[0].get_segments()
    assert len(segments) == len(BATCHES)
    assert "mean of 3 repeats. Bars: 95% interval" in repeated.get_supxlabel()
    assert once.axes[0].collections[0].get_segments() == []
    assert "measured once: no error bars" in once.get_supxlabel()


def test_the_legend_of_the_figure_has_device_and_series(load):
    """As text as it was given, dollar signs and all."""
    figure = drawn(load(CASES["five models with long labels"]))
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "A100-SXM4-40GB"
    assert {text.get_text() for text in legend.get_texts()} == set(LONG)


def test_drawing_leaves_the_global_settings_of_matplotlib_alone(load):
    """A notebook keeps its own style."""
    before = dict(mpl.rcParams)
    drawn(load(scan()))
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("values", [[5.0], [0.9, 1.1], [1, 1000], [3e-4, 7e6], [], [np.nan, 0]])
def test_a_value_axis_has_two_to_eight_ticks_in_plain_numbers(values):
    """Whatever it spans."""
    ax = Figure().subplots()
    axes.log_value_axis(ax, values)
    low, high = ax.get_ylim()
    ticks = [tick for tick in ax.get_yticks() if low <= tick <= high]
    assert 2 <= len(ticks) <= 8
    assert all(one < other for one, other in pairwise(ticks))
    assert not any("e" in axes.plain(tick) for tick in ticks)


# --- the files ---------------------------------------------------------------------------------


def test_each_figure_is_written_as_png_pdf_and_csv(load, tmp_path):
    """The CSV holds the numbers drawn, also of points that failed."""
    records = [*scan(repeats=2), record(batch=256, status="failed")]
    written = draw_all(load(records), tmp_path / "new" / "out")
    assert [path.name for path in written] == [
        f"throughput_latency_vs_batch.{suffix}" for suffix in ("png", "pdf", "csv")
    ]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    assert written[1].read_bytes().startswith(b"%PDF")
    numbers = pd.read_csv(written[2]).set_index("batch_size")
    assert numbers["status"].to_dict() == {**dict.fromkeys(BATCHES, "ok"), 256: "failed"}
    assert numbers["throughput_infer_per_s"][1] == pytest.approx(800 / (1 + 1 / 24) * 1.01)
    assert set(numbers["device"]) == {"A100-SXM4-40GB"}


def test_more_than_eight_series_are_split_by_model(load, tmp_path):
    """One figure each, so that it stays readable."""
    written = draw_all(
        load(
            record(f"model {name}", concurrency=concurrency)
            for name in "AB"
            for concurrency in range(1, 7)
        ),
        tmp_path / "out",
    )
    assert {path.stem for path in written} == {
        "throughput_latency_vs_batch_model_a",
        "throughput_latency_vs_batch_model_b",
    }


def test_names_that_files_cannot_tell_apart_overwrite_nothing(load, tmp_path):
    """A dash and a blank both become an underscore."""
    records = [record(n, concurrency=c) for n in ("A-b", "A b") for c in range(1, 6)]
    written = draw_all(load(records), tmp_path / "out")
    assert len(set(written)) == 6
    labels = {pd.read_csv(path)["model_label"][0] for path in written if path.suffix == ".csv"}
    assert labels == {"A-b", "A b"}


def test_different_percentiles_never_share_a_figure(load, tmp_path):
    """They have no axis in common."""
    frame = load([record(), record(percentile=99), record(percentile=None)])
    names = [path.stem for path in draw_all(frame, tmp_path / "out") if path.suffix == ".png"]
    stem = "throughput_latency_vs_batch"
    assert set(names) == {f"{stem}_mean", f"{stem}_p95", f"{stem}_p99"}


def test_parts_of_a_split_hold_every_series_once(load):
    """Also where no column divides them finely enough."""
    points = table.summarise(
        load(record(measurement_interval_ms=n, shapes=f'{{"x": [{n}]}}') for n in range(1, 20))
    )
    parts = [part["series"].tolist() for _, part in table.split(points, 8)]
    assert sorted(number for part in parts for number in part) == list(range(19))
    assert max(map(len, parts)) <= 8
    assert len({name for name, _ in table.split(points, 8)}) == len(parts)


def test_results_without_any_figure_are_told_in_a_sentence(load, tmp_path):
    """With the reason that stopped most of them."""
    with pytest.raises(BadInput, match=r"none of the 2 measurements.*out of memory"):
        draw_all(load([record(status="failed"), record(batch=4, status="failed")]), tmp_path)
    with pytest.raises(BadInput, match="no results"):
        draw_all(load([]), tmp_path)


def test_a_folder_that_cannot_be_made_is_bad_input(load, tmp_path):
    """Not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"--out .*file/out"):
        draw_all(load([record()]), tmp_path / "file" / "out")
