"""What is drawn inside a panel: series as lines with markers, bands, error bars and ratios.

The tables here are the data of a figure (`hpcbench.analysis.summary.series`): a row is a point at
``x``, and ``drawn`` says whether its series stands out ("colour"), stays behind ("grey") or is left
out ("no").
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from hpcbench.analysis.figures import axis_scales
from hpcbench.analysis.figures.styles import GREY, SeriesMark
from hpcbench.records.columns import Status

THROUGHPUT = "throughput_infer_per_s"
THROUGHPUT_NAME = "throughput [infer/s]"
LATENCY = "latency_ms"

_CROSS_HEIGHT = 0.045

# Ends of error bars below 0 are drawn at this share of the value: a logarithmic axis has no 0.
_SMALLEST_SHARE = 1e-3


def draw_metric_panel(
    ax: Axes, data: pd.DataFrame, metric: str, marks: Mapping[int, SeriesMark], name: str
) -> None:
    """Draw the series of a metric on a logarithmic y axis.

    A point without a result is a cross at the lower edge, one row of crosses for each series.

    Parameters
    ----------
    ax
        Axes of the panel.
    data
        Data of the figure, one row for each point.
    metric
        Column of the metric.
    marks
        Marks of the series that stand out, by their numbers.
    name
        Name of the metric with its unit, as in ``throughput [infer/s]``.
    """
    shown = data[data["series"].isin(list(marks))]
    absent = shown[shown["measured"] == 0]
    rows = {number: row for row, number in enumerate(absent["series"].unique())}
    space = min(_CROSS_HEIGHT * (len(rows) + 0.5), 0.4) if rows else 0.0
    axis_scales.set_log_y_axis(ax, values_in_view(data, metric), space_below=space)
    draw_grey_lines(ax, data, metric)
    for number, mark in marks.items():
        series = data[data["series"] == number]
        draw_series(ax, series, metric, mark, band_alpha=_band_alpha(marks))
        if number in rows:
            missing = series.loc[series["measured"] == 0, "x"]
            height = space * (rows[number] + 1) / (len(rows) + 0.5)
            ax.plot(
                missing,
                [height] * len(missing),
                transform=ax.get_xaxis_transform(),
                **mark.missing_keywords(),
                gid="absent",
            )
    if not (data[metric] > 0).any():
        _write_no_data(ax, name)
    ax.set_ylabel(capitalised(name))


def _write_no_data(ax: Axes, name: str) -> None:
    what, _, _ = name.partition(" [")
    ax.text(0.5, 0.5, f"no {what}", transform=ax.transAxes, ha="center", va="center")
    ax.set_yticks([])
    ax.set_yticks([], minor=True)


def capitalised(name: str) -> str:
    """Begin the name of a metric with a capital letter, except for percentiles.

    Parameters
    ----------
    name
        Name such as ``throughput [infer/s]`` or ``p99 latency [ms]``.

    Returns
    -------
    str
        The name for the label of an axis.
    """
    return name if name[:2] in ("p9", "p5") else name[:1].upper() + name[1:]


def draw_ratio_panel(
    ax: Axes, data: pd.DataFrame, metric: str, marks: Mapping[int, SeriesMark]
) -> None:
    """Draw the ratio of each series to the first.

    Parameters
    ----------
    ax
        Axes of the panel.
    data
        Data of the figure, with the column ``METRIC_ratio``.
    metric
        Column of the metric.
    marks
        Marks of the series that stand out, by their numbers.
    """
    ratio = f"{metric}_ratio"
    shown = data[data["series"].isin(list(marks))]
    axis_scales.set_ratio_axis(ax, values_in_view(shown, ratio))
    ax.axhline(1, color="0.6", linewidth=1.5, linestyle=":", zorder=0)
    for number, mark in marks.items():
        series = data[data["series"] == number]
        draw_series(ax, series, ratio, mark, band_alpha=_band_alpha(marks))
    ax.set_ylabel("Ratio to first", loc="center", fontsize="small")


def draw_grey_lines(ax: Axes, data: pd.DataFrame, metric: str, x: str = "x") -> None:
    """Draw the series that do not stand out as thin lines behind the others.

    Parameters
    ----------
    ax
        Axes of the panel.
    data
        Data of the figure.
    metric, x
        Columns of the y and the x coordinate.
    """
    grey = data[(data["drawn"] == "grey") & (data[metric] > 0) & (data[x] > 0)]
    for _, series in grey.groupby("series"):
        ax.plot(series[x], series[metric], color=GREY, linewidth=1, zorder=1, gid="grey")


def draw_series(
    ax: Axes,
    series: pd.DataFrame,
    metric: str,
    mark: SeriesMark,
    *,
    linestyle: str = "-",
    band_alpha: float = 0.2,
) -> None:
    """Draw one series as a line with markers and its intervals.

    Neighbours with intervals get a band, a single point with an interval an error bar. Points
    that did not settle are hollow.

    Parameters
    ----------
    ax
        Axes of the panel.
    series
        Rows of one series, ordered along ``x``.
    metric
        Column of the metric.
    mark
        Mark of the series.
    linestyle
        Style of the line, as in matplotlib.
    band_alpha
        Opacity of the band, from 0 to 1.
    """
    # The note below the figure lists points that a logarithmic axis has no place for.
    drawn = series[series[metric] > 0]
    x, y = drawn["x"].to_numpy(float), drawn[metric].to_numpy(float)
    low, high = bar_ends(drawn, metric)
    low = np.maximum(low, y * _SMALLEST_SHARE)
    ax.plot(x, y, color=mark.colour, linewidth=2.2, linestyle=linestyle, zorder=2, gid="line")
    has_interval = np.isfinite(low) & np.isfinite(high)
    if (np.diff(np.flatnonzero(has_interval)) == 1).any():
        ax.fill_between(
            x,
            low,
            high,
            where=has_interval,
            color=mark.colour,
            alpha=band_alpha,
            linewidth=0,
            zorder=1.5,
        )
    # A band needs two neighbours; a single interval would not be seen.
    alone = has_interval & ~_has_neighbour(has_interval)
    ax.errorbar(
        x[alone],
        y[alone],
        yerr=np.stack([y - low, high - y])[:, alone],
        fmt="none",
        ecolor=mark.colour,
        elinewidth=1.5,
        capsize=5,
        capthick=1.5,
        alpha=0.7,
        zorder=2.5,
    )
    draw_markers(ax, x, y, (drawn["status"] == Status.UNSTABLE).to_numpy(bool), mark)


def _band_alpha(marks: Mapping[int, SeriesMark]) -> float:
    # Many bands on top of each other would hide the lines.
    return 0.2 if len(marks) <= 3 else 0.1


def draw_markers(
    ax: Axes,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    unstable: npt.NDArray[np.bool_],
    mark: SeriesMark,
) -> None:
    """Draw points: filled where all repeats settled, else hollow.

    Parameters
    ----------
    ax
        Axes of the panel.
    x, y
        Coordinates, shape (n,).
    unstable
        Whether some repeat of a point did not settle, shape (n,).
    mark
        Mark of the series.
    """
    for hollow in (False, True):
        if (chosen := unstable == hollow).any():
            ax.plot(
                x[chosen],
                y[chosen],
                **mark.point_keywords(hollow=hollow),
                # The first series stays on top: others are compared with it.
                zorder=3 - 0.01 * mark.rank,
                gid="hollow" if hollow else "settled",
            )


def draw_error_bars(
    ax: Axes, data: pd.DataFrame, metrics: tuple[str, str], colour: str, *, alpha: float
) -> None:
    """Draw the intervals of two metrics as thin bars through each point.

    Parameters
    ----------
    ax
        Axes of the panel.
    data
        Rows of the points.
    metrics
        Columns of the x and the y coordinate.
    colour
        Colour of the bars.
    alpha
        Opacity of the bars, from 0 to 1.
    """
    x, y = (data[metric] for metric in metrics)
    for metric, direction in zip(metrics, ("xerr", "yerr"), strict=True):
        bars = {direction: interval_lengths(data, metric)}
        look: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 1.2, **bars}
        ax.errorbar(x, y, alpha=alpha, **look)


def interval_lengths(data: pd.DataFrame, metric: str) -> npt.NDArray[np.float64]:
    """Return how far the intervals of a metric reach below and above its values.

    Parameters
    ----------
    data
        Rows of n points.
    metric
        Column of the metric.

    Returns
    -------
    npt.NDArray[np.float64]
        Shape (2, n), as ``errorbar`` takes it; 0 where a point has no interval.
    """
    value = data[metric].to_numpy(float)
    low, high = bar_ends(data, metric)
    lengths: npt.NDArray[np.float64] = np.nan_to_num(
        np.stack([value - np.maximum(low, value * _SMALLEST_SHARE), high - value])
    )
    return lengths


def bar_ends(
    data: pd.DataFrame, metric: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return where the bars of a metric end: the interval, or the range of two repeats.

    Parameters
    ----------
    data
        Rows of n points.
    metric
        Column of the metric.

    Returns
    -------
    tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
        Shape (n,) each; NaN where a point was measured once.
    """
    low, high = (data[f"{metric}{end}"].to_numpy(float) for end in ("_low", "_high"))
    # A ratio has no range.
    if f"{metric}_min" in data:
        least, most = (data[f"{metric}{end}"].to_numpy(float) for end in ("_min", "_max"))
        low, high = np.where(np.isnan(low), least, low), np.where(np.isnan(high), most, high)
    return low, high


def _has_neighbour(present: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    padded = np.concatenate([[False], present, [False]])
    found: npt.NDArray[np.bool_] = padded[:-2] | padded[2:]
    return found


def values_in_view(data: pd.DataFrame, metric: str) -> list[float]:
    """Return the values that an axis must show.

    Parameters
    ----------
    data
        Rows of the points.
    metric
        Column of the metric.

    Returns
    -------
    list[float]
        Means and ends of intervals. An end further than a factor of 1.5 from its mean is cut
        there: one wide interval would leave the others no space.
    """
    means = data[metric]
    low, high = (pd.Series(end, index=data.index) for end in bar_ends(data, metric))
    return [*means, *low.clip(lower=means / 1.5), *high.clip(upper=means * 1.5)]
