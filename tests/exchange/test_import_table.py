"""A table that somebody published becomes records, in the units of the columns."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from hpcbench import load_results
from hpcbench.cli.main import main
from hpcbench.exchange.import_table import Publication, read_published
from hpcbench.exchange.origin import parse_column
from hpcbench.records.columns import Record
from tests.helpers.builders import refusal

README = """
# Results
#### Offline: NVIDIA A30, ONNX Runtime

| Parameter Name | Parameter Value |
|:---|:---|
| GPU | NVIDIA A30 |
| Number of model instances | 1 |

| Batch | Concurrency | Inferences/Second | Client Send | p99 latency (ms) | Avg latency (ms) | X |
|---:|---:|---:|---:|---:|---:|--:|
| 1 | 1 | 102.0 | 0.0 | 9.8 | 9.7 | 2 |
| 16 | 1 | 1,130.7 | - | 14.9 | 14.1 | 2 |

#### Offline: Tesla T4

| GPU | Tesla T4 |
|:---|:---|
| GPU | Tesla T4 |

| Batch | Concurrency | Inferences/Second | p99 latency (ms) | avg latency (ms) |
|---:|---:|---:|---:|---:|
| 1 | 1 | 51.0 | 20.1 | 19.6 |
| 8 | 1 | 51.0 | 20.1 | 19.6 |
"""
"""In the form of NVIDIA's READMEs; the last row cannot be true."""

PUBLICATION = Publication(
    source="https://example.org/readme",
    date=datetime(2022, 3, 1, tzinfo=UTC),
    columns={"model": "net"},
    headers={
        "gpu_name": "GPU",
        "variant_name": "heading",
        "instance_count": "Number of model instances",
    },
)


def publication(**changed: object) -> Publication:
    return Publication(**{**vars(PUBLICATION), **changed})


def test_a_readme_becomes_rows_with_units_source_and_date(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(README)
    options = ["--source", PUBLICATION.source, "--date", "2022-03-01", "--set", "model=net"]
    options += [f"--map={column}={header}" for column, header in PUBLICATION.headers.items()]
    into = ["--results", str(tmp_path / "results")]
    for _ in range(2):
        command = ["import-table", str(tmp_path / "README.md"), *into, *options]
        ended = CliRunner().invoke(main, command)
        assert ended.exit_code == 0, ended.output
    assert "4 rows" in ended.output
    assert "left out: the column 'X'" in ended.output
    assert "README.md line 21: LITTLE in 1 of 2 rows; throughput x latency" in ended.output
    frame = load_results(tmp_path / "results")
    assert len(frame) == 4
    row = frame[(frame["gpu_name"] == "NVIDIA A30") & (frame["batch_size"] == 16)].iloc[0]
    assert (row["throughput_infer_per_s"], row["instance_count"]) == (1130.7, 1)
    assert row["latency_p99_us"] == pytest.approx(14900)
    assert pd.isna(row["client_send_us"])
    assert row["variant_name"] == "Offline: NVIDIA A30, ONNX Runtime"
    assert (row["source"], row["ended_at"].year) == (PUBLICATION.source, 2022)
    assert frame["valid"].tolist().count(False) == 1


def test_a_spreadsheet_is_one_table_with_headers_of_ones_own() -> None:
    text = "B,qps,Latency p99,Memory (GiB)\n4,400,20,1.5\n"
    headers = {
        "batch_size": "B",
        "throughput_infer_per_s": "qps",
        "latency_p99_us": "Latency p99",
        "gpu_memory_max_bytes": "Memory",
    }
    (record,) = read_published(text, "a.csv", publication(headers=headers, time_unit="ms")).records
    assert (record.batch_size, record.throughput_infer_per_s) == (4, 400)
    assert (record.latency_p99_us, record.gpu_memory_max_bytes) == (20000, 1610612736)
    assert record.concurrency is None


def test_rows_that_nothing_distinguishes_are_refused() -> None:
    message = refusal(read_published, README, "README.md", publication(headers={}))
    assert "line 21, row 1 and README.md line 10, row 1 are about the same point" in message
    (first, _) = read_published(README, "README.md", publication(headers={}, tables=(1,))).records
    assert first.throughput_infer_per_s == 102


WITHOUT_UNITS = """
### Offline scenario

| Parameter Name | Parameter Value |
|:---|:---|
| Max Batch Size | 128 |

```bash
# a comment is no heading
docker run net | tee log
```

#### Offline: NVIDIA A40

 * **GPU:** NVIDIA A40
 * **Precision:** FP16

| **Backend**  Accelerator | Client Batch Size | Inferences/second | P99 Latency | Avg Latency |
|:---|---:|---:|---:|---:|
| TensorRT | 1 | 491.5 | 2.126 | 2.031 |
|| 128 | 1.9k | 69.789 | 67.889 |

#### Offline: NVIDIA T4

 * **GPU:** NVIDIA T4

| Backend Accelerator | Client Batch Size | Inferences/second | P99 Latency | Avg Latency |
|:---|---:|---:|---:|---:|
| TensorRT | 1 | 332.4 | 3.189 | 3.003 |

### Online scenario

#### Online: NVIDIA A40

* **GPU:** NVIDIA A40

| Concurrent client requests | Inferences/second | P99 Latency | Avg Latency |
|---:|---:|---:|---:|
| 16 | 2543.7 | 8.1 | 6.3 |
"""
"""In the form of NVIDIA's older READMEs: facts above several tables, and no units."""

FACTS = {
    "gpu_name": "GPU",
    "variant_name": "Backend Accelerator",
    "max_batch_size": "Max Batch Size",
}


def test_what_stands_above_several_tables_is_so_for_each_of_them() -> None:
    given = publication(headers=FACTS, time_unit="ms")
    found = read_published(WITHOUT_UNITS, "README.md", given)
    first, second, third = found.records
    assert [each.gpu_name for each in found.records] == ["NVIDIA A40", "NVIDIA A40", "NVIDIA T4"]
    assert {each.max_batch_size for each in found.records} == {128}
    assert (first.variant_name, first.latency_p99_us) == ("TensorRT", pytest.approx(2126))
    # The first cell of this row is empty, and the throughput is short for 1,900.
    assert (second.variant_name, second.batch_size) == (None, 128)
    assert (second.throughput_infer_per_s, third.throughput_infer_per_s) == (1900, 332.4)
    assert found.skipped == {
        "README.md line 37": "has no batch_size: --map batch_size=HEADER, or --set batch_size=VALUE"
    }


def test_what_is_so_for_some_tables_only_is_not_set_for_the_others() -> None:
    columns = {"model": "net", "batch_size": 1}
    given = publication(headers=FACTS, time_unit="ms", columns=columns)
    message = refusal(read_published, WITHOUT_UNITS, "README.md", given)
    assert "line 18: Client Batch Size says 128, and --set batch_size=1" in message
    assert "by themselves: --table N" in message
    given = publication(headers=FACTS, time_unit="ms", columns=columns, tables=(3,))
    (record,) = read_published(WITHOUT_UNITS, "README.md", given).records
    assert (record.batch_size, record.concurrency, record.gpu_name) == (1, 16, "NVIDIA A40")
    given = publication(headers=FACTS, tables=(7,))
    message = refusal(read_published, WITHOUT_UNITS, "README.md", given)
    assert "--table 7: 2 tables can be imported" in message


@pytest.mark.parametrize(
    ("text", "changed", "reason"),
    [
        ("a,b\n1,2\n", {}, "no table has a throughput and a batch size; headers: a, b"),
        ("", {}, "headers: none"),
        ("Batch,Inferences/Second\n1,2\n", {"columns": {}}, "does not name the model"),
        ("Batch,Inferences/Second\n1,fast\n", {}, "'fast' is no number"),
        (
            "Batch,Inferences/Second,p99 latency (weeks)\n1,2,3\n",
            {},
            "the unit weeks is not known for latency_p99_us",
        ),
        ("Batch,Inferences/Second\n1,2\n", {"headers": {"latency": "x"}}, "is no column"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(
    text: str, changed: dict[str, object], reason: str
) -> None:
    given = publication(**{"headers": {}, **changed})
    assert reason in refusal(read_published, text, "a.csv", given)


def one_row(header: str, cell: str, **changed: object) -> Record:
    """The record of a table with one metric more than it needs."""
    text = f'Batch,Inferences/Second,{header}\n1,100,"{cell}"\n'
    given = publication(**{"headers": {}, **changed})
    (record,) = read_published(text, "a.csv", given).records
    return record


@pytest.mark.parametrize("cell", ["100,5", "1.234,5", "1,23", "12,34,567", "1_000", "inf", "1e400"])
def test_a_number_that_may_mean_another_one_is_refused(cell: str) -> None:
    message = refusal(one_row, "p99 latency", cell)
    assert f"a.csv, row 1: p99 latency: {cell!r} is no number" in message or "finite" in message


def test_commas_between_thousands_are_no_part_of_a_number() -> None:
    assert one_row("p99 latency", "1,234,567.5").latency_p99_us == 1234567.5
    assert one_row("p99 latency", "1234.5").latency_p99_us == 1234.5


@pytest.mark.parametrize(
    ("header", "cell", "must"),
    [
        ("Concurrency", "0.3", "concurrency must be a whole number from 1 to 999999999"),
        ("Concurrency", "0", "concurrency must be a whole number from 1"),
        ("Concurrency", "9" * 23, "concurrency must be a whole number from 1"),
        ("p99 latency", "-3", "latency_p99_us must be 0 or more"),
        ("p99 latency", "1e400", "latency_p99_us must be finite"),
    ],
)
def test_a_cell_that_cannot_be_true_is_refused(header: str, cell: str, must: str) -> None:
    assert f"a.csv, row 1: {header}: {must}" in refusal(one_row, header, cell)


@pytest.mark.parametrize(
    ("header", "unit", "expected"),
    [
        ("p99 latency ms", None, 12500),
        ("p99_ms", None, 12500),
        ("p99 s", None, 12.5e6),
        ("p99 latency, ms, FP16", "us", 12500),
        ("latency_p99_us", "ms", 12.5),
        ("p99 latency [us]", "ms", 12.5),
        ("tails", "ms", 12500),
        ("tails", None, 12.5),
    ],
)
def test_the_unit_of_a_time_needs_no_parentheses(
    header: str, unit: str | None, expected: float
) -> None:
    text = f'Batch,Inferences/Second,"{header}"\n1,100,12.5\n'
    given = publication(headers={"latency_p99_us": header}, time_unit=unit)
    (record,) = read_published(text, "a.csv", given).records
    assert record.latency_p99_us == pytest.approx(expected)


def test_a_share_in_percent_is_one_whatever_its_header_says() -> None:
    headers = {"gpu_utilization_avg": "busy"}
    assert one_row("busy", "50%", headers=headers).gpu_utilization_avg == 0.5
    assert one_row("busy", "0.5", headers=headers).gpu_utilization_avg == 0.5


def test_headers_that_are_twice_there_or_nowhere_are_refused() -> None:
    text = "Batch,Inferences/Second,Inferences/Second\n1,2,3\n"
    message = refusal(read_published, text, "a.csv", publication(headers={}))
    assert "a.csv: Inferences/Second: stands there 2 times" in message
    given = publication(headers={"latency_p99_us": "p99 latncy"})
    text = "Batch,Inferences/Second,p99 latency\n1,2,3\n"
    message = refusal(read_published, text, "a.csv", given)
    assert "--map latency_p99_us=p99 latncy: no table has this header" in message
    assert "p99 latency" in message


def test_a_field_that_is_too_long_is_a_message() -> None:
    text = f"Batch,Inferences/Second\n1,{'9' * 200_000}\n"
    assert "a.csv: is not a CSV file" in refusal(read_published, text, "a.csv", PUBLICATION)


@pytest.mark.parametrize("given", ["batch_size=0", "latency_p99_us=-1", "latency_p99_us=inf"])
def test_what_cannot_be_true_of_all_rows_is_not_set(given: str) -> None:
    message = refusal(parse_column, *given.split("="))
    assert given.partition("=")[0] in message
    assert "must be" in message
    assert "is empty" in refusal(parse_column, "model", "")
