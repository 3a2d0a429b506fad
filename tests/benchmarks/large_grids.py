"""Plans campaigns of 100,000 points: what a plan of that size costs.

    python -m tests.benchmarks.large_grids [--points 100000] [--rounds 3]

No server is needed. Told are the seconds of CPU time for the whole plan, with the campaign, and the
most memory of a process of its own: a product of axes of the load, one with rules that exclude, one
with axes that go together, and one of server axes, in which each point has a server of its own.
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from hpcbench import Campaign, Site, plan
from tests.helpers.builders import write_campaign, write_model, write_prefix, write_site


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
        "of servers": {
            "server": {
                "instance_count": list(range(1, 101)),
                "max_queue_delay_us": list(range(points // 100)),
            },
        },
    }


def planned(keys: dict[str, Any]) -> tuple[int, int, float, float]:
    """Points, placements, seconds of CPU time and MiB of a plan."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        batching = "dynamic_batching { }"
        write_model(folder / "models", max_batch_size=1000, extra=batching)
        write_prefix(folder)
        file, site = write_campaign(folder, **keys), Site.load(write_site(folder))
        begun = time.process_time()
        todo = plan(Campaign.load(file), site, yes=True)
        took = time.process_time() - begun
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return len(todo.grid.points), len(todo.placements["cpu"]), took, most


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--points", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    # A process for each: the most memory is that of all that a process has done.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as workers:
        for name, keys in grids(given.points).items():
            found = [workers.apply(planned, (keys,)) for _ in range(given.rounds)]
            points, placements, _, most = found[0]
            took = statistics.median(seconds for _, _, seconds, _ in found)
            print(
                f"{name}: {points} points in {placements} placements: {took:.2f} s, {most:.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
