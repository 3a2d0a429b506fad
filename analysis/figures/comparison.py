"""The figure of a comparison: each configuration's ratio with its interval, most changed first."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from hpcbench.analysis.decide import compare_text
from hpcbench.analysis.decide.compare import METRICS, Comparison, Verdict
from hpcbench.analysis.figures import axes, layout
from hpcbench.analysis.figures.styles import COLOURS, DEFAULT, GREY, SMALL_PT, preset
from hpcbench.analysis.summary.limits import Metric

MOST_ROWS = 24

_MARKS: dict[Verdict, dict[str, Any]] = {
    Verdict.WORSE: {"color": COLOURS[1], "marker": "v"},
    Verdict.BETTER: {"color": COLOURS[0], "marker": "^"},
    Verdict.SAME: {"color": COLOURS[2], "marker": "o"},
    Verdict.NOISE: {"color": "0.35", "marker": "s"},
    Verdict.TOO_FEW: {"color": "0.6", "marker": "X"},
}
_LINE_IN = 0.28
_NAME_CHARACTERS = 60
_TITLE_CHARACTERS = 14


def changes(found: Comparison, names: tuple[str, str], style: str = DEFAULT) -> Figure:
    """Ratios B / A, a panel per figure and a row per configuration, at most MOST_ROWS of them.

    Bars are Welch's intervals of 95 %. Hollow: measured once on one side, so there is none. The
    grey band is the tolerance. Raises BadInput for a style that is not there.
    """
    look = preset(style)
    shown = _of_most_changed(found)
    quantities = [q for q in METRICS if (shown["metric"] == q.column).any()]
    configurations = list(dict.fromkeys(zip(shown["a"], shown["b"], strict=True)))
    texts, shared = compare_text.changed_configurations(found, shown.drop_duplicates(["a", "b"]))
    texts = [textwrap.fill(text, _NAME_CHARACTERS) for text in texts]
    row_in = _LINE_IN * (1.5 + max((text.count("\n") for text in texts), default=0))
    with look.active():
        figure = layout.blank(layout.WIDE_IN, wspace=0.03)
        panels = figure.subplots(1, max(len(quantities), 1), sharey=True, squeeze=False)[0]
        for ax, quantity in zip(panels, quantities, strict=False):
            _panel(ax, shown[shown["metric"] == quantity.column], configurations, quantity, found)
        panels[0].set_yticks(range(len(texts)), texts, fontsize=SMALL_PT, parse_math=False)
        panels[0].set_ylim(len(texts) - 0.4, -0.6)
        layout.write_header(panels[0], look, shared)
        entries = [
            (verdict.value, layout.line(linestyle="none", markersize=11, **mark))
            for verdict, mark in _MARKS.items()
            if (shown["verdict"] == verdict).any()
        ]
        height_in = len(texts) * row_in + 0.8
        notes = _notes(found, names, shown)
        layout.write_around(figure, look, height_in, "Ratio B / A", entries, notes)
    return figure


def _of_most_changed(found: Comparison) -> pd.DataFrame:
    """All figures of those configurations of which one changed most."""
    first = compare_text.most_changed(found, len(found.rows)).drop_duplicates(["a", "b"])
    worse = (first["verdict"] == Verdict.WORSE).to_numpy()
    chosen = np.sort(np.argsort(~worse, kind="stable")[:MOST_ROWS])
    return first.iloc[chosen][["a", "b"]].merge(found.rows, on=["a", "b"])


def _panel(
    ax: Axes,
    rows: pd.DataFrame,
    configurations: Sequence[tuple[int, int]],
    quantity: Metric,
    found: Comparison,
) -> None:
    places = {pair: place for place, pair in enumerate(configurations)}
    y = np.array([places[pair] for pair in zip(rows["a"], rows["b"], strict=True)])
    bound = 1 + found.tolerance
    ax.axvspan(1 / bound, bound, color=GREY, alpha=0.5, linewidth=0, zorder=0)
    ax.axvline(1, color="0.5", linewidth=1.5, zorder=1)
    ratio, low, high = (rows[name].to_numpy() for name in ("ratio", "low", "high"))
    once = rows["once"].to_numpy(dtype=bool)
    for verdict, mark in _MARKS.items():
        of = (rows["verdict"] == verdict).to_numpy()
        for hollow in (False, True):
            if (chosen := of & (once == hollow)).any():
                ax.plot(
                    ratio[chosen],
                    y[chosen],
                    linestyle="none",
                    markersize=11,
                    markerfacecolor="white" if hollow else mark["color"],
                    markeredgewidth=2,
                    zorder=3,
                    **mark,
                )
        bars = of & ~once
        ax.hlines(y[bars], low[bars], high[bars], color=mark["color"], linewidth=2.2, zorder=2)
    means = [*ratio, bound, 1 / bound]
    # A bar far longer than the changes would hide them all.
    extent = [*means, *low.clip(min=ratio / 2), *high.clip(max=ratio * 2)]
    axes.ratio_axis(ax, [value for value in extent if math.isfinite(value)], "x")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.tick_params(axis="y", which="both", length=0)
    better = "right" if quantity.higher_is_better else "left"
    # The p of a percentile stays small.
    name = quantity.name if quantity.name.startswith("p") else quantity.name.capitalize()
    name = textwrap.fill(name, _TITLE_CHARACTERS)
    ax.set_xlabel(f"{name}\n({better} is better)", loc="center", fontsize="small")


def _notes(found: Comparison, names: tuple[str, str], shown: pd.DataFrame) -> list[str]:
    left = len(found.rows) - len(shown)
    told = (
        f"Grey band: the tolerance of {found.tolerance:.1%}. Bars: 95% intervals (Welch). Hollow: "
        "measured once, no interval."
    )
    rest = f" {left} more figures, which changed less, are left out." if left else ""
    return [*compare_text.comparison_summary(found, names), told + rest]


def write(found: Comparison, names: tuple[str, str], path: Path) -> None:
    """The figure as a file; its suffix says of which kind."""
    figure = changes(found, names)
    with preset(DEFAULT).active():
        figure.savefig(path)
