"""A comparison as text for the terminal, as Markdown and as JSON."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpcbench.analysis.decide.changes import Shift, Verdict
from hpcbench.analysis.decide.compare import METRICS, Comparison
from hpcbench.analysis.decide.compare_summary import comparison_summary
from hpcbench.analysis.summary.configuration import CONFIGURATION, LOAD, plain_rows
from hpcbench.analysis.summary.configuration_names import (
    configuration_names,
    device_name,
)
from hpcbench.analysis.summary.number_format import format_interval, format_with_error
from hpcbench.analysis.summary.same_servers import ALSO
from hpcbench.analysis.summary.statistics import Counts
from hpcbench.errors import BadInput, one_line

OUTPUT_FORMATS = (".md", ".json", ".png", ".pdf")
MOST_SHOWN = 20
_WIDE = 120
MOST_IN_MARKDOWN = 500

_BY_COLUMN = {metric.column: metric for metric in METRICS}
_COLOURS = {Verdict.WORSE.value: "red", Verdict.BETTER.value: "green"}
_COUNTS = "tried/measured/settled"
_HEADINGS = ("configuration", "metric", "A", "B", "B / A", "verdict", _COUNTS)


def print_comparison(found: Comparison, names: tuple[str, str], console: Console) -> None:
    """Print a summary, and what changed most.

    Parameters
    ----------
    found
        The comparison.
    names
        How the user calls A and B.
    console
        Where to print. Below 120 characters it does not get the columns A and B.
    """
    for line in comparison_summary(found, names):
        console.print(one_line(line), highlight=False, markup=False, soft_wrap=True)
    shown = most_changed(found, MOST_SHOWN)
    for line in _shared(found, shown):
        console.print(one_line(line), highlight=False, markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    kept = [name for name in _HEADINGS if console.width >= _WIDE or name not in ("A", "B")]
    for name in kept:
        right = name in ("A", "B", "B / A")
        wraps = name == "configuration"
        heading = name.replace("/", "/\n") if name == _COUNTS else name
        table.add_column(heading, justify="right" if right else "left", no_wrap=not wraps)
    for cells, verdict in zip(_cells(found, shown), shown["verdict"], strict=True):
        named = dict(zip(_HEADINGS, cells, strict=True))
        if console.width < _WIDE:
            named["metric"], _, _ = named["metric"].partition(" [")
        texts = (escape(one_line(named[name])) for name in kept)
        table.add_row(*texts, style=_COLOURS.get(verdict))
    console.print(table)
    if len(found.rows) > len(shown):
        left = len(found.rows) - len(shown)
        console.print(f"and {left} more; --out FILE.md or FILE.json has them", highlight=False)


def most_changed(found: Comparison, most: int) -> pd.DataFrame:
    """Return the rows that changed most; whatever got worse comes first.

    Parameters
    ----------
    found
        The comparison.
    most
        At most so many rows.

    Returns
    -------
    pandas.DataFrame
        Some rows of ``found.rows``, in their order.
    """
    worse = (found.rows["verdict"] == Verdict.WORSE).to_numpy()
    chosen = np.argsort(~worse, kind="stable")[:most]
    return found.rows.iloc[np.sort(chosen)]


def changed_configurations(found: Comparison, rows: pd.DataFrame) -> tuple[list[str], str]:
    """Return the configuration of each row in words.

    Parameters
    ----------
    found
        The comparison.
    rows
        Some of its rows.

    Returns
    -------
    tuple
        As `configuration_names`: the names, and what all of them have in common.
    """
    return configuration_names(plain_rows(found.a_table, rows["a"].to_numpy()))


def _cells(found: Comparison, rows: pd.DataFrame) -> list[tuple[str, ...]]:
    a_rows = plain_rows(found.a_table, rows["a"].to_numpy())
    b_rows = plain_rows(found.b_table, rows["b"].to_numpy())
    names, _ = changed_configurations(found, rows)
    cells: list[tuple[str, ...]] = []
    for a, b, name, row in zip(a_rows, b_rows, names, _records(rows), strict=True):
        metric = _BY_COLUMN[row["metric"]]
        cells.append(
            (
                name,
                f"{metric.name} [{metric.unit}]",
                format_with_error(a, metric.column),
                format_with_error(b, metric.column),
                format_interval(row["ratio"], row["low"], row["high"]),
                _verdict(row),
                _counts(a, b),
            )
        )
    return cells


def _verdict(row: dict[str, Any]) -> str:
    """Return the verdict; of an undecided one with the change that would have been found."""
    if row["verdict"] != Verdict.INCONCLUSIVE or row["detectable"] is None:
        return str(row["verdict"])
    return f"{row['verdict']} (finds {abs(row['detectable'] - 1):.0%})"


def _counts(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Return how many repeats were tried, measured and settled, once where A and B have as many."""
    return " -> ".join(dict.fromkeys(str(Counts.of(row)) for row in (a, b)))


def _shared(found: Comparison, rows: pd.DataFrame) -> list[str]:
    _, shared = changed_configurations(found, rows)
    return [f"all below: {shared}"] if shared else []


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return plain_rows(rows, range(len(rows)))


def comparison_markdown(found: Comparison, names: tuple[str, str]) -> str:
    """Return the comparison as Markdown, which a site can keep for every night.

    Parameters
    ----------
    found
        The comparison.
    names
        How the user calls A and B.

    Returns
    -------
    str
        With a table of at most MOST_IN_MARKDOWN rows.
    """
    shown = most_changed(found, MOST_IN_MARKDOWN)
    above = [*comparison_summary(found, names), *_shared(found, shown)]
    lines = ["# Comparison", "", *(f"- {_cell(line)}" for line in above), ""]
    lines += [f"| {' | '.join(_HEADINGS)} |", "|---|---|---:|---:|---:|---|---|"]
    lines += [f"| {' | '.join(map(_cell, cells))} |" for cells in _cells(found, shown)]
    if len(found.rows) > len(shown):
        lines += ["", f"{len(found.rows) - len(shown)} more metrics changed less."]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|")


def comparison_json(found: Comparison, names: tuple[str, str]) -> dict[str, Any]:
    """Return the comparison as plain data.

    Parameters
    ----------
    found
        The comparison.
    names
        How the user calls A and B.

    Returns
    -------
    dict
        For `json.dumps`; None where a number is missing.
    """
    a_rows = plain_rows(found.a_table, found.rows["a"].to_numpy())
    b_rows = plain_rows(found.b_table, found.rows["b"].to_numpy())
    rows = [
        {
            **{name: a[name] for name in ("model", "variant", ALSO, *LOAD)},
            "metric": row["metric"],
            "a": _side(a, row["metric"]),
            "b": _side(b, row["metric"]),
            **{name: row[name] for name in ("ratio", "low", "high")},
            "p_worse": row["p"],
            "measured_once": row["once"],
            "few_requests": row["few"],
            "detectable": row["detectable"],
            "repeats_needed": row["repeats"],
            "verdict": row["verdict"],
        }
        for a, b, row in zip(a_rows, b_rows, _records(found.rows), strict=True)
    ]
    return {
        "a": names[0],
        "b": names[1],
        "tolerance": found.tolerance,
        "is_worse": found.is_worse,
        "configurations_in_both": found.pairs,
        "only_in_a": len(found.only_a),
        "only_in_b": len(found.only_b),
        "differing": {name: [list(c) for c in cs] for name, cs in found.differing.items()},
        "counts": {verdict.value: found.count(verdict) for verdict in Verdict},
        "shifts": [_shift(shift) for shift in found.shifts],
        "sessions": dict(zip("ab", found.sessions, strict=True)),
        "comparable_sessions": dict(zip("ab", found.comparable, strict=True)),
        "not_counted": dict(zip("ab", found.not_counted, strict=True)),
        "left_out": dict(zip("ab", found.invalid, strict=True)),
        "cautions": list(found.warnings),
        **{
            name: [_identity(row) for row in plain_rows(found.a_table, pairs["a"].to_numpy())]
            for name, pairs in (
                ("not_measured_any_more", found.lost),
                ("fails_more_often", found.failing),
                ("no_longer_settles", found.unsettled),
                ("by_chance", found.by_chance),
            )
        },
        "rows": rows,
    }


def _shift(shift: Shift) -> dict[str, Any]:
    night = None if math.isnan(shift.night_std) else shift.night_std
    return asdict(shift) | {"verdict": shift.verdict.value, "night_std": night}


def _side(row: dict[str, Any], metric: str) -> dict[str, Any]:
    endings = {"mean": "", "low": "_low", "high": "_high", "std": "_std", "n": "_n"}
    metrics = {name: row[f"{metric}{ending}"] for name, ending in endings.items()}
    outcome = asdict(Counts.of(row))
    return {"point_id": row["point_id"], "device": device_name(row), **metrics, **outcome}


def _identity(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("point_id", *CONFIGURATION) if row[name] is not None}


def check_output(out: Path | None) -> None:
    """Check that a comparison can be written to a file.

    Parameters
    ----------
    out
        The file, or None for none.

    Raises
    ------
    BadInput
        The suffix is not one of OUTPUT_FORMATS.
    """
    if out is not None and out.suffix not in OUTPUT_FORMATS:
        raise BadInput(
            f"--out {out}: cannot write that kind of file", f"take {', '.join(OUTPUT_FORMATS)}"
        )
