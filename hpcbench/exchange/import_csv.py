"""Records from files of perf_analyzer and of Model Analyzer, whoever measured them.

Files are known by their content: see `perf_files` and `model_analyzer`. What a file does not say
comes from its name and from the user, or stays missing. Files of one name in one folder, such as a
CSV and the report that was printed meanwhile, are about the same measurements. Importing again
gives the same records.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from hpcbench._version import __version__
from hpcbench.errors import BadInput
from hpcbench.exchange import model_analyzer
from hpcbench.exchange.add_records import add_records, full_hash, point_id, short_hash
from hpcbench.exchange.import_notes import doubts, missing_information
from hpcbench.exchange.origin import Origin, name_values
from hpcbench.exchange.perf_files import UnknownFile, Values, read_perf_file
from hpcbench.records.columns import MEASURED, Record, Status

_ENDINGS = (".csv", ".json", ".txt", ".log", ".out")
"""Of the files that are looked into. A CSV comes first: its numbers have more digits."""


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
    doubts
        What cannot be true as it stands, file by file.
    unread
        Headers that no column takes, with the number of files that have them.
    """

    records: tuple[Record, ...]
    skipped: Mapping[Path, str]
    missing: tuple[str, ...]
    doubts: tuple[str, ...]
    unread: Mapping[str, int]


def import_csv_folder(folder: Path, results: Path, origin: Origin | None = None) -> CsvImport:
    """Import files into a results folder.

    Parameters
    ----------
    folder
        Folder with the files, in any depth; or one file.
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
    found = read_csv_folder(folder, origin or Origin())
    add_records(found.records, results)
    return found


@dataclass(frozen=True)
class _Found:
    """The measurements of one file, or of several with one name."""

    path: Path
    named: Values
    measurements: Sequence[Values]
    unread: Sequence[str] = ()


def read_csv_folder(folder: Path, origin: Origin) -> CsvImport:
    """Read the files of a folder without importing them.

    Parameters
    ----------
    folder
        Folder with the files, in any depth; or one file.
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
    paths = _paths(folder)
    top = folder if folder.is_dir() else folder.parent
    skipped: dict[Path, str] = {}
    pairs: list[tuple[Path, Record]] = []
    unread: dict[str, int] = {}
    for found in _read_all(paths, top, origin, skipped):
        pairs += ((found.path, record) for record in _file_records(found, top, origin))
        for header in found.unread:
            unread[header] = unread.get(header, 0) + 1
    if not pairs:
        reasons = "".join(f"\n{path}: {reason}" for path, reason in list(skipped.items())[:5])
        raise BadInput(
            f"{folder}: holds no file of perf_analyzer or Model Analyzer{reasons}",
            "expected: what perf_analyzer -f writes, prints, or exports, named "
            "{model}_batch{N} or as --name says; or metrics-model-inference.csv",
        )
    every = [record for _, record in pairs]
    records = _numbered([(path, _with_load(record, every)) for path, record in pairs])
    sources = [PurePath(path.relative_to(top)) for path, _ in pairs]
    return CsvImport(
        tuple(records),
        skipped,
        tuple(missing_information(records)),
        tuple(doubts(records, sources)),
        unread,
    )


def _paths(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise BadInput(f"{folder}: is not there", "name the folder with the files, or one file")
    found = (path for path in folder.rglob("*") if path.suffix in _ENDINGS and path.is_file())
    return sorted(found, key=lambda path: (path.with_suffix(""), _ENDINGS.index(path.suffix)))


def _read_all(
    paths: Sequence[Path], top: Path, origin: Origin, skipped: dict[Path, str]
) -> Iterator[_Found]:
    """Yield what the files hold; those that hold nothing are added to ``skipped``."""
    texts: dict[Path, str] = {}
    for path in paths:
        try:
            # Spreadsheets save CSV files with a byte order mark.
            texts[path] = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            skipped[path] = f"cannot be read: {error}"
    headers = {path: _headers(text) for path, text in texts.items()}
    inferences = [path for path in texts if model_analyzer.is_inference_table(headers[path])]
    gpus = [path for path in texts if model_analyzer.is_gpu_table(headers[path])]
    for path in gpus:
        about = [texts[each] for each in inferences if each.parent == path.parent]
        reason = model_analyzer.unmatched_rows(texts[path], about)
        if reason:
            skipped[path] = reason if about else "has only the GPUs, and no inferences beside it"
    for path in inferences:
        beside = [texts[each] for each in gpus if each.parent == path.parent]
        try:
            yield _analyzer_file(path, texts[path], headers[path], beside)
        except UnknownFile as reason:
            skipped[path] = str(reason)
    rest = {path: texts[path] for path in texts if path not in {*inferences, *gpus}}
    yield from _perf_files(rest, top, origin, skipped)


def _perf_files(
    texts: Mapping[Path, str], top: Path, origin: Origin, skipped: dict[Path, str]
) -> Iterator[_Found]:
    known: dict[Path, _Found] = {}
    for path, text in texts.items():
        try:
            found = _perf_file(path, text, top, origin)
        except UnknownFile as reason:
            skipped[path] = str(reason)
        except csv.Error as error:
            skipped[path] = f"is not a CSV file: {error}"
        else:
            before = known.get(path.with_suffix(""))
            known[path.with_suffix("")] = _joined(before, found) if before else found
    for found in known.values():
        said = {**found.named, **origin.columns}
        if all({"model", "batch_size"} <= {*said, *each} for each in found.measurements):
            yield found
        else:
            skipped[found.path] = (
                f"its name does not say model and batch size as in {origin.name}; give --name, "
                "--model or --batch-size"
            )


def _analyzer_file(path: Path, text: str, headers: Sequence[str], gpus: Sequence[str]) -> _Found:
    tables = model_analyzer.read_gpu_tables(gpus)
    measured = tuple(model_analyzer.analyzer_measurements(text, tables))
    every = dict.fromkeys([*headers, *(header for beside in gpus for header in _headers(beside))])
    unread = [header for header in every if header not in model_analyzer.KNOWN_HEADERS]
    return _Found(path, {}, measured, unread)


def _headers(text: str) -> list[str]:
    try:
        return next(csv.reader(text.splitlines()[:1]), [])
    except csv.Error:
        return []


def _perf_file(path: Path, text: str, top: Path, origin: Origin) -> _Found:
    named = name_values(origin.name, PurePath(path.relative_to(top)))
    read = read_perf_file(text, is_named=named is not None and path.suffix == ".csv")
    said = {**(named or {}), **origin.columns}
    for each in read.measurements:
        for name, value in each.items():
            if value is not None and said.get(name, value) != value:
                raise UnknownFile(f"says {name} {value}, and its name or an option {said[name]}")
    # A file without rows is a measurement that failed: it becomes a record, not a silent gap.
    return _Found(path, named or {}, read.measurements or ({},), read.unknown)


_SAME_NUMBERS = 1e-3
"""Of two throughputs, of which one was rounded."""


def _joined(first: _Found, second: _Found) -> _Found:
    """Return the measurements of two files of one name; the first says more exactly what both say.

    A report may hold more runs than the CSV file, which each run of a loop replaced: these are
    measurements of their own.
    """
    rest = [dict(each) for each in first.measurements if each]
    for each in second.measurements:
        match = next((other for other in reversed(rest) if _is_same(other, each)), None)
        if match is None:
            rest.append(dict(each))
        else:
            match.update({name: value for name, value in each.items() if match.get(name) is None})
    return replace(first, measurements=rest or first.measurements)


def _is_same(one: Values, other: Values) -> bool:
    loads = ("concurrency", "request_rate")
    if any(one.get(name) != other.get(name) for name in loads):
        return False
    first, second = (each.get("throughput_infer_per_s") for each in (one, other))
    # A profile export has no batch size, hence no throughput.
    if first is None or second is None:
        return True
    return math.isclose(first, second, rel_tol=_SAME_NUMBERS)


def _file_records(found: _Found, top: Path, origin: Origin) -> Iterator[Record]:
    source = found.path.relative_to(top)
    for each in found.measurements:
        values = {**found.named, **origin.columns, **each}
        requests_per_s = values.pop("_requests_per_s", None)
        if requests_per_s and "throughput_infer_per_s" not in values:
            values["throughput_infer_per_s"] = requests_per_s * values["batch_size"]
        if each and "percentile" not in values:
            values["percentile"] = origin.percentile
        settled = values.get(f"latency_p{values.get('percentile')}_us")
        if settled is not None:
            values.setdefault("latency_percentile_us", settled)
        if "status" not in values and not values.get("throughput_infer_per_s", 0) > 0:
            values["status"] = Status.FAILED
            values["reason"] = f"perf_analyzer left no throughput in {source}"
        yield _record(values, found.path, top, origin)


def _record(values: dict[str, Any], path: Path, top: Path, origin: Origin) -> Record:
    model = values["model"]
    above = path.parent.relative_to(top)
    folders = above.parent if above.name == model else above
    if "variant_name" in values:
        # The folders of Model Analyzer are called results, and are no kind of node.
        folders = Path()
    pool = origin.pool or (folders.as_posix() if folders.parts else top.resolve().name)
    base: dict[str, Any] = {
        "point_id": "",
        "campaign": "imported",
        "site": origin.site,
        "pool": pool,
        "repeat": 0,
        "status": Status.OK,
        "model_label": model,
        # Most files have no time; this is when it had ended, unless the file was copied.
        "ended_at": datetime.fromtimestamp(path.stat().st_mtime, UTC),
        "hpcbench_version": __version__,
    }
    values = base | values
    if values.get("together_id"):
        values["together_id"] = full_hash("csv", values["together_id"])
    placement_id = short_hash("csv", values["site"], values["pool"], model)
    return Record(**values | {"placement_id": placement_id})


def _with_load(record: Record, others: Sequence[Record]) -> Record:
    """Return a failed record with the load of its model's other batch sizes.

    A file without rows does not say which load failed. Where the other files disagree on one, the
    record stays without.
    """
    if record.status in MEASURED or record.concurrency or record.request_rate:
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


def _numbered(pairs: Sequence[tuple[Path, Record]]) -> list[Record]:
    """Return the records with their ids; those of one point and file are repeats of it."""
    places: dict[tuple[object, ...], list[Path]] = {}
    records = []
    for path, record in pairs:
        identified = replace(record, point_id=point_id(record))
        key = (record.site, record.pool, identified.point_id, record.run_id, record.repeat)
        places_of = places.setdefault(key, [])
        if any(place != path for place in places_of):
            raise BadInput(
                f"{path} and {places_of[0]} are about the same point",
                "import them one by one, each with a --pool of its own, or say by --name what "
                "their names tell apart",
            )
        records.append(replace(identified, repeat=record.repeat + len(places_of)))
        places_of.append(path)
    return records
