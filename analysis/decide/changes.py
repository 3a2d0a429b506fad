"""Whether a metric changed between two sets of results: the tests, their intervals and verdicts.

The logarithm of each ratio B / A has a moderated error (`hpcbench.analysis.summary.variance`). What
all configurations of a place share from A to B is estimated apart, as a shift: its error is the
spread between sessions. A shift that nights explain is taken off, and each configuration judged
without it; one that they do not explain is a change, and each is judged with it. Where the ratios
do not agree on one value (`hpcbench.analysis.decide.agreement`), nobody can tell the night from the
change: the night is taken to be the one that leaves B in the worst light.

References
----------
.. [1] Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate", Journal of the Royal
   Statistical Society B 57 (1995) 289-300.
.. [2] Y. Benjamini and D. Yekutieli, "False discovery rate-adjusted multiple confidence intervals
   for selected parameters", Journal of the American Statistical Association 100 (2005) 71-81.
.. [3] D. J. Schuirmann, "A comparison of the two one-sided tests procedure and the power approach",
   Journal of Pharmacokinetics and Biopharmaceutics 15 (1987) 657-680.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.decide.agreement import (
    FEWEST_FOR_GROUPS,
    FEWEST_SHARED,
    Group,
    agree,
    groups_of,
    highest_group,
    noise,
)
from hpcbench.analysis.decide.session_values import paired_samples, places_of_pairs
from hpcbench.analysis.decide.sessions import Side
from hpcbench.analysis.summary.configuration import Array, Numbers, as_floats, group_numbers
from hpcbench.analysis.summary.limits import Metric
from hpcbench.analysis.summary.statistics import Sample, t_quantile
from hpcbench.analysis.summary.variance import (
    LogRatio,
    paired_log_ratio,
    pooled_error,
)

ALARM_RATE = 0.05
"""The largest probability that a comparison in which nothing changed finds something worse."""

POWER = 0.8
"""Of the smallest change that is said to be found."""

FEWEST_NEIGHBOURS = 10
"""Configurations of one model from which the spread of unrepeated ones is taken, else of all."""


class Verdict(StrEnum):
    """What became of a metric. SAME: its whole interval is within the tolerance."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Shift:
    """What all configurations of one place share from A to B.

    Attributes
    ----------
    metric
        The column of the metric.
    place
        Site and pool, of both sides where they differ.
    configurations
        How many share it.
    ratio, low, high
        B / A with the interval that the verdict used. Where the configurations do not agree: what
        was taken off, and the ratios of the two groups.
    verdict
        Whether it is beyond the tolerance and what nights explain; INCONCLUSIVE where the
        configurations do not agree.
    sessions
        How many sessions A and B have there.
    night_std
        Standard deviation between sessions as a fraction; NaN with one session on each side.
    taken_off
        Whether the configurations are judged without it.
    groups
        Where the configurations do not agree, so that what is the night cannot be told from what
        changed: the two groups into which they fall. Else empty.
    """

    metric: str
    place: str
    configurations: int
    ratio: float
    low: float
    high: float
    verdict: Verdict
    sessions: tuple[int, int]
    night_std: float
    taken_off: bool
    groups: tuple[Group, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether those that do not agree are so few that any of them may not have changed."""
        return bool(self.groups) and self.configurations < FEWEST_FOR_GROUPS


@dataclass(frozen=True)
class _Bounds:
    """How a metric is judged: its tolerance as a ratio, and the rate of alarms of all its tests."""

    metric: Metric
    bound: float
    rate: float


def metric_changes(
    a: Side, b: Side, pairs: pd.DataFrame, metric: Metric, tolerance: float, rate: float
) -> tuple[pd.DataFrame, list[Shift]]:
    """Return one metric of all pairs that have it on both sides.

    Parameters
    ----------
    a, b
        Both sides.
    pairs
        Positions ``a`` and ``b`` of configurations.
    metric
        What is compared.
    tolerance
        The fraction by which it may get worse.
    rate
        The rate of alarms of this metric, at most.

    Returns
    -------
    tuple
        A row per pair: ``a``, ``b``, ``metric``, ``ratio`` with ``low`` and ``high``, ``p``,
        ``verdict``, ``once``, ``detectable`` and ``repeats`` as in `compare.Comparison`; and the
        shifts.
    """
    if pairs.empty:
        return _no_rows(), []
    places, names = places_of_pairs(a, b, pairs)
    samples, effects = paired_samples(a, b, pairs, places, metric.column)
    resolution = np.fmax(*(_resolution(s, pairs[x], metric) for s, x in ((a, "a"), (b, "b"))))
    ratio = paired_log_ratio(samples[1], samples[0], resolution)
    known = np.isfinite(ratio.value)
    if not known.any():
        return _no_rows(), []
    centred, found = ratio.value.copy(), []
    for place, name in enumerate(names):
        at = np.flatnonzero(known & (places == place))
        if len(at) >= FEWEST_SHARED:
            shift = _shared(ratio.value[at], [e[place] for e in effects])
            centred[at] -= shift.value
            found.append((at, name, shift, [len(e[place]) for e in effects]))
    models = group_numbers(a.table[["model"]].iloc[pairs["a"]], ["model"])
    ratio = _with_neighbours(ratio, centred, models)
    bounds = _Bounds(metric, 1 + tolerance, rate / 2 if found else rate)
    shifts = []
    for at, name, shared, sessions in found:
        shared_row = _verdicts(shared, _Bounds(metric, 1 + tolerance, bounds.rate / len(found)))
        row, of = shared_row.iloc[0], LogRatio(ratio.value[at], ratio.error[at], ratio.freedom[at])
        verdict, low, high = Verdict(row["verdict"]), row["low"], row["high"]
        off = verdict not in (Verdict.WORSE, Verdict.BETTER)
        groups: tuple[Group, ...] = ()
        shift = shared
        # Of few that do not agree, no shift is that of all, however far it is beyond the tolerance.
        few = len(at) < FEWEST_FOR_GROUPS
        if (off or few) and not agree(of, float(np.log(bounds.bound))):
            off = True
            verdict, groups = Verdict.INCONCLUSIVE, groups_of(of.value)
            low, high = (group.ratio for group in groups)
            shift = _worst_night(of, shared, sessions, bounds)
        ratio = _without(ratio, at, shift) if off else _within(ratio, at, shift, sessions)
        shifts.append(
            Shift(
                *(metric.column, name, len(at), float(np.exp(shift.value[0])), low, high, verdict),
                *((sessions[0], sessions[1]), _night(shared, sessions), off, groups),
            )
        )
    rows = _verdicts(ratio, bounds)
    rows["once"] = np.logical_or(
        *(as_floats(s.table[f"{metric.column}_n"])[pairs[x]] == 1 for s, x in ((a, "a"), (b, "b")))
    )
    rows["repeats"] = _repeats_needed(ratio, samples, bounds, len(rows))
    rows = _only_worse(rows, [at for (at, *_), s in zip(found, shifts, strict=True) if s.is_open])
    rows = rows.assign(a=pairs["a"].to_numpy(), b=pairs["b"].to_numpy(), metric=metric.column)
    return rows[known], shifts


def _no_rows() -> pd.DataFrame:
    names = ("ratio", "low", "high", "p", "verdict", "detectable", "once", "repeats", "a", "b")
    return pd.DataFrame({name: [] for name in (*names, "metric")})


def _only_worse(rows: pd.DataFrame, places: list[Numbers]) -> pd.DataFrame:
    """Leave of what cannot be told from the night what got worse in its worst light.

    More repeats would not tell, either.
    """
    at = np.isin(np.arange(len(rows)), np.concatenate([*places, np.empty(0, dtype=np.int64)]))
    verdict = rows["verdict"].mask(
        at & (rows["verdict"] != Verdict.WORSE), Verdict.INCONCLUSIVE.value
    )
    unknown = {name: rows[name].mask(at) for name in ("detectable", "repeats")}
    return rows.assign(verdict=verdict, **unknown)


def _resolution(side: Side, positions: pd.Series, metric: Metric) -> Array:
    """Return the smallest step of a value as a fraction: that of the metric, or one request."""
    table = side.table
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric.step:
            return metric.step / as_floats(table[metric.column])[positions]
        return 1 / as_floats(table["requests_min"])[positions]


def _shared(values: Array, effects: list[Array]) -> LogRatio:
    """Return what most of the ratios of a place share, with the error between sessions."""
    middle = float(np.median(values))
    # The standard error of a median of normal values, with a spread that few changes do not move.
    error = 1.2533 * 1.4826 * float(np.median(np.abs(values - middle))) / np.sqrt(len(values))
    freedom = len(values) - 1.0
    nights = float(sum(len(e) - 1 for e in effects))
    if nights > 0:
        variance = sum(float((e**2).sum()) for e in effects) / nights
        between = np.sqrt(variance * sum(1 / len(e) for e in effects))
        error, freedom = (between, nights) if between > error else (error, freedom)
    return LogRatio(np.array([middle]), np.array([error]), np.array([freedom]))


def _night(shift: LogRatio, sessions: list[int]) -> float:
    """Return the standard deviation between sessions, as a fraction."""
    if sum(sessions) == 2:
        return float("nan")
    return float(shift.error[0] / np.sqrt(sum(1 / count for count in sessions)))


def _worst_night(
    ratio: LogRatio, shift: LogRatio, sessions: list[int], bounds: _Bounds
) -> LogRatio:
    """Return the night, of those that are possible, that leaves configurations in the worst light.

    It moved all as the group did that moved most for the better. Possible is what sessions differ
    by; with one session on each side, the tolerance, beyond which a shift is a change.
    """
    tolerance = float(np.log(bounds.bound))
    sign = 1.0 if bounds.metric.higher_is_better else -1.0
    best = sign * highest_group(sign * ratio.value, noise(ratio, tolerance))
    reach = float(t_quantile(shift.freedom, 0.975)[0] * shift.error[0])
    most = tolerance if sum(sessions) == 2 else reach
    return LogRatio(np.clip([best], -most, most), shift.error, shift.freedom)


def _with_neighbours(ratio: LogRatio, centred: Array, models: Numbers) -> LogRatio:
    """Give ratios without any repeat the error that those of their neighbours show."""
    lacking = np.isfinite(ratio.value) & ~np.isfinite(ratio.error)
    if not lacking.any():
        return ratio
    error, freedom = ratio.error.copy(), ratio.freedom.copy()
    sizes = np.bincount(models[lacking])
    groups = np.where(sizes[models] >= FEWEST_NEIGHBOURS, models, -1)
    for group in np.unique(groups[lacking]):
        of = lacking & (groups == group)
        # Those of small groups look at all, as each of them would alone.
        among = of if group >= 0 else lacking
        error[of], freedom[of] = pooled_error(centred[among])
    return LogRatio(ratio.value, error, freedom)


def _without(ratio: LogRatio, at: Numbers, shift: LogRatio) -> LogRatio:
    value = ratio.value.copy()
    value[at] -= shift.value[0]
    return LogRatio(value, ratio.error, ratio.freedom)


def _within(ratio: LogRatio, at: Numbers, shift: LogRatio, sessions: list[int]) -> LogRatio:
    """Give ratios that keep the shift its error, as far as sessions say what it is."""
    if sum(sessions) == 2:
        return ratio
    error, freedom = ratio.error.copy(), ratio.freedom.copy()
    own, nights = error[at] ** 2, float(shift.error[0]) ** 2
    error[at] = np.sqrt(own + nights)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = own**2 / freedom[at] + nights**2 / float(shift.freedom[0])
        freedom[at] = (own + nights) ** 2 / parts
    return LogRatio(ratio.value, error, freedom)


def _verdicts(ratio: LogRatio, bounds: _Bounds) -> pd.DataFrame:
    """Return the verdicts on ratios B / A, with the intervals that they used.

    Each of the two directions is one family of tests [1]_. An interval has the level at which its
    ratio was tested [2]_; that of SAME has 95 %, which is the level of its two tests [3]_.
    """
    better = bounds.metric.higher_is_better
    above = ratio.inverse() if better else ratio
    p, p_better = above.p_above(bounds.bound), above.inverse().p_above(bounds.bound)
    (adjusted, tail), (adjusted_better, tail_better) = (
        _adjusted(x, bounds.rate) for x in (p, p_better)
    )
    low, high = above.limits(tail, tail_better)
    close_low, close_high = above.interval()
    worse = adjusted <= bounds.rate
    improved = adjusted_better <= bounds.rate
    same = (close_low >= 1 / bounds.bound) & (close_high <= bounds.bound) & ~worse & ~improved
    low, high = np.where(same, close_low, low), np.where(same, close_high, high)
    verdict = np.select(
        [worse, improved, same],
        [Verdict.WORSE.value, Verdict.BETTER.value, Verdict.SAME.value],
        Verdict.INCONCLUSIVE.value,
    )
    with np.errstate(over="ignore"):
        detectable = bounds.bound * np.exp(_sure(ratio.freedom, tail) * ratio.error)
        return pd.DataFrame(
            {
                "ratio": np.exp(ratio.value),
                "low": 1 / high if better else low,
                "high": 1 / low if better else high,
                "p": adjusted,
                "verdict": verdict,
                "detectable": 1 / detectable if better else detectable,
            }
        )


def _adjusted(p: Array, rate: float) -> tuple[Array, float]:
    """Return the adjusted p-values of a family, and the level of each of its tests [1]_ [2]_."""
    from scipy import stats

    adjusted = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if not known.any():
        return adjusted, rate
    adjusted[known] = stats.false_discovery_control(p[known])
    return adjusted, rate * max(int((adjusted <= rate).sum()), 1) / int(known.sum())


def _sure(freedom: Array, tail: float) -> Array:
    """Return by how many errors the truth must be beyond a bound to be found with POWER."""
    return t_quantile(freedom, 1 - tail) + t_quantile(freedom, POWER)


def _repeats_needed(
    ratio: LogRatio, samples: tuple[Sample, Sample], bounds: _Bounds, tests: int
) -> npt.NDArray[np.float64]:
    """Return how often each side must be measured to find a change of twice the tolerance."""
    # As far beyond the bound, on logarithms, as the bound is from no change.
    if bounds.bound == 1:
        return np.full(len(ratio.value), np.nan)
    a, b = samples
    with np.errstate(invalid="ignore", divide="ignore"):
        single = ratio.error / np.sqrt(1 / a.n + 1 / b.n)
        sure = _sure(ratio.freedom, bounds.rate / tests)
        return np.asarray(np.ceil(2 * (sure * single / np.log(bounds.bound)) ** 2))
