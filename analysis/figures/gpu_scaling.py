"""Throughput and its efficiency against the number of GPUs of one server."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpcbench.analysis.figures import axis_scales, captions, layout
from hpcbench.analysis.figures.layout import Surroundings
from hpcbench.analysis.figures.legends import SeriesLegend
from hpcbench.analysis.figures.panels import (
    THROUGHPUT,
    THROUGHPUT_NAME,
    draw_grey_lines,
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
from hpcbench.analysis.summary.varying_axes import GPUS

_EFFICIENCY = "efficiency"
_MAIN_IN, _EFFICIENCY_IN = 6.2, 2.6
_PANEL_PT = (layout.NARROW_IN - 2.5) * 72


def prepare_gpu_scaling(points: pd.DataFrame) -> FigureTables:
    """Prepare the best throughput of all loads against GPUs, with its efficiency.

    Efficiency in percent is throughput / (n * throughput of the fewest GPUs measured), where n is
    how many times more GPUs there are: the efficiency of strong scaling with the load set free.

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
        If no configuration was measured with two numbers of GPUs.
    """
    if not series.varies_along(series.require_measured(points), GPUS):
        raise DoesNotApply("no configuration was measured with two numbers of GPUs")
    table = series.series_along(series.best_points(points, LOAD), GPUS, LOAD)
    first = table.drop_duplicates("series").set_index("series")
    more = table["x"] / table["series"].map(first["x"])
    series.add_ratio(table, THROUGHPUT, first, table["series"], more == 1)
    for end in ("", "_low", "_high"):
        table[f"{_EFFICIENCY}{end}"] = 100 * table.pop(f"{THROUGHPUT}_ratio{end}") / more
    for end in ("_n", "_min", "_max"):
        table[f"{_EFFICIENCY}{end}"] = np.nan
    # A series with one number of GPUs says nothing about scaling.
    table = table[table["series"].duplicated(keep=False)]
    return [
        (name, plotted_numbers(part, (THROUGHPUT, _EFFICIENCY)))
        for name, part in split_into_figures(table)
    ]


def draw_gpu_scaling(data: pd.DataFrame, style: Style) -> Figure:
    """Draw throughput [infer/s] with ideal scaling, and efficiency [%] below.

    Parameters
    ----------
    data
        Data of one figure of `prepare_gpu_scaling`.
    style
        Style of the figure.

    Returns
    -------
    Figure
        Two panels.
    """
    ignore = (*GPUS.hidden_words, *LOAD)
    legend = SeriesLegend.from_data(data, ignore)
    figure = layout.new_figure(layout.NARROW_IN)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[_MAIN_IN, _EFFICIENCY_IN])
    draw_metric_panel(top, data, THROUGHPUT, legend.marks, THROUGHPUT_NAME)
    _draw_ideal(top, data, legend.marks)
    _draw_efficiency(bottom, data, legend.marks)
    notes = [
        "Dotted: ideal scaling from the fewest GPUs. Efficiency: throughput divided by ideal.",
        captions.best_load_note(data),
        captions.conditions_note(data, ignore),
        captions.repeats_note(data),
        captions.selection_note(data),
    ]
    around = Surroundings(captions.campaign_names(data), legend.title, legend.entries(data), notes)
    layout.finish_figure(figure, style, _MAIN_IN + _EFFICIENCY_IN, around)
    return figure


def _draw_ideal(ax: Axes, data: pd.DataFrame, marks: Mapping[int, SeriesMark]) -> None:
    limits = ax.get_ylim()
    for number, mark in marks.items():
        part = data[(data["series"] == number) & (data[THROUGHPUT] > 0)]
        ideal = 100 * part[THROUGHPUT] / part[_EFFICIENCY]
        ax.plot(part["x"], ideal, color=mark.colour, linestyle=":", linewidth=1.8, gid="ideal")
        limits = limits[0], max(limits[1], 1.15 * ideal.max())
    axis_scales.set_log_y_axis(ax, limits)


def _draw_efficiency(ax: Axes, data: pd.DataFrame, marks: Mapping[int, SeriesMark]) -> None:
    draw_grey_lines(ax, data, _EFFICIENCY)
    for number, mark in marks.items():
        draw_series(ax, data[data["series"] == number], _EFFICIENCY, mark)
    ax.axhline(100, color="0.6", linewidth=1.5, linestyle=":", zorder=0)
    shown = data.loc[data["drawn"] == "colour", _EFFICIENCY]
    ax.set_ylim(0, max(120.0, 1.1 * shown.max()))
    ax.set_ylabel("Efficiency [%]", loc="center")
    ax.minorticks_off()
    values = data.loc[data["drawn"] != "no", "x"].unique().tolist()
    axis_scales.set_swept_x_axis(ax, values, linear=True, label_pt=TICK_PT, axis_pt=_PANEL_PT)
    ax.set_xlabel(GPUS.label)
