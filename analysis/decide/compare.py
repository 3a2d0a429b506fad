"""What changed between two sets of results: another Triton, driver, GPU or site, or last month.

`hpcbench.analysis.decide.pairing` says what is compared with what, and
`hpcbench.analysis.decide.changes` what is worse. All tests of one comparison together find
something worse in at most ALARM_RATE of comparisons in which nothing changed, so that a nightly one
of a thousand unchanged configurations raises no alarm. What fails more often than before, or has
stopped to settle, is worse, too, if chance does not explain it
(`hpcbench.analysis.decide.outcomes`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.decide.changes import ALARM_RATE, Shift, Verdict, metric_changes
from hpcbench.analysis.decide.outcomes import Flags, goes_wrong_more_often
from hpcbench.analysis.decide.pairing import (
    WORK,
    differing_values,
    first_difference,
    pair_configurations,
)
from hpcbench.analysis.decide.session_values import most_comparable
from hpcbench.analysis.decide.sessions import Side, session_numbers
from hpcbench.analysis.summary import limits, statistics
from hpcbench.analysis.summary.assumptions import check_repeats
from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    CONFIGURATION_INPUTS,
    Array,
    Numbers,
    as_floats,
    group_numbers,
    normalised,
    strings_as_categories,
)
from hpcbench.analysis.summary.invalid_rows import is_left_out, is_of_server
from hpcbench.analysis.summary.limits import ENERGY, LATENCY, THROUGHPUT, Metric
from hpcbench.analysis.summary.same_servers import ALSO, with_one_name_in_both
from hpcbench.analysis.summary.searches import is_search, without_steps
from hpcbench.errors import BadInput
from hpcbench.records.columns import MEASURED, Status

MEDIAN = Metric("latency_p50_ms", "p50 latency", "ms", higher_is_better=False, step=LATENCY.step)
METRICS = (THROUGHPUT, MEDIAN, LATENCY, ENERGY)
"""What is compared. Records have the median and p99 whatever percentile was requested."""

METRIC_NAMES = {metric.column: metric.name for metric in METRICS}

PERCENTILES = {MEDIAN: 50, LATENCY: 99}

COMPARE_COLUMNS = tuple(
    dict.fromkeys(
        (
            *(*CONFIGURATION_INPUTS, *limits.METRIC_COLUMNS),
            *("latency_p50_us", "point_id", "reason", "invalid_reasons", "node", "run_id"),
            "capacity_step",
        )
    )
)
"""The columns of `hpcbench.records.columns` that `compare_results` needs."""

_ENOUGH = 20_000
"""Configurations that say whether repeats are normal and independent."""


@dataclass(frozen=True)
class Comparison:
    """What `compare_results` found.

    Attributes
    ----------
    a_table, b_table
        The configurations of A and of B, from `statistics.join_groups`.
    tolerance
        The fraction by which a metric may get worse.
    rows
        A row per pair of configurations and metric, what changed most first: ``a`` and ``b``,
        positions in the tables; ``metric``, a column of METRICS; ``ratio`` (b / a, without the
        shift where one was taken off) with ``low`` and ``high``, the interval that the verdict
        used; ``p``, the adjusted p-value of getting worse; ``verdict``; ``once``, that it was
        measured once on a side, so that its spread is that of its neighbours; ``few``, that it is a
        percentile of too few requests; ``detectable``, the ratio of the smallest change for the
        worse that would have been found; ``repeats``, how many on each side would find a change of
        twice the tolerance.
    shifts
        What all configurations of a place share.
    lost
        Pairs (a, b) that were measured in A, and tried without success in B.
    gained
        Pairs (a, b) that were measured in B, and tried without success in A.
    failing
        Pairs that were measured on both sides, and failed more often in B.
    unsettled
        Pairs that no longer settle, or less often in B.
    by_chance
        Pairs that failed or did not settle more often in B, which chance explains, or where nobody
        can tell, as of one or two configurations: none of those above.
    perhaps_lost
        Those of them that were measured in A, and tried without success in B, as often as chance
        may do so: of many that were tried once, nobody can tell.
    only_a, only_b
        Positions of configurations without a counterpart.
    differing
        The pairs of values of each column in which paired configurations differ.
    pairs
        How many pairs of configurations were measured on both sides.
    sessions
        How many sessions A and B have; None where it is not known.
    comparable
        How many of them measured enough of the same configurations, so that their spread is known.
    not_counted
        For A and B, how many measurements of other sessions are left out.
    nodes
        The nodes of A and of B.
    invalid
        For A and B, how many measurements were left out by the reason.
    warnings
        What does not hold of the repeats.
    """

    a_table: pd.DataFrame
    b_table: pd.DataFrame
    tolerance: float
    rows: pd.DataFrame
    shifts: Sequence[Shift]
    lost: pd.DataFrame
    gained: pd.DataFrame
    failing: pd.DataFrame
    unsettled: pd.DataFrame
    by_chance: pd.DataFrame
    perhaps_lost: pd.DataFrame
    only_a: Numbers
    only_b: Numbers
    differing: dict[str, list[tuple[Any, Any]]]
    pairs: int
    sessions: tuple[int | None, int | None]
    comparable: tuple[int, int]
    not_counted: tuple[int, int]
    nodes: tuple[frozenset[str], frozenset[str]]
    invalid: tuple[dict[str, int], dict[str, int]]
    warnings: Sequence[str]

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
    def outcomes(self) -> dict[str, pd.DataFrame]:
        """The pairs that are worse whatever their metrics, by what became of them."""
        return {
            "no longer measured": self.lost,
            "fails more often": self.failing,
            "no longer settles": self.unsettled,
        }

    @property
    def is_worse(self) -> bool:
        """Whether a metric got worse, or something fails or no longer settles."""
        shifted = any(shift.verdict == Verdict.WORSE for shift in self.shifts)
        return bool(self.count(Verdict.WORSE) or shifted or any(map(len, self.outcomes.values())))


def compare_results(
    a: pd.DataFrame,
    b: pd.DataFrame,
    tolerance: float,
    same: Sequence[str] = CONFIGURATION,
) -> Comparison:
    """Compare results B with the reference A.

    Parameters
    ----------
    a, b
        Measurements with COMPARE_COLUMNS, as `load_results` returns them; ``run_id`` may be
        lacking. Rows that are not valid are left out, and so are the steps of searches.
    tolerance
        A fraction: 0.05 accepts a ratio of up to 1.05 for the worse.
    same
        Columns in which repeats of A agree.

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
    (a, invalid_a), (b, invalid_b) = _valid(a), _valid(b)
    a, b = with_one_name_in_both(a, b)
    of_a, of_b = side_of_results(a, same), side_of_results(b)
    pairs = pair_configurations(of_a.table, of_b.table)
    if pairs.empty:
        why = first_difference(of_a.table, of_b.table)
        raise BadInput(
            f"no configuration of A has a counterpart in B{why}",
            f"they must agree in {', '.join(WORK)}",
        )
    in_a = _served(of_a.table)[pairs["a"]]
    in_b = _served(of_b.table)[pairs["b"]]
    both = pairs[in_a & in_b].reset_index(drop=True)
    if not in_a.any() and not in_b.any():
        raise BadInput("nothing was measured, neither in A nor in B", "hpcbench status shows why")
    failing, unsettled, by_chance = _outcomes(of_a.table, of_b.table, pairs, (in_a, in_b))
    rows, shifts = _changes(of_a, of_b, both, tolerance)
    comparable, not_counted = most_comparable(of_a, of_b, both, THROUGHPUT.column)
    return Comparison(
        a_table=of_a.table,
        b_table=of_b.table,
        tolerance=tolerance,
        rows=rows,
        shifts=shifts,
        lost=pairs[in_a & ~in_b & failing],
        gained=pairs[~in_a & in_b],
        failing=pairs[in_a & in_b & failing],
        unsettled=pairs[unsettled],
        by_chance=pairs[by_chance],
        perhaps_lost=pairs[in_a & ~in_b & by_chance],
        only_a=np.setdiff1d(np.arange(len(of_a.table)), pairs["a"]),
        only_b=np.setdiff1d(np.arange(len(of_b.table)), pairs["b"]),
        differing=differing_values(of_a.table, of_b.table, both),
        pairs=len(both),
        sessions=(_sessions(a), _sessions(b)),
        comparable=comparable,
        not_counted=not_counted,
        nodes=(_nodes(a), _nodes(b)),
        invalid=(invalid_a, invalid_b),
        warnings=_warnings(of_a, of_b),
    )


def _valid(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the rows that may be believed, and how many were left out by the reason.

    Where the server itself is the reason, the measurement stays, as one that failed: who left it
    out would call results the same in which requests fail now.
    """
    frame = without_steps(frame.reset_index(drop=True))
    doubted = is_left_out(frame)
    if not doubted.any():
        return frame, {}
    counts = frame["invalid_reasons"].astype(str)[doubted].value_counts()
    if doubted.all():
        raise BadInput(
            f"none of the {len(frame)} measurements is valid: {counts.index[0]}",
            "hpcbench check says more of each",
        )
    failed = doubted & is_of_server(frame)
    status = frame["status"].astype(object).mask(failed, str(Status.FAILED)).astype("string")
    left = frame.assign(status=status)[~doubted | failed].reset_index(drop=True)
    return left, {str(reason): int(count) for reason, count in counts.items()}


def side_of_results(frame: pd.DataFrame, same: Sequence[str] = CONFIGURATION) -> Side:
    """Return the configurations of results with what is compared of them.

    Parameters
    ----------
    frame
        n measurements with COMPARE_COLUMNS, and ALSO where variants have been given one name.
    same
        Columns in which repeats agree.

    Returns
    -------
    Side
        With METRICS, and the number of requests.
    """
    frame = strings_as_categories(frame)
    metrics = limits.metric_values(frame, {})
    metrics[MEDIAN.column] = as_floats(frame["latency_p50_us"]) / 1000
    for latency in (MEDIAN, LATENCY):
        # A search goes up to a limit: its latency says how near it came, and nothing of the server.
        metrics[latency.column] = np.where(is_search(frame), np.nan, metrics[latency.column])
    names = [metric.column for metric in METRICS]
    added = {name: metrics[name] for name in names} | {
        "requests": as_floats(frame["request_count"])
    }
    frame = normalised(frame.assign(**added))
    numbers = group_numbers(frame, same)
    table = statistics.join_groups(frame, numbers, [*added], CONFIGURATION)
    rows = table.pop("row").to_numpy()
    table["point_id"] = frame["point_id"].iloc[rows].to_numpy(dtype=object)
    table[ALSO] = frame[ALSO].iloc[rows].to_numpy(dtype=object) if ALSO in frame else None
    table["reason"] = _first_reasons(frame["reason"], numbers, len(table))
    measured = frame["status"].isin(sorted(MEASURED)).to_numpy(dtype=bool)
    values = {name: np.where(measured, as_floats(frame[name]), np.nan) for name in names}
    return Side(table, numbers, session_numbers(frame), values)


def _first_reasons(reasons: pd.Series, numbers: Numbers, count: int) -> npt.NDArray[np.object_]:
    """Return the first reason of each configuration, whichever of its repeats gave it."""
    known = np.flatnonzero(reasons.notna())
    which, first = np.unique(numbers[known], return_index=True)
    found = np.full(count, None, dtype=object)
    found[which] = reasons.iloc[known[first]].to_numpy(dtype=object)
    return found


def _served(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return where there is a throughput to compare: a server that answers nothing has none."""
    dead = as_floats(table[THROUGHPUT.column]) <= 0
    return np.asarray((table["measured"].to_numpy() > 0) & ~dead, dtype=bool)


def _outcomes(
    a_table: pd.DataFrame, b_table: pd.DataFrame, pairs: pd.DataFrame, served: tuple[Flags, Flags]
) -> tuple[Flags, Flags, Flags]:
    """Return which pairs fail more often in B, which settle less often, and which by chance."""
    tried, failed, unsettled, measured = [], [], [], []
    for table, side, serves in ((a_table, "a", served[0]), (b_table, "b", served[1])):
        n, there, unstable = (
            as_floats(table[name])[pairs[side]] for name in ("repeats", "measured", "unstable")
        )
        tried.append(n)
        failed.append(n - np.where(serves, there, 0.0))
        measured.append(there)
        unsettled.append(unstable)
    some = served[0] | served[1]
    both = served[0] & served[1]
    failing, settling = np.zeros(len(pairs), dtype=bool), np.zeros(len(pairs), dtype=bool)
    failing[some] = goes_wrong_more_often(_pair(tried, some), _pair(failed, some))
    settling[both] = goes_wrong_more_often(_pair(measured, both), _pair(unsettled, both))
    more = some & (failed[1] * tried[0] > failed[0] * tried[1])
    more |= both & (unsettled[1] * measured[0] > unsettled[0] * measured[1])
    return failing, settling, more & ~failing & ~settling


def _pair(sides: Sequence[Array], which: Flags) -> tuple[Array, Array]:
    return sides[0][which], sides[1][which]


def _changes(
    a: Side, b: Side, pairs: pd.DataFrame, tolerance: float
) -> tuple[pd.DataFrame, list[Shift]]:
    """Return what became of every metric, what changed most first."""
    there = [
        metric
        for metric in METRICS
        if np.isfinite(as_floats(a.table[metric.column])[pairs["a"]]).any()
        and np.isfinite(as_floats(b.table[metric.column])[pairs["b"]]).any()
    ]
    parts, shifts = [], []
    for metric in there or METRICS[:1]:
        rows, found = metric_changes(a, b, pairs, metric, tolerance, ALARM_RATE / len(there or [1]))
        few = np.zeros(len(rows), dtype=bool)
        if metric in PERCENTILES and len(rows):
            for side, x in ((a, "a"), (b, "b")):
                requests = as_floats(side.table["requests_min"])[rows[x]]
                few |= statistics.too_few_requests(requests, PERCENTILES[metric])
        parts.append(rows.assign(few=few))
        shifts += found
    rows = pd.concat(parts, ignore_index=True)
    order = np.argsort(-np.abs(np.log(as_floats(rows["ratio"]))), kind="stable")
    return rows.iloc[order].reset_index(drop=True), shifts


def _sessions(frame: pd.DataFrame) -> int | None:
    if "run_id" not in frame or frame["run_id"].isna().any():
        return None
    return int(frame["run_id"].nunique())


def _nodes(frame: pd.DataFrame) -> frozenset[str]:
    return frozenset(frame["node"].dropna().unique())


def _warnings(a: Side, b: Side) -> list[str]:
    """Return what does not hold of the repeats of a side, each once."""
    found: dict[str, list[str]] = {}
    for name, side in (("A", a), ("B", b)):
        # Each session is a row of repeats of its own.
        groups = side.numbers * (int(side.sessions.max()) + 1) + side.sessions
        some = side.numbers < _ENOUGH
        for metric in (THROUGHPUT, LATENCY):
            for text in check_repeats(side.measured[metric.column][some], groups[some]).warnings:
                found.setdefault(text, []).append(f"{metric.name} of {name}")
    return [f"{', '.join(where)}: {text}" for text, where in found.items()]
