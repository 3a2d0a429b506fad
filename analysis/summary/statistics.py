"""Statistics over repeats: mean and spread of a metric, and whether two configurations differ.

Pure functions on pandas frames with the columns of `hpcbench.records.columns`, and on arrays; none
loops over rows or groups. Repeats are taken as independent and roughly normal.

References
----------
.. [1] Student, "The probable error of a mean", Biometrika 6 (1908) 1-25.
.. [2] B. L. Welch, "The generalization of 'Student's' problem when several different population
   variances are involved", Biometrika 34 (1947) 28-35.
.. [3] F. E. Satterthwaite, "An approximate distribution of estimates of variance components",
   Biometrics Bulletin 2 (1946) 110-114.
.. [4] G. Casella and R. L. Berger, "Statistical Inference", 2nd edition (2002), section 5.5.4: the
   delta method.
.. [5] MLCommons, "MLPerf Inference Rules", early stopping criterion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    Array,
    Numbers,
    as_floats,
    group_numbers,
    normalised,
)
from hpcbench.analysis.summary.invalid_rows import INVALID
from hpcbench.records.columns import MEASURED, Status

CONFIDENCE = 0.95
"""Of every interval."""


def join_repeats(
    frame: pd.DataFrame,
    metrics: Sequence[str],
    columns: Sequence[str] = CONFIGURATION,
) -> pd.DataFrame:
    """Return one row per configuration, with the statistics of its repeats.

    Parameters
    ----------
    frame
        Measurements, a row each, with CONFIGURATION_INPUTS, ``columns`` and ``metrics``.
    metrics
        Names of columns of numbers. Rows without a measurement do not count.
    columns
        Rows that agree in all of these are repeats.

    Returns
    -------
    pandas.DataFrame
        In the order in which configurations first appear in ``frame``. It has ``columns``;
        ``row``, the position in ``frame`` of the first measured row, or of the first row where none
        is measured; the counts ``repeats``, ``measured``, ``unstable`` and ``invalid`` (those that
        `invalid_rows.without_invalid` left out); ``accepted``, where `invalid_rows.accept_rules`
        has been asked; and for each of ``metrics`` the columns that
        `group_statistics` names, in the metric's own unit.
    """
    frame = normalised(frame)
    return join_groups(frame, group_numbers(frame, columns), metrics, columns)


def join_groups(
    frame: pd.DataFrame,
    numbers: Numbers,
    metrics: Sequence[str],
    columns: Sequence[str],
) -> pd.DataFrame:
    """Return one row per group of measurements: `join_repeats` where the groups are known.

    Parameters
    ----------
    frame
        n measurements, from `normalised`, with ``columns`` and ``metrics``.
    numbers
        Shape (n,), the group of each, from `group_numbers`.
    metrics
        As for `join_repeats`.
    columns
        Those to keep, each the same in a whole group.

    Returns
    -------
    pandas.DataFrame
        As from `join_repeats`, a row per group in the order of their numbers.
    """
    count = int(numbers.max()) + 1 if len(numbers) else 0
    measured = frame["status"].isin(sorted(MEASURED)).to_numpy(dtype=bool)
    first = _first(numbers, measured, count)
    table = frame[list(columns)].iloc[first].reset_index(drop=True)
    unstable = (frame["status"] == Status.UNSTABLE).to_numpy(dtype=bool)
    invalid = (frame["status"] == INVALID).to_numpy(dtype=bool)
    added: dict[str, Any] = {
        "row": first,
        "repeats": np.bincount(numbers, minlength=count),
        "measured": np.bincount(numbers[measured], minlength=count),
        "unstable": np.bincount(numbers[unstable], minlength=count),
        "invalid": np.bincount(numbers[invalid], minlength=count),
    }
    if "accepted" in frame:
        added["accepted"] = np.bincount(numbers[frame["accepted"].to_numpy()], minlength=count)
    for metric in metrics:
        values = np.where(measured, as_floats(frame[metric]), np.nan)
        for ending, column in group_statistics(values, numbers, count).items():
            added[f"{metric}{ending}"] = column
    return pd.concat([table, pd.DataFrame(added)], axis=1)


@dataclass(frozen=True)
class Counts:
    """How many measurements there are.

    Attributes
    ----------
    tried
        Those that a campaign asked for.
    measured
        Those of them that gave metrics.
    settled
        Those of them whose windows agreed.
    """

    tried: int
    measured: int
    settled: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Counts":
        """Take the counts of a row.

        Parameters
        ----------
        row
            Of `join_groups`, or sums of its ``repeats``, ``measured`` and ``unstable``.

        Returns
        -------
        Counts
            The same.
        """
        measured = int(row["measured"])
        return cls(int(row["repeats"]), measured, measured - int(row["unstable"]))

    def __str__(self) -> str:
        return f"{self.tried}/{self.measured}/{self.settled}"


def group_statistics(values: Array, numbers: Numbers, count: int) -> dict[str, npt.NDArray[Any]]:
    """Return the statistics of each group of values.

    Parameters
    ----------
    values
        Shape (n,), in any unit. What is not finite is missing.
    numbers
        Shape (n,), the number of each value's group, from 0.
    count
        How many groups there are.

    Returns
    -------
    dict
        Arrays of shape (count,), by the ending of their column: ``""`` the mean, ``_n`` how many
        values there are, ``_median``, ``_std`` (n - 1 degrees of freedom), ``_cv`` (standard
        deviation over mean), ``_min``, ``_max``, and ``_low`` and ``_high``, the limits of
        Student's t interval of the mean at CONFIDENCE [1]_. NaN where there is no value; spread
        and interval need two values.
    """
    known = np.isfinite(values)
    values, numbers = values[known], numbers[known]
    order = np.argsort(numbers, kind="stable")
    ordered, groups = values[order], numbers[order]
    n = np.bincount(groups, minlength=count)
    start = np.cumsum(n) - n
    there = n > 0
    # All groups of one size at once: to sort all values takes ten times as long.
    for size in np.unique(n[n > 1]):
        places = start[n == size][:, None] + np.arange(size)
        ordered[places] = np.sort(ordered[places], axis=1)

    def at(position: Numbers) -> Array:
        found = np.full(count, np.nan)
        found[there] = ordered[position[there]]
        return found

    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        lowest, highest = at(start), at(start + n - 1)
        # Means of differences from the smallest: the mean of equal values is that value exactly.
        mean = lowest + np.bincount(groups, ordered - lowest[groups], minlength=count) / n
        squares = np.bincount(groups, (ordered - mean[groups]) ** 2, minlength=count)
        std = np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1)), np.nan)
        half = _t_quantile(n - 1.0) * std / np.sqrt(n)
        cv = std / mean
        median = (at(start + (n - 1) // 2) + at(start + n // 2)) / 2
    return {
        "": mean,
        "_n": n,
        "_median": median,
        "_std": std,
        "_cv": np.where(mean > 0, cv, np.nan),
        "_min": lowest,
        "_max": highest,
        "_low": mean - half,
        "_high": mean + half,
    }


@cache
def requests_needed(percentile: float) -> int:
    """Return how many requests a percentile needs before it may be trusted.

    Parameters
    ----------
    percentile
        Between 0 and 100.

    Returns
    -------
    int
        64 for p90, 130 for p95, 662 for p99.

    Notes
    -----
    The smallest n for which the binomial probability that at most one of n requests is slower than
    the true percentile, is 1 % or less. It is MLPerf's early stopping criterion [5]_.
    """
    beyond = 1 - percentile / 100
    # 20 / beyond is far above the answer for every percentile: about 6.6 / beyond.
    counts = np.arange(1, int(20 / beyond))
    at_most_one = (1 - beyond) ** counts + counts * beyond * (1 - beyond) ** (counts - 1)
    return int(counts[at_most_one <= 0.01][0])


def too_few_requests(request_count: npt.ArrayLike, percentile: float) -> npt.NDArray[np.bool_]:
    """Return where a percentile comes from fewer requests than `requests_needed`.

    Parameters
    ----------
    request_count
        Requests behind each percentile, any shape; NaN: not known.
    percentile
        Between 0 and 100.

    Returns
    -------
    numpy.ndarray
        True where there are too few; False where the count is not known.
    """
    return np.asarray(request_count, dtype=float) < requests_needed(percentile)


@dataclass(frozen=True)
class Sample:
    """Repeats of one metric for m configurations, summarised.

    Attributes
    ----------
    n
        Shape (m,), how many values there are.
    mean
        Shape (m,), in the metric's unit.
    std
        Shape (m,), standard deviation with n - 1 degrees of freedom; NaN below two values.
    """

    n: Array
    mean: Array
    std: Array

    @classmethod
    def from_table(cls, table: pd.DataFrame, metric: str) -> "Sample":
        """Take a metric out of a table of `join_repeats`.

        Parameters
        ----------
        table
            With the columns of the metric.
        metric
            Its name.

        Returns
        -------
        Sample
            An element for each row.
        """
        return cls(*(as_floats(table[f"{metric}{ending}"]) for ending in ("_n", "", "_std")))


@dataclass(frozen=True)
class Interval:
    """Estimates with their intervals at CONFIDENCE.

    Attributes
    ----------
    value
        Shape (m,), the estimates; NaN where there is none.
    low, high
        Shape (m,), the limits; NaN where there is no interval.
    """

    value: Array
    low: Array
    high: Array


def welch_ratio(a: Sample, b: Sample) -> Interval:
    """Return the ratio of two means with Welch's interval of its logarithm.

    Parameters
    ----------
    a, b
        Samples of one length and unit.

    Returns
    -------
    Interval
        a / b; NaN where a mean is not positive, no interval where one was measured once.

    Notes
    -----
    By the delta method [4]_ the standard error of log(mean) is std / (mean * sqrt(n)). On
    logarithms the interval of b / a is the reciprocal of that of a / b, and no limit is negative.
    """
    value, error, freedom = _log_ratio(a, b)
    half = _t_quantile(freedom) * error
    with np.errstate(over="ignore"):
        return Interval(np.exp(value), np.exp(value - half), np.exp(value + half))


def _log_ratio(a: Sample, b: Sample) -> tuple[Array, Array, Array]:
    """Return log(a / b), its standard error by the delta method [4]_, and degrees of freedom."""
    mean_a, mean_b = (np.where(each.mean > 0, each.mean, np.nan) for each in (a, b))
    error, freedom = _welch(a.std / mean_a, a.n, b.std / mean_b, b.n)
    return np.log(mean_a / mean_b), error, freedom


def _welch(std_a: Array, n_a: Array, std_b: Array, n_b: Array) -> tuple[Array, Array]:
    """Return the standard error of a difference of means, and its degrees of freedom [2]_ [3]_."""
    with np.errstate(invalid="ignore", divide="ignore"):
        of_a = np.where(n_a > 1, std_a**2 / n_a, np.nan)
        of_b = np.where(n_b > 1, std_b**2 / n_b, np.nan)
        total = of_a + of_b
        freedom = total**2 / (of_a**2 / (n_a - 1) + of_b**2 / (n_b - 1))
    # Repeats that are all equal have no error, and 0 / 0 degrees of freedom: any number will do.
    return np.sqrt(total), np.where(total == 0, n_a + n_b - 2, freedom)


def _t_quantile(freedom: npt.NDArray[Any]) -> Array:
    """Return the quantile of Student's t [1]_ for a two-sided interval at CONFIDENCE.

    Welch's degrees of freedom are no whole numbers; below one there is no usable interval: NaN.
    """
    return t_quantile(np.where(freedom >= 1, freedom, np.nan), (1 + CONFIDENCE) / 2)


def t_quantile(freedom: npt.ArrayLike, probability: float) -> Array:
    """Return quantiles of Student's t.

    Parameters
    ----------
    freedom
        Degrees of freedom, any shape.
    probability
        Of a smaller value.

    Returns
    -------
    numpy.ndarray
        In the shape of ``freedom``; NaN for 0 degrees.
    """
    given = np.asarray(freedom, dtype=float)
    usable = np.where(given > 0, given, np.nan)
    if np.isnan(usable).all():
        return usable
    # Importing it takes a quarter of the time of `hpcbench recommend`, which may not need it.
    from scipy import special

    # stdtrit is slow, and most have equally many repeats. The code of NaN, -1, picks the last.
    where, distinct = pd.factorize(usable.ravel())
    found = np.append(special.stdtrit(distinct, probability), np.nan)
    return np.asarray(found[where].reshape(given.shape))


def _first(numbers: Numbers, preferred: npt.NDArray[np.bool_], count: int) -> Numbers:
    """Return the position of each group's first preferred member, else of its first one."""
    first = np.empty(count, dtype=np.int64)
    positions = np.arange(len(numbers))
    # Assignment keeps the last of several values for one index, so it runs backwards.
    first[numbers[::-1]] = positions[::-1]
    first[numbers[preferred][::-1]] = positions[preferred][::-1]
    return first
