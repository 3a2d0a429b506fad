"""Throughput and GPU utilisation against the number of model instances."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpcbench.analysis.figures import axis_scales, captions, layout
from hpcbench.analysis.figures.layout import Surroundings
from hpcbench.analysis.figures.legends import SeriesLegend
from hpcbench.analysis.figures.panels import (
    THROUGHPUT,
    THROUGHPUT_NAME,
    draw_metric_panel,
    draw_series,
)
from hpcbench.analysis.figures.styles import TICK_PT, SeriesMark, Style
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.configuration import LOAD
from hpcbench.analysis.summary.figure_tables import (
    FigureTables,
    plotted_numbers,
    split_into_figures,
)
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import INSTANCES

MOST_SERIES = 4
"""Each series has two lines, one on either side."""

_UTILISATION = "gpu_utilization_percent"
_PANEL_IN = 8.0
_PANEL_PT = (layout.NARROW_IN - 2.5) * 72


def prepare_throughput_utilisation_vs_instances(points: pd.DataFrame) -> FigureTables:
    """Prepare the best throughput of all loads, and its GPU utilisation, against instances.

    Parameters
    ----------
    points
        Table of `points.summarise`.

    Returns
    -------
    FigureTables
        Data of each figure, with the words that tell the figures apart.

    Raises
    ------
    DoesNotApply
        If no configuration was measured with two numbers of instances.
    """
    if not series.varies_along(series.require_measured(points), INSTANCES):
        message = "no configuration was measured with two numbers of instances"
        raise DoesNotApply(captions.with_same_servers(message, points))
    table = series.series_along(series.best_points(points, LOAD), INSTANCES, LOAD)
    return [
        (name, plotted_numbers(part, (THROUGHPUT, _UTILISATION), MOST_SERIES))
        for name, part in split_into_figures(table, MOST_SERIES)
    ]


def draw_throughput_utilisation_vs_instances(data: pd.DataFrame, style: Style) -> Figure:
    """Draw throughput [infer/s] on the left axis and GPU utilisation [%] on the right.

    Parameters
    ----------
    data
        Data of one figure of `prepare_throughput_utilisation_vs_instances`.
    style
        Style of the figure.

    Returns
    -------
    Figure
        One panel; without GPU utilisation it has no right axis.
    """
    ignore = (*INSTANCES.hidden_words, *LOAD)
    legend = SeriesLegend.from_data(data, ignore)
    used = bool(data[_UTILISATION].notna().any())
    figure = layout.new_figure(layout.NARROW_IN)
    ax = figure.subplots()
    draw_metric_panel(ax, data, THROUGHPUT, legend.marks, THROUGHPUT_NAME)
    axis_scales.set_y_axis_from_zero(ax, data[THROUGHPUT])
    values = data.loc[data["drawn"] != "no", "x"].unique().tolist()
    axis_scales.set_swept_x_axis(ax, values, linear=True, label_pt=TICK_PT, axis_pt=_PANEL_PT)
    ax.set_xlabel(INSTANCES.label)
    if used:
        _draw_utilisation(ax, data, legend.marks)
    notes = [
        "Solid, left: throughput. Dashed, right: GPU utilisation."
        if used
        else "No GPU utilisation was recorded.",
        captions.best_load_note(data),
        captions.conditions_note(data, ignore),
        captions.repeats_note(data),
        captions.selection_note(data),
    ]
    around = Surroundings(captions.campaign_names(data), legend.title, legend.entries(data), notes)
    layout.finish_figure(figure, style, _PANEL_IN, around)
    return figure


def _draw_utilisation(ax: Axes, data: pd.DataFrame, marks: Mapping[int, SeriesMark]) -> None:
    right = ax.twinx()
    for number, mark in marks.items():
        draw_series(right, data[data["series"] == number], _UTILISATION, mark, linestyle="--")
    right.set_ylim(0, 108)
    right.set_yticks([0, 20, 40, 60, 80, 100])
    right.minorticks_off()
    right.grid(visible=False)
    right.set_ylabel("GPU utilisation [%]")
    # Some styles have no frame on the right, and ticks of the left axis there.
    right.spines["right"].set_visible(True)
    ax.tick_params(axis="y", which="both", right=False)
