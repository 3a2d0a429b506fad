"""What perf_analyzer left, read. What it printed in tests/data is real."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcbench.measure import perf_analyzer, perf_output
from hpcbench.measure.perf_output import ComposingModel, Outcome
from hpcbench.records.columns import COLUMNS, Status
from tests.helpers.builders import PRINTED


def printed(case: str, name: str) -> str:
    return (PRINTED / case / name).read_text()


def report(case: str, percentile: int | None = None) -> dict[str, Any]:
    """The metrics of the report that a recorded run printed."""
    return perf_output.parse_report(printed(case, "stdout.txt"), percentile)


def why(case: str, **changes: Any) -> str:
    """Why a recorded run has no metrics, with some of what it left changed."""
    left: dict[str, Any] = {
        "stdout": printed(case, "stdout.txt"),
        "stderr": printed(case, "stderr.txt"),
        "returncode": int(printed(case, "rc")),
    }
    return perf_output.failure_reason(**(left | changes))


PERCENTILES = {
    "grpc_async_p95": 95,
    "grpc_p75": 75,
    "last_windows": 95,
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
        "network_us": 555.0,
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
    },
    "grpc_async_p95": {
        "throughput_infer_per_s": 996.235,
        "latency_avg_us": 15802.0,  # the mean gRPC time: "Avg latency" is left out
        "latency_p95_us": 26865.0,
        "latency_percentile_us": 26865.0,
        "server_queue_us": 3375.0,
        "request_count": 271,
    },
    "grpc_p75": {
        "throughput_infer_per_s": 593.131,
        "latency_avg_us": 3332.0,
        "latency_percentile_us": 4002.0,
        "latency_p50_us": 3381.0,
        "latency_p90_us": 4680.0,
        "execution_count": 614,
    },
    "http": {
        "throughput_infer_per_s": 929.463,
        "latency_avg_us": 4273.0,
        "latency_std_us": 1241.0,
        "client_send_us": 72.0,
        "client_recv_us": 0.0,
        "client_response_wait_us": 4191.0,
        "network_us": 230.0,
        "inference_count": 1014,
        "success_count": 507,
    },
    "count_windows": {
        "throughput_infer_per_s": 657.658,
        "latency_p99_us": 6173.0,
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
        "server_compute_infer_us": 2485.0,
        "server_compute_output_us": 1577.0,
        "server_queue_us": 548.0,
        "server_request_us": 4583.0,
    },
    "rate_overload": {
        "throughput_infer_per_s": 637.84,
        "send_request_rate": 639.64,
        "delayed_requests_percent": 99.71,
    },
}


@pytest.mark.parametrize("case", METRICS)
def test_a_report_has_every_metric_that_was_printed(case: str) -> None:
    metrics = report(case, PERCENTILES.get(case))
    assert {name: metrics.get(name) for name in METRICS[case]} == METRICS[case]


def test_every_recorded_run_is_read_here() -> None:
    cases = {path.name for path in PRINTED.iterdir()}
    assert cases == set(METRICS) | UNSTABLE | STREAMS | set(FAILURES)


@pytest.mark.parametrize("case", METRICS)
def test_every_metric_is_a_column_of_its_type(case: str) -> None:
    types = {"int64": int, "double": float}
    columns = {column.name: types.get(str(column.type)) for column in COLUMNS}
    for name, value in report(case, 95).items():
        assert type(value) is columns[name], name


@pytest.mark.parametrize("case", METRICS)
def test_every_column_of_the_csv_is_kept(case: str) -> None:
    header, row = printed(case, "result.csv").splitlines()
    (cells,) = perf_output.csv_rows(f"{header}\n{row}\n")
    kept = perf_output.csv_metrics(cells, PERCENTILES.get(case)).values()
    for name, text in cells.items():
        if text and name not in ("Concurrency", "Request Rate"):
            assert float(text) in kept, name


# The CSV has another queue for an ensemble: that of its scheduler, not of the models that it calls.
@pytest.mark.parametrize("case", sorted(METRICS.keys() - {"ensemble"}))
def test_a_report_says_what_the_csv_says(case: str) -> None:
    percentile = PERCENTILES.get(case)
    (cells,) = perf_output.csv_rows(printed(case, "result.csv"))
    expected = perf_output.csv_metrics(cells, percentile)
    found = report(case, percentile)
    assert expected.keys() <= found.keys()
    for name, value in expected.items():
        # The printed parts of a request are cut to whole microseconds, each of them. Beside a
        # percentile the mean is not printed, and the one of the calls stands in its place.
        slack = 25 if name == "network_us" else 1
        assert found[name] == pytest.approx(value, abs=slack), name


def test_a_percentile_that_was_not_asked_for_is_not_made_up() -> None:
    assert "latency_percentile_us" not in report("grpc_async")
    assert "latency_percentile_us" not in report("grpc_async_p95", 75)


def test_a_metric_that_is_missing_is_missing_and_not_nothing() -> None:
    metrics = report("metrics")
    assert [name for name in metrics if name.startswith("gpu_")] == []
    assert "latency_std_us" not in report("grpc_p75", 75)
    assert None not in metrics.values()


UNSTABLE = {"unstable_avg", "unstable_p95"}
STREAMS = {"intervals", "repeated"}
"""Several reports of one run, which test_report_stream.py and the soak read."""


@pytest.mark.parametrize("case", UNSTABLE)
def test_a_run_that_perf_analyzer_itself_gave_up_has_no_report(case: str) -> None:
    assert report(case) == {}


def test_what_perf_analyzer_holds_against_its_metrics_is_read() -> None:
    words = "[WARNING] Perf Analyzer is not able to keep up with the desired load. The results may"
    assert "the client is the limit" in (perf_output.printed_warning(words) or "")
    words = "Warning: Request latency is not stabilizing. Please try lowering the request rate."
    assert "not stabilizing" in (perf_output.printed_warning(words) or "")
    assert perf_output.printed_warning(printed("rate", "stdout.txt")) is None


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
    assert why(case) == FAILURES[case]
    assert report(case) == {}


def test_an_exit_code_of_0_without_a_report_is_no_success() -> None:
    assert why("grpc_async") == "perf_analyzer exited with 0, but wrote no metrics"


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
    assert perf_output.failure_reason("", stderr, code) == reason


# Numbers and files in unusual forms


def test_metrics_in_scientific_notation_are_metrics() -> None:
    """A C++ stream prints them so from a million on."""
    text = printed("grpc_async", "stdout.txt").replace("832.253", "1.2e+06")
    assert perf_output.parse_report(text, None)["throughput_infer_per_s"] == 1.2e6


HEADER, ROW = printed("metrics", "result.csv").splitlines()


def with_gpus(cells: str) -> dict[str, Any]:
    row = ROW.removesuffix(",,,,") + "," + cells
    (found,) = perf_output.csv_rows(f"{HEADER}\n{row}\n")
    return perf_output.csv_metrics(found, None)


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
    assert perf_output.csv_rows(text) == []


@pytest.mark.parametrize("length", [3, 7, 9, 12, 25])
def test_half_a_row_is_no_measurement(length: int) -> None:
    """``2,66`` of ``2,662.591``: the scratch folder was full, say."""
    assert perf_output.csv_rows(f"{HEADER}\n{ROW[:length]}") == []


CASES = sorted(METRICS)


@settings(max_examples=150)
@given(case=st.sampled_from(CASES), data=st.data())
def test_a_csv_cut_anywhere_is_read_without_a_wrong_metric(case: str, data: st.DataObject) -> None:
    text = printed(case, "result.csv")
    whole = perf_output.csv_rows(text)
    cut = perf_output.csv_rows(text[: data.draw(st.integers(0, len(text)))])
    assert cut in ([], whole)


@pytest.mark.parametrize("cell", ["N/A", "-nan", "nan", "inf", "GPU-a:;", "GPU-a:x;GPU-b:1;", "::"])
def test_a_cell_that_is_no_number_costs_that_metric_alone(cell: str) -> None:
    """A bad cell is a missing metric, never an exception: the point is measured."""
    metrics = with_gpus(f"{cell},70,{cell},6")
    assert metrics["throughput_infer_per_s"] == 662.591
    assert metrics["gpu_power_avg_w"] == 70.0
    assert metrics["gpu_memory_total_bytes"] == 6
    assert not {"gpu_utilization_avg", "gpu_memory_max_bytes"} & set(metrics)


@settings(max_examples=100)
@given(stdout=st.text(max_size=60), stderr=st.text(max_size=60))
@example(stdout="", stderr="")
def test_no_output_at_all_ends_in_a_traceback(stdout: str, stderr: str) -> None:
    perf_output.parse_report(stdout, 95)
    assert perf_output.failure_reason(stdout, stderr, 1)


def composing(case: str) -> tuple[ComposingModel, ...]:
    return perf_output.parse_composing_models(printed(case, "stdout.txt"), report(case))


def test_the_models_that_an_ensemble_calls_have_the_servers_metrics_and_no_client() -> None:
    scale, shift = composing("ensemble")
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
    assert composing("grpc_async") == ()


def test_requests_that_hold_a_batch_in_their_shape_are_so_many_inferences() -> None:
    windows = {"windows_throughput_infer_per_s": (257.836, 300.0)}
    metrics = report("ensemble") | windows
    ensemble = Outcome(Status.OK, None, metrics, composing("ensemble"))
    outcome = perf_analyzer.in_inferences(ensemble, 8)
    assert outcome.metrics["throughput_infer_per_s"] == 8 * 344.042
    assert outcome.metrics["windows_throughput_infer_per_s"][0] == 8 * 257.836
    assert outcome.metrics["inference_count"] == 636
    assert outcome.composing[0].metrics["throughput_infer_per_s"] == 8 * 344.042
    assert perf_analyzer.in_inferences(ensemble, 1) == ensemble
