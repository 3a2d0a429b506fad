"""The tails of the latency as the load grows: p50, p99, and how high the p99 may truly be."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpcbench.analysis.figures import axis_scales, captions, layout
from hpcbench.analysis.figures.layout import Surroundings
from hpcbench.analysis.figures.legends import SeriesLegend
from hpcbench.analysis.figures.panels import bar_ends, draw_grey_lines, draw_series, values_in_view
from hpcbench.analysis.figures.styles import TICK_PT, SeriesMark, Style
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.figure_tables import (
    FigureTables,
    plotted_numbers,
    split_into_figures,
)
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import BATCH_SIZE, CONCURRENCY, REQUEST_RATE

_P50, _P99, _BOUND = "latency_p50_ms", "latency_p99_ms", "latency_p99_bound_ms"
_METRICS = (_P50, _P99, _BOUND)
_AXES = (REQUEST_RATE, CONCURRENCY, BATCH_SIZE)
_MOST_SERIES = 5
"""Each has three lines."""

_LINES = (
    "Dashed: p50. Solid: p99. Shaded: from the p99 to its bound, which the true one does not "
    "exceed with 95 %; where no measurement knows one, to the end of the interval over repeats, or "
    "to the slower of two."
)
_PANEL_IN = 8.0
_PANEL_PT = (layout.NARROW_IN - 1.7) * 72


def prepare_latency_tails(points: pd.DataFrame) -> FigureTables:
    """Prepare the median and the p99 along the load.

    Parameters
    ----------
    points
        Table of `points.summarise`.

    Returns
    -------
    FigureTables
        Data of each figure, with the words that tell the figures apart. ``load`` names the column
        along which the lines run: request rate if it varies, else concurrency or batch size.
        ``latency_p99_bound_ms`` is the bound that the measurements know, or else the upper end of
        the interval of the p99.

    Raises
    ------
    DoesNotApply
        If no configuration has both percentiles under two loads.
    """
    there = points[(points[[_P50, _P99]] > 0).all(axis="columns")]
    for axis in _AXES:
        if not there.empty and series.varies_along(there, axis):
            break
    else:
        raise DoesNotApply("no configuration has a p50 and a p99 under two loads")
    table = series.series_along(there, axis)
    # A line of one point shows no tail that grows.
    table = table[table["series"].duplicated(keep=False)]
    return [
        (name, _with_bound(plotted_numbers(part, _METRICS, _MOST_SERIES)).assign(load=axis.column))
        for name, part in split_into_figures(table, _MOST_SERIES)
    ]


def _with_bound(data: pd.DataFrame) -> pd.DataFrame:
    _, high = bar_ends(data, _P99)
    return data.assign(**{_BOUND: data[_BOUND].fillna(pd.Series(high, index=data.index))})


def draw_latency_tails(data: pd.DataFrame, style: Style) -> Figure:
    """Draw p50 and p99 latency [ms] against the load, and the bound of the p99.

    Parameters
    ----------
    data
        Data of one figure of `prepare_latency_tails`.
    style
        Style of the figure.

    Returns
    -------
    Figure
        One panel; the p50 is dashed, the p99 solid with its points, shaded up to its bound.
    """
    axis = next(axis for axis in _AXES if axis.column == data["load"].iloc[0])
    legend = SeriesLegend.from_data(data, axis.hidden_words)
    figure = layout.new_figure(layout.NARROW_IN)
    ax = figure.subplots()
    bounds = data[_BOUND].clip(upper=3 * data[_P99])
    view = [*values_in_view(data, _P50), *values_in_view(data, _P99), *bounds]
    axis_scales.set_log_y_axis(ax, view)
    draw_grey_lines(ax, data, _P99)
    for number, mark in legend.marks.items():
        _draw_tails(ax, data[data["series"] == number], mark)
    axis_scales.set_swept_x_axis(
        ax,
        data.loc[data["drawn"] != "no", "x"].unique().tolist(),
        linear=axis.linear,
        label_pt=TICK_PT,
        axis_pt=_PANEL_PT,
    )
    ax.set_xlabel(axis.label)
    ax.set_ylabel("Latency [ms]")
    notes = [
        _LINES,
        captions.conditions_note(data, axis.hidden_words),
        captions.repeats_note(data, None),
        captions.behind_note(data),
        captions.selection_note(data),
    ]
    around = Surroundings(captions.campaign_names(data), legend.title, legend.entries(data), notes)
    layout.finish_figure(figure, style, _PANEL_IN, around)
    return figure


def _draw_tails(ax: Axes, points: pd.DataFrame, mark: SeriesMark) -> None:
    x, p50, p99, bound = (points[name].to_numpy(float) for name in ("x", *_METRICS))
    ax.plot(x, p50, color=mark.colour, linewidth=1.6, linestyle="--", zorder=2, gid="p50")
    ax.fill_between(
        x,
        p99,
        np.maximum(bound, p99),
        where=np.isfinite(bound),
        color=mark.colour,
        alpha=0.2,
        linewidth=0,
        gid="bound",
    )
    # The bound is shaded: the bars of the mean would say something else beside it.
    ends = [f"{_P99}{end}" for end in ("_low", "_high", "_min", "_max")]
    draw_series(ax, points.assign(**dict.fromkeys(ends, np.nan)), _P99, mark)
