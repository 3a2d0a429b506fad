"""The errors of ratios without any repeat: what those of their neighbours show."""

import numpy as np

from hpcbench.analysis.summary.configuration import Array, Numbers
from hpcbench.analysis.summary.variance import LogRatio, pooled_error

FEWEST_NEIGHBOURS = 10
"""Configurations of one model from which the spread of unrepeated ones is taken, else of all."""


def with_neighbours(ratio: LogRatio, centred: Array, models: Numbers) -> LogRatio:
    """Give ratios without any repeat the error that those of their neighbours show.

    Parameters
    ----------
    ratio
        Of m configurations.
    centred
        Shape (m,), their logarithms without what many of them share.
    models
        Shape (m,), the number of the model of each.

    Returns
    -------
    LogRatio
        With the `pooled_error` of a model's unrepeated configurations, or of all where it has fewer
        than FEWEST_NEIGHBOURS.
    """
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
