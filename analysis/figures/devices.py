"""Devices beside each other: the best that each gives for each model, and at what energy."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from hpcbench.analysis.figures import axes, captions, layout
from hpcbench.analysis.figures.legends import Legend, finish
from hpcbench.analysis.figures.panels import extent
from hpcbench.analysis.figures.styles import DEFAULT, TICK_PT, Mark, preset
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.configuration import CONFIGURATION, REQUEST_CONTENT, Array
from hpcbench.analysis.summary.configuration_names import distinctions
from hpcbench.analysis.summary.figure_tables import FigureTables, plotted_numbers, single_figure
from hpcbench.analysis.summary.points import row_dicts
from hpcbench.analysis.summary.series import DEVICE, DoesNotApply
from hpcbench.records.columns import Status

MOST_MODELS = 16
_FREE = tuple(name for name in CONFIGURATION if name not in (*DEVICE, *REQUEST_CONTENT))
_THROUGHPUT, _ENERGY = "throughput_infer_per_s", "infer_per_j"
_PANELS = {
    _THROUGHPUT: "Throughput [infer/s]",
    f"{_THROUGHPUT}_ratio": "Ratio to first [1]",
    _ENERGY: "Inferences per joule [1/J]",
}


def comparisons(points: pd.DataFrame) -> FigureTables:
    """The best point of each model on each device; ``series`` counts devices, ``x`` models.

    ``..._ratio`` is to the first device on which the model was measured.
    """
    points = series.isolated_models(series.require_measured(points))
    # An ensemble has no kind of its own, and without a GPU there is but one.
    on_cpu = points["gpu_name"].notna() & (points["instance_kind"] == "KIND_CPU")
    points = points.assign(instance_kind=points["instance_kind"].where(on_cpu, None))
    best = series.best_points(points, _FREE)
    best["x"] = series.number_groups(best, REQUEST_CONTENT).astype(float)
    best["series"] = series.number_groups(best.assign(position=0), DEVICE)
    if best["series"].max() < 1:
        raise DoesNotApply("everything was measured on one kind of device")
    best = _with_ratios(best.sort_values(["x", "series"], ignore_index=True))
    pages = best["x"] // MOST_MODELS
    return [
        (
            (f"{page + 1:.0f}",) if pages.max() else (),
            plotted_numbers(best[pages == page], (_THROUGHPUT, _ENERGY, "gpu_power_w")),
        )
        for page in sorted(pages.unique())
    ]


def _with_ratios(best: pd.DataFrame) -> pd.DataFrame:
    first = best.drop_duplicates("x").set_index("x")
    for name in (_THROUGHPUT, _ENERGY):
        series.add_ratio(best, name, first, best["x"], ~best["x"].duplicated())
    return best


def comparison_figure(numbers: pd.DataFrame, style: str) -> Figure:
    """One picture of `comparisons`: a row per model, a mark per device."""
    look = preset(style)
    shown = numbers[numbers["drawn"] == "colour"]
    legend = Legend.of(numbers, (*_FREE, *REQUEST_CONTENT))
    panels = [name for name in _PANELS if (shown[name] > 0).any()]
    rows = shown.drop_duplicates("x").sort_values("x")
    models = dict(zip(rows["x"], _names(rows), strict=True))
    most = shown["candidates"].max()
    chosen = f", of up to {most} that were measured; which, stands in the CSV" if most > 1 else ""
    notes = [
        f"Each device at the configuration and load of highest throughput that settled{chosen}.",
        "Ratio: throughput to that of the first device that has the model.",
        "Energy: throughput over the mean power of the GPUs." if _ENERGY in panels else "",
        captions.repeats(shown, "Bars"),
        captions.selection(numbers),
    ]
    with look.active():
        figure = layout.blank(layout.WIDE_IN)
        widths = [3 if name.endswith("_ratio") else 4 for name in panels]
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
        for ax, name in zip(grid, panels, strict=True):
            _draw_panel(ax, shown, name, legend.marks, list(models))
            ax.set_xlabel(_PANELS[name], fontsize=TICK_PT, loc="right")
        texts = [layout.wrapped(text, TICK_PT, 4.5, look, 3) for text in models.values()]
        grid[0].set_yticks(range(len(models)), texts)
        for label in grid[0].get_yticklabels():
            label.set_parse_math(False)
        height_in = 1.2 + layout.rows_in(texts, TICK_PT, max(0.9, 0.34 * len(legend.texts)))
        finish(figure, grid[0], look, height_in, shown, legend, notes, line=False)
    return figure


def _names(rows: pd.DataFrame) -> list[str]:
    """The models, with what else is asked of those of one name."""
    told = distinctions(row_dicts(rows.assign(**dict.fromkeys(DEVICE))))
    twice = rows["model_label"].duplicated(keep=False)
    return [
        f"{label}, {more}" if several and more else str(label)
        for label, several, more in zip(rows["model_label"], twice, told, strict=True)
    ]


def _draw_panel(
    ax: Axes, shown: pd.DataFrame, name: str, marks: Mapping[int, Mark], models: list[float]
) -> None:
    if name.endswith("_ratio"):
        axes.ratio_axis(ax, extent(shown, name), "x")
        ax.axvline(1, color="0.6", linewidth=1.5, linestyle=":", zorder=0)
    else:
        axes.log_x_axis(ax, extent(shown, name), most=4)
    step = 0.8 / max(len(marks), 1)
    for rank, (number, mark) in enumerate(marks.items()):
        part = shown[(shown["series"] == number) & (shown[name] > 0)]
        rows = np.array([models.index(x) for x in part["x"]], dtype=float)
        _draw_device(ax, part, name, rows + (rank - (len(marks) - 1) / 2) * step, mark)
    for edge in np.arange(len(models) - 1) + 0.5:
        ax.axhline(edge, color="0.85", linewidth=1, zorder=0)
    ax.set_ylim(len(models) - 0.5, -0.5)
    ax.yaxis.set_minor_locator(NullLocator())
    ax.tick_params(axis="y", which="both", length=0)


def _draw_device(ax: Axes, part: pd.DataFrame, name: str, y: Array, mark: Mark) -> None:
    x, low, high = (part[f"{name}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    bars = np.nan_to_num(np.stack([x - np.maximum(low, 1e-3 * x), high - x]))
    ax.errorbar(x, y, xerr=bars, fmt="none", ecolor=mark.colour, elinewidth=1.5)
    unstable = (part["status"] == Status.UNSTABLE).to_numpy(bool)
    for hollow in (False, True):
        if (chosen := unstable == hollow).any():
            look = mark.keywords(hollow=hollow)
            ax.plot(x[chosen], y[chosen], **look, gid="hollow" if hollow else "settled")


def device_comparison(points: pd.DataFrame, style: str = DEFAULT) -> Figure:
    """The best throughput [infer/s] of each model on each GPU or pool, its ratio to the first, and
    inferences per joule [1/J] where energy was measured.
    """
    return comparison_figure(single_figure(comparisons(points)), style)
