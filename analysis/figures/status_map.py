"""A map of the points that failed or did not settle, with the most frequent reasons."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from hpcbench.analysis.figures import captions, layout
from hpcbench.analysis.figures.layout import LegendEntry, Surroundings
from hpcbench.analysis.figures.legends import series_labels
from hpcbench.analysis.figures.styles import SMALL_PT, Style
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.figure_tables import FigureTables, plotted_numbers
from hpcbench.analysis.summary.invalid_rows import INVALID
from hpcbench.analysis.summary.number_format import plain_number
from hpcbench.analysis.summary.points import row_dicts
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import BATCH_SIZE, LOADS, FigureAxis
from hpcbench.records.columns import Status

MOST_ROWS = 40
_MOST_REASONS = 5
_MOST_REASON_CHARACTERS = 160
_MOST_TICKS = 24
_LABEL_IN = 8.0
_DIGITS = re.compile(r"[0-9][0-9.,]*")
_INCOMPLETE = "some repeats have no result"

_LOOKS: dict[str, tuple[str, str]] = {
    # Colours of Okabe and Ito; the markers tell the states apart without colour, too.
    Status.OK: ("#d9e8f2", ""),
    _INCOMPLETE: ("#d9e8f2", "x"),
    Status.UNSTABLE: ("#f5deb3", "o"),
    INVALID: ("#f0e442", "s"),
    Status.FAILED: ("#d55e00", "X"),
    Status.TIMEOUT: ("#cc79a7", "d"),
    Status.NOT_APPLICABLE: ("#c8c8c8", "_"),
}
_NAMES: dict[str, str] = {
    Status.OK: "settled",
    Status.UNSTABLE: "did not settle",
    INVALID: "not valid",
    Status.FAILED: "failed",
    Status.TIMEOUT: "timed out",
    Status.NOT_APPLICABLE: "not applicable",
}


def prepare_status_map(points: pd.DataFrame) -> FigureTables:
    """Prepare every point of the configurations in which something went wrong.

    Parameters
    ----------
    points
        Table of `points.summarise`.

    Returns
    -------
    FigureTables
        Data of the one figure. ``state`` is the status of a point, or that some of its repeats
        have no result; ``text`` names the configuration.

    Raises
    ------
    DoesNotApply
        If every measurement settled.
    """
    if points.empty:
        raise DoesNotApply("there are no measurements")
    axis = _column_axis(points)
    table = series.series_along(points, axis)
    incomplete = (table["status"] == Status.OK) & (table["lacking"] != "")
    table["state"] = np.where(incomplete, _INCOMPLETE, table["status"])
    wrong = table["state"] != Status.OK
    if not wrong.any():
        raise DoesNotApply("every measurement settled")
    count = wrong.groupby(table["series"]).sum()
    most_wrong = count[count > 0].sort_values(ascending=False, kind="stable").index[:MOST_ROWS]
    shown = table[table["series"].isin(most_wrong)]
    _, labels = series_labels(shown, axis.hidden_words)
    data = plotted_numbers(shown, ())
    data["drawn"] = "colour"
    data.insert(1, "text", [labels[number] for number in data["series"]])
    data.insert(2, "state", shown["state"].to_numpy(dtype=object))
    data["axis"] = axis.column
    data["configurations"] = len(count)
    data["wrong_configurations"] = int((count > 0).sum())
    return [((), data)]


def _column_axis(points: pd.DataFrame) -> FigureAxis:
    """Return the load with the most values: it makes the fewest rows."""
    return max(LOADS, key=lambda axis: (points[axis.column].nunique(), axis is BATCH_SIZE))


def draw_status_map(data: pd.DataFrame, style: Style) -> Figure:
    """Draw a row for each configuration, at most MOST_ROWS, and a cell for each load.

    Parameters
    ----------
    data
        Data of `prepare_status_map`.
    style
        Style of the figure.

    Returns
    -------
    Figure
        One panel. A cell that is empty was not asked for.
    """
    axis = next(axis for axis in LOADS if axis.column == data["axis"].iloc[0])
    title, _ = series_labels(data, axis.hidden_words)
    rows = data["series"].drop_duplicates().tolist()
    texts = data.drop_duplicates("series").set_index("series")["text"]
    size_pt = SMALL_PT if len(rows) <= 25 else SMALL_PT - 3
    labels = [layout.wrap_text(texts[number], size_pt, _LABEL_IN, 3) for number in rows]
    figure = layout.new_figure(layout.WIDE_IN)
    ax = figure.subplots()
    _draw_cells(ax, data, rows)
    places = len(rows) - np.arange(len(rows)) - 0.5
    ax.set_yticks(places, labels, fontsize=size_pt, linespacing=1.1)
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.set_xlabel(axis.label)
    height_in = 1.2 + layout.rows_height_in(labels, size_pt, 0.5)
    notes = [*_reason_notes(data), _left_out_note(data)]
    around = Surroundings(captions.campaign_names(data), title, _legend_entries(data), notes)
    layout.finish_figure(figure, style, height_in, around)
    return figure


def _draw_cells(ax: Axes, data: pd.DataFrame, rows: list[int]) -> None:
    columns = sorted(data["x"].unique())
    for row in row_dicts(data):
        place = columns.index(row["x"]), len(rows) - 1 - rows.index(row["series"])
        colour, marker = _LOOKS[row["state"]]
        ax.add_patch(Rectangle(place, 1, 1, **_cell_keywords(colour), gid=row["state"]))
        if marker:
            ax.plot(place[0] + 0.5, place[1] + 0.5, **_marker_keywords(marker))
    ax.set_xlim(0, len(columns))
    ax.set_ylim(0, len(rows))
    step = -(-len(columns) // _MOST_TICKS)
    ax.set_xticks(np.arange(len(columns))[::step] + 0.5, [plain_number(x) for x in columns[::step]])
    ax.tick_params(which="both", length=0)
    ax.minorticks_off()
    ax.grid(visible=False)


def _cell_keywords(colour: str) -> dict[str, Any]:
    return {"facecolor": colour, "edgecolor": "white", "linewidth": 2}


def _marker_keywords(marker: str) -> dict[str, Any]:
    face = "none" if marker == "o" else "black"
    return {
        "marker": marker,
        "color": "black",
        "markerfacecolor": face,
        "markersize": 11,
        "markeredgewidth": 1.8,
        "linestyle": "none",
    }


def _legend_entries(data: pd.DataFrame) -> list[LegendEntry]:
    counts = Counter(data["state"])
    entries: list[LegendEntry] = []
    for state, (colour, marker) in _LOOKS.items():
        if counts[state]:
            cell = Rectangle((0, 0), 1, 1, **_cell_keywords(colour))
            handle = (cell, Line2D([], [], **_marker_keywords(marker))) if marker else cell
            entries.append((f"{_NAMES.get(state, state)} ({counts[state]})", handle))
    return entries


def _reason_notes(data: pd.DataFrame) -> list[str]:
    """Return the most frequent reasons; of those that differ in numbers only, the first."""
    wrong = data[(data["state"] != Status.OK) & data["reason"].notna()]
    examples: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for row in row_dicts(wrong):
        status = row["lacking"].replace("_", " ") or _NAMES[Status.UNSTABLE]
        reason = str(row["reason"]).partition("; ")[0][:_MOST_REASON_CHARACTERS]
        # The reason of what is invalid begins with "not valid", which says it already.
        is_said = reason.startswith((status, "not valid"))
        text = reason if is_said else f"{status}: {reason}"
        # What follows the colon of a point that did not settle are its windows.
        kind = _DIGITS.sub("0", text.partition(": ")[0] if not row["lacking"] else text)
        examples.setdefault(kind, text)
        counts[kind] += 1
    ranked = counts.most_common()
    notes = [f"{_point_count(count)} {examples[kind]}" for kind, count in ranked[:_MOST_REASONS]]
    if ranked[_MOST_REASONS:]:
        rest = sum(count for _, count in ranked[_MOST_REASONS:])
        notes.append(f"{_point_count(rest)} other reasons; hpcbench status lists them.")
    return notes


def _point_count(count: int) -> str:
    return f"{_counted(count, 'point')}:"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _left_out_note(data: pd.DataFrame) -> str:
    shown, wrong = data["series"].nunique(), data["wrong_configurations"].iloc[0]
    settled = data["configurations"].iloc[0] - wrong
    parts = []
    if wrong > shown:
        parts.append(f"{_counted(wrong - shown, 'configuration')} with fewer such points")
    if settled:
        parts.append(f"{_counted(settled, 'configuration')} in which every measurement settled")
    return f"Left out: {' and '.join(parts)}." if parts else ""
