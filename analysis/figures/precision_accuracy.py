"""Throughput of each precision against the difference of its outputs from a reference."""

import json

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from hpcbench.analysis.figures import annotations, axis_scales, captions, layout
from hpcbench.analysis.figures.layout import Surroundings
from hpcbench.analysis.figures.legends import SeriesLegend
from hpcbench.analysis.figures.panels import (
    THROUGHPUT,
    THROUGHPUT_NAME,
    capitalised,
    draw_markers,
    interval_lengths,
    values_in_view,
)
from hpcbench.analysis.figures.styles import SeriesMark, Style
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.configuration import CONFIGURATION, REQUEST_CONTENT
from hpcbench.analysis.summary.figure_tables import (
    FigureTables,
    plotted_numbers,
    split_into_figures,
)
from hpcbench.analysis.summary.points import OUTPUTS
from hpcbench.analysis.summary.series import DEVICE, DoesNotApply
from hpcbench.records.columns import Status

_APART = (*REQUEST_CONTENT, *DEVICE)
_FREE = tuple(name for name in CONFIGURATION if name not in _APART)
_RMS_DIFFERENCE, _MAX_DIFFERENCE = OUTPUTS
_PANEL_IN = 8.0


def prepare_precision_accuracy(points: pd.DataFrame) -> FigureTables:
    """Prepare the best throughput of each precision with the difference of its outputs.

    Parameters
    ----------
    points
        Table of `points.summarise`.

    Returns
    -------
    FigureTables
        Data of each figure, with the words that tell the figures apart. ``precision`` is that of
        the accelerator, else "as given".

    Raises
    ------
    DoesNotApply
        If no outputs were compared.
    """
    table = points[points[_RMS_DIFFERENCE].notna()].copy()
    if table.empty:
        raise DoesNotApply(
            "no outputs were compared: compare_outputs in the campaign file sends stored events "
            "to each variant and to a reference"
        )
    table = series.best_points(table, [name for name in _FREE if name != "accelerator"])
    table["precision"] = [_precision(text) for text in table["accelerator"]]
    table["x"] = table[_RMS_DIFFERENCE]
    table["series"] = series.number_groups(table, _APART)
    table = table.sort_values(["series", "x"], ignore_index=True)
    found: FigureTables = []
    for name, part in split_into_figures(table):
        data = plotted_numbers(part, (THROUGHPUT, *OUTPUTS))
        data["precision"] = part["precision"].to_numpy()
        found.append((name, data))
    return found


def _precision(accelerator: str | None) -> str:
    if accelerator is None:
        return "as given"
    given = json.loads(accelerator)
    return str(given.get("precision_mode") or given.get("name") or "as given")


def draw_precision_accuracy(data: pd.DataFrame, style: Style) -> Figure:
    """Draw throughput [infer/s] against the root mean square difference of the outputs.

    Parameters
    ----------
    data
        Data of one figure of `prepare_precision_accuracy`.
    style
        Style of the figure.

    Returns
    -------
    Figure
        One panel; points are labelled with their precision.
    """
    shown = data[data["drawn"] == "colour"]
    legend = SeriesLegend.from_data(data, _FREE)
    figure = layout.new_figure(layout.NARROW_IN)
    ax = figure.subplots()
    axis_scales.set_log_x_axis(ax, [*shown[_RMS_DIFFERENCE], *shown[_MAX_DIFFERENCE]])
    axis_scales.set_log_y_axis(ax, values_in_view(shown, THROUGHPUT))
    texts = [
        text
        for number, mark in legend.marks.items()
        for text in _draw_device(ax, shown[shown["series"] == number], mark)
    ]
    ax.set_xlabel("Difference from the reference outputs, rms [output unit]")
    ax.set_ylabel(capitalised(THROUGHPUT_NAME))
    around = Surroundings(
        captions.campaign_names(shown), legend.title, legend.entries(shown), _notes(data, shown)
    )
    layout.finish_figure(figure, style, _PANEL_IN, around)
    annotations.place_annotations(ax, texts)
    return figure


def _notes(data: pd.DataFrame, shown: pd.DataFrame) -> list[str]:
    exact = int((shown[_RMS_DIFFERENCE] <= 0).sum())
    points = "1 point" if exact == 1 else f"{exact} points"
    return [
        "Each precision has the configuration and load with the highest throughput that settled.",
        "Bars to the right: the largest difference." if (shown[_MAX_DIFFERENCE] > 0).any() else "",
        f"At the left edge: outputs equal to the reference ({points})." if exact else "",
        captions.repeats_note(shown, "Bars upwards and downwards"),
        captions.selection_note(data),
    ]


def _draw_device(ax: Axes, part: pd.DataFrame, mark: SeriesMark) -> list[Annotation]:
    # A logarithmic axis has no 0: outputs equal to the reference stand at its left edge.
    edge = ax.get_xlim()[0] * 1.6
    x, y = np.maximum(part[_RMS_DIFFERENCE].to_numpy(float), edge), part[THROUGHPUT].to_numpy(float)
    worst = np.nan_to_num(part[_MAX_DIFFERENCE].to_numpy(float) - x).clip(min=0)
    upright = interval_lengths(part, THROUGHPUT)
    aside = np.stack([np.zeros_like(worst), worst])
    ax.errorbar(x, y, upright, aside, fmt="none", ecolor=mark.colour, elinewidth=1.2, alpha=0.6)
    ax.plot(x, y, color=mark.colour, linewidth=1.2, linestyle=":", gid="line")
    draw_markers(ax, x, y, (part["status"] == Status.UNSTABLE).to_numpy(bool), mark)
    return annotations.annotate_points(ax, part["precision"], x, y, mark)
