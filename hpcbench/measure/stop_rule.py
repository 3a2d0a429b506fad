"""When a measurement has seen enough: pure decisions on the reports that came so far.

perf_analyzer runs under load until it is ended, and prints one report after the other. Each rule
here is asked after every report, and says whether to go on, and which reports count.

The warm-up is left out by the same test in each of them. MSER (White 1997, Simulation 69(6)) says
where it would end: at the d that minimises the squared standard error of the mean of what follows,
d in the first half. As MSER cuts something off from most series without a warm-up, too, the
beginning is left out only if its mean differs from the rest's at the 1 % level of a t test, for
the number of independent values that the correlation of neighbours leaves. Its median must differ
as much: where a single report among others is slow, the machine stalled, and what came before is
no warm-up. For the same reason outliers are drawn in before (Tukey 1962, Ann. Math. Stat. 33(1)).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike
from scipy import special

from hpcbench.config.load_axes import WINDOWS_IN_A_ROW

MIN_BATCHES = 10
"""Batch means of 10 to 30 batches give intervals that hold (Schmeiser 1982, Oper. Res. 30(3))."""

_LOOKS = 1.25
"""By how much a series grows until its interval is looked at again. With more looks, it would more
often be narrow by chance in one of them (Heidelberger and Welch 1983, Oper. Res. 31(6))."""

_LEAST_S = 6.0
"""Seconds until an interval is looked at. Reports that are all alike say nothing of those that will
be slow: what slows one of twenty, of 0.1 s, is not yet seen in 60 % of seconds, in 5 % of 6 s."""

_WARM_UP_LEVEL = 0.01
_OUTLIER = 6.0
"""Standard deviations from the median within which the warm-up is looked for."""

_CONFIDENCE = 0.95
_MOST_CORRELATED = 0.95
"""What is correlated more than this would need more reports than any measurement has."""


@dataclass(frozen=True)
class Observation:
    """What a rule needs of one report.

    Attributes
    ----------
    throughput
        In inferences per second.
    latency
        The mean or the percentile that was asked for, in microseconds.
    requests
        How many requests it counts.
    begin, end
        In seconds of one clock.
    """

    throughput: float
    latency: float
    requests: int
    begin: float
    end: float


@dataclass(frozen=True)
class StopDecision:
    """What a rule says.

    Attributes
    ----------
    done
        Whether enough was seen, or no more is allowed.
    settled
        Whether the reports that count agree as the rule demands it.
    first, last
        The reports that count, as a slice.
    warm_up
        How many reports at the beginning are warm-up.
    reached
        Half of the 95 % interval over the mean, of throughput or latency, the larger one; None
        for the rule of windows.
    reason
        Why it did not settle; None while it is not done, and where it settled.
    """

    done: bool
    settled: bool
    first: int
    last: int
    warm_up: int
    reached: float | None = None
    reason: str | None = None


def warm_up(values: ArrayLike) -> int:
    """Return how many values at the beginning of a series are warm-up.

    Parameters
    ----------
    values
        A series of shape (n,), of equally long reports.

    Returns
    -------
    int
        From 0 to n // 2.
    """
    series = np.asarray(values, dtype=float)
    if len(series) < 4:
        return 0
    series = _without_outliers(series)
    errors = _squared_errors(series)
    # Where a stall follows the warm-up, or half of a beginning is none, the best place comes too
    # late; then an earlier one may do.
    cut = int(np.argmin(errors))
    while cut and not _differs(series[:cut], series[cut:]):
        cut = int(np.argmin(errors[:cut]))
    return cut


def _differs(beginning: npt.NDArray[np.float64], rest: npt.NDArray[np.float64]) -> bool:
    # Of values that are correlated, fewer are independent; without this, a beginning would be left
    # out too often, and what is left be too even. Each part without its mean: what is between the
    # two is no correlation.
    apart = np.concatenate([beginning - beginning.mean(), rest - rest.mean()])
    share = _independent(apart) / len(apart)
    noise = rest.std(ddof=1) * math.sqrt((1 / len(beginning) + 1 / len(rest)) / share)
    by_mean = abs(beginning.mean() - rest.mean())
    by_median = abs(float(np.median(beginning)) - float(np.median(rest)))
    # A rest without any spread differs from whatever is not equal to it.
    critical = float(special.stdtrit(len(rest) - 1, 1 - _WARM_UP_LEVEL / 2))
    return bool(min(by_mean, by_median) > critical * noise)


def _without_outliers(series: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a series with its outliers drawn in to a distance that noise may have.

    The standard deviation is that of a normal distribution with the same median distance from the
    median (Hampel 1974, J. Am. Stat. Assoc. 69): no outlier changes it.
    """
    middle = np.median(series)
    reach = _OUTLIER * 1.4826 * float(np.median(np.abs(series - middle)))
    # Where more than half of the values are the same, nothing tells what noise is.
    return np.clip(series, middle - reach, middle + reach) if reach else series


def _squared_errors(series: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the squared standard error of the mean of what follows each cut."""
    # From sums over what follows, without the mean, which would cancel digits, and in one pass: the
    # rule is asked again after each report.
    n = len(series)
    centred = series - series.mean()
    counts = np.arange(n, n - n // 2 - 1, -1)
    sums, squares = (np.cumsum(each[::-1])[::-1][: n // 2 + 1] for each in (centred, centred**2))
    return np.asarray(np.maximum(0.0, squares / counts - (sums / counts) ** 2) / counts)


def window_values(
    observations: Sequence[Observation], per_window: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return throughput and latency of the windows, the last of which ends with the last report.

    Parameters
    ----------
    observations
        The reports in the order of time.
    per_window
        How many reports make a window. Those at the beginning that fill none are left out.

    Returns
    -------
    tuple
        Throughputs in inferences per second, and latencies in microseconds: means of the reports,
        weighted by their time and by their requests.
    """
    begins = range(len(observations) % per_window, len(observations), per_window)
    windows = [observations[begin : begin + per_window] for begin in begins]
    return tuple(map(_throughput, windows)), tuple(map(_latency, windows))


def _throughput(window: Sequence[Observation]) -> float:
    # The times of a report's lines are known to 50 ms only; its requests and rate say it better.
    spent = sum(each.requests / each.throughput for each in window if each.throughput > 0)
    return sum(each.requests for each in window) / spent if spent else 0.0


def _latency(window: Sequence[Observation]) -> float:
    requests = sum(each.requests for each in window)
    return sum(each.requests * each.latency for each in window) / requests if requests else 0.0


def spread(values: Sequence[float]) -> float:
    """Return by how much values differ, as perf_analyzer compares it.

    Parameters
    ----------
    values
        Throughputs or latencies of windows.

    Returns
    -------
    float
        The largest divided by the smallest, less one; infinite where one is 0.
    """
    return max(values) / min(values) - 1 if values and min(values) > 0 else math.inf


def by_windows(
    observations: Sequence[Observation],
    *,
    per_window: int,
    stability_percentage: float,
    max_trials: int,
) -> StopDecision:
    """Stop when three windows in a row agree in throughput and in latency.

    Parameters
    ----------
    observations
        All reports so far. The rule is asked after each of them, and looks at the last windows.
    per_window
        How many reports make a window. The windows slide by one report.
    stability_percentage
        By how much the three may differ, in percent.
    max_trials
        After so many windows the point is unstable.

    Returns
    -------
    StopDecision
        The last three windows count; fewer where the rest is warm-up.
    """
    n = len(observations)
    cut = _warm_up_of(observations)
    windows = min(WINDOWS_IN_A_ROW, (n - cut) // per_window)
    first = n - windows * per_window if windows else cut
    if windows == WINDOWS_IN_A_ROW:
        spreads = [spread(each) for each in window_values(observations[first:], per_window)]
        if max(spreads) <= stability_percentage / 100:
            return StopDecision(True, True, first, n, cut)
    if n < max_trials * per_window:
        return StopDecision(False, False, first, n, cut)
    why = f"{cut} of {n} reports are warm-up, which leaves too few for three windows"
    if windows == WINDOWS_IN_A_ROW:
        why = (
            f"the last three differ in throughput by {spreads[0]:.0%}, in latency by "
            f"{spreads[1]:.0%}"
        )
    reason = f"did not settle within {max_trials} windows: {why}"
    return StopDecision(True, False, first, n, cut, reason=reason)


def by_report(observations: Sequence[Observation]) -> StopDecision:
    """Stop after one report, for a load that is over then.

    Parameters
    ----------
    observations
        All reports so far.

    Returns
    -------
    StopDecision
        The first report counts.
    """
    n = min(1, len(observations))
    return StopDecision(n == 1, n == 1, 0, n, 0)


def by_precision(
    observations: Sequence[Observation], *, precision: float, max_s: float
) -> StopDecision:
    """Stop when the 95 % intervals of throughput and latency are narrow enough.

    See `relative_half_width` for the intervals.

    Parameters
    ----------
    observations
        All reports so far.
    precision
        Half of each interval must be at most so much of its mean.
    max_s
        After so many seconds the point is unstable.

    Returns
    -------
    StopDecision
        All reports after the warm-up count, up to the last one of a look.
    """
    over = bool(observations) and observations[-1].end - observations[0].begin >= max_s
    look = _last_look(observations)
    n = len(observations) if over or look is None else look
    observations = observations[:n]
    cut = _warm_up_of(observations)
    reached = None
    if n - cut >= MIN_BATCHES:
        kept = observations[cut:]
        reached = max(
            relative_half_width([each.throughput for each in kept]),
            relative_half_width([each.latency for each in kept]),
        )
        if reached <= precision and (over or look is not None):
            return StopDecision(True, True, cut, n, cut, reached)
    if over:
        how = f"± {reached:.3g}" if reached is not None else f"{n - cut} reports"
        reason = f"did not reach ± {precision:g} of the mean within {max_s:g} s: {how}"
        return StopDecision(True, False, cut, n, cut, reached, reason)
    return StopDecision(False, False, cut, n, cut, reached)


def _last_look(observations: Sequence[Observation]) -> int | None:
    """Return how many of these reports are looked at; None before the first look."""
    ends = (each.end - observations[0].begin for each in observations)
    short = next((n for n, seconds in enumerate(ends) if seconds >= _LEAST_S), len(observations))
    look, following = None, max(MIN_BATCHES, short + 1)
    while following <= len(observations):
        look, following = following, math.ceil(_LOOKS * following)
    return look


def relative_half_width(values: ArrayLike) -> float:
    """Return half of the 95 % interval of a mean, over the mean.

    Neighbouring values may be correlated. So it is the wider one of two intervals. That of batch
    means joins them to 10 to 19 batches, which grow with the series until they are as good as
    independent. While there are few values, the batches are short, and say too little. That of an
    autoregression of first order takes n values for m = n (1 - r) / (1 + r) independent ones
    (Bayley and Hammersley 1946, Suppl. J. R. Stat. Soc. 8(2)). Their variance is too small by
    1 - 1 / m, and has m - 1 degrees of freedom. The correlation r of neighbours is that of the
    series and its standard error, as an r that is too small by chance makes an interval too narrow
    (Bartlett 1946, ibid. 8(1)).

    Parameters
    ----------
    values
        A series of shape (n,) without its warm-up, n >= 10.

    Returns
    -------
    float
        Infinite where the mean is 0.
    """
    series = np.asarray(values, dtype=float)
    size = len(series) // MIN_BATCHES
    count = len(series) // size
    # What fills no batch is left out at the beginning, which is nearest to the warm-up.
    batches = series[len(series) - size * count :].reshape(count, size).mean(axis=1)
    mean = series.mean()
    half = max(_half_width(batches, count), _half_width(series, _independent(series)))
    return float(half / mean) if mean > 0 else math.inf


def _independent(series: npt.NDArray[np.float64]) -> float:
    """Return for how many independent values a series stands, at least 2."""
    n = len(series)
    r = _neighbour_correlation(series)
    r = min(r + math.sqrt((1 - r * r) / n), _MOST_CORRELATED)
    return max(2.0, n * (1 - r) / (1 + r))


def _half_width(values: npt.NDArray[np.float64], independent: float) -> float:
    """Return half of the 95 % interval of the mean of values that stand for so many."""
    quantile = float(special.stdtrit(independent - 1, (1 + _CONFIDENCE) / 2))
    return quantile * float(values.std()) / math.sqrt(independent - 1)


def _neighbour_correlation(series: npt.NDArray[np.float64]) -> float:
    """Return the correlation of neighbours, at least 0.

    What a sample gives is too small by (1 + 3 r) / n in the mean (Kendall 1954, Biometrika 41).
    """
    apart = series - series.mean()
    squares = float(apart @ apart)
    r = float(apart[1:] @ apart[:-1]) / squares if squares else 0.0
    return float(np.clip(r + (1 + 3 * r) / len(series), 0.0, _MOST_CORRELATED))


def _warm_up_of(observations: Sequence[Observation]) -> int:
    return max(
        warm_up([each.throughput for each in observations]),
        warm_up([each.latency for each in observations]),
    )
