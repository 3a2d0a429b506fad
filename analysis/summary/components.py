"""Where the spread of a metric comes from: windows, repeats, nodes or sessions.

References
----------
.. [1] S. R. Searle, G. Casella and C. E. McCulloch, "Variance Components" (1992), chapter 5:
   estimation by equating mean squares to what they are expected to be.
.. [2] C. L. Lawson and R. J. Hanson, "Solving Least Squares Problems" (1974), chapter 23: least
   squares with variables that are not negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.summary.configuration import Array, Numbers, group_numbers

USUAL_WINDOWS = 3
"""Windows at the end of a measurement whose mean it is, where it does not say how many."""


@dataclass(frozen=True)
class Components:
    """Standard deviations of one measurement, as fractions of the metric.

    Attributes
    ----------
    run
        Within a run: of the mean of its windows. NaN, here and below, where the data cannot tell.
    repeat
        Between repeats on the same node in the same session, beyond what runs explain.
    node
        Between nodes.
    session
        Between sessions.
    nodes, sessions
        How many there are.
    together
        Whether nodes and sessions changed together, so that nobody can tell what is whose: the part
        of both is in ``session``.
    """

    run: float
    repeat: float
    node: float
    session: float
    nodes: int
    sessions: int
    together: bool


def variance_components(
    values: Array, numbers: Numbers, sessions: Numbers, nodes: Numbers, run_variance: float
) -> Components:
    """Return the components of the spread of one metric.

    Parameters
    ----------
    values
        Shape (n,), positive measurements. What is not finite is missing.
    numbers, sessions, nodes
        Shape (n,), the configuration, session and node of each.
    run_variance
        From `window_variance`; NaN where it is not known.

    Returns
    -------
    Components
        Estimated by moments [1]_: the squared difference of two measurements of one configuration
        is expected to be twice the sum of the components in which they differ. The four kinds of
        pairs are fitted by least squares with their numbers as weights and no component below 0
        [2]_. It holds for a million rows, which a mixed model by REML does not.

    Notes
    -----
    What cannot be told apart is in the first of repeat, session and node: where each session had a
    node of its own, in the session; where no two repeats shared a node, in the repeat.
    """
    from scipy import optimize

    known = np.isfinite(values) & (values > 0)
    keys = pd.DataFrame(
        {"configuration": numbers[known], "session": sessions[known], "node": nodes[known]}
    )
    count = {name: int(keys[name].nunique()) for name in ("node", "session")}
    logs = np.log(values[known])
    squares = {
        name: _pairs(logs, group_numbers(keys, ["configuration", *names]))
        for name, names in (
            ("all", ()),
            ("session", ("session",)),
            ("node", ("node",)),
            ("both", ("session", "node")),
        )
    }
    both, session, node, every = (squares[x] for x in ("both", "session", "node", "all"))
    # Pairs that agree in session and node; in the session; in the node; in none.
    kinds = np.array([both, session - both, node - both, every - session - node + both])
    expected = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1]], dtype=float)
    there = kinds[:, 1] > 0.5
    weight = np.sqrt(kinds[there, 1])
    matrix = expected[there] * weight[:, None]
    columns = _separable(matrix)
    found = np.full(3, np.nan)
    if columns:
        seen = kinds[there, 0] / kinds[there, 1] / 2 * weight
        found[columns] = optimize.nnls(matrix[:, columns], seen)[0]
    run = run_variance if np.isfinite(run_variance) else 0.0
    return Components(
        run=float(np.sqrt(run_variance)),
        repeat=float(np.sqrt(max(found[0] - run, 0.0))) if np.isfinite(found[0]) else np.nan,
        node=float(np.sqrt(found[1])),
        session=float(np.sqrt(found[2])),
        nodes=count["node"],
        sessions=count["session"],
        together=bool(min(count.values()) > 1 and np.isfinite(found[2]) and 1 not in columns),
    )


def _pairs(logs: Array, groups: Numbers) -> Array:
    """Return the sum of squared differences of all pairs within groups, and their number."""
    if not len(logs):
        return np.zeros(2)
    n = np.bincount(groups)
    away = logs - (np.bincount(groups, logs) / n)[groups]
    return np.array([(n * np.bincount(groups, away**2)).sum(), (n * (n - 1) / 2).sum()])


def _separable(matrix: Array) -> list[int]:
    """Return the columns that can be told apart: repeats first, then sessions, then nodes."""
    chosen: list[int] = []
    for column in (0, 2, 1):
        if matrix.size and np.linalg.matrix_rank(matrix[:, [*chosen, column]]) > len(chosen):
            chosen.append(column)
    return sorted(chosen)


def window_variance(windows: Sequence[Any], counted: Array) -> float:
    """Return the variance of a measurement that its windows explain, as a squared fraction.

    Parameters
    ----------
    windows
        For each of n measurements the throughput of its windows in the order of time; None where
        there is none.
    counted
        Shape (n,), the mean of how many of the last windows each is; NaN: USUAL_WINDOWS.

    Returns
    -------
    float
        The mean over measurements of the variance of the windows that count, divided by their
        number; NaN without any.
    """
    counts = np.where(np.isfinite(counted), counted, USUAL_WINDOWS).astype(np.int64).tolist()
    last = [
        row[-count:]
        for row, count in zip(windows, counts, strict=True)
        if row is not None and len(row) >= count > 1
    ]
    if not last:
        return float("nan")
    n = np.array([len(row) for row in last])
    of, values = np.repeat(np.arange(len(n)), n), np.concatenate(last)
    mean = np.bincount(of, values) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.bincount(of, (values / mean[of] - 1) ** 2) / (n - 1) / n
    return float(np.nanmean(relative)) if np.isfinite(relative).any() else float("nan")
