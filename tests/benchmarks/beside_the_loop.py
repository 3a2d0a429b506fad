"""Measures hpcbench beside the bare loop over perf_analyzer, in turn, in one run.

    python tests/benchmarks/beside_the_loop.py [--rounds 3] [--interval-ms 1000]

Both measure the same seven points with the same flags on the same Triton, as often as there are
rounds. What is compared: wall time, time inside perf_analyzer, points that have metrics, and the
time per point that is neither perf_analyzer nor the start of the server. This machine's speed
drifts, so only ratios within a round mean anything.
"""

import argparse
import contextlib
import csv
import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hpcbench import Campaign, Site, load_results
from hpcbench.measure import perf_analyzer
from hpcbench.measure import server as triton
from hpcbench.plan import grid, plan
from hpcbench.runtime import command

CHECKOUT = Path(__file__).resolve().parents[2]
PR_SET_CHILD_SUBREAPER = 36
BATCHES = (1, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Took:
    """Seconds of one way of measuring the scan. ``each`` is the time per batch size kept.

    ``cpu`` is that of all processes, ``start_stop`` is wall time before the first point and after
    the last one.
    """

    wall: float
    cpu: float
    start_stop: float
    inside: float
    each: dict[int, float]
    own: dict[int, float]


def the_loop(campaign: Campaign, site: Site) -> Took:
    """The loop of the documentation: one command per batch size, a CSV each, nothing else."""
    todo = plan.plan(campaign, site)
    (placement,) = todo.placements["cpu"]
    each: dict[int, float] = {}
    inside = 0.0
    with tempfile.TemporaryDirectory() as folder:
        started, cpu = time.monotonic(), _cpu_s()
        log = Path(folder) / "server.log"
        options = triton.ServerOptions(cpus=2)
        # The loop's perf_analyzer runs as one would start it by hand.
        shared = site.container.model_copy(update={"network_isolation": "off"})
        with triton.serve(placement.served[0], shared, log, options) as server:
            ready = time.monotonic()
            for point in placement.points:
                argv = loop_command(point, site, server, folder)
                begun = time.monotonic()
                subprocess.run(
                    argv,
                    cwd=folder,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    check=False,
                )
                took = time.monotonic() - begun
                inside += took
                if _has_metrics(Path(folder) / f"batch{point.load.batch_size}.csv"):
                    each[point.load.batch_size] = took
            ended = time.monotonic()
        wall = time.monotonic() - started
    return Took(wall, _cpu_s() - cpu, wall - (ended - ready), inside, each, {})


def loop_command(
    point: grid.Point, site: Site, server: triton.RunningServer, folder: str
) -> list[str]:
    """The flags of hpcbench, but for those by which perf_analyzer itself decides when to end."""
    load = point.load
    words = perf_analyzer.arguments(
        point,
        url=server.grpc_port.address,
        plan=perf_analyzer.first_plan(load),
    )
    for flag, value in {
        "--concurrency-range": f"{load.concurrency}:{load.concurrency}",
        "--measurement-interval": str(load.measurement_interval_ms),
        "--stability-percentage": f"{load.stability_percentage:g}",
        "--max-trials": str(load.max_trials),
        "-f": f"batch{load.batch_size}.csv",
    }.items():
        words[words.index(flag) + 1] = value
    return (
        command.runtime_of(site.container)
        .sdk_command(site.container, words, command.NodeAccess(folder=Path(folder)))
        .argv
    )


def _cpu_s() -> float:
    """CPU seconds of this process and of all that it started and that have ended."""
    # A process whose parent ends first is collected here, and so counted.
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    found = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in found)


def _has_metrics(path: Path) -> bool:
    return path.exists() and len(list(csv.DictReader(path.open()))) == 1


def hpcbench(campaign_file: Path, site_file: Path, results: Path) -> Took:
    """The same points through the command, as a user runs it."""
    started, cpu = time.monotonic(), _cpu_s()
    subprocess.run(
        [
            *(sys.executable, "-m", "hpcbench", "run", str(campaign_file)),
            *("--site", str(site_file), "--results", str(results)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    wall, cpu = time.monotonic() - started, _cpu_s() - cpu
    frame = load_results(results).sort_values("started_at", ignore_index=True)
    span = (frame["ended_at"].max() - frame["started_at"].min()).total_seconds()
    # A point lasts until the next one starts: what lies between them is hpcbench's own too.
    ends = [*frame["started_at"].iloc[1:], frame["ended_at"].iloc[-1]]
    spent = [
        (end - start).total_seconds() for start, end in zip(frame["started_at"], ends, strict=True)
    ]
    inside = list(frame["perf_analyzer_s"])
    batches = [int(batch) for batch in frame["batch_size"]]
    kept = frame["throughput_infer_per_s"].notna()
    stable = frame["status"] == "ok"
    return Took(
        wall,
        cpu,
        wall - span,
        sum(inside),
        {b: s for b, s, k, ok in zip(batches, spent, kept, stable, strict=True) if k and ok}
        | {b: -1.0 for b, k, ok in zip(batches, kept, stable, strict=True) if k and not ok},
        {b: s - i for b, s, i in zip(batches, spent, inside, strict=True)},
    )


def main() -> None:
    """Runs the rounds and prints a line for each, then the medians."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--interval-ms", type=int, default=1000)
    given = options.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        campaign_file, site_file = _inputs(Path(folder), given.interval_ms)
        campaign, site = Campaign.load(campaign_file), Site.load(site_file)
        print(
            f"{len(BATCHES)} points, windows of {given.interval_ms} ms, {given.rounds} rounds, "
            f"{os.cpu_count()} CPUs"
        )
        print(
            f"{'round':>5} {'':9} {'wall s':>8} {'CPU s':>6} {'start+stop s':>13} {'in PA s':>8} "
            f"{'kept':>5} {'own s/point':>12} {'same points / loop':>19} {'wall / loop':>12}"
        )
        ratios, walls, owns, more = [], [], [], []
        for number in range(1, given.rounds + 1):
            loop = the_loop(campaign, site)
            ours = hpcbench(campaign_file, site_file, Path(folder) / f"results-{number}")
            both = [b for b in loop.each if ours.each.get(b, -1) > 0]
            ratio = _ratio(sum(ours.each[b] for b in both), sum(loop.each[b] for b in both))
            per_window = statistics.mean(ours.own.values())
            ratios.append(ratio)
            walls.append(ours.wall / loop.wall)
            owns.append(per_window)
            more.append(ours.start_stop - loop.start_stop)
            _line(number, "loop", loop, "", "", "")
            _line(
                number,
                "hpcbench",
                ours,
                f"{per_window:.3f}",
                f"{ratio:.3f} ({len(both)})",
                f"{walls[-1]:.3f}",
            )
        print(
            f"median: own time per point {statistics.median(owns):.3f} s; time of the points that "
            f"both keep / loop {statistics.median(ratios):.3f}; wall / loop "
            f"{statistics.median(walls):.3f}"
        )
        print(
            f"start and stop, more than the loop's: at least {min(more):.2f} s, median "
            f"{statistics.median(more):.2f} s"
        )


def _ratio(ours: float, loop: float) -> float:
    return ours / loop if loop else float("nan")


def _line(number: int, who: str, took: Took, own: str, ratio: str, wall: str) -> None:
    print(
        f"{number:5d} {who:9} {took.wall:8.1f} {took.cpu:6.1f} {took.start_stop:13.2f} "
        f"{took.inside:8.1f} {len(took.each):3d}/{len(BATCHES)} {own:>12} {ratio:>19} {wall:>12}",
        flush=True,
    )


def _inputs(folder: Path, interval_ms: int) -> tuple[Path, Path]:
    """The demo's campaign with these windows, and this computer as its site."""
    text = (CHECKOUT / "jobs" / "demo" / "campaign.yaml").read_text()
    models = CHECKOUT / "jobs" / "demo" / "models"
    text = text.replace("model_repository: models ", f"model_repository: {models} ")
    text = text.replace("measurement_interval_ms: 1000", f"measurement_interval_ms: {interval_ms}")
    campaign = folder / "campaign.yaml"
    campaign.write_text(text)
    prefix = os.environ.get("HPCBENCH_NATIVE", str(CHECKOUT / ".native"))
    site = folder / "site.yaml"
    site.write_text(
        f"name: bench\ncontainer: {{runtime: native, prefix: {prefix}}}\npools: {{cpu: {{}}}}\n"
    )
    return campaign, site


if __name__ == "__main__":
    main()
