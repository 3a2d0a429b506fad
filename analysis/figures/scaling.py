"""What more of something gives: more model instances on one GPU, more GPUs on one server."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpcbench.analysis.figures import axes, captions, layout
from hpcbench.analysis.figures.legends import Legend, finish
from hpcbench.analysis.figures.panels import draw_grey, draw_series, draw_values, sentence
from hpcbench.analysis.figures.scan import THROUGHPUT, THROUGHPUT_NAME
from hpcbench.analysis.figures.styles import DEFAULT, TICK_PT, Mark, preset
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.configuration import LOAD
from hpcbench.analysis.summary.figure_tables import (
    FigureTables,
    plotted_numbers,
    single_figure,
    split_into_figures,
)
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import GPUS, INSTANCES, Axis

_UTILISATION = "gpu_utilization_percent"
_EFFICIENCY = "efficiency"
_MOST_TWIN = 4
_FREE = LOAD
_PANEL_PT = (layout.NARROW_IN - 2.5) * 72


def instances(points: pd.DataFrame) -> FigureTables:
    """Over the number of instances: the best throughput of all loads, and its GPU utilisation."""
    if not series.varies_along(series.require_measured(points), INSTANCES):
        raise DoesNotApply("no configuration was measured with two numbers of instances")
    table = series.series_along(series.best_points(points, _FREE), INSTANCES, _FREE)
    return [
        (name, plotted_numbers(part, (THROUGHPUT, _UTILISATION), _MOST_TWIN))
        for name, part in split_into_figures(table, _MOST_TWIN)
    ]


def instances_figure(numbers: pd.DataFrame, style: str) -> Figure:
    """One picture of `instances`."""
    look = preset(style)
    ignore = (*INSTANCES.hidden_words, *_FREE)
    legend = Legend.of(numbers, ignore)
    used = bool(numbers[_UTILISATION].notna().any())
    notes = [
        "Solid, left: throughput. Dashed, right: GPU utilisation."
        if used
        else "No GPU utilisation was recorded.",
        _best_load(numbers),
        captions.conditions(numbers, ignore),
        captions.repeats(numbers),
        captions.selection(numbers),
    ]
    with look.active():
        figure = layout.blank(layout.NARROW_IN)
        ax = figure.subplots()
        draw_values(ax, numbers, THROUGHPUT, legend.marks, THROUGHPUT_NAME)
        axes.zero_axis(ax, numbers[THROUGHPUT])
        _name_axis(ax, numbers, INSTANCES)
        if used:
            twin = ax.twinx()
            for number, mark in legend.marks.items():
                part = numbers[numbers["series"] == number]
                draw_series(twin, part, _UTILISATION, mark, linestyle="--")
            twin.set_ylim(0, 108)
            twin.set_yticks([0, 20, 40, 60, 80, 100])
            twin.minorticks_off()
            twin.grid(visible=False)
            twin.set_ylabel("GPU utilisation [%]")
            twin.spines["right"].set_visible(True)
            ax.tick_params(axis="y", which="both", right=False)
        finish(figure, ax, look, 8.0, numbers, legend, notes)
    return figure


def throughput_utilisation_vs_instances(points: pd.DataFrame, style: str = DEFAULT) -> Figure:
    """Throughput [infer/s] and, on the right, GPU utilisation [%] against the model instances.

    Each point is the load with the highest throughput that settled.
    """
    return instances_figure(single_figure(instances(points)), style)


def scaling(points: pd.DataFrame) -> FigureTables:
    """Over the number of GPUs of one server: the best throughput of all loads, and its efficiency.

    Efficiency is the throughput by that of the fewest GPUs measured and by how many times more
    there are, in percent.
    """
    if not series.varies_along(series.require_measured(points), GPUS):
        raise DoesNotApply("no configuration was measured with two numbers of GPUs")
    table = series.series_along(series.best_points(points, _FREE), GPUS, _FREE)
    first = table.drop_duplicates("series").set_index("series")
    more = table["x"] / table["series"].map(first["x"])
    series.add_ratio(table, THROUGHPUT, first, table["series"], more == 1)
    for end in ("", "_low", "_high"):
        table[f"{_EFFICIENCY}{end}"] = 100 * table.pop(f"{THROUGHPUT}_ratio{end}") / more
    for end in ("_n", "_min", "_max"):
        table[f"{_EFFICIENCY}{end}"] = np.nan
    # A series of one number of GPUs scales nowhere.
    table = table[table["series"].duplicated(keep=False)]
    return [
        (name, plotted_numbers(part, (THROUGHPUT, _EFFICIENCY)))
        for name, part in split_into_figures(table)
    ]


def scaling_figure(numbers: pd.DataFrame, style: str) -> Figure:
    """One picture of `scaling`: throughput with what ideal scaling would give, and efficiency."""
    look = preset(style)
    ignore = (*GPUS.hidden_words, *_FREE)
    legend = Legend.of(numbers, ignore)
    notes = [
        "Dotted: ideal scaling from the fewest GPUs. Efficiency: throughput over ideal.",
        _best_load(numbers),
        captions.conditions(numbers, ignore),
        captions.repeats(numbers),
        captions.selection(numbers),
    ]
    with look.active():
        figure = layout.blank(layout.NARROW_IN)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[6.2, 2.6])
        draw_values(top, numbers, THROUGHPUT, legend.marks, THROUGHPUT_NAME)
        _draw_ideal(top, numbers, legend.marks)
        draw_grey(bottom, numbers, _EFFICIENCY)
        for number, mark in legend.marks.items():
            draw_series(bottom, numbers[numbers["series"] == number], _EFFICIENCY, mark)
        bottom.axhline(100, color="0.6", linewidth=1.5, linestyle=":", zorder=0)
        shown = numbers.loc[numbers["drawn"] == "colour", _EFFICIENCY]
        bottom.set_ylim(0, max(120.0, 1.1 * shown.max()))
        bottom.set_ylabel("Efficiency [%]", loc="center")
        bottom.minorticks_off()
        _name_axis(bottom, numbers, GPUS)
        finish(figure, top, look, 8.8, numbers, legend, notes)
    return figure


def _draw_ideal(ax: Axes, numbers: pd.DataFrame, marks: Mapping[int, Mark]) -> None:
    limits = ax.get_ylim()
    for number, mark in marks.items():
        part = numbers[(numbers["series"] == number) & (numbers[THROUGHPUT] > 0)]
        ideal = 100 * part[THROUGHPUT] / part[_EFFICIENCY]
        ax.plot(part["x"], ideal, color=mark.colour, linestyle=":", linewidth=1.8, gid="ideal")
        limits = limits[0], max(limits[1], 1.15 * ideal.max())
    axes.log_value_axis(ax, limits)


def gpu_scaling(points: pd.DataFrame, style: str = DEFAULT) -> Figure:
    """Throughput [infer/s] against the GPUs of one server, and its efficiency [%] below.

    Each point is the load with the highest throughput that settled.
    """
    return scaling_figure(single_figure(scaling(points)), style)


def _best_load(numbers: pd.DataFrame) -> str:
    most = int(numbers["candidates"].max())
    if most < 2:
        return ""
    return (
        f"Each point: the load of highest throughput that settled, of up to {most} measured; "
        "which, stands in the CSV."
    )


def _name_axis(ax: Axes, numbers: pd.DataFrame, axis: Axis) -> None:
    values = numbers.loc[numbers["drawn"] != "no", "x"].unique().tolist()
    axes.measured_axis(ax, values, linear=True, label_pt=TICK_PT, axis_pt=_PANEL_PT)
    ax.set_xlabel(sentence(axis.label))
