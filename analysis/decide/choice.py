"""What may be said of the best of many: the one with the best metric is also the luckiest.

Of 50 equal configurations measured three times with a spread of 5 %, the best looks 6.7 % better
than it is. So no statement about it is made with the error of a configuration that was named
beforehand. All of this is on logarithms, where errors are relative and ratios are differences.

References
----------
.. [1] Z. Sidak, "Rectangular confidence regions for the means of multivariate normal
   distributions", Journal of the American Statistical Association 62 (1967) 626-633.
.. [2] J. C. Hsu, "Constrained simultaneous confidence intervals for multiple comparisons with the
   best", Annals of Statistics 12 (1984) 1136-1144.
.. [3] I. Andrews, T. Kitagawa and A. McCloskey, "Inference on winners", Quarterly Journal of
   Economics 139 (2024) 305-358.
.. [4] B. Efron and C. Morris, "Data analysis using Stein's estimator and its generalizations",
   Journal of the American Statistical Association 70 (1975) 311-319.
.. [5] R. DerSimonian and N. Laird, "Meta-analysis in clinical trials", Controlled Clinical Trials 7
   (1986) 177-188.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpcbench.analysis.summary.configuration import Array
from hpcbench.analysis.summary.statistics import Sample, t_quantile
from hpcbench.analysis.summary.variance import Spread

PROJECTION_SHARE = 0.1
"""Of the error that is allowed, the part spent on the interval that holds for all, as in [3]_."""


@dataclass(frozen=True)
class Corrected:
    """A metric of the best of several, corrected for its having been chosen.

    Attributes
    ----------
    value
        The estimate, in the metric's unit.
    low, high
        The limits of its interval.
    candidates
        How many it was chosen from.
    """

    value: float
    low: float
    high: float
    candidates: int


def level_for_all(confidence: float, count: int) -> float:
    """Return the confidence of each of several statements, so that all hold at once.

    Parameters
    ----------
    confidence
        Between 0 and 1, that all are true together.
    count
        How many statements there are.

    Returns
    -------
    float
        Sidak's level [1]_: exact for independent statements, and more than enough for comparisons
        with one and the same configuration, whose errors go together. For these Dunnett's level,
        which Hsu takes [2]_, would be exact, but only where all variances are equal.
    """
    return float(confidence ** (1 / max(count, 1)))


def mean_error(sample: Sample, spread: Spread) -> Array:
    """Return the standard error of the logarithm of each mean.

    Parameters
    ----------
    sample
        Repeats of one metric for m configurations.
    spread
        How far their single measurements scatter.

    Returns
    -------
    numpy.ndarray
        Shape (m,); NaN where it is not known.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(sample.n > 0, spread.std / np.sqrt(sample.n), np.nan))


def sure_end(sample: Sample, spread: Spread, level: float, *, upper: bool) -> Array:
    """Return the end beyond which each mean is not, with the given confidence.

    Parameters
    ----------
    sample
        Repeats of one metric for m configurations.
    spread
        How far their single measurements scatter.
    level
        Confidence, one-sided.
    upper
        Whether to return the upper end, else the lower.

    Returns
    -------
    numpy.ndarray
        Shape (m,), in the metric's unit; NaN where no spread is known.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        reach = t_quantile(spread.freedom, level) * mean_error(sample, spread)
        mean = np.where(sample.mean > 0, sample.mean, np.nan)
        return np.asarray(mean * np.exp(reach if upper else -reach))


def corrected_best(
    sample: Sample,
    spread: Spread,
    best: int,
    alike: npt.NDArray[np.bool_],
    *,
    higher: bool,
    confidence: float = 0.95,
) -> Corrected | None:
    """Return the metric of the best configuration, corrected for its having been chosen.

    Parameters
    ----------
    sample
        The metric that was optimised, for the m configurations that could have been chosen.
    spread
        How far their single measurements scatter.
    best
        Position of the one that was.
    alike
        Shape (m,), whether each cannot be told from the best; also the best itself.
    higher
        Whether more of the metric is better.
    confidence
        Of the interval.

    Returns
    -------
    Corrected or None
        None where the spread of the best is not known.

    Notes
    -----
    The estimate is shrunk towards the mean of those that are alike, by as much as their metrics
    differ no more than their errors explain: the empirical Bayes estimate [4]_ with the variance
    between them by moments [5]_. The interval is the part that two intervals share [3]_: one is
    right given that this configuration came out ahead of the next (a normal distribution that is
    cut off there), the other holds for all configurations together.
    """
    error = mean_error(sample, spread)
    if not (np.isfinite(error[best]) and sample.mean[best] > 0):
        return None
    sign = 1.0 if higher else -1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        values = sign * np.log(np.where(sample.mean > 0, sample.mean, np.nan))
    others = np.delete(values, best)
    others = others[np.isfinite(others)]
    low, high = _interval(
        values[best],
        error[best] * _t_over_normal(spread.freedom[best], confidence),
        float(others.max()) if len(others) else -np.inf,
        len(others) + 1,
        1 - confidence,
    )
    middle = _shrunk(values, error, best, alike)
    ends = np.exp(sign * np.array([low, np.clip(middle, low, high), high]))
    return Corrected(
        float(ends[1]), float(ends.min()), float(ends.max()), candidates=len(others) + 1
    )


def _t_over_normal(freedom: float, confidence: float) -> float:
    """Return by how much Student's interval is wider: the cut-off distribution is a normal one."""
    from scipy import special  # Only here and below: it takes long to import.

    tail = (1 + confidence) / 2
    return float(t_quantile(freedom, tail) / special.ndtri(tail))


def _interval(
    value: float, error: float, next_best: float, count: int, miss: float
) -> tuple[float, float]:
    from scipy import special

    for_all = miss * PROJECTION_SHARE
    reach = float(special.ndtri((1 + level_for_all(1 - for_all, count)) / 2)) * error
    if error == 0 or not np.isfinite(next_best):
        half = float(special.ndtri(1 - miss / 2)) * error
        return value - half, value + half
    given = (miss - for_all) / 2
    ends = (_mean_that_makes(p, value, error, next_best, reach) for p in (1 - given, given))
    low, high = ends
    if low == high:
        # A tie, as of values that are rounded: that it came out ahead says nothing.
        return value - reach, value + reach
    return low, high


def _mean_that_makes(share: float, value: float, error: float, cut: float, reach: float) -> float:
    """Return the mean at which a metric above ``cut`` is below ``value`` with this probability.

    Looked for within ``reach`` of the value, whose end is returned where it lies beyond.
    """
    from scipy import optimize, special

    def excess(mean: float) -> float:
        above = special.log_ndtr((mean - value) / error) - special.log_ndtr((mean - cut) / error)
        return float(-np.expm1(above) - share)

    low, high = value - reach, value + reach
    # The probability falls as the mean rises.
    if excess(low) <= 0:
        return low
    if excess(high) >= 0:
        return high
    return float(optimize.brentq(excess, low, high))


def _shrunk(values: Array, error: Array, best: int, alike: npt.NDArray[np.bool_]) -> float:
    known = alike & np.isfinite(values) & np.isfinite(error)
    value, own = float(values[best]), float(error[best])
    if known.sum() < 3 or not (error[known] > 0).all():
        return value
    weight = 1 / error[known] ** 2
    mean = np.average(values[known], weights=weight)
    differing = float((weight * (values[known] - mean) ** 2).sum()) - (known.sum() - 1)
    between = max(0.0, differing / (weight.sum() - (weight**2).sum() / weight.sum()))
    centre = float(np.average(values[known], weights=1 / (between + error[known] ** 2)))
    return float(centre + (value - centre) * between / (between + own**2))
