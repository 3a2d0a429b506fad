"""Throughput against p99 latency of all configurations, and the Pareto front of each device."""

from collections.abc import Mapping
from string import ascii_uppercase

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from hpcbench.analysis.decide.choice import level_for_all, sure_end
from hpcbench.analysis.figures import annotations, axis_scales, captions, layout
from hpcbench.analysis.figures.layout import Surroundings
from hpcbench.analysis.figures.legends import SeriesLegend, server_texts
from hpcbench.analysis.figures.panels import (
    THROUGHPUT,
    THROUGHPUT_NAME,
    capitalised,
    draw_error_bars,
    draw_markers,
    values_in_view,
)
from hpcbench.analysis.figures.styles import SMALL_PT, SeriesMark, Style
from hpcbench.analysis.summary import series, statistics
from hpcbench.analysis.summary.configuration import CONFIGURATION, REQUEST_CONTENT
from hpcbench.analysis.summary.figure_tables import (
    MOST_FIGURES,
    FigureTables,
    plotted_numbers,
    split_by_column,
)
from hpcbench.analysis.summary.number_format import plain_number
from hpcbench.analysis.summary.points import row_dicts
from hpcbench.analysis.summary.series import DEVICE, DoesNotApply
from hpcbench.analysis.summary.statistics import Sample
from hpcbench.analysis.summary.variance import moderated_spread
from hpcbench.records.columns import Status

_P99 = "latency_p99_ms"
_APART = (*REQUEST_CONTENT, *DEVICE)
_FREE = tuple(name for name in CONFIGURATION if name not in _APART)
_PANEL_IN = 8.5
_TIMES = "\N{MULTIPLICATION SIGN}"

# So many small points hide each other, and as vectors make a slow PDF.
_MANY_POINTS, _MOST_VECTOR_POINTS = 100, 500


def prepare_pareto_front(points: pd.DataFrame) -> FigureTables:
    """Prepare every point that has a throughput and a p99 latency, one figure for each model.

    Parameters
    ----------
    points
        Table of `points.summarise`.

    Returns
    -------
    FigureTables
        Data of each figure, with the words that tell the figures apart. ``series`` counts
        devices. ``on_front`` marks points that no other point of the series beats in one metric
        while being as good in the other; ``front_sure`` those of which that is certain with 95 % in
        all, as far as the intervals say; ``few_requests`` those of which some repeat has too few
        requests for a p99. What fell behind its request rate is on no front.

    Raises
    ------
    DoesNotApply
        If no measurement has a p99 latency.
    """
    points = series.isolated_models(points)
    table = points[(points[[THROUGHPUT, _P99]] > 0).all(axis="columns")].copy()
    if table.empty:
        raise DoesNotApply("no measurement has a p99 latency")
    table["series"] = series.number_groups(table, _APART)
    table["x"] = table[THROUGHPUT]
    table[["on_front", "front_sure"]] = False
    for _, part in table[~(table["overloaded_max"] > 0)].groupby("series"):
        table.loc[part.index, "on_front"] = _is_on_front(part)
        table.loc[part.index, "front_sure"] = _is_surely_on_front(part)
    table["front_sure"] &= table["on_front"]
    table["few_requests"] = statistics.too_few_requests(table["request_count"], 99)
    table = table.sort_values(["series", "x"], ignore_index=True)
    found: FigureTables = []
    for name, part in split_by_column(table, "model_label")[:MOST_FIGURES]:
        data = plotted_numbers(part, (THROUGHPUT, _P99))
        for column in ("on_front", "front_sure", "few_requests"):
            data[column] = part[column].to_numpy()
        found.append((name, data))
    return found


def _is_on_front(part: pd.DataFrame) -> npt.NDArray[np.bool_]:
    # From the highest throughput down, the front is each point that lowers the least latency.
    order = np.lexsort((part[_P99], -part[THROUGHPUT]))
    latency = part[_P99].to_numpy()[order]
    least = np.minimum.accumulate(np.concatenate([[np.inf], latency[:-1]]))
    found = np.zeros(len(part), dtype=bool)
    found[order] = latency < least
    return found


def _is_surely_on_front(part: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return which points no other one may have beaten in both metrics.

    The ends are those of intervals that hold for both metrics of all points at once.
    """
    level = (1 + level_for_all(statistics.CONFIDENCE, 2 * len(part))) / 2
    ends = {}
    for metric in (THROUGHPUT, _P99):
        sample = Sample.from_table(part, metric)
        spread = moderated_spread(sample)
        for upper in (False, True):
            ends[metric, upper] = sure_end(sample, spread, level, upper=upper)
    known = np.isfinite(list(ends.values())).all(axis=0)
    least, most = ends[THROUGHPUT, False], ends[THROUGHPUT, True]
    # A point that was measured once, where none was repeated, may be anywhere.
    best, worst = (np.where(known, ends[_P99, upper], -np.inf) for upper in (False, True))
    order = np.argsort(-np.where(known, most, np.inf))
    # The two least latencies of all that may have at least a certain throughput: the least may be
    # the point's own.
    first = np.minimum.accumulate(best[order])
    second = np.minimum.accumulate(np.append(np.inf, np.maximum(first[:-1], best[order][1:])))
    rivals = np.searchsorted(-np.where(known, most, np.inf)[order], -least, side="right")
    place = np.maximum(rivals, 1) - 1
    others = np.where(first[place] == best, second[place], first[place])
    found: npt.NDArray[np.bool_] = known & (others > worst)
    return found


def draw_pareto_front(data: pd.DataFrame, style: Style) -> Figure:
    """Draw p99 latency [ms] against throughput [infer/s] with the front of each device.

    Parameters
    ----------
    data
        Data of one figure of `prepare_pareto_front`.
    style
        Style of the figure.

    Returns
    -------
    Figure
        One panel; points of the front are large and labelled with their load, those that are
        surely on it ringed.
    """
    shown = data[data["drawn"] == "colour"]
    legend = SeriesLegend.from_data(data, _FREE)
    figure = layout.new_figure(layout.NARROW_IN)
    ax = figure.subplots()
    axis_scales.set_log_x_axis(ax, values_in_view(shown, THROUGHPUT))
    axis_scales.set_log_y_axis(ax, values_in_view(shown, _P99))
    servers = _server_letters(shown[shown["on_front"]])
    texts = [
        text
        for number, mark in legend.marks.items()
        for text in _draw_device(ax, shown[shown["series"] == number], mark, servers)
    ]
    ax.set_xlabel(capitalised(THROUGHPUT_NAME))
    ax.set_ylabel("p99 latency [ms]")
    around = Surroundings(
        captions.campaign_names(shown), legend.title, legend.entries(shown), _notes(data, shown)
    )
    layout.finish_figure(figure, style, _PANEL_IN, around)
    annotations.place_annotations(ax, texts)
    return figure


def _notes(data: pd.DataFrame, shown: pd.DataFrame) -> list[str]:
    front = shown[shown["on_front"]]
    few = int(front["few_requests"].sum())
    needed = statistics.requests_needed(99)
    load = "concurrency" if shown["concurrency"].notna().any() else "request rate"
    large = f"the Pareto front of each device, labelled batch size {_TIMES} {load}"
    servers = _server_letters(front)
    if servers:
        large += " and server"
    return [
        f"Large: {large}. Small: the others.",
        _servers_note(front, servers),
        _sure_note(front),
        f"Triangles: p99 from fewer than {needed} requests ({few} of {len(front)} points on the "
        "fronts)."
        if few
        else "",
        captions.repeats_note(front, "Bars"),
        captions.behind_note(shown),
        captions.selection_note(data),
    ]


def _sure_note(front: pd.DataFrame) -> str:
    if not (front["measured"] > 1).any():
        return ""
    sure = f"{int(front['front_sure'].sum())} of {len(front)}"
    how = f"with {statistics.CONFIDENCE:.0%} confidence, all together"
    return f"Ringed: on the front {how} ({sure})."


def _draw_device(
    ax: Axes, part: pd.DataFrame, mark: SeriesMark, servers: Mapping[str, str]
) -> list[Annotation]:
    front = part[part["on_front"]].sort_values(THROUGHPUT)
    _draw_behind(ax, part[~part["on_front"]], mark)
    x, y = front[THROUGHPUT].to_numpy(float), front[_P99].to_numpy(float)
    ax.plot(x, y, color=mark.colour, linewidth=2.2, drawstyle="steps-pre", gid="front")
    draw_error_bars(ax, front, (THROUGHPUT, _P99), mark.colour, alpha=0.6)
    draw_markers(ax, x, y, (front["status"] == Status.UNSTABLE).to_numpy(bool), mark)
    sure = front["front_sure"].to_numpy(bool)
    ax.plot(
        x[sure],
        y[sure],
        marker="o",
        color="black",
        markerfacecolor="none",
        markersize=17,
        markeredgewidth=1.3,
        linestyle="none",
        gid="sure",
    )
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
    return annotations.annotate_points(ax, _point_texts(front, servers), x, y, mark, SMALL_PT - 2)


def _draw_behind(ax: Axes, behind: pd.DataFrame, mark: SeriesMark) -> None:
    """Draw the points that are not on the front, small and pale."""
    unstable = behind["status"] == Status.UNSTABLE
    for some, face in ((behind[~unstable], mark.colour), (behind[unstable], "none")):
        ax.plot(
            some[THROUGHPUT],
            some[_P99],
            marker=mark.marker,
            color=mark.colour,
            markerfacecolor=face,
            linestyle="none",
            markersize=7 if len(behind) < _MANY_POINTS else 4,
            alpha=0.35 if face != "none" else 0.6,
            markeredgewidth=0 if face != "none" else 1.2,
            rasterized=len(behind) > _MOST_VECTOR_POINTS,
            gid="behind",
        )


def _point_texts(front: pd.DataFrame, servers: Mapping[str, str]) -> list[str]:
    """The load of each point, with the letter of its server where the points have several."""
    load = front["concurrency"].fillna(front["request_rate"])
    loads = [
        f"{batch}{_TIMES}{plain_number(float(rate))}" if pd.notna(rate) else str(batch)
        for batch, rate in zip(front["batch_size"], load, strict=True)
    ]
    letters = (servers.get(variant, "") for variant in front["variant"])
    return [f"{load} {letter}".strip() for load, letter in zip(loads, letters, strict=True)]


def _server_letters(front: pd.DataFrame) -> dict[str, str]:
    """A letter for each server of the points on fronts, by its variant; none for a single one."""
    variants = front.sort_values(THROUGHPUT)["variant"].unique()
    if len(variants) < 2:
        return {}
    # Whole names beside the points would hide them.
    return {each: ascii_uppercase[n % 26] * (1 + n // 26) for n, each in enumerate(variants)}


def _servers_note(front: pd.DataFrame, servers: Mapping[str, str]) -> str:
    rows = row_dicts(front.drop_duplicates("variant"))
    texts = {
        servers.get(row["variant"], ""): text
        for row, text in zip(rows, server_texts(rows), strict=True)
    }
    return "; ".join(f"{letter}: {texts[letter]}" for letter in servers.values()) + "." * bool(
        servers
    )
