"""The four components of the spread of results: run, repeat, node and session."""

from dataclasses import asdict
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from hpcbench.analysis.decide.compare import METRICS, side_of_results
from hpcbench.analysis.summary.components import variance_components, window_variance
from hpcbench.analysis.summary.configuration import as_floats, group_numbers
from hpcbench.analysis.summary.invalid_rows import is_left_out
from hpcbench.analysis.summary.limits import THROUGHPUT

WINDOWS = ("windows_throughput_infer_per_s", "windows_counted")
"""The columns, beside those of a comparison, from which the spread within runs is taken."""

_PARTS = ("run", "repeat", "node", "session")


def components_of_results(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the components of the spread of each metric.

    Parameters
    ----------
    frame
        n measurements with `compare.COMPARE_COLUMNS` and WINDOWS.

    Returns
    -------
    list of dict
        For each metric that was measured ``metric``, its name, and the attributes of
        `components.Components`, None where the data cannot tell. Rows that are not valid are left
        out.
    """
    frame = frame[~is_left_out(frame)].reset_index(drop=True)
    side = side_of_results(frame)
    nodes = group_numbers(frame, ["node"])
    windows, counted = (frame[name] for name in WINDOWS)
    within = window_variance(windows.tolist(), as_floats(counted))
    rows = []
    for metric in METRICS:
        values = side.measured[metric.column]
        if not np.isfinite(values).any():
            continue
        run = within if metric == THROUGHPUT else float("nan")
        found = asdict(variance_components(values, side.numbers, side.sessions, nodes, run))
        known = {name: found[name] if isfinite(found[name]) else None for name in _PARTS}
        rows.append({"metric": metric.name} | found | known)
    return rows


def component_texts(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return components in words.

    Parameters
    ----------
    rows
        From `components_of_results`.

    Returns
    -------
    list of dict
        ``metric``, and by the name of a component its standard deviation in percent; a dash where
        the data cannot tell. Empty where nothing can be told of any repeat.
    """
    if all(row["repeat"] is None for row in rows):
        return []
    return [
        {
            "metric": row["metric"],
            "run": _percent(row["run"]),
            "repeat": _percent(row["repeat"]),
            "node": f"{_percent(row['node'])} of {row['nodes']}",
            "session": f"{_percent(row['session'])} of {row['sessions']}",
        }
        for row in rows
    ]


def together_text(rows: list[dict[str, Any]]) -> str:
    """Return what to know where nodes and sessions changed together.

    Parameters
    ----------
    rows
        From `components_of_results`.

    Returns
    -------
    str
        A sentence without a full stop; empty where each has a part of its own.
    """
    if not any(row["together"] for row in rows):
        return ""
    return (
        "nodes and sessions changed together and cannot be told apart: what stands at sessions may "
        "be the nodes'; measure on one node in two sessions, or on two nodes in one"
    )


def print_components(rows: dict[str, list[dict[str, Any]]], console: Console) -> None:
    """Print the components of A and B.

    Parameters
    ----------
    rows
        By the name of a side, from `components_of_results`.
    console
        Where to print.
    """
    if not any(map(component_texts, rows.values())):
        console.print("spread: nothing was measured twice")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("spread (SD)", "", "within a run", "repeats", "nodes", "sessions"):
        table.add_column(name, justify="left" if name in ("spread (SD)", "") else "right")
    for side, found in rows.items():
        for row in component_texts(found):
            table.add_row(side, *row.values())
    console.print(table)
    for side, found in rows.items():
        if text := together_text(found):
            console.print(f"{side}: {text}", highlight=False, markup=False, soft_wrap=True)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
