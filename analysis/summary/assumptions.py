"""Whether repeats are what intervals take them for: normal, and independent of each other.

A few repeats of one configuration cannot say it; those of dozens can. Each configuration gives a
statistic whose mean and variance are known exactly for independent normal values, whatever their
mean and variance; the mean over all configurations is then a normal test.

References
----------
.. [1] R. A. Fisher, "The moments of the distribution for normal samples of measures of departure
   from normality", Proceedings of the Royal Society of London A 130 (1930) 16-28.
.. [2] J. von Neumann, "Distribution of the ratio of the mean square successive difference to the
   variance", Annals of Mathematical Statistics 12 (1941) 367-395.
"""

from dataclasses import dataclass

import numpy as np

from hpcbench.analysis.summary.configuration import Array, Numbers

SIGNIFICANCE = 0.01
"""Of a warning: one in a hundred tables of independent normal repeats has one, of each kind."""

FEWEST = 10
"""Configurations with three repeats or more below which nothing is said."""


@dataclass(frozen=True)
class Repeats:
    """What the repeats of many configurations say about the assumptions.

    Attributes
    ----------
    p_normal
        Two-sided p-value of their skewness and kurtosis [1]_, the smaller of both, doubled; NaN if
        nothing can be said.
    p_independent
        Two-sided p-value of the successive differences [2]_; NaN if nothing can be said.
    """

    p_normal: float
    p_independent: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what does not hold, in words."""
        found = []
        if self.p_normal < SIGNIFICANCE:
            found.append(
                "repeats are not normal (outliers, or two modes): intervals may be too narrow; "
                "look at the slow ones"
            )
        if self.p_independent < SIGNIFICANCE:
            found.append(
                "repeats are not independent (each resembles the one before): intervals are too "
                "narrow; spread repeats over time, nodes and sessions"
            )
        return tuple(found)


def check_repeats(values: Array, numbers: Numbers) -> Repeats:
    """Test whether the repeats of many configurations are normal and independent.

    Parameters
    ----------
    values
        Shape (n,), positive measurements, those of one configuration in the order of time. What is
        not finite is missing.
    numbers
        Shape (n,), the configuration of each.

    Returns
    -------
    Repeats
        From the logarithms of values of configurations that have at least three.
    """
    known = np.isfinite(values) & (values > 0)
    order = np.argsort(numbers[known], kind="stable")
    logs, groups = np.log(values[known][order]), numbers[known][order]
    if not len(groups):
        return Repeats(np.nan, np.nan)
    _, groups, counts = np.unique(groups, return_inverse=True, return_counts=True)
    n = counts.astype(float)
    away = logs - (np.bincount(groups, logs) / n)[groups]
    second, third, fourth = (np.bincount(groups, away**power) / n for power in (2, 3, 4))
    # Equal values, but for rounding, have no shape.
    usable = (n >= 3) & (second > 1e-20)
    if usable.sum() < FEWEST:
        return Repeats(np.nan, np.nan)
    from scipy import special  # Not scipy.stats, which takes a second; and only where it is needed.

    same = groups[1:] == groups[:-1]
    steps = np.bincount(groups[1:][same], np.diff(logs)[same] ** 2, minlength=len(n))
    n, second, third, fourth, steps = (x[usable] for x in (n, second, third, fourth, steps))
    skewness = third / second**1.5
    kurtosis = fourth / second**2
    ratio = steps / (n - 1) / second
    with np.errstate(invalid="ignore", divide="ignore"):
        tests = (
            (skewness, 0 * n, 6 * (n - 2) / ((n + 1) * (n + 3))),
            (
                kurtosis,
                3 * (n - 1) / (n + 1),
                24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5)),
            ),
            (ratio, 2 * n / (n - 1), 4 * n**2 * (n - 2) / ((n + 1) * (n - 1) ** 3)),
        )
    # Of three values the kurtosis is always 1.5: no variance, nothing to test.
    p = [
        2 * special.ndtr(-abs((x - mean).sum()) / np.sqrt(variance.sum()))
        if variance.sum() > 0
        else 1.0
        for x, mean, variance in tests
    ]
    return Repeats(min(1.0, 2 * min(p[0], p[1])), float(p[2]))
