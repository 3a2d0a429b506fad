"""What went wrong, in a report: measurements that are not ok, by the reason and where it was."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.report.page_data import ReportPoints, device_names
from hpcbench.analysis.summary import configuration
from hpcbench.analysis.summary.axis_names import axis_phrase
from hpcbench.analysis.summary.configuration_names import describe_configuration
from hpcbench.analysis.summary.invalid_rows import INVALID
from hpcbench.records.columns import Status
from hpcbench.records.variants import BASE

MOST_LOG_TAILS = 3
MOST_TAIL_CHARACTERS = 6000
MOST_PROBLEMS = 100

_MOST_PLACES = 12
_SAID = ("model_label", "model", "model_digest", "variant")
"""What the place of a problem says anyway, or nobody can read."""


# What differs between two cases of the same problem: addresses, ids, counts and times.
_PARTICULARS = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+(?:\.\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """Measurements that went wrong in the same way.

    Attributes
    ----------
    status
        Status of all of them.
    reason
        Reason of the first.
    count
        Number of measurements.
    places
        Models and devices with all that varies, at most twelve, each with its batch sizes.
    more_places
        Number of places left out.
    log_tails
        Ends of their logs, at most MOST_LOG_TAILS that differ.
    """

    status: str
    reason: str
    count: int
    places: list[str]
    more_places: int
    log_tails: list[str]


def find_problems(points: ReportPoints) -> list[Problem]:
    """Group the measurements that are not ok by what went wrong.

    Parameters
    ----------
    points
        All points.

    Returns
    -------
    list[Problem]
        Failures first, then timeouts, invalid, unstable and not applicable measurements; the most
        frequent of each status first.
    """
    bad = points.frame[(points.frame["status"] != Status.OK).to_numpy(dtype=bool)]
    bad = bad.assign(device=device_names(bad), full_reason=bad["reason"].astype(object))
    varying = _varying(points.table)
    known = bad["full_reason"].notna()
    bad["full_reason"] = bad["full_reason"].where(known, "no reason was recorded")
    bad["kind"] = [
        _PARTICULARS.sub("#", _short_reason(status, reason))
        for status, reason in zip(bad["status"], bad["full_reason"], strict=True)
    ]
    worst_first: tuple[str, ...] = (
        *(Status.FAILED, Status.TIMEOUT, INVALID, Status.UNSTABLE, Status.NOT_APPLICABLE),
    )
    found = [
        _problem(str(status), rows, varying)
        for status, rows in (
            (rows["status"].iloc[0], rows)
            for _, rows in bad.groupby(["status", "kind"], sort=False)
        )
    ]
    return sorted(found, key=lambda one: (worst_first.index(one.status), -one.count))


def _short_reason(status: str, reason: str) -> str:
    # Behind the colon of an unstable point stand the numbers of its windows.
    return reason.partition(":")[0] if status == Status.UNSTABLE else reason


def _problem(status: str, rows: pd.DataFrame, varying: Sequence[str]) -> Problem:
    tails = rows["log_tail"].dropna()
    different = tails[~tails.map(lambda text: _PARTICULARS.sub("#", str(text))).duplicated()]
    places, more_places = _places(rows, varying)
    return Problem(
        status=status,
        reason=_short_reason(status, str(rows["full_reason"].iloc[0])),
        count=len(rows),
        places=places,
        more_places=more_places,
        log_tails=[str(tail)[-MOST_TAIL_CHARACTERS:] for tail in different[:MOST_LOG_TAILS]],
    )


def _places(rows: pd.DataFrame, varying: Sequence[str]) -> tuple[list[str], int]:
    """Return the first places of the rows, each with its batch sizes, and how many more there are.

    A place is a model on a device, with all else that varies.
    """
    apart = [name for name in varying if name != "batch_size"]
    columns = [name for name in apart if name in configuration.PLANNED]
    numbers = configuration.group_numbers(rows, ["model_label", "device", "variant", *columns])
    # Of a hundred thousand points only those that are named are put into words.
    first = np.unique(numbers, return_index=True)[1]
    named = configuration.plain_rows(
        rows[[*configuration.CONFIGURATION, "device"]], first[:_MOST_PLACES]
    )
    texts = []
    for number, row in enumerate(named):
        sizes = sorted({int(n) for n in rows["batch_size"][numbers == number].dropna()})
        phrases = [
            f"{row['model_label']} on {row['device']}",
            *_setting_phrases(row, apart),
            f"batch size {', '.join(map(str, sizes))}" if sizes else "",
        ]
        texts.append(", ".join(filter(None, phrases)))
    return texts, len(first) - len(named)


def _setting_phrases(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return what a point has of the columns and server axes that vary, in words."""
    phrases = describe_configuration(row)
    found = []
    for name in names:
        if name == "shapes":
            found += [text for key, text in phrases.items() if key.startswith("shape of ")]
        elif name in phrases or name in configuration.CONFIGURATION:
            found.append(phrases.get("protocol" if name == "asynchronous" else name, ""))
        elif row["variant"] is not None:
            found.append(axis_phrase(name, BASE))
    return list(dict.fromkeys(filter(None, found)))


def _varying(table: pd.DataFrame) -> list[str]:
    """Return the server axes, and the columns of what was asked for, that vary within a model."""
    variants = [json.loads(text) for text in table["variant"].dropna().unique()]
    axes = dict.fromkeys(name for each in variants for name in each)
    models = table["model_label"].nunique()
    found = [
        name for name in axes if len({json.dumps(each.get(name, BASE)) for each in variants}) > 1
    ]
    for name in configuration.PLANNED:
        known = name in _SAID or name in configuration.SOFTWARE or name in found
        if not known and len(table[["model_label", name]].drop_duplicates()) > models:
            found.append(name)
    return found
