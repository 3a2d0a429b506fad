"""Metrics that are computed from the columns of a record: the latency that counts, power, energy.

Pure functions on pandas frames with the columns of `hpcbench.records.columns`.
"""

import numpy as np
import pandas as pd

from hpcbench.analysis.summary.configuration import Array, as_floats


def settled_latency_us(frame: pd.DataFrame) -> pd.Series:
    """Return the latency by which each point was asked to settle.

    Parameters
    ----------
    frame
        Measurements with the columns ``percentile`` and ``latency_*_us``.

    Returns
    -------
    pandas.Series
        Microseconds: the requested percentile, or the mean where none was requested.
    """
    latency = pd.Series(as_floats(frame["latency_percentile_us"]), index=frame.index)
    requested = pd.Series(as_floats(frame["percentile"]), index=frame.index)
    for percentile in requested.dropna().unique():
        if (column := f"latency_p{percentile:.0f}_us") in frame:
            lacking = (requested == percentile) & latency.isna()
            latency = latency.mask(lacking, pd.Series(as_floats(frame[column]), index=frame.index))
    return latency.mask(
        requested.isna(), pd.Series(as_floats(frame["latency_avg_us"]), index=frame.index)
    )


def gpu_power_w(frame: pd.DataFrame) -> Array:
    """Return the mean power of all GPUs of a measurement.

    Parameters
    ----------
    frame
        Measurements with ``gpu_energy_j``, ``perf_analyzer_s``, ``gpu_power_avg_w`` and
        ``gpu_count``.

    Returns
    -------
    numpy.ndarray
        Watts; NaN where neither NVML nor Triton measured it.

    Notes
    -----
    It is the mean power of a GPU in the counted windows, times the number of GPUs. Older results
    with NVML's energy over the time inside perf_analyzer have only that, which includes its start
    and warm-up.
    """
    measured = as_floats(frame["gpu_power_avg_w"]) * as_floats(frame["gpu_count"])
    older = as_floats(frame["gpu_energy_j"]) / _positive(as_floats(frame["perf_analyzer_s"]))
    return np.where(np.isfinite(measured), measured, older)


def energy_j_per_infer(frame: pd.DataFrame) -> pd.Series:
    """Return the energy that the devices drew for one inference.

    Parameters
    ----------
    frame
        Measurements with ``energy_j_per_infer``, ``throughput_infer_per_s`` and the columns of
        `gpu_power_w`.

    Returns
    -------
    pandas.Series
        Joules per inference, from the energy of the counted windows; mean power over throughput
        where that was not measured; NaN without either.
    """
    measured = as_floats(frame["energy_j_per_infer"])
    throughput = _positive(as_floats(frame["throughput_infer_per_s"]))
    values = np.where(np.isfinite(measured), measured, gpu_power_w(frame) / throughput)
    return pd.Series(values, index=frame.index, dtype=float)


def _positive(values: Array) -> Array:
    return np.where(values > 0, values, np.nan)
