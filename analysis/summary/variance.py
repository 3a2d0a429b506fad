"""Variance that few repeats borrow from all configurations, and ratios with errors made of it.

Two or three repeats say little about their own spread, but dozens of configurations of one metric
say much about the spread that is usual. Each configuration's variance is shrunk towards the common
trend over the metric's level, by as much as the data say that variances are alike: the empirical
Bayes method of limma's moderated t [1]_ with a trend [2]_. A configuration that was measured once
has the variance of the trend at its level.

Everything is relative to the mean, which is the scale of logarithms to first order (the delta
method), because the noise of throughput and latency grows with them. Pure functions on arrays.

References
----------
.. [1] G. K. Smyth, "Linear models and empirical Bayes methods for assessing differential expression
   in microarray experiments", Statistical Applications in Genetics and Molecular Biology 3 (2004),
   article 3.
.. [2] C. W. Law, Y. Chen, W. Shi and G. K. Smyth, "voom: precision weights unlock linear model
   analysis tools for RNA-seq read counts", Genome Biology 15 (2014) R29: limma-trend.
.. [3] F. E. Satterthwaite, "An approximate distribution of estimates of variance components",
   Biometrics Bulletin 2 (1946) 110-114.
.. [4] R. V. Lenth, "Quick and easy analysis of unreplicated factorials", Technometrics 31 (1989)
   469-473.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpcbench.analysis.summary.configuration import Array
from hpcbench.analysis.summary.statistics import Sample, t_quantile

FEWEST_REPEATED = 3
"""Configurations with repeats below which nothing says how much variances differ: none is moved."""

_FEWEST_TO_SCALE = 10
"""Configurations with repeats on both sides, below which both sides are taken as equally noisy."""

_KNOTS = ((20, 2), (60, 3), (200, 4))
"""From so many variances on, the trend has so many knots; below: it is a constant. limma
has more at fewer, and its intervals are then too narrow."""

_CERTAIN = 1e5
"""Degrees of freedom from which on all variances are the same."""

_ENOUGH = 1_000
"""Variances from which a trend is known well enough."""

_RANGE = np.log(2)
"""Of log(mean), below which there is no trend."""


@dataclass(frozen=True)
class Spread:
    """How far single measurements of m configurations scatter.

    Attributes
    ----------
    std
        Shape (m,), standard deviation of one measurement as a fraction of the mean; NaN where
        nothing is known.
    freedom
        Shape (m,), the degrees of freedom of its square; 0 where nothing is known.
    """

    std: Array
    freedom: Array


@dataclass(frozen=True)
class LogRatio:
    """Logarithms of m ratios with their errors.

    Attributes
    ----------
    value
        Shape (m,), the logarithms; NaN where a mean is missing or not positive.
    error
        Shape (m,), standard errors; NaN where no spread is known.
    freedom
        Shape (m,), degrees of freedom of the errors.
    """

    value: Array
    error: Array
    freedom: Array

    def interval(self, confidence: float = 0.95) -> tuple[Array, Array]:
        """Return the limits of the ratios.

        Parameters
        ----------
        confidence
            Of the two-sided interval.

        Returns
        -------
        tuple of numpy.ndarray
            The lower and the upper limits, each of shape (m,); NaN without an error.
        """
        return self.limits((1 - confidence) / 2, (1 - confidence) / 2)

    def limits(self, below: float, above: float) -> tuple[Array, Array]:
        """Return limits of the ratios with a probability of its own on each side.

        Parameters
        ----------
        below, above
            The probability that the truth is below the lower limit, and above the upper one.

        Returns
        -------
        tuple of numpy.ndarray
            The lower and the upper limits, each of shape (m,); NaN without an error.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            low = self.value - t_quantile(self.freedom, 1 - below) * self.error
            high = self.value + t_quantile(self.freedom, 1 - above) * self.error
            return np.exp(low), np.exp(high)

    def p_above(self, bound: float) -> Array:
        """Return one-sided p-values of the hypothesis that the ratio is at most a bound.

        Parameters
        ----------
        bound
            A ratio above 0.

        Returns
        -------
        numpy.ndarray
            Shape (m,), by Student's t; NaN without an error.
        """
        from scipy import special  # Only here and below: it takes long to import.

        beyond = self.value - np.log(bound)
        with np.errstate(invalid="ignore", divide="ignore"):
            p = special.stdtr(self.freedom, -beyond / self.error)
        # Without any spread the test has no t: the ratio is above the bound or it is not.
        return np.where(self.error == 0, np.where(beyond > 0, 0.0, 1.0), p)

    def inverse(self) -> "LogRatio":
        """Return the logarithms of the reciprocal ratios.

        Returns
        -------
        LogRatio
            With the same errors.
        """
        return LogRatio(-self.value, self.error, self.freedom)


def moderated_spread(sample: Sample, resolution: npt.ArrayLike = 0.0) -> Spread:
    """Return the spread of each configuration, shrunk towards what is usual at its level.

    Parameters
    ----------
    sample
        Repeats of one metric for m configurations.
    resolution
        The smallest step of a single value as a fraction of the mean, a number or shape (m,). A
        value that is rounded to steps has at least a variance of ``resolution**2 / 12``.

    Returns
    -------
    Spread
        Of all configurations with a positive mean. With fewer than FEWEST_REPEATED that were
        repeated, each keeps its own variance, and those measured once take the pooled one.

    Notes
    -----
    The variance s² of n repeats (d = n - 1) is distributed as s0² F(d, d0) [1]_. The trend s0² over
    log(mean) [2]_ and d0 maximise the likelihood. The moderated variance is
    (d0 s0² + d s²) / (d0 + d), with d0 + d degrees of freedom, at most all that there are.
    """
    variance, freedom = _relative(sample)
    floor = np.broadcast_to(np.asarray(resolution, dtype=float), freedom.shape) ** 2 / 12
    return _moderated(variance, freedom, sample.mean, floor)


def _relative(sample: Sample) -> tuple[Array, Array]:
    """Return the squared coefficient of variation and its degrees of freedom, 0 where unknown."""
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = (sample.std / sample.mean) ** 2
    known = (sample.mean > 0) & (sample.n > 1) & np.isfinite(variance)
    return np.where(known, variance, 0.0), np.where(known, sample.n - 1.0, 0.0)


def _moderated(variance: Array, freedom: Array, mean: Array, floor: Array) -> Spread:
    there = np.isfinite(mean) & (mean > 0)
    repeated = there & (freedom > 0)
    floor = np.where(np.isfinite(floor), floor, 0.0)
    own = np.maximum(variance, floor)
    total = float(freedom[repeated].sum())
    if not total:
        return Spread(np.full(len(mean), np.nan), np.zeros(len(mean)))
    if repeated.sum() < FEWEST_REPEATED:
        pooled = float((own * freedom)[repeated].sum() / total)
        found = np.where(repeated, own, np.maximum(pooled, floor))
        known = np.where(repeated, freedom, total)
    else:
        prior, prior_freedom = _prior(own, freedom, np.log(np.where(there, mean, 1.0)), repeated)
        prior = np.maximum(prior, floor)
        share = prior_freedom / (prior_freedom + freedom)
        found = share * prior + (1 - share) * own
        # A prior that seems certain still comes from these repeats and no others.
        known = np.minimum(prior_freedom + freedom, total)
    return Spread(np.where(there, np.sqrt(found), np.nan), np.where(there, known, 0.0))


def _prior(
    own: Array, freedom: Array, level: Array, repeated: npt.NDArray[np.bool_]
) -> tuple[Array, float]:
    """Return the variance of the trend at each level, and its degrees of freedom.

    A variance s² with d degrees of freedom is distributed as s0² F(d, d0) [1]_; its likelihood is
    maximised over the trend of log s0² and d0.
    """
    from scipy import optimize, special

    known = np.flatnonzero(repeated)
    known = known[:: max(1, len(known) // _ENOUGH)]
    basis = _basis(level[known], level)
    at, d = basis[known], freedom[known]
    # Most configurations have equally many repeats, and these functions are slow.
    distinct, of = np.unique(d, return_inverse=True)
    # Variances of exactly 0 have no logarithm; limma lifts them in the same way.
    least = max(1e-5 * float(np.median(own[known])), np.finfo(float).tiny)
    log = np.log(np.maximum(own[known], least))

    def minus_likelihood(given: Array) -> tuple[float, Array]:
        d0 = np.exp(given[-1])
        # The first steps of the search may go far beyond what a float holds.
        away = np.clip(log - at @ given[:-1], -500, 500)
        scaled = d * np.exp(away) / d0
        share, log_rest = scaled / (1 + scaled), np.log1p(scaled)
        found = (
            d / 2 * (np.log(d / d0) + away)
            - special.betaln(distinct / 2, d0 / 2)[of]
            - (d + d0) / 2 * log_rest
        )
        by_level = (d + d0) / 2 * share - d / 2
        by_d0 = (
            special.digamma((distinct + d0) / 2)[of]
            - special.digamma(d0 / 2)
            - d / d0
            - log_rest
            + (d + d0) / d0 * share
        ) / 2
        slope = np.append(at.T @ by_level, by_d0.sum() * d0)
        return -float(found.mean()), -slope / len(d)

    expected = special.digamma(d / 2) - np.log(d / 2)
    start = np.append(np.linalg.lstsq(at, log - expected, rcond=None)[0], np.log(10.0))
    bounds = [(None, None)] * at.shape[1] + [(np.log(0.5), np.log(_CERTAIN))]
    # Not L-BFGS-B: its calls of LAPACK wait for threads, which takes ten times as long as the rest.
    best = optimize.minimize(minus_likelihood, start, jac=True, method="TNC", bounds=bounds).x
    return np.exp(basis @ best[:-1]), float(np.exp(best[-1]))


def _basis(known: Array, at: Array) -> Array:
    """Return a basis of natural cubic splines over the levels that are known, shape (m, k)."""
    from scipy import interpolate

    knots = next((k for most, k in reversed(_KNOTS) if len(known) >= most), 1)
    places = np.unique(np.quantile(known, np.linspace(0, 1, knots))) if knots > 1 else known[:1]
    # Over a narrow range the noisiest lie at the ends because they are noisy: no trend.
    if len(places) < 2 or np.ptp(places) < _RANGE:
        return np.ones((len(at), 1))
    spline = interpolate.CubicSpline(places, np.eye(len(places)), bc_type="natural")
    # Nothing is known beyond the levels that were repeated.
    return np.asarray(spline(np.clip(at, places[0], places[-1])))


def log_ratio(a: Sample, b: Sample, spread_a: Spread, spread_b: Spread) -> LogRatio:
    """Return the logarithm of a / b for configurations whose spreads are estimated apart.

    Parameters
    ----------
    a, b
        Samples of m configurations each, in one unit.
    spread_a, spread_b
        The spreads of their single measurements.

    Returns
    -------
    LogRatio
        The degrees of freedom are Satterthwaite's [3]_.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        of_a, of_b = spread_a.std**2 / a.n, spread_b.std**2 / b.n
        total = of_a + of_b
        # In shares: squares of variances as small as those of identical repeats would be 0.
        share = of_a / total
        freedom = 1 / (share**2 / spread_a.freedom + (1 - share) ** 2 / spread_b.freedom)
    # Without any spread, 0 / 0 degrees of freedom: any number will do.
    return LogRatio(_log(a) - _log(b), np.sqrt(total), np.where(total == 0, a.n + b.n - 1, freedom))


def paired_log_ratio(a: Sample, b: Sample, resolution: npt.ArrayLike = 0.0) -> LogRatio:
    """Return the logarithm of a / b for configurations that were measured on two sides.

    Parameters
    ----------
    a, b
        Samples of the same m configurations, in one unit.
    resolution
        As for `moderated_spread`.

    Returns
    -------
    LogRatio
        With moderated errors: limma's moderated t of two groups [1]_.

    Notes
    -----
    A configuration that is noisier than most is so on both sides. Its variance is therefore pooled
    over both, and moderated once; two that are moderated apart would count what they have in
    common twice. Where one side as a whole is noisier, its variances are divided by the geometric
    mean of the ratios before they are pooled.
    """
    (of_a, d_a), (of_b, d_b) = _relative(a), _relative(b)
    noisier = _noisier(of_a, d_a, of_b, d_b)
    freedom = d_a + d_b
    variance = (d_a * of_a + d_b * of_b / noisier) / np.maximum(freedom, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = np.sqrt(a.mean * b.mean)
        floor = np.broadcast_to(np.asarray(resolution, dtype=float), level.shape) ** 2 / 12
        spread = _moderated(variance, freedom, level, floor)
        error = spread.std * np.sqrt(1 / a.n + noisier / b.n)
    return LogRatio(_log(a) - _log(b), error, spread.freedom)


def _noisier(of_a: Array, d_a: Array, of_b: Array, d_b: Array) -> float:
    """Return the factor between the variances of side b and of side a; 1 where it may be chance."""
    from scipy import special

    both = (d_a > 0) & (d_b > 0) & (of_a > 0) & (of_b > 0)
    if both.sum() < _FEWEST_TO_SCALE:
        return 1.0
    log, noise = 0.0, 0.0
    for sign, variance, d in ((-1, of_a[both], d_a[both]), (1, of_b[both], d_b[both])):
        log += sign * (np.log(variance) - special.digamma(d / 2) + np.log(d / 2)).mean()
        noise += special.polygamma(1, d / 2).mean() / len(d)
    return float(np.exp(log)) if abs(log) > 2 * np.sqrt(noise) else 1.0


def _log(sample: Sample) -> Array:
    return np.asarray(np.log(np.where(sample.mean > 0, sample.mean, np.nan)))


def pooled_error(values: Array) -> tuple[float, float]:
    """Return the standard error that most of many estimates show, whose effects are few.

    Parameters
    ----------
    values
        Shape (m,), estimates with equal errors, most of them of an effect that is zero.

    Returns
    -------
    tuple of float
        The pseudo standard error, and its degrees of freedom, m / 3; NaN and 0 for fewer than
        three.

    Notes
    -----
    Lenth's method [4]_: 1.5 times the median of what is within 2.5 times a first estimate, so that
    the effects that are there hardly count.
    """
    size = np.abs(values[np.isfinite(values)])
    if len(size) < 3:
        return float("nan"), 0.0
    first = 1.5 * float(np.median(size))
    kept = size[size <= 2.5 * first]
    return 1.5 * float(np.median(kept)), len(size) / 3
