"""Where the time of a request goes: client, network, queue and the stages of the computation."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hpcbench.analysis.figures import axes, captions, layout
from hpcbench.analysis.figures.styles import DEFAULT, LABEL_PT, SMALL_PT, Preset, preset
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.figure_tables import (
    FigureTables,
    plotted_numbers,
    single_figure,
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
        ("#56b4e9", "#0072b2", "#e69f00", "#f0e442", "#d55e00", "#cc79a7", "#009e73", "#d0d0d0"),
        strict=True,
    )
)
_TOTAL = "latency_avg_ms"
_MAIN_IN, _SHARE_IN = 6.0, 3.2


def breakdowns(points: pd.DataFrame) -> FigureTables:
    """Mean times of the stages over batch size, with the share that no stage accounts for."""
    table = points.copy()
    known = table[list(STAGES)].notna().any(axis="columns")
    if not (series.require_measured(points)["measured"] > 0)[known].any():
        raise DoesNotApply("no measurement tells how its latency is made up")
    table[_REST] = (table[_TOTAL] - table[list(STAGES)].sum(axis="columns")).clip(lower=0)
    # Rounding leaves a little of everything unaccounted for, which is no news.
    table[_REST] = table[_REST].where(table[_REST] > 0.01 * table[_TOTAL], 0.0).where(known)
    for end in ("_n", "_low", "_high", "_min", "_max"):
        table[f"{_REST}{end}"] = np.nan
    parts = split_into_figures(series.series_along(table, BATCH_SIZE), MOST_COLUMNS)
    found = []
    for name, part in parts:
        numbers = plotted_numbers(part, (_TOTAL, *_NAMES), MOST_COLUMNS)
        numbers["drawn"] = numbers["drawn"].replace("grey", "no")
        shown = numbers.loc[numbers["drawn"] == "colour", list(STAGES)]
        if shown.notna().any(axis=None):
            found.append((name, numbers))
    return found


def breakdown_figure(numbers: pd.DataFrame, style: str) -> Figure:
    """One picture of `breakdowns`: a column per configuration, times above, shares below."""
    look = preset(style)
    shown = numbers[numbers["drawn"] == "colour"]
    title, texts = captions.legend(shown, BATCH_SIZE.hidden_words)
    stages = [name for name in _NAMES if (shown[name] > 0).any()]
    width_in = layout.WIDE_IN if len(texts) > 1 else layout.NARROW_IN
    notes = [
        "Mean times per request. Server stages are the server's own, the others the client's.",
        captions.conditions(shown, BATCH_SIZE.hidden_words),
        captions.repeats(shown, "Bars on top"),
        captions.absences(shown, texts, BATCH_SIZE, {_TOTAL: "mean latency [ms]"}),
        captions.selection(numbers, "Shown"),
    ]
    with look.active():
        figure = layout.blank(width_in)
        grid = figure.subplots(
            *(2, len(texts)),
            sharex="col",
            sharey="row",
            squeeze=False,
            height_ratios=[_MAIN_IN, _SHARE_IN],
        )
        for panels, (number, text) in zip(grid.T, texts.items(), strict=True):
            part = shown[shown["series"] == number]
            _draw_stack(panels[0], part, stages, share=False)
            panels[0].tick_params(axis="x", which="both", length=0)
            _draw_stack(panels[1], part, stages, share=True)
            _name_batches(panels[1], part, width_in / len(texts))
            if len(texts) > 1:
                _write_name(panels[0], text, width_in / len(texts) - 0.8, look)
        total = shown[stages].sum(axis="columns")
        axes.zero_axis(grid[0, 0], [*total, *shown[f"{_TOTAL}_high"].clip(upper=2 * total.max())])
        grid[1, 0].set_ylim(0, 100)
        grid[1, 0].set_yticks([0, 25, 50, 75, 100])
        grid[1, 0].set_yticks([], minor=True)
        grid[0, 0].set_ylabel("Mean latency [ms]")
        grid[1, 0].set_ylabel("Share [%]", loc="center")
        if len(texts) == 1:
            layout.write_header(grid[0, 0], look, captions.campaigns(shown))
            title = ", ".join(filter(None, [*texts.values(), title]))
        entries: list[layout.Entry] = [
            (_NAMES[name], Rectangle((0, 0), 1, 1, facecolor=_COLOURS[name]))
            for name in reversed(stages)
        ]
        if len(texts) > 1:
            title = f"{captions.campaigns(shown)}: {title}".removesuffix(": ")
        layout.write_around(figure, look, _MAIN_IN + _SHARE_IN, title, entries, notes)
    return figure


def _draw_stack(ax: Axes, part: pd.DataFrame, stages: list[str], *, share: bool) -> None:
    places = np.arange(len(part))
    values = part[stages].fillna(0.0).to_numpy(float)
    total = values.sum(axis=1)
    if share:
        values = 100 * values / np.where(total > 0, total, np.nan)[:, None]
        values = np.nan_to_num(values)
    bottom = np.zeros(len(part))
    for stage, heights in zip(stages, values.T, strict=True):
        ax.bar(
            places,
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
    if share:
        return
    low, high = (part[f"{_TOTAL}{end}"].to_numpy(float) for end in ("_low", "_high"))
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


def _name_batches(ax: Axes, part: pd.DataFrame, width_in: float) -> None:
    step = -(-len(part) // 12)
    ax.set_xticks(np.arange(len(part))[::step], [plain_number(x) for x in part["x"][::step]])
    ax.set_xticks([], minor=True)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.6, len(part) - 0.4)
    ax.set_xlabel(BATCH_SIZE.label, fontsize=LABEL_PT if width_in > 6 else SMALL_PT + 2)


def _write_name(ax: Axes, text: str, width_in: float, look: Preset) -> None:
    ax.set_title(
        layout.wrapped(text, SMALL_PT, width_in, look),
        fontsize=SMALL_PT,
        loc="left",
        parse_math=False,
    )


def latency_breakdown(points: pd.DataFrame, style: str = DEFAULT) -> Figure:
    """Mean latency [ms] as the stages of a request, stacked, against batch size; shares below [%].

    At most MOST_COLUMNS configurations side by side. A ring on top: did not settle; a cross: no
    result.
    """
    return breakdown_figure(single_figure(breakdowns(points)), style)
