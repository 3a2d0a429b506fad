"""The table of columns, and what comes back from the disk."""

from __future__ import annotations

import csv
import re
import tempfile
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcbench.analysis.summary.configuration import CONFIGURATION
from hpcbench.records.columns import (
    COLUMNS,
    FINAL,
    MEASURED,
    SCHEMA,
    SCHEMA_VERSION,
    Record,
    Status,
    names_with,
)
from hpcbench.records.roles import SEPARATING, Role
from hpcbench.records.store import write_records
from tests.helpers.builders import PRINTED, record

UNITS = {
    "_us": "us",
    "_ms": "ms",
    "_s": "s",
    "_j": "J",
    "_w": "W",
    "_bytes": "B",
    "_percent": "%",
    "_percentage": "%",
    "_infer_per_s": "infer/s",
}
PROMISED = """point_id, campaign, site, pool, node, repeat, model, model_label, batch_size,
concurrency, request_rate, instance_count, preferred_batch_size, max_queue_delay_us, accelerator,
status, reason, throughput_infer_per_s, latency_avg_us, latency_p50_us, latency_p90_us,
latency_p95_us, latency_p99_us, client_send_us, network_us, server_queue_us,
server_compute_input_us, server_compute_infer_us, server_compute_output_us, client_recv_us,
gpu_name, server_image_digest, sdk_image_digest, started_at, ended_at, hpcbench_version"""


def test_the_columns_that_others_rely_on_are_there() -> None:
    assert set(re.split(r",\s+", PROMISED)) <= {column.name for column in COLUMNS}


def test_every_column_says_what_it_means() -> None:
    assert [c.name for c in COLUMNS if len(c.meaning) < 3] == []
    assert [column.name for column in COLUMNS] == [entry.name for entry in fields(Record)]


def test_a_column_named_after_a_unit_has_that_unit() -> None:
    for column in COLUMNS:
        suffixes = [suffix for suffix in UNITS if column.name.endswith(suffix)]
        if suffixes and not column.name.endswith(("throughput_per_s", "_infer_per_s")):
            assert column.unit == UNITS[max(suffixes, key=len)], column.name
        if column.name.endswith("_infer_per_s"):
            assert column.unit == "infer/s"


def test_every_number_has_a_unit() -> None:
    """Those without one are identifiers: a repeat, a version, an exit code."""
    bare = {
        column.name
        for column in COLUMNS
        if not column.unit
        and (
            pa.types.is_integer(column.type)
            or pa.types.is_floating(column.type)
            or pa.types.is_list(column.type)
        )
    }
    assert bare == {"repeat", "model_version", "exit_code", "capacity_step", "arrivals_seed"}


def test_no_two_columns_share_a_header() -> None:
    headers = [column.header for column in COLUMNS if column.header]
    assert len(headers) == len(set(headers))


@pytest.mark.parametrize("path", sorted(PRINTED.glob("*/result.csv")), ids=lambda p: p.parent.name)
def test_every_header_that_perf_analyzer_prints_has_its_column(path: Path) -> None:
    known = {column.header for column in COLUMNS}
    printed = next(csv.reader(path.read_text().splitlines()))
    assert {header for header in printed if header not in known} <= {"p75 latency"}


def test_the_schema_says_unit_and_meaning_on_the_disk(tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", [record()])
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.names == SCHEMA.names
    metadata = schema.field("energy_j_per_infer").metadata
    assert metadata[b"unit"] == b"J"
    assert metadata[b"meaning"]
    assert schema.metadata[b"hpcbench_schema"] == str(SCHEMA_VERSION).encode()


def test_times_are_times_and_counts_are_counts() -> None:
    assert SCHEMA.field("started_at").type == pa.timestamp("us", tz="UTC")
    assert SCHEMA.field("batch_size").type == pa.int64()
    assert SCHEMA.field("dynamic_batching").type == pa.bool_()
    assert SCHEMA.field("preferred_batch_size").type == pa.list_(pa.int64())


def test_the_words_for_how_a_point_ended_are_those_of_the_contract() -> None:
    assert {str(s) for s in Status} == {"ok", "unstable", "failed", "timeout", "not_applicable"}
    assert {"ok", "unstable"} == MEASURED
    assert {"ok", "unstable", "not_applicable"} == FINAL


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        record().status = Status.OK  # type: ignore[misc]


def test_what_names_a_measurement_is_point_pool_and_repeat() -> None:
    found = record(3, pool="gpu", repeat=2)
    assert found.key == (found.point_id, "gpu", 2)


EPOCH = datetime.fromisoformat("1970-01-01")
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text(st.characters(codec="utf-8")),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.timestamp("us", tz="UTC"): st.datetimes(
        EPOCH, EPOCH.replace(year=2200), timezones=st.just(UTC)
    ),
    pa.list_(pa.int64()): st.lists(st.integers(0, 512), max_size=4).map(tuple),
    pa.list_(pa.float64()): st.lists(st.floats(allow_nan=False), max_size=4).map(tuple),
}
REQUIRED = {entry.name for entry in fields(Record) if entry.default is not None and entry.metadata}


@st.composite
def records(draw: st.DrawFn) -> Record:
    drawn = {}
    for column in COLUMNS:
        value = VALUES[column.type]
        drawn[column.name] = draw(value if column.name in REQUIRED else st.none() | value)
    return Record(**drawn)


def read_back(written: list[Record]) -> list[Record]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        write_records(path, written)
        rows = pq.read_table(path).to_pylist()
    return [
        Record(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
        for row in rows
    ]


@settings(max_examples=30)
@given(written=st.lists(records(), max_size=3))
def test_what_is_written_comes_back_as_it_was(written: list[Record]) -> None:
    """None stays None, tuples keep their order, times keep their microseconds."""
    assert read_back(written) == written


def test_an_empty_record_has_nothing_but_what_names_it() -> None:
    (found,) = read_back([record()])
    assert {name for name, value in vars(found).items() if value is not None} == {
        name for name, value in vars(record()).items() if value is not None
    }
    assert found.gpu_count is None
    assert found.preferred_batch_size is None
    assert found.reason is None


def test_an_empty_list_is_not_a_missing_one() -> None:
    (found,) = read_back([record(preferred_batch_size=())])
    assert found.preferred_batch_size == ()


def test_a_time_of_another_zone_is_the_same_time() -> None:
    noon = datetime(2026, 1, 1, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    (found,) = read_back([record(started_at=noon)])
    assert found.started_at == noon
    assert found.started_at is not None
    assert found.started_at.utcoffset() == timedelta(0)


def test_a_metric_of_the_wrong_type_is_refused() -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        read_back([record(node=3)])
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        read_back([record(request_count="3")])


SEPARATING_COLUMNS = """accelerator, asynchronous, batch_size, beside,
capacity_max_latency_p99_ms, capacity_within, compression, concurrency,
cpu_count, cpu_name, cuda_graphs, default_priority_level, default_queue_policy, dynamic_batching,
gpu_count, gpu_driver, gpu_name, gpus, graph_level, input_data, instance_count, instance_kind,
max_batch_size, max_queue_delay_us, max_threads, max_trials, measurement_interval_ms,
measurement_mode, measurement_request_count, model, model_digest, model_label, model_version,
output_shared_memory_bytes, percentile, perf_analyzer_version, pool, preferred_batch_size,
preserve_ordering, priority_levels, protocol, rate_limiter, request_distribution,
request_intervals_digest, request_rate,
response_cache, runtime, sdk_image_digest, server_flags, server_image_digest, shapes, shapes_name,
shared_memory, site, stability_percentage, stop_max_s, stop_precision, streaming, string_data,
string_length, triton_version, variant, variant_name"""


def test_these_columns_and_no_others_separate_configurations() -> None:
    assert sorted(names_with(*SEPARATING)) == re.split(r",\s+", SEPARATING_COLUMNS)
    assert set(CONFIGURATION) == set(names_with(*SEPARATING))
    assert len(CONFIGURATION) == len(set(CONFIGURATION))


def test_what_has_a_unit_separates_nothing_unless_it_was_asked_for_or_resolved() -> None:
    asked = {Role.LOAD, Role.CALL, Role.WINDOW, Role.RESOLVED, Role.HARDWARE}
    described = {Role.METRIC, Role.PROVENANCE}
    assert {column.role for column in COLUMNS if column.unit} <= asked | described


def test_every_metric_is_a_number_with_a_unit() -> None:
    metrics = [column for column in COLUMNS if column.role is Role.METRIC]
    assert [column.name for column in metrics if not column.unit] == []
