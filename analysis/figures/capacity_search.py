"""Searches for a capacity: the p99 latency at each rate that was tried, the limit, the answer."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from hpcbench.analysis.figures import annotations, axis_scales, captions, layout
from hpcbench.analysis.figures.layout import LegendEntry, Surroundings
from hpcbench.analysis.figures.legends import SeriesLegend
from hpcbench.analysis.figures.panels import draw_markers
from hpcbench.analysis.figures.styles import SMALL_PT, SeriesMark, Style
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.configuration import CONFIGURATION
from hpcbench.analysis.summary.figure_tables import (
    FigureTables,
    plotted_numbers,
    split_into_figures,
)
from hpcbench.analysis.summary.number_format import format_number
from hpcbench.analysis.summary.searches import STEPS
from hpcbench.analysis.summary.series import DoesNotApply

_RATE, _P99, _LIMIT = "rate_infer_per_s", "latency_p99_ms", "capacity_max_latency_p99_ms"
_IGNORE = ("capacity_infer_per_s",)
_MOST_SERIES = 5
_MOST_NUMBERED = 16
"""The numbers of more steps would hide their points."""

_FAR_ABOVE = 10.0
"""Latencies of more than so many limits are drawn at that height."""

_PANEL_IN = 8.0
_MARKS = (
    "Each point is a measurement with arrivals at random. Dashed: the limit of the p99. Crosses: "
    "the rate was not kept. Hollow: it did not settle. Vertical: the rate that a search ended "
    "with, measured again with other arrivals; the legend has the mean of the searches."
)


def prepare_capacity_search(points: pd.DataFrame) -> FigureTables:
    """Prepare the steps of searches for a capacity.

    Parameters
    ----------
    points
        Table of `points.summarise`.

    Returns
    -------
    FigureTables
        Data of each figure, with the words that tell the figures apart: a row for each step, with
        ``rate_infer_per_s``, ``latency_p99_ms``, ``keeps_limit``, ``overloaded``, ``repeat``,
        ``capacity_step``, ``did_settle``, and ``is_answer`` for the measurement at the rate that
        was found.

    Raises
    ------
    DoesNotApply
        If no steps of a search are there.
    """
    there = points[points[STEPS].notna()]
    if there.empty:
        raise DoesNotApply("no capacity was searched for, or its steps are not there")
    numbers = series.number_groups(there, CONFIGURATION)
    table = there.assign(series=numbers, x=there[_LIMIT].astype(float)).sort_values("series")
    return [(name, _by_step(part)) for name, part in split_into_figures(table, _MOST_SERIES)]


def _by_step(part: pd.DataFrame) -> pd.DataFrame:
    """A row for each step of each point."""
    data = plotted_numbers(part, (), _MOST_SERIES).assign(**{STEPS: part[STEPS].to_numpy()})
    data = data.explode(STEPS, ignore_index=True)
    steps = data.pop(STEPS)
    data[_RATE] = [step.rate_infer_per_s for step in steps]
    data[_P99] = [step.p99_ms for step in steps]
    data["repeat"] = [step.repeat for step in steps]
    data["capacity_step"] = [step.number for step in steps]
    data["overloaded"] = [step.overloaded for step in steps]
    data["did_settle"] = [step.settled for step in steps]
    data["is_answer"] = [step.answer for step in steps]
    data["keeps_limit"] = (data[_P99] <= data[_LIMIT].astype(float)) & ~data["overloaded"]
    return data


def draw_capacity_search(data: pd.DataFrame, style: Style) -> Figure:
    """Draw the p99 latency [ms] of each step against the rate asked for [infer/s].

    Parameters
    ----------
    data
        Data of one figure of `prepare_capacity_search`.
    style
        Style of the figure.

    Returns
    -------
    Figure
        One panel; steps have their number where they are few.
    """
    legend = SeriesLegend.from_data(data, _IGNORE)
    limits_ms = data[_LIMIT].astype(float)
    shown = data.assign(
        x=data[_RATE], y=data[_P99].fillna(np.inf).clip(upper=_FAR_ABOVE * limits_ms)
    )
    coloured = shown[shown["drawn"] == "colour"]
    figure = layout.new_figure(layout.NARROW_IN)
    ax = figure.subplots()
    axis_scales.set_log_x_axis(ax, coloured["x"])
    axis_scales.set_log_y_axis(ax, [*coloured["y"], *limits_ms])
    for limit_ms in sorted(limits_ms.unique()):
        ax.axhline(limit_ms, color="0.4", linewidth=1.8, linestyle="--", zorder=1, gid="limit")
    _draw_grey(ax, shown)
    texts = [
        text
        for number, mark in legend.marks.items()
        for text in _draw_search(ax, coloured[coloured["series"] == number], mark)
    ]
    ax.set_xlabel("Rate asked for [infer/s]")
    ax.set_ylabel("p99 latency [ms]")
    notes = [
        _MARKS,
        captions.conditions_note(data, _IGNORE),
        captions.invalid_note(data.drop_duplicates("series")),
        captions.selection_note(data),
    ]
    entries = _with_answers(legend, data)
    around = Surroundings(captions.campaign_names(data), legend.title, entries, notes)
    layout.finish_figure(figure, style, _PANEL_IN, around)
    annotations.place_annotations(ax, texts)
    return figure


def _draw_grey(ax: Axes, shown: pd.DataFrame) -> None:
    """The answers of searches that do not stand out."""
    grey = shown[(shown["drawn"] == "grey") & shown["is_answer"]]
    ax.plot(grey["x"], grey["y"], ".", color="0.7", zorder=1, gid="grey")


def _draw_search(ax: Axes, steps: pd.DataFrame, mark: SeriesMark) -> list[Annotation]:
    x, y = (steps[name].to_numpy(float) for name in ("x", "y"))
    late = steps["overloaded"].to_numpy(bool)
    order = np.argsort(x, kind="stable")
    order = order[~late[order]]
    ax.plot(x[order], y[order], color=mark.colour, linewidth=1.2, alpha=0.5, zorder=2, gid="line")
    draw_markers(ax, x[~late], y[~late], ~steps["did_settle"].to_numpy(bool)[~late], mark)
    ax.plot(x[late], y[late], **mark.missing_keywords(), zorder=2.5, gid="overloaded")
    for rate in x[steps["is_answer"].to_numpy(bool)]:
        ax.axvline(rate, color=mark.colour, linewidth=1.8, linestyle="-", zorder=1.5, gid="answer")
    if len(steps) > _MOST_NUMBERED:
        return []
    numbers = [str(number) for number in steps["capacity_step"]]
    return annotations.annotate_points(ax, numbers, x, y, mark, SMALL_PT)


def _with_answers(legend: SeriesLegend, data: pd.DataFrame) -> list[LegendEntry]:
    """The entries of the legend, each with the rate that was found."""
    found = data[data["is_answer"]].groupby("series")[_RATE].mean().to_dict()
    answers = {
        number: f"{format_number(found[number])} infer/s" if number in found else "no answer"
        for number in legend.labels
    }
    return [
        (f"{label}: {answers[number]}", handle)
        for number, (label, handle) in zip(legend.labels, legend.entries(data), strict=True)
    ]
