"""The figure of ``hpcbench compare``: the ratio of each configuration with its interval."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from hpcbench.analysis.decide import compare_summary, compare_text
from hpcbench.analysis.decide.changes import Verdict
from hpcbench.analysis.decide.compare import METRICS, Comparison
from hpcbench.analysis.figures import axis_scales, layout
from hpcbench.analysis.figures.layout import Surroundings
from hpcbench.analysis.figures.styles import COLOURS, DEFAULT_STYLE, GREY, SMALL_PT, get_style
from hpcbench.analysis.summary.limits import Metric

MOST_ROWS = 24
"""Configurations in the figure; the files of ``hpcbench compare`` have all."""

_MARKS: dict[Verdict, dict[str, Any]] = {
    Verdict.WORSE: {"color": COLOURS[1], "marker": "v"},
    Verdict.BETTER: {"color": COLOURS[0], "marker": "^"},
    Verdict.SAME: {"color": COLOURS[2], "marker": "o"},
    Verdict.INCONCLUSIVE: {"color": "0.35", "marker": "s"},
}
_LINE_IN = 0.28
_NAME_CHARACTERS = 60
_LABEL_CHARACTERS = 14


def draw_results_comparison(
    found: Comparison, names: tuple[str, str], style: str = DEFAULT_STYLE
) -> Figure:
    """Draw the ratios B / A: a panel for each metric and a row for each configuration.

    Bars are the intervals that the verdicts used. Hollow points were measured once on one side. The
    grey band is the tolerance.

    Parameters
    ----------
    found
        Result of `compare.compare`.
    names
        Names of A and B for the notes.
    style
        A key of `styles.STYLES`.

    Returns
    -------
    Figure
        At most MOST_ROWS rows, those that changed most, what got worse first.
    """
    look = get_style(style)
    shown = _most_changed(found)
    metrics = [metric for metric in METRICS if (shown["metric"] == metric.column).any()]
    configurations = list(dict.fromkeys(zip(shown["a"], shown["b"], strict=True)))
    texts, shared = compare_text.changed_configurations(found, shown.drop_duplicates(["a", "b"]))
    texts = [textwrap.fill(text, _NAME_CHARACTERS) for text in texts]
    row_in = _LINE_IN * (1.5 + max((text.count("\n") for text in texts), default=0))
    with look.context():
        figure = layout.new_figure(layout.WIDE_IN, wspace=0.03)
        panels = figure.subplots(1, max(len(metrics), 1), sharey=True, squeeze=False)[0]
        for ax, metric in zip(panels, metrics, strict=False):
            rows = shown[shown["metric"] == metric.column]
            _draw_ratios(ax, rows, configurations, found.tolerance)
            _label_metric(ax, metric)
        panels[0].set_yticks(range(len(texts)), texts, fontsize=SMALL_PT, parse_math=False)
        panels[0].set_ylim(len(texts) - 0.4, -0.6)
        entries = [
            (verdict.value, Line2D([], [], linestyle="none", markersize=11, **mark))
            for verdict, mark in _MARKS.items()
            if (shown["verdict"] == verdict).any()
        ]
        around = Surroundings(shared, "Ratio B / A", entries, _notes(found, names, shown))
        layout.finish_figure(figure, look, len(texts) * row_in + 0.8, around)
    return figure


def _most_changed(found: Comparison) -> pd.DataFrame:
    """Return all metrics of the configurations in which some metric changed most."""
    first = compare_text.most_changed(found, len(found.rows)).drop_duplicates(["a", "b"])
    worse = (first["verdict"] == Verdict.WORSE).to_numpy()
    chosen = np.sort(np.argsort(~worse, kind="stable")[:MOST_ROWS])
    return first.iloc[chosen][["a", "b"]].merge(found.rows, on=["a", "b"])


def _draw_ratios(
    ax: Axes, rows: pd.DataFrame, configurations: Sequence[tuple[int, int]], tolerance: float
) -> None:
    places = {pair: place for place, pair in enumerate(configurations)}
    y = np.array([places[pair] for pair in zip(rows["a"], rows["b"], strict=True)])
    bound = 1 + tolerance
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
        bars = of & np.isfinite(low) & np.isfinite(high)
        ax.hlines(y[bars], low[bars], high[bars], color=mark["color"], linewidth=2.2, zorder=2)
    # A bar far longer than the changes would make all changes look like nothing.
    ends = [*low.clip(min=ratio / 2), *high.clip(max=ratio * 2)]
    values = [value for value in (*ratio, bound, 1 / bound, *ends) if math.isfinite(value)]
    axis_scales.set_ratio_axis(ax, values, "x")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.tick_params(axis="y", which="both", length=0)


def _label_metric(ax: Axes, metric: Metric) -> None:
    better = "right" if metric.higher_is_better else "left"
    # The p of a percentile stays small.
    name = metric.name if metric.name.startswith("p") else metric.name.capitalize()
    name = textwrap.fill(name, _LABEL_CHARACTERS)
    ax.set_xlabel(f"{name}\n({better} is better)", loc="center", fontsize="small")


def _notes(found: Comparison, names: tuple[str, str], shown: pd.DataFrame) -> list[str]:
    left = len(found.rows) - len(shown)
    symbols = (
        f"Grey band: the tolerance of {found.tolerance:.1%}. Bars: the intervals that the verdicts "
        "used. Hollow: measured once, with the spread of its neighbours."
    )
    rest = f" {left} more ratios, which changed less, are left out." if left else ""
    return [*compare_summary.comparison_summary(found, names), symbols + rest]


def save_results_comparison(found: Comparison, names: tuple[str, str], path: Path) -> None:
    """Write the figure of a comparison to a file.

    Parameters
    ----------
    found
        Result of `compare.compare`.
    names
        Names of A and B for the notes.
    path
        File to write; its suffix decides the format, as in matplotlib.
    """
    figure = draw_results_comparison(found, names)
    with get_style(DEFAULT_STYLE).context():
        figure.savefig(path)
