"""What changed between two sets of results: another Triton, driver, GPU or site, or last month.

Two configurations are compared if they do the same work: if they agree in WORK. Everything else may
differ, for that is what is compared. Where several do the same work, those are paired that agree in
the first columns of ALIKE, seen from both sides.

A metric is worse if it is so beyond the tolerance and beyond the noise: by a one-sided Welch test
of the logarithm of the ratio against the tolerance [1]_, with the false discovery rate of all that
is compared held at FALSE_DISCOVERY_RATE [2]_, so that a nightly comparison of a thousand unchanged
configurations raises no alarm. One measurement has no spread: there the tolerance alone decides.

References
----------
.. [1] B. L. Welch, "The generalization of 'Student's' problem when several different population
   variances are involved", Biometrika 34 (1947) 28-35.
.. [2] Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate", Journal of the Royal
   Statistical Society B 57 (1995) 289-300.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from hpcbench.analysis.summary import limits, statistics
from hpcbench.analysis.summary.configuration import (
    CALLS,
    CONFIGURATION,
    CONFIGURATION_INPUTS,
    LOAD,
    RESOLVED,
    Array,
    Numbers,
    as_floats,
    group_numbers,
    plain_rows,
    strings_as_categories,
)
from hpcbench.analysis.summary.invalid_rows import without_invalid
from hpcbench.analysis.summary.limits import ENERGY, LATENCY, THROUGHPUT, Metric
from hpcbench.analysis.summary.statistics import Sample
from hpcbench.errors import BadInput

MEDIAN = Metric("latency_p50_ms", "p50 latency", "ms", higher_is_better=False)
METRICS = (THROUGHPUT, MEDIAN, LATENCY, ENERGY)
"""What is compared. Records have the median and p99 whatever percentile was requested."""

PERCENTILES = {MEDIAN: 50, LATENCY: 99}

WORK = (
    *("model", "model_version", "shapes", "variant"),
    *LOAD,
    *CALLS,
)
"""What two configurations must agree in to be compared. Where no server variant was requested, as
in imported results, what the server resolved (RESOLVED) stands for it."""

ALIKE = (
    *("gpu_name", "gpu_count", "cpu_name", "cpu_count", "pool", "site", "model_digest"),
    *(name for name in CONFIGURATION if name not in WORK),
)
"""What may differ, the most important first; of a column that stands twice the first counts."""

FALSE_DISCOVERY_RATE = 0.05

COMPARE_COLUMNS = tuple(
    dict.fromkeys(
        (
            *(*CONFIGURATION_INPUTS, *limits.METRIC_COLUMNS, "latency_p50_us"),
            *("point_id", "reason", "invalid_reasons"),
        )
    )
)
"""The columns of `hpcbench.records.columns` that `compare_results` needs."""


class Verdict(StrEnum):
    """What became of a metric. SAME: its whole interval is within the tolerance."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    NOISE = "within noise"
    TOO_FEW = "too few requests"


@dataclass(frozen=True)
class Comparison:
    """What `compare_results` found.

    Attributes
    ----------
    a_table, b_table
        The configurations of A and of B, from `statistics.join_repeats`.
    tolerance
        The fraction by which a metric may get worse.
    rows
        A row per pair of configurations and metric, what changed most first, what has too few
        requests last: ``a`` and ``b``, positions in the tables; ``metric``, a column of METRICS;
        ``ratio`` (b / a) with ``low`` and ``high``; ``p``, the adjusted p-value of getting worse;
        ``verdict``; ``once``, that there is no interval.
    lost
        Pairs (a, b) that were measured in A, and tried without success in B.
    gained
        Pairs (a, b) that were measured in B, and tried without success in A.
    only_a, only_b
        Positions of configurations without a counterpart.
    differing
        The pairs of values of each column in which paired configurations differ.
    pairs
        How many pairs of configurations were measured on both sides.
    """

    a_table: pd.DataFrame
    b_table: pd.DataFrame
    tolerance: float
    rows: pd.DataFrame
    lost: pd.DataFrame
    gained: pd.DataFrame
    only_a: Numbers
    only_b: Numbers
    differing: dict[str, list[tuple[Any, Any]]]
    pairs: int

    def count(self, verdict: Verdict) -> int:
        """Return how many rows have a verdict.

        Parameters
        ----------
        verdict
            The verdict.

        Returns
        -------
        int
            A number of rows.
        """
        return int((self.rows["verdict"] == verdict).sum())

    @property
    def is_worse(self) -> bool:
        """Whether a metric got worse beyond tolerance and noise, or can no longer be measured."""
        return bool(self.count(Verdict.WORSE) or len(self.lost))


def compare_results(a: pd.DataFrame, b: pd.DataFrame, tolerance: float) -> Comparison:
    """Compare results B with the reference A.

    Parameters
    ----------
    a, b
        Measurements with COMPARE_COLUMNS, as `load_results` returns them.
    tolerance
        A fraction: 0.05 accepts a ratio of up to 1.05 for the worse.

    Returns
    -------
    Comparison
        All pairs of configurations that do the same work.

    Raises
    ------
    BadInput
        One of the two is empty, nothing was measured, or nothing of A has a counterpart in B.
    """
    for name, frame in (("A", a), ("B", b)):
        if frame.empty:
            raise BadInput(f"{name} holds no results", "hpcbench run measures them")
    a_table, b_table = _table(a), _table(b)
    pairs = _pairs(a_table, b_table)
    if pairs.empty:
        raise BadInput(
            f"no configuration of A has a counterpart in B{_first_difference(a_table, b_table)}",
            f"they must agree in {', '.join(WORK)}",
        )
    in_a = _served(a_table)[pairs["a"]]
    in_b = _served(b_table)[pairs["b"]]
    both = pairs[in_a & in_b]
    if not in_a.any() and not in_b.any():
        raise BadInput("nothing was measured, neither in A nor in B", "hpcbench status shows why")
    return Comparison(
        a_table=a_table,
        b_table=b_table,
        tolerance=tolerance,
        rows=_rows(a_table, b_table, both, tolerance),
        lost=pairs[in_a & ~in_b],
        gained=pairs[~in_a & in_b],
        only_a=np.setdiff1d(np.arange(len(a_table)), pairs["a"]),
        only_b=np.setdiff1d(np.arange(len(b_table)), pairs["b"]),
        differing=_differing(a_table, b_table, both),
        pairs=len(both),
    )


def _served(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return where there is a throughput to compare: a server that answers nothing has none."""
    dead = as_floats(table[THROUGHPUT.column]) <= 0
    return np.asarray((table["measured"].to_numpy() > 0) & ~dead, dtype=bool)


def _first_difference(a_table: pd.DataFrame, b_table: pd.DataFrame) -> str:
    """Return the first column of WORK in which the two have no value in common."""
    for name in WORK:
        a, b = (
            table[name].astype(object).map(str).unique().tolist() for table in (a_table, b_table)
        )
        if not set(a) & set(b):
            there, other = (", ".join(values[:3])[:100] for values in (a, b))
            return f": {name} is {there} in A, {other} in B"
    return ""


def _table(frame: pd.DataFrame) -> pd.DataFrame:
    frame = strings_as_categories(without_invalid(frame.reset_index(drop=True)))
    metrics = limits.metric_values(frame, {})
    metrics[MEDIAN.column] = as_floats(frame["latency_p50_us"]) / 1000
    names = [metric.column for metric in METRICS]
    added = {name: metrics[name] for name in names} | {
        "requests": as_floats(frame["request_count"])
    }
    table = statistics.join_repeats(frame.assign(**added), [*added])
    rows = table.pop("row").to_numpy()
    for name in ("point_id", "reason"):
        table[name] = frame[name].iloc[rows].to_numpy(dtype=object)
    return table


def _pairs(a_table: pd.DataFrame, b_table: pd.DataFrame) -> pd.DataFrame:
    """Return the positions ``a`` and ``b`` of the configurations to compare."""
    both = pd.concat([a_table[[*CONFIGURATION]], b_table[[*CONFIGURATION]]], ignore_index=True)
    for name in (name for name in CALLS if name != "asynchronous"):
        # Results of an older version lack the column of a feature: the same as not using it.
        both[name] = both[name].mask(both[name].isin([False, "none"]).fillna(value=False))
    unasked = both["variant"].isna().to_numpy()
    served = np.where(unasked, group_numbers(both, RESOLVED), -1)
    work = group_numbers(both.assign(served=served), [*WORK, "served"])
    a_side = pd.DataFrame({"a": np.arange(len(a_table)), "work": work[: len(a_table)]})
    b_side = pd.DataFrame({"b": np.arange(len(b_table)), "work": work[len(a_table) :]})
    pairs = a_side.merge(b_side, on="work")[["a", "b"]]
    # Read as a binary number: agreeing in a column outweighs agreeing in all columns after it.
    likeness = np.zeros(len(pairs), dtype=np.int64)
    for column in dict.fromkeys(ALIKE):
        codes = group_numbers(both, [column])
        same = codes[pairs["a"]] == codes[pairs["b"] + len(a_table)]
        likeness = 2 * likeness + same
    best_of_a = pd.Series(likeness).groupby(pairs["a"].to_numpy()).transform("max")
    best_of_b = pd.Series(likeness).groupby(pairs["b"].to_numpy()).transform("max")
    mutual = (likeness == best_of_a.to_numpy()) & (likeness == best_of_b.to_numpy())
    kept: pd.DataFrame = pairs.loc[mutual].reset_index(drop=True)
    return kept


def _rows(
    a_table: pd.DataFrame, b_table: pd.DataFrame, pairs: pd.DataFrame, tolerance: float
) -> pd.DataFrame:
    parts = [_compare_metric(a_table, b_table, pairs, metric, tolerance) for metric in METRICS]
    rows = pd.concat(parts, ignore_index=True)
    for name in ("p", "p_better"):
        rows[name] = _adjusted(rows[name].to_numpy())
    factor = rows.pop("worse_by").to_numpy()
    p_better = rows.pop("p_better").to_numpy()
    once = rows["once"].to_numpy()
    bound = 1 + tolerance
    worse = np.where(once, factor > bound, rows["p"] <= FALSE_DISCOVERY_RATE)
    better = np.where(once, factor < 1 / bound, p_better <= FALSE_DISCOVERY_RATE)
    few = rows.pop("few").to_numpy(dtype=bool)
    same = once | ((rows["low"] >= 1 / bound) & (rows["high"] <= bound))
    chosen = (Verdict.TOO_FEW, Verdict.WORSE, Verdict.BETTER, Verdict.SAME)
    rows["verdict"] = np.select(
        [few, worse, better, same], [v.value for v in chosen], Verdict.NOISE.value
    )
    order = np.lexsort((-np.abs(np.log(rows["ratio"].to_numpy())), few))
    return rows.iloc[order].reset_index(drop=True)


def _compare_metric(
    a_table: pd.DataFrame,
    b_table: pd.DataFrame,
    pairs: pd.DataFrame,
    metric: Metric,
    tolerance: float,
) -> pd.DataFrame:
    """Return one metric of all pairs that have it on both sides."""
    a, b = (
        Sample.from_table(table.iloc[pairs[side]], metric.column)
        for table, side in ((a_table, "a"), (b_table, "b"))
    )
    ratio = statistics.welch_ratio(b, a)
    worse = (a, b) if metric.higher_is_better else (b, a)
    few = np.zeros(len(pairs), dtype=bool)
    if metric in PERCENTILES:
        for table, side in ((a_table, "a"), (b_table, "b")):
            requests = as_floats(table["requests_min"])[pairs[side]]
            few |= statistics.too_few_requests(requests, PERCENTILES[metric])
    p = statistics.ratio_p_value(*worse, 1 + tolerance)
    p_better = statistics.ratio_p_value(*worse[::-1], 1 + tolerance)
    known = np.isfinite(ratio.value)
    columns = {
        "a": pairs["a"].to_numpy(),
        "b": pairs["b"].to_numpy(),
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "worse_by": 1 / ratio.value if metric.higher_is_better else ratio.value,
        # A p-value more makes the correction stricter for all others.
        "p": np.where(few, np.nan, p),
        "p_better": np.where(few, np.nan, p_better),
        "few": few,
        "once": ~np.isfinite(ratio.low),
    }
    found = pd.DataFrame({name: values[known] for name, values in columns.items()})
    found["metric"] = metric.column
    return found


def _adjusted(p: Array) -> Array:
    adjusted = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        adjusted[known] = stats.false_discovery_control(p[known])
    return adjusted


def _differing(
    a_table: pd.DataFrame, b_table: pd.DataFrame, pairs: pd.DataFrame
) -> dict[str, list[tuple[Any, Any]]]:
    found = {}
    for name in dict.fromkeys(ALIKE):
        values = pd.DataFrame(
            {
                "a": a_table[name].iloc[pairs["a"]].to_numpy(dtype=object),
                "b": b_table[name].iloc[pairs["b"]].to_numpy(dtype=object),
            }
        ).drop_duplicates()
        changes = [(row["a"], row["b"]) for row in plain_rows(values, range(len(values)))]
        if changes := [(was, now) for was, now in changes if was != now]:
            found[name] = changes
    return found
