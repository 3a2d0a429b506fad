"""Records from a table that somebody published: in a README, a paper, a spreadsheet.

Units are converted from what stands in parentheses in a header, as in "p99 latency (ms)". What a
table does not say stays missing. Its source and date stand in each row.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from hpcbench._version import __version__
from hpcbench.errors import BadInput, did_you_mean
from hpcbench.exchange.add_records import add_records, point_id, short_hash
from hpcbench.exchange.import_notes import doubts
from hpcbench.exchange.origin import check_column, parse_column
from hpcbench.exchange.published_tables import HEADING, Table, read_tables
from hpcbench.records.columns import COLUMNS, Record, Status

_TYPES = {column.name: column for column in COLUMNS}

_FACTORS: dict[str, dict[str, float]] = {
    "us": {"ns": 1e-3, "us": 1, "µs": 1, "usec": 1, "ms": 1e3, "msec": 1e3, "s": 1e6, "sec": 1e6},
    "ms": {"us": 1e-3, "ms": 1, "s": 1e3},
    "s": {"us": 1e-6, "ms": 1e-3, "s": 1, "sec": 1, "min": 60},
    "B": {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30},
    "W": {"mw": 1e-3, "w": 1, "kw": 1e3},
    "J": {"mj": 1e-3, "j": 1},
    "infer/s": dict.fromkeys(
        (
            *("infer/s", "infer/sec", "inf/s", "inferences/s", "1/s", "qps"),
            *("samples/s", "sequences/s", "img/s", "images/s"),
        ),
        1,
    ),
    "1/s": {"1/s": 1, "hz": 1, "qps": 1, "req/s": 1},
    "%": {"%": 1},
    "1": {"1": 1, "%": 1e-2},
}
"""By the unit of a column: the factor from each unit that a header may name, in small letters and
without spaces. Triton counts each sample of a batch as an inference."""

_MULTIPLES = {"k": 1e3, "M": 1e6}
"""What may stand behind a number of inferences, as in 12.5k."""

_MISSING = {"", "-", "n/a", "na", "none", "nan"}

_USUAL = {
    "model": "model",
    "batch": "batch_size",
    "batch size": "batch_size",
    "client batch size": "batch_size",
    "concurrent client requests": "concurrency",
    "concurrency": "concurrency",
    "client concurrency": "concurrency",
    "request rate": "request_rate",
    **{column.header.lower(): column.name for column in COLUMNS if column.header},
}
"""Headers in small letters, without units, that need no --map."""


@dataclass(frozen=True)
class Publication:
    """What the user says of a table.

    Attributes
    ----------
    source
        Where it was published: an address, or how it is cited.
    date
        When; midnight in UTC.
    columns
        Values by column, of all rows.
    headers
        The header by column. It may also be a name in a table of two columns above, or "heading".
    site, pool
        Names for the place where it was measured.
    time_unit
        Of times whose header has none; None for the unit of the column.
    tables
        Which of several tables, from 1, counting those that can be imported; empty for all.
    """

    source: str
    date: datetime
    columns: Mapping[str, Any]
    headers: Mapping[str, str]
    site: str = "published"
    pool: str = "published"
    time_unit: str | None = None
    tables: Sequence[int] = ()


@dataclass(frozen=True)
class TableImport:
    """What an import has found.

    Attributes
    ----------
    records
        One for each row with a throughput or a latency.
    skipped
        Tables with metrics that are not imported, each with the reason.
    unread
        Headers that no column takes.
    doubts
        What cannot be true as it stands.
    """

    records: tuple[Record, ...]
    skipped: Mapping[str, str]
    unread: tuple[str, ...]
    doubts: tuple[str, ...]


def import_table(path: Path, results: Path, publication: Publication) -> TableImport:
    """Import the tables of a file into a results folder.

    Parameters
    ----------
    path
        A .csv file, or Markdown.
    results
        The results folder; it is made where it is not there.
    publication
        What the user says of it.

    Returns
    -------
    TableImport
        What was imported.

    Raises
    ------
    BadInput
        There is no such table, a cell is no value of its column, or two rows are about one point.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}", "name a .csv or .md file") from error
    found = read_published(text, path.name, publication)
    add_records(found.records, results)
    return found


def read_published(text: str, name: str, publication: Publication) -> TableImport:
    """Read tables without importing them.

    Parameters
    ----------
    text
        Content of the file.
    name
        Its name.
    publication
        What the user says of it.

    Returns
    -------
    TableImport
        What an import would add.

    Raises
    ------
    BadInput
        As `import_table`.
    """
    for column in publication.headers:
        check_column(column)
    tables = [(table, _columns_of(table, publication)) for table in read_tables(text, name)]
    possible = [(table, columns) for table, columns in tables if columns.keys() >= _NEEDED]
    if not possible:
        headers = ", ".join(dict.fromkeys(h for table, _ in tables for h in table.headers))
        raise BadInput(
            f"{name}: no table has a throughput and a batch size; headers: {headers or 'none'}",
            "name them: --map throughput_infer_per_s=HEADER --map batch_size=HEADER",
        )
    if beyond := [number for number in publication.tables if number > len(possible)]:
        raise BadInput(
            f"{name}: --table {beyond[0]}: {len(possible)} tables can be imported",
            "leave --table out to import all",
        )
    chosen = publication.tables or range(1, len(possible) + 1)
    taken = [possible[number - 1] for number in chosen]
    records: dict[tuple[str, str], Record] = {}
    places: dict[tuple[str, str], str] = {}
    sources: list[Path] = []
    for table, columns in taken:
        for number, cells in enumerate(table.rows, start=1):
            record = _record(cells, table, columns, publication)
            key, place = (record.pool, record.point_id), f"{table.place}, row {number}"
            if key in records:
                raise BadInput(
                    f"{place} and {places[key]} are about the same point",
                    f"map what tells them apart, as in --map variant_name={HEADING}, or import one "
                    "table at a time: --table 1",
                )
            records[key], places[key] = record, place
            sources.append(Path(table.place))
    used = {header for _, columns in taken for header in columns.values()}
    unread = dict.fromkeys(h for table, _ in taken for h in table.headers if h not in used)
    rows = list(records.values())
    skipped = {} if publication.tables else dict(_incomplete(tables))
    return TableImport(tuple(rows), skipped, tuple(unread), tuple(doubts(rows, sources)))


_NEEDED = {"batch_size", "throughput_infer_per_s"}


def _incomplete(tables: Sequence[tuple[Table, Mapping[str, str]]]) -> Iterator[tuple[str, str]]:
    """Yield the tables that have metrics and cannot be imported, with what they lack."""
    for table, columns in tables:
        metrics = [name for name, header in columns.items() if header in table.headers]
        lacking = sorted(_NEEDED - columns.keys())
        if lacking and any(_TYPES[name].unit in ("us", "infer/s") for name in metrics):
            need, words = lacking[0], " and no ".join(lacking)
            yield table.place, f"has no {words}: --map {need}=HEADER, or --set {need}=VALUE"


def _columns_of(table: Table, publication: Publication) -> dict[str, str]:
    """Return the header, or the name above the table, of each column that the table has."""
    found = {}
    for header in table.headers:
        column = _USUAL.get(_without_unit(header).lower())
        if column is not None:
            found[column] = header
    there = [*table.headers, *table.about]
    for column, asked in publication.headers.items():
        # A header is given with its unit or without.
        match = [each for each in there if asked in (each, _without_unit(each))]
        if match:
            found[column] = match[0]
    return {**dict.fromkeys(publication.columns, ""), **found}


def _without_unit(header: str) -> str:
    return re.sub(r"\s*[\[(][^])]*[\])]\s*$", "", header).strip()


def _record(
    cells: Mapping[str, str], table: Table, columns: Mapping[str, str], publication: Publication
) -> Record:
    values: dict[str, Any] = {}
    for column, header in columns.items():
        text = cells.get(header, table.about.get(header, "")) if header else ""
        if text.lower() not in _MISSING:
            values[column] = _value(column, header, text, table.place, publication.time_unit)
    for column, given in publication.columns.items():
        if values.setdefault(column, given) != given:
            says = f"{columns[column]} says {values[column]}"
            raise BadInput(
                f"{table.place}: {says}, and --set {column}={given}",
                "leave --set out, or import the other tables by themselves: --table N",
            )
    if not values.get("model"):
        raise BadInput(
            f"{table.place}: does not name the model", "give --model, or --map model=HEADER"
        )
    pool = values.get("pool", publication.pool)
    base: dict[str, Any] = {
        "point_id": "",
        "campaign": "published",
        "site": publication.site,
        "pool": pool,
        "repeat": 0,
        "placement_id": short_hash("table", publication.site, pool, publication.source),
        "status": Status.OK,
        "model_label": values["model"],
        "source": publication.source,
        "ended_at": publication.date,
        "hpcbench_version": __version__,
    }
    if not (values.get("throughput_infer_per_s") or 0) > 0:
        base |= {"status": Status.FAILED, "reason": f"{table.place} has no throughput"}
    record = Record(**(base | values))
    # The names of a source's GPUs tell its rows apart, but no two sites' points.
    return replace(record, point_id=point_id(record, more=(record.gpu_name,)))


def _value(column: str, header: str, text: str, place: str, time_unit: str | None) -> Any:
    kind = _TYPES[column]
    if not (pa.types.is_integer(kind.type) or pa.types.is_floating(kind.type)):
        return parse_column(column, text)
    try:
        factor = _factor(header, column, place, time_unit)
        multiple = _MULTIPLES.get(text[-1], 1) if kind.unit in ("infer/s", "1/s") else 1
        digits = text.replace(",", "").removesuffix("%")
        number = float(digits[:-1] if multiple > 1 else digits) * multiple * factor
    except ValueError as error:
        raise BadInput(
            f"{place}: {header}: {text!r} is no number", f"leave {column} out, or correct the table"
        ) from error
    return round(number) if pa.types.is_integer(kind.type) else number


def _factor(header: str, column: str, place: str, time_unit: str | None) -> float:
    own = _TYPES[column].unit
    implied = f"({time_unit})" if time_unit and own in ("us", "ms", "s") else ""
    form = r"[\[(]([^])]*)[\])]\s*$"
    unit = re.search(form, header) or re.search(form, implied)
    known = _FACTORS.get(own, {})
    if unit is None or not known:
        return 1.0
    asked = "".join(unit[1].lower().split())
    if asked not in known:
        raise BadInput(
            f"{place}: {header}: the unit {unit[1]} is not known for {column}"
            f"{did_you_mean(unit[1], known)}",
            f"known are: {', '.join(known)}",
        )
    return known[asked]
