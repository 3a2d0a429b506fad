"""Devices side by side: the best throughput of each for each model, and its energy."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from hpcbench.analysis.figures import axis_scales, captions, layout
from hpcbench.analysis.figures.layout import Surroundings
from hpcbench.analysis.figures.legends import SeriesLegend
from hpcbench.analysis.figures.panels import THROUGHPUT, interval_lengths, values_in_view
from hpcbench.analysis.figures.styles import TICK_PT, SeriesMark, Style
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.configuration import CONFIGURATION, REQUEST_CONTENT, Array
from hpcbench.analysis.summary.configuration_names import distinctions
from hpcbench.analysis.summary.figure_tables import FigureTables, plotted_numbers
from hpcbench.analysis.summary.points import row_dicts
from hpcbench.analysis.summary.series import DEVICE, DoesNotApply
from hpcbench.records.columns import Status

MOST_MODELS = 16
"""Models in one figure; more make further figures."""

_ENERGY = "infer_per_j"
_METRIC_LABELS = {
    THROUGHPUT: "Throughput [infer/s]",
    f"{THROUGHPUT}_ratio": "Ratio to first [1]",
    _ENERGY: "Inferences per joule [1/J]",
}
# The best point is chosen over everything but the device and the work that is asked for.
_FREE = tuple(name for name in CONFIGURATION if name not in (*DEVICE, *REQUEST_CONTENT))
_MODEL_LABEL_IN = 4.5


def prepare_device_comparison(points: pd.DataFrame) -> FigureTables:
    """Prepare the best point of each model on each device.

    Parameters
    ----------
    points
        Table of `points.summarise`.

    Returns
    -------
    FigureTables
        Data of each figure, with its number if there are several. ``series`` counts devices,
        ``x`` models. ``METRIC_ratio`` is the ratio to the first device that has the model.

    Raises
    ------
    DoesNotApply
        If everything was measured on one kind of device.
    """
    points = series.isolated_models(series.require_measured(points))
    # An ensemble has no instance kind, and without a GPU every instance runs on the CPU: neither
    # makes a device of its own.
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
            plotted_numbers(best[pages == page], (THROUGHPUT, _ENERGY, "gpu_power_w")),
        )
        for page in sorted(pages.unique())
    ]


def _with_ratios(best: pd.DataFrame) -> pd.DataFrame:
    first = best.drop_duplicates("x").set_index("x")
    for name in (THROUGHPUT, _ENERGY):
        series.add_ratio(best, name, first, best["x"], ~best["x"].duplicated())
    return best


def draw_device_comparison(data: pd.DataFrame, style: Style) -> Figure:
    """Draw throughput [infer/s], its ratio and inferences per joule [1/J] of each device.

    Parameters
    ----------
    data
        Data of one figure of `prepare_device_comparison`.
    style
        Style of the figure.

    Returns
    -------
    Figure
        A panel for each metric that was measured, with a row for each model.
    """
    shown = data[data["drawn"] == "colour"]
    legend = SeriesLegend.from_data(data, (*_FREE, *REQUEST_CONTENT))
    metrics = [name for name in _METRIC_LABELS if (shown[name] > 0).any()]
    rows = shown.drop_duplicates("x").sort_values("x")
    models = dict(zip(rows["x"], _model_names(rows), strict=True))
    figure = layout.new_figure(layout.WIDE_IN)
    widths = [3 if name.endswith("_ratio") else 4 for name in metrics]
    grid = figure.subplots(1, len(metrics), sharey=True, squeeze=False, width_ratios=widths)[0]
    for ax, name in zip(grid, metrics, strict=True):
        _draw_metric(ax, shown, name, legend.marks, list(models))
        ax.set_xlabel(_METRIC_LABELS[name], fontsize=TICK_PT, loc="right")
    texts = [layout.wrap_text(text, TICK_PT, _MODEL_LABEL_IN, 3) for text in models.values()]
    grid[0].set_yticks(range(len(models)), texts)
    for label in grid[0].get_yticklabels():
        label.set_parse_math(False)
    row_in = max(0.9, 0.34 * len(legend.labels))
    height_in = 1.2 + layout.rows_height_in(texts, TICK_PT, row_in)
    notes = _notes(data, shown, metrics, legend.labels)
    around = Surroundings(
        captions.campaign_names(shown), legend.title, legend.entries(shown, line=False), notes
    )
    layout.finish_figure(figure, style, height_in, around)
    return figure


def _notes(
    data: pd.DataFrame, shown: pd.DataFrame, metrics: list[str], labels: Mapping[int, str]
) -> list[str]:
    best = "Each device has the configuration and load with the highest throughput that settled"
    return [
        f"{best}{_candidates_text(shown, labels)}.",
        "Ratio: throughput divided by that of the first device that has the model.",
        "Energy: throughput divided by the mean power of the GPUs." if _ENERGY in metrics else "",
        captions.repeats_note(shown, "Bars"),
        captions.selection_note(data),
    ]


def _candidates_text(shown: pd.DataFrame, labels: Mapping[int, str]) -> str:
    """Say of how many points each device's is the best: of more it is higher by chance."""
    counts = shown.groupby("series")["candidates"].agg(["min", "max"])
    if counts["max"].max() < 2:
        return ""
    ranges = [
        f"{least}" if least == most else f"{least} to {most}"
        for least, most in counts.itertuples(index=False)
    ]
    if len(set(ranges)) == 1:
        return f", chosen from {ranges[0]} points"
    each = [
        f"{text} ({labels[number]})"
        for number, text in zip(counts.index, ranges, strict=True)
        if number in labels
    ]
    return f", chosen from {', '.join(each)} points: the best of more is higher by chance"


def _model_names(rows: pd.DataFrame) -> list[str]:
    """Name the models, with what else sets requests of the same model apart."""
    extras = distinctions(row_dicts(rows.assign(**dict.fromkeys(DEVICE))))
    repeated = rows["model_label"].duplicated(keep=False)
    return [
        f"{label}, {extra}" if several and extra else str(label)
        for label, several, extra in zip(rows["model_label"], repeated, extras, strict=True)
    ]


def _draw_metric(
    ax: Axes, shown: pd.DataFrame, metric: str, marks: Mapping[int, SeriesMark], models: list[float]
) -> None:
    if metric.endswith("_ratio"):
        axis_scales.set_ratio_axis(ax, values_in_view(shown, metric), "x")
        ax.axvline(1, color="0.6", linewidth=1.5, linestyle=":", zorder=0)
    else:
        axis_scales.set_log_x_axis(ax, values_in_view(shown, metric), most_ticks=4)
    step = 0.8 / max(len(marks), 1)
    for rank, (number, mark) in enumerate(marks.items()):
        part = shown[(shown["series"] == number) & (shown[metric] > 0)]
        rows = np.array([models.index(x) for x in part["x"]], dtype=float)
        _draw_device(ax, part, metric, rows + (rank - (len(marks) - 1) / 2) * step, mark)
    for edge in np.arange(len(models) - 1) + 0.5:
        ax.axhline(edge, color="0.85", linewidth=1, zorder=0)
    # The first model on top.
    ax.set_ylim(len(models) - 0.5, -0.5)
    ax.yaxis.set_minor_locator(NullLocator())
    ax.tick_params(axis="y", which="both", length=0)


def _draw_device(ax: Axes, part: pd.DataFrame, metric: str, y: Array, mark: SeriesMark) -> None:
    x, bars = part[metric].to_numpy(float), interval_lengths(part, metric)
    ax.errorbar(x, y, xerr=bars, fmt="none", ecolor=mark.colour, elinewidth=1.5)
    unstable = (part["status"] == Status.UNSTABLE).to_numpy(bool)
    for hollow in (False, True):
        if (chosen := unstable == hollow).any():
            look = mark.point_keywords(hollow=hollow)
            ax.plot(x[chosen], y[chosen], **look, gid="hollow" if hollow else "settled")
