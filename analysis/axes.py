"""Ticks and limits of logarithmic axes: plain numbers, few, at values that mean something."""

import math
from collections.abc import Iterable, Sequence

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

_LEAST_SPAN = 5.0
"""Any stretch of more than this factor holds two of the ticks 1, 2, 5, 10, ..."""

_LINEAR_UP_TO = 3.0


def plain(value: float, _position: int | None = None) -> str:
    """The number without exponent or useless digits."""
    return np.format_float_positional(value, precision=6, fractional=False, trim="-")


def batch_size_axis(
    ax: Axes, batch_sizes: Sequence[int], *, label_pt: float, axis_pt: float
) -> None:
    """A tick at each batch size measured, labelled as far as labels of that height have room.

    ``label_pt`` is the size of the font, ``axis_pt`` the length of the axis, both in points.
    """
    low, high = min(batch_sizes) / 1.35, max(batch_sizes) * 1.35
    if low * _LEAST_SPAN > high:
        low, high = low / 2, high * 2
    ax.set_xscale("log", base=2)
    ax.set_xlim(low, high)
    per_factor = axis_pt / math.log(high / low)
    labelled: list[int] = []
    # Powers of two first, as the values that a reader looks for.
    for size in sorted(batch_sizes, key=lambda n: (n & (n - 1) != 0, n)):
        if all(
            abs(math.log(size / other)) * per_factor
            > label_pt * (0.6 * (len(str(size)) + len(str(other))) / 2 + 0.6)
            for other in labelled
        ):
            labelled.append(size)
    ax.xaxis.set_major_locator(FixedLocator(sorted(labelled)))
    ax.xaxis.set_major_formatter(FuncFormatter(plain))
    ax.xaxis.set_minor_locator(FixedLocator(sorted(set(batch_sizes) - set(labelled))))
    ax.xaxis.set_minor_formatter(NullFormatter())


def log_value_axis(ax: Axes, values: Iterable[float], *, room_below: float = 0.0) -> None:
    """A logarithmic y axis around ``values``; ``room_below`` is the share kept free under them."""
    low, high = _padded(values)
    low /= (high / low) ** (room_below / (1 - room_below))
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    _log_ticks(ax.yaxis, low, high)


def ratio_axis(ax: Axes, values: Iterable[float]) -> None:
    """A y axis for ratios, with 1 on it: linear while they are close, else logarithmic."""
    finite = [1.0, *(v for v in values if math.isfinite(v) and v > 0)]
    if max(finite) / min(finite) > _LINEAR_UP_TO:
        low, high = _padded(finite)
        ax.set_yscale("log")
        ax.set_ylim(low, high)
        _log_ticks(ax.yaxis, low, high, most=4)
        return
    padding = max(0.2 * (max(finite) - min(finite)), 0.05)
    low, high = min(finite) - padding, max(finite) + padding
    ticks = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    # A label at the very edge would touch the panel above or the labels below.
    margin = 0.1 * (high - low)
    ax.set_ylim(low, high)
    ax.yaxis.set_major_locator(
        FixedLocator([tick for tick in ticks if low + margin <= tick <= high - margin])
    )
    ax.yaxis.set_major_formatter(FuncFormatter(plain))
    ax.yaxis.set_minor_locator(NullLocator())


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
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_locator(LogLocator(subs=range(1, 10), numticks=200))
    axis.set_minor_formatter(NullFormatter())
