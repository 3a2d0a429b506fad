"""Records from a table that somebody published: in a README, a paper, a spreadsheet.

Units are converted from what stands in parentheses in a header, as in "p99 latency (ms)". What a
table does not say stays missing. Its source and date stand in each row.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from hpcbench._version import __version__
from hpcbench.errors import BadInput, did_you_mean
from hpcbench.exchange.add_records import add_records, point_id, short_hash
from hpcbench.exchange.import_notes import doubts
from hpcbench.exchange.origin import check_column
from hpcbench.exchange.published_tables import HEADING, Table, read_tables
from hpcbench.exchange.table_cells import MISSING, cell_value, without_unit
from hpcbench.records.columns import COLUMNS, Record, Status

_TYPES = {column.name: column for column in COLUMNS}

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
    try:
        read = list(read_tables(text, name))
    except csv.Error as error:
        raise BadInput(f"{name}: is not a CSV file: {error}", "correct the file") from error
    tables = [(table, _columns_of(table, publication)) for table in read]
    possible = [(table, columns) for table, columns in tables if columns.keys() >= _NEEDED]
    if not possible:
        headers = ", ".join(dict.fromkeys(h for table, _ in tables for h in table.headers))
        raise BadInput(
            f"{name}: no table has a throughput and a batch size; headers: {headers or 'none'}",
            "name them: --map throughput_infer_per_s=HEADER --map batch_size=HEADER",
        )
    _check_headers(read, name, publication)
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
        _check_single(table, columns)
        for number, cells in enumerate(table.rows, start=1):
            place = f"{table.place}, row {number}"
            record = _record(cells, table, place, columns, publication)
            key = (record.pool, record.point_id)
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


def _check_headers(tables: Sequence[Table], name: str, publication: Publication) -> None:
    there = {each for table in tables for each in (*table.headers, *table.about)}
    known = there | set(map(without_unit, there))
    for column, header in publication.headers.items():
        if header not in known:
            raise BadInput(
                f"{name}: --map {column}={header}: no table has this header"
                f"{did_you_mean(header, known)}",
                f"headers: {', '.join(filter(None, sorted(there))) or 'none'}",
            )


def _check_single(table: Table, columns: Mapping[str, str]) -> None:
    """Check that a column has one header, and that this stands once in the table."""
    for column, header in columns.items():
        if table.headers.count(header) > 1 and header:
            raise BadInput(
                f"{table.place}: {header}: stands there {table.headers.count(header)} times",
                f"rename the one that is not {column}",
            )


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
        column = _USUAL.get(without_unit(header).lower())
        if column is not None:
            found[column] = header
    there = [*table.headers, *table.about]
    for column, asked in publication.headers.items():
        # A header is given with its unit or without.
        match = [each for each in there if asked in (each, without_unit(each))]
        if match:
            found[column] = match[0]
    return {**dict.fromkeys(publication.columns, ""), **found}


def _record(
    cells: Mapping[str, str],
    table: Table,
    place: str,
    columns: Mapping[str, str],
    publication: Publication,
) -> Record:
    values: dict[str, Any] = {}
    for column, header in columns.items():
        text = cells.get(header, table.about.get(header, "")) if header else ""
        if text.lower() not in MISSING:
            values[column] = cell_value(column, header, text, place, publication.time_unit)
    for column, given in publication.columns.items():
        if values.setdefault(column, given) != given:
            says = f"{columns[column]} says {values[column]}"
            raise BadInput(
                f"{table.place}: {says}, and --set {column}={given}",
                "leave --set out, or import the other tables by themselves: --table N",
            )
    if not values.get("model"):
        raise BadInput(
            f"{table.place}: does not name the model",
            "give --set model=NAME, or --map model=HEADER",
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
