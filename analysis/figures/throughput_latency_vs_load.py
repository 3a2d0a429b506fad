"""Throughput and latency along one axis of the load: batch size, concurrency or request rate."""

import pandas as pd
from matplotlib.figure import Figure

from hpcbench.analysis.figures import axis_scales, captions, layout
from hpcbench.analysis.figures.layout import Surroundings
from hpcbench.analysis.figures.legends import SeriesLegend
from hpcbench.analysis.figures.panels import (
    LATENCY,
    THROUGHPUT,
    THROUGHPUT_NAME,
    draw_metric_panel,
    draw_ratio_panel,
)
from hpcbench.analysis.figures.styles import TICK_PT, Style
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.figure_tables import (
    FigureTables,
    plotted_numbers,
    split_into_figures,
)
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import BATCH_SIZE, FigureAxis

_METRICS = (THROUGHPUT, LATENCY)
_MAIN_IN, _RATIO_IN = 6.2, 2.1
_PANEL_PT = (layout.WIDE_IN / 2 - 1.7) * 72


def prepare_throughput_latency_vs_load(points: pd.DataFrame, axis: FigureAxis) -> FigureTables:
    """Prepare the data of a scan along an axis of the load.

    Parameters
    ----------
    points
        Table of `points.summarise`.
    axis
        Axis of the load. A single batch size makes a figure, too; the other axes need two values.

    Returns
    -------
    FigureTables
        Data of each figure, with the words that tell the figures apart. ``METRIC_ratio`` is the
        ratio to the first series that was measured.

    Raises
    ------
    DoesNotApply
        If no configuration was measured at two values of the axis.
    """
    if axis is not BATCH_SIZE and not series.varies_along(series.require_measured(points), axis):
        raise DoesNotApply(f"no configuration was measured at two values of the {axis.phrase}")
    return [
        (
            name,
            plotted_numbers(series.with_ratios(part, _METRICS), _METRICS, one_per_server=True),
        )
        for name, part in split_into_figures(
            series.series_along(series.require_measured(points), axis)
        )
        if (part[list(_METRICS)] > 0).any(axis=None)
    ]


def draw_throughput_latency_vs_load(data: pd.DataFrame, style: Style, axis: FigureAxis) -> Figure:
    """Draw throughput [infer/s] and latency [ms] side by side, each above its ratio.

    Bands that reach far beyond their points leave the panel. Without a second series there is no
    ratio.

    Parameters
    ----------
    data
        Data of one figure of `prepare_throughput_latency_vs_load`.
    style
        Style of the figure.
    axis
        Axis of the load.

    Returns
    -------
    Figure
        Two panels, or four with ratios.
    """
    legend = SeriesLegend.from_data(data, axis.hidden_words)
    names = {THROUGHPUT: THROUGHPUT_NAME, LATENCY: captions.latency_name(data)}
    figure = layout.new_figure(layout.WIDE_IN)
    heights = [_MAIN_IN, _RATIO_IN] if _has_ratio(data) else [_MAIN_IN]
    grid = figure.subplots(len(heights), 2, sharex="col", squeeze=False, height_ratios=heights)
    for panels, metric in zip(grid.T, _METRICS, strict=True):
        draw_metric_panel(panels[0], data, metric, legend.marks, names[metric])
        if len(heights) > 1:
            draw_ratio_panel(panels[1], data, metric, legend.marks)
        axis_scales.set_swept_x_axis(
            panels[-1],
            data.loc[data["drawn"] != "no", "x"].unique().tolist(),
            linear=axis.linear,
            label_pt=TICK_PT,
            axis_pt=_PANEL_PT,
        )
        panels[-1].set_xlabel(axis.label)
    notes = [
        captions.conditions_note(data, axis.hidden_words),
        captions.repeats_note(data),
        captions.missing_points_note(data, legend.labels, axis, names),
        captions.behind_note(data),
        captions.selection_note(data),
    ]
    around = Surroundings(captions.campaign_names(data), legend.title, legend.entries(data), notes)
    layout.finish_figure(figure, style, sum(heights), around)
    return figure


def _has_ratio(data: pd.DataFrame) -> bool:
    drawn = data[(data["measured"] > 0) & (data["drawn"] == "colour")]
    others = drawn[drawn["series"] != drawn["series"].min()]
    return bool(others[[f"{name}_ratio" for name in _METRICS]].notna().any(axis=None))
