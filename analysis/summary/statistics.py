"""Statistics over repeats: what a configuration's figures are, and whether two differ.

Pure functions on pandas frames with the columns of `hpcbench.records.columns`, and on arrays; none
holds
a loop over rows or groups, so a million rows take seconds.

Repeats are taken as independent and roughly normal. Of a single one no interval can be known, and
none is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    Array,
    Numbers,
    as_floats,
    group_numbers,
    normalised,
)
from hpcbench.records.columns import MEASURED, Status

CONFIDENCE = 0.95


def join_repeats(
    frame: pd.DataFrame, figures: Sequence[str], columns: Sequence[str] = CONFIGURATION
) -> pd.DataFrame:
    """One row per configuration, in the order in which they first appear in ``frame``.

    It has ``columns``, and ``row``, the position in ``frame`` of its first measured row (of its
    first row where none is); ``repeats``, ``measured`` and ``unstable``, which count rows; and for
    each of ``figures``, which are columns of numbers: its mean under its own name, and with the
    endings ``_n`` (values there are), ``_median``, ``_std`` (n - 1 degrees of freedom), ``_cv``
    (standard deviation over mean), ``_min``, ``_max``, and ``_low`` and ``_high``, Student's t
    interval of the mean at CONFIDENCE. From two values on there are all of them, of one there is
    no spread and no interval, and of none there is NaN. Rows that are not measured have no say.
    """
    frame = normalised(frame)
    numbers = group_numbers(frame, columns)
    count = int(numbers.max()) + 1 if len(numbers) else 0
    measured = frame["status"].isin(sorted(MEASURED)).to_numpy(dtype=bool)
    first = _first(numbers, measured, count)
    table = frame[list(columns)].iloc[first].reset_index(drop=True)
    unstable = (frame["status"] == Status.UNSTABLE).to_numpy(dtype=bool)
    added: dict[str, Any] = {
        "row": first,
        "repeats": np.bincount(numbers, minlength=count),
        "measured": np.bincount(numbers[measured], minlength=count),
        "unstable": np.bincount(numbers[unstable], minlength=count),
    }
    for figure in figures:
        values = np.where(measured, as_floats(frame[figure]), np.nan)
        for ending, column in group_statistics(values, numbers, count).items():
            added[f"{figure}{ending}"] = column
    return pd.concat([table, pd.DataFrame(added)], axis=1)


def group_statistics(values: Array, numbers: Numbers, count: int) -> dict[str, npt.NDArray[Any]]:
    """The statistics of `configurations` by their ending ("" is the mean), an array of each.

    ``numbers`` says to which of the ``count`` groups each value belongs; what is not finite is no
    value.
    """
    known = np.isfinite(values)
    values, numbers = values[known], numbers[known]
    ordered = values[order := np.lexsort((values, numbers))]
    groups = numbers[order]
    n = np.bincount(groups, minlength=count)
    start = np.cumsum(n) - n
    there = n > 0

    def at(position: Numbers) -> Array:
        found = np.full(count, np.nan)
        found[there] = ordered[position[there]]
        return found

    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        lowest, highest = at(start), at(start + n - 1)
        # Of equal values the mean is that value, to the last digit.
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


def settled_latency_us(frame: pd.DataFrame) -> pd.Series:
    """The latency by which each point was asked to settle: its percentile, else its mean [us]."""
    latency = pd.Series(as_floats(frame["latency_percentile_us"]), index=frame.index)
    asked = pd.Series(as_floats(frame["percentile"]), index=frame.index)
    for percentile in asked.dropna().unique():
        if (column := f"latency_p{percentile:.0f}_us") in frame:
            lacking = (asked == percentile) & latency.isna()
            latency = latency.mask(lacking, pd.Series(as_floats(frame[column]), index=frame.index))
    return latency.mask(
        asked.isna(), pd.Series(as_floats(frame["latency_avg_us"]), index=frame.index)
    )


def energy_j_per_infer(frame: pd.DataFrame) -> pd.Series:
    """Energy that the GPUs drew for one inference [J]: mean power over throughput.

    The power is NVML's energy over the time inside perf_analyzer, which warms up and starts within
    it; where there is none, the mean that Triton told, times the number of GPUs.
    """
    power = as_floats(frame["gpu_energy_j"]) / _positive(as_floats(frame["perf_analyzer_s"]))
    told = as_floats(frame["gpu_power_avg_w"]) * as_floats(frame["gpu_count"])
    power = np.where(np.isfinite(power), power, told)
    return pd.Series(
        power / _positive(as_floats(frame["throughput_infer_per_s"])),
        index=frame.index,
        dtype=float,
    )


@cache
def requests_needed(percentile: float) -> int:
    """Requests that must stand behind a percentile: 64 for p90, 130 for p95, 662 for p99.

    The fewest of which two or more lie beyond the true percentile with 99 % probability: MLPerf's
    early stopping (MLCommons' inference rules), which trusts no percentile of fewer.
    """
    beyond = 1 - percentile / 100
    counts = np.arange(1, int(20 / beyond))
    return int(counts[special.bdtr(1, counts, beyond) <= 0.01][0])


def too_few_requests(request_count: npt.ArrayLike, percentile: float) -> npt.NDArray[np.bool_]:
    """Where a percentile stands on too few requests; an unknown count is not marked."""
    return np.asarray(request_count, dtype=float) < requests_needed(percentile)


@dataclass(frozen=True)
class Sample:
    """Measurements of one figure, or of many in arrays of one length."""

    n: Array
    mean: Array
    std: Array

    @classmethod
    def of(cls, table: pd.DataFrame, figure: str) -> "Sample":
        """The figure in every row of a table of `configurations`."""
        return cls(*(as_floats(table[f"{figure}{ending}"]) for ending in ("_n", "", "_std")))


@dataclass(frozen=True)
class Interval:
    """A value and its interval at CONFIDENCE; NaN where there is none."""

    value: Array
    low: Array
    high: Array


def welch_difference(a: Sample, b: Sample) -> Interval:
    """The difference a - b with Welch's interval; none where one was measured once."""
    value = a.mean - b.mean
    error, freedom = _welch(a.std, a.n, b.std, b.n)
    half = _t_quantile(freedom) * error
    return Interval(value, value - half, value + half)


def welch_ratio(a: Sample, b: Sample) -> Interval:
    """The ratio a / b with Welch's interval of its logarithm; none where one was measured once.

    The relative errors of the means stand for the errors of their logarithms, so that b / a has
    the reciprocal interval, and no limit is negative. NaN where either mean is not positive.
    """
    value, error, freedom = _log_ratio(a, b)
    half = _t_quantile(freedom) * error
    with np.errstate(over="ignore"):
        return Interval(np.exp(value), np.exp(value - half), np.exp(value + half))


def ratio_p_value(a: Sample, b: Sample, bound: float) -> Array:
    """p-value of a / b being larger than found though the truth is ``bound`` or less.

    One-sided Welch test of the logarithm, as in `ratio`; NaN where either was measured once.
    """
    value, error, freedom = _log_ratio(a, b)
    excess = value - np.log(bound)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = special.stdtr(freedom, -excess / error)
    exact = error == 0
    return np.where(exact, np.where(excess > 0, 0.0, 1.0), p)


def _log_ratio(a: Sample, b: Sample) -> tuple[Array, Array, Array]:
    """(logarithm of a / b, its standard error, degrees of freedom)."""
    mean_a, mean_b = _positive(a.mean), _positive(b.mean)
    error, freedom = _welch(a.std / mean_a, a.n, b.std / mean_b, b.n)
    return np.log(mean_a / mean_b), error, freedom


def _welch(std_a: Array, n_a: Array, std_b: Array, n_b: Array) -> tuple[Array, Array]:
    """(standard error of a difference of means, Welch and Satterthwaite's degrees of freedom)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        of_a = np.where(n_a > 1, std_a**2 / n_a, np.nan)
        of_b = np.where(n_b > 1, std_b**2 / n_b, np.nan)
        total = of_a + of_b
        freedom = total**2 / (of_a**2 / (n_a - 1) + of_b**2 / (n_b - 1))
    # Repeats that are all equal have no error; any number of degrees gives that.
    return np.sqrt(total), np.where(total == 0, n_a + n_b - 2, freedom)


def _t_quantile(freedom: npt.NDArray[Any]) -> Array:
    """How many standard errors the interval reaches to each side; NaN below one degree."""
    usable = np.where(freedom >= 1, freedom, np.nan)
    distinct, where = np.unique(usable, return_inverse=True)
    quantiles: Array = special.stdtrit(distinct, (1 + CONFIDENCE) / 2)[where]
    return quantiles


def _positive(values: Array) -> Array:
    return np.where(values > 0, values, np.nan)


def _first(numbers: Numbers, preferred: npt.NDArray[np.bool_], count: int) -> Numbers:
    """The position of each group's first preferred member, of its first where it has none."""
    first = np.empty(count, dtype=np.int64)
    positions = np.arange(len(numbers))
    # Written backwards, the earliest of a group is the one that stays.
    first[numbers[::-1]] = positions[::-1]
    first[numbers[preferred][::-1]] = positions[preferred][::-1]
    return first
