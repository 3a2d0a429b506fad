"""Measures what a container costs: the demo's points on a native Triton and on one in Apptainer.

    python tests/benchmarks/containers.py NATIVE_SITE APPTAINER_SITE [--rounds 3]
        [--interval-ms 1000]

Both servers are up, idle but for the one that is measured, and each point is measured on one right
after the other, in an order that changes with every point and round: so a machine whose speed
drifts disturbs both alike. Three windows each, by hpcbench's own command lines. For each point it
prints the ratio of the throughputs, apptainer / native, of each round; beside their spread, the
spread of the native rounds among themselves tells what is noise.

In the box, which has an Apptainer:

    tests/box/box exec python tests/benchmarks/containers.py \\
        tests/box/sites/local-native.yaml tests/box/sites/local-apptainer.yaml
"""

import argparse
import math
import statistics
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from hpcbench import Campaign, Site, container, grid, perf_analyzer, planning, process, triton
from hpcbench.campaign import Measurement
from hpcbench.placement import Placement

CHECKOUT = Path(__file__).resolve().parents[2]
WAYS = ("native", "apptainer")


def measure(
    point: grid.Point, measurement: Measurement, site: Site, server: triton.Server
) -> tuple[float, float]:
    """(throughput, seconds of perf_analyzer that are not windows) of one point."""
    words = perf_analyzer.arguments(
        point, measurement, url=f"127.0.0.1:{server.grpc_port}", metrics_url=None, settle=False
    )
    with tempfile.TemporaryDirectory(prefix="hpcbench-") as name:
        folder = Path(name)
        command = container.sdk(site.container, words, container.Room(folder=folder))
        done = process.run(command.argv, folder=folder, timeout_s=120, env=command.env)
        outcome = perf_analyzer.read(
            stdout=done.stdout,
            stderr=done.stderr,
            csv_text=(folder / perf_analyzer.CSV_NAME).read_text(),
            returncode=done.returncode,
            percentile=measurement.percentile,
        )
    windows_s = 3 * 1.2 * measurement.measurement_interval_ms / 1000
    return outcome.figures["throughput_infer_per_s"], done.seconds - windows_s


def main() -> None:
    """Runs the rounds, then prints a line for each point and the summary."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("sites", nargs=2, metavar="SITE")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--interval-ms", type=int, default=1000)
    given = options.parse_args()
    campaign = Campaign.load(CHECKOUT / "jobs" / "demo" / "campaign.yaml")
    measurement = campaign.measurement.model_copy(
        update={"measurement_interval_ms": given.interval_ms}
    )
    sites: dict[str, Site] = {}
    placements: dict[str, Placement] = {}
    for way, path in zip(WAYS, given.sites, strict=True):
        todo = planning.plan(campaign, Site.load(path))
        sites[way] = todo.site
        ((placements[way],),) = todo.placements.values()
    figures: dict[tuple[str, int], list[float]] = defaultdict(list)
    rest: dict[str, list[float]] = defaultdict(list)
    ready: dict[str, list[float]] = defaultdict(list)
    for number in range(given.rounds):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            servers = {
                way: stack.enter_context(
                    triton.serve(
                        placements[way].variant,
                        sites[way].container,
                        log_path=folder / f"{way}.log",
                        cpus=2,
                    )
                )
                for way in WAYS[:: 1 if number % 2 else -1]
            }
            for way, server in servers.items():
                ready[way].append(server.ready_s)
            for position, point in enumerate(placements["native"].points):
                for way in WAYS[:: 1 if (number + position) % 2 else -1]:
                    found, seconds = measure(point, measurement, sites[way], servers[way])
                    figures[way, point.batch_size].append(found)
                    rest[way].append(seconds)
    _print(figures, rest, ready)


def _print(
    figures: dict[tuple[str, int], list[float]],
    rest: dict[str, list[float]],
    ready: dict[str, list[float]],
) -> None:
    print(
        f"{'batch':>5} {'native':>9} {'apptainer':>9}  ratio of each round    mean   native alone"
    )
    logs = []
    for batch in (batch for way, batch in figures if way == "native"):
        pair = figures["native", batch], figures["apptainer", batch]
        ratios = [apptainer / native for native, apptainer in zip(*pair, strict=True)]
        logs += [math.log(ratio) for ratio in ratios]
        spread = (max(pair[0]) - min(pair[0])) / statistics.mean(pair[0])
        told = " ".join(f"{ratio:.3f}" for ratio in ratios)
        print(
            f"{batch:5d} {statistics.mean(pair[0]):9.1f} {statistics.mean(pair[1]):9.1f}  "
            f"{told:21}  {statistics.mean(ratios):.3f}   differs by {spread:.0%}"
        )
    mean = statistics.mean(logs)
    error = statistics.stdev(logs) / math.sqrt(len(logs))
    print(f"all points: {math.exp(mean):.3f} +- {error:.3f} (standard error of the mean)")
    for name, seconds in (("perf_analyzer, besides its windows", rest), ("server ready", ready)):
        medians = [statistics.median(seconds[way]) for way in WAYS]
        print(f"{name}: native {medians[0]:.2f} s, apptainer {medians[1]:.2f} s (medians)")


if __name__ == "__main__":
    main()
