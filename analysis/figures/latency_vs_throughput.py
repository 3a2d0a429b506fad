"""The latency-throughput curve: the latency that each throughput costs as the load grows."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from hpcbench.analysis.figures import annotations, axis_scales, captions, layout
from hpcbench.analysis.figures.layout import Surroundings
from hpcbench.analysis.figures.legends import SeriesLegend
from hpcbench.analysis.figures.panels import (
    LATENCY,
    THROUGHPUT,
    THROUGHPUT_NAME,
    capitalised,
    draw_error_bars,
    draw_grey_lines,
    draw_markers,
    values_in_view,
)
from hpcbench.analysis.figures.styles import SeriesMark, Style
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.figure_tables import (
    FigureTables,
    plotted_numbers,
    split_into_figures,
)
from hpcbench.analysis.summary.number_format import plain_number
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import LOADS, FigureAxis
from hpcbench.records.columns import Status

_METRICS = (THROUGHPUT, LATENCY)
_PANEL_IN = 8.0


def _curve_axis(points: pd.DataFrame) -> FigureAxis:
    """Return the load along which the lines run: the first of LOADS that varies."""
    for axis in LOADS:
        if series.varies_along(series.require_measured(points), axis):
            return axis
    raise DoesNotApply("no configuration was measured under two loads")


def prepare_latency_vs_throughput(points: pd.DataFrame) -> FigureTables:
    """Prepare the data of latency-throughput curves.

    Parameters
    ----------
    points
        Table of `points.summarise`.

    Returns
    -------
    FigureTables
        Data of each figure, with the words that tell the figures apart. ``load`` names the column
        along which the lines run: concurrency if it varies, else request rate or batch size.

    Raises
    ------
    DoesNotApply
        If no configuration was measured under two loads.
    """
    axis = _curve_axis(points)
    return [
        (name, plotted_numbers(part, _METRICS).assign(load=axis.column))
        for name, part in split_into_figures(series.series_along(points, axis))
        if (part[list(_METRICS)] > 0).all(axis="columns").any()
    ]


def draw_latency_vs_throughput(data: pd.DataFrame, style: Style) -> Figure:
    """Draw latency [ms] against throughput [infer/s], with the load beside the points.

    Parameters
    ----------
    data
        Data of one figure of `prepare_latency_vs_throughput`.
    style
        Style of the figure.

    Returns
    -------
    Figure
        One panel, in which lower and further right is better.
    """
    axis = next(axis for axis in LOADS if axis.column == data["load"].iloc[0])
    legend = SeriesLegend.from_data(data, axis.hidden_words)
    latency = captions.latency_name(data)
    figure = layout.new_figure(layout.NARROW_IN)
    ax = figure.subplots()
    axis_scales.set_log_x_axis(ax, values_in_view(data, THROUGHPUT))
    axis_scales.set_log_y_axis(ax, values_in_view(data, LATENCY))
    draw_grey_lines(ax, data, LATENCY, THROUGHPUT)
    texts = [
        text
        for number, mark in legend.marks.items()
        for text in _draw_curve(ax, data[data["series"] == number], mark)
    ]
    ax.set_xlabel(capitalised(THROUGHPUT_NAME))
    ax.set_ylabel(capitalised(latency))
    names = {THROUGHPUT: THROUGHPUT_NAME, LATENCY: latency}
    missing = captions.missing_points_note(data, legend.labels, axis, names)
    notes = [
        f"Numbers beside points: {axis.phrase}.",
        captions.conditions_note(data, axis.hidden_words),
        captions.repeats_note(data, "Bars"),
        # This figure has no place for crosses.
        missing.replace(" (crosses)", ""),
        captions.behind_note(data),
        captions.selection_note(data),
    ]
    entries = legend.entries(data)
    campaign = captions.campaign_names(data)
    around = Surroundings(campaign, legend.title, entries, notes, beside=True)
    layout.finish_figure(figure, style, _PANEL_IN, around)
    annotations.place_annotations(ax, texts)
    return figure


def _draw_curve(ax: Axes, points: pd.DataFrame, mark: SeriesMark) -> list[Annotation]:
    drawn = points[(points[list(_METRICS)] > 0).all(axis="columns")]
    x, y = (drawn[name].to_numpy(float) for name in _METRICS)
    ax.plot(x, y, color=mark.colour, linewidth=2.2, zorder=2, gid="line")
    draw_error_bars(ax, drawn, _METRICS, mark.colour, alpha=0.4)
    draw_markers(ax, x, y, (drawn["status"] == Status.UNSTABLE).to_numpy(bool), mark)
    return annotations.annotate_points(ax, map(plain_number, drawn["x"]), x, y, mark)
