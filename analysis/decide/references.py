"""Whether results are as their campaign expects, given metrics with tolerances per GPU and model.

As in ReFrame, a tolerance is a fraction of what is expected, below and above it. Held against it is
the mean over the repeats of a configuration in the latest session of its pool.
"""

from collections.abc import Iterator, Sequence
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
from hpcbench.analysis.summary.invalid_rows import without_invalid
from hpcbench.analysis.summary.number_format import format_interval, format_number
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
    about = ("point_id", "run_id", "ended_at", "pool_gpu", "reason", "invalid_reasons")
    metrics = (each.metric for each in expected)
    return tuple(dict.fromkeys((*CONFIGURATION_INPUTS, *POINT_COLUMNS, *about, *metrics)))


class Outcome(StrEnum):
    """What became of a reference. NOT_MEASURED: no valid measurement has the metric."""

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
        The configuration, from `statistics.join_groups`; None where a value is missing.
    outcome
        Whether it was met.
    """

    expected: Expectation
    row: dict[str, Any]
    outcome: Outcome


@dataclass(frozen=True)
class ReferencesCheck:
    """What became of the references of a campaign.

    Attributes
    ----------
    checked
        Each expected metric of each configuration that it is about; those that were not met first.
    without_results
        Expectations that are about nothing in the latest sessions, as of a GPU of another site.
    """

    checked: tuple[Checked, ...]
    without_results: tuple[Expectation, ...]

    def count(self, outcome: Outcome) -> int:
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
        return self.count(Outcome.MET) < len(self.checked)


def check_references(frame: pd.DataFrame, expected: Sequence[Expectation]) -> ReferencesCheck:
    """Hold results against what their campaign expects.

    Parameters
    ----------
    frame
        Measurements with `reference_columns`, as `load_results` returns them.
    expected
        What is expected; with none, the frame may be anything.

    Returns
    -------
    ReferencesCheck
        Of each configuration in the latest session of its pool.
    """
    if not expected:
        return ReferencesCheck((), ())
    frame = frame[_is_latest(frame) & (frame["status"] != Status.NOT_APPLICABLE)]
    frame = without_invalid(frame.reset_index(drop=True))
    joined = normalised(frame)
    numbers = group_numbers(joined, CONFIGURATION)
    metrics = dict.fromkeys(each.metric for each in expected)
    table = statistics.join_groups(joined, numbers, tuple(metrics), CONFIGURATION)
    positions = table.pop("row").to_numpy()
    rows = plain_rows(table, range(len(table)))
    points = plain_rows(frame[[*POINT_COLUMNS, "pool_gpu", "reason", "point_id"]], positions)
    found: list[Checked] = []
    alone: list[Expectation] = []
    known = [row | point for row, point in zip(rows, points, strict=True)]
    for each in expected:
        about = [row for row in known if each.is_about(row)]
        found += [Checked(each, row, _outcome(each, row)) for row in about]
        alone += [] if about else [each]
    order = list(Outcome)
    found.sort(key=lambda each: -order.index(each.outcome))
    return ReferencesCheck(tuple(found), tuple(alone))


def _is_latest(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return which measurements are of the latest session of their pool."""
    places = group_numbers(frame, ["site", "pool"])
    sessions = session_numbers(frame)
    ended = frame["ended_at"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    last = pd.Series(ended).groupby(sessions).max().to_numpy()[sessions]
    newest = pd.Series(last).groupby(places).max().to_numpy()[places]
    return np.asarray(last == newest)


def _outcome(expected: Expectation, row: dict[str, Any]) -> Outcome:
    value = row[expected.metric]
    if value is None:
        return Outcome.NOT_MEASURED
    low, high = expected.limits
    return Outcome.MET if low <= value <= high else Outcome.NOT_MET


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
    if not found.checked and not found.without_results:
        return
    counts = [(found.count(outcome), outcome) for outcome in Outcome]
    texts = [f"{count} {outcome}" for count, outcome in counts if count]
    yield f"references: {', '.join(texts) or 'none is about these results'}"
    for each in found.checked[:MOST_NAMED]:
        yield f"  {reference_text(each)}"
    if len(found.checked) > MOST_NAMED:
        yield f"  and {len(found.checked) - MOST_NAMED} more; hpcbench check --json lists all"
    for expected in found.without_results:
        about = f", of {' or '.join(sorted(expected.gpus))}" if expected.gpus else ""
        yield f"  nothing in these results for {expected.name}{about}"


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
    if each.outcome == Outcome.NOT_MEASURED:
        value = "missing" if row["reason"] is None else f"missing ({row['reason']})"
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
        One for each expected metric of each configuration; None where a number is missing.
    """
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
            "outcome": each.outcome.value,
        }
        for each in found.checked
    ]
