"""Where the time of a request goes: client, network, queue and the stages of the computation."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hpcbench.analysis.figures import axis_scales, captions, layout
from hpcbench.analysis.figures.layout import LegendEntry, Surroundings
from hpcbench.analysis.figures.legends import series_labels
from hpcbench.analysis.figures.panels import bar_ends
from hpcbench.analysis.figures.styles import LABEL_PT, SMALL_PT, Style
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.configuration import Array
from hpcbench.analysis.summary.figure_tables import (
    FigureTables,
    plotted_numbers,
    split_into_figures,
)
from hpcbench.analysis.summary.number_format import plain_number
from hpcbench.analysis.summary.points import STAGES
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import BATCH_SIZE
from hpcbench.records.columns import Status

MOST_COLUMNS = 3
_REST = "rest_ms"
_NAMES = {**STAGES, _REST: "not accounted for"}
_COLOURS = dict(
    zip(
        _NAMES,
        (
            *("#56b4e9", "#0072b2", "#e69f00", "#882255", "#f0e442", "#d55e00", "#cc79a7"),
            *("#009e73", "#d0d0d0"),
        ),
        strict=True,
    )
)
_TOTAL = "latency_avg_ms"
_MAIN_IN, _SHARE_IN = 6.0, 3.2

# Stages are rounded to microseconds when they are measured: a smaller rest means nothing.
_LEAST_REST = 0.01
_MOST_TICKS = 12


def prepare_latency_breakdown(points: pd.DataFrame) -> FigureTables:
    """Prepare the mean times of the stages of a request against batch size.

    Parameters
    ----------
    points
        Table of `points.summarise`.

    Returns
    -------
    FigureTables
        Data of each figure, with the words that tell the figures apart. ``rest_ms`` is the part
        of the mean latency that no stage accounts for.

    Raises
    ------
    DoesNotApply
        If no measurement has times of stages.
    """
    table = points.copy()
    known = table[list(STAGES)].notna().any(axis="columns")
    if not (series.require_measured(points)["measured"] > 0)[known].any():
        raise DoesNotApply("no measurement has the stages of its latency")
    table[_REST] = (table[_TOTAL] - table[list(STAGES)].sum(axis="columns")).clip(lower=0)
    table[_REST] = table[_REST].where(table[_REST] > _LEAST_REST * table[_TOTAL], 0.0).where(known)
    # A difference of means has no interval of its own.
    for end in ("_n", "_low", "_high", "_min", "_max"):
        table[f"{_REST}{end}"] = np.nan
    parts = split_into_figures(series.series_along(table, BATCH_SIZE), MOST_COLUMNS)
    found = []
    for name, part in parts:
        data = plotted_numbers(part, (_TOTAL, *_NAMES), MOST_COLUMNS)
        data["drawn"] = data["drawn"].replace("grey", "no")
        shown = data.loc[data["drawn"] == "colour", list(STAGES)]
        if shown.notna().any(axis=None):
            found.append((name, data))
    return found


def draw_latency_breakdown(data: pd.DataFrame, style: Style) -> Figure:
    """Draw mean latency [ms] as stacked stages, and their shares [%] below.

    A ring on top of a stack: some measurement did not settle; a cross: no result.

    Parameters
    ----------
    data
        Data of one figure of `prepare_latency_breakdown`.
    style
        Style of the figure.

    Returns
    -------
    Figure
        Two panels for each configuration, at most MOST_COLUMNS of them side by side.
    """
    shown = data[data["drawn"] == "colour"]
    title, labels = series_labels(shown, BATCH_SIZE.hidden_words)
    stages = [name for name in _NAMES if (shown[name] > 0).any()]
    width_in = layout.WIDE_IN if len(labels) > 1 else layout.NARROW_IN
    column_in = width_in / len(labels)
    figure = layout.new_figure(width_in)
    grid = figure.subplots(
        *(2, len(labels)),
        sharex="col",
        sharey="row",
        squeeze=False,
        height_ratios=[_MAIN_IN, _SHARE_IN],
    )
    for (upper, lower), (number, label) in zip(grid.T, labels.items(), strict=True):
        part = shown[shown["series"] == number]
        _draw_times(upper, part, stages)
        _draw_shares(lower, part, stages)
        _label_batch_sizes(lower, part, column_in)
        if len(labels) > 1:
            text = layout.wrap_text(label, SMALL_PT, column_in - 0.8)
            upper.set_title(text, fontsize=SMALL_PT, loc="left", parse_math=False)
    _scale_rows(grid[0, 0], grid[1, 0], shown, stages)
    campaign: str | None = captions.campaign_names(shown)
    if len(labels) > 1:
        # The names of the configurations stand above the panels, where the header would be.
        campaign, title = None, f"{campaign}: {title}".removesuffix(": ")
    else:
        title = ", ".join(filter(None, [*labels.values(), title]))
    notes = [
        "Mean times per request. The server measures queue and compute, the client the rest.",
        captions.conditions_note(shown, BATCH_SIZE.hidden_words),
        captions.repeats_note(shown, "Bars on top"),
        captions.missing_points_note(shown, labels, BATCH_SIZE, {_TOTAL: "mean latency [ms]"}),
        captions.selection_note(data, "shown"),
    ]
    around = Surroundings(campaign, title, _legend_entries(stages), notes)
    layout.finish_figure(figure, style, _MAIN_IN + _SHARE_IN, around)
    return figure


def _legend_entries(stages: list[str]) -> list[LegendEntry]:
    """Return the stages from the top of a stack down."""
    return [
        (_NAMES[name], Rectangle((0, 0), 1, 1, facecolor=_COLOURS[name]))
        for name in reversed(stages)
    ]


def _scale_rows(upper: Axes, lower: Axes, shown: pd.DataFrame, stages: list[str]) -> None:
    total = shown[stages].sum(axis="columns")
    # An interval far above its stack would make all stacks small.
    ends = np.minimum(bar_ends(shown, _TOTAL)[1], 2 * total.max())
    axis_scales.set_y_axis_from_zero(upper, [*total, *ends])
    upper.set_ylabel("Mean latency [ms]")
    lower.set_ylim(0, 100)
    lower.set_yticks([0, 25, 50, 75, 100])
    lower.set_yticks([], minor=True)
    lower.set_ylabel("Share [%]", loc="center")


def _draw_shares(ax: Axes, part: pd.DataFrame, stages: list[str]) -> None:
    times = part[stages].fillna(0.0).to_numpy(float)
    total = times.sum(axis=1)
    shares = 100 * times / np.where(total > 0, total, np.nan)[:, None]
    _draw_stacks(ax, np.nan_to_num(shares), stages)


def _draw_times(ax: Axes, part: pd.DataFrame, stages: list[str]) -> None:
    times = part[stages].fillna(0.0).to_numpy(float)
    _draw_stacks(ax, times, stages)
    places, total = np.arange(len(part)), times.sum(axis=1)
    low, high = bar_ends(part, _TOTAL)
    mean = part[_TOTAL].to_numpy(float)
    known = np.isfinite(low) & np.isfinite(mean)
    error = np.stack([mean - low, high - mean])[:, known]
    ax.errorbar(places[known], mean[known], error, fmt="none", ecolor="0.2", capsize=5)
    unstable = (part["status"] == Status.UNSTABLE).to_numpy(bool)
    ax.plot(
        places[unstable],
        total[unstable],
        marker="o",
        color="black",
        markerfacecolor="white",
        markersize=10,
        linestyle="none",
        gid="hollow",
    )
    absent = part["measured"].to_numpy() == 0
    ax.plot(
        places[absent],
        np.full(absent.sum(), 0.04),
        marker="x",
        color="0.3",
        markersize=10,
        markeredgewidth=2.5,
        linestyle="none",
        transform=ax.get_xaxis_transform(),
        gid="absent",
    )
    ax.tick_params(axis="x", which="both", length=0)


def _draw_stacks(ax: Axes, values: Array, stages: list[str]) -> None:
    """Draw a stack for each row of ``values``, which has a column for each stage."""
    bottom = np.zeros(len(values))
    for stage, heights in zip(stages, values.T, strict=True):
        ax.bar(
            np.arange(len(values)),
            heights,
            0.8,
            bottom,
            color=_COLOURS[stage],
            edgecolor="white",
            linewidth=0.8,
            gid=stage,
        )
        bottom += heights
    ax.grid(visible=False)


def _label_batch_sizes(ax: Axes, part: pd.DataFrame, width_in: float) -> None:
    step = -(-len(part) // _MOST_TICKS)
    ax.set_xticks(np.arange(len(part))[::step], [plain_number(x) for x in part["x"][::step]])
    ax.set_xticks([], minor=True)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.6, len(part) - 0.4)
    ax.set_xlabel(BATCH_SIZE.label, fontsize=LABEL_PT if width_in > 6 else SMALL_PT + 2)
