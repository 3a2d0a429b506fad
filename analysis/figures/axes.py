"""Ticks and limits of axes: plain numbers, few, at values that mean something."""

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

_LEAST_SPAN = 5.0
"""Any stretch of more than this factor holds two of the ticks 1, 2, 5, 10, ..."""

_LINEAR_UP_TO = 3.0


def three_digits(value: float) -> str:
    """The number with three digits that mean something, and no exponent."""
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def colour_ticks(ax: Axes) -> None:
    """Ticks of a colour bar in plain numbers, on its y axis."""
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log":
        _log_ticks(ax.yaxis, low, high)
        ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(plain_number))


def measured_axis(
    ax: Axes, values: Sequence[float], *, linear: bool, label_pt: float, axis_pt: float
) -> None:
    """An x axis with a tick at each value measured, labelled as far as labels have room.

    ``label_pt`` is the size of the font, ``axis_pt`` the length of the axis, both in points.
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
    # Powers of two first, as the values that a reader looks for.
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


def log_value_axis(ax: Axes, values: Iterable[float], *, room_below: float = 0.0) -> None:
    """A logarithmic y axis around ``values``; ``room_below`` is the share kept free under them."""
    low, high = _padded(values)
    low /= (high / low) ** (room_below / (1 - room_below))
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    _log_ticks(ax.yaxis, low, high)


def log_x_axis(ax: Axes, values: Iterable[float], *, most: int = 6) -> None:
    """A logarithmic x axis around ``values``, with at most that many ticks."""
    low, high = _padded(values)
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    _log_ticks(ax.xaxis, low, high, most=most)


def zero_axis(ax: Axes, values: Iterable[float]) -> None:
    """A linear y axis from 0 to a little above the largest value."""
    finite = [value for value in values if math.isfinite(value)]
    ax.set_yscale("linear")
    ax.set_ylim(0, 1.08 * max(finite, default=1.0) or 1.0)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], prune="upper"))
    ax.yaxis.set_major_formatter(FuncFormatter(plain_number))
    ax.yaxis.set_minor_locator(NullLocator())


def ratio_axis(ax: Axes, values: Iterable[float], way: Literal["x", "y"] = "y") -> None:
    """An axis for ratios, with 1 on it: linear while they are close, else logarithmic."""
    ratios = [1.0, *(v for v in values if math.isfinite(v) and v > 0)]
    wide = max(ratios) / min(ratios) > _LINEAR_UP_TO
    low, high = _padded(ratios) if wide else _linear_limits(ratios)
    ax.set(**{f"{way}scale": "log" if wide else "linear", f"{way}lim": (low, high)})
    axis = ax.xaxis if way == "x" else ax.yaxis
    if wide:
        _log_ticks(axis, low, high, most=4)
    else:
        _ratio_ticks(axis, low, high)


def _linear_limits(ratios: Sequence[float]) -> tuple[float, float]:
    padding = max(0.2 * (max(ratios) - min(ratios)), 0.05)
    return min(ratios) - padding, max(ratios) + padding


def _ratio_ticks(axis: Axis, low: float, high: float) -> None:
    ticks = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    # A label at the very edge would touch the panel above or the labels below.
    margin = 0.1 * (high - low)
    axis.set_major_locator(
        FixedLocator([tick for tick in ticks if low + margin <= tick <= high - margin])
    )
    axis.set_major_formatter(FuncFormatter(plain_number))
    axis.set_minor_locator(NullLocator())


def _padded(values: Iterable[float]) -> tuple[float, float]:
    """Limits around the positive values, at least _LEAST_SPAN apart; 1 to 10 where none is."""
    positive = [value for value in values if math.isfinite(value) and value > 0]
    if not positive:
        return 1.0, 10.0
    padding = max((max(positive) / min(positive)) ** 0.08, 1.15)
    low, high = min(positive) / padding, max(positive) * padding
    widening = max(1.0, _LEAST_SPAN * 1.01 / (high / low)) ** 0.5
    return low / widening, high * widening


def _log_ticks(axis: Axis, low: float, high: float, most: int = 8) -> None:
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
