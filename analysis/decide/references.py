"""Whether results are as their campaign expects, given metrics with tolerances per GPU and model.

As in ReFrame, a tolerance is a fraction of what is expected, below and above it. Held against it is
the mean over the repeats of a configuration in the latest session of its pool. A mean of those that
are left does not meet a reference where a repeat failed, and a point that was planned and is not in
the results, or not with all of its repeats, was not measured.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.decide.sessions import session_numbers
from hpcbench.analysis.summary import statistics
from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    CONFIGURATION_INPUTS,
    group_numbers,
    normalised,
    plain_rows,
)
from hpcbench.analysis.summary.configuration_names import device_name, short_name
from hpcbench.analysis.summary.invalid_rows import is_of_server, without_invalid
from hpcbench.analysis.summary.number_format import format_interval, format_number
from hpcbench.analysis.summary.searches import without_steps
from hpcbench.records.columns import Status
from hpcbench.records.references import POINT_COLUMNS, Expectation

MOST_NAMED = 20
"""How many configurations are named."""


def reference_columns(expected: Sequence[Expectation]) -> tuple[str, ...]:
    """Return the columns that `check_references` needs.

    Parameters
    ----------
    expected
        What is expected.

    Returns
    -------
    tuple of str
        Names of columns; empty where nothing is expected.
    """
    if not expected:
        return ()
    about = (
        *("point_id", "run_id", "ended_at", "pool_gpu", "reason", "invalid_reasons"),
        *("repeat", "capacity_step"),
    )
    metrics = (each.metric for each in expected)
    return tuple(dict.fromkeys((*CONFIGURATION_INPUTS, *POINT_COLUMNS, *about, *metrics)))


class ReferenceOutcome(StrEnum):
    """What became of a reference.

    NOT_MET: also where a repeat failed. NOT_MEASURED: no valid measurement has the metric, or what
    is there would meet it, but lacks repeats that were planned.
    """

    MET = "met"
    NOT_MET = "not met"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Checked:
    """One expected metric of one configuration.

    Attributes
    ----------
    expected
        What was expected.
    row
        The configuration, from `statistics.join_groups`; None where a value is missing. With
        ``failed``, how many of its repeats did by the server's fault, the first ``reason``, and
        ``absent``, how many that were planned are not in the results.
    outcome
        Whether it was met.
    """

    expected: Expectation
    row: dict[str, Any]
    outcome: ReferenceOutcome


@dataclass(frozen=True)
class ReferencesCheck:
    """What became of the references of a campaign.

    Attributes
    ----------
    checked
        Each expected metric of each configuration that it is about; those that were not met first.
    elsewhere
        Expectations of GPUs that are not in these results, as of another site.
    absent
        Others that are about nothing in the latest sessions, and nothing that was planned.
    """

    checked: tuple[Checked, ...]
    elsewhere: tuple[Expectation, ...]
    absent: tuple[Expectation, ...] = ()

    def count(self, outcome: ReferenceOutcome) -> int:
        """Return how many have an outcome.

        Parameters
        ----------
        outcome
            The outcome.

        Returns
        -------
        int
            A number of expected metrics.
        """
        return sum(each.outcome == outcome for each in self.checked)

    @property
    def is_missed(self) -> bool:
        """Whether one was not met, or not measured."""
        return self.count(ReferenceOutcome.MET) < len(self.checked) or bool(self.absent)


def check_references(
    frame: pd.DataFrame,
    expected: Sequence[Expectation],
    planned: Sequence[Mapping[str, Any]] = (),
) -> ReferencesCheck:
    """Hold results against what their campaign expects.

    Parameters
    ----------
    frame
        Measurements with `reference_columns`, as `load_results` returns them.
    expected
        What is expected; with none, the frame may be anything.
    planned
        The points that were to be measured, from `hpcbench.records.references.read_planned`.

    Returns
    -------
    ReferencesCheck
        Of each configuration in the latest session of its pool, and of each point that was planned
        and is not there.
    """
    if not expected:
        return ReferencesCheck((), ())
    frame = without_steps(frame[_is_latest(frame)].reset_index(drop=True))
    applies = (frame["status"] != Status.NOT_APPLICABLE).to_numpy(dtype=bool)
    found = _measured(frame[applies].reset_index(drop=True), expected, planned)
    others = _points(frame, np.flatnonzero(~applies))
    known = [*found, *_absent(frame, planned, [each.metric for each in expected])]
    checked = [
        Checked(each, row, _outcome(each, row))
        for each in expected
        for row in known
        if each.is_about(row)
    ]
    order = list(ReferenceOutcome)
    checked.sort(key=lambda each: -order.index(each.outcome))
    about = {each.expected.name for each in checked}
    # Nothing is expected where a point does not apply.
    alone = [e for e in expected if e.name not in about and not any(map(e.is_about, others))]
    gpus = {*frame["gpu_name"].dropna().unique(), *frame["pool_gpu"].dropna().unique()}
    elsewhere = tuple(each for each in alone if each.gpus and each.gpus.isdisjoint(gpus))
    absent = tuple(each for each in alone if each not in elsewhere)
    return ReferencesCheck(tuple(checked), elsewhere, absent)


def _measured(
    frame: pd.DataFrame, expected: Sequence[Expectation], planned: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the configurations with their metrics, and how many repeats failed or are absent."""
    if frame.empty:
        return []
    lacking = _absent_repeats(frame, planned)
    points = zip(frame["pool"].astype(object), frame["point_id"].astype(object), strict=True)
    absent = np.array([lacking.get(key, 0) for key in points])
    by_server = frame["status"].isin([Status.FAILED, Status.TIMEOUT]) | is_of_server(frame)
    frame = without_invalid(frame)
    joined = normalised(frame)
    numbers = group_numbers(joined, CONFIGURATION)
    metrics = dict.fromkeys(each.metric for each in expected)
    table = statistics.join_groups(joined, numbers, tuple(metrics), CONFIGURATION)
    positions = table.pop("row").to_numpy()
    failed = np.flatnonzero(by_server.to_numpy(dtype=bool))
    table["failed"] = np.bincount(numbers[failed], minlength=len(table))
    table["absent"] = pd.Series(absent).groupby(numbers).max().to_numpy()
    # What is written last is the reason of the first of each that failed.
    texts = frame["reason"].astype(object).iloc[failed[::-1]]
    reasons = dict(zip(numbers[failed[::-1]], texts, strict=True))
    rows = plain_rows(table, range(len(table)))
    # What a server that failed did not say of itself, the other repeats did.
    return [
        point | row | {"reason": reasons.get(number, point["reason"])}
        for number, (row, point) in enumerate(zip(rows, _points(frame, positions), strict=True))
    ]


def _absent_repeats(
    frame: pd.DataFrame, planned: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, str], int]:
    """Return how many repeats that were planned are not there, of each point that lacks some."""
    there: dict[tuple[str, str], set[int]] = defaultdict(set)
    columns = (frame[name].astype(object) for name in ("pool", "point_id", "repeat"))
    for pool, point, repeat in zip(*columns, strict=True):
        there[pool, point].add(repeat)
    lacking = (
        (key := (row["pool"], row["point_id"]), row["planned"] - there[key]) for row in planned
    )
    return {key: len(repeats) for key, repeats in lacking if repeats}


def _points(frame: pd.DataFrame, positions: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    names = dict.fromkeys((*POINT_COLUMNS, "beside", "gpu_name", "pool_gpu", "reason", "point_id"))
    return plain_rows(frame[[*names]], positions)


def _absent(
    frame: pd.DataFrame, planned: Sequence[Mapping[str, Any]], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the points that were planned and are not there, as configurations without metrics."""
    pools, points = (frame[name].astype(object) for name in ("pool", "point_id"))
    there = set(zip(pools, points, strict=True))
    on = frame.dropna(subset=["gpu_name"]).drop_duplicates("pool")
    gpus = dict(zip(on["pool"].astype(object), on["gpu_name"].astype(object), strict=True))
    names = (f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high", "_n"))
    nothing = dict.fromkeys((*CONFIGURATION, *names, "gpu_name"))
    why = {"repeats": 0, "failed": 0, "reason": "the point is not in the results"}
    return [
        {
            **nothing,
            **row,
            **why,
            "absent": len(row["planned"]),
            "gpu_name": gpus.get(row["pool"]) or row["pool_gpu"],
        }
        for row in planned
        if (row["pool"], row["point_id"]) not in there
    ]


def _is_latest(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return which measurements are of the latest session of their pool."""
    places = group_numbers(frame, ["site", "pool"])
    sessions = session_numbers(frame)
    ended = frame["ended_at"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    last = pd.Series(ended).groupby(sessions).max().to_numpy()[sessions]
    newest = pd.Series(last).groupby(places).max().to_numpy()[places]
    return np.asarray(last == newest)


def _outcome(expected: Expectation, row: dict[str, Any]) -> ReferenceOutcome:
    value = row[expected.metric]
    if value is None:
        return ReferenceOutcome.NOT_MEASURED
    low, high = expected.limits
    if row["failed"] or not low <= value <= high:
        return ReferenceOutcome.NOT_MET
    return ReferenceOutcome.NOT_MEASURED if row["absent"] else ReferenceOutcome.MET


def reference_lines(found: ReferencesCheck) -> Iterator[str]:
    """Return what became of the references as lines of text.

    Parameters
    ----------
    found
        The check.

    Yields
    ------
    str
        The counts, then the configurations, those that were not met first; nothing where nothing
        is expected.
    """
    if not found.checked and not found.elsewhere and not found.absent:
        return
    counts = [(found.count(outcome), outcome) for outcome in ReferenceOutcome]
    texts = [f"{count} {outcome}" for count, outcome in counts if count]
    yield f"references: {', '.join(texts) or 'none is about these results'}"
    for each in found.checked[:MOST_NAMED]:
        yield f"  {reference_text(each)}"
    if len(found.checked) > MOST_NAMED:
        yield f"  and {len(found.checked) - MOST_NAMED} more; hpcbench check --json lists all"
    for expected in found.absent:
        about = f"nothing in these results is what {expected.name} is about"
        yield f"  {ReferenceOutcome.NOT_MEASURED}: {about}"
    for expected in found.elsewhere:
        about = " or ".join(sorted(expected.gpus))
        yield f"  nothing in these results for {expected.name}, of {about}"


def reference_text(each: Checked) -> str:
    """Return an expected metric and what was measured, in a sentence.

    Parameters
    ----------
    each
        The metric of a configuration.

    Returns
    -------
    str
        ``"not met: tagger, batch size 8, base (Tesla T4): throughput_infer_per_s is 70, expected
        90 or more"``.
    """
    row, metric = each.row, each.expected.metric
    where = f"{short_name(row)} ({device_name(row)})"
    value = format_interval(*(row[f"{metric}{end}"] for end in ("", "_low", "_high")))
    if row[metric] is None:
        value = "missing" if row["reason"] is None else f"missing ({row['reason']})"
    elif row["failed"]:
        why = "" if row["reason"] is None else f" ({row['reason']})"
        value += f" where {row['failed']} of {row['repeats']} repeats failed{why}"
    elif row["absent"]:
        value += f" where {row['absent']} more repeats were planned and are not in the results"
    return f"{each.outcome}: {where}: {metric} is {value}, expected {_limits(each.expected)}"


def _limits(expected: Expectation) -> str:
    low, high = map(format_number, expected.limits)
    if low == "-":
        return f"{high} or less"
    return f"{low} or more" if high == "-" else f"{low} to {high}"


def references_json(found: ReferencesCheck) -> list[dict[str, Any]]:
    """Return what became of the references for other programs.

    Parameters
    ----------
    found
        The check.

    Returns
    -------
    list of dict
        One for each expected metric of each configuration, and for each that is about nothing at
        all; None where a value is missing.
    """
    nothing: dict[str, Any] = defaultdict(lambda: None)
    absent = [Checked(each, nothing, ReferenceOutcome.NOT_MEASURED) for each in found.absent]
    names = ("site", "pool", "point_id", "model", "gpu_name", "variant", "batch_size")
    return [
        {
            "reference": each.expected.name,
            **{name: each.row[name] for name in (*names, "concurrency", "request_rate")},
            "metric": each.expected.metric,
            **{
                name: each.row[f"{each.expected.metric}{ending}"]
                for name, ending in {"mean": "", "low": "_low", "high": "_high", "n": "_n"}.items()
            },
            "expected": each.expected.value,
            **{
                name: limit if isfinite(limit) else None
                for name, limit in zip(("at_least", "at_most"), each.expected.limits, strict=True)
            },
            "failed": each.row["failed"],
            "absent": each.row["absent"],
            "outcome": each.outcome.value,
        }
        for each in (*found.checked, *absent)
    ]
