"""Searches for a capacity: each is one measurement, whatever steps it took.

Its row has the rate that it found in ``capacity_infer_per_s``, with the metrics at this rate. Its
steps are rows of their own. What they ask for follows from what was measured before, so no two
searches need have the same ones, and many are too much for the server: they are no configurations
that somebody has chosen.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd


def without_steps(frame: pd.DataFrame) -> pd.DataFrame:
    """Return measurements without the steps of searches.

    Parameters
    ----------
    frame
        Measurements; without ``capacity_step`` none is a step.

    Returns
    -------
    pandas.DataFrame
        Some of its rows.
    """
    if "capacity_step" not in frame or frame["capacity_step"].isna().all():
        return frame
    return frame[frame["capacity_step"].isna()].reset_index(drop=True)


def is_search(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return which measurements are searches.

    Parameters
    ----------
    frame
        n measurements, or configurations, without steps.

    Returns
    -------
    numpy.ndarray
        Shape (n,), booleans.
    """
    return frame["capacity_max_latency_p99_ms"].notna().to_numpy(dtype=bool)
