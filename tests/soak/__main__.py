"""``python -m tests.soak``: campaigns in the box under faults, until enough have happened."""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.helpers import models
from tests.helpers.paths import CHECKOUT
from tests.soak import disk, report, workplace
from tests.soak.campaign import Campaign, Outcome
from tests.soak.faults import FAULTS
from tests.soak.preload import Preload, make_preload
from tests.soak.schedule import Burst, bursts
from tests.soak.world import World, box, first_process, results_of, scratch_of

NATIVE = Path("/opt/native")
PYTHON = "/opt/venv/bin/python"
REAL_SHARE = 0.05

PROFILES = {
    "local": "tests/box/sites/local-native.yaml",
    "slurm": "site_configs/box-slurm.yaml",
    "htcondor": "site_configs/box-htcondor.yaml",
}


def site(
    scheduler: str, seed: int, prefix: Path, scratch: Path, preload: Preload
) -> dict[str, Any]:
    """The site of the box, with the prefix that has the stand-in, and two workers.

    In every second campaign, jobs end by their walltime while there is work.
    """
    profile: dict[str, Any] = yaml.safe_load((CHECKOUT / PROFILES[scheduler]).read_text())
    container = {"runtime": "native", "cpus_only": True, "prefix": str(prefix)}
    profile["container"] = container | {"scratch": str(scratch)}
    for pool in profile["pools"].values():
        pool["max_jobs"] = 2
        if scheduler == "local":
            continue
        pool["walltime"] = "00:02:00" if seed % 2 else "00:10:00"
        variables = preload.variables(preload.jobs)
        pool["prologue"] = [f"export {name}={value}" for name, value in variables.items()]
    return profile


def campaign(repository: Path, points: int) -> dict[str, Any]:
    """About so many points: placements of twenty."""
    return {
        "name": "soak",
        "model_repository": str(repository),
        "models": [{"name": "echo", "label": "echo"}],
        # Requests wait for others, which never come: the real client takes a tenth of a CPU.
        "server": {
            "preferred_batch_size": [[64]],
            "max_queue_delay_us": [20_000 + n for n in range(max(1, points // 40))],
        },
        "load": {"batch_size": list(range(1, 11)), "concurrency": [1, 2]},
        "measurement": {
            "measurement_interval_ms": 250,
            "stability_percentage": 900.0,
            "percentile": 95,
        },
        "repeats": 2,
    }


@dataclass(frozen=True)
class Wanted:
    """A campaign that is to be run, until it has had so many faults of some kinds."""

    scheduler: str
    seed: int
    points: int
    faults: int
    kinds: tuple[str, ...]

    @property
    def bursts(self) -> Iterator[Burst]:
        """Its faults: of the kinds in whose names one of the words stands."""
        chosen = {
            name: kind
            for name, kind in FAULTS.items()
            if self.scheduler in kind.schedulers and any(each in name for each in self.kinds)
        }
        return bursts(
            self.seed,
            {name: kind.weight for name, kind in chosen.items()},
            {name: kind.lasts_s for name, kind in chosen.items()},
        )


def one(wanted: Wanted) -> Outcome:
    """Run one campaign; its folder stays where something is wrong."""
    scheduler, seed = wanted.scheduler, wanted.seed
    folder = workplace.make_empty(CHECKOUT / "results" / f"soak-{scheduler}-{seed}")
    first = first_process()
    models.one_step(folder / "models", "echo")
    workplace.write_prefix(folder / "prefix", NATIVE, python=PYTHON, real=REAL_SHARE)
    with (
        disk.mounted(folder / "disk", first) as its_disk,
        disk.mounted(folder / "scratch", first) as scratch,
    ):
        preload = make_preload(folder, results_of(its_disk.folder))
        world = World(scheduler, folder, first, its_disk, scratch, preload)
        nodes = scratch_of(scratch.folder)
        for its in (world.results, nodes):
            its.mkdir()
        content = campaign(folder / "models", wanted.points)
        profile = site(scheduler, seed, folder / "prefix", nodes, preload)
        workplace.write_files(folder, profile, content)
        workplace.give_to_user(folder)
        points = len(content["server"]["max_queue_delay_us"]) * 20 * 2
        outcome = Campaign(world, seed, points, wanted.faults).run(wanted.bursts)
        if outcome.problems:
            shutil.copytree(world.results, folder / "results")
    if not outcome.problems:
        shutil.rmtree(folder)
    return outcome


def plan(options: argparse.Namespace, had: Sequence[Outcome]) -> Wanted | None:
    """The next campaign; None after the last one."""
    seed, kinds = options.seed + len(had), tuple(options.kinds)
    sites = options.sites.split(",")
    each = options.faults // len(sites)
    for scheduler in sites:
        done = sum(max(1, len(its.happened)) for its in had if its.scheduler == scheduler)
        if done < each:
            return Wanted(scheduler, seed, options.points, each - done, kinds)
    if options.large and all(its.points < options.large for its in had):
        return Wanted(sites[-1], seed, options.large, sys.maxsize, kinds)
    return None


def main(arguments: list[str]) -> int:
    """Run until enough faults have happened on each kind of site; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--faults", type=int, default=100, help="in all")
    parser.add_argument("--seed", type=int, default=1, help="of the first campaign")
    parser.add_argument("--sites", default="local,htcondor,slurm")
    parser.add_argument("--points", type=int, default=200, help="of a campaign")
    parser.add_argument(
        "--large", type=int, default=2000, help="points of one more campaign, on the last site"
    )
    parser.add_argument("--kinds", nargs="+", default=[""], help="words in the names of faults")
    options = parser.parse_args(arguments)
    up = box("up", timeout_s=1200)
    if up.returncode:
        sys.stderr.write(up.stderr)
        return up.returncode
    outcomes: list[Outcome] = []
    while wanted := plan(options, outcomes):
        outcome = one(wanted)
        outcomes.append(outcome)
        with (CHECKOUT / "results" / "soak.jsonl").open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        print(report.campaigns([outcome]), flush=True)
        for problem in outcome.problems:
            print(f"  {time.strftime('%H:%M:%S')} {problem}", flush=True)
    print(report.campaigns(outcomes), report.table(outcomes), sep="\n\n")
    return 1 if any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
