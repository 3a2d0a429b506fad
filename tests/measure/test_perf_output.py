"""What perf_analyzer left, read. What it printed in tests/data is real."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcbench.measure import perf_analyzer, perf_output
from hpcbench.measure.perf_output import Outcome
from hpcbench.records.columns import COLUMNS, Status
from tests.helpers.builders import PRINTED


def printed(case: str, name: str) -> str:
    return (PRINTED / case / name).read_text()


def read(case: str, *, percentile: int | None = None, **changes: Any) -> Outcome:
    """The verdict on a recorded run, with some of what it left changed."""
    path = PRINTED / case / "result.csv"
    left: dict[str, Any] = {
        "stdout": printed(case, "stdout.txt"),
        "stderr": printed(case, "stderr.txt"),
        "csv_text": path.read_text() if path.exists() else None,
        "returncode": int(printed(case, "rc")),
        "percentile": percentile,
    }
    return perf_output.parse_run(**(left | changes))


PERCENTILES = {
    "grpc_async_p95": 95,
    "grpc_p75": 75,
    "last_windows": 95,
    "unstable_p95": 95,
}
METRICS: dict[str, dict[str, Any]] = {
    "grpc_async": {
        "throughput_infer_per_s": 832.253,
        "latency_avg_us": 18741.0,
        "latency_std_us": 8699.0,
        "latency_p50_us": 18209.0,
        "latency_p90_us": 30126.0,
        "latency_p95_us": 33278.0,
        "latency_p99_us": 38481.0,
        "client_send_us": 14.0,
        "client_recv_us": 2.0,
        "network_us": 553.0,
        "client_request_response_us": 16.0,
        "client_response_wait_us": 18716.0,
        "client_overhead_percent": 0.14,
        "request_count": 226,
        "server_request_us": 18184.0,
        "server_overhead_us": 13.0,
        "server_queue_us": 2438.0,
        "server_compute_input_us": 62.0,
        "server_compute_infer_us": 15320.0,
        "server_compute_output_us": 350.0,
        "inference_count": 904,
        "execution_count": 165,
        "success_count": 226,
        "windows_throughput_infer_per_s": (870.654, 762.573, 863.475),
        "windows_latency_us": (17802.0, 19900.0, 18667.0),
    },
    "grpc_async_p95": {
        "throughput_infer_per_s": 996.235,
        "latency_avg_us": 15802.0,  # the mean gRPC time: "Avg latency" is left out
        "latency_p95_us": 26865.0,
        "latency_percentile_us": 26865.0,
        "server_queue_us": 3375.0,
        "request_count": 271,
        "windows_latency_us": (29349.0, 27363.0, 21033.0),
    },
    "grpc_p75": {
        "throughput_infer_per_s": 593.131,
        "latency_avg_us": 3332.0,
        "latency_percentile_us": 4002.0,
        "latency_p50_us": 3381.0,
        "latency_p90_us": 4680.0,
        "windows_latency_us": (4210.0, 3796.0, 3882.0),
        "execution_count": 614,
    },
    "http": {
        "throughput_infer_per_s": 929.463,
        "latency_avg_us": 4273.0,
        "latency_std_us": 1241.0,
        "client_send_us": 72.0,
        "client_recv_us": 0.0,
        "client_response_wait_us": 4191.0,
        "network_us": 227.0,
        "inference_count": 1014,
        "success_count": 507,
    },
    "count_windows": {
        "throughput_infer_per_s": 657.658,
        "latency_p99_us": 6173.0,
        "windows_throughput_infer_per_s": (632.231, 692.014, 648.623),
    },
    "last_windows": {
        "throughput_infer_per_s": 1238.87,
        "latency_avg_us": 12724.0,
        "latency_percentile_us": 20263.0,
        "server_compute_infer_us": 9405.0,
    },
    "metrics": {"throughput_infer_per_s": 662.591, "latency_avg_us": 3001.0},
    "rate": {
        "throughput_infer_per_s": 45.2884,
        "request_count": 49,
        "windows_throughput_infer_per_s": (24.972, 41.5933, 47.1325, 47.1393),
    },
    "streaming": {
        "throughput_infer_per_s": 2236.5,
        "latency_p99_us": 895.0,
        "server_compute_infer_us": 182.0,
    },
    "ensemble": {
        "throughput_infer_per_s": 344.042,
        "request_count": 317,
        "inference_count": 636,
        "server_compute_infer_us": 2486.0,
        "server_request_us": 4583.0,
    },
    "rate_overload": {
        "throughput_infer_per_s": 637.838,
        "send_request_rate": 639.64,
        "delayed_requests_percent": 99.71,
    },
}


@pytest.mark.parametrize("case", METRICS)
def test_a_point_that_settled_has_every_metric_that_was_printed(case: str) -> None:
    outcome = read(case, percentile=PERCENTILES.get(case))
    assert outcome.status is Status.OK
    assert outcome.reason is None
    found = {name: outcome.metrics.get(name) for name in METRICS[case]}
    assert found == METRICS[case]


def test_every_recorded_run_has_its_verdict_here() -> None:
    cases = {path.name for path in PRINTED.iterdir()}
    assert cases == set(METRICS) | set(UNSTABLE) | set(FAILURES)


@pytest.mark.parametrize("case", METRICS)
def test_every_metric_is_a_column_of_its_type(case: str) -> None:
    types = {"int64": int, "double": float, "list<element: double>": tuple}
    columns = {column.name: types.get(str(column.type), tuple) for column in COLUMNS}
    for name, value in read(case, percentile=95).metrics.items():
        assert type(value) is columns[name], name


@pytest.mark.parametrize("case", METRICS)
def test_every_column_of_the_csv_is_kept(case: str) -> None:
    header, row = printed(case, "result.csv").splitlines()
    kept = read(case, percentile=PERCENTILES.get(case)).metrics.values()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    for name, text in cells.items():
        if text and name not in ("Concurrency", "Request Rate"):
            assert float(text) in kept, name


def test_what_was_asked_for_is_not_overwritten_by_what_was_printed() -> None:
    for case in ("grpc_async", "rate"):
        assert not {"concurrency", "request_rate"} & set(read(case).metrics)


def test_a_percentile_that_was_not_asked_for_is_not_made_up() -> None:
    assert "latency_percentile_us" not in read("grpc_async").metrics
    assert "latency_percentile_us" not in read("grpc_async_p95", percentile=75).metrics


def test_a_metric_that_is_missing_is_missing_and_not_nothing() -> None:
    metrics = read("metrics").metrics
    assert [name for name in metrics if name.startswith("gpu_")] == []
    assert "latency_std_us" not in read("grpc_p75", percentile=75).metrics
    assert None not in metrics.values()


# Points that did not settle

UNSTABLE: dict[str, dict[str, Any]] = {
    "unstable_avg": {
        "windows_throughput_infer_per_s": (1221.06, 1235.21, 1228.95, 1108.19),
        "windows_latency_us": (12861.0, 12879.0, 12972.0, 14269.0),
    },
    "unstable_p95": {
        "windows_throughput_infer_per_s": (1229.88, 1262.83, 1215.46, 1252.2),
        "windows_latency_us": (18410.0, 19453.0, 19791.0, 19537.0),
    },
}


@pytest.mark.parametrize("case", UNSTABLE)
def test_a_point_that_did_not_settle_keeps_its_windows(case: str) -> None:
    outcome = read(case, percentile=PERCENTILES.get(case))
    assert outcome.status is Status.UNSTABLE
    assert outcome.metrics == UNSTABLE[case]


def test_how_far_a_point_was_from_settling_is_recorded() -> None:
    assert read("unstable_avg").reason == (
        "did not settle within 4 windows: the last three differ in throughput by 11%, "
        "in latency by 11%"
    )


def test_a_point_without_any_window_has_no_metric() -> None:
    outcome = read("unstable_avg", stdout="")
    assert outcome.status is Status.UNSTABLE
    assert outcome.reason == "did not settle within 0 windows"


# Points without metrics

FAILURES = {
    "bad_model": ("failed to get model metadata: Request for unknown model: 'nosuch' is not found"),
    "batch_over": (
        "[request id: <id_unknown>] inference request batch-size must be <= 500 for "
        "'particlenet_AK4'"
    ),
    "no_shape": (
        "Failed to init manager inputs: input pf_features contains dynamic shape, provide shapes "
        "to send along with the request"
    ),
    "no_valid": (
        "no request was answered within a window; give measurement.measurement_interval_ms more "
        "time than four requests need"
    ),
    "refused": (
        "failed to get model metadata: failed to connect to all addresses; last error: UNKNOWN: "
        "ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused"
    ),
    "unknown_flag": "unrecognized option '--nosuchflag'",
    "cuda_without_gpu": (
        "Unable to init infer data manager: unable to allocate memory of 64 bytes on gpu for "
        "output: CUDA driver version is insufficient for CUDA runtime version"
    ),
    "streaming_sync": ("perf_analyzer exited with 99: can not use streaming with synchronous API"),
    "output_too_small": (
        "shared memory size specified with the request for output 'back' (10 bytes) should be at "
        "least 396 bytes to hold the results"
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_point_that_failed_says_why_in_perf_analyzers_words(case: str) -> None:
    outcome = read(case)
    assert outcome.status is Status.FAILED
    assert outcome.reason == FAILURES[case]
    assert not outcome.metrics


def test_an_exit_code_of_0_without_a_csv_is_no_success() -> None:
    outcome = read("grpc_async", csv_text=None)
    assert outcome.status is Status.FAILED
    assert outcome.reason == "perf_analyzer exited with 0, but wrote no metrics"
    assert outcome.metrics["windows_latency_us"] == (17802.0, 19900.0, 18667.0)


@pytest.mark.parametrize("code", [1, 2, 99, 139])
def test_an_exit_code_is_no_verdict_where_there_is_a_row(code: int) -> None:
    outcome = read("grpc_async", returncode=code)
    assert outcome.status is Status.OK
    assert outcome.metrics == read("grpc_async").metrics


def test_an_unstable_point_is_known_by_its_words_and_not_by_its_code() -> None:
    for code in (0, 1, 2):
        assert read("unstable_p95", returncode=code).status is Status.UNSTABLE


@pytest.mark.parametrize(
    ("stderr", "code", "reason"),
    [
        ("", 137, "perf_analyzer was ended by signal 9"),
        ("\n  out of luck \n\n", 5, "perf_analyzer exited with 5: out of luck"),
        (
            "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  no\n",
            134,
            "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  no",
        ),
        (
            "cannot start /prefix/bin/perf_analyzer: No such file or directory\n",
            127,
            "cannot start /prefix/bin/perf_analyzer: No such file or directory",
        ),
    ],
)
def test_other_ends_are_explained_as_well_as_they_can_be(
    stderr: str, code: int, reason: str
) -> None:
    outcome = perf_output.parse_run(
        stdout="", stderr=stderr, csv_text=None, returncode=code, percentile=None
    )
    assert (outcome.status, outcome.reason) == (Status.FAILED, reason)


# Numbers and files in unusual forms


def test_metrics_in_scientific_notation_are_metrics() -> None:
    """A C++ stream prints them so from a million on."""
    text = printed("grpc_async", "result.csv").replace("832.253", "1.2e+06")
    report = printed("grpc_async", "stdout.txt").replace("870.654", "1.25e+06")
    metrics = read("grpc_async", csv_text=text, stdout=report).metrics
    assert metrics["throughput_infer_per_s"] == 1.2e6
    assert metrics["windows_throughput_infer_per_s"] == (1.25e6, 762.573, 863.475)


HEADER, ROW = printed("metrics", "result.csv").splitlines()


def with_gpus(cells: str) -> dict[str, Any]:
    row = ROW.removesuffix(",,,,") + "," + cells
    return dict(read("metrics", csv_text=f"{HEADER}\n{row}\n").metrics)


def test_metrics_of_several_gpus_are_joined() -> None:
    metrics = with_gpus(
        "GPU-a:0.5;GPU-b:0.7;,GPU-a:100;GPU-b:51.5;,"
        "GPU-a:1000000000;GPU-b:1.2e+06;,GPU-a:85520809984;GPU-b:85520809984;"
    )
    assert metrics["gpu_utilization_avg"] == pytest.approx(0.6)
    assert metrics["gpu_power_avg_w"] == 75.75
    assert metrics["gpu_memory_max_bytes"] == 1_001_200_000
    assert metrics["gpu_memory_total_bytes"] == 171_041_619_968
    assert type(metrics["gpu_memory_max_bytes"]) is int


def test_metrics_of_one_gpu_stay_what_they_are() -> None:
    metrics = with_gpus("GPU-0a-1b:0.25;,GPU-0a-1b:70;,GPU-0a-1b:5;,GPU-0a-1b:6;")
    assert metrics["gpu_utilization_avg"] == 0.25
    assert metrics["gpu_memory_max_bytes"] == 5


@pytest.mark.parametrize("text", ["", "\n", HEADER, HEADER + "\n"])
def test_a_csv_without_a_row_is_no_measurement(text: str) -> None:
    outcome = read("metrics", csv_text=text)
    assert outcome.status is Status.FAILED
    assert "throughput_infer_per_s" not in outcome.metrics


@pytest.mark.parametrize("length", [3, 7, 9, 12, 25])
def test_half_a_row_is_no_measurement(length: int) -> None:
    """``2,66`` of ``2,662.591``: the scratch folder was full, say."""
    outcome = read("metrics", csv_text=f"{HEADER}\n{ROW[:length]}")
    assert outcome.status is not Status.OK


CASES = sorted(METRICS)


@settings(max_examples=150)
@given(case=st.sampled_from(CASES), data=st.data())
def test_a_csv_cut_anywhere_is_read_without_a_wrong_metric(case: str, data: st.DataObject) -> None:
    text = printed(case, "result.csv")
    percentile = PERCENTILES.get(case)
    whole = read(case, percentile=percentile)
    cut = text[: data.draw(st.integers(0, len(text)))]
    outcome = read(case, percentile=percentile, csv_text=cut)
    if outcome.status is Status.OK:
        assert outcome.metrics == whole.metrics
    assert set(outcome.metrics) <= set(whole.metrics)


@pytest.mark.parametrize("cell", ["N/A", "-nan", "nan", "inf", "GPU-a:;", "GPU-a:x;GPU-b:1;", "::"])
def test_a_cell_that_is_no_number_costs_that_metric_alone(cell: str) -> None:
    """A bad cell is a missing metric, never an exception: the point is measured."""
    metrics = with_gpus(f"{cell},70,{cell},6")
    assert metrics["throughput_infer_per_s"] == 662.591
    assert metrics["gpu_power_avg_w"] == 70.0
    assert metrics["gpu_memory_total_bytes"] == 6
    assert not {"gpu_utilization_avg", "gpu_memory_max_bytes"} & set(metrics)


@settings(max_examples=100)
@given(
    stdout=st.text(max_size=60),
    stderr=st.text(max_size=60),
    csv_text=st.none() | st.text(max_size=60),
)
@example(stdout="", stderr="", csv_text="\r0")
def test_no_output_at_all_ends_in_a_traceback(
    stdout: str, stderr: str, csv_text: str | None
) -> None:
    outcome = perf_output.parse_run(
        stdout=stdout, stderr=stderr, csv_text=csv_text, returncode=1, percentile=95
    )
    assert outcome.status is Status.FAILED
    assert outcome.reason


def test_the_models_that_an_ensemble_calls_have_the_servers_metrics_and_no_client() -> None:
    scale, shift = read("ensemble").composing
    assert (scale.model, scale.version, shift.model) == ("scale", 1, "shift")
    assert scale.metrics == {
        "throughput_infer_per_s": 344.042,
        "server_queue_us": 163.0,
        "server_compute_input_us": 24.0,
        "server_compute_infer_us": 1273.0,
        "server_compute_output_us": 164.0,
        "inference_count": 636,
        "execution_count": 318,
        "success_count": 318,
        "server_request_us": 1627.0,
        "server_overhead_us": 2.0,
    }
    # perf_analyzer writes the same into files of their own, if it is not ended at work.
    (row,) = perf_output.csv_rows(printed("ensemble", "scale_v1.result.csv"))
    written = perf_output.csv_metrics(row, None)
    assert scale.metrics.items() >= {
        (name, value) for name, value in written.items() if not name.startswith(("client", "netw"))
    }


def test_a_run_of_a_single_model_has_no_models_that_it_calls() -> None:
    assert read("grpc_async").composing == ()


def test_requests_that_hold_a_batch_in_their_shape_are_so_many_inferences() -> None:
    outcome = perf_analyzer.in_inferences(read("ensemble"), 8)
    assert outcome.metrics["throughput_infer_per_s"] == 8 * 344.042
    assert outcome.metrics["windows_throughput_infer_per_s"][0] == 8 * 257.836
    assert outcome.metrics["inference_count"] == 636
    assert outcome.composing[0].metrics["throughput_infer_per_s"] == 8 * 344.042
    assert perf_analyzer.in_inferences(read("ensemble"), 1) == read("ensemble")
