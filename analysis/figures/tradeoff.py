"""What one gives up for the other: latency for throughput, accuracy for speed."""

import json

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from hpcbench.analysis.figures import annotations, axes, captions, layout
from hpcbench.analysis.figures.legends import Legend, finish
from hpcbench.analysis.figures.panels import draw_bars, draw_markers, extent, sentence
from hpcbench.analysis.figures.scan import THROUGHPUT, THROUGHPUT_NAME
from hpcbench.analysis.figures.styles import DEFAULT, SMALL_PT, Mark, preset
from hpcbench.analysis.summary import series, statistics
from hpcbench.analysis.summary.configuration import CONFIGURATION, REQUEST_CONTENT
from hpcbench.analysis.summary.figure_tables import (
    MOST_FIGURES,
    FigureTables,
    plotted_numbers,
    single_figure,
    split_by_column,
    split_into_figures,
)
from hpcbench.analysis.summary.number_format import plain_number
from hpcbench.analysis.summary.points import OUTPUTS
from hpcbench.analysis.summary.series import DEVICE, DoesNotApply
from hpcbench.records.columns import Status

_P99 = "latency_p99_ms"
_APART = (*REQUEST_CONTENT, *DEVICE)
_FREE = tuple(name for name in CONFIGURATION if name not in _APART)
_DIFFERENCE = OUTPUTS[0]


def fronts(points: pd.DataFrame) -> FigureTables:
    """Every point with throughput and p99; ``series`` counts devices of a model.

    ``on_front`` are those of which no other of the same series is better in one and as good in the
    other; ``few_requests`` those whose p99 has too few requests behind it.
    """
    points = series.isolated_models(points)
    table = points[(points[[THROUGHPUT, _P99]] > 0).all(axis="columns")].copy()
    if table.empty:
        raise DoesNotApply("no measurement has a p99 latency")
    table["series"] = series.number_groups(table, _APART)
    table["x"] = table[THROUGHPUT]
    table["on_front"] = False
    for _, part in table.groupby("series"):
        table.loc[part.index, "on_front"] = _on_front(part)
    counts = table["request_count"].astype("float64")
    table["few_requests"] = statistics.too_few_requests(counts, 99)
    table = table.sort_values(["series", "x"], ignore_index=True)
    found: FigureTables = []
    for name, part in split_by_column(table, "model_label")[:MOST_FIGURES]:
        numbers = plotted_numbers(part, (THROUGHPUT, _P99))
        for column in ("on_front", "few_requests"):
            numbers[column] = part[column].to_numpy()
        found.append((name, numbers))
    return found


def _on_front(part: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """From the highest throughput down, each that lowers the latency of all before it."""
    order = np.lexsort((part[_P99], -part[THROUGHPUT]))
    latency = part[_P99].to_numpy()[order]
    lowest = np.minimum.accumulate(np.concatenate([[np.inf], latency[:-1]]))
    found = np.zeros(len(part), dtype=bool)
    found[order] = latency < lowest
    return found


def front_figure(numbers: pd.DataFrame, style: str) -> Figure:
    """One picture of `fronts`."""
    look = preset(style)
    shown = numbers[numbers["drawn"] == "colour"]
    legend = Legend.of(numbers, _FREE)
    front = shown[shown["on_front"]]
    few = int(front["few_requests"].sum())
    needed = statistics.requests_needed(99)
    beside = f"batch size {_TIMES} {_load_name(shown)}"
    notes = [
        f"Large: the Pareto front of each device, with {beside}. Small: other configurations.",
        f"{few} of the {len(front)} points of the fronts have a p99 of fewer than {needed} "
        "requests: triangles around them."
        if few
        else "",
        captions.repeats(front, "Bars"),
        captions.selection(numbers),
    ]
    with look.active():
        figure = layout.blank(layout.NARROW_IN)
        ax = figure.subplots()
        axes.log_x_axis(ax, extent(shown, THROUGHPUT))
        axes.log_value_axis(ax, extent(shown, _P99))
        labels = [
            label
            for number, mark in legend.marks.items()
            for label in _draw_front(ax, shown[shown["series"] == number], mark)
        ]
        ax.set_xlabel(sentence(THROUGHPUT_NAME))
        ax.set_ylabel("p99 latency [ms]")
        finish(figure, ax, look, 8.5, shown, legend, notes, labels)
    return figure


_TIMES = "\N{MULTIPLICATION SIGN}"


def _load_name(shown: pd.DataFrame) -> str:
    return "concurrency" if shown["concurrency"].notna().any() else "request rate"


def _draw_front(ax: Axes, part: pd.DataFrame, mark: Mark) -> list[Annotation]:
    behind, front = part[~part["on_front"]], part[part["on_front"]].sort_values(THROUGHPUT)
    unstable = behind["status"] == Status.UNSTABLE
    for some, face in ((behind[~unstable], mark.colour), (behind[unstable], "none")):
        ax.plot(
            some[THROUGHPUT],
            some[_P99],
            marker=mark.marker,
            color=mark.colour,
            markerfacecolor=face,
            linestyle="none",
            markersize=7 if len(behind) < 100 else 4,
            alpha=0.35 if face != "none" else 0.6,
            markeredgewidth=0 if face != "none" else 1.2,
            rasterized=len(behind) > 500,
            gid="behind",
        )
    x, y = front[THROUGHPUT].to_numpy(float), front[_P99].to_numpy(float)
    ax.plot(x, y, color=mark.colour, linewidth=2.2, drawstyle="steps-pre", gid="front")
    draw_bars(ax, front, THROUGHPUT, _P99, mark.colour, opaque=0.6)
    draw_markers(ax, x, y, (front["status"] == Status.UNSTABLE).to_numpy(bool), mark)
    few = front["few_requests"].to_numpy(bool)
    ax.plot(
        x[few],
        y[few],
        marker="^",
        color="0.3",
        markerfacecolor="none",
        markersize=22,
        linestyle="none",
        gid="few",
    )
    load = front["concurrency"].fillna(front["request_rate"])
    texts = [
        f"{batch}{_TIMES}{plain_number(float(rate))}" if pd.notna(rate) else str(batch)
        for batch, rate in zip(front["batch_size"], load, strict=True)
    ]
    return annotations.write_beside(ax, texts, x, y, mark, SMALL_PT - 2)


def pareto_front(points: pd.DataFrame, style: str = DEFAULT) -> Figure:
    """p99 latency [ms] against throughput [infer/s] of every configuration of one model, with the
    front of each device: what is not on it is beaten in both.
    """
    return front_figure(single_figure(fronts(points)), style)


def precisions(points: pd.DataFrame) -> FigureTables:
    """The best throughput of each precision, with how far its outputs are from the reference.

    ``precision`` is the accelerator's, or what the model was given as. The columns that it needs,
    beside those of `hpcbench.records.columns`, are OUTPUTS: the root mean square and the largest
    difference
    between the outputs of the point's server and those of a reference on the same inputs, in the
    outputs' own unit.
    """
    table = points[points[_DIFFERENCE].notna()].copy()
    if table.empty:
        raise DoesNotApply(
            f"no outputs were compared: the results have no column {_DIFFERENCE} (root mean square "
            "difference from the reference's outputs)"
        )
    table = series.best_points(table, [name for name in _FREE if name != "accelerator"])
    table["precision"] = [_precision(text) for text in table["accelerator"]]
    table["x"] = table[_DIFFERENCE]
    table["series"] = series.number_groups(table, _APART)
    table = table.sort_values(["series", "x"], ignore_index=True)
    found: FigureTables = []
    for name, part in split_into_figures(table):
        numbers = plotted_numbers(part, (THROUGHPUT, *OUTPUTS))
        numbers["precision"] = part["precision"].to_numpy()
        found.append((name, numbers))
    return found


def _precision(accelerator: str | None) -> str:
    if accelerator is None:
        return "as given"
    given = json.loads(accelerator)
    return str(given.get("precision_mode") or given.get("name") or "as given")


def precision_figure(numbers: pd.DataFrame, style: str) -> Figure:
    """One picture of `precisions`."""
    look = preset(style)
    shown = numbers[numbers["drawn"] == "colour"]
    legend = Legend.of(numbers, _FREE)
    exact = shown[_DIFFERENCE] <= 0
    notes = [
        "Each precision at the configuration and load of highest throughput that settled.",
        "Bars to the right: the largest difference." if (shown[OUTPUTS[1]] > 0).any() else "",
        f"Equal to the reference, at the left edge: {int(exact.sum())} points."
        if exact.any()
        else "",
        captions.repeats(shown, "Bars upwards and downwards"),
        captions.selection(numbers),
    ]
    with look.active():
        figure = layout.blank(layout.NARROW_IN)
        ax = figure.subplots()
        axes.log_x_axis(ax, [*shown[_DIFFERENCE], *shown[OUTPUTS[1]]])
        axes.log_value_axis(ax, extent(shown, THROUGHPUT))
        labels = [
            label
            for number, mark in legend.marks.items()
            for label in _draw_precisions(ax, shown[shown["series"] == number], mark)
        ]
        ax.set_xlabel("Difference from the reference outputs, rms [output unit]")
        ax.set_ylabel(sentence(THROUGHPUT_NAME))
        finish(figure, ax, look, 8.0, shown, legend, notes, labels)
    return figure


def _draw_precisions(ax: Axes, part: pd.DataFrame, mark: Mark) -> list[Annotation]:
    edge = ax.get_xlim()[0] * 1.6
    x = np.maximum(part[_DIFFERENCE].to_numpy(float), edge)
    y, low, high = (part[f"{THROUGHPUT}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    worst = np.nan_to_num(part[OUTPUTS[1]].to_numpy(float) - x).clip(min=0)
    upright = np.nan_to_num(np.stack([y - np.maximum(low, 1e-3 * y), high - y]))
    aside = np.stack([np.zeros_like(worst), worst])
    ax.errorbar(x, y, upright, aside, fmt="none", ecolor=mark.colour, elinewidth=1.2, alpha=0.6)
    ax.plot(x, y, color=mark.colour, linewidth=1.2, linestyle=":", gid="line")
    draw_markers(ax, x, y, (part["status"] == Status.UNSTABLE).to_numpy(bool), mark)
    return annotations.write_beside(ax, part["precision"], x, y, mark)


def precision_accuracy(points: pd.DataFrame, style: str = DEFAULT) -> Figure:
    """Throughput [infer/s] of each precision against how far its outputs are from a reference."""
    return precision_figure(single_figure(precisions(points)), style)
