"""Numbers as people read them: without exponents and without digits that mean nothing."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain_number(value: float, _position: int | None = None) -> str:
    """Return the number with at most six digits and no exponent.

    Parameters
    ----------
    value
        Any finite number.
    _position
        Not used. Matplotlib gives the position of a tick to its formatters.

    Returns
    -------
    str
        ``"0.25"``, ``"1024"``.
    """
    return np.format_float_positional(value, precision=6, fractional=False, trim="-")


def format_number(value: float | None) -> str:
    """Return the number with four significant digits and commas between thousands.

    Parameters
    ----------
    value
        None and NaN mean that the value is missing.

    Returns
    -------
    str
        ``"12,345"``, ``"1.234"``; ``"-"`` for a missing value.
    """
    if value is None or not math.isfinite(value):
        return "-"
    digits = 3 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{max(digits, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return the value, followed by its interval in brackets if there is one.

    Parameters
    ----------
    value
        The estimate, as for `format_number`.
    low, high
        The limits of its interval. None or NaN: there is no interval.

    Returns
    -------
    str
        ``"1.02 [0.98, 1.07]"``, or the value alone.
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return format_number(value)
    return f"{format_number(value)} [{format_number(low)}, {format_number(high)}]"


def sure_text(confidence: float) -> str:
    """Return a confidence in percent, with all of its digits: no confidence is 100 %.

    Parameters
    ----------
    confidence
        Between 0 and 1.

    Returns
    -------
    str
        ``"95 %"``, ``"99.9999 %"``.
    """
    return f"{100 * confidence:.14g} %"


def format_with_error(row: Mapping[str, Any], column: str) -> str:
    """Return the mean of a metric with half the width of its interval.

    Parameters
    ----------
    row
        A row of the table that `statistics.join_repeats` returns.
    column
        The name of the metric in it.

    Returns
    -------
    str
        ``"832.3 ± 4.1"``; the value alone where the row has no interval.
    """
    value, high = row.get(column), row.get(f"{column}_high")
    if value is None or high is None or not math.isfinite(high):
        return format_number(value)
    half = high - value
    # Two digits of the error are shown, and as many decimals of the value.
    digits = max(0, 1 - math.floor(math.log10(half))) if half > 0 else 1
    return f"{value:,.{min(digits, 6)}f} ± {half:,.{min(digits, 6)}f}"
