"""The map of what failed or did not settle: one row per configuration, one cell per load."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hpcbench.analysis.figures import captions, layout
from hpcbench.analysis.figures.styles import DEFAULT, SMALL_PT, preset
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.figure_tables import FigureTables, plotted_numbers, single_figure
from hpcbench.analysis.summary.number_format import plain_number
from hpcbench.analysis.summary.points import row_dicts
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import BATCH_SIZE, LOADS, Axis
from hpcbench.records.columns import Status

MOST_ROWS = 40
_MOST_REASONS = 5
_LABEL_IN = 8.0
_FIGURES = re.compile(r"[0-9][0-9.,]*")
_SOME = "some repeats lack figures"

_LOOKS: dict[str, tuple[str, str]] = {
    # The colours are Okabe and Ito's; the marks tell them apart also without colour.
    Status.OK: ("#d9e8f2", ""),
    _SOME: ("#d9e8f2", "x"),
    Status.UNSTABLE: ("#f5deb3", "o"),
    Status.FAILED: ("#d55e00", "X"),
    Status.TIMEOUT: ("#cc79a7", "d"),
    Status.NOT_APPLICABLE: ("#c8c8c8", "_"),
}
_NAMES: dict[str, str] = {
    Status.OK: "settled",
    Status.UNSTABLE: "did not settle",
    Status.FAILED: "failed",
    Status.TIMEOUT: "timed out",
    Status.NOT_APPLICABLE: "not applicable",
}


def states(points: pd.DataFrame) -> FigureTables:
    """One picture: every point of the configurations in which something went wrong, else none.

    ``state`` is that of the point; ``text`` names the configuration.
    """
    if points.empty:
        raise DoesNotApply("there are no measurements")
    table = series.series_along(points, _axis(points))
    some = (table["status"].isin([Status.OK, Status.UNSTABLE])) & (table["lacking"] != "")
    table["state"] = np.where(some & (table["status"] == Status.OK), _SOME, table["status"])
    wrong = table["state"] != Status.OK
    if not wrong.any():
        raise DoesNotApply("every measurement settled")
    count = wrong.groupby(table["series"]).sum()
    most_wrong = count[count > 0].sort_values(ascending=False, kind="stable").index[:MOST_ROWS]
    shown = table[table["series"].isin(most_wrong)]
    _, texts = captions.legend(shown, _axis(points).hidden_words)
    numbers = plotted_numbers(shown, ())
    numbers["drawn"] = "colour"
    numbers.insert(1, "text", [texts[number] for number in numbers["series"]])
    numbers.insert(2, "state", shown["state"].to_numpy(dtype=object))
    numbers["axis"] = _axis(points).column
    numbers["configurations"] = len(count)
    numbers["wrong_configurations"] = int((count > 0).sum())
    return [((), numbers)]


def _axis(points: pd.DataFrame) -> Axis:
    """The load with the most values: it makes the fewest rows."""
    return max(LOADS, key=lambda axis: (points[axis.column].nunique(), axis is BATCH_SIZE))


def state_figure(numbers: pd.DataFrame, style: str) -> Figure:
    """The picture of `states`."""
    look = preset(style)
    axis = next(axis for axis in LOADS if axis.column == numbers["axis"].iloc[0])
    title, _ = captions.legend(numbers, axis.hidden_words)
    columns = sorted(numbers["x"].unique())
    rows = numbers["series"].drop_duplicates().tolist()
    texts = numbers.drop_duplicates("series").set_index("series")["text"]
    with look.active():
        figure = layout.blank(layout.WIDE_IN)
        ax = figure.subplots()
        for row in row_dicts(numbers):
            place = columns.index(row["x"]), len(rows) - 1 - rows.index(row["series"])
            colour, marker = _LOOKS[row["state"]]
            ax.add_patch(Rectangle(place, 1, 1, **_cell(colour), gid=row["state"]))
            if marker:
                ax.plot(place[0] + 0.5, place[1] + 0.5, **_mark(marker))
        ax.set_xlim(0, len(columns))
        ax.set_ylim(0, len(rows))
        step = -(-len(columns) // 24)
        ax.set_xticks(
            np.arange(len(columns))[::step] + 0.5, [plain_number(x) for x in columns[::step]]
        )
        size = SMALL_PT if len(rows) <= 25 else SMALL_PT - 3
        labels = [layout.wrapped(texts[number], size, _LABEL_IN, look, 3) for number in rows]
        places = len(rows) - np.arange(len(rows)) - 0.5
        ax.set_yticks(places, labels, fontsize=size, linespacing=1.1)
        for label in ax.get_yticklabels():
            label.set_parse_math(False)
        ax.tick_params(which="both", length=0)
        ax.minorticks_off()
        ax.grid(visible=False)
        ax.set_xlabel(axis.label)
        layout.write_header(ax, look, captions.campaigns(numbers))
        height_in = 1.2 + layout.rows_in(labels, size, 0.5)
        notes = [*_reasons(numbers), _left_out(numbers)]
        layout.write_around(figure, look, height_in, title, _entries(numbers), notes)
    return figure


def _cell(colour: str) -> dict[str, Any]:
    return {"facecolor": colour, "edgecolor": "white", "linewidth": 2}


def _mark(marker: str) -> dict[str, Any]:
    face = "none" if marker == "o" else "black"
    return {
        "marker": marker,
        "color": "black",
        "markerfacecolor": face,
        "markersize": 11,
        "markeredgewidth": 1.8,
        "linestyle": "none",
    }


def _entries(numbers: pd.DataFrame) -> list[layout.Entry]:
    counts = Counter(numbers["state"])
    entries: list[layout.Entry] = []
    for state, (colour, marker) in _LOOKS.items():
        if counts[state]:
            cell = Rectangle((0, 0), 1, 1, **_cell(colour))
            handle = (cell, layout.line(**_mark(marker))) if marker else cell
            entries.append((f"{_NAMES.get(state, state)} ({counts[state]})", handle))
    return entries


def _reasons(numbers: pd.DataFrame) -> list[str]:
    """The most frequent reasons, with one example of those that differ in their figures only."""
    wrong = numbers[(numbers["state"] != Status.OK) & numbers["reason"].notna()]
    examples: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for row in row_dicts(wrong):
        what = row["lacking"].replace("_", " ") or _NAMES[Status.UNSTABLE]
        reason = str(row["reason"]).partition("; ")[0][:160]
        text = reason if reason.startswith(what) else f"{what}: {reason}"
        kind = _FIGURES.sub("0", text.partition(": ")[0] if not row["lacking"] else text)
        examples.setdefault(kind, text)
        counts[kind] += 1
    told = counts.most_common()
    lines = [f"{_points(count)} {examples[kind]}" for kind, count in told[:_MOST_REASONS]]
    if told[_MOST_REASONS:]:
        rest = sum(count for _, count in told[_MOST_REASONS:])
        lines.append(f"{_points(rest)} other reasons; hpcbench status lists them.")
    return lines


def _points(count: int) -> str:
    return f"{count} point{'s' * (count > 1)}:"


def _left_out(numbers: pd.DataFrame) -> str:
    shown, wrong = numbers["series"].nunique(), numbers["wrong_configurations"].iloc[0]
    settled = numbers["configurations"].iloc[0] - wrong
    parts = []
    if wrong > shown:
        parts.append(f"{wrong - shown} more configurations with fewer such points")
    if settled:
        parts.append(f"{settled} in which every measurement settled")
    return f"Left out: {' and '.join(parts)}." if parts else ""


def status_map(points: pd.DataFrame, style: str = DEFAULT) -> Figure:
    """What became of every point of the configurations in which something went wrong.

    Rows are configurations, those with the most such points if there are more than MOST_ROWS;
    columns are the values of the load that has the most of them; an empty cell was not asked for.
    """
    return state_figure(single_figure(states(points)), style)
