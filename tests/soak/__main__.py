"""``python -m tests.soak``: campaigns in the box under faults, until enough have happened."""

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from tests.helpers import models
from tests.helpers.paths import CHECKOUT
from tests.soak import report, workplace
from tests.soak.campaign import Campaign, Outcome
from tests.soak.faults import FAULTS
from tests.soak.schedule import bursts
from tests.soak.world import World, box, first_process

NATIVE = Path("/opt/native")
PYTHON = "/opt/venv/bin/python"
REAL_SHARE = 0.05

PROFILES = {
    "local": "tests/box/sites/local-native.yaml",
    "slurm": "site_configs/box-slurm.yaml",
    "htcondor": "site_configs/box-htcondor.yaml",
}


def site(scheduler: str, prefix: Path) -> dict[str, Any]:
    """The site of the box, with the prefix that has the stand-in, and two workers."""
    profile: dict[str, Any] = yaml.safe_load((CHECKOUT / PROFILES[scheduler]).read_text())
    profile["container"] = {"runtime": "native", "cpus_only": True, "prefix": str(prefix)}
    for pool in profile["pools"].values():
        pool["max_jobs"] = 2
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


def one(scheduler: str, seed: int, points: int, faults: int, folder: Path) -> Outcome:
    """Run one campaign."""
    workplace.make_empty(folder)
    (folder / "results").mkdir()
    models.one_step(folder / "models", "echo")
    workplace.write_prefix(folder / "prefix", NATIVE, python=PYTHON, real=REAL_SHARE)
    content = campaign(folder / "models", points)
    workplace.write_files(folder, site(scheduler, folder / "prefix"), content)
    workplace.give_to_user(folder)
    there = len(content["server"]["max_queue_delay_us"]) * 20 * 2
    world = World(scheduler, folder, first_process())
    kinds = {name: kind for name, kind in FAULTS.items() if scheduler in kind.schedulers}
    its = bursts(
        seed,
        {name: kind.weight for name, kind in kinds.items()},
        {name: kind.lasts_s for name, kind in kinds.items()},
    )
    return Campaign(world, seed, there, faults).run(its)


def main(arguments: list[str]) -> int:
    """Run until enough faults have happened on each kind of site; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--faults", type=int, default=100, help="in all")
    parser.add_argument("--seed", type=int, default=1, help="of the first campaign")
    parser.add_argument("--sites", default="local,slurm,htcondor")
    parser.add_argument("--points", type=int, default=200, help="of a campaign")
    options = parser.parse_args(arguments)
    up = box("up", timeout_s=1200)
    if up.returncode:
        sys.stderr.write(up.stderr)
        return up.returncode
    sites, outcomes = options.sites.split(","), []
    seed = options.seed
    for scheduler in sites:
        left = options.faults // len(sites)
        while left > 0:
            folder = CHECKOUT / "results" / f"soak-{scheduler}-{seed}"
            outcome = one(scheduler, seed, options.points, left, folder)
            outcomes.append(outcome)
            with (CHECKOUT / "results" / "soak.jsonl").open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
            print(report.campaigns([outcome]), flush=True)
            for problem in outcome.problems:
                print(f"  {time.strftime('%H:%M:%S')} {problem}", flush=True)
            if not outcome.problems:
                shutil.rmtree(folder)
            left -= max(1, len(outcome.happened))
            seed += 1
    print(report.campaigns(outcomes), report.table(outcomes), sep="\n\n")
    return 1 if any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
