"""What imported records lack, in words.

Makes records of CSV files that others left: perf_analyzer's in a loop, and Model Analyzer's.

Two kinds are known, by the names of their columns: what ``perf_analyzer -f FILE`` wrote into
``{model}_batch{N}.csv``, and Model Analyzer's ``metrics-model-inference.csv``. What such a file
does not say stays missing in its records. Importing it again gives the same records.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hpcbench._version import __version__
from hpcbench.errors import BadInput
from hpcbench.measure import perf_output
from hpcbench.records import parquet, store
from hpcbench.records.columns import MEASURED, Record, Status
from hpcbench.records.store import Results

_LACKING: dict[str, tuple[str, ...]] = {
    "the GPU (--gpu)": ("gpu_name",),
    "the node and its software": ("node", "gpu_driver", "triton_version", "server_image_digest"),
    "the server's configuration": ("server_config", "dynamic_batching"),
    "how many requests were counted": ("request_count",),
    "the length of a window and the spread allowed": ("measurement_interval_ms",),
    "whether it was gRPC or HTTP": ("protocol",),
    "the inputs": ("input_data", "shapes"),
    "any latency": ("latency_avg_us", "latency_p50_us", "latency_p95_us", "latency_p99_us"),
    "the server's own times": ("server_queue_us", "server_compute_infer_us"),
    "GPU utilisation, power and energy": ("gpu_utilization_avg", "gpu_energy_j"),
}
"""What figures and recommendations would use, in words, and the columns that hold it."""


def missing_information(records: Sequence[Record]) -> Iterator[str]:
    """What no record of them has, and which points there are no files of."""
    measured = [record for record in records if record.status in MEASURED]
    for words, columns in _LACKING.items():
        if all(getattr(r, column) is None for r in measured for column in columns):
            yield words
    unasked = sum(r.percentile is None and r.latency_avg_us is None for r in measured)
    if unasked:
        yield (
            f"the mean latency of {unasked} points; where perf_analyzer was given a percentile, "
            "say which: --percentile"
        )
    yield from _missing_points(records)


def _missing_points(records: Sequence[Record]) -> Iterator[str]:
    """Batch sizes that one model has and another lacks: perf_analyzer writes nothing on failure."""
    batches: dict[tuple[str, str], set[int]] = {}
    for record in records:
        batches.setdefault((record.pool, record.model_label), set()).add(record.batch_size or 0)
    wanted = set().union(*batches.values())
    for (pool, label), present in batches.items():
        if missing := sorted(wanted - present):
            yield f"{label} on {pool} at batch size {', '.join(map(str, missing))}: no file"


Cells = Mapping[str, str]

_ALWAYS = {50, 90, 95, 99}
"""The percentiles that perf_analyzer writes whichever it was asked for."""

_ANALYZER: dict[str, tuple[str, float]] = {
    "Throughput (infer/sec)": ("throughput_infer_per_s", 1),
    "Avg Latency (ms)": ("latency_avg_us", 1e3),
    "p90 Latency (ms)": ("latency_p90_us", 1e3),
    "p95 Latency (ms)": ("latency_p95_us", 1e3),
    "p99 Latency (ms)": ("latency_p99_us", 1e3),
    "Client Send/Recv (ms)": ("client_request_response_us", 1e3),
    "Response Wait Time (ms)": ("client_response_wait_us", 1e3),
    "Server Queue time (ms)": ("server_queue_us", 1e3),
    "Server Compute Input time (ms)": ("server_compute_input_us", 1e3),
    "Server Compute Infer time (ms)": ("server_compute_infer_us", 1e3),
    "Server Compute Output time (ms)": ("server_compute_output_us", 1e3),
}
"""Model Analyzer's names and units, (column, factor into its unit); version 1.58."""

_NOT_SAID = {"ended_at", "hpcbench_version"}


@dataclass(frozen=True)
class CsvOrigin:
    """What whoever imports the files knows, and the files do not say; None: not known either."""

    site: str = "imported"
    pool: str | None = None
    gpu: str | None = None
    percentile: int | None = None


@dataclass(frozen=True)
class CsvImport:
    """The records, files that gave none with the reason, and what all records lack, in words."""

    records: tuple[Record, ...]
    skipped: Mapping[Path, str]
    missing: tuple[str, ...]


def import_csv_folder(folder: Path, results: Path, origin: CsvOrigin | None = None) -> CsvImport:
    """Adds what the CSV files under ``folder`` hold to a results folder, and says what they lack.

    Raises BadInput where there is nothing to import, or two files are about the same point.
    """
    found = read_csv_folder(folder, origin or CsvOrigin())
    where = Results(results)
    where.create()
    with store.lock_folder(where):
        for placement_id in dict.fromkeys(record.placement_id for record in found.records):
            path = where.records / f"{placement_id}.parquet"
            rows = parquet.read_file(path).to_pylist() if path.exists() else []
            rows += [
                {**vars(record), "status": str(record.status)}
                for record in found.records
                if record.placement_id == placement_id
            ]
            # A file that says what it said is no second attempt, also if it was copied since.
            attempts: dict[str, Any] = {}
            for row in rows:
                said = {name: row[name] for name in row if name not in _NOT_SAID}
                attempts.setdefault(str(said), row)
            store.write_records(path, [Record(**row) for row in attempts.values()])
    return found


def read_csv_folder(folder: Path, origin: CsvOrigin) -> CsvImport:
    """The records of all CSV files under ``folder``; writes nothing."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: is not a folder", "name the folder that the loop wrote into")
    found: list[tuple[Path, Record]] = []
    skipped: dict[Path, str] = {}
    for path in sorted(folder.rglob("*.csv")):
        try:
            found += [(path, record) for record in list(_records(path, folder, origin))]
        except _NotOurs as reason:
            skipped[path] = str(reason)
        except csv.Error as error:
            skipped[path] = f"is no CSV: {error}"
    if not found:
        told = "".join(f"\n{path}: {reason}" for path, reason in list(skipped.items())[:5])
        raise BadInput(
            f"{folder}: holds no CSV file of perf_analyzer or Model Analyzer{told}",
            "wanted: {model}_batch{N}.csv as perf_analyzer -f writes it, or "
            "metrics-model-inference.csv",
        )
    places: dict[tuple[str, str], list[Path]] = {}
    records = []
    for path, record in found:
        identified = _identified(_with_load(record, [other for _, other in found]))
        places_of = places.setdefault((identified.pool, identified.point_id), [])
        if any(place != path for place in places_of):
            raise BadInput(
                f"{path} and {places_of[0]} are about the same point",
                "import them one by one, each with a --pool of its own",
            )
        records.append(replace(identified, repeat=len(places_of)))
        places_of.append(path)
    return CsvImport(tuple(records), skipped, tuple(missing_information(records)))


def _with_load(record: Record, others: list[Record]) -> Record:
    """A failed record with the load of its model's other batch sizes, where they agree on one."""
    if record.status in MEASURED:
        return record
    same = ("pool", "model_label")
    loads = {
        (other.concurrency, other.request_rate, other.percentile)
        for other in others
        if other.status in MEASURED and all(getattr(other, n) == getattr(record, n) for n in same)
    }
    if len(loads) != 1:
        return record
    concurrency, rate, percentile = next(iter(loads))
    return replace(record, concurrency=concurrency, request_rate=rate, percentile=percentile)


class _NotOurs(Exception):
    """The file is none of the two kinds; says why."""


def _records(path: Path, folder: Path, origin: CsvOrigin) -> Iterator[Record]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _NotOurs(f"cannot be read: {error}") from error
    headers = set(perf_output.csv_headers(text))
    if {"Model", "Batch", "Throughput (infer/sec)"} <= headers:
        return _of_analyzer(path, folder, text, origin)
    if "GPU UUID" in headers:
        raise _NotOurs("has the GPUs only; the figures are in metrics-model-inference.csv")
    named = re.fullmatch(r"(?P<model>.+)_batch(?P<batch>[1-9]\d{0,8})\.csv", path.name)
    if headers & {"Concurrency", "Request Rate"} and "Inferences/Second" in headers:
        if named is None:
            raise _NotOurs("its name does not say model and batch size: {model}_batch{N}.csv")
    elif named is None or headers:
        raise _NotOurs("has columns of neither perf_analyzer nor Model Analyzer")
    return _of_loop(path, folder, text, named["model"], int(named["batch"]), origin)


def _of_loop(
    path: Path, folder: Path, text: str, model: str, batch: int, origin: CsvOrigin
) -> Iterator[Record]:
    """A record for each row, one concurrency or rate each; a failed one where there is none."""
    above = path.parent.relative_to(folder)
    pool = above.parent if above.name == model else above
    base = _base(path, model, origin, pool=origin.pool or _pool_name(folder, pool))
    for cells in perf_output.csv_rows(text) or [{}]:
        percentile = _percentile(cells, origin) if cells else None
        figures = perf_output.csv_metrics(cells, percentile)
        yield replace(
            _with_figures(base, figures, path.relative_to(folder)),
            batch_size=batch,
            concurrency=_whole(cells.get("Concurrency")),
            request_rate=perf_output.parse_number(cells.get("Request Rate", "")),
            percentile=percentile,
        )


def _percentile(cells: Cells, origin: CsvOrigin) -> int | None:
    """The percentile asked for: with one, perf_analyzer leaves the mean out."""
    if "Avg latency" in cells:
        return None
    named = {int(m[1]) for header in cells if (m := re.fullmatch(r"p(\d+) latency", header))}
    return next(iter(named - _ALWAYS), origin.percentile)


def _of_analyzer(path: Path, folder: Path, text: str, origin: CsvOrigin) -> Iterator[Record]:
    """A record for each measurement of each configuration that Model Analyzer tried."""
    # Its own folders are called results and are no kind of node.
    pool = origin.pool or _pool_name(folder, Path())
    for cells in perf_output.csv_rows(text):
        if _whole(cells["Batch"]) is None:
            raise _NotOurs("is about several models at once, which have no figures of their own")
        figures: dict[str, Any] = {}
        for header, (column, factor) in _ANALYZER.items():
            value = perf_output.parse_number(cells.get(header, ""))
            if value is not None:
                figures[column] = value * factor
        groups = re.fullmatch(r"(\d+):(\w+)", cells.get("Instance Group", "").strip())
        base = _base(path, cells["Model"], origin, pool=pool)
        yield replace(
            _with_figures(base, figures, path.relative_to(folder)),
            model_label=cells.get("Model Config Path") or cells["Model"],
            batch_size=_whole(cells["Batch"]),
            concurrency=_whole(cells.get("Concurrency")),
            request_rate=perf_output.parse_number(cells.get("Request Rate", "")),
            max_batch_size=_whole(cells.get("Max Batch Size")),
            instance_count=int(groups[1]) if groups else None,
            instance_kind=f"KIND_{groups[2]}" if groups else None,
        )


def _with_figures(record: Record, figures: Mapping[str, Any], source: Path) -> Record:
    if figures.get("throughput_infer_per_s", 0) > 0:
        return replace(record, **figures)
    reason = f"perf_analyzer left no throughput in {source}"
    return replace(record, status=Status.FAILED, reason=reason, **figures)


def _base(path: Path, model: str, origin: CsvOrigin, pool: str) -> Record:
    """What is the same for all records of a file."""
    return Record(
        point_id="",
        campaign="imported",
        site=origin.site,
        pool=pool,
        repeat=0,
        placement_id=_hash("csv", origin.site, pool, model)[:12],
        status=Status.OK,
        model=model,
        model_label=model,
        gpu_name=origin.gpu,
        # The loop writes no time; this is when perf_analyzer had ended, unless the file was copied.
        ended_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        hpcbench_version=__version__,
    )


def _identified(record: Record) -> Record:
    """The record with a point_id of what is known of its point, none of which is a figure."""
    identity = (
        *("csv", record.model, record.model_label, record.batch_size, record.concurrency),
        *(record.request_rate, record.percentile, record.instance_count, record.instance_kind),
        record.max_batch_size,
    )
    return replace(record, point_id=_hash(*identity))


def _hash(*identity: object) -> str:
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def _pool_name(folder: Path, relative: Path) -> str:
    """The folders above the models tell kinds of node apart; without any, the whole tree is one."""
    return relative.as_posix() if relative.parts else folder.resolve().name


def _whole(text: str | None) -> int | None:
    value = perf_output.parse_number(text or "")
    return int(value) if value is not None and value == int(value) and 0 <= value < 1e9 else None
