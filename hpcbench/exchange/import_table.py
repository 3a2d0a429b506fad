"""Records from a table that somebody published: in a README, a paper, a spreadsheet.

Units are converted from what stands in parentheses in a header, as in "p99 latency (ms)". What a
table does not say stays missing. Its source and date stand in each row.
"""

import csv
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
from hpcbench.records.columns import COLUMNS, Record, Status

_RULE = re.compile(r":?-+:?")

HEADING = "heading"
"""By this name, a column takes the heading above its table."""


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes
    ----------
    place
        Where it is, for a message.
    headers
        Of its columns.
    rows
        Its cells, by header.
    about
        What is so for all rows, by name: the heading, and a table of two columns below it.
    """

    place: str
    headers: Sequence[str]
    rows: Sequence[Mapping[str, str]]
    about: Mapping[str, str]


def read_tables(text: str, name: str) -> Iterator[Table]:
    """Return the tables of a file.

    Parameters
    ----------
    text
        Its content.
    name
        Its name: what ends in .csv is one table.

    Yields
    ------
    Table
        In their order. A table of two columns is one that describes the next ones.
    """
    if name.lower().endswith(".csv"):
        cells = [row for row in csv.reader(text.splitlines()) if any(map(str.strip, row))]
        yield from ([_table(name, cells, {})] if cells else [])
        return
    about: dict[str, str] = {}
    for number, heading, cells in _markdown_tables(text):
        if heading != about.get(HEADING):
            about = {HEADING: heading}
        if len(cells[0]) == 2:
            about |= {row[0]: row[1] for row in cells[1:] if len(row) == 2}
        else:
            yield _table(f"{name} line {number}", cells, about)


def _table(place: str, cells: Sequence[Sequence[str]], about: Mapping[str, str]) -> Table:
    headers = [header.strip() for header in cells[0]]
    rows = [dict(zip(headers, map(str.strip, row), strict=False)) for row in cells[1:]]
    return Table(place, headers, rows, dict(about))


def _markdown_tables(text: str) -> Iterator[tuple[int, str, list[list[str]]]]:
    heading, start = "", 0
    cells: list[list[str]] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        row = _markdown_row(line)
        if row is not None:
            start = start if cells else number
            if not all(_RULE.fullmatch(cell) for cell in row):
                cells.append(row)
            continue
        if cells:
            yield start, heading, cells
            cells = []
        if line.startswith("#"):
            heading = line.strip("# ")


def _markdown_row(line: str) -> list[str] | None:
    bare = line.strip()
    return [cell.strip() for cell in bare.strip("|").split("|")] if bare.startswith("|") else None


_TYPES = {column.name: column for column in COLUMNS}

_FACTORS: dict[str, dict[str, float]] = {
    "us": {"ns": 1e-3, "us": 1, "µs": 1, "usec": 1, "ms": 1e3, "msec": 1e3, "s": 1e6, "sec": 1e6},
    "ms": {"us": 1e-3, "ms": 1, "s": 1e3},
    "s": {"us": 1e-6, "ms": 1e-3, "s": 1, "sec": 1, "min": 60},
    "B": {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30},
    "W": {"mw": 1e-3, "w": 1, "kw": 1e3},
    "J": {"mj": 1e-3, "j": 1},
    "infer/s": dict.fromkeys(("infer/s", "infer/sec", "1/s", "inferences/s", "qps"), 1),
    "1/s": {"1/s": 1, "hz": 1, "qps": 1, "req/s": 1},
    "%": {"%": 1},
    "1": {"1": 1, "%": 1e-2},
}
"""By the unit of a column: the factor from each unit that a header may name, in small letters."""

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
    table
        Which of several tables, from 1, counting those that can be imported; None for all.
    """

    source: str
    date: datetime
    columns: Mapping[str, Any]
    headers: Mapping[str, str]
    site: str = "published"
    pool: str = "published"
    time_unit: str | None = None
    table: int | None = None


@dataclass(frozen=True)
class TableImport:
    """What an import has found.

    Attributes
    ----------
    records
        One for each row with a throughput or a latency.
    unread
        Headers that no column takes.
    doubts
        What cannot be true as it stands.
    """

    records: tuple[Record, ...]
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
    tables = list(read_tables(text, name))
    taken = [(table, _columns_of(table, publication)) for table in tables]
    taken = [(t, c) for t, c in taken if {"batch_size", "throughput_infer_per_s"} <= c.keys()]
    if not taken:
        headers = ", ".join(dict.fromkeys(h for table in tables for h in table.headers))
        raise BadInput(
            f"{name}: no table has a throughput and a batch size; headers: {headers or 'none'}",
            "name them: --map throughput_infer_per_s=HEADER --map batch_size=HEADER",
        )
    if publication.table is not None:
        taken = taken[publication.table - 1 : publication.table]
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
    return TableImport(tuple(rows), tuple(unread), tuple(doubts(rows, sources)))


def _columns_of(table: Table, publication: Publication) -> dict[str, str]:
    """Return the header, or the name above the table, of each column that the table has."""
    found = {}
    for header in table.headers:
        column = _USUAL.get(_without_unit(header).lower())
        if column is not None:
            found[column] = header
    there = {*table.headers, *table.about}
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
    values = {**values, **publication.columns}
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
        number = float(text.replace(",", "").removesuffix("%")) * factor
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
    if unit[1].strip().lower() not in known:
        raise BadInput(
            f"{place}: {header}: the unit {unit[1]} is not known for {column}"
            f"{did_you_mean(unit[1], known)}",
            f"known are: {', '.join(known)}",
        )
    return known[unit[1].strip().lower()]
