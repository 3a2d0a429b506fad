"""Whether a metric changed between two sets of results: the tests, their intervals and verdicts.

The logarithm of each ratio B / A has a moderated error (`hpcbench.analysis.summary.variance`). What
all configurations of a place share from A to B is estimated apart, as a shift: its error is the
spread between sessions. A shift that nights explain is taken off, and each configuration judged
without it; one that they do not explain is a change, and each is judged with it. Where the ratios
do not agree on one value (`hpcbench.analysis.decide.agreement`), nobody can tell the night from the
change: the night is taken to be the one that leaves B in the worst light. Where most agree, and
others on another value, the night is that of most, and what else it could be is said: nothing is
called better or the same that would not be so in that case, too.

References
----------
.. [1] Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate", Journal of the Royal
   Statistical Society B 57 (1995) 289-300.
.. [2] Y. Benjamini and D. Yekutieli, "False discovery rate-adjusted multiple confidence intervals
   for selected parameters", Journal of the American Statistical Association 100 (2005) 71-81.
.. [3] D. J. Schuirmann, "A comparison of the two one-sided tests procedure and the power approach",
   Journal of Pharmacokinetics and Biopharmaceutics 15 (1987) 657-680.
"""

from dataclasses import dataclass, replace
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
    some_known,
    two_groups,
)
from hpcbench.analysis.decide.nights import (
    OneNight,
    in_one_night,
    night_std,
    nights_of_sessions,
    reach_of_nights,
    shared_shift,
    with_error,
    worst_night,
)
from hpcbench.analysis.decide.session_values import paired_samples, places_of_pairs
from hpcbench.analysis.decide.sessions import Side
from hpcbench.analysis.summary.configuration import Array, Numbers, as_floats, group_numbers
from hpcbench.analysis.summary.limits import Metric
from hpcbench.analysis.summary.neighbours import with_neighbours
from hpcbench.analysis.summary.statistics import Sample, t_quantile
from hpcbench.analysis.summary.variance import (
    LogRatio,
    paired_log_ratio,
)

ALARM_RATE = 0.05
"""The largest probability that a comparison in which nothing changed finds something worse."""

POWER = 0.8
"""Of the smallest change that is said to be found."""


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
        How many sessions A and B have there that say how far nights differ.
    night_std
        Standard deviation between sessions as a fraction; NaN with one session on each side.
    taken_off
        Whether the configurations are judged without it.
    groups
        Where what is the night cannot be told from what changed: the two groups into which the
        configurations fall. Else empty.
    from_larger
        Whether most of them agree, so that what was taken off is that of the larger group.
    blocks
        What was taken off before: where sessions measured other configurations, what those of each
        share. Empty where there is one such block.
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
    from_larger: bool = False
    blocks: tuple[Group, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether those that do not agree are so few that any of them may not have changed."""
        few = self.configurations < FEWEST_FOR_GROUPS
        return bool(self.groups) and few and not self.from_larger


@dataclass(frozen=True)
class _Bounds:
    """How a metric is judged: its tolerance as a ratio, and the rate of alarms of all its tests."""

    metric: Metric
    bound: float
    rate: float

    @property
    def tolerance(self) -> float:
        return float(np.log(self.bound))


@dataclass(frozen=True)
class _Place:
    """What is known of a place: which configurations, its name, its night, and what most share."""

    positions: Numbers
    name: str
    night: OneNight
    shared: LogRatio


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
    samples, effects, blocks = paired_samples(a, b, pairs, places, metric.column)
    resolution = np.fmax(*(_resolution(s, pairs[x], metric) for s, x in ((a, "a"), (b, "b"))))
    ratio = paired_log_ratio(samples[1], samples[0], resolution)
    known = np.isfinite(ratio.value)
    if not known.any():
        return _no_rows(), []
    value, centred, found = ratio.value.copy(), ratio.value.copy(), []
    for number, name in enumerate(names):
        at = np.flatnonzero(known & (places == number))
        if len(at) >= FEWEST_SHARED:
            of_sessions = nights_of_sessions([each[number] for each in effects])
            night = in_one_night(value[at], (blocks[0][at], blocks[1][at]), of_sessions)
            shared = shared_shift(night.value, night.nights)
            value[at], centred[at] = night.value, night.value - shared.value
            found.append(_Place(at, name, night, shared))
    models = group_numbers(a.table[["model"]].iloc[pairs["a"]], ["model"])
    ratio = with_neighbours(LogRatio(value, ratio.error, ratio.freedom), centred, models)
    bounds = _Bounds(metric, 1 + tolerance, rate / 2 if found else rate)
    shifts, other = [], ratio.value.copy()
    for place in found:
        night = place.night
        if night.not_aligned.any():
            apart = place.positions[night.not_aligned]
            ratio = with_error(ratio, apart, night.std, night.nights.freedom)
        shift, ratio = _shift_of_place(ratio, place, replace(bounds, rate=bounds.rate / len(found)))
        other[place.positions] = ratio.value[place.positions] - _other_night(shift, metric)
        shifts.append(shift)
    rows = _verdicts(ratio, bounds)
    rows["once"] = np.logical_or(
        *(as_floats(s.table[f"{metric.column}_n"])[pairs[x]] == 1 for s, x in ((a, "a"), (b, "b")))
    )
    rows["repeats"] = _repeats_needed(ratio, samples, bounds, len(rows))
    rows = _only_worse(rows, [p.positions for p, s in zip(found, shifts, strict=True) if s.is_open])
    if (moved := np.isfinite(other) & (other != ratio.value)).any():
        others = _verdicts(LogRatio(other, ratio.error, ratio.freedom), bounds)
        rows = _so_or_so(rows, others, moved)
    rows = rows.assign(a=pairs["a"].to_numpy(), b=pairs["b"].to_numpy(), metric=metric.column)
    return rows[known], shifts


def _shift_of_place(ratio: LogRatio, place: _Place, bounds: _Bounds) -> tuple[Shift, LogRatio]:
    """Return what the configurations of a place share, and the ratios as they are judged."""
    at, nights, shared = place.positions, place.night.nights, place.shared
    row = _verdicts(shared, bounds).iloc[0]
    of = LogRatio(ratio.value[at], ratio.error[at], ratio.freedom[at])
    verdict, low, high = Verdict(row["verdict"]), row["low"], row["high"]
    off = verdict not in (Verdict.WORSE, Verdict.BETTER)
    reach = reach_of_nights(shared, nights, bounds.tolerance)
    groups: tuple[Group, ...] = ()
    shift, from_larger = shared, False
    # Of few that do not agree, no shift is that of all, however far it is beyond the tolerance.
    if (off or len(at) < FEWEST_FOR_GROUPS) and not agree(of, bounds.tolerance):
        off, groups = True, groups_of(of, bounds.tolerance)
        better = bounds.metric.higher_is_better
        shift = worst_night(of, shared, reach, bounds.tolerance, higher_is_better=better)
    elif off and (groups := _either_way(of, shared, bounds)):
        from_larger = True
    if groups:
        verdict = Verdict.INCONCLUSIVE
        low, high = (group.ratio for group in groups)
    if off:
        value = ratio.value.copy()
        value[at] -= shift.value[0]
        ratio = LogRatio(value, ratio.error, ratio.freedom)
    elif nights.freedom:
        # What they keep of the shift has its error, as far as sessions say what it is.
        ratio = with_error(ratio, at, float(shift.error[0]), float(shift.freedom[0]))
    return (
        Shift(
            metric=bounds.metric.column,
            place=place.name,
            configurations=len(at),
            ratio=float(np.exp(shift.value[0])),
            low=low,
            high=high,
            verdict=verdict,
            sessions=nights.counts,
            night_std=night_std(shared, nights),
            taken_off=off,
            groups=groups,
            from_larger=from_larger,
            blocks=place.night.blocks,
        ),
        ratio,
    )


def _either_way(ratio: LogRatio, shared: LogRatio, bounds: _Bounds) -> tuple[Group, ...]:
    """Return the two groups of which the smaller, too, may be the one that only the night moved.

    Empty where there are none; where its shift would be a change if all shared it; and where they
    are no farther apart than the tolerance: then the larger has not changed in either case.
    """
    # A few hundred say whether to look at all.
    if len((some := some_known(ratio)).value) < FEWEST_SHARED:
        return ()
    low, high = groups_of(some, bounds.tolerance)
    smaller = min(low, high, key=lambda group: group.configurations)
    night = LogRatio(np.log([smaller.ratio]), shared.error, shared.freedom)
    is_change = _verdicts(night, bounds)["verdict"].isin([Verdict.WORSE, Verdict.BETTER])
    if is_change.any() or np.log(high.ratio / low.ratio) <= bounds.tolerance:
        return ()
    return two_groups(ratio, bounds.tolerance)


def _other_night(shift: Shift, metric: Metric) -> float:
    """Return how much farther than was taken off the smaller group was moved for the better."""
    if not shift.from_larger:
        return 0.0
    smaller = min(shift.groups, key=lambda group: group.configurations)
    away = float(np.log(smaller.ratio / shift.ratio))
    return away if (away > 0) == metric.higher_is_better else 0.0


def _so_or_so(
    rows: pd.DataFrame, others: pd.DataFrame, moved: npt.NDArray[np.bool_]
) -> pd.DataFrame:
    """Leave what got worse, and what is better or the same whichever group shows the night."""
    verdict = rows["verdict"]
    doubted = (verdict != others["verdict"]) | (verdict == Verdict.INCONCLUSIVE)
    return _not_known(rows, doubted.to_numpy(dtype=bool) & moved)


def _no_rows() -> pd.DataFrame:
    names = ("ratio", "low", "high", "p", "verdict", "detectable", "once", "repeats", "a", "b")
    return pd.DataFrame({name: [] for name in (*names, "metric")})


def _only_worse(rows: pd.DataFrame, places: list[Numbers]) -> pd.DataFrame:
    """Leave of what cannot be told from the night what got worse in its worst light."""
    at = np.isin(np.arange(len(rows)), np.concatenate([*places, np.empty(0, dtype=np.int64)]))
    return _not_known(rows, at)


def _not_known(rows: pd.DataFrame, which: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Call those inconclusive that are not worse. More repeats would not tell, either."""
    verdict = rows["verdict"].mask(
        which & (rows["verdict"] != Verdict.WORSE), Verdict.INCONCLUSIVE.value
    )
    unknown = {name: rows[name].mask(which) for name in ("detectable", "repeats")}
    return rows.assign(verdict=verdict, **unknown)


def _resolution(side: Side, positions: pd.Series, metric: Metric) -> Array:
    """Return the smallest step of a value as a fraction: that of the metric, or one request."""
    table = side.table
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric.step:
            return metric.step / as_floats(table[metric.column])[positions]
        return 1 / as_floats(table["requests_min"])[positions]


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
