"""Throughput and latency along one axis of the load: over batch size, over concurrency, and
against each other.

Each figure is a function from a table of `hpcbench.analysis.summary.points.summarise` to a
matplotlib Figure; what
it shows are the numbers of `scan` and `curves`.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from hpcbench.analysis.figures import annotations, axes, captions, layout
from hpcbench.analysis.figures.legends import Legend, finish
from hpcbench.analysis.figures.panels import (
    draw_bars,
    draw_grey,
    draw_markers,
    draw_ratios,
    draw_values,
    extent,
    sentence,
)
from hpcbench.analysis.figures.styles import DEFAULT, TICK_PT, Mark, preset
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.figure_tables import (
    FigureTables,
    plotted_numbers,
    single_figure,
    split_into_figures,
)
from hpcbench.analysis.summary.number_format import plain_number
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import (
    BATCH_SIZE,
    CONCURRENCY,
    LOADS,
    REQUEST_RATE,
    Axis,
)
from hpcbench.records.columns import Status

THROUGHPUT = "throughput_infer_per_s"
THROUGHPUT_NAME = "throughput [infer/s]"
_BOTH = (THROUGHPUT, "latency_ms")
_MAIN_IN, _RATIO_IN = 6.2, 2.1
_PANEL_PT = (layout.WIDE_IN / 2 - 1.7) * 72


def scan(points: pd.DataFrame, axis: Axis) -> FigureTables:
    """The pictures of a scan along ``axis``: words that tell them apart, and their numbers."""
    if axis is not BATCH_SIZE and not series.varies_along(series.require_measured(points), axis):
        raise DoesNotApply(f"no configuration was measured at two values of the {axis.phrase}")
    return [
        (name, plotted_numbers(series.with_ratios(part, _BOTH), _BOTH))
        for name, part in split_into_figures(
            series.series_along(series.require_measured(points), axis)
        )
        if (part[list(_BOTH)] > 0).any(axis=None)
    ]


def scan_figure(numbers: pd.DataFrame, axis: Axis, style: str) -> Figure:
    """One picture of `scan`: throughput and latency, each over its ratio to the first series."""
    look = preset(style)
    legend = Legend.of(numbers, axis.hidden_words)
    names = {THROUGHPUT: THROUGHPUT_NAME, "latency_ms": captions.latency(numbers)}
    notes = [
        captions.conditions(numbers, axis.hidden_words),
        captions.repeats(numbers),
        captions.absences(numbers, legend.texts, axis, names),
        captions.selection(numbers),
    ]
    with look.active():
        figure = layout.blank(layout.WIDE_IN)
        heights = [_MAIN_IN, _RATIO_IN] if _has_ratio(numbers) else [_MAIN_IN]
        grid = figure.subplots(len(heights), 2, sharex="col", squeeze=False, height_ratios=heights)
        for panels, quantity in zip(grid.T, _BOTH, strict=True):
            draw_values(panels[0], numbers, quantity, legend.marks, names[quantity])
            if len(heights) > 1:
                draw_ratios(panels[1], numbers, quantity, legend.marks)
            axes.measured_axis(
                panels[-1],
                numbers.loc[numbers["drawn"] != "no", "x"].unique().tolist(),
                linear=axis.linear,
                label_pt=TICK_PT,
                axis_pt=_PANEL_PT,
            )
            panels[-1].set_xlabel(axis.label)
        finish(figure, grid[0, 0], look, sum(heights), numbers, legend, notes)
    return figure


def _has_ratio(numbers: pd.DataFrame) -> bool:
    drawn = numbers[(numbers["measured"] > 0) & (numbers["drawn"] == "colour")]
    others = drawn[drawn["series"] != drawn["series"].min()]
    return bool(others[[f"{name}_ratio" for name in _BOTH]].notna().any(axis=None))


def throughput_latency_vs_batch(points: pd.DataFrame, style: str = DEFAULT) -> Figure:
    """Throughput [infer/s] and latency [ms] against batch size, each over its ratio.

    Points are means, their bands Student's t intervals of 95 %, which may reach out of the panel,
    or two repeats themselves. Hollow: a measurement among them did not settle. A cross at the lower
    edge: no figures, as the note below says. The ratio is to the first series that was measured;
    with one series there is none.
    """
    return scan_figure(single_figure(scan(points, BATCH_SIZE)), BATCH_SIZE, style)


def throughput_latency_vs_concurrency(points: pd.DataFrame, style: str = DEFAULT) -> Figure:
    """As `throughput_latency_vs_batch`, against the number of requests in flight."""
    return scan_figure(single_figure(scan(points, CONCURRENCY)), CONCURRENCY, style)


def throughput_latency_vs_rate(points: pd.DataFrame, style: str = DEFAULT) -> Figure:
    """As `throughput_latency_vs_batch`, against the rate at which requests were sent."""
    return scan_figure(single_figure(scan(points, REQUEST_RATE)), REQUEST_RATE, style)


def curve_axis(points: pd.DataFrame) -> Axis:
    """Along which load the lines of `latency_vs_throughput` run: the first that varies."""
    for axis in LOADS:
        if series.varies_along(series.require_measured(points), axis):
            return axis
    raise DoesNotApply("no configuration was measured under two loads")


def curves(points: pd.DataFrame) -> FigureTables:
    """The pictures of `latency_vs_throughput`, with ``load`` naming the column of ``x``."""
    axis = curve_axis(points)
    return [
        (name, plotted_numbers(part, _BOTH).assign(load=axis.column))
        for name, part in split_into_figures(series.series_along(points, axis))
        if (part[list(_BOTH)] > 0).all(axis="columns").any()
    ]


def curve_figure(numbers: pd.DataFrame, style: str) -> Figure:
    """One picture of `curves`."""
    look = preset(style)
    axis = next(axis for axis in LOADS if axis.column == numbers["load"].iloc[0])
    legend = Legend.of(numbers, axis.hidden_words)
    latency = captions.latency(numbers)
    names = {THROUGHPUT: THROUGHPUT_NAME, "latency_ms": latency}
    notes = [
        f"Numbers beside points: {axis.phrase}.",
        captions.conditions(numbers, axis.hidden_words),
        captions.repeats(numbers, "Bars"),
        captions.absences(numbers, legend.texts, axis, names).replace(" (crosses)", ""),
        captions.selection(numbers),
    ]
    with look.active():
        figure = layout.blank(layout.NARROW_IN)
        ax = figure.subplots()
        axes.log_x_axis(ax, extent(numbers, THROUGHPUT))
        axes.log_value_axis(ax, extent(numbers, "latency_ms"))
        draw_grey(ax, numbers, "latency_ms", THROUGHPUT)
        labels = [
            label
            for number, mark in legend.marks.items()
            for label in _draw_curve(ax, numbers[numbers["series"] == number], mark)
        ]
        ax.set_xlabel(sentence(THROUGHPUT_NAME))
        ax.set_ylabel(sentence(latency))
        finish(figure, ax, look, 8.0, numbers, legend, notes, labels)
    return figure


def _draw_curve(ax: Axes, points: pd.DataFrame, mark: Mark) -> list[Annotation]:
    drawn = points[(points[list(_BOTH)] > 0).all(axis="columns")]
    x, y = (drawn[name].to_numpy(float) for name in _BOTH)
    ax.plot(x, y, color=mark.colour, linewidth=2.2, zorder=2, gid="line")
    draw_bars(ax, drawn, *_BOTH, mark.colour, opaque=0.4)
    draw_markers(ax, x, y, (drawn["status"] == Status.UNSTABLE).to_numpy(bool), mark)
    return annotations.write_beside(ax, map(plain_number, drawn["x"]), x, y, mark)


def latency_vs_throughput(points: pd.DataFrame, style: str = DEFAULT) -> Figure:
    """Latency [ms] against throughput [infer/s], along the load: lower and further right is better.

    The load is the concurrency where it varies, else the request rate or the batch size, and its
    values stand beside the points.
    """
    return curve_figure(single_figure(curves(points)), style)
