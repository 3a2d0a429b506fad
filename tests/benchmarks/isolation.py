"""What network isolation costs: servers with and without it, measured in turn, in one run.

    python -m tests.benchmarks.isolation [--rounds 5]

In each round both servers are up, and each point is measured on one right after the other. Nothing
else should run meanwhile.
"""

import argparse
import statistics
import tempfile
from contextlib import closing
from pathlib import Path

from hpcbench.measure.measure import measure
from hpcbench.plan import plan
from hpcbench.records.columns import Record
from tests.benchmarks import demo_runs
from tests.helpers import ratios

WAYS = ("required", "off")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--interval-ms", type=int, default=1000)
    given = options.parse_args()
    found: dict[int, list[tuple[Record, Record]]] = {1: [], 8: [], 64: []}
    with tempfile.TemporaryDirectory(prefix="hpcbench-") as name:
        folder = Path(name)
        for number in range(given.rounds):
            running = {}
            for way in WAYS[:: 1 if number % 2 else -1]:
                campaign, site = demo_runs.read(
                    folder / f"{way}{number}",
                    container={"network_isolation": way},
                    load={"batch_size": list(found), "concurrency": 4},
                    measurement={
                        **demo_runs.THREE_WINDOWS,
                        "measurement_interval_ms": given.interval_ms,
                    },
                )
                (placement,) = plan.plan(campaign, site).placements["cpu"]
                running[way] = measure(placement, site, folder / f"{way}{number}")
            with closing(running["required"]), closing(running["off"]):
                for _ in found:
                    pair = {way: next(each) for way, each in running.items()}
                    required, off = (pair[way] for way in WAYS)
                    if not (required.network_isolated and required.throughput_infer_per_s):
                        raise SystemExit(f"not measured in isolation: {required.reason}")
                    if not off.throughput_infer_per_s:
                        raise SystemExit(f"not measured: {off.reason}")
                    found[required.batch_size].append((required, off))
    rows = [_row(str(batch), each) for batch, each in found.items()]
    every = _row("all", [pair for each in found.values() for pair in each])
    demo_runs.print_table(
        ("batch size", "pairs", "throughput required / off", "95 % interval", "p50 latency"),
        [*rows, every],
    )


def _row(name: str, pairs: list[tuple[Record, Record]]) -> tuple[str, ...]:
    low, middle, high = ratios.interval(ratios.of(pairs, "throughput_infer_per_s"))
    latency = statistics.median(ratios.of(pairs, "latency_p50_us"))
    return (
        name,
        str(len(pairs)),
        f"{middle:.4f}",
        f"{low:.4f} to {high:.4f}",
        f"{latency:.4f}",
    )


if __name__ == "__main__":
    main()
