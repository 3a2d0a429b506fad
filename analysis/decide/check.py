"""Which measurements may not be believed, and why: what ``hpcbench check`` says of results."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hpcbench.analysis.summary.configuration import CONFIGURATION, plain_rows
from hpcbench.analysis.summary.configuration_names import configuration_names
from hpcbench.analysis.summary.invalid_rows import is_left_out
from hpcbench.analysis.summary.searches import without_steps
from hpcbench.errors import BadInput, one_line
from hpcbench.records.rules import RULES, Rule
from hpcbench.records.validity import COMPUTED

IDENTITY = ("site", "pool", "point_id", "repeat", "status")

CHECK_COLUMNS = tuple(dict.fromkeys((*IDENTITY, *CONFIGURATION, *COMPUTED, "capacity_step")))
"""The columns that `check_results` needs."""

MOST_ROWS = 5
"""How many measurements are named of those that break a rule."""


@dataclass(frozen=True)
class BrokenRule:
    """A rule, and the measurements that break it.

    Attributes
    ----------
    rule
        The rule.
    count
        How many measurements break it.
    examples
        At most MOST_ROWS of them in words, without what ``common`` says.
    common
        What the examples have in common.
    """

    rule: Rule
    count: int
    examples: tuple[str, ...]
    common: str


@dataclass(frozen=True)
class ResultsCheck:
    """What the rules say of a table of results.

    Attributes
    ----------
    valid, invalid, not_measured
        Numbers of measurements. Those that were not measured are neither valid nor invalid.
    left_out
        How many of the invalid ones the analysis leaves out.
    broken
        The rules that some measurement breaks, in the order of `rules.RULES`.
    rows
        The columns of IDENTITY and ``invalid_reasons`` of each invalid measurement.
    """

    valid: int
    invalid: int
    not_measured: int
    left_out: int
    broken: tuple[BrokenRule, ...]
    rows: tuple[dict[str, Any], ...]


def check_results(frame: pd.DataFrame) -> ResultsCheck:
    """Apply the rules to results.

    Parameters
    ----------
    frame
        Measurements with CHECK_COLUMNS, as `load_results` returns them.

    Returns
    -------
    ResultsCheck
        What is wrong with how many of them.

    Raises
    ------
    BadInput
        There are no results.
    """
    if frame.empty:
        raise BadInput("there are no results to check", "hpcbench run measures them")
    # A search is judged by its end: of its steps, some must be too much for the server.
    frame = without_steps(frame)
    measured = frame["valid"].notna().to_numpy(dtype=bool)
    valid = frame["valid"].fillna(value=False).to_numpy(dtype=bool)
    bad = frame[measured & ~valid].reset_index(drop=True)
    columns = [*IDENTITY, "invalid_reasons"]
    return ResultsCheck(
        valid=int(valid.sum()),
        invalid=len(bad),
        not_measured=int((~measured).sum()),
        left_out=int(is_left_out(bad).sum()),
        broken=tuple(_broken_rules(bad)),
        rows=tuple(plain_rows(bad[columns], range(len(bad)))),
    )


def _broken_rules(bad: pd.DataFrame) -> Iterator[BrokenRule]:
    codes = bad["invalid_reasons"].astype(str).str.split(", ")
    for rule in RULES:
        found = [place for place, broken in enumerate(codes) if rule.code in broken]
        if found:
            rows = plain_rows(bad, found[:MOST_ROWS])
            names, common = configuration_names(rows)
            places = [
                ", ".join(filter(None, [name, f"pool {row['pool']}", f"repeat {row['repeat']}"]))
                for name, row in zip(names, rows, strict=True)
            ]
            yield BrokenRule(rule, len(found), tuple(places), common)


def check_lines(found: ResultsCheck) -> Iterator[str]:
    """Return what a check found as lines of text.

    Parameters
    ----------
    found
        The check.

    Yields
    ------
    str
        The counts, then for each rule that is broken its code, its meaning and some measurements.
    """
    total = found.valid + found.invalid + found.not_measured
    yield (
        f"{total} measurements: {found.valid} valid, {found.invalid} not valid, "
        f"{found.not_measured} without metrics"
    )
    for each in found.broken:
        used = "left out of figures and decisions" if each.rule.left_out else "used, and marked"
        yield f"{each.rule.code}: {each.count}, {used}"
        yield f"  {each.rule.meaning}"
        if each.common:
            yield f"  {one_line(each.common)}:"
        yield from (f"    {one_line(place)}" for place in each.examples)
        if each.count > len(each.examples):
            yield f"    and {each.count - len(each.examples)} more; --json lists all"
    if found.invalid:
        yield "the rules: docs/validity.md"


def check_json(found: ResultsCheck) -> dict[str, Any]:
    """Return what a check found for other programs.

    Parameters
    ----------
    found
        The check.

    Returns
    -------
    dict
        Counts, the rules that are broken, and a row for each invalid measurement.
    """
    return {
        "valid": found.valid,
        "invalid": found.invalid,
        "not_measured": found.not_measured,
        "left_out": found.left_out,
        "rules": [
            {
                "code": each.rule.code,
                "meaning": each.rule.meaning,
                "left_out": each.rule.left_out,
                "count": each.count,
            }
            for each in found.broken
        ],
        "rows": list(found.rows),
    }
