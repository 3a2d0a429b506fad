"""Measures what a container costs: the demo's points on a native Triton and on one in Apptainer.

    python tests/benchmarks/containers.py NATIVE_SITE APPTAINER_SITE [--rounds 3]
        [--interval-ms 1000]

Both servers are up, with the same Python and wheels, idle but for the one that is measured, and
each point is measured on one right after the other, in an order that changes with every point and
round: so a machine whose speed drifts disturbs both alike. Three windows each, by hpcbench's own
command lines. For each point it prints two ratios, apptainer / native, of each round: that of the
throughputs, and that of the inferences per second of processor time that the server used. Where
other programs take processors away, only the second one tells something about containers.

In the box, which has an Apptainer:

    tests/box/box exec python tests/benchmarks/containers.py \\
        tests/box/sites/local-native.yaml tests/box/sites/local-apptainer.yaml
"""

import argparse
import math
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from hpcbench import Campaign, Site
from hpcbench.measure import loaded_config, perf_analyzer, preflight
from hpcbench.measure import server as triton
from hpcbench.measure.load_run import LoadGenerator, run_under_load
from hpcbench.plan import grid, plan
from hpcbench.plan.placement import Placement
from hpcbench.runtime import command as container

CHECKOUT = Path(__file__).resolve().parents[2]
WAYS = ("native", "apptainer")
ANY_SPREAD = 1e6
"""Stability percentage with which the first three windows count."""


@dataclass(frozen=True)
class Took:
    """One measurement. ``efficiency`` is inferences per second of the server's processor time."""

    throughput: float
    efficiency: float
    rest_s: float


def used(server: triton.RunningServer) -> tuple[float, int]:
    """(seconds of processor time, inferences) of a server since its start."""
    port = f"--http-port={server.http_port.number}"
    (main,) = (
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "tritonserver" and port in (process.info["cmdline"] or [])
    )
    times = [process.cpu_times() for process in (main, *main.children(recursive=True))]
    path = f"/v2/models/{server.variants[0].model.name}/stats"
    said = loaded_config.get_json(server.http_port, path)
    return sum(t.user + t.system for t in times), int(said["model_stats"][0]["inference_count"])


def measure(point: grid.Point, site: Site, server: triton.RunningServer) -> Took | None:
    """Measures a point with three windows; None where perf_analyzer had no metrics."""
    asked = replace(point.load, stability_percentage=ANY_SPREAD)
    plan = perf_analyzer.first_plan(asked)
    words = perf_analyzer.arguments(point, url=server.grpc_port.address, plan=plan)
    before = used(server)
    with tempfile.TemporaryDirectory(prefix="hpcbench-") as name:
        folder = Path(name)
        command = container.runtime_of(site.container).sdk_command(
            site.container, words, container.NodeAccess(folder=folder)
        )
        command = replace(command, namespaces=server.loopback.namespaces)
        generator = LoadGenerator("the model", asked, plan, None, command, folder)
        (result,) = run_under_load([generator])
    after = used(server)
    outcome = result.outcome
    if "throughput_infer_per_s" not in outcome.metrics:
        print(f"batch {point.load.batch_size}, {site.container.runtime}: {outcome.reason}")
        return None
    return Took(
        throughput=outcome.metrics["throughput_infer_per_s"],
        efficiency=(after[1] - before[1]) / (after[0] - before[0]),
        rest_s=result.seconds - 3 * point.load.window_s,
    )


def main() -> None:
    """Runs the rounds, then prints a line for each point and the summary."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("sites", nargs=2, metavar="SITE")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--interval-ms", type=int, default=1000)
    given = options.parse_args()
    campaign = Campaign.load(CHECKOUT / "jobs" / "demo" / "campaign.yaml")
    intervals = {"measurement_interval_ms": (given.interval_ms,)}
    measurement = campaign.measurement.model_copy(update=intervals)
    campaign = campaign.model_copy(update={"measurement": measurement})
    sites: dict[str, Site] = {}
    placements: dict[str, Placement] = {}
    for way, path in zip(WAYS, given.sites, strict=True):
        todo = plan.plan(campaign, Site.load(path))
        sites[way] = todo.site
        ((placements[way],),) = todo.placements.values()
    software = {
        way: preflight.check_images(site.container, gpus=False).backends
        for way, site in sites.items()
    }
    if software["native"] != software["apptainer"]:
        sys.exit(f"these are not the same software: {software}")
    pairs: dict[int, list[dict[str, Took]]] = defaultdict(list)
    ready: dict[str, list[float]] = defaultdict(list)
    for number in range(given.rounds):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            servers = {
                way: stack.enter_context(
                    triton.serve(
                        placements[way].served[0],
                        sites[way].container,
                        folder / f"{way}.log",
                        triton.ServerOptions(cpus=2),
                    )
                )
                for way in WAYS[:: 1 if number % 2 else -1]
            }
            for way, server in servers.items():
                ready[way].append(server.ready_s)
            for position, point in enumerate(placements["native"].points):
                found = {
                    way: measure(point, sites[way], servers[way])
                    for way in WAYS[:: 1 if (number + position) % 2 else -1]
                }
                pair = {way: took for way, took in found.items() if took is not None}
                if len(pair) == len(WAYS):
                    pairs[point.load.batch_size].append(pair)
    _print(pairs, ready)


def _print(pairs: dict[int, list[dict[str, Took]]], ready: dict[str, list[float]]) -> None:
    print(f"{'':23}  throughput: apptainer / native  per processor second, likewise")
    print(f"{'batch':>5} {'native':>8} {'apptainer':>9}  {'each round':23} mean  {'':23} mean")
    logs: dict[str, list[float]] = {"throughput": [], "efficiency": []}
    for batch, rounds in sorted(pairs.items()):
        means = [statistics.mean(pair[way].throughput for pair in rounds) for way in WAYS]
        words = [f"{batch:5d} {means[0]:8.0f} {means[1]:9.0f} "]
        for name, known in logs.items():
            ratios = [getattr(p["apptainer"], name) / getattr(p["native"], name) for p in rounds]
            known += [math.log(ratio) for ratio in ratios]
            listed = " ".join(f"{ratio:.3f}" for ratio in ratios)
            words.append(f"{listed:23} {statistics.mean(ratios):.3f}")
        print(" ".join(words))
    for name, known in logs.items():
        error = statistics.stdev(known) / math.sqrt(len(known))
        print(f"{name}, all points: {math.exp(statistics.mean(known)):.3f} +- {error:.3f}")
    rest = {way: [p[way].rest_s for rounds in pairs.values() for p in rounds] for way in WAYS}
    for name, seconds in (("perf_analyzer, besides its windows", rest), ("server ready", ready)):
        medians = [statistics.median(seconds[way]) for way in WAYS]
        print(f"{name}: native {medians[0]:.2f} s, apptainer {medians[1]:.2f} s (medians)")


if __name__ == "__main__":
    main()
