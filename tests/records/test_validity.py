"""Rows that may not be believed are told from those that may, each for its own reason."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hpcbench import load_results
from hpcbench.exchange.import_csv import import_csv_folder
from hpcbench.measure.perf_output import parse_report
from hpcbench.records import rule_columns, rules, store
from hpcbench.records.columns import SCHEMA, Record, Status
from hpcbench.records.folder import Results
from hpcbench.records.rules import RULES
from hpcbench.records.validity import COMPUTED, INPUTS, broken_rules, with_verdicts
from tests.helpers.builders import record
from tests.helpers.paths import CHECKOUT, DATA

SOUND: dict[str, Any] = {
    "status": "ok",
    "batch_size": 8,
    "concurrency": 4,
    "throughput_infer_per_s": 3200.0,
    "latency_avg_us": 9900.0,
    "latency_p99_us": 12000.0,
    "percentile": 95,
    "latency_percentile_us": 11000.0,
    "measurement_mode": "time_windows",
    "measurement_interval_ms": 2000,
    "windows_counted": 3,
    "request_count": 2400,
    "success_count": 2402,
    "inference_count": 19216,
    "execution_count": 2402,
    "max_batch_size": 64,
    "variant": '{"instance_count": 2, "preferred_batch_size": [8], "max_queue_delay_us": 100}',
    "instance_count": 2,
    "dynamic_batching": True,
    "max_queue_delay_us": 100,
    "gpu_name": "Tesla T4",
    "gpu_count": 1,
    "pool_gpu": "Tesla T4",
    "pool_gpu_count": 1,
    "client_overhead_percent": 1.2,
    "client_cpu_limited": False,
    "server_cpu_s": 4.0,
    "server_cpu_wait_s": 1.0,
    "client_cpu_s": 0.5,
    "client_cpu_wait_s": 0.1,
    "other_cpu_s": 0.3,
    "overloaded": False,
    "gpu_throttle_reasons": None,
    "gpu_other_processes": 0,
    "failure_count": 0,
    "foreign_requests": 0,
}
"""A row as sound as can be, with all columns that a rule reads."""

OPEN_LOOP: dict[str, Any] = {
    "concurrency": None,
    "request_rate": 400.0,
    "send_request_rate": 399.0,
    "delayed_requests_percent": 0.0,
}

BREAKS: dict[str, list[dict[str, Any]]] = {
    "LITTLE": [
        {"throughput_infer_per_s": 2700.0},
        {"latency_avg_us": 11500.0},
        {"concurrency": 3},
        {"latency_avg_us": None, "latency_p99_us": 9300.0},
        OPEN_LOOP | {"throughput_infer_per_s": 2700.0},
        {"latency_avg_us": None, "client_send_us": 1.0, "network_us": 2.0}
        | {f"server_compute_{part}_us": 500.0 for part in ("input", "infer", "output")}
        | {"server_queue_us": 1.0, "client_recv_us": 3.0},
    ],
    "PERCENTILES": [
        {"latency_p50_us": 10000.0, "latency_p90_us": 9000.0},
        {"latency_p50_us": 12001.0},
    ],
    "BATCH": [{"inference_count": 2402}, {"inference_count": 19000}],
    "STRANGER": [
        {"foreign_requests": 198},
        {"foreign_requests": None, "success_count": 2600, "inference_count": 20800},
    ],
    "FAILURES": [{"failure_count": 1}],
    "OVERLOADED": [
        OPEN_LOOP | {"overloaded": True},
        OPEN_LOOP | {"delayed_requests_percent": 1.5},
        OPEN_LOOP | {"send_request_rate": 390.0, "throughput_infer_per_s": 3120.0},
    ],
    "CLIENT": [{"client_cpu_limited": True}, {"client_overhead_percent": 40.0}],
    # 1.1 s of the 5.6 s that they needed.
    "DISTURBED": [{"other_cpu_s": 3.0}],
    "DEVICE": [
        {"gpu_name": "NVIDIA L4"},
        {"gpu_name": "NVIDIA A100-SXM4-40GB MIG 1g.5gb"},
        {"pool_gpu_count": 2},
        {"gpu_count": 2},
    ],
    "GPU_SHARED": [{"gpu_other_processes": 1}],
    "THROTTLED": [
        {"gpu_throttle_reasons": "hw_thermal,power_cap"},
        {"gpu_throttle_reasons": "thermal"},
        {"gpu_throttle_reasons": "hw_power_brake"},
        {"gpu_throttle_reasons": "hw_slowdown,power_cap"},
    ],
    "CONFIG": [
        {"instance_count": 3},
        {"dynamic_batching": False, "max_queue_delay_us": None},
        {"max_queue_delay_us": 0},
        {"max_batch_size": 4},
        {"variant": '{"preferred_batch_size": null}', "max_queue_delay_us": None},
        {"variant": '{"dynamic_batching": true}', "dynamic_batching": False},
        # One GPU has no reason for twice as many, two have none for three times as many.
        {"variant": '{"instance_count": 1}'},
        {"variant": '{"instance_count": 1}', "instance_count": 3, "gpu_count": 2}
        | {"pool_gpu_count": 2},
        *(
            {"variant": f'{{"{axis}": {asked}}}', axis: loaded}
            for axis, asked, loaded in (
                ("max_batch_size", "32", 64),
                ("instance_kind", '"KIND_GPU"', "KIND_CPU"),
                ("gpus", "[0]", (0, 1)),
                ("preferred_batch_size", "[8, 16]", (8,)),
                ("preserve_ordering", "true", False),
                ("priority_levels", "2", 0),
                ("default_priority_level", "2", 1),
                ("response_cache", "false", True),
                ("graph_level", "1", 0),
                ("cuda_graphs", "true", False),
                ("accelerator", "null", '{"name": "tensorrt", "precision_mode": "FP16"}'),
                ("accelerator", '{"name": "openvino"}', '{"name": "tensorrt"}'),
                (
                    "accelerator",
                    json.dumps('{"name": "tensorrt", "precision_mode": "FP32"}'),
                    '{"name": "tensorrt", "precision_mode": "FP16"}',
                ),
            )
        ),
    ],
    "SHORT_WINDOW": [
        # 2400 requests at 400 per second are 6 s.
        {"windows_counted": 600},
        {"windows_counted": 600, "measurement_mode": "count_windows"},
        {"windows_counted": None, "measurement_interval_ms": 10},
    ],
    "UNSETTLED": [{"status": "unstable"}],
    "FEW_REQUESTS": [
        {"request_count": 60, "success_count": 60, "inference_count": 480},
        # The mean was asked for: then it is the p99 that is quoted beside it.
        {"percentile": None, "request_count": 300, "success_count": 300, "inference_count": 2400},
    ],
}
"""By the code of a rule: changes of a sound row that break this rule, and no other."""


def with_validity(*rows: dict[str, Any]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    types = {name: SCHEMA.field(name).type for name in names}
    columns = {name: [row.get(name) for row in rows] for name in names}
    return with_verdicts(pa.table(columns, schema=pa.schema(types.items())))


def reasons(*rows: dict[str, Any]) -> list[str | None]:
    return list(with_validity(*rows)["invalid_reasons"].to_pylist())


def test_there_are_rows_that_break_each_rule() -> None:
    assert list(BREAKS) == [rule.code for rule in RULES]


@pytest.mark.parametrize(
    ("code", "change"), [(code, change) for code, changes in BREAKS.items() for change in changes]
)
def test_a_row_that_breaks_one_rule_is_invalid_for_this_reason(
    code: str, change: dict[str, Any]
) -> None:
    assert reasons(SOUND | change) == [code]


@pytest.mark.parametrize(
    "change",
    [
        {},
        OPEN_LOOP,
        # Poisson arrivals: as many as came in these windows.
        OPEN_LOOP | {"request_distribution": "poisson", "send_request_rate": 388.0},
        # A response every 330 us, and a client that needs 45 us to send the next request.
        {"throughput_infer_per_s": 8 / 330e-6, "concurrency": 1, "latency_avg_us": 285.0},
        # A CSV that has the parts of the mean latency only.
        {"latency_avg_us": None, "client_send_us": 100.0, "network_us": 300.0}
        | {f"server_compute_{part}_us": 3000.0 for part in ("input", "infer", "output")}
        | {"server_queue_us": 400.0, "client_recv_us": 100.0},
        # No batch dimension: the server counts a request once.
        {"max_batch_size": 0, "inference_count": 2402},
        # A cache answers without an inference.
        {"response_cache": True, "inference_count": 16},
        # A sixth is in flight when the windows end.
        {"request_count": 120, "success_count": 130, "inference_count": 1040}
        | {"foreign_requests": None},
        # An ensemble beside it may call it.
        {"beside": "[]", "success_count": 4000, "inference_count": 32000}
        | {"foreign_requests": None},
        # Threads of the server that wait for each other, and others on CPUs that nobody waits for.
        {"server_cpu_wait_s": 9.0},
        {"server_cpu_wait_s": 0.2, "other_cpu_s": 60.0},
        # As measured: requests wait in a queue for others, and latency was 1 % longer beside three
        # processes that were busy all the time.
        {"server_cpu_s": 0.06, "client_cpu_s": 0.02, "server_cpu_wait_s": 0.06}
        | {"client_cpu_wait_s": 0.06, "other_cpu_s": 1.01, "cpu_sampled_s": 0.55},
        # Windows that became longer than they were asked for.
        {"measurement_interval_ms": 10},
        {"gpu_throttle_reasons": "power_cap"},
        {"gpu_throttle_reasons": ""},
        {"variant": '{"instance_count": 2}', "dynamic_batching": False},
        # The sum over two GPUs, or one GPU's.
        {"variant": '{"instance_count": 1}', "gpu_count": 2, "pool_gpu_count": 2},
        {"variant": '{"instance_count": 2}', "gpu_count": 2, "pool_gpu_count": 2},
        {"variant": '{"instance_count": "base", "preferred_batch_size": "base"}'},
        {"variant": '{"preferred_batch_size": [], "max_batch_size": 64, "gpus": [1, 0]}'}
        | {"preferred_batch_size": (64,), "gpus": (0, 1), "max_queue_delay_us": 0},
        {"variant": '{"instance_kind": "KIND_AUTO", "graph_level": "base"}', "graph_level": 1}
        | {"instance_kind": "KIND_GPU"},
        {"variant": '{"accelerator": {"name": "tensorrt", "precision_mode": "FP16"}}'}
        | {"accelerator": '{"name": "tensorrt", "precision_mode": "FP16"}'},
        # A model that an ensemble called has a configuration of its own.
        {"part_of": "0", "instance_count": 3, "max_queue_delay_us": None},
        # What others have written there breaks nothing.
        {"variant": "two instances"},
        {"variant": '{"gpus": 0, "accelerator": 1}', "gpus": (0,), "accelerator": "tensorrt"},
        {"variant": None},
        {"measurement_mode": "count_windows", "measurement_interval_ms": 10},
        {"percentile": None, "request_count": 40, "success_count": 40, "inference_count": 320}
        | {"latency_p99_us": None},
    ],
)
def test_a_sound_row_is_valid(change: dict[str, Any]) -> None:
    table = with_validity(SOUND | change)
    assert table.select(COMPUTED).to_pylist() == [{"valid": True, "invalid_reasons": None}]


def test_a_row_may_be_invalid_for_several_reasons() -> None:
    both = SOUND | {"status": "unstable", "client_cpu_limited": True, "inference_count": 2402}
    assert reasons(SOUND, both) == [None, "BATCH, CLIENT, UNSETTLED"]
    assert [rule.code for rule in broken_rules("BATCH, OF_TOMORROW, UNSETTLED")] == [
        "BATCH",
        "UNSETTLED",
    ]


@pytest.mark.parametrize("status", [Status.FAILED, Status.TIMEOUT, Status.NOT_APPLICABLE])
def test_what_was_not_measured_is_neither_valid_nor_invalid(status: Status) -> None:
    table = with_validity(SOUND | {"status": status, "concurrency": 1})
    assert table.select(COMPUTED).to_pylist() == [{"valid": None, "invalid_reasons": None}]


@pytest.mark.parametrize("name", [name for name in INPUTS if name != "status"])
def test_a_column_that_is_missing_breaks_nothing(name: str) -> None:
    for row in (SOUND, SOUND | OPEN_LOOP):
        assert reasons({key: value for key, value in row.items() if key != name}) == [None]
        assert reasons(row | {name: None}) == [None]


def test_no_rows_are_no_problem() -> None:
    table = with_verdicts(SCHEMA.empty_table())
    assert (len(table), table.column_names[-2:]) == (0, list(COMPUTED))


# Rows that were really measured or printed

SAMPLE = """\
Request concurrency: 4
  Client:
    Request count: 415
    Throughput: 83 infer/sec
    Avg latency: 48064 usec (standard deviation 6412 usec)
    p50 latency: 47975 usec
    p90 latency: 56670 usec
    p95 latency: 59118 usec
    p99 latency: 63609 usec
    Avg HTTP time: 48166 usec (send/recv 264 usec + response wait 47902 usec)
  Server:
    Inference count: 498
    Execution count: 498
    Successful request count: 498
    Avg request latency: 45602 usec (overhead 39 usec + queue 33577 usec + compute input 217 usec \
+ compute infer 11753 usec + compute output 16 usec)
"""
"""What the page on SONIC's loop shows for `-b 100`, which was measured at batch size 1."""


def sample_record(batch_size: int) -> Record:
    asked = {"batch_size": batch_size, "concurrency": 4, "percentile": 95}
    found = parse_report(SAMPLE, percentile=95)
    return dataclasses.replace(record(1), **asked, **found)


def test_a_sample_with_the_wrong_batch_size_is_caught(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    results.create()
    store.write_point(results, sample_record(100))
    (said,) = load_results(results.folder)["invalid_reasons"]
    assert {"LITTLE", "BATCH"} <= set(said.split(", "))
    (said,) = reasons(vars(sample_record(1)))
    assert said is not None
    assert not {"LITTLE", "BATCH"} & set(said.split(", "))


HEADERS = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
    "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,"
    "p50 latency,p90 latency,p95 latency,p99 latency\n"
)


def test_an_imported_csv_is_checked_as_far_as_its_columns_go(tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    row = "4,{},264,2237,33577,217,11753,16,0,47975,56670,59118,63609\n"
    for batch, throughput in ((1, 83), (8, 664), (100, 83)):
        text = HEADERS + row.format(throughput)
        (tmp_path / "csv" / f"deeptau_batch{batch}.csv").write_text(text, encoding="utf-8")
    import_csv_folder(tmp_path / "csv", tmp_path / "results")
    frame = load_results(tmp_path / "results").set_index("batch_size")
    assert frame["valid"].to_dict() == {1: True, 8: True, 100: False}
    assert frame.loc[100, "invalid_reasons"] == "LITTLE"


@pytest.mark.parametrize("path", [DATA / "jet_tagger_0.1.0.parquet", DATA / "results_before"])
def test_rows_of_a_real_server_break_no_rule_but_that_some_did_not_settle(path: str) -> None:
    frame = load_results(path)
    settled = frame[frame["status"] == "ok"]
    assert len(settled)
    assert settled["valid"].all()
    unstable = frame[frame["status"] == "unstable"]
    assert unstable["invalid_reasons"].isin(["UNSETTLED", "UNSETTLED, FEW_REQUESTS"]).all()


def test_a_row_that_another_users_requests_disturbed_is_invalid() -> None:
    """Counts that perf_analyzer really printed, while somebody else sent requests of batch 1."""
    counts = {"request_count": 1817, "success_count": 2126, "inference_count": 6761}
    assert reasons(vars(record(1)) | {"batch_size": 4, "concurrency": 4} | counts) == [
        "BATCH, STRANGER"
    ]


def test_requests_of_a_burst_may_be_late_but_not_missing() -> None:
    replayed = OPEN_LOOP | {"request_distribution": "intervals", "delayed_requests_percent": 60.0}
    slow = {"send_request_rate": 300.0, "throughput_infer_per_s": 2400.0}
    assert reasons(SOUND | replayed, SOUND | replayed | slow) == [None, "OVERLOADED"]


def test_rows_of_an_overloaded_perf_analyzer_are_invalid() -> None:
    printed = (DATA / "perf_analyzer" / "rate_overload" / "stdout.txt").read_text(encoding="utf-8")
    found = parse_report(printed, percentile=None)
    row = vars(record(1)) | {"batch_size": 1, "concurrency": None, "request_rate": 5000.0} | found
    assert reasons(row) == ["OVERLOADED"]


# Reading


@pytest.mark.parametrize("categories", [False, True])
def test_a_verdict_alone_is_the_same_as_beside_all_columns(
    tmp_path: Path, categories: bool
) -> None:
    results = Results(tmp_path / "results")
    results.create()
    store.write_point(results, sample_record(100))
    store.write_point(results, record(2, status=Status.FAILED))
    whole = load_results(results.folder)
    alone = load_results(results.folder, list(reversed(COMPUTED)), categories=categories)
    assert list(alone.columns) == list(reversed(COMPUTED))
    assert alone["valid"].tolist() == whole["valid"].tolist()
    assert str(alone["valid"].dtype) == "boolean"
    assert alone["invalid_reasons"].dropna().tolist() == whole["invalid_reasons"].dropna().tolist()


def test_rules_read_columns_that_there_are() -> None:
    assert set(INPUTS) <= set(SCHEMA.names)


# The page


def test_the_page_of_rules_has_each_code_with_its_meaning() -> None:
    page = " ".join((CHECKOUT / "docs" / "validity.md").read_text(encoding="utf-8").split())
    for rule in RULES:
        assert f"| `{rule.code}` | {rule.meaning} |" in page


def test_the_page_of_rules_has_their_limits() -> None:
    page = (CHECKOUT / "docs" / "validity.md").read_text(encoding="utf-8")
    for text in (
        f"{rules.LITTLE_TOLERANCE:.0%}",
        f"{rules.TURNAROUND_US:.0f} µs",
        f"{rule_columns.LEAST_RATE_SENT:.0%}",
        f"{rules.MOST_DELAYED_PERCENT:.0f}%",
        f"{rules.STRANGER_MARGIN:.0%}",
        f"{rules.MOST_CLIENT_OVERHEAD_PERCENT:.0f}%",
    ):
        assert text.replace("%", " %") in page
