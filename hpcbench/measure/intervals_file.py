"""The file from which perf_analyzer takes the times between requests."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpcbench.config.load_axes import WINDOWS_IN_A_ROW, LoadVariant
from hpcbench.errors import BadInput
from hpcbench.measure import perf_analyzer
from hpcbench.plan.arrivals import read_intervals

_MARGIN, _MARGIN_S = 1.2, 2.0


def drawn_intervals_us(rate: float, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw the times between Poisson arrivals.

    Parameters
    ----------
    rate
        Requests per second.
    count
        How many.
    seed
        The same seed gives the same sequence, faster or slower by the rate.

    Returns
    -------
    numpy.ndarray
        In whole microseconds, shape (count,). What one is rounded by, the next makes good.
    """
    arrivals_us = np.cumsum(np.random.default_rng(seed).exponential(1e6 / rate, count))
    found: npt.NDArray[np.int64] = np.diff(np.rint(arrivals_us), prepend=0).astype(np.int64)
    return found


def write_intervals_file(load: LoadVariant, folder: Path) -> str | None:
    """Write the file that perf_analyzer reads, if its load is one of given arrivals.

    Parameters
    ----------
    load
        The load.
    folder
        Where perf_analyzer runs.

    Returns
    -------
    str or None
        Why it would not be what was planned; None where it is.
    """
    if load.arrivals_seed is not None and load.request_rate is not None:
        # More than will be sent: what is played a second time are no new arrivals.
        seconds = WINDOWS_IN_A_ROW * load.window_s + _MARGIN_S
        count = math.ceil(_MARGIN * load.request_rate * seconds)
        found_us = drawn_intervals_us(load.request_rate, count, load.arrivals_seed)
        text = "\n".join(map(str, found_us.tolist()))
        (folder / perf_analyzer.INTERVALS_NAME).write_text(text)
        return None
    if load.request_intervals is None:
        return None
    try:
        found = read_intervals(Path(load.request_intervals), "request_intervals")
    except BadInput as error:
        return error.message
    if found.columns["request_intervals_digest"] != load.request_intervals_digest:
        return f"request_intervals: {load.request_intervals} has changed since it was planned"
    (folder / perf_analyzer.INTERVALS_NAME).write_text(found.text)
    return None
