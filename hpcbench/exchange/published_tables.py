"""Tables in a text: a CSV file, or all tables of a Markdown file with the headings above them."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
