"""Columns as the rules read them: as floats and booleans of numpy's, whatever is missing."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


LEAST_RATE_SENT = 0.98
"""The share of the rate asked for that an open loop must send."""


def least_requests(due: npt.ArrayLike, is_random: npt.ArrayLike) -> Numbers:
    """Return how many requests an open loop must have sent to keep its rate.

    Parameters
    ----------
    due
        How many were due, of any shape.
    is_random
        Whether they were due at random times, of the same shape.

    Returns
    -------
    numpy.ndarray
        98 %, less three standard deviations of a Poisson process, or less two requests that the
        ends of the time may cut.
    """
    slack = np.where(is_random, 3 * np.sqrt(due), 2.0)
    found: Numbers = np.fmax(0.0, LEAST_RATE_SENT * np.asarray(due) - slack)
    return found


def numbers(table: pa.Table, name: str) -> Numbers:
    """Return a column as floats; NaN where it, or a value of it, is missing.

    Parameters
    ----------
    table
        Rows.
    name
        A column of numbers or of booleans; it may be missing.

    Returns
    -------
    numpy.ndarray
        One for each row.
    """
    if name not in table.column_names:
        return np.full(len(table), np.nan)
    column = table[name].cast(pa.float64())
    # Arrow copies what is in several pieces, though it be one.
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    found: Numbers = whole.to_numpy(zero_copy_only=False)
    return found


def is_true(table: pa.Table, name: str) -> Flags:
    """Return where a column is true.

    Parameters
    ----------
    table
        Rows.
    name
        A column of booleans; it may be missing.

    Returns
    -------
    numpy.ndarray
        False where it is not known.
    """
    return numbers(table, name) > 0


def first_known(*columns: Numbers) -> Numbers:
    """Return the first of several values that is known, row by row.

    Parameters
    ----------
    *columns
        Numbers; NaN where they are not known.

    Returns
    -------
    numpy.ndarray
        NaN where none is known.
    """
    found = columns[0]
    for column in columns[1:]:
        found = np.where(np.isnan(found), column, found)
    return found


def equals(table: pa.Table, name: str, text: str) -> Flags:
    """Return where a column of strings has this value.

    Parameters
    ----------
    table
        Rows.
    name
        The column; it may be missing.
    text
        The value.

    Returns
    -------
    numpy.ndarray
        False where it is not known.
    """
    if name not in table.column_names:
        return np.zeros(len(table), dtype=bool)
    return flags(pc.equal(table[name], text))


def is_there(table: pa.Table, name: str) -> Flags:
    """Return where a column has a value.

    Parameters
    ----------
    table
        Rows.
    name
        The column; it may be missing.

    Returns
    -------
    numpy.ndarray
        One for each row.
    """
    if name not in table.column_names:
        return np.zeros(len(table), dtype=bool)
    found: Flags = table[name].is_valid().to_numpy(zero_copy_only=False)
    return found


def flags(column: Any) -> Flags:
    """Return booleans of Arrow's.

    Parameters
    ----------
    column
        Booleans, or nulls.

    Returns
    -------
    numpy.ndarray
        False for null.
    """
    found: Flags = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return found


_COMPUTE = ("server_compute_input_us", "server_compute_infer_us", "server_compute_output_us")
_AROUND = ("client_send_us", "network_us", "server_queue_us", "client_recv_us")
STAGES = (*_AROUND, "server_compute_us", *_COMPUTE)
PERCENTILES = tuple(f"latency_p{percent}_us" for percent in (50, 90, 95, 99))


def mean_latency_us(table: pa.Table) -> Numbers:
    """Return the mean latency of each row: its own, or else the sum of its stages.

    Parameters
    ----------
    table
        Rows with some of the columns of latencies and stages.

    Returns
    -------
    numpy.ndarray
        In us, one for each row; NaN where neither is known.
    """
    # Where a percentile was asked for, a CSV of perf_analyzer has no mean, but all its parts.
    if not set(STAGES) & set(table.column_names):
        return numbers(table, "latency_avg_us")
    compute = first_known(
        np.sum([numbers(table, name) for name in _COMPUTE], axis=0),
        numbers(table, "server_compute_us"),
    )
    parts = np.sum([numbers(table, name) for name in _AROUND], axis=0) + compute
    return first_known(numbers(table, "latency_avg_us"), parts)
