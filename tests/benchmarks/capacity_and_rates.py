"""The search for a capacity beside a scan of rates, and p99 under three kinds of arrivals.

    python -m tests.benchmarks.capacity_and_rates [--limit-ms 20] [--repeats 3]

The knee of the scan is the rate at which the p99 latency, a median of repeats, crosses the limit
for the first time, interpolated on log scales. As in a search, a rate that the loop did not keep is
too high, whatever latency its requests had: it does not hold what they waited before they were
sent. The scan goes on until some rate is too high. The capacity should be within 10 % of the knee.
At 0.6 of it, bursts should have a higher p99 than Poisson arrivals, and these than constant ones.
"""

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tests.benchmarks import demo_runs

LADDER = [0.6, 0.7, 0.8, 0.87, 0.93, 1.0, 1.07, 1.15, 1.25, 1.4, 1.6, 1.9]
"""Rates of the scan, over the capacity."""
BEYOND = [1.15, 1.35, 1.6]
"""Rates of a further scan, over the highest one that is not too high."""
BURST = 8


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--limit-ms", type=float, default=20.0)
    options.add_argument("--within", type=float, default=0.05)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--interval-ms", type=int, default=1000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="hpcbench-") as name:
        folder = Path(name)
        every = {
            "measurement_interval_ms": given.interval_ms,
            "stability_percentage": 900.0,
            "percentile": 99,
        }
        limits = {"max_latency_p99_ms": given.limit_ms, "within": given.within}
        found = _run(folder, "search", every, given.repeats, {"capacity": limits})
        steps, ends = (found[found["capacity_step"].notna() == does] for does in (True, False))
        answers = ends["capacity_infer_per_s"].dropna()
        if answers.empty:
            raise SystemExit(f"the search has no answer: {ends['reason'].tolist()}")
        answer = float(answers.median())
        scan = _scanned(folder / "scan", every, given.repeats, answer, LADDER)
        while math.isnan(_knee(scan["p99_ms"], given.limit_ms)):
            top = float(scan.index.max())
            more = _scanned(folder / f"scan-{top:g}", every, given.repeats, top, BEYOND)
            scan = pd.concat([scan, more])
        mean_rate = float(f"{0.6 * answer:.3g}")
        bursts = folder / "bursts.txt"
        bursts.write_text(_bursts(mean_rate))
        kinds = {
            "bursts": {"request_intervals": str(bursts)},
            "poisson": {"request_rate": mean_rate, "request_distribution": "poisson"},
            "constant": {"request_rate": mean_rate, "request_distribution": "constant"},
        }
        arrivals = {
            kind: _run(folder, kind, every, given.repeats, load) for kind, load in kinds.items()
        }
    knee = _knee(scan["p99_ms"], given.limit_ms)
    demo_runs.print_table(
        ("repeat", "step", "rate [1/s]", "p50 [ms]", "p99 [ms]", "overloaded", "delayed [%]"),
        _steps(steps),
    )
    demo_runs.print_table(
        ("rate [1/s]", "p99 [ms]", "overloaded"),
        [
            (f"{rate:g}", f"{row.p99_ms:.2f}", f"{row.overloaded:g}")
            for rate, row in scan.iterrows()
        ],
    )
    demo_runs.print_table(
        ("capacity of each repeat [1/s]", "median", "knee of the scan", "ratio", "steps"),
        [
            (
                ", ".join(f"{each:.4g}" for each in answers),
                f"{answer:.4g}",
                f"{knee:.4g}",
                f"{answer / knee:.3f}",
                f"{len(steps) / len(ends):.1f}",
            )
        ],
    )
    demo_runs.print_table(
        (f"arrivals, {mean_rate:g} per s", "p99 [ms]", "of each repeat"),
        [(kind, *_p99(frame)) for kind, frame in arrivals.items()],
    )


def _steps(steps: pd.DataFrame) -> list[tuple[str, ...]]:
    """What each search did, in its order."""
    ordered = steps.sort_values(["repeat", "capacity_step"])
    return [
        (
            *(f"{row.repeat}", f"{row.capacity_step}", f"{row.request_rate:g}"),
            *(f"{row.latency_p50_us / 1000:.2f}", f"{row.latency_p99_us / 1000:.2f}"),
            *(f"{row.overloaded}", f"{row.delayed_requests_percent:.2f}"),
        )
        for row in ordered.itertuples()
    ]


def _scanned(
    folder: Path, measurement: dict[str, Any], repeats: int, rate: float, parts: Sequence[float]
) -> pd.DataFrame:
    """The median p99 by rate, and in how many repeats the loop did not keep it."""
    load = {
        "request_rate": [float(f"{rate * part:.4g}") for part in parts],
        "request_distribution": "poisson",
    }
    found = _run(folder.parent, folder.name, measurement, repeats, load)
    # A load that is far too high has no latency at all.
    overloaded = found["overloaded"].fillna(True).astype(bool)
    p99_ms = (found["latency_p99_us"].astype(float) / 1000).fillna(math.inf)
    kept = pd.DataFrame(
        {"p99_ms": p99_ms.mask(overloaded, math.inf), "overloaded": overloaded.astype(int)}
    )
    by_rate = kept.groupby(found["request_rate"])
    return by_rate.agg({"p99_ms": "median", "overloaded": "sum"})


def _run(
    folder: Path, name: str, measurement: dict[str, Any], repeats: int, load: dict[str, Any]
) -> pd.DataFrame:
    files = demo_runs.inputs(
        folder / name, container={}, load=load, measurement=measurement, repeats=repeats
    )
    return demo_runs.run(files, folder / f"{name}-results")


def _bursts(rate: float) -> str:
    """A second of bursts whose requests are due at once, with this mean rate."""
    bursts = max(1, round(rate / BURST))
    gap_us = round(1e6 * BURST / rate)
    return "\n".join(map(str, ([gap_us] + [0] * (BURST - 1)) * bursts))


def _knee(p99_ms: pd.Series, limit_ms: float) -> float:
    """The rate at which the limit is crossed for the first time."""
    before: tuple[float, float] | None = None
    for rate, ms in p99_ms.sort_index().items():
        if ms > limit_ms:
            if before is None or not math.isfinite(ms):
                return float(rate) if before is None else math.sqrt(before[0] * float(rate))
            part = math.log(limit_ms / before[1]) / math.log(ms / before[1])
            return before[0] * (float(rate) / before[0]) ** part
        before = float(rate), float(ms)
    return math.nan


def _p99(frame: pd.DataFrame) -> tuple[str, str]:
    p99_ms = frame["latency_p99_us"] / 1000
    return f"{p99_ms.median():.2f}", ", ".join(f"{each:.2f}" for each in p99_ms)


if __name__ == "__main__":
    main()
