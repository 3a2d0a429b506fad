"""From points to series: what runs along an axis, what shares a figure, what stands out in it."""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.summary import statistics
from hpcbench.analysis.summary.configuration import CONFIGURATION, group_numbers
from hpcbench.analysis.summary.points import natural_ranks
from hpcbench.analysis.summary.statistics import Sample
from hpcbench.analysis.summary.varying_axes import REQUEST_RATE, FigureAxis
from hpcbench.errors import BadInput
from hpcbench.records.columns import Status

DEVICE = ("site", "pool", "gpu_name", "gpu_count", "cpu_name", "cpu_count", "instance_kind")
"""What a model ran on."""


class DoesNotApply(BadInput):
    """A figure cannot be drawn from these results; the message says what they lack."""


def series_along(
    points: pd.DataFrame, axis: FigureAxis, free: Collection[str] = ()
) -> pd.DataFrame:
    """Return the points as series along an axis.

    Parameters
    ----------
    points
        A table of `points.summarise`.
    axis
        What runs along the x axis.
    free
        More columns that separate no series.

    Returns
    -------
    pandas.DataFrame
        The points with ``series``, numbered from 0, and ``x``, sorted by both. ``x`` is the rate
        that was sent where that fell behind the one asked for. Where a series has
        an x twice (the model's default, and the same value written out), the point with more
        measurements stays, else the first.
    """
    table = points.copy()
    table["x"] = table[axis.column].astype("float64")
    if axis is REQUEST_RATE:
        # What fell behind was never under the load that was asked for.
        behind = (table["overloaded_max"] > 0) & (table["send_request_rate"] > 0)
        table["x"] = table["x"].mask(behind, table["send_request_rate"])
    table = table[table["x"] > 0]
    kept = table.assign(variant=variants_without(table["variant"], axis.column))
    table["series"] = number_groups(
        kept, [name for name in CONFIGURATION if name not in (*axis.merged_columns, *free)]
    )
    table = table.sort_values(["series", "x", "measured"], ascending=[True, True, False])
    return table.drop_duplicates(["series", "x"], ignore_index=True)


def number_groups(table: pd.DataFrame, columns: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the number of each row's group, in the order of the campaign and then of ``columns``.

    Parameters
    ----------
    table
        n rows with ``columns`` and ``position``.
    columns
        Rows belong to one group where they agree in all of these.

    Returns
    -------
    numpy.ndarray
        Shape (n,), from 0.
    """
    groups = group_numbers(table, columns)
    first = table.iloc[np.unique(groups, return_index=True)[1]]
    position = table["position"].groupby(groups).min().to_numpy(np.float64)
    order = [*(natural_ranks(first[name]) for name in reversed(columns)), position]
    places = np.empty(len(first), dtype=np.int64)
    places[np.lexsort(order)] = range(len(first))
    numbers: npt.NDArray[np.int64] = places[groups]
    return numbers


def variants_without(variants: pd.Series, axis: str) -> "pd.Series[Any]":
    """Return the variants with one of their axes left out.

    Parameters
    ----------
    variants
        JSON with the value of each server axis by its name.
    axis
        The name of the axis.

    Returns
    -------
    pandas.Series
        JSON with the other axes; None where the variant is not known.
    """
    short = {
        text: json.dumps({name: value for name, value in json.loads(text).items() if name != axis})
        for text in variants.dropna().unique()
    }
    return pd.Series([short.get(text) for text in variants], index=variants.index, dtype=object)


def best_points(points: pd.DataFrame, free: Sequence[str]) -> pd.DataFrame:
    """Return the point of highest throughput of those that differ only in ``free``.

    Parameters
    ----------
    points
        A table of `points.summarise`.
    free
        Columns of CONFIGURATION.

    Returns
    -------
    pandas.DataFrame
        One row for each group. Points that settled come before those that did not; points without
        throughput are left out. ``candidates`` is the number of points it was chosen from.

    Raises
    ------
    DoesNotApply
        No point has a throughput.
    """
    found = points[points["throughput_infer_per_s"] > 0].copy()
    if found.empty:
        raise DoesNotApply("no measurement has a throughput")
    kept = [name for name in CONFIGURATION if name not in free]
    found["group"] = group_numbers(found, kept)
    found["candidates"] = found.groupby("group")["group"].transform("size")
    found["settled"] = found["status"] == Status.OK
    ordered = found.sort_values(["settled", "throughput_infer_per_s"], ascending=False)
    best = ordered.drop_duplicates("group").sort_index()
    return best.drop(columns=["settled", "group"]).reset_index(drop=True)


def with_ratios(table: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """Return the table with the ratio of each metric to that of the first measured series.

    Parameters
    ----------
    table
        Points with ``series`` and ``x``.
    quantities
        Names of metrics.

    Returns
    -------
    pandas.DataFrame
        With ``NAME_ratio``, ``NAME_ratio_low`` and ``NAME_ratio_high``. The interval is that of
        `statistics.welch_ratio`. There is none for the first series, nor where one of the two was
        measured less than three times: of two values it would be wider than any panel.
    """
    table = table.copy()
    measured = table.loc[table["measured"] > 0, "series"]
    reference = table[table["series"] == (measured.min() if len(measured) else -1)].set_index("x")
    own = table.index.isin(table.index[table["series"].isin(reference["series"])])
    for name in quantities:
        add_ratio(table, name, reference, table["x"], own)
    return table


def add_ratio(
    table: pd.DataFrame, name: str, reference: pd.DataFrame, keys: pd.Series, own: Any
) -> None:
    """Add the ratio of a metric to its reference as columns of ``table``, as `with_ratios` does.

    Parameters
    ----------
    table
        Points; changed in place.
    name
        The metric.
    reference
        Points by key, each key once.
    keys
        The key of each row of ``table``.
    own
        Where a row is its own reference, and so has no interval.
    """
    columns = [f"{name}{end}" for end in ("", "_n", "_std")]
    base = pd.DataFrame({column: keys.map(reference[column]) for column in columns})
    found = statistics.welch_ratio(Sample.from_table(table, name), Sample.from_table(base, name))
    few = own | (table[f"{name}_n"] < 3) | (base[f"{name}_n"] < 3)
    value = table[name].where(table[name] > 0) / base[name].where(base[name] > 0)
    table[f"{name}_ratio"] = value
    table[f"{name}_ratio_low"] = np.where(few, np.nan, found.low)
    table[f"{name}_ratio_high"] = np.where(few, np.nan, found.high)


def with_error_bars(table: pd.DataFrame, quantities: Iterable[str]) -> pd.DataFrame:
    """Return the table with what the bars of a figure show: an interval, or a range.

    Parameters
    ----------
    table
        Points with the statistics of ``quantities``.
    quantities
        Names of metrics.

    Returns
    -------
    pandas.DataFrame
        ``NAME_low`` and ``NAME_high`` are the interval of the mean. Of two repeats it is 13 times
        as wide as they are apart: there they are missing, and ``NAME_min`` and ``NAME_max``, which
        are missing elsewhere, hold the two.
    """
    table = table.copy()
    for name in quantities:
        two = table[f"{name}_n"] == 2
        for end in ("_low", "_high"):
            table[f"{name}{end}"] = table[f"{name}{end}"].mask(two)
        for end in ("_min", "_max"):
            table[f"{name}{end}"] = table[f"{name}{end}"].where(two)
    return table


def require_measured(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points as they are, if any of them was measured.

    Parameters
    ----------
    points
        A table of `points.summarise`.

    Returns
    -------
    pandas.DataFrame
        The same table.

    Raises
    ------
    DoesNotApply
        No point has a throughput or a latency.
    """
    if not (points[["throughput_infer_per_s", "latency_ms"]] > 0).any(axis=None):
        raise DoesNotApply("no measurement has metrics")
    return points


def isolated_models(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points of models that had a server of their own and were called by no ensemble.

    Only among these can one look for the best configuration.

    Parameters
    ----------
    points
        A table of `points.summarise`.

    Returns
    -------
    pandas.DataFrame
        Some of its rows.

    Raises
    ------
    DoesNotApply
        There are no such points.
    """
    found = points[points["beside"].isna() & points["part_of"].isna()]
    if found.empty:
        raise DoesNotApply("all models shared a server, or were called by an ensemble")
    return found


def varies_along(points: pd.DataFrame, axis: FigureAxis) -> bool:
    """Return whether some series has two measured points along an axis.

    Parameters
    ----------
    points
        A table of `points.summarise`.
    axis
        The axis.

    Returns
    -------
    bool
        Whether a figure along this axis shows anything.
    """
    there = points[points["measured"] > 0]
    return bool(series_along(there, axis)["series"].duplicated().any())
