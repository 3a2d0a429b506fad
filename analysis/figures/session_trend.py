"""The figure of ``hpcbench compare --against-history``: each configuration session by session."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from hpcbench.analysis.decide.history import History, session_trends
from hpcbench.analysis.figures import layout
from hpcbench.analysis.figures.layout import Surroundings
from hpcbench.analysis.figures.styles import COLOURS, DEFAULT_STYLE, GREY, SMALL_PT, get_style
from hpcbench.analysis.summary.configuration import plain_rows
from hpcbench.analysis.summary.configuration_names import configuration_names
from hpcbench.analysis.summary.limits import Metric

MOST_ROWS = 6
"""Configurations in the figure: those whose last session is furthest from the earlier ones."""

_ROW_IN = 2.6


def draw_session_trend(history: History, style: str = DEFAULT_STYLE) -> Figure:
    """Draw each session's mean, a row for each configuration and a panel for each metric.

    Parameters
    ----------
    history
        From `history.split_history`.
    style
        A key of `styles.STYLES`.

    Returns
    -------
    Figure
        The grey band is where the last session is expected with 95 %.
    """
    trends = session_trends(history)
    whole = pd.concat([*trends.values()])
    trends = {metric: trend for metric, trend in trends.items() if len(trend)}
    furthest = whole.sort_values("beyond", ascending=False, kind="stable")
    shown = furthest.drop_duplicates("configuration").head(MOST_ROWS).reset_index(drop=True)
    texts, shared = configuration_names(plain_rows(shown, range(len(shown))))
    look = get_style(style)
    with look.context():
        figure = layout.new_figure(layout.WIDE_IN, hspace=0.2, wspace=0.2)
        size = max(len(shown), 1), max(len(trends), 1)
        panels = figure.subplots(*size, sharex=True, squeeze=False)
        for number, (text, configuration) in enumerate(
            zip(texts, shown["configuration"], strict=True)
        ):
            for ax, (metric, trend) in zip(panels[number], trends.items(), strict=True):
                _draw_sessions(ax, trend[trend["configuration"] == configuration], metric)
            lines = layout.wrap_text(text, SMALL_PT, layout.WIDE_IN * 0.9, 2)
            # On the right: the figure's own title stands above the first panel.
            panels[number][-1].set_title(lines, fontsize=SMALL_PT, loc="right", parse_math=False)
        for ax in panels[-1]:
            ax.set_xlabel("Session", loc="center", fontsize="small")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        left = whole["configuration"].nunique() - len(shown)
        notes = [
            f"Sessions are numbered in time, from 1 to {len(history.names)}: the last is compared. "
            "Grey: where it is expected with 95%, by the spread between the earlier ones."
            + (f" {left} more configurations are closer to theirs." if left > 0 else "")
        ]
        entries = [
            ("earlier sessions", Line2D([], [], color=COLOURS[0], marker="o", markersize=9)),
            ("last session", Line2D([], [], linestyle="none", color=COLOURS[1], marker="D")),
            ("expected (95%)", Patch(color=GREY)),
        ]
        around = Surroundings(shared, "", entries, notes)
        layout.finish_figure(figure, look, size[0] * _ROW_IN + 1.0, around)
    return figure


def _draw_sessions(ax: Axes, trend: pd.DataFrame, metric: Metric) -> None:
    if trend.empty:
        ax.set_axis_off()
        return
    trend = trend.sort_values("session")
    x, y = trend["session"].to_numpy() + 1, trend["mean"].to_numpy()
    ax.axhspan(trend["low"].iloc[0], trend["high"].iloc[0], color=GREY, linewidth=0, zorder=0)
    ax.plot(x, y, color=COLOURS[0], marker="o", markersize=8, linewidth=2, zorder=2)
    ax.plot(x[-1:], y[-1:], color=COLOURS[1], marker="D", markersize=11, zorder=3)
    limits = np.array([*y, trend["low"].iloc[0], trend["high"].iloc[0]])
    margin = 0.08 * (np.ptp(limits) or abs(limits[0]) or 1)
    # A band far wider than what was measured would make all sessions look the same.
    ax.set_ylim(
        max(limits.min() - margin, y.min() - 3 * (np.ptp(y) + margin)),
        min(limits.max() + margin, y.max() + 3 * (np.ptp(y) + margin)),
    )
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(labelsize=SMALL_PT)
    unit = f" [{metric.unit}]" if metric.unit else ""
    ax.set_ylabel(f"{metric.name}{unit}", fontsize=SMALL_PT - 2, loc="center")


def save_session_trend(history: History, path: Path) -> None:
    """Write the figure of a history to a file.

    Parameters
    ----------
    history
        From `history.split_history`.
    path
        File to write; its suffix decides the format, as in matplotlib.
    """
    figure = draw_session_trend(history)
    with get_style(DEFAULT_STYLE).context():
        figure.savefig(path)
