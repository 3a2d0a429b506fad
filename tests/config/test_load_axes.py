"""The axes of the load, and each of them with the real perf_analyzer on the real Triton."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from hpcbench import Campaign
from hpcbench.config.load_axes import LoadVariant
from hpcbench.config.site import Site
from hpcbench.config.unsupported_loads import unsupported_reason
from hpcbench.errors import BadInput
from hpcbench.plan.arrivals import Intervals
from hpcbench.records.columns import Record, Status
from tests.helpers import models, real
from tests.helpers.builders import campaign, expanded, refusal, triton_model
from tests.helpers.real import QUICK, site_file


def loads(study: Any, **model: Any) -> list[LoadVariant]:
    return [point.load for point in expanded(study, {"tagger": triton_model(**model)}).points]


def test_a_campaign_that_says_nothing_has_the_defaults_of_a_load() -> None:
    assert loads(campaign()) == [LoadVariant()]
    assert LoadVariant().identity == {}


def test_closed_and_open_loops_are_points_beside_each_other() -> None:
    found = loads(campaign(load={"concurrency": [1, 2], "request_rate": [10, 20.5]}))
    assert [(load.concurrency, load.request_rate) for load in found] == [
        *((1, None), (2, None)),
        *((None, 10), (None, 20.5)),
    ]
    assert {load.request_distribution for load in found[:2]} == {None}
    assert {load.request_distribution for load in found[2:]} == {"constant"}


def test_a_rate_alone_makes_no_closed_loop() -> None:
    study = campaign(load={"request_rate": [10], "request_distribution": ["constant", "poisson"]})
    assert [(load.concurrency, load.request_distribution) for load in loads(study)] == [
        (None, "constant"),
        (None, "poisson"),
    ]


@pytest.mark.parametrize(
    ("whole", "own", "wanted"),
    [
        ({"concurrency": [4]}, {"request_rate": [10]}, [(None, 10)]),
        ({"request_rate": [10]}, {"concurrency": [4]}, [(4, None)]),
        ({"request_rate": [10]}, {"batch_size": [2]}, [(None, 10)]),
        ({"concurrency": [4]}, {"concurrency": [1], "request_rate": [5]}, [(1, None), (None, 5)]),
        ({"request_intervals": ["/a"]}, {"request_rate": [5]}, [(None, 5)]),
    ],
)
def test_a_model_with_a_loop_of_its_own_has_no_other(
    whole: dict[str, Any], own: dict[str, Any], wanted: list[Any]
) -> None:
    study = campaign(load=whole, models=[{"name": "tagger", "load": own}])
    assert [(load.concurrency, load.request_rate) for load in loads(study)] == wanted


def test_every_setting_of_the_measurement_may_be_an_axis() -> None:
    study = campaign(
        measurement={
            "protocol": ["grpc", "http"],
            "async": [True, False],
            "shared_memory": ["none", "system"],
            "percentile": [None, 95],
            "max_trials": [5, 10],
        }
    )
    assert len(set(loads(study))) == 32


def test_what_means_nothing_beside_the_rest_makes_no_points_of_its_own() -> None:
    study = campaign(
        measurement={
            "measurement_request_count": [50, 100],
            "output_shared_memory_bytes": [1000, 2000],
            "string_length": [1, 2],
            "string_data": [None, "a"],
        }
    )
    grid = expanded(study)
    assert [point.load for point in grid.points] == [LoadVariant()]
    assert grid.merged == 15


TEXTS = 'input { name: "x" data_type: TYPE_STRING dims: [16] }'


def test_texts_are_an_axis_of_a_model_that_reads_texts() -> None:
    study = campaign(measurement={"string_length": [8, 64]})
    assert [load.string_length for load in loads(study, config=TEXTS)] == [8, 64]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"streaming": True, "protocol": "http"}, "streaming needs protocol: grpc"),
        ({"streaming": True, "async": False}, "streaming needs async: true"),
        ({"compression": "gzip", "protocol": "http"}, "compression: gzip needs protocol: grpc"),
    ],
)
def test_what_perf_analyzer_refuses_is_reported_where_it_is_all_there_is(
    settings: dict[str, Any], reason: str
) -> None:
    message = refusal(expanded, campaign(measurement=settings))
    assert message.startswith(f"campaign: model 'tagger': measurement: {reason}")


def test_what_perf_analyzer_refuses_is_kept_where_it_is_a_part_of_a_grid() -> None:
    study = campaign(measurement={"streaming": [False, True], "protocol": ["grpc", "http"]})
    assert [unsupported_reason(load, gpus=False) for load in loads(study)] == [
        *(None, None, None),
        "streaming needs protocol: grpc",
    ]


def test_an_open_loop_needs_asynchronous_calls() -> None:
    rates = {"request_rate": [10.0]}
    message = refusal(expanded, campaign(load=rates, measurement={"async": False}))
    assert "measurement: request_rate needs async: true" in message
    # A campaign is wrong about its open loops even if its closed ones can be measured.
    both = campaign(load=rates | {"concurrency": [1]}, measurement={"async": False})
    assert "request_rate needs async: true" in refusal(expanded, both)
    some = campaign(load=rates, measurement={"async": [True, False]})
    reasons = [unsupported_reason(load, gpus=False) for load in loads(some)]
    assert [reason is None for reason in reasons] == [True, False]


# Searches for a capacity


def test_each_limit_is_a_search_beside_the_loops_of_the_campaign() -> None:
    limits = [{"max_latency_p99_ms": 20}, {"max_latency_p99_ms": 50.0, "within": 0.2}]
    found = loads(campaign(load={"batch_size": [1, 8], "concurrency": 2, "capacity": limits}))
    assert [(load.batch_size, load.concurrency) for load in found[:2]] == [(1, 2), (8, 2)]
    assert [
        (load.batch_size, load.capacity_max_latency_p99_ms, load.capacity_within)
        for load in found[2:]
    ] == [(1, 20, 0.05), (1, 50, 0.2), (8, 20, 0.05), (8, 50, 0.2)]
    for load in found[2:]:
        assert (load.concurrency, load.request_rate) == (None, None)
        assert load.request_distribution == "poisson"
        assert load.is_search
        # About twelve steps of three windows.
        assert load.estimate_s == 192
        assert load.longest_s > load.estimate_s
    # Whoever chooses a loop of its own is not searched.
    study = campaign(
        load={"capacity": limits}, models=[{"name": "tagger", "load": {"concurrency": 4}}]
    )
    assert [load.is_search for load in loads(study)] == [False]


def test_a_step_of_a_search_lasts_until_a_queue_would_be_too_long() -> None:
    (load,) = loads(campaign(load={"capacity": {"max_latency_p99_ms": 1000, "within": 0.1}}))
    assert load.estimate_s == 12 * (3 * 10 + 1)


def test_mistakes_in_a_search_are_reported_together(tmp_path: Path) -> None:
    path = real.campaign_file(
        tmp_path, tmp_path, load={"capacity": {"max_latency_p99_ms": 0, "wthin": 0.05}}
    )
    message = refusal(Campaign.load, path)
    assert f"{path}:3: load.capacity.max_latency_p99_ms: must be greater than 0" in message
    assert f"{path}:4: load.capacity.wthin: unknown key; did you mean 'within'?" in message


@pytest.mark.parametrize(
    ("measurement", "reason"),
    [
        ({"async": False}, "capacity needs async: true"),
        ({"measurement_mode": "count_windows"}, "capacity needs measurement_mode: time_windows"),
    ],
)
def test_what_a_search_cannot_be_measured_with_is_refused(
    measurement: dict[str, Any], reason: str
) -> None:
    study = campaign(load={"capacity": {"max_latency_p99_ms": 20}}, measurement=measurement)
    assert f"measurement: {reason}" in refusal(expanded, study)


def test_a_search_has_its_server_alone() -> None:
    study = campaign(
        models=[{"name": "tagger", "label": "a"}, {"name": "other", "label": "b"}],
        load={"capacity": {"max_latency_p99_ms": 20}},
        together=[{"a": {}, "b": {"load": {"concurrency": 2}}}],
    )
    two = {name: triton_model(name, digest=name) for name in ("tagger", "other")}
    message = refusal(expanded, study, two)
    assert "together[0]: load.capacity of 'a': a search loads one model" in message
    assert "'b'" not in message


def test_a_rule_may_be_about_a_search() -> None:
    search = {"max_latency_p99_ms": 20.0, "within": 0.05}
    study = campaign(
        load={"batch_size": [1, 8], "capacity": search},
        exclude=[{"batch_size": 8, "capacity": search}],
    )
    grid = expanded(study)
    assert [point.load.batch_size for point in grid.points] == [1]
    assert grid.no_effect == ()
    assert "max_latency_p99_ms" in grid.excluded[0][0]


# The times of a file


def replayed(*files: str, seconds: float = 1.0, **asked: Any) -> list[LoadVariant]:
    """The loads of a campaign with such files, each of which has ten requests in its time."""
    intervals = {f"/{name}": Intervals((round(1e5 * seconds),) * 10) for name in files}
    study = campaign(load={"request_intervals": [*intervals]} | asked.pop("load", {}), **asked)
    return [point.load for point in expanded(study, intervals=intervals).points]


def test_a_file_of_intervals_is_a_loop_beside_the_others() -> None:
    both = {"concurrency": [2], "request_rate": [5.0], "request_distribution": "poisson"}
    found = replayed("a", load=both)
    assert [(each.concurrency, each.request_rate, each.request_distribution) for each in found] == [
        (2, None, None),
        (None, 5.0, "poisson"),
        (None, 10.0, "intervals"),
    ]
    assert [each.request_intervals for each in found] == [None, None, "/a"]


def test_the_content_of_a_file_makes_the_point_and_its_place_does_not() -> None:
    assert len(replayed("a", "b")) == 1
    (load,) = replayed("a")
    assert set(load.identity) == {
        "concurrency",
        "request_distribution",
        "request_intervals_digest",
    }
    assert load.columns["request_intervals"] == "/a"
    assert load.identity == replayed("b")[0].identity
    assert load.identity != replayed("a", seconds=2.0)[0].identity


@pytest.mark.parametrize(
    ("seconds", "asked_ms", "window_ms"),
    [(1.0, 5000, 5000), (1.0, 4900, 5000), (3.0, 5000, 6000), (60.0, 5000, 60_000)],
)
def test_a_window_plays_a_file_as_a_whole(seconds: float, asked_ms: int, window_ms: int) -> None:
    measurement = {"measurement_interval_ms": asked_ms}
    (load,) = replayed("a", seconds=seconds, measurement=measurement)
    assert load.measurement_interval_ms == window_ms
    assert load.estimate_s == pytest.approx(3 * window_ms / 1000 + 1)


def test_a_file_needs_windows_of_time_and_asynchronous_calls() -> None:
    for asked, why in (
        ({"measurement_mode": "count_windows"}, "measurement_mode: time_windows"),
        ({"async": False}, "async: true"),
    ):
        with pytest.raises(BadInput, match=f"request_intervals needs {why}"):
            replayed("a", measurement=asked)


def test_a_precision_takes_the_place_of_windows_that_agree() -> None:
    stop = ["windows", {"precision": 0.02}, {"precision": 0.05, "max_s": 10}]
    windows, usual, coarse = loads(campaign(measurement={"stop": stop, "max_trials": 5}))
    assert (windows.max_trials, windows.stop_precision, windows.allowed_s) == (5, None, 25)
    assert (usual.max_trials, usual.stability_percentage) == (None, None)
    assert (usual.stop_precision, usual.stop_max_s, usual.allowed_s) == (0.02, 60.0, 60.0)
    assert (coarse.stop_precision, coarse.allowed_s) == (0.05, 10.0)
    # Two windows that differ only in what has no effect then are one point.
    same = campaign(measurement={"stop": {"precision": 0.02}, "max_trials": [5, 10]})
    assert len(loads(same)) == 1


@pytest.mark.parametrize("precision", [0, 1, -0.1, "a"])
def test_a_precision_is_a_share_of_the_mean(precision: object) -> None:
    with pytest.raises(BadInput, match="precision"):
        campaign(measurement={"stop": {"precision": precision}})


def test_cuda_shared_memory_needs_a_gpu() -> None:
    (load,) = loads(campaign(measurement={"shared_memory": "cuda"}))
    assert unsupported_reason(load, gpus=True) is None
    assert "needs a GPU" in (unsupported_reason(load, gpus=False) or "")


# With the real ones


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    models.ensemble(folder)
    models.without_batch(folder)
    models.of_strings(folder, folder / "seen")
    return folder


def measured(
    folder: Path, prefix: Path, repository: Path, model: dict[str, Any], **changes: Any
) -> list[Record]:
    sent = changes.pop("measurement", {})
    study = campaign(
        model_repository=repository,
        models=[model],
        **{"load": {"concurrency": 2}} | changes | {"measurement": QUICK | sent},
    )
    site = Site.load(site_file(folder, prefix))
    return real.measured(study, site, folder / "logs")


SENDING: tuple[dict[str, Any], ...] = (
    {"streaming": [True, False], "shared_memory": ["none", "system"]},
    {"compression": ["gzip", "deflate"], "max_threads": [1]},
    {
        "protocol": ["http"],
        "shared_memory": ["system"],
        "measurement_mode": ["count_windows"],
        "measurement_request_count": [100],
    },
)
FLAGS: dict[tuple[str, object], str] = {
    ("streaming", True): "--streaming",
    ("compression", "gzip"): "--grpc-compression-algorithm gzip",
    ("compression", "deflate"): "--grpc-compression-algorithm deflate",
    ("shared_memory", "system"): "--shared-memory system",
    ("max_threads", 1): "--max-threads 1",
    ("measurement_mode", "count_windows"): "--measurement-mode count_windows",
    ("measurement_request_count", 100): "--measurement-request-count 34",
}


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("axes", SENDING, ids=" and ".join)
def test_each_way_of_sending_is_measured_and_recorded(
    tmp_path: Path, native_prefix: Path, repository: Path, axes: dict[str, list[Any]]
) -> None:
    # Not as fast as it can: two CPUs would be full for nothing.
    rate = {"request_rate": 100}
    scale = {"name": "scale"}
    records = measured(tmp_path, native_prefix, repository, scale, load=rate, measurement=axes)
    found = {tuple(getattr(record, name) for name in axes): record for record in records}
    assert set(found) == set(itertools.product(*axes.values()))
    for values, record in found.items():
        assert record.status in (Status.OK, Status.UNSTABLE), record.reason
        assert (record.throughput_infer_per_s or 0) > 10
        for way in zip(axes, values, strict=True):
            assert FLAGS.get(way, "") in (record.command or "")


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_an_open_loop_sends_at_the_rate_asked_for(
    tmp_path: Path, native_prefix: Path, repository: Path
) -> None:
    records = measured(
        tmp_path,
        native_prefix,
        repository,
        {"name": "scale"},
        load={"request_rate": 50, "request_distribution": ["constant", "poisson"]},
        measurement={"measurement_interval_ms": 1000},
    )
    assert [record.request_distribution for record in records] == ["constant", "poisson"]
    for record in records:
        assert record.status in (Status.OK, Status.UNSTABLE), record.reason
        assert (record.concurrency, record.request_rate) == (None, 50)
        assert record.throughput_infer_per_s == pytest.approx(50, rel=0.4)


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_the_batch_of_a_model_without_one_is_its_leading_dimension(
    tmp_path: Path, native_prefix: Path, repository: Path
) -> None:
    records = measured(
        tmp_path,
        native_prefix,
        repository,
        {"name": "flat"},
        load={"batch_size": [1, 8], "concurrency": 1},
    )
    assert {record.status for record in records} <= {Status.OK, Status.UNSTABLE}
    for record in records:
        size = record.batch_size or 0
        assert record.shapes == '{"x": [16]}'
        assert f"--shape x:{size},16 " in (record.command or "")
        assert " -b 1 " in (record.command or "")
        # Inferences, not requests: of these, there would be an eighth.
        assert 0.3 < real.in_flight(record) < 3


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_random_texts_of_a_length_and_a_given_text_reach_the_model(
    tmp_path: Path, native_prefix: Path, repository: Path
) -> None:
    model = {"name": "words", "shapes": {"few": {"text": [2]}, "many": {"text": [5]}}}
    seen = repository / "seen"
    records = measured(tmp_path, native_prefix, repository, model, measurement={"string_length": 7})
    assert [record.shapes_name for record in records] == ["few", "many"]
    assert {record.string_length for record in records} == {7}
    assert all(record.throughput_infer_per_s for record in records), records[0].reason
    assert [len(text) for text in seen.read_bytes().split(b"\n")] == [7] * 5
    (record,) = measured(
        tmp_path,
        native_prefix,
        repository,
        {"name": "words", "shapes": {"text": [3]}},
        measurement={"string_data": "tau", "shared_memory": "system"},
    )
    assert record.throughput_infer_per_s, record.reason
    assert seen.read_bytes().split(b"\n") == [b"tau"] * 3


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_an_ensemble_has_a_row_and_each_model_that_it_calls_has_one(
    tmp_path: Path, native_prefix: Path, repository: Path
) -> None:
    scale, shift, whole = measured(
        tmp_path,
        native_prefix,
        repository,
        {"name": "chain", "label": "Chain"},
        load={"batch_size": 4},
        measurement={"measurement_interval_ms": 1000},
    )
    assert whole.part_of is None
    assert whole.status in (Status.OK, Status.UNSTABLE), whole.reason
    assert [r.model_label for r in (scale, shift, whole)] == [
        *("Chain / scale", "Chain / shift"),
        "Chain",
    ]
    assert len({record.key for record in (scale, shift, whole)}) == 3
    for part in (scale, shift):
        assert part.part_of == whole.point_id
        assert part.throughput_infer_per_s == pytest.approx(whole.throughput_infer_per_s, rel=0.02)
        assert part.platform == "onnxruntime_onnx"
        assert (part.server_compute_infer_us or 0) > 0
        assert (part.execution_count or 0) > 0
        assert part.latency_avg_us is None
        assert part.client_send_us is None
    spent = sum(part.server_compute_infer_us or 0 for part in (scale, shift))
    assert spent == pytest.approx(whole.server_compute_infer_us, rel=0.1, abs=10)
