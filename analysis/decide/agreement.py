"""Whether the ratios of many configurations agree on one common value, and what they do if not.

What a night did to all configurations can be told from what changed only if most of them moved
together. Where half of them moved by one value and half by another, or each by its own, the data
fit several nights equally well. Where most moved by one value, and a group of the others by another
one, the night is that of most only if these did not all change by themselves.

References
----------
.. [1] P. J. Rousseeuw, "Least median of squares regression", Journal of the American Statistical
   Association 79 (1984) 871-880: least trimmed squares.
.. [2] B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 16: the
   parametric bootstrap of a test.
.. [3] W. G. Cochran, "The combination of estimates from different experiments", Biometrics 10
   (1954) 101-129: the sum of squares over the errors.
.. [4] W. D. Fisher, "On grouping for maximum homogeneity", Journal of the American Statistical
   Association 53 (1958) 789-798.
"""

from dataclasses import dataclass

import numpy as np

from hpcbench.analysis.summary.configuration import Array
from hpcbench.analysis.summary.variance import LogRatio

MOST = 2 / 3
"""The share of configurations that must agree on a value before it is what all share: of just over
half, nobody can tell whether it is they or the others that changed."""

FEWEST_SHARED = 5
"""Configurations below which a shift of all cannot be told from a change of each."""

FEWEST_FOR_GROUPS = 2 * FEWEST_SHARED
"""Configurations below which, where they do not agree, neither of two groups need be the one that
only the night moved."""

_LEVEL = 0.01
"""The probability that ratios which agree are said not to."""

_LEVEL_OF_GROUPS = 0.05
"""That they are said to be in two groups: then less is called the same, and no more is worse."""

_SIMULATED = 300
_ENOUGH = 500
"""Ratios of which as many say whether they agree."""

_OWN = 0.25
"""How differently configurations may take one night, as a share of the tolerance."""

_REACH = 6
"""In how many times the usual scatter around the middle a ratio is looked at as it is: one that is
farther from all others would be a group of its own."""


@dataclass(frozen=True)
class Group:
    """Configurations that moved alike.

    Attributes
    ----------
    configurations
        How many.
    ratio
        Their median B / A.
    """

    configurations: int
    ratio: float


def agree(ratio: LogRatio, tolerance: float) -> bool:
    """Return whether most ratios are one value and noise.

    Parameters
    ----------
    ratio
        Of m configurations, with their errors.
    tolerance
        On logarithms. A quarter of it is a standard deviation by which configurations may differ
        in how they take one night.

    Returns
    -------
    bool
        True also where fewer than FEWEST_SHARED have an error, so that nothing can be told.
        Of fewer than FEWEST_FOR_GROUPS, only where no group of them, of more than a third, stands
        apart from the others.

    Notes
    -----
    Cochran's sum of squares over the errors [3]_, of those MOST that lie closest together [1]_, is
    held against what as many have that differ by Student's errors alone, in a simulation with a
    fixed seed [2]_. So all others may be anywhere.
    """
    chance = np.random.default_rng(1)
    some = some_known(ratio)
    value, error, freedom = some.value, some.error, some.freedom
    if len(value) < FEWEST_SHARED:
        return True
    own, size = _OWN * tolerance, int(np.ceil(MOST * len(value)))
    seen = float(_squares(value[None], np.hypot(error, own)[None], size).min())
    which = np.argsort(chance.random((_SIMULATED, len(value))), axis=1)[:, :size]
    alone = error[which] * chance.standard_t(freedom[which]) + own * chance.normal(size=which.shape)
    usual = _squares(alone, np.hypot(error[which], own), size)[:, 0]
    if _is_rare(seen, usual):
        return False
    if len(value) >= FEWEST_FOR_GROUPS:
        return True
    # Of so few, the test finds a group that is just under half of them only where it is far away.
    groups = two_groups(ratio, tolerance)
    return not groups or max(group.configurations for group in groups) >= MOST * len(ratio.value)


def some_known(ratio: LogRatio) -> LogRatio:
    """Return as many ratios with an error as say what all of them do.

    Parameters
    ----------
    ratio
        Of m configurations.

    Returns
    -------
    LogRatio
        Of _ENOUGH or fewer than twice as many of them, in their order.
    """
    known = np.flatnonzero(np.isfinite(ratio.value) & np.isfinite(ratio.error) & (ratio.error > 0))
    known = known[:: max(1, len(known) // _ENOUGH)]
    return LogRatio(ratio.value[known], ratio.error[known], ratio.freedom[known])


def _is_rare(seen: float, usual: Array, level: float = _LEVEL) -> bool:
    return (1 + int((usual >= seen).sum())) / (1 + len(usual)) <= level


def _squares(values: Array, scale: Array, size: int) -> Array:
    """Return the weighted sum of squares of each ``size`` values of a row that lie side by side."""
    order = np.argsort(values, axis=1)
    weight = 1 / np.take_along_axis(scale, order, axis=1) ** 2
    # Around the middle: sums of squares of numbers that are far from 0 lose their last digits.
    away = np.take_along_axis(values, order, axis=1) - np.median(values, axis=1, keepdims=True)

    def sums(terms: Array) -> Array:
        total = np.pad(np.cumsum(terms, axis=1), ((0, 0), (1, 0)))
        return np.asarray(total[:, size:] - total[:, :-size])

    return np.asarray(sums(weight * away**2) - sums(weight * away) ** 2 / sums(weight))


def two_groups(ratio: LogRatio, tolerance: float) -> tuple[Group, ...]:
    """Return the two groups into which ratios fall that are two values and noise.

    Parameters
    ----------
    ratio
        Of m configurations, with their errors.
    tolerance
        As for `agree`.

    Returns
    -------
    tuple of Group
        As from `groups_of`. Empty where one value explains all ratios, and where the smaller group
        has fewer than FEWEST_SHARED, or than a tenth of all, if that is less than a third of them.

    Notes
    -----
    What the means of two groups explain of the sum of squares [4]_ is held against what they
    explain of ratios that differ by their errors alone, in a simulation with a fixed seed [5]_.
    """
    some = some_known(ratio)
    value, error, freedom = some.value, some.error, some.freedom
    if len(value) < FEWEST_SHARED:
        return ()
    groups, count = groups_of(ratio, tolerance), len(ratio.value)
    fewest = min(max(FEWEST_SHARED, -(-count // 10)), -(-count // 3))
    if min(group.configurations for group in groups) < fewest:
        return ()
    chance, least = np.random.default_rng(1), noise(ratio, tolerance)
    shape = (_SIMULATED, len(value))
    alone = error * chance.standard_t(freedom, size=shape)
    alone += _OWN * tolerance * chance.normal(size=shape)
    seen, usual = (
        _explained(np.sort(_within_reach(values, least), axis=-1)).max(axis=-1)
        for values in (value, alone)
    )
    return groups if _is_rare(float(seen), usual, _LEVEL_OF_GROUPS) else ()


def groups_of(ratio: LogRatio, tolerance: float) -> tuple[Group, Group]:
    """Return the two groups into which ratios fall that do not agree.

    Parameters
    ----------
    ratio
        Of m configurations, at least two of them.
    tolerance
        As for `agree`.

    Returns
    -------
    tuple of Group
        Those that moved down, and those that moved up.
    """
    lower, _ = _in_two(_within_reach(ratio.value, noise(ratio, tolerance)))
    parts = np.split(np.sort(ratio.value), [len(lower)])
    low, high = (Group(len(part), float(np.exp(np.median(part)))) for part in parts)
    return low, high


def _within_reach(values: Array, usual: float) -> Array:
    """Return values of which none is so far from the middle that it would be a group alone."""
    middle = np.median(values, axis=-1, keepdims=True)
    scatter = 1.4826 * np.median(np.abs(values - middle), axis=-1, keepdims=True)
    reach = np.maximum(3 * scatter, _REACH * usual)
    return np.asarray(np.clip(values, middle - reach, middle + reach))


def _in_two(values: Array) -> tuple[Array, Array]:
    """Return the lower and the upper values, so that they differ as little as possible within."""
    ordered = np.sort(values)
    at = int(np.argmax(_explained(ordered))) + 1
    return ordered[:at], ordered[at:]


def _explained(ordered: Array) -> Array:
    """Return what two means explain of the sum of squares, for each place to cut [4]_."""
    n, count = np.arange(1, ordered.shape[-1]), ordered.shape[-1]
    away = ordered - ordered.mean(axis=-1, keepdims=True)
    total = np.cumsum(away, axis=-1)[..., :-1]
    # All of them sum to 0.
    return np.asarray(total**2 / n + total**2 / (count - n))


def noise(ratio: LogRatio, tolerance: float) -> float:
    """Return by how much ratios that agree scatter, at most.

    Parameters
    ----------
    ratio
        Of m configurations, with their errors.
    tolerance
        As for `agree`.

    Returns
    -------
    float
        A standard deviation on logarithms: a third more than the usual one, so that chance does not
        tear a group apart.
    """
    usual = float(np.nanmedian(ratio.error)) if np.isfinite(ratio.error).any() else 0.0
    return 4 / 3 * float(np.hypot(usual, _OWN * tolerance))


def highest_group(values: Array, most: float) -> float:
    """Return the middle of the highest values that agree.

    Parameters
    ----------
    values
        Shape (m,), at least FEWEST_SHARED.
    most
        The standard deviation that values which agree have at most, from `noise`.

    Returns
    -------
    float
        The median of the upper of two groups, of its upper group again, and so on, as long as they
        scatter more; of no fewer than FEWEST_SHARED, nor than a tenth of all; of fewer than
        FEWEST_FOR_GROUPS, of more than a third.
    """
    fewest = max(FEWEST_SHARED, len(values) // 10)
    if len(values) < FEWEST_FOR_GROUPS:
        # More than can be away where MOST agree.
        fewest = len(values) - int(np.ceil(MOST * len(values))) + 1
    while len(values) >= 2 * fewest and values.std() > most:
        low, high = _in_two(values)
        # A few that rose far above all others are no group that a night could have moved.
        values = high if len(high) >= fewest else low
    return float(np.median(values))
