"""A comparison in sentences: what was compared, what all share, what failed, how it ended."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.decide.changes import Shift, Verdict
from hpcbench.analysis.decide.compare import METRIC_NAMES, METRICS, Comparison
from hpcbench.analysis.decide.outcomes import TOO_FEW
from hpcbench.analysis.summary.configuration import as_floats, plain_rows
from hpcbench.analysis.summary.configuration_names import short_name
from hpcbench.analysis.summary.limits import THROUGHPUT
from hpcbench.analysis.summary.number_format import format_interval
from hpcbench.analysis.summary.statistics import Counts

MOST_NAMED = 20
"""Configurations that are named of each kind of failure."""

DOUBTFUL = "cannot tell whether by chance"
"""What is said of configurations that went wrong more often in B, for all that anybody knows."""

MOST_LACKING = 5
"""Configurations that are named of those without throughput."""


def comparison_summary(found: Comparison, names: tuple[str, str]) -> list[str]:
    """Return what was compared, what differs between the two, and how it ended.

    Parameters
    ----------
    found
        The comparison.
    names
        How the user calls A and B.

    Returns
    -------
    list of str
        Lines.
    """
    return [
        f"A: {names[0]}",
        f"B: {names[1]}",
        _counts(found),
        *_tried(found),
        *_left_out(found),
        *_without_throughput(found),
        *(f"{name.replace('_', ' ')}: {_changes(c)}" for name, c in found.differing.items()),
        _verdicts(found),
        *map(_shift, found.shifts),
        *_confounded(found),
        *_inconclusive(found),
        *_once_and_few(found),
        *(f"caution: {text}" for text in found.warnings),
        *_failures(found),
    ]


def _counts(found: Comparison) -> str:
    alone = f"{len(found.only_a)} in A only, {len(found.only_b)} in B only"
    return f"{found.pairs} configurations in both; {alone}"


def _tried(found: Comparison) -> list[str]:
    """Return how many measurements were tried, and what became of them, where not all settled."""
    columns = ("repeats", "measured", "unstable")
    sides = [
        f"{name} {_ended({column: table[column].sum() for column in columns})}"
        for name, table in (("A", found.a_table), ("B", found.b_table))
    ]
    return [f"measurements: {'; '.join(sides)}"]


def _left_out(found: Comparison) -> list[str]:
    return [
        f"left out of {name}, because not valid: "
        + "; ".join(f"{count} ({reason})" for reason, count in reasons.items())
        for name, reasons in zip("AB", found.invalid, strict=True)
        if reasons
    ]


def _without_throughput(found: Comparison) -> list[str]:
    """Return how many measurements say that they went well, and have no throughput."""
    lines = []
    for name, table in (("A", found.a_table), ("B", found.b_table)):
        lacking = as_floats(table["measured"]) - as_floats(table[f"{THROUGHPUT.column}_n"])
        at = np.flatnonzero(lacking > 0)
        if len(at):
            shown = ", ".join(
                f"({short_name(row)})" for row in plain_rows(table, at[:MOST_LACKING])
            )
            more = f" and {len(at) - MOST_LACKING} more" if len(at) > MOST_LACKING else ""
            lines.append(
                f"measured, but without throughput, which is not compared: {lacking.sum():.0f} of "
                f"{name}: {shown}{more}"
            )
    return lines


def _changes(changes: Sequence[tuple[Any, Any]]) -> str:
    texts = [f"{_short(was)} -> {_short(now)}" for was, now in changes[:3]]
    return "; ".join(texts) + (f"; and {len(changes) - 3} more" if len(changes) > 3 else "")


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _verdicts(found: Comparison) -> str:
    counts = [(found.count(verdict), verdict.value) for verdict in Verdict]
    verdicts = ", ".join(f"{count} {verdict}" for count, verdict in counts if count)
    return f"tolerance {found.tolerance:.1%}; metrics: {verdicts or 'none'}"


def _shift(shift: Shift) -> str:
    if shift.groups:
        low, high = (f"{g.configurations} moved by {g.ratio - 1:+.1%}" for g in shift.groups)
        return (
            f"{METRIC_NAMES[shift.metric]}: cannot tell what is the night and what changed: of the "
            f"{shift.configurations} configurations of {shift.place} {low}, {high}; "
            f"{_night_taken(shift)}{_blocks(shift)}"
        )
    ratio = format_interval(shift.ratio, shift.low, shift.high)
    shared = (
        f"{METRIC_NAMES[shift.metric]}: the {shift.configurations} configurations of "
        f"{shift.place} share B / A = {ratio}: {shift.verdict.value}"
    )
    night = "" if np.isnan(shift.night_std) else f", sessions differ by {shift.night_std:.1%} (SD)"
    off = "taken off below" if shift.taken_off else "kept below"
    return f"{shared}{night}; {off}{_blocks(shift)}"


def _night_taken(shift: Shift) -> str:
    """Return which night the configurations were judged by that do not agree on one."""
    taken = f"{shift.ratio - 1:+.1%}"
    if shift.from_larger:
        low, high = shift.groups
        fell = low.configurations > high.configurations
        (metric,) = (metric for metric in METRICS if metric.column == shift.metric)
        other = (
            "the larger got worse: none is called better or the same that would not be so then, too"
            if fell == metric.higher_is_better
            else "the larger got better"
        )
        return (
            f"{high.ratio / low.ratio - 1:.1%} apart; judged as if the night were that of the "
            f"larger group, {taken}; if it was that of the smaller, {other}"
        )
    few = "; of so few, none is called better or the same" if shift.is_open else ""
    return f"judged as if the night were {taken}, so that what got worse is not missed{few}"


def _blocks(shift: Shift) -> str:
    """Return, as a clause, how sessions that measured other configurations were aligned."""
    if not shift.blocks:
        return ""
    named = [f"{b.configurations} moved by {b.ratio - 1:+.1%}" for b in shift.blocks[:MOST_LACKING]]
    more = f", and {len(shift.blocks) - len(named)} more" if len(shift.blocks) > len(named) else ""
    return (
        "; sessions that share too few configurations are nights of their own, and each was taken "
        f"off its own: {', '.join(named)}{more}"
    )


def _confounded(found: Comparison) -> list[str]:
    """Return which differences between A and B nothing can separate from what is compared."""
    lines = []
    a, b = found.sessions
    of_a, of_b = found.comparable
    if a is None or b is None:
        lines.append("sessions: not known; a difference of nights cannot be excluded")
    elif a == b == 1:
        lines.append(
            "sessions: one each; a difference of nights cannot be excluded (measure A and B in "
            "several, or compare --against-history)"
        )
    elif max(of_a, of_b) <= 1:
        lines.append(
            f"sessions: {a} of A, {b} of B, which measured too few of the same configurations to "
            "say how far nights differ; a difference of nights cannot be excluded (measure all in "
            f"several){_not_counted(found)}"
        )
    else:
        known = (
            "their spread is in the errors"
            if min(of_a, of_b) > 1
            else "a difference of nights as between those of "
            f"{'A' if of_a > 1 else 'B'} is in the errors, a rarer one cannot be excluded"
        )
        lines.append(f"sessions: {a} of A, {b} of B; {known}")
        if (of_a, of_b) != (a, b):
            lines[-1] += (
                f"; {of_a} of A and {of_b} of B measured enough of the same configurations to be "
                f"compared{_not_counted(found)}"
            )
    nodes_a, nodes_b = found.nodes
    if len(nodes_a) == len(nodes_b) == 1 and nodes_a != nodes_b:
        (node_a,), (node_b,) = nodes_a, nodes_b
        lines.append(f"nodes: {node_a} -> {node_b}; a difference of nodes cannot be excluded")
    return lines


def _not_counted(found: Comparison) -> str:
    """Return how many measurements of such sessions are left out, as a clause."""
    counts = [f"{n} of {side}" for n, side in zip(found.not_counted, "AB", strict=True) if n]
    return f"; measurements of such sessions that count for nothing: {', '.join(counts)}" * any(
        counts
    )


def _inconclusive(found: Comparison) -> list[str]:
    """Return what the undecided could have found, and how many repeats would do."""
    rows = found.rows[found.rows["verdict"] == Verdict.INCONCLUSIVE]
    lines = []
    for metric in METRICS:
        of = rows[rows["metric"] == metric.column]
        change = np.abs(as_floats(of["detectable"]) - 1)
        repeats = as_floats(of["repeats"])
        if not np.isfinite(change).any():
            continue
        text = f"inconclusive, {metric.name}: a change of {np.nanmedian(change):.1%} (median) "
        text += "would have been found"
        # A change of just the tolerance is on the bound, and never found to be beyond it.
        twice = 2 * found.tolerance
        if np.isfinite(repeats).any() and np.nanmedian(change) > twice:
            unit = "sessions" if max(found.comparable) > 1 else "repeats"
            text += (
                f"; {np.nanmedian(repeats):.0f} {unit} a side would find one of "
                f"twice the tolerance, {twice:.1%}"
            )
        lines.append(text)
    without = int((rows["verdict"].eq(Verdict.INCONCLUSIVE) & rows["low"].isna()).sum())
    if without:
        lines.append(
            f"without any spread to judge by: {without}; measure at least one configuration twice"
        )
    return lines


def _once_and_few(found: Comparison) -> list[str]:
    lines = []
    once = found.rows["once"].astype(bool) & found.rows["low"].notna()
    if once.any():
        lines.append(
            f"measured once on a side: {int(once.sum())}; their spread is that of their neighbours"
        )
    few = int(found.rows["few"].astype(bool).sum())
    if few:
        lines.append(f"percentiles of few requests: {few}; they are judged by their spread")
    return lines


def _failures(found: Comparison) -> list[str]:
    lines = [line for what, pairs in found.outcomes.items() for line in _named(found, pairs, what)]
    # Of so few, nobody knows the rate of failures that chance would have.
    few = len(found.a_table) - len(found.only_a) <= TOO_FEW
    unsure = found.by_chance if few else found.perhaps_lost
    lines += _named(found, unsure, DOUBTFUL)
    if (as_floats(found.b_table["repeats"])[found.perhaps_lost["b"]] == 1).any():
        lines.append(
            "of those that are tried once some may fail by chance: measure each twice, or compare "
            "--against-history with ten sessions or more"
        )
    if counted := len(found.by_chance) - len(unsure):
        lines.append(
            "failed or did not settle more often in B, by chance as far as one can tell: "
            f"{counted} configurations"
        )
    if len(found.gained):
        lines.append(f"{len(found.gained)} configurations failed in A and were measured in B")
    return lines


def _named(found: Comparison, pairs: pd.DataFrame, what: str) -> Iterable[str]:
    shown = pairs.head(MOST_NAMED)
    a_rows = plain_rows(found.a_table, shown["a"].to_numpy())
    b_rows = plain_rows(found.b_table, shown["b"].to_numpy())
    for a, b in zip(a_rows, b_rows, strict=True):
        text = f"{what}: {short_name(a)}"
        why = f": {b['reason']}" if b["reason"] is not None else ""
        ended = "" if pairs is found.lost else f": {_ended(a)} in A, {_ended(b)} in B"
        yield f"{text}{ended}{why}"
    if len(pairs) > MOST_NAMED:
        yield f"and {len(pairs) - MOST_NAMED} more: {what}"


def _ended(row: Mapping[str, Any]) -> str:
    found = Counts.of(row)
    return f"{found.tried} tried, {found.measured} measured, {found.settled} settled"
