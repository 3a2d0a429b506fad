"""The tables of a README or a spreadsheet: their cells, and what is said above them of all rows."""

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
        What is so for all rows, by name: the heading, and what is listed below this heading and
        those above it, in a table of two columns or as ``* **Name:** value``.
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
    # What is said below a heading is so until the next one of its level or a higher one.
    sections: list[tuple[int, dict[str, str]]] = [(0, {HEADING: ""})]
    for number, found in _markdown_parts(text):
        match found:
            case _Heading(level, heading):
                sections = [each for each in sections if each[0] < level]
                sections.append((level, {HEADING: heading}))
            case [[_, _], *rows]:
                sections[-1][1].update({row[0]: row[1] for row in rows if len(row) == 2})
            case _:
                about = {name: value for _, said in sections for name, value in said.items()}
                yield _table(f"{name} line {number}", found, about)


@dataclass(frozen=True)
class _Heading:
    level: int
    text: str


def _table(place: str, cells: Sequence[Sequence[str]], about: Mapping[str, str]) -> Table:
    headers = [" ".join(header.split()) for header in cells[0]]
    rows = [dict(zip(headers, map(str.strip, row), strict=False)) for row in cells[1:]]
    return Table(place, headers, rows, about)


_FENCE = re.compile(r"\s*```[^`]*")
_FACT = re.compile(r"\s*[*+-]\s+\*\*(.+?):\*\*\s*(.+?)\s*")


def _markdown_parts(text: str) -> Iterator[tuple[int, _Heading | list[list[str]]]]:
    """Yield headings, and the cells of tables; ``* **Name:** value`` is a table, too."""
    cells: list[list[str]] = []
    start, is_code = 0, False
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        # Comments of a shell begin like headings.
        is_code ^= _FENCE.fullmatch(line) is not None
        row = None if is_code else _markdown_row(line)
        if row is not None:
            start = start if cells else number
            if not all(_RULE.fullmatch(cell) for cell in row):
                cells.append(row)
            continue
        if cells:
            yield start, cells
            cells = []
        if fact := _FACT.fullmatch(line):
            yield number, [["", ""], [fact[1], fact[2]]]
        elif line.startswith("#") and not is_code:
            bare = line.lstrip("#")
            yield number, _Heading(len(line) - len(bare), _plain(bare.strip("# ")))


def _markdown_row(line: str) -> list[str] | None:
    bare = line.strip()
    if not bare.startswith("|"):
        return None
    # Not strip: the first and the last cell may be empty.
    return [_plain(cell.strip()) for cell in bare[1:].removesuffix("|").split("|")]


def _plain(text: str) -> str:
    """Return text without what makes it bold."""
    return text.replace("**", "")
