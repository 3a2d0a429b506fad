"""How the measurements of a run ended, in words: each reason once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hpcbench.cli.lines import folded, folded_phrases
from hpcbench.cli.point_text import POINT, Row, counted, differing, point_phrases
from hpcbench.records.columns import Key, Status

MOST_POINTS = 5
"""How many points are listed below a reason that they share."""


def with_status(
    planned: Sequence[Row],
    statuses: Mapping[Key, tuple[str, str | None]],
    running: Sequence[Sequence[Any]] = (),
) -> list[dict[str, Any]]:
    """Return the rows of a plan with the ``status`` and the ``reason`` of each.

    Parameters
    ----------
    planned
        What a run set out to measure.
    statuses
        How each measurement ended, and why.
    running
        The keys of those that are at work.

    Returns
    -------
    list of dict
        The rows; what has no record is ``missing``, or ``running``.
    """
    at_work = {tuple(key) for key in running}
    rows = []
    for row in planned:
        key = row["point_id"], row["pool"], row["repeat"]
        unfinished = ("running" if key in at_work else "missing", None)
        status, reason = statuses.get(key, unfinished)
        rows.append({**row, "status": status, "reason": reason})
    return rows


def counts_text(rows: Sequence[Row]) -> str:
    """Return how many measurements ended in which status.

    Parameters
    ----------
    rows
        Measurements with their ``status``.

    Returns
    -------
    str
        As in "40 ok, 8 failed"; the best first.
    """
    order = [*Status, "running", "missing"]
    counts = Counter(row["status"] for row in rows)
    return ", ".join(f"{counts[name]} {name}" for name in order if counts[name])


def reason_lines(
    rows: Sequence[Row], width: int | None, most_points: int = MOST_POINTS
) -> list[str]:
    """Return why measurements are not ok: each reason once, with the points below it.

    Parameters
    ----------
    rows
        Measurements with their ``status`` and ``reason``.
    width
        How wide a line may be; None for any width.
    most_points
        How many points are listed below a reason.

    Returns
    -------
    list of str
        The lines to print.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["reason"] and row["status"] != Status.OK:
            # The rest of this reason are numbers, which differ from point to point.
            whole = row["reason"]
            reason = whole.split(":")[0] if row["status"] == Status.UNSTABLE else whole
            groups.setdefault((row["status"], reason), []).append(row)
    names = (*POINT, *differing(rows)) if groups and most_points else ()
    lines = []
    for (status, reason), members in groups.items():
        head = f"{counted(len(members), 'measurement')} {status}: {reason}"
        lines += [folded(line, width, 4) for line in head.splitlines()]
        points = [point_phrases(row, names) for row in members[:most_points]]
        lines += [folded_phrases(each, width, "    ", 8) for each in points]
        if most_points and len(members) > most_points:
            lines.append(f"    and {len(members) - most_points} more")
    return lines
