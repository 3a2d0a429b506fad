"""What is drawn inside a panel: series as lines with markers and bands, and their ratios.

A row of the tables here is a point of `hpcbench.analysis.summary.series.numbers`: its place is
``x``, and
``drawn`` says whether its series stands out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from hpcbench.analysis.figures import axes
from hpcbench.analysis.figures.styles import GREY, Mark
from hpcbench.records.columns import Status

_CROSS_HEIGHT = 0.045


def draw_values(
    ax: Axes, points: pd.DataFrame, quantity: str, marks: Mapping[int, Mark], name: str
) -> None:
    """The lines of one quantity, and a cross at the lower edge for each point without figures.

    ``name`` is that of the quantity, with its unit; ``marks`` are those of the series that stand
    out.
    """
    shown = points[points["series"].isin(list(marks))]
    absent = shown[shown["measured"] == 0]
    rows = {number: row for row, number in enumerate(absent["series"].unique())}
    room = min(_CROSS_HEIGHT * (len(rows) + 0.5), 0.4) if rows else 0.0
    axes.log_value_axis(ax, extent(points, quantity), room_below=room)
    draw_grey(ax, points, quantity)
    for number, mark in marks.items():
        series = points[points["series"] == number]
        draw_series(ax, series, quantity, mark, band=_band(marks))
        if number in rows:
            missing = series.loc[series["measured"] == 0, "x"]
            height = room * (rows[number] + 1) / (len(rows) + 0.5)
            ax.plot(
                missing,
                [height] * len(missing),
                transform=ax.get_xaxis_transform(),
                **mark.cross(),
                gid="absent",
            )
    if not (points[quantity] > 0).any():
        write_none(ax, name)
    ax.set_ylabel(sentence(name))


def write_none(ax: Axes, name: str) -> None:
    """Says in the panel that there is nothing of what it would show."""
    what, _, _ = name.partition(" [")
    ax.text(0.5, 0.5, f"no {what}", transform=ax.transAxes, ha="center", va="center")
    ax.set_yticks([])
    ax.set_yticks([], minor=True)


def sentence(name: str) -> str:
    """The name with a capital; the p of a percentile stays small."""
    return name if name[:2] in ("p9", "p5") else name[:1].upper() + name[1:]


def draw_ratios(ax: Axes, points: pd.DataFrame, quantity: str, marks: Mapping[int, Mark]) -> None:
    """The lines of one quantity's ratio to the first series."""
    name = f"{quantity}_ratio"
    axes.ratio_axis(ax, extent(points[points["series"].isin(list(marks))], name))
    ax.axhline(1, color="0.6", linewidth=1.5, linestyle=":", zorder=0)
    for number, mark in marks.items():
        draw_series(ax, points[points["series"] == number], name, mark, band=_band(marks))
    ax.set_ylabel("Ratio to first", loc="center", fontsize="small")


def draw_grey(ax: Axes, points: pd.DataFrame, quantity: str, x: str = "x") -> None:
    """The series that do not stand out, as thin lines behind the others."""
    grey = points[(points["drawn"] == "grey") & (points[quantity] > 0) & (points[x] > 0)]
    for _, series in grey.groupby("series"):
        ax.plot(series[x], series[quantity], color=GREY, linewidth=1, zorder=1, gid="grey")


def draw_series(
    ax: Axes,
    series: pd.DataFrame,
    quantity: str,
    mark: Mark,
    *,
    linestyle: str = "-",
    band: float = 0.2,
) -> None:
    """One line over ``x``: a band where neighbours have intervals, else bars; hollow: unstable.

    ``band`` is how opaque it is.
    """
    # What is not positive has no place on a logarithmic axis; the note tells of it.
    drawn = series[series[quantity] > 0]
    x, y = drawn["x"].to_numpy(float), drawn[quantity].to_numpy(float)
    low, high = (drawn[f"{quantity}{end}"].to_numpy(float) for end in ("_low", "_high"))
    # A limit below zero must not tear a hole into the band.
    low = np.maximum(low, y * 1e-3)
    ax.plot(x, y, color=mark.colour, linewidth=2.2, linestyle=linestyle, zorder=2, gid="line")
    barred = np.isfinite(low) & np.isfinite(high)
    if (np.diff(np.flatnonzero(barred)) == 1).any():
        ax.fill_between(
            x, low, high, where=barred, color=mark.colour, alpha=band, linewidth=0, zorder=1.5
        )
    alone = barred & ~_beside(barred)
    ax.errorbar(
        x[alone],
        y[alone],
        yerr=np.stack([y - low, high - y])[:, alone],
        fmt="none",
        ecolor=mark.colour,
        elinewidth=1.5,
        capsize=5,
        capthick=1.5,
        alpha=0.7,
        zorder=2.5,
    )
    draw_markers(ax, x, y, (drawn["status"] == Status.UNSTABLE).to_numpy(bool), mark)


def _band(marks: Mapping[int, Mark]) -> float:
    """Many bands over each other must not hide the lines."""
    return 0.2 if len(marks) <= 3 else 0.1


def draw_markers(
    ax: Axes,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    unstable: npt.NDArray[np.bool_],
    mark: Mark,
) -> None:
    """Points: filled where all repeats settled, else hollow."""
    for hollow in (False, True):
        if (chosen := unstable == hollow).any():
            ax.plot(
                x[chosen],
                y[chosen],
                **mark.keywords(hollow=hollow),
                zorder=3 - 0.01 * mark.rank,
                gid="hollow" if hollow else "settled",
            )


def draw_bars(ax: Axes, table: pd.DataFrame, x: str, y: str, colour: str, *, opaque: float) -> None:
    """The intervals of both quantities as thin bars through each point."""
    for quantity, way in ((x, "xerr"), (y, "yerr")):
        value, low, high = (
            table[f"{quantity}{end}"].to_numpy(float) for end in ("", "_low", "_high")
        )
        bars = np.nan_to_num(np.stack([value - np.maximum(low, value * 1e-3), high - value]))
        look: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 1.2, way: bars}
        ax.errorbar(table[x], table[y], alpha=opaque, **look)


def _beside(there: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where a neighbour is there."""
    padded = np.concatenate([[False], there, [False]])
    found: npt.NDArray[np.bool_] = padded[:-2] | padded[2:]
    return found


def extent(points: pd.DataFrame, quantity: str) -> list[float]:
    """The values that the axis must show: means, and bars that are not far longer than they."""
    means = points[quantity]
    low, high = points[f"{quantity}_low"], points[f"{quantity}_high"]
    return [*means, *low.clip(lower=means / 1.5), *high.clip(upper=means * 1.5)]
