"""What all that hpcbench watches costs: everything on beside everything off, in turn, in one run.

    python -m tests.benchmarks.cost_of_observing [--rounds 10]

Off is a bare perf_analyzer with the same flags. On is the same point as a worker measures it: the
reports are read as they come, the counts of the server are taken, and the devices and the processes
are sampled. Both take three windows of a second on the same server, in an order that changes.
Nothing else should run meanwhile.
"""

import argparse
import csv
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hpcbench import Site
from hpcbench.measure import perf_analyzer
from hpcbench.measure import server as triton
from hpcbench.measure.load_run import LoadGenerator, run_under_load
from hpcbench.measure.meanwhile import Watch, observing, watch
from hpcbench.plan import grid, plan
from hpcbench.runtime import command
from tests.benchmarks import demo_runs
from tests.benchmarks.beside_the_loop import loop_command
from tests.helpers import ratios

BATCHES = (1, 8, 64)


@dataclass(frozen=True)
class Took:
    """One measurement: inferences per second, and seconds in all and beside perf_analyzer."""

    throughput: float
    wall_s: float
    own_s: float


def bare(point: grid.Point, site: Site, server: triton.RunningServer) -> Took:
    with tempfile.TemporaryDirectory(prefix="hpcbench-") as folder:
        begun = time.monotonic()
        subprocess.run(
            loop_command(point, site, server, folder),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        wall_s = time.monotonic() - begun
        text = (Path(folder) / f"batch{point.load.batch_size}.csv").read_text()
        (row,) = csv.DictReader(text.splitlines())
    return Took(float(row["Inferences/Second"]), wall_s, 0.0)


def watched(point: grid.Point, site: Site, server: triton.RunningServer, seen_by: Watch) -> Took:
    begun = time.monotonic()
    with observing(seen_by) as seen, tempfile.TemporaryDirectory(prefix="hpcbench-") as folder:
        asked = perf_analyzer.first_plan(point.load)
        words = perf_analyzer.arguments(point, url=server.grpc_port.address, plan=asked)
        access = command.NodeAccess(folder=Path(folder))
        started = command.runtime_of(site.container).sdk_command(site.container, words, access)
        generator = LoadGenerator("jets", point.load, asked, None, started, Path(folder))
        (result,) = run_under_load([generator])
        outcome = seen.added_to(result.outcome, point, result.counted, reports=result.reports)
    wall_s = time.monotonic() - begun
    throughput = outcome.metrics["throughput_infer_per_s"]
    return Took(throughput, wall_s, wall_s - result.seconds)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--interval-ms", type=int, default=1000)
    given = options.parse_args()
    found: dict[int, list[tuple[Took, Took]]] = {batch: [] for batch in BATCHES}
    with tempfile.TemporaryDirectory(prefix="hpcbench-") as name:
        campaign, site = demo_runs.read(
            Path(name),
            container={"network_isolation": "off"},
            load={"batch_size": list(BATCHES), "concurrency": 4},
            measurement={**demo_runs.THREE_WINDOWS, "measurement_interval_ms": given.interval_ms},
        )
        (placement,) = plan.plan(campaign, site).placements["cpu"]
        log, here = Path(name) / "server.log", triton.ServerOptions(cpus=2)
        with triton.serve(placement.served[0], site.container, log, here) as server:
            seen_by = watch(server, gpus=False)
            for number in range(given.rounds):
                for place, point in enumerate(placement.points):
                    if (number + place) % 2:
                        on = watched(point, site, server, seen_by)
                        off = bare(point, site, server)
                    else:
                        off = bare(point, site, server)
                        on = watched(point, site, server, seen_by)
                    found[point.load.batch_size].append((on, off))
    rows = [_row(str(batch), each) for batch, each in found.items()]
    every = _row("all", [pair for each in found.values() for pair in each])
    demo_runs.print_table(
        (
            *("batch size", "pairs", "throughput on / off", "95 % interval"),
            *("s per point on", "off", "of it hpcbench's own"),
        ),
        [*rows, every],
    )


def _row(name: str, pairs: list[tuple[Took, Took]]) -> tuple[str, ...]:
    low, middle, high = ratios.interval([on.throughput / off.throughput for on, off in pairs])
    on_s, off_s, own_s = (
        statistics.median(each)
        for each in (
            [on.wall_s for on, _ in pairs],
            [off.wall_s for _, off in pairs],
            [on.own_s for on, _ in pairs],
        )
    )
    interval = f"{low:.4f} to {high:.4f}"
    times = (f"{on_s:.3f}", f"{off_s:.3f}", f"{own_s:.3f}")
    return (name, str(len(pairs)), f"{middle:.4f}", interval, *times)


if __name__ == "__main__":
    main()
