"""Whether sessions of one campaign agree: the demo's scan three times, and their intervals.

    python -m tests.benchmarks.three_sessions [--sessions 3] [--repeats 3] [--interval-ms 500]

The interval of a point in a session is that of its mean: of the spread of repeats, joined over all
points, and of the spread between sessions, joined likewise. Each is a number on a log scale. For at
least 95 % of points the intervals of any two sessions should overlap.
"""

import argparse
import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from tests.benchmarks import demo_runs

BATCHES = [1, 4, 8, 16, 32, 64, 128]
METRICS = ("throughput_infer_per_s", "latency_p95_us")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sessions", type=int, default=3)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--interval-ms", type=int, default=500)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="hpcbench-") as name:
        files = demo_runs.inputs(
            Path(name) / "inputs",
            container={},
            load={"batch_size": BATCHES, "concurrency": 4},
            measurement={"percentile": 95, "measurement_interval_ms": given.interval_ms},
            repeats=given.repeats,
        )
        sessions = [
            demo_runs.run(files, Path(name) / f"session-{n}").assign(session=n)
            for n in range(given.sessions)
        ]
    frame = pd.concat(sessions, ignore_index=True)
    print(frame.groupby(["session", "status"]).size().to_string(), flush=True)
    for metric in METRICS:
        _print_overlap(frame, metric)


def _print_overlap(frame: pd.DataFrame, metric: str) -> None:
    logs = np.log(frame[metric])
    cells = logs.groupby([frame["batch_size"], frame["session"]])
    table = frame.assign(log=logs).pivot_table
    means, counts = (
        table(index="batch_size", columns="session", values="log", aggfunc=each)
        for each in ("mean", "count")
    )
    freedom = int((counts - 1).sum().sum())
    within = float((cells.var() * (cells.count() - 1)).sum()) / freedom
    points, sessions = means.shape
    # What the means of sessions differ by more than their repeats explain.
    spread = float(means.var(axis=1).mean())
    between = max(0.0, spread - within * float((1 / counts).mean().mean()))
    rows, pairs_that_overlap = [], {"repeats": 0, "repeats and sessions": 0}
    # Of both spreads, that between sessions has the fewer degrees of freedom.
    few = points * (sessions - 1)
    for batch in means.index:
        half = {
            "repeats": stats.t.ppf(0.975, freedom) * np.sqrt(within / counts.loc[batch]),
            "repeats and sessions": stats.t.ppf(0.975, few)
            * np.sqrt(between + within / counts.loc[batch]),
        }
        overlaps = {kind: _overlap(means.loc[batch], each) for kind, each in half.items()}
        for kind, does in overlaps.items():
            pairs_that_overlap[kind] += does
        shown = [
            f"{math.exp(mean):.4g} ± {100 * each:.1f} %"
            for mean, each in zip(means.loc[batch], half["repeats and sessions"], strict=True)
        ]
        rows.append((batch, *shown, *("yes" if does else "no" for does in overlaps.values())))
    print(f"{metric}: spread of repeats {100 * math.sqrt(within):.1f} %, between sessions ", end="")
    print(f"{100 * math.sqrt(between):.1f} %")
    demo_runs.print_table(
        (
            "batch size",
            *(f"session {n}" for n in means.columns),
            *(f"all overlap, {kind}" for kind in pairs_that_overlap),
        ),
        rows,
    )
    for kind, number in pairs_that_overlap.items():
        print(f"all overlap, {kind}: {number} of {points} points, {number / points:.0%}")
    print(flush=True)


def _overlap(means: pd.Series, halves: pd.Series) -> bool:
    pairs = itertools.combinations(range(len(means)), 2)
    return all(
        abs(means.iloc[a] - means.iloc[b]) <= halves.iloc[a] + halves.iloc[b] for a, b in pairs
    )


if __name__ == "__main__":
    main()
