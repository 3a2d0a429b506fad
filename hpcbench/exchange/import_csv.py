"""Records from the CSV files of a loop over perf_analyzer, and of Model Analyzer.

Two kinds are known, by the names of their columns: what ``perf_analyzer -f FILE`` wrote into
``{model}_batch{N}.csv``, and Model Analyzer's ``metrics-model-inference.csv``. What such a file
does not say stays missing in its records. Importing it again gives the same records.
"""

import csv
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
from hpcbench.plan.digest import hash_id
from hpcbench.records import parquet, store
from hpcbench.records.columns import MEASURED, Record, Status
from hpcbench.records.folder import Results, lock_folder

Cells = Mapping[str, str]
"""One row of a CSV file by the headers of its columns."""

_ALWAYS_WRITTEN = {50, 90, 95, 99}
"""The percentiles that perf_analyzer writes in any case."""

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
"""(column, factor to its unit) for each header of Model Analyzer 1.58."""

_NOT_COMPARED = {"ended_at", "hpcbench_version"}


@dataclass(frozen=True)
class CsvOrigin:
    """Where the files come from: what the user knows, and the files do not say.

    Attributes
    ----------
    site
        Name of the site.
    pool
        Name of the pool; None for the names of the folders.
    gpu
        Name of the GPU; None where it is unknown.
    percentile
        Percentile that perf_analyzer was called with; None for none, or where it is unknown.
    """

    site: str = "imported"
    pool: str | None = None
    gpu: str | None = None
    percentile: int | None = None


@dataclass(frozen=True)
class CsvImport:
    """What an import has found.

    Attributes
    ----------
    records
        One record per measurement.
    skipped
        Files without records, each with the reason.
    missing
        What all records lack, as phrases for the user.
    """

    records: tuple[Record, ...]
    skipped: Mapping[Path, str]
    missing: tuple[str, ...]


def import_csv_folder(folder: Path, results: Path, origin: CsvOrigin | None = None) -> CsvImport:
    """Import CSV files into a results folder.

    Parameters
    ----------
    folder
        Folder with the files, in any depth.
    results
        The results folder; it is made where it is not there.
    origin
        What the files do not say about themselves.

    Returns
    -------
    CsvImport
        What was imported, what was skipped and what is missing.

    Raises
    ------
    BadInput
        There is nothing to import, or two files are about the same point.
    """
    found = read_csv_folder(folder, origin or CsvOrigin())
    where = Results(results)
    where.create()
    with lock_folder(where):
        for placement_id in dict.fromkeys(record.placement_id for record in found.records):
            path = where.records / f"{placement_id}.parquet"
            rows = parquet.read_file(path).to_pylist() if path.exists() else []
            rows += [
                {**vars(record), "status": str(record.status)}
                for record in found.records
                if record.placement_id == placement_id
            ]
            # A file that says the same as before is no second attempt, even if it was copied
            # in the meantime and has a new date.
            attempts: dict[str, Any] = {}
            for row in rows:
                content = {name: row[name] for name in row if name not in _NOT_COMPARED}
                attempts.setdefault(str(content), row)
            store.write_records(path, [Record(**row) for row in attempts.values()])
    return found


def read_csv_folder(folder: Path, origin: CsvOrigin) -> CsvImport:
    """Read the CSV files of a folder without importing them.

    Parameters
    ----------
    folder
        Folder with the files, in any depth.
    origin
        What the files do not say about themselves.

    Returns
    -------
    CsvImport
        What an import would add.

    Raises
    ------
    BadInput
        There is nothing to import, or two files are about the same point.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: is not a folder", "name the folder with the loop's CSV files")
    found: list[tuple[Path, Record]] = []
    skipped: dict[Path, str] = {}
    for path in sorted(folder.rglob("*.csv")):
        try:
            found += [(path, record) for record in list(_records(path, folder, origin))]
        except _UnknownFile as reason:
            skipped[path] = str(reason)
        except csv.Error as error:
            skipped[path] = f"is not a CSV file: {error}"
    if not found:
        reasons = "".join(f"\n{path}: {reason}" for path, reason in list(skipped.items())[:5])
        raise BadInput(
            f"{folder}: holds no CSV file of perf_analyzer or Model Analyzer{reasons}",
            "expected: {model}_batch{N}.csv as perf_analyzer -f writes it, or "
            "metrics-model-inference.csv",
        )
    places: dict[tuple[str, str], list[Path]] = {}
    records = []
    for path, record in found:
        identified = _with_point_id(_with_load(record, [other for _, other in found]))
        places_of = places.setdefault((identified.pool, identified.point_id), [])
        if any(place != path for place in places_of):
            raise BadInput(
                f"{path} and {places_of[0]} are about the same point",
                "import them one by one, each with a --pool of its own",
            )
        records.append(replace(identified, repeat=len(places_of)))
        places_of.append(path)
    return CsvImport(tuple(records), skipped, tuple(_missing_information(records)))


def _with_load(record: Record, others: list[Record]) -> Record:
    """Return a failed record with the load of its model's other batch sizes.

    A file without rows does not say which load failed. Where the other files disagree on one, the
    record stays without.
    """
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


class _UnknownFile(Exception):
    """Says why a file is of neither kind."""


def _records(path: Path, folder: Path, origin: CsvOrigin) -> Iterator[Record]:
    try:
        # Spreadsheets save CSV files with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _UnknownFile(f"cannot be read: {error}") from error
    headers = set(next(csv.reader(text.splitlines()[:1]), []))
    if {"Model", "Batch", "Throughput (infer/sec)"} <= headers:
        return _analyzer_records(path, folder, text, origin)
    if "GPU UUID" in headers:
        raise _UnknownFile(
            "has only the GPUs; the other metrics are in metrics-model-inference.csv"
        )
    named = re.fullmatch(r"(?P<model>.+)_batch(?P<batch>[1-9]\d{0,8})\.csv", path.name)
    if headers & {"Concurrency", "Request Rate"} and "Inferences/Second" in headers:
        if named is None:
            raise _UnknownFile("its name does not say model and batch size: {model}_batch{N}.csv")
    elif named is None or headers:
        raise _UnknownFile("has columns of neither perf_analyzer nor Model Analyzer")
    return _loop_records(path, folder, text, named["model"], int(named["batch"]), origin)


def _loop_records(
    path: Path, folder: Path, text: str, model: str, batch: int, origin: CsvOrigin
) -> Iterator[Record]:
    """Yield a record for each row, with one load each; a failed one where there is no row."""
    above = path.parent.relative_to(folder)
    pool = above.parent if above.name == model else above
    base = _base(path, model, origin, pool=origin.pool or _pool_name(folder, pool))
    # A file without rows is a measurement that failed: it becomes a record, not a silent gap.
    for cells in perf_output.csv_rows(text) or [{}]:
        percentile = _percentile(cells, origin) if cells else None
        metrics = perf_output.csv_metrics(cells, percentile)
        yield replace(
            _with_metrics(base, metrics, path.relative_to(folder)),
            batch_size=batch,
            concurrency=_whole(cells.get("Concurrency")),
            request_rate=perf_output.parse_number(cells.get("Request Rate", "")),
            percentile=percentile,
        )


def _percentile(cells: Cells, origin: CsvOrigin) -> int | None:
    """Return the percentile that perf_analyzer was called with; None for the mean."""
    # With a percentile, perf_analyzer leaves the mean out.
    if "Avg latency" in cells:
        return None
    named = {int(m[1]) for header in cells if (m := re.fullmatch(r"p(\d+) latency", header))}
    return next(iter(named - _ALWAYS_WRITTEN), origin.percentile)


def _analyzer_records(path: Path, folder: Path, text: str, origin: CsvOrigin) -> Iterator[Record]:
    """Yield a record for each measurement of each configuration that Model Analyzer tried."""
    # Its own folders are called results and are no kind of node.
    pool = origin.pool or _pool_name(folder, Path())
    for cells in perf_output.csv_rows(text):
        if _whole(cells["Batch"]) is None:
            raise _UnknownFile(
                "is about several models at once, and does not tell their metrics apart"
            )
        metrics: dict[str, Any] = {}
        for header, (column, factor) in _ANALYZER.items():
            value = perf_output.parse_number(cells.get(header, ""))
            if value is not None:
                metrics[column] = value * factor
        groups = re.fullmatch(r"(\d+):(\w+)", cells.get("Instance Group", "").strip())
        base = _base(path, cells["Model"], origin, pool=pool)
        yield replace(
            _with_metrics(base, metrics, path.relative_to(folder)),
            model_label=cells.get("Model Config Path") or cells["Model"],
            batch_size=_whole(cells["Batch"]),
            concurrency=_whole(cells.get("Concurrency")),
            request_rate=perf_output.parse_number(cells.get("Request Rate", "")),
            max_batch_size=_whole(cells.get("Max Batch Size")),
            instance_count=int(groups[1]) if groups else None,
            instance_kind=f"KIND_{groups[2]}" if groups else None,
        )


def _with_metrics(record: Record, metrics: Mapping[str, Any], source: Path) -> Record:
    if metrics.get("throughput_infer_per_s", 0) > 0:
        return replace(record, **metrics)
    reason = f"perf_analyzer left no throughput in {source}"
    return replace(record, status=Status.FAILED, reason=reason, **metrics)


def _base(path: Path, model: str, origin: CsvOrigin, pool: str) -> Record:
    """Return what is the same for all records of a file."""
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


def _with_point_id(record: Record) -> Record:
    """Return the record with a point_id, a hash of everything but metrics."""
    identity = (
        *("csv", record.model, record.model_label, record.batch_size, record.concurrency),
        *(record.request_rate, record.percentile, record.instance_count, record.instance_kind),
        record.max_batch_size,
    )
    return replace(record, point_id=_hash(*identity))


def _hash(*identity: object) -> str:
    return hash_id(json.dumps(identity))


def _pool_name(folder: Path, relative: Path) -> str:
    """Return the name of the pool: the folders above the models', or that of the whole tree."""
    return relative.as_posix() if relative.parts else folder.resolve().name


def _whole(text: str | None) -> int | None:
    value = perf_output.parse_number(text or "")
    return int(value) if value is not None and value == int(value) and 0 <= value < 1e9 else None


_COLUMNS_OF: dict[str, tuple[str, ...]] = {
    "the GPU (--gpu)": ("gpu_name",),
    "the node and its software": ("node", "gpu_driver", "triton_version", "server_image_digest"),
    "the server's configuration": ("server_config", "dynamic_batching"),
    "how many requests were counted": ("request_count",),
    "the length of a window and the spread allowed": ("measurement_interval_ms",),
    "whether it was gRPC or HTTP": ("protocol",),
    "the inputs": ("input_data", "shapes"),
    "any latency": ("latency_avg_us", "latency_p50_us", "latency_p95_us", "latency_p99_us"),
    "the server's own times": ("server_queue_us", "server_compute_infer_us"),
    "GPU utilisation, power and energy": ("gpu_utilization_avg", "gpu_power_avg_w"),
}
"""What figures and recommendations use, and the columns that hold it."""


def _missing_information(records: Sequence[Record]) -> Iterator[str]:
    """Yield what no record has, and the points that have no file."""
    measured = [record for record in records if record.status in MEASURED]
    for words, columns in _COLUMNS_OF.items():
        if all(getattr(r, column) is None for r in measured for column in columns):
            yield words
    without_mean = sum(r.percentile is None and r.latency_avg_us is None for r in measured)
    if without_mean:
        yield (
            f"the mean latency of {without_mean} points; if perf_analyzer ran with a percentile, "
            "give it here, too: --percentile"
        )
    yield from _missing_points(records)


def _missing_points(records: Sequence[Record]) -> Iterator[str]:
    """Yield batch sizes that one model has and another lacks."""
    # Where perf_analyzer fails, there may be no file at all.
    batches: dict[tuple[str, str], set[int]] = {}
    for record in records:
        batches.setdefault((record.pool, record.model_label), set()).add(record.batch_size or 0)
    wanted = set().union(*batches.values())
    for (pool, label), present in batches.items():
        if missing := sorted(wanted - present):
            yield f"{label} on {pool} at batch size {', '.join(map(str, missing))}: no file"
