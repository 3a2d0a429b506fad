"""Scales, limits and ticks of axes: few ticks, as plain numbers."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from hpcbench.analysis.summary.number_format import plain_number

# Limits further apart than this factor always have one of the ticks 1, 2, 5, 10, ... between them.
_LEAST_SPAN = 5.0

# Ratios that differ by more than this factor get a logarithmic axis.
_LINEAR_UP_TO = 3.0


def three_digits(value: float) -> str:
    """Format a number with three significant digits and without exponent.

    Parameters
    ----------
    value
        A finite number.

    Returns
    -------
    str
        For example ``0.0123`` or ``12300``.
    """
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def set_colour_bar_ticks(ax: Axes) -> None:
    """Write the ticks of a colour bar as plain numbers.

    Parameters
    ----------
    ax
        Axes of the colour bar, whose y axis has the scale of the colours.
    """
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log":
        _set_log_ticks(ax.yaxis, low, high)
        ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(plain_number))


def set_swept_x_axis(
    ax: Axes, values: Sequence[float], *, linear: bool, label_pt: float, axis_pt: float
) -> None:
    """Scale an x axis with a tick at each value that was measured.

    Parameters
    ----------
    ax
        Axes to change.
    values
        Values measured, all positive.
    linear
        Use a linear scale instead of one of base 2.
    label_pt
        Font size of the tick labels in points. Labels that would touch are left out.
    axis_pt
        Length of the axis in points.
    """
    low, high = min(values), max(values)
    if linear:
        margin = max(0.08 * (high - low), 0.5)
        low, high = low - margin, high + margin
        ax.set_xlim(low, high)
        places = {value: (value - low) / (high - low) * axis_pt for value in values}
    else:
        low, high = low / 1.35, high * 1.35
        if low * _LEAST_SPAN > high:
            low, high = low / 2, high * 2
        ax.set_xscale("log", base=2)
        ax.set_xlim(low, high)
        scale = axis_pt / math.log(high / low)
        places = {value: math.log(value / low) * scale for value in values}
    labelled: list[float] = []
    # Powers of two first: a reader looks for these.
    for value in sorted(places, key=lambda value: (not math.log2(value).is_integer(), value)):
        if all(
            abs(places[value] - places[other])
            > label_pt * (0.6 * (len(plain_number(value)) + len(plain_number(other))) / 2 + 0.6)
            for other in labelled
        ):
            labelled.append(value)
    ax.xaxis.set_major_locator(FixedLocator(sorted(labelled)))
    ax.xaxis.set_major_formatter(FuncFormatter(plain_number))
    ax.xaxis.set_minor_locator(FixedLocator(sorted(set(places) - set(labelled))))
    ax.xaxis.set_minor_formatter(NullFormatter())


def set_log_y_axis(ax: Axes, values: Iterable[float], *, space_below: float = 0.0) -> None:
    """Scale a logarithmic y axis around values.

    Parameters
    ----------
    ax
        Axes to change.
    values
        Values that must be in view; those that are not positive or not finite are ignored.
    space_below
        Share of the height, from 0 to below 1, that stays free under the values.
    """
    low, high = _padded_limits(values)
    low /= (high / low) ** (space_below / (1 - space_below))
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    _set_log_ticks(ax.yaxis, low, high)


def set_log_x_axis(ax: Axes, values: Iterable[float], *, most_ticks: int = 6) -> None:
    """Scale a logarithmic x axis around values.

    Parameters
    ----------
    ax
        Axes to change.
    values
        Values that must be in view; those that are not positive or not finite are ignored.
    most_ticks
        Upper limit on the number of labelled ticks.
    """
    low, high = _padded_limits(values)
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    _set_log_ticks(ax.xaxis, low, high, most=most_ticks)


def set_y_axis_from_zero(ax: Axes, values: Iterable[float]) -> None:
    """Scale a linear y axis from 0 to a little above the largest value.

    Parameters
    ----------
    ax
        Axes to change.
    values
        Values that must be in view; those that are not finite are ignored.
    """
    finite = [value for value in values if math.isfinite(value)]
    ax.set_yscale("linear")
    ax.set_ylim(0, 1.08 * max(finite, default=1.0) or 1.0)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], prune="upper"))
    ax.yaxis.set_major_formatter(FuncFormatter(plain_number))
    ax.yaxis.set_minor_locator(NullLocator())


def set_ratio_axis(ax: Axes, values: Iterable[float], direction: Literal["x", "y"] = "y") -> None:
    """Scale an axis of ratios that has 1 in view.

    It is linear while the ratios are within a factor of 3, and logarithmic beyond.

    Parameters
    ----------
    ax
        Axes to change.
    values
        Ratios that must be in view; those that are not positive or not finite are ignored.
    direction
        Which of the two axes is changed.
    """
    ratios = [1.0, *(v for v in values if math.isfinite(v) and v > 0)]
    wide = max(ratios) / min(ratios) > _LINEAR_UP_TO
    low, high = _padded_limits(ratios) if wide else _linear_limits(ratios)
    scale = {f"{direction}scale": "log" if wide else "linear", f"{direction}lim": (low, high)}
    ax.set(**scale)
    axis = ax.xaxis if direction == "x" else ax.yaxis
    if wide:
        _set_log_ticks(axis, low, high, most=4)
    else:
        _set_ratio_ticks(axis, low, high)


def _linear_limits(ratios: Sequence[float]) -> tuple[float, float]:
    padding = max(0.2 * (max(ratios) - min(ratios)), 0.05)
    return min(ratios) - padding, max(ratios) + padding


def _set_ratio_ticks(axis: Axis, low: float, high: float) -> None:
    ticks = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    # A label at the very edge would touch the panel above or the labels below.
    margin = 0.1 * (high - low)
    axis.set_major_locator(
        FixedLocator([tick for tick in ticks if low + margin <= tick <= high - margin])
    )
    axis.set_major_formatter(FuncFormatter(plain_number))
    axis.set_minor_locator(NullLocator())


def _padded_limits(values: Iterable[float]) -> tuple[float, float]:
    """Return limits around the positive values, at least _LEAST_SPAN apart; else 1 and 10."""
    positive = [value for value in values if math.isfinite(value) and value > 0]
    if not positive:
        return 1.0, 10.0
    padding = max((max(positive) / min(positive)) ** 0.08, 1.15)
    low, high = min(positive) / padding, max(positive) * padding
    widening = max(1.0, _LEAST_SPAN * 1.01 / (high / low)) ** 0.5
    return low / widening, high * widening


def _set_log_ticks(axis: Axis, low: float, high: float, most: int = 8) -> None:
    # Matplotlib's own locator labels only powers of ten: often one tick, or none.
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    margin = (high / low) ** 0.04
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        inside = [tick for tick in ticks if low * margin <= tick <= high / margin]
        if len(inside) <= most:
            break
    axis.set_major_locator(FixedLocator(inside[:: -(-len(inside) // most) or 1]))
    axis.set_major_formatter(FuncFormatter(plain_number))
    axis.set_minor_locator(LogLocator(subs=range(1, 10), numticks=200))
    axis.set_minor_formatter(NullFormatter())
