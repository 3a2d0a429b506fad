"""Repeats that lie so far from the others that no interval of a normal distribution covers them."""

import numpy as np
import numpy.typing as npt

from hpcbench.analysis.summary.configuration import Array, Numbers

FAR = 5.0
"""Standard deviations from the median at which no value of a normal distribution is found."""

FAR_SHARE = 0.2
"""Of the median: what is nearer changes no decision, however quiet the others are."""


def far_from_median(values: Array, numbers: Numbers, median: Array) -> npt.NDArray[np.bool_]:
    """Return which repeats are so far from the others that these cannot be normal.

    Parameters
    ----------
    values
        Shape (n,), in any unit. What is not above 0 is missing.
    numbers
        Shape (n,), the number of each value's group.
    median
        Shape (m,), the median of each group.

    Returns
    -------
    numpy.ndarray
        Shape (n,): further from its group's median than FAR standard deviations and FAR_SHARE.

    Notes
    -----
    On logarithms. The standard deviation is that of all groups together, from the median distance
    of neighbours in one group: one slow repeat in ten hardly moves it.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.log(np.where(values > 0, values, np.nan) / median[numbers])
    known = np.flatnonzero(np.isfinite(away))
    ordered = known[np.argsort(numbers[known], kind="stable")]
    alike = np.diff(numbers[ordered]) == 0
    if not alike.any():
        return np.zeros(len(values), dtype=bool)
    # Two of them differ by 2 ** 0.5 standard deviations; 0.6745 is the normal's upper quartile.
    std = np.median(np.abs(np.diff(away[ordered]))[alike]) / (0.6745 * np.sqrt(2))
    far: npt.NDArray[np.bool_] = np.abs(away) > max(FAR * std, np.log1p(FAR_SHARE))
    return far
