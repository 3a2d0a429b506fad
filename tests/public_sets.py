"""Imports what others published, and compares every cell with its file.

    python -m tests.public_sets [OWNER/NAME=PLACE ...]

Each repository of `SETS` is cloned into a temporary folder, from GitHub or from PLACE, a clone or a
bare repository. What is compared is read here with csv and re: nothing of it is the importer's.
Prints a table, then what was refused and why. Exits with 1 if a cell is wrong or lost.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from hpcbench import load_results
from hpcbench.errors import BadInput
from hpcbench.exchange.import_csv import CsvImport, import_csv_folder
from hpcbench.exchange.import_table import Publication, import_table
from hpcbench.exchange.origin import Origin
from hpcbench.records.validity import broken_rules

MS = 1e3
"""Microseconds."""

PERF: Mapping[str, str] = {
    "concurrency": "concurrency",
    "request rate": "request_rate",
    "inferences/second": "throughput_infer_per_s",
    "client send": "client_send_us",
    "network+server send/recv": "network_us",
    "server queue": "server_queue_us",
    "server compute": "server_compute_us",
    "server compute input": "server_compute_input_us",
    "server compute infer": "server_compute_infer_us",
    "server compute output": "server_compute_output_us",
    "client recv": "client_recv_us",
    **{f"p{p} latency": f"latency_p{p}_us" for p in (50, 90, 95, 99)},
    "avg latency": "latency_avg_us",
}
"""The columns of perf_analyzer's headers, in small letters, in its own units."""


@dataclass(frozen=True)
class Row:
    """A row as its file says it: what finds its record, and the values that this should have."""

    key: Mapping[str, Any]
    cells: Mapping[str, Any]
    left_out: int = 0
    """Cells that the documentation says are left out, or that the import named."""


@dataclass
class Count:
    """What a set has, and how much of it arrived."""

    files: int = 0
    records: int = 0
    cells: int = 0
    wrong: int = 0
    lost: int = 0
    left_out: int = 0
    impossible: int = 0
    refused: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)

    def add(self, frame: pd.DataFrame, rows: Sequence[Row], where: str) -> None:
        """Count the cells of rows that a frame should have, and its rows that cannot be true."""
        records = frame.to_dict("records")
        found: set[int] = set()
        for row in rows:
            self.cells += len(row.cells)
            self.left_out += row.left_out
            place = _record_of(row, records)
            if place is None:
                self.lost += len(row.cells)
                self.faults.append(f"{where}: no record of {_shown(row)}")
                continue
            found.add(place)
            self._compare(row, records[place], where)
        for place in sorted({*range(len(records))} - found):
            self.wrong += 1
            self.faults.append(f"{where}: a record of nothing: {records[place]['model']}")
        self.records += len(records)
        self.impossible += int((~frame["valid"].astype(bool)).sum())
        for reasons in frame["invalid_reasons"].dropna():
            self.rules.update(rule.code for rule in broken_rules(reasons))

    def _compare(self, row: Row, record: Mapping[Any, Any], where: str) -> None:
        for column, expected in row.cells.items():
            there = record.get(column)
            if _is_missing(there):
                self.lost += 1
                self.faults.append(f"{where}: {_shown(row)}: {column} is missing, not {expected}")
            elif not _is_same(there, expected):
                self.wrong += 1
                self.faults.append(f"{where}: {_shown(row)}: {column} is {there}, not {expected}")


def _shown(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.key.items() if not callable(value)}


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or value != value


def _is_same(found: Any, expected: Any) -> bool:
    if _is_missing(found) or isinstance(expected, str) or isinstance(found, str):
        return bool(not _is_missing(found) and found == expected)
    # A printed report has whole numbers where the CSV beside it has more digits.
    tolerance = 0.5 if isinstance(expected, Rounded) else 1e-6
    return math.isclose(float(found), float(expected), rel_tol=1e-9, abs_tol=tolerance)


class Rounded(float):
    """A number that was printed without its digits."""


def _record_of(row: Row, records: Sequence[Mapping[Any, Any]]) -> int | None:
    """Return which record has the key of a row; of several, which agrees in most cells."""
    agree = {
        place: sum(_is_same(record.get(name), value) for name, value in row.cells.items())
        for place, record in enumerate(records)
        if all(_matches(record[name], wanted) for name, wanted in row.key.items())
    }
    return max(agree, key=agree.__getitem__) if agree else None


def _matches(found: Any, wanted: Any) -> bool:
    if callable(wanted):
        return not _is_missing(found) and bool(wanted(found))
    return _is_missing(found) if wanted is None else not _is_missing(found) and found == wanted


def number(text: str) -> float | None:
    """Return the number in a cell of a table; None where it has none."""
    text = text.strip().replace(",", "").strip("*")
    factor = {"k": 1e3, "M": 1e6}.get(text[-1:], 1.0)
    with contextlib.suppress(ValueError):
        return float(text[:-1] if factor > 1 else text) * factor
    return None


# Files of perf_analyzer


def perf_rows(path: Path, key: Mapping[str, Any]) -> Iterator[Row]:
    """Read a CSV file of perf_analyzer."""
    with path.open(newline="") as lines:
        for line in csv.DictReader(lines):
            cells = {PERF[h.lower()]: float(text) for h, text in line.items() if text}
            yield Row({**key, "concurrency": cells["concurrency"]}, {**key, **cells})


REPORT: Mapping[str, str] = {
    "request_count": r"Client: \n    Request count: (\d+)",
    "throughput_infer_per_s": r"    Throughput: ([\d.]+) infer/sec",
    **{f"latency_p{p}_us": rf"    p{p} latency: (\d+) usec" for p in (50, 90, 95, 99)},
    "latency_avg_us": r"Avg (?:gRPC|HTTP) time: (\d+) usec",
    "client_send_us": r"\((?:send|marshal) (\d+) usec",
    "client_response_wait_us": r"response wait (\d+) usec",
    "client_recv_us": r"(?:receive|unmarshal) (\d+) usec\)",
    "server_request_us": r"Avg request latency: (\d+) usec",
    "server_overhead_us": r"\(overhead (\d+) usec",
    "server_queue_us": r"queue (\d+) usec",
    "server_compute_us": r"compute (\d+) usec\)",
}
"""Where the numbers stand in what perf_client printed in 2019."""


def report_rows(path: Path, key: Mapping[str, Any]) -> Iterator[Row]:
    """Read what perf_client printed, load by load."""
    head, *loads = re.split(r"^Request concurrency: ", path.read_text(), flags=re.MULTILINE)
    settings = {
        "batch_size": float(re.findall(r"Batch size: (\d+)", head)[0]),
        "measurement_interval_ms": float(re.findall(r"window: (\d+) msec", head)[0]),
        "percentile": float(re.findall(r"Stabilizing using p(\d+)", head)[0]),
    }
    for text in loads:
        found = {name: re.findall(pattern, text) for name, pattern in REPORT.items()}
        cells = {name: Rounded(values[0]) for name, values in found.items() if values}
        near = cells["throughput_infer_per_s"]
        yield Row(
            {
                **key,
                "concurrency": float(text.split()[0]),
                "throughput_infer_per_s": lambda value, near=near: abs(value - near) <= 0.5,
            },
            {**settings, **cells},
            # The server's count is of more windows than the client's; the two others are limits
            # of the search.
            left_out=3,
        )


def compare_gke(folder: Path, results: Path, count: Count) -> None:
    """BERT on CPUs and a T4: no name has the batch size, which is 2 in perf_query.sh there."""
    top = folder / "deploy/gke-marketplace-app/benchmark/perf"
    origin = Origin(name="{model}", columns={"batch_size": 2}, percentile=95)
    found = import_csv_folder(top, results, origin)
    paths = sorted(top.glob("*.csv"))
    rows = [row for path in paths for row in perf_rows(path, {"model": path.stem})]
    _count(count, found, top, len(paths))
    count.add(load_results(results), rows, "GKE")


def compare_baseline(folder: Path, results: Path, count: Count) -> None:
    """perf_client of 2019: CSV files with `Server Compute`, and the report of each beside it."""
    top = folder / "qa/L0_perf_nomodel/baseline"
    form = "{triton_version}/*_{protocol}/{model}_sbatch{batch_size}_instance{instance_count}"
    found = import_csv_folder(top, results, Origin(name=form))
    paths = [path for path in sorted(top.rglob("*")) if path.suffix in (".csv", ".log")]
    rows: list[Row] = []
    for path in paths:
        model, batch, instances = re.findall(r"(\w+)_sbatch(\d+)_instance(\d+)", path.stem)[0]
        key = {
            "pool": path.parent.relative_to(top).as_posix(),
            "triton_version": path.parent.parent.name,
            "protocol": path.parent.name.rpartition("_")[2],
            "model": model,
            "batch_size": int(batch),
            "instance_count": int(instances),
        }
        rows += (perf_rows if path.suffix == ".csv" else report_rows)(path, key)
    _count(count, found, top, len(paths))
    count.add(load_results(results), rows, "baseline")


def _count(count: Count, found: CsvImport, top: Path, files: int) -> None:
    count.files += files
    for path, reason in found.skipped.items():
        count.refused.append(f"{path.relative_to(top)}: {reason}")
    for header in found.unread:
        count.refused.append(f"the column {header!r}: not known")


# Tables of Model Analyzer


def compare_analyzer(folder: Path, results: Path, count: Count) -> None:
    """Tables of one model, several, an ensemble, a BLS model, and of request rates."""
    top = folder / "tests/common"
    found = import_csv_folder(top, results, Origin())
    rows = [row for each in sorted(top.glob("*-ckpt")) for row in analyzer_rows(each, found)]
    _count(count, found, top, len(sorted(top.rglob("*.csv"))))
    count.add(load_results(results), rows, "Model Analyzer")


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return [line for line in csv.DictReader(lines) if line["Model"]]


def analyzer_rows(folder: Path, found: CsvImport) -> Iterator[Row]:
    """Read the three tables of a folder."""
    inferences, gpus, alone = (
        _lines(folder / f"golden-metrics-{name}.csv")
        for name in ("model-inference", "model-gpu", "server-only")
    )
    is_joined = not any(path.parent == folder for path in found.skipped if "gpu" in path.name)
    naming = ("Model", "Batch", "Concurrency", "Request Rate", "Model Config Path")
    by_name = {tuple(line.get(name) for name in naming): line for line in gpus}
    for line in inferences:
        gpu = by_name.get(tuple(line.get(name) for name in naming)) if is_joined else None
        several = "[" in line["Throughput (infer/sec)"]
        models = len(line["Model"].split(",")) if several else 1
        for place in range(models):
            own = {name: _own(text, place, models) for name, text in line.items()}
            yield _analyzer_row(own, gpu, alone[0], models)


def _own(text: str, place: int, models: int) -> str:
    inside = re.findall(r"\[(.*)\]", text)
    parts = (inside[0] if inside else text).split(",")
    return parts[place].strip() if models > 1 and len(parts) == models else text


def _analyzer_row(
    line: Mapping[str, str], gpu: Mapping[str, str] | None, alone: Mapping[str, str], models: int
) -> Row:
    rate, concurrency = line.get("Request Rate"), line.get("Concurrency")
    name, left_out = line["Model Config Path"], 1  # Satisfies Constraints
    key = {
        "model": line["Model"],
        "batch_size": int(line["Batch"]),
        "concurrency": int(concurrency) if concurrency else None,
        "request_rate": float(rate) if rate else None,
        "variant_name": lambda text: text == name or text.startswith(f"{name}, other "),
    }
    cells: dict[str, Any] = {
        "throughput_infer_per_s": float(line["Throughput (infer/sec)"]),
        "latency_p99_us": float(line["p99 Latency (ms)"]) * MS,
        "idle_power_w": float(alone["GPU Power Usage (W)"]),
        **{column: value for column, value in key.items() if column == "batch_size"},
    }
    group, most = line["Instance Group"], line["Max Batch Size"]
    if "," in group:
        # Of the models that an ensemble calls.
        left_out += 2
    else:
        count, kind = group.split(":")
        cells |= {"instance_count": int(count), "instance_kind": f"KIND_{kind}"}
        cells |= {"max_batch_size": int(most)}
    if gpu is not None:
        cells |= {
            "gpu_uuid": gpu["GPU UUID"],
            "gpu_utilization_avg": float(gpu["GPU Utilization (%)"]) / 100,
            "gpu_power_avg_w": float(gpu["GPU Power Usage (W)"]),
        }
        if models == 1:
            cells["gpu_memory_max_bytes"] = float(gpu["GPU Memory Usage (MB)"]) * 1e6
        left_out += models > 1
    return Row(key, cells, left_out)


# Tables of READMEs


@dataclass(frozen=True)
class Reading:
    """How a README is imported: the options of one `hpcbench import-table`."""

    headers: Mapping[str, str]
    """The header of each column, without its unit, beside those of perf_analyzer."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    time_unit: str | None = None
    tables: tuple[int, ...] = ()


_NAMED = {
    "gpu_name": "GPU",
    "variant_name": "heading",
    "instance_count": "Number of model instances",
}
WITH_UNITS = (Reading(_NAMED | {"max_batch_size": "Max batch size"}),)


_SAID_ABOVE = _NAMED | {"max_batch_size": "Max Batch Size"}


def _without_units(
    offline: int, online: int, headers: Mapping[str, str] = _SAID_ABOVE
) -> tuple[Reading, ...]:
    """Tables of batch sizes, then others of single requests, all in milliseconds."""
    after = tuple(range(offline + 1, offline + online + 1))
    return (
        Reading(headers, {}, "ms", tuple(range(1, offline + 1))),
        Reading(headers, {"batch_size": 1}, "ms", after),
    )


_RESNEXT = {
    "concurrency": "Concurrent requests",
    "throughput_infer_per_s": "Throughput",
    "latency_avg_us": "Avg. Latency",
    **{f"latency_p{p}_us": f"{p}% Latency" for p in (90, 95, 99)},
}
_DLRM = {
    "batch_size": "Batch Size",
    "throughput_infer_per_s": "Throughput",
    "latency_p50_us": "Median Latency",
    "latency_avg_us": "Avg Latency",
    **{f"latency_p{p}_us": f"{p}% latency" for p in (95, 99)},
}
_JASPER = {"batch_size": "Batch Size", "variant_name": "Audio length in seconds"}

READINGS: Mapping[str, tuple[Reading, ...]] = {
    "ConvNets/triton/resnet50": _without_units(4, 4),
    "TensorFlow/Classification/ConvNets/triton": _without_units(4, 4),
    # What it says of instances stands under a heading of its own, above no table.
    "nnUNet": _without_units(8, 8, {"gpu_name": "GPU", "variant_name": "heading"}),
    "FastPitch": _without_units(8, 8),
    "resnext101-32x4d": tuple(
        Reading(_RESNEXT, {"batch_size": 1}, tables=(table,)) for table in (1, 2)
    ),
    "DLRM": tuple(Reading(_DLRM, tables=(table,)) for table in (1, 2, 3)),
    "Jasper": tuple(
        Reading(_JASPER | {"throughput_infer_per_s": name}, tables=(1,))
        for name in ("TensorRT", "PyTorch", "ONNXRT-CUDA")
    ),
}
"""By a part of a README's path; the last that is in it counts."""


def compare_readmes(folder: Path, results: Path, count: Count) -> None:
    """NVIDIA's tables on A30, A40, T4, V100 and A100."""
    for path in sorted(folder.rglob("README.md")):
        where = path.parent.relative_to(folder).as_posix()
        readings = [found for part, found in READINGS.items() if part in where]
        count.files += 1
        for place, reading in enumerate(readings[-1] if readings else WITH_UNITS):
            into = results / where.replace("/", "_") / str(place)
            _compare_readme(path, into, count, reading, where)


def publication(path: Path, reading: Reading) -> Publication:
    """Return the options of `hpcbench import-table`."""
    return Publication(
        source="https://github.com/NVIDIA/DeepLearningExamples",
        date=datetime(2024, 4, 4, tzinfo=UTC),
        columns={"model": path.parent.name, **reading.columns},
        headers=reading.headers,
        time_unit=reading.time_unit,
        tables=reading.tables,
    )


def _compare_readme(path: Path, into: Path, count: Count, reading: Reading, where: str) -> None:
    try:
        found = import_table(path, into, publication(path, reading))
    except BadInput as error:
        count.refused.append(f"{where}: {error.message}")
        return
    count.refused += [f"{where}: {place}: {reason}" for place, reason in found.skipped.items()]
    rows = list(readme_rows(path.read_text(), reading, found.unread))
    count.add(load_results(into), rows, where)


def readme_rows(text: str, reading: Reading, named: Sequence[str]) -> Iterator[Row]:
    """Read the tables that a reading takes, with what stands above them under the same heading."""
    columns = {**PERF, "batch": "batch_size", "client batch size": "batch_size"}
    columns |= {"concurrent client requests": "concurrency"}
    columns |= {header.lower(): column for column, header in reading.headers.items()}
    tables = [
        (about, cells)
        for about, cells in markdown_tables(text)
        if {"batch_size", "throughput_infer_per_s"}
        <= {columns.get(_bare(header)) for header in cells[0]} | reading.columns.keys()
    ]
    chosen = [tables[place - 1] for place in reading.tables] if reading.tables else tables
    for about, (headers, *lines) in chosen:
        for line in lines:
            cells, left_out = dict(reading.columns), 0
            for header, cell in zip(headers, line, strict=True):
                column = columns.get(_bare(header))
                if column is not None and cell not in ("", "-"):
                    cells[column] = _in_unit(column, cell, header, reading)
                elif column is None:
                    # Lost, unless the import says so.
                    left_out += header in named
                    cells |= {} if header in named else {header: cell}
            for column, header in reading.headers.items():
                if header in about and column not in cells:
                    is_text = column in ("gpu_name", "variant_name")
                    cells[column] = about[header] if is_text else float(about[header])
            naming = ("variant_name", "gpu_name", "batch_size", "concurrency")
            yield Row({name: cells.get(name) for name in naming}, cells, left_out)


def _bare(header: str) -> str:
    return re.sub(r" *[\[(].*", "", header).lower()


def _in_unit(column: str, cell: str, header: str, reading: Reading) -> Any:
    value = number(cell)
    if value is None or column == "variant_name":
        return cell
    is_ms = column.endswith("_us") and ("ms" in header or reading.time_unit == "ms")
    return value * MS if is_ms else value


def markdown_tables(text: str) -> Iterator[tuple[dict[str, str], list[list[str]]]]:
    """Yield the tables of more than two columns, with the facts listed under their heading."""
    about: dict[str, str] = {}
    table: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.lstrip().startswith("|"):
            cells = [" ".join(c.replace("**", "").split()) for c in line.strip(" |").split("|")]
            if not set("".join(cells)) <= set(":-"):
                table.append(cells)
            continue
        if table and len(table[0]) == 2:
            about |= dict(table)
        elif table:
            yield dict(about), table
        table = []
        if line.startswith("#"):
            about = {"heading": line.strip("# ").replace("**", "")}
        elif fact := re.findall(r"^ *\* \*\*(.*):\*\* *(.*?) *$", line):
            about |= dict(fact)


# The sets


@dataclass(frozen=True)
class PublicSet:
    """What was published, and where."""

    name: str
    repository: str
    commit: str
    paths: tuple[str, ...]
    compare: Callable[[Path, Path, Count], None]


SETS = (
    PublicSet(
        "BERT on GKE, CPU and T4",
        "triton-inference-server/server",
        "5d70f645366a31388bc769cef3309b5f055e6783~1",
        ("/deploy/gke-marketplace-app/benchmark/perf/",),
        compare_gke,
    ),
    PublicSet(
        "baselines of Triton 19.07 to 19.09",
        "triton-inference-server/server",
        "b4bc80dfa1d2fe9b0ca7640856de9253809dba3e",
        ("/qa/L0_perf_nomodel/baseline/",),
        compare_baseline,
    ),
    PublicSet(
        "golden tables of Model Analyzer",
        "triton-inference-server/model_analyzer",
        "63a0feccd893bc5674f77eeb5a627c03950b7170",
        ("/tests/common/",),
        compare_analyzer,
    ),
    PublicSet(
        "NVIDIA's DeepLearningExamples",
        "NVIDIA/DeepLearningExamples",
        "729963dd47e7c8bd462ad10bfac7a7b0b604e6dd",
        ("**/triton/**/README.md",),
        compare_readmes,
    ),
)


def check_out(source: str, public: PublicSet, folder: Path) -> None:
    """Clone a repository, with the files of a set only."""

    def git(*words: str) -> None:
        subprocess.run(["git", *words], check=True, capture_output=True, text=True)

    # Without the files of its other commits; a local one is not copied anyway.
    git("clone", "--no-checkout", "--filter=blob:none", source, str(folder))
    git("-C", str(folder), "sparse-checkout", "set", "--no-cone", *public.paths)
    git("-C", str(folder), "checkout", "--quiet", "--detach", public.commit)


def compare(public: PublicSet, source: str, into: Path) -> Count:
    """Import a set and count what arrived."""
    check_out(source, public, into / "files")
    count = Count()
    public.compare(into / "files", into / "results", count)
    return count


HEAD = ("set", "files", "records", "cells", "wrong", "lost", "left out", "refused", "impossible")


def main() -> int:
    """Compare the sets and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="*", metavar="OWNER/NAME=PLACE")
    places = dict(text.split("=", 1) for text in parser.parse_args().places)
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        for place, public in enumerate(SETS):
            source = places.get(public.repository, f"https://github.com/{public.repository}")
            count = counts[public.name] = compare(public, source, Path(folder) / str(place))
            numbers = [getattr(count, name.replace(" ", "_")) for name in HEAD[1:]]
            shown = [str(len(each)) if isinstance(each, list) else str(each) for each in numbers]
            print("| " + " | ".join([public.name, *shown]) + " |", flush=True)
    for name, count in counts.items():
        rules = ", ".join(f"{code} {times}" for code, times in count.rules.most_common())
        print(f"\n{name}: rules broken: {rules or 'none'}")
        for text in (*count.refused, *count.faults[:20]):
            print(f"  {text}")
    return int(any(count.wrong or count.lost for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
