"""The night that all configurations of a place share: how far it moved them, and how sure that is.

Configurations that were measured in sessions which cannot be compared with each other have a night
each. What the middles of such blocks of configurations differ by says how far nights differ.

References
----------
.. [1] F. E. Satterthwaite, "An approximate distribution of estimates of variance components",
   Biometrics Bulletin 2 (1946) 110-114.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.decide.agreement import FEWEST_SHARED, Group, highest_group, noise
from hpcbench.analysis.summary.configuration import Array, Numbers
from hpcbench.analysis.summary.statistics import t_quantile
from hpcbench.analysis.summary.variance import LogRatio


@dataclass(frozen=True)
class Nights:
    """How far the sessions of a place differ.

    Attributes
    ----------
    variance
        Of what a session does to all configurations, on logarithms.
    freedom
        Its degrees of freedom; 0 where there is one session on each side, so that nothing is known.
    counts
        How many sessions A and B have that say so.
    """

    variance: float
    freedom: float
    counts: tuple[int, int]

    @property
    def std(self) -> float:
        """The standard deviation of what two sides differ by, each the mean of its sessions."""
        return float(np.sqrt(self.variance * sum(1 / max(count, 1) for count in self.counts)))


@dataclass(frozen=True)
class OneNight:
    """Ratios of a place as if all of its configurations had been measured in the same night.

    Attributes
    ----------
    value
        Shape (m,), logarithms.
    not_aligned
        Shape (m,), those of a night in which so few were measured that it cannot be taken off.
    std
        By how much such a night moves them (SD), with the degrees of freedom of ``nights``.
    nights
        How far sessions differ.
    blocks
        What each night moved, where there are several that can be taken off; else empty.
    """

    value: Array
    not_aligned: npt.NDArray[np.bool_]
    std: float
    nights: Nights
    blocks: tuple[Group, ...]


def nights_of_sessions(effects: Sequence[Array]) -> Nights:
    """Return how far sessions differ that measured the same configurations.

    Parameters
    ----------
    effects
        For A and B, what each of these sessions shares, of mean 0.

    Returns
    -------
    Nights
        The variance is pooled over both sides.
    """
    freedom = float(sum(max(len(e) - 1, 0) for e in effects))
    squares = sum(float((e**2).sum()) for e in effects)
    of_a, of_b = map(len, effects)
    return Nights(squares / freedom if freedom else 0.0, freedom, (of_a, of_b))


def in_one_night(values: Array, blocks: tuple[Numbers, Numbers], nights: Nights) -> OneNight:
    """Return the ratios of a place as if no session had measured other configurations.

    Parameters
    ----------
    values
        Shape (m,), logarithms of ratios.
    blocks
        For A and B, shape (m,), from `Side.comparable_sessions`.
    nights
        From `nights_of_sessions`.

    Returns
    -------
    OneNight
        A block that holds FEWEST_SHARED configurations or more is moved to the middle of such
        blocks by the difference of their medians. The spread of the medians is pooled with that of
        the sessions.
    """
    # One number of both: to sort pairs takes ten times as long.
    both = blocks[0] * (int(blocks[1].max(initial=0)) + 1) + blocks[1]
    if (both == both[:1]).all():
        return OneNight(values, np.zeros(len(values), dtype=bool), 0.0, nights, ())
    _, first, of = np.unique(both, return_index=True, return_inverse=True)
    kinds = np.column_stack(blocks)[first]
    sizes = np.bincount(of)
    medians = pd.Series(values).groupby(of).median().to_numpy(dtype=float)
    large = sizes >= FEWEST_SHARED
    middle = float(np.median(values)) if not large.any() else float(medians[large].mean())
    away = medians - middle
    numbers = [len(np.unique(kinds[:, side])) for side in (0, 1)]
    # On a side with one block, its night is in all medians, and not in what they differ by.
    sides = sum(number > 1 for number in numbers)
    freedom = float(min(len(kinds) - 1, sum(numbers) - 2))
    variance = float((away**2).sum()) / (len(kinds) - 1) / sides
    pooled = (nights.variance * nights.freedom + variance * freedom) / (nights.freedom + freedom)
    taken = kinds[large] if large.any() else kinds
    counts = [
        max(count, 1) + len(np.unique(taken[:, side])) - 1
        for side, count in enumerate(nights.counts)
    ]
    return OneNight(
        values - np.where(large, away, 0.0)[of],
        ~large[of],
        float(np.sqrt(pooled * 2)),
        Nights(pooled, nights.freedom + freedom, (counts[0], counts[1])),
        tuple(
            Group(int(size), float(np.exp(median)))
            for size, median in zip(sizes[large], medians[large], strict=True)
        )
        * int(large.sum() > 1),
    )


def shared_shift(values: Array, nights: Nights) -> LogRatio:
    """Return what most of the ratios of a place share, with the error between sessions.

    Parameters
    ----------
    values
        Shape (m,), logarithms.
    nights
        How far the sessions of the place differ.

    Returns
    -------
    LogRatio
        Of one element.
    """
    middle = float(np.median(values))
    # The standard error of a median of normal values, with a spread that few changes do not move.
    error = 1.2533 * 1.4826 * float(np.median(np.abs(values - middle))) / np.sqrt(len(values))
    freedom = len(values) - 1.0
    if nights.std > error:
        error, freedom = nights.std, nights.freedom
    return LogRatio(np.array([middle]), np.array([error]), np.array([freedom]))


def night_std(shift: LogRatio, nights: Nights) -> float:
    """Return the standard deviation between sessions.

    Parameters
    ----------
    shift
        From `shared_shift`.
    nights
        Those that it was made of.

    Returns
    -------
    float
        As a fraction; NaN with one session on each side.
    """
    if not nights.freedom:
        return float("nan")
    return float(shift.error[0] / np.sqrt(sum(1 / max(count, 1) for count in nights.counts)))


def reach_of_nights(shift: LogRatio, nights: Nights, tolerance: float) -> float:
    """Return how far a night can have moved all configurations.

    Parameters
    ----------
    shift
        From `shared_shift`.
    nights
        Those that it was made of.
    tolerance
        On logarithms.

    Returns
    -------
    float
        On logarithms: with 95 %, what sessions differ by; with one session on each side the
        tolerance, beyond which a shift is a change.
    """
    if not nights.freedom:
        return tolerance
    return float(t_quantile(shift.freedom, 0.975)[0] * shift.error[0])


def worst_night(
    ratio: LogRatio, shift: LogRatio, reach: float, tolerance: float, *, higher_is_better: bool
) -> LogRatio:
    """Return the night, of those that are possible, that leaves configurations in the worst light.

    Parameters
    ----------
    ratio
        Of the configurations of a place.
    shift
        What most of them share.
    reach
        From `reach_of_nights`.
    tolerance
        On logarithms.
    higher_is_better
        Of the metric.

    Returns
    -------
    LogRatio
        Of one element. It moved all as the group did that moved most for the better.
    """
    sign = 1.0 if higher_is_better else -1.0
    best = sign * highest_group(sign * ratio.value, noise(ratio, tolerance))
    return LogRatio(np.clip([best], -reach, reach), shift.error, shift.freedom)


def with_error(ratio: LogRatio, at: Numbers, error: float, freedom: float) -> LogRatio:
    """Return ratios of which some have one more error.

    Parameters
    ----------
    ratio
        Of m configurations.
    at
        The positions of those that get it.
    error, freedom
        The error, and its degrees of freedom.

    Returns
    -------
    LogRatio
        The degrees of freedom are Satterthwaite's [1]_.
    """
    errors, freedoms = ratio.error.copy(), ratio.freedom.copy()
    own, more = errors[at] ** 2, error**2
    errors[at] = np.sqrt(own + more)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = own**2 / freedoms[at] + more**2 / freedom
        freedoms[at] = (own + more) ** 2 / parts
    return LogRatio(ratio.value, errors, freedoms)
