"""Tables that keep everything they say, however narrow the terminal is.

What is the same in all rows is said once above the table. Where the rest is wider than the
terminal, the columns on the left become headings of groups of rows; in the extreme each row has a
heading of its own. Nothing is cut.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from hpcbench.cli.lines import folded_phrases
from hpcbench.cli.point_text import axis_name, axis_phrase
from hpcbench.records.columns import Status
from hpcbench.records.variants import BASE

COLOURS: Mapping[str, str] = {
    Status.OK: "green",
    Status.UNSTABLE: "yellow",
    Status.FAILED: "red",
    Status.TIMEOUT: "red",
    Status.NOT_APPLICABLE: "cyan",
}

_GAP = "  "
_INDENT = "  "


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Attributes
    ----------
    name
        Its heading.
    texts
        A cell for each row.
    phrases
        The same as part of a sentence; empty where there is nothing to say.
    right
        Whether its cells end at its right edge, as numbers do.
    """

    name: str
    texts: tuple[str, ...]
    phrases: tuple[str, ...] = ()
    right: bool = True

    @property
    def varies(self) -> bool:
        """Whether two rows differ in it."""
        return len(set(self.texts)) > 1

    @cached_property
    def width(self) -> int:
        """How wide it is in characters."""
        return max(map(cell_len, (self.name, *self.texts)))

    def cell(self, text: str) -> str:
        """Return a cell, or the heading, as wide as the column.

        Parameters
        ----------
        text
            What it says.

        Returns
        -------
        str
            With spaces before or after it.
        """
        space = " " * (self.width - cell_len(text))
        return space + text if self.right else text + space


def server_axes(models: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the server axes of some models, in the order of the campaign.

    Parameters
    ----------
    models
        The axes of each, from `point_text.axis_texts`.

    Returns
    -------
    list of str
        Each once.
    """
    # A server without dynamic batching has no queue delay: the longest say the order.
    longest_first = sorted(models, key=len, reverse=True)
    return list(dict.fromkeys(axis for texts in longest_first for axis in texts))


def server_columns(served: Sequence[Sequence[Mapping[str, str]]]) -> list[TableColumn]:
    """Return a column for each server axis.

    Parameters
    ----------
    served
        For each row the axes of each model on the server, from `point_text.axis_texts`.

    Returns
    -------
    list of TableColumn
        One that says "base" where no axis is set.
    """
    axes = server_axes(texts for row in served for texts in row)
    if not axes:
        base = (BASE,) * len(served)
        return [TableColumn("server", base, base, right=False)]
    columns = []
    for axis in axes:
        texts = tuple(" + ".join(model.get(axis, BASE) for model in row) for row in served)
        phrases = tuple(axis_phrase(axis, text) for text in texts)
        number = all(text == BASE or text.isdigit() for text in texts)
        columns.append(TableColumn(axis_name(axis), texts, phrases, right=number))
    return columns


def table_lines(
    asked: Sequence[TableColumn], found: Sequence[TableColumn], width: int | None
) -> list[Text]:
    """Return a table.

    Parameters
    ----------
    asked
        What the rows are about. Those on the left may become headings.
    found
        What came out.
    width
        How wide a line may be; None for whole rows with all columns, as programs read them.

    Returns
    -------
    list of Text
        The lines.
    """
    rows = range(len(found[0].texts))
    if width is None:
        shown = [*(each for each in asked if any(each.phrases)), *found]
        return [_line(shown), *(_line(shown, row) for row in rows)]
    varying = [each for each in asked if each.varies]
    same = [each.phrases[0] for each in asked if not each.varies and any(each.phrases)]
    above = [Text(folded_phrases(same, width, "all rows: ", 10), "bold")] if same else []
    return [*above, *_folded_rows(varying, found, width)]


def _folded_rows(
    asked: Sequence[TableColumn], found: Sequence[TableColumn], width: int
) -> list[Text]:
    """Return the rows, under headings of as few columns as leave room for the others."""
    fitting = (n for n in range(len(asked) + 1) if _width([*asked[n:], *found], n) <= width)
    headed = next(fitting, None)
    if headed is None:
        return _vertical(asked, found, width)
    inside = [*asked[headed:], *found]
    rows = range(len(found[0].texts))
    lines = [_line(inside, indent=_INDENT * bool(headed))]
    for heading, group in groupby(rows, lambda i: [each.phrases[i] for each in asked[:headed]]):
        if headed:
            lines.append(Text(folded_phrases([*filter(None, heading)], width, "", 4), "bold"))
        lines += [_line(inside, i, _INDENT * bool(headed)) for i in group]
    return lines


def _width(columns: Sequence[TableColumn], headed: int) -> int:
    widths = sum(each.width for each in columns) + len(_GAP) * (len(columns) - 1)
    return widths + len(_INDENT) * bool(headed)


def _vertical(asked: Sequence[TableColumn], found: Sequence[TableColumn], width: int) -> list[Text]:
    """Return a line for each metric, below what was asked for."""
    lines = []
    for i in range(len(found[0].texts)):
        heading = [each.phrases[i] for each in asked if each.phrases[i]]
        lines.append(Text(folded_phrases(heading, width, "", 4), "bold"))
        lines += [
            Text(f"{_INDENT}{each.name:<8} ").append(each.texts[i], COLOURS.get(each.texts[i], ""))
            for each in found
        ]
    return lines


def _line(columns: Sequence[TableColumn], row: int | None = None, indent: str = "") -> Text:
    """Return a row; that of the headings where no number is given."""
    line = Text(indent, style="bold" if row is None else "")
    for number, column in enumerate(columns):
        text = column.name if row is None else column.texts[row]
        colour = COLOURS.get(text, "") if column.name == "status" else ""
        line.append(_GAP * bool(number)).append(column.cell(text), colour)
    line.rstrip()
    return line
