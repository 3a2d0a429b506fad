"""Maps over two axes: how throughput and latency depend on both."""

import math
from itertools import combinations
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hpcbench.analysis.figures import axes, captions, layout
from hpcbench.analysis.figures.panels import sentence
from hpcbench.analysis.figures.styles import DEFAULT, MAP, SMALL_PT, TICK_PT, Preset, preset
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.configuration import CONFIGURATION, group_numbers
from hpcbench.analysis.summary.configuration_names import device_name
from hpcbench.analysis.summary.figure_tables import (
    MOST_FIGURES,
    FigureTables,
    plotted_numbers,
    single_figure,
)
from hpcbench.analysis.summary.points import row_dicts
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import Axis, axis_named, axis_positions, varying_axes
from hpcbench.records.columns import Status

_MOST_PAIRS = 3
_MOST_TICKS = 16
_MOST_TEXTS = 120
_PANEL_IN = 7.0
_LABEL_IN = 2.5
_BOTH = ("throughput_infer_per_s", "latency_ms")


def maps(points: pd.DataFrame) -> FigureTables:
    """A picture per pair of axes, model and device: the configuration with most cells."""
    found: FigureTables = []
    for x, y in combinations(varying_axes(points), 2):
        cells = _cells(series.require_measured(points), x, y)
        if not cells.empty:
            parts = _one_per_device(cells)
            found += [((f"{x.column}_{y.column}", *name), part) for name, part in parts]
        if len(found) >= MOST_FIGURES or len({name[0] for name, _ in found}) == _MOST_PAIRS:
            break
    if not found:
        raise DoesNotApply("no configuration was measured over two axes together")
    return found


def _cells(points: pd.DataFrame, x: Axis, y: Axis) -> pd.DataFrame:
    """The points of slices that have two measured values of each axis; others are dropped."""
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
    # Points along a line, or scattered, make no map.
    full = (counts > 1).all(axis="columns") & (
        there.groupby("series").size() > counts.max(axis="columns")
    )
    table = table[table["series"].isin(full.index[full])]
    table = table.sort_values("measured", ascending=False)
    table["variant"] = points["variant"]
    return table.drop_duplicates(["series", "x", "y"]).sort_index()


def _one_per_device(cells: pd.DataFrame) -> FigureTables:
    """The best configuration of each model and device; of each model where those are too many."""
    found: FigureTables = []
    device = ["model_label", "site", "pool", "gpu_name"]
    if group_numbers(cells, device).max() >= MOST_FIGURES:
        device = device[:1]
    columns = [name for name in device if len(cells[name].drop_duplicates()) > 1]
    groups = group_numbers(cells, device)
    for number in range(groups.max() + 1):
        part = cells[groups == number]
        sizes = part[part["measured"] > 0].groupby("series")["throughput_infer_per_s"]
        if not (part["measured"] > 0).any():
            continue
        order = pd.DataFrame({"cells": sizes.size(), "peak": sizes.max()})
        best = order.sort_values(["cells", "peak"], ascending=False).index[0]
        chosen = part[part["series"] == best].copy()
        chosen["series"] = 0
        numbers = plotted_numbers(chosen, _BOTH)
        numbers.insert(2, "y", chosen["y"].to_numpy())
        for told in ("x_axis", "x_text", "y_axis", "y_text"):
            numbers[told] = chosen[told].to_numpy()
        numbers["candidates"] = len(order)
        name = tuple(str(chosen[column].iloc[0]) for column in columns)
        found.append((name, numbers))
    return found


def map_figure(numbers: pd.DataFrame, style: str) -> Figure:
    """One picture of `maps`."""
    look = preset(style)
    x, y = (axis_named(numbers[name].iloc[0]) for name in ("x_axis", "y_axis"))
    ignore = (*x.hidden_words, *y.hidden_words)
    title, _ = captions.legend(numbers, ignore)
    row = row_dicts(numbers.iloc[:1])[0]
    title = f"{row['model_label']}, {device_name(row)}" if title else title
    names = ("throughput [infer/s]", captions.latency(numbers))
    count = numbers["candidates"].iloc[0]
    notes = [
        captions.conditions(numbers, ignore),
        captions.repeats(numbers, bars=None),
        f"One of {count} configurations with these axes: of those with the most cells the one with "
        "the highest throughput."
        if count > 1
        else "",
    ]
    columns, rows = (sorted(numbers[name].unique()) for name in ("x", "y"))
    height_in = min(max(1.0 * len(rows) + 1.0, 5.0), 11.0)
    with look.active():
        figure = layout.blank(layout.WIDE_IN, wspace=0.06)
        grid = figure.subplots(1, 2)
        for ax, quantity, name in zip(grid, _BOTH, names, strict=True):
            _draw_map(figure, ax, numbers, quantity, name, columns, rows)
            _name_cells(ax.xaxis, numbers, "x", x, look)
            _name_cells(ax.yaxis, numbers, "y", y, look)
        layout.write_header(grid[0], look, captions.campaigns(numbers))
        layout.write_around(figure, look, height_in, title, _entries(numbers), notes)
    return figure


def _draw_map(
    figure: Figure,
    ax: Axes,
    numbers: pd.DataFrame,
    quantity: str,
    name: str,
    columns: list[float],
    rows: list[float],
) -> None:
    table = numbers.pivot_table(index="y", columns="x", values=quantity, dropna=False)
    values = table.reindex(index=rows, columns=columns).to_numpy(dtype=float)
    values = np.where(values > 0, values, np.nan)
    known = values[np.isfinite(values)]
    norm: Normalize = Normalize(0, 1)
    if len(known):
        wide = known.max() > 10 * known.min()
        norm = (LogNorm if wide else Normalize)(known.min(), max(known.max(), 1.05 * known.min()))
    mesh = ax.pcolormesh(np.ma.masked_invalid(values), cmap=MAP, norm=norm, rasterized=True)
    # Little of either end would be read: the colour says which way, the number how much.
    bar = figure.colorbar(mesh, ax=ax, pad=0.02, aspect=30)
    bar.set_label(sentence(name))
    bar.ax.minorticks_off()
    axes.colour_ticks(bar.ax)
    texts = values.size <= _MOST_TEXTS
    small = SMALL_PT if len(columns) <= 8 else SMALL_PT - 4
    colours = mpl.colormaps[MAP]
    for row in numbers.to_dict("records"):
        place = columns.index(row["x"]) + 0.5, rows.index(row["y"]) + 0.5
        if not row["measured"]:
            ax.plot(*place, **_CROSS)
            continue
        dark = sum(colours(norm(row[quantity]))[:3]) < 1.4 if row[quantity] > 0 else False
        ink = "white" if dark else "black"
        if texts and row[quantity] > 0:
            ax.text(*place, compact(row[quantity]), ha="center", va="center", size=small, color=ink)
        if row["status"] == Status.UNSTABLE:
            ax.plot(place[0] + 0.36, place[1] + 0.33, **(_RING | {"color": ink}), gid="hollow")
    if len(known) and quantity == _BOTH[0]:
        best = np.unravel_index(np.nanargmax(values), values.shape)
        ax.add_patch(Rectangle((best[1] + 0.03, best[0] + 0.03), 0.94, 0.94, **_BEST, gid="best"))


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


def _entries(numbers: pd.DataFrame) -> list[layout.Entry]:
    entries: list[layout.Entry] = [("highest throughput", Rectangle((0, 0), 1, 1, **_BEST))]
    if (numbers["status"] == Status.UNSTABLE).any():
        entries.append(("at least one measurement did not settle", layout.line(**_RING)))
    if (numbers["measured"] == 0).any():
        entries.append(("no result", layout.line(**_CROSS)))
    return entries


def _name_cells(of: Any, numbers: pd.DataFrame, name: str, along: Axis, look: Preset) -> None:
    texts = dict(zip(numbers[name], numbers[f"{name}_text"], strict=True))
    step = math.ceil(len(texts) / _MOST_TICKS)
    room_in = _PANEL_IN / len(texts) * step if name == "x" else _LABEL_IN
    labels = [layout.wrapped(texts[at], TICK_PT, room_in, look, 3) for at in sorted(texts)]
    of.set_ticks([place + 0.5 for place in range(0, len(labels), step)], labels[::step])
    of.set_ticks([], minor=True)
    for label in of.get_ticklabels():
        label.set_parse_math(False)
    of.set_label_text(along.label)
    of.set_tick_params(length=0)


def compact(value: float) -> str:
    """Three digits, with k and M for thousands and millions."""
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{axes.three_digits(value / (1e6 if unit == 'M' else 1e3))}{unit}"
    return axes.three_digits(value)


def heat_map(points: pd.DataFrame, x: str, y: str, style: str = DEFAULT) -> Figure:
    """Throughput [infer/s] and latency [ms] as colours over two axes, for one model and device.

    ``x`` and ``y`` name what varies: a column, or an axis of the server variants. A ring:
    did not settle; a cross: no result; the frame is around the highest throughput.
    """
    there = {one.column: one for one in varying_axes(points)}
    for name in (x, y):
        if name not in there:
            raise DoesNotApply(f"nothing varies along {name!r}", f"take two of {', '.join(there)}")
    cells = _cells(series.require_measured(points), there[x], there[y])
    if cells.empty:
        raise DoesNotApply(f"nothing was measured over both {x} and {y}")
    return map_figure(single_figure(_one_per_device(cells)), style)
