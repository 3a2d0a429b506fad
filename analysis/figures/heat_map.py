"""Throughput and latency as colours over two axes."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from hpcbench.analysis.figures import axis_scales, captions, layout
from hpcbench.analysis.figures.layout import LegendEntry, Surroundings
from hpcbench.analysis.figures.legends import series_labels
from hpcbench.analysis.figures.panels import LATENCY, THROUGHPUT, THROUGHPUT_NAME, capitalised
from hpcbench.analysis.figures.styles import COLOUR_MAP, SMALL_PT, TICK_PT, Style
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.configuration import CONFIGURATION, group_numbers
from hpcbench.analysis.summary.configuration_names import device_name
from hpcbench.analysis.summary.figure_tables import MOST_FIGURES, FigureTables, plotted_numbers
from hpcbench.analysis.summary.points import row_dicts
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import (
    FigureAxis,
    axis_named,
    axis_positions,
    varying_axes,
)
from hpcbench.records.columns import Status

_MOST_PAIRS = 3
_MOST_TICKS = 16
_MOST_TEXTS = 120
_PANEL_IN = 7.0
_LABEL_IN = 2.5
_METRICS = (THROUGHPUT, LATENCY)

_CROSS: dict[str, Any] = {
    "marker": "x",
    "color": "0.3",
    "markersize": 12,
    "markeredgewidth": 2.5,
    "linestyle": "none",
    "gid": "absent",
}
_RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 9,
    "markerfacecolor": "none",
    "markeredgewidth": 2,
    "linestyle": "none",
    "color": "black",
}
_BEST: dict[str, Any] = {"fill": False, "edgecolor": "#d55e00", "linewidth": 5}


def prepare_heat_map(points: pd.DataFrame, pair: tuple[str, str] | None = None) -> FigureTables:
    """Prepare a figure for each pair of axes, model and device.

    Of the configurations of a figure that with the most cells is shown, and of several such that
    with the highest throughput.

    Parameters
    ----------
    points
        Table of `points.summarise`.
    pair
        Names of the x and the y axis: columns, or axes of the server variants. By default the
        first three pairs that were scanned together.

    Returns
    -------
    FigureTables
        Data of each figure, with the words that tell the figures apart. ``x_axis`` and ``y_axis``
        name the axes, ``x_text`` and ``y_text`` their values, ``candidates`` how many
        configurations there were.

    Raises
    ------
    DoesNotApply
        If no configuration was measured over two axes, or an axis of ``pair`` does not vary.
    """
    axes = varying_axes(points)
    pairs = list(combinations(axes, 2)) if pair is None else [_named_axes(axes, pair)]
    found: FigureTables = []
    for x, y in pairs:
        cells = _cells(series.require_measured(points), x, y)
        if not cells.empty:
            parts = _one_per_device(cells)
            found += [((f"{x.column}_{y.column}", *name), part) for name, part in parts]
        if len(found) >= MOST_FIGURES or len({name[0] for name, _ in found}) == _MOST_PAIRS:
            break
    if not found and pair is not None:
        raise DoesNotApply(f"nothing was measured over both {pair[0]} and {pair[1]}")
    if not found:
        message = "no configuration was measured over two axes together"
        raise DoesNotApply(captions.with_same_servers(message, points))
    return found


def _named_axes(axes: list[FigureAxis], pair: tuple[str, str]) -> tuple[FigureAxis, FigureAxis]:
    known = {axis.column: axis for axis in axes}
    for name in pair:
        if name not in known:
            raise DoesNotApply(f"{name!r} does not vary", f"choose two of {', '.join(known)}")
    return known[pair[0]], known[pair[1]]


def _cells(points: pd.DataFrame, x: FigureAxis, y: FigureAxis) -> pd.DataFrame:
    """Return the points of the configurations that fill a grid of the two axes."""
    table = points.copy()
    for name, axis in (("x", x), ("y", y)):
        places = axis_positions(table.assign(variant=points["variant"]), axis)
        table[name], table[f"{name}_text"] = places["at"], places["text"]
        table["variant"] = series.variants_without(table["variant"], axis.column)
    table = table[table["x"].notna() & table["y"].notna()]
    kept = [name for name in CONFIGURATION if name not in (*x.merged_columns, *y.merged_columns)]
    table["series"] = group_numbers(table, kept)
    table["x_axis"], table["y_axis"] = x.column, y.column
    there = table[table["measured"] > 0].drop_duplicates(["series", "x", "y"])
    counts = there.groupby("series")[["x", "y"]].nunique()
    # Points along one line, or scattered over many, make no map.
    full = (counts > 1).all(axis="columns") & (
        there.groupby("series").size() > counts.max(axis="columns")
    )
    table = table[table["series"].isin(full.index[full])]
    table = table.sort_values("measured", ascending=False)
    table["variant"] = points["variant"]
    return table.drop_duplicates(["series", "x", "y"]).sort_index()


def _one_per_device(cells: pd.DataFrame) -> FigureTables:
    """Choose the configuration of each model and device; of each model if those are too many."""
    found: FigureTables = []
    device = ["model_label", "site", "pool", "gpu_name"]
    if group_numbers(cells, device).max() >= MOST_FIGURES:
        device = device[:1]
    columns = [name for name in device if len(cells[name].drop_duplicates()) > 1]
    groups = group_numbers(cells, device)
    for number in range(groups.max() + 1):
        part = cells[groups == number]
        throughput = part[part["measured"] > 0].groupby("series")[THROUGHPUT]
        if not (part["measured"] > 0).any():
            continue
        order = pd.DataFrame({"cells": throughput.size(), "peak": throughput.max()})
        best = order.sort_values(["cells", "peak"], ascending=False).index[0]
        chosen = part[part["series"] == best].copy()
        chosen["series"] = 0
        data = plotted_numbers(chosen, _METRICS)
        data.insert(2, "y", chosen["y"].to_numpy())
        for column in ("x_axis", "x_text", "y_axis", "y_text"):
            data[column] = chosen[column].to_numpy()
        data["candidates"] = len(order)
        name = tuple(str(chosen[column].iloc[0]) for column in columns)
        found.append((name, data))
    return found


@dataclass(frozen=True)
class _Grid:
    """The cells of a map: the values of x and y in order."""

    columns: list[float]
    rows: list[float]

    @classmethod
    def of_data(cls, data: pd.DataFrame) -> "_Grid":
        return cls(*(sorted(data[name].unique()) for name in ("x", "y")))

    def center(self, x: float, y: float) -> tuple[float, float]:
        return self.columns.index(x) + 0.5, self.rows.index(y) + 0.5

    def values(self, data: pd.DataFrame, metric: str) -> npt.NDArray[np.float64]:
        """Return the metric of each cell; NaN without one, or where it is not positive."""
        table = data.pivot_table(index="y", columns="x", values=metric, dropna=False)
        values = table.reindex(index=self.rows, columns=self.columns).to_numpy(dtype=float)
        return np.where(values > 0, values, np.nan)


def draw_heat_map(data: pd.DataFrame, style: Style) -> Figure:
    """Draw throughput [infer/s] and latency [ms] of one configuration as two maps.

    Parameters
    ----------
    data
        Data of one figure of `prepare_heat_map`.
    style
        Style of the figure.

    Returns
    -------
    Figure
        Two panels. A frame is around the highest throughput, a ring in cells that did not
        settle, a cross in those without a result.
    """
    x, y = (axis_named(data[name].iloc[0]) for name in ("x_axis", "y_axis"))
    ignore = (*x.hidden_words, *y.hidden_words)
    title, _ = series_labels(data, ignore)
    row = row_dicts(data.iloc[:1])[0]
    title = f"{row['model_label']}, {device_name(row)}" if title else title
    grid = _Grid.of_data(data)
    figure = layout.new_figure(layout.WIDE_IN, wspace=0.06)
    panels = figure.subplots(1, 2)
    for ax, metric, name in zip(
        panels, _METRICS, (THROUGHPUT_NAME, captions.latency_name(data)), strict=True
    ):
        _draw_map(ax, data, metric, capitalised(name), grid)
        _label_cells(ax.xaxis, data, "x", x)
        _label_cells(ax.yaxis, data, "y", y)
    height_in = min(max(1.0 * len(grid.rows) + 1.0, 5.0), 11.0)
    around = Surroundings(
        captions.campaign_names(data), title, _legend_entries(data), _notes(data, ignore)
    )
    layout.finish_figure(figure, style, height_in, around)
    return figure


def _notes(data: pd.DataFrame, ignore: tuple[str, ...]) -> list[str]:
    count = data["candidates"].iloc[0]
    return [
        captions.conditions_note(data, ignore),
        captions.repeats_note(data, bars=None),
        f"Shown is one of {count} configurations that were measured over these axes: of those "
        "with the most cells, the one with the highest throughput."
        if count > 1
        else "",
    ]


def _draw_map(ax: Axes, data: pd.DataFrame, metric: str, label: str, grid: _Grid) -> None:
    values = grid.values(data, metric)
    known = values[np.isfinite(values)]
    norm = _colour_norm(known)
    mesh = ax.pcolormesh(np.ma.masked_invalid(values), cmap=COLOUR_MAP, norm=norm, rasterized=True)
    # Colours say where it is high, the numbers in the cells how high: few ticks are enough.
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02, aspect=30)
    bar.set_label(label)
    bar.ax.minorticks_off()
    axis_scales.set_colour_bar_ticks(bar.ax)
    size_pt = SMALL_PT if len(grid.columns) <= 8 else SMALL_PT - 4
    colours = mpl.colormaps[COLOUR_MAP]
    for row in data.to_dict("records"):
        place = grid.center(row["x"], row["y"])
        if not row["measured"]:
            ax.plot(*place, **_CROSS)
            continue
        dark = sum(colours(norm(row[metric]))[:3]) < 1.4 if row[metric] > 0 else False
        ink = "white" if dark else "black"
        if values.size <= _MOST_TEXTS and row[metric] > 0:
            text = format_compact(row[metric])
            ax.text(*place, text, ha="center", va="center", size=size_pt, color=ink)
        if row["status"] == Status.UNSTABLE:
            ax.plot(place[0] + 0.36, place[1] + 0.33, **(_RING | {"color": ink}), gid="hollow")
    if len(known) and metric == THROUGHPUT:
        best = np.unravel_index(np.nanargmax(values), values.shape)
        ax.add_patch(Rectangle((best[1] + 0.03, best[0] + 0.03), 0.94, 0.94, **_BEST, gid="best"))


def _colour_norm(known: npt.NDArray[np.float64]) -> Normalize:
    if not len(known):
        return Normalize(0, 1)
    kind = LogNorm if known.max() > 10 * known.min() else Normalize
    # Equal values still need two different ends.
    return kind(known.min(), max(known.max(), 1.05 * known.min()))


def _legend_entries(data: pd.DataFrame) -> list[LegendEntry]:
    entries: list[LegendEntry] = [("highest throughput", Rectangle((0, 0), 1, 1, **_BEST))]
    if (data["status"] == Status.UNSTABLE).any():
        entries.append(("at least one measurement did not settle", Line2D([], [], **_RING)))
    if (data["measured"] == 0).any():
        entries.append(("no result", Line2D([], [], **_CROSS)))
    return entries


def _label_cells(axis: Any, data: pd.DataFrame, name: str, along: FigureAxis) -> None:
    texts = dict(zip(data[name], data[f"{name}_text"], strict=True))
    step = math.ceil(len(texts) / _MOST_TICKS)
    width_in = _PANEL_IN / len(texts) * step if name == "x" else _LABEL_IN
    labels = [layout.wrap_text(texts[at], TICK_PT, width_in, 3) for at in sorted(texts)]
    axis.set_ticks([place + 0.5 for place in range(0, len(labels), step)], labels[::step])
    axis.set_ticks([], minor=True)
    for label in axis.get_ticklabels():
        label.set_parse_math(False)
    axis.set_label_text(along.label)
    axis.set_tick_params(length=0)


def format_compact(value: float) -> str:
    """Format a number for a cell, with k and M for thousands and millions.

    Parameters
    ----------
    value
        A positive number.

    Returns
    -------
    str
        Three significant digits; thousands are shortened from 10k on.
    """
    for least, divisor, unit in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= least:
            return f"{axis_scales.three_digits(value / divisor)}{unit}"
    return axis_scales.three_digits(value)
