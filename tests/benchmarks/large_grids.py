"""Expands a campaign of 100,000 points and places them: what a plan of that size costs.

    python tests/benchmarks/large_grids.py [--points 100000] [--rounds 3]

No server and no file is needed. Told are the seconds of processor time for expanding and for
placing: a plain product of axes, one with rules that exclude, one with axes that go together.
"""

import argparse
import statistics
import time
from typing import Any

from hpcbench.plan.order import make_placements, split_placements
from tests.helpers.builders import campaign, expanded


def grids(points: int) -> dict[str, dict[str, Any]]:
    """Keys of campaigns with so many points."""
    server = {"instance_count": list(range(1, 11)), "max_queue_delay_us": list(range(10))}
    load = {"batch_size": list(range(1, 101)), "concurrency": list(range(1, points // 10_000 + 1))}
    rules = [{"batch_size": [7, 8], "instance_count": 3}, {"concurrency": 1, "batch_size": 100}]
    return {
        "a product": {"server": server, "load": load},
        "with rules": {"server": server, "load": load, "exclude": rules},
        "with zip": {
            "server": server | {"max_queue_delay_us": list(range(100))},
            "load": load,
            "zip": [["batch_size", "max_queue_delay_us"]],
            "measurement": {"stability_percentage": [float(n) for n in range(1, 11)]},
        },
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--points", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    for name, keys in grids(given.points).items():
        took: dict[str, list[float]] = {"expanding": [], "placing": []}
        for _ in range(given.rounds):
            begun = time.process_time()
            grid = expanded(campaign(**keys))
            between = time.process_time()
            placements = make_placements(
                grid.points, campaign="study", pool="gpu", repeats=1, fresh_servers=False
            )
            parts = split_placements(placements, jobs=16, walltime_s=7200)
            took["expanding"].append(between - begun)
            took["placing"].append(time.process_time() - between)
        medians = ", ".join(
            f"{what} {statistics.median(each):.2f} s" for what, each in took.items()
        )
        print(f"{name}: {len(grid.points)} points in {len(parts)} placements: {medians}")


if __name__ == "__main__":
    main()
