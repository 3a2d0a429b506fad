"""What is drawn inside a panel: series as lines with markers and bars, and their ratios."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis import axes
from hpcbench.records import Status

# Okabe and Ito's colours, which the colour-blind can tell apart, less their yellow, which is too
# pale for lines on white.
_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#e69f00", "#56b4e9", "#000000", "#7f7f7f"),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "*", "h")
_MARKER_SIZES = (11, 10, 12, 9.5, 12, 12.5, 16, 12.5)
MOST_SERIES = len(_COLOURS)
_CROSS_HEIGHT = 0.045


class Style:
    """Colour and marker of the series of that rank in a figure."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.colour = _COLOURS[rank % MOST_SERIES]
        self.marker = _MARKERS[rank % MOST_SERIES]
        self.size = _MARKER_SIZES[rank % MOST_SERIES]

    def keywords(self, *, hollow: bool = False, line: bool = False) -> dict[str, Any]:
        """What Line2D takes."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": self.size,
            "markeredgewidth": 2.0,
            "markerfacecolor": "white" if hollow else self.colour,
            "linestyle": "-" if line else "none",
            "linewidth": 2.2,
        }

    def cross(self) -> dict[str, Any]:
        """What Line2D takes for a point without figures."""
        return {
            "color": self.colour,
            "marker": "x",
            "markersize": 9,
            "markeredgewidth": 2.5,
            "linestyle": "none",
        }


def draw_values(
    ax: Axes, points: pd.DataFrame, quantity: str, styles: Mapping[int, Style], name: str
) -> None:
    """The lines of one quantity, and a cross at the lower edge for each point without figures.

    ``name`` is that of the quantity, with its unit.
    """
    absent = points[points["measured"] == 0]
    rows = {number: row for row, number in enumerate(absent["series"].unique())}
    axes.log_value_axis(
        ax, _extent(points, quantity), room_below=_CROSS_HEIGHT * (len(rows) + 0.5) if rows else 0.0
    )
    for number, style in styles.items():
        series = points[points["series"] == number]
        _draw_series(ax, series, quantity, style)
        if number in rows:
            missing = series.loc[series["measured"] == 0, "batch_size"]
            ax.plot(
                missing,
                [_CROSS_HEIGHT * (rows[number] + 1)] * len(missing),
                transform=ax.get_xaxis_transform(),
                **style.cross(),
                gid="absent",
            )
    if not (points[quantity] > 0).any():
        what, _, _ = name.partition(" [")
        ax.text(0.5, 0.5, f"no {what}", transform=ax.transAxes, ha="center", va="center")
        ax.set_yticks([])
        ax.set_yticks([], minor=True)
    # The p of a percentile stays small.
    ax.set_ylabel(name if name.startswith("p") else name.capitalize())


def draw_ratios(ax: Axes, points: pd.DataFrame, quantity: str, styles: Mapping[int, Style]) -> None:
    """The lines of one quantity's ratio to the first series."""
    name = f"{quantity}_ratio"
    axes.ratio_axis(ax, _extent(points, name))
    ax.axhline(1, color="0.6", linewidth=1.5, linestyle=":", zorder=0)
    for number, style in styles.items():
        _draw_series(ax, points[points["series"] == number], name, style)
    ax.set_ylabel("Ratio to first", loc="center", fontsize="small")


def _draw_series(ax: Axes, series: pd.DataFrame, quantity: str, style: Style) -> None:
    # What is not positive has no place on a logarithmic axis; the note tells of it.
    drawn = series[series[quantity] > 0]
    x, y = drawn["batch_size"].to_numpy(float), drawn[quantity].to_numpy()
    hollow = (drawn["status"] == Status.UNSTABLE).to_numpy()
    ax.plot(x, y, color=style.colour, linewidth=2.2, zorder=2, gid="line")
    half = (drawn[f"{quantity}_high"] - drawn[quantity]).to_numpy()
    barred = np.isfinite(half)
    ax.errorbar(
        x[barred],
        y[barred],
        yerr=half[barred],
        fmt="none",
        ecolor=style.colour,
        elinewidth=1.5,
        capsize=5,
        capthick=1.5,
        alpha=0.7,
        zorder=2.5,
    )
    for which in (False, True):
        if (chosen := hollow == which).any():
            ax.plot(
                x[chosen],
                y[chosen],
                **style.keywords(hollow=which),
                zorder=3 - 0.01 * style.rank,
                gid="hollow" if which else "settled",
            )


def _extent(points: pd.DataFrame, quantity: str) -> list[float]:
    """The values that the axis must show: means, and bars that are not far longer than they."""
    means = points[quantity]
    low, high = points[f"{quantity}_low"], points[f"{quantity}_high"]
    return [*means, *low.clip(lower=means / 1.5), *high.clip(upper=means * 1.5)]
