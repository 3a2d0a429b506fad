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
    assert reason in refusal(read_published, text, "a.csv", publication(**changed))
