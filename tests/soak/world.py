"""The box as the soak sees it: its commands, its processes, the files of one campaign."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.paths import CHECKOUT
from tests.soak import processes
from tests.soak.disk import Disk
from tests.soak.preload import Preload

BOX = CHECKOUT / "tests" / "box" / "box"


@dataclass(frozen=True)
class World:
    """One campaign in the box.

    Attributes
    ----------
    scheduler
        local, slurm or htcondor.
    folder
        Its folder, which the whole box sees.
    first
        The first process of the box.
    disk
        The disk of its results.
    scratch
        The scratch disk of all nodes.
    preload
        The clocks and the quota.
    """

    scheduler: str
    folder: Path
    first: int
    disk: Disk
    scratch: Disk
    preload: Preload

    @property
    def results(self) -> Path:
        """The results folder."""
        return results_of(self.disk.folder)

    @property
    def run_command(self) -> list[str]:
        """The command of the campaign, in the box."""
        variables = self.preload.variables(self.preload.driver)
        files = [str(self.folder / name) for name in ("campaign.yaml", "site.yaml")]
        return [
            *("env", *(f"{name}={value}" for name, value in variables.items())),
            *("hpcbench", "run", files[0], "--site", files[1], "--results", str(self.results)),
        ]

    def exec(self, *words: str, root: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command in the box."""
        return box("exec", *(["--root"] if root else []), *words)

    def queue(self) -> list[str]:
        """The user's jobs."""
        if self.scheduler == "slurm":
            return self.exec("squeue", "--noheader", "--format=%i").stdout.split()
        if self.scheduler == "htcondor":
            done = self.exec("condor_q", "-allusers", "-af:j", "Owner")
            return done.stdout.split()[::2]
        return []

    def pids(self, kind: str) -> list[int]:
        """The processes of a kind, as this machine numbers them."""
        return [process.pid for process in processes.of_kind(self.first, kind)]


def results_of(disk: Path) -> Path:
    """The results folder on a disk: another name than the disk's own, so that it can be moved."""
    return disk / "results"


def scratch_of(disk: Path) -> Path:
    """The scratch folder on a disk."""
    return disk / "nodes"


def box(*words: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """One of the box's own commands."""
    return subprocess.run(
        [BOX, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def first_process() -> int:
    """The first process of the box that runs."""
    home = Path(os.environ.get("HPCBENCH_BOX") or CHECKOUT / ".box").absolute()
    return int(json.loads((home / "running").read_text())["pid"])
