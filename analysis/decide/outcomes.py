"""Whether measurements fail, or do not settle, more often than before: more than chance explains.

Now and then one fails for no reason that comes back: a node, a port, a file system. At one rate on
both sides that is no change, however many configurations there are for it to happen to.

References
----------
.. [1] R. A. Fisher, "The logic of inductive inference", Journal of the Royal Statistical Society 98
   (1935) 39-82: the exact test of two rates.
.. [2] H. Jeffreys, "An invariant form for the prior probability in estimation problems",
   Proceedings of the Royal Society A 186 (1946) 453-461: a half is added to the failures.
"""

import numpy as np
import numpy.typing as npt

from hpcbench.analysis.summary.configuration import Array

Flags = npt.NDArray[np.bool_]

RATE_OF_ALL = 0.04
"""The probability that a rise over all configurations is found where there is none."""

CLEARLY = 1.5
"""The factor by which the rate over all must have risen: of a million measurements, a test finds a
rise from 5.0 to 5.1 %."""

TOO_FEW = 2
"""Configurations up to which there is no rate of others to hold one against."""

RATE_OF_EACH = 0.01
"""The same of any single configuration, all of them together."""


def goes_wrong_more_often(
    tried: tuple[Array, Array], wrong: tuple[Array, Array], whole_rate: float = 0.05
) -> Flags:
    """Return which configurations go wrong in B more often than in A and than chance explains.

    Parameters
    ----------
    tried
        For A and for B, shape (m,), how often each of m configurations was tried, from 1.
    wrong
        How often that went wrong.
    whole_rate
        How probable it may be that what always goes wrong in B does so by chance.

    Returns
    -------
    numpy.ndarray
        Shape (m,), booleans: those that always go wrong in B and not in A, which hardly one would
        at the rate of all others; those that do so more often, by a binomial test against the rate
        of all others [2]_ and its own in A, at RATE_OF_EACH; of no more than TOO_FEW, those that
        never did in A and do so twice and in most repeats of B; and where the rate over the rest
        has risen CLEARLY and by Fisher's exact test [1]_ at RATE_OF_ALL, each that contributes.
        Where nothing goes right in B, all that did in A.
    """
    more = wrong[1] * tried[0] > wrong[0] * tried[1]
    if not more.any():
        return np.zeros(len(more), dtype=bool)
    if (wrong[1] == tried[1]).all():
        return np.asarray(more)
    found = _always(tried, wrong, more, whole_rate) | _each(tried, wrong, more)
    if len(more) <= TOO_FEW:
        found |= (wrong[0] == 0) & (wrong[1] >= 2) & (2 * wrong[1] > tried[1])
    return np.asarray(found | (more & _has_risen(tried, wrong, ~found)))


def _always(
    tried: tuple[Array, Array], wrong: tuple[Array, Array], more: Flags, most: float
) -> Flags:
    """Return what always goes wrong in B: at the rate of all others, hardly one would.

    Of many that were tried once some do at any rate that nobody would have seen yet: half a failure
    is added to those of the others [2]_.
    """
    always = more & (wrong[1] == tried[1])
    others = wrong[0].sum() + wrong[1][~always].sum() + 0.5
    rate = others / (tried[0].sum() + tried[1][~always].sum() + 1)
    sizes, of, counts = np.unique(tried[1], return_inverse=True, return_counts=True)
    # How many would by chance, of all that were tried as often or more often.
    expected = np.cumsum((counts * rate**sizes)[::-1])[::-1]
    return np.asarray(always & (expected[of] <= most))


def _each(tried: tuple[Array, Array], wrong: tuple[Array, Array], more: Flags) -> Flags:
    from scipy import stats  # Only here and below: it takes long to import.

    at = np.flatnonzero(more)
    n, k = tried[1][at], wrong[1][at]
    others = (sum(x.sum() for x in wrong) - k + 0.5) / (sum(x.sum() for x in tried) - n + 1)
    rate = np.maximum(others, wrong[0][at] / tried[0][at])
    found = np.zeros(len(more), dtype=bool)
    found[at] = stats.binom.sf(k - 1, n, rate) * len(more) <= RATE_OF_EACH
    return found


def _has_risen(tried: tuple[Array, Array], wrong: tuple[Array, Array], among: Flags) -> bool:
    from scipy import stats

    (n_a, n_b), (k_a, k_b) = ([int(x[among].sum()) for x in sides] for sides in (tried, wrong))
    if k_b * n_a <= CLEARLY * k_a * n_b:
        return False
    return bool(stats.hypergeom.sf(k_b - 1, n_a + n_b, k_a + k_b, n_b) <= RATE_OF_ALL)
