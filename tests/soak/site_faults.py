"""Faults of the site: jobs, nodes, daemons, folders, the machine of the driver."""

import contextlib
import os
import signal
import subprocess
import time

import psutil

from tests.soak import processes
from tests.soak.schedule import Fault
from tests.soak.world import BOX, World, box

_JOBS = {
    ("slurm", "cancel"): ("scancel",),
    ("slurm", "requeue"): ("scontrol", "requeue"),
    ("slurm", "hold"): ("scontrol", "requeuehold"),
    ("htcondor", "cancel"): ("condor_rm",),
    ("htcondor", "requeue"): ("condor_vacate_job",),
    ("htcondor", "hold"): ("condor_hold",),
}
_NODES = {"slurm": ("n1", "n2"), "htcondor": ("c1",)}


def act_on_job(what: str, world: World, fault: Fault) -> str | None:
    """Cancel, requeue or hold one of the user's jobs."""
    jobs = world.queue()
    if not jobs:
        return None
    job = jobs[int(fault.pick * len(jobs))]
    done = world.exec(*_JOBS[world.scheduler, what], job)
    return f"job {job}" if done.returncode == 0 else None


def shorten_job(world: World, fault: Fault) -> str | None:
    """Let one of the user's jobs end by its walltime, earlier than it knows."""
    jobs = world.queue()
    if not jobs:
        return None
    job = jobs[int(fault.pick * len(jobs))]
    done = world.exec("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    return f"job {job}" if done.returncode == 0 else None


def fail_node(world: World, fault: Fault) -> str | None:
    """Let a node crash, with all that runs on it, and come back."""
    nodes = _NODES[world.scheduler]
    node = nodes[int(fault.pick * len(nodes))]
    if box("fail", node).returncode:
        return None
    time.sleep(fault.lasts_s)
    restored = box("restore", node)
    if restored.returncode:
        # Two faults may have met at one node.
        restored = box("restore", node)
    return f"node {node} for {fault.lasts_s:g} s"


def restart_daemon(world: World, fault: Fault) -> str | None:
    """Kill the batch system's daemon that has the queue, and start it again after a while."""
    name = {"slurm": "slurmctld", "htcondor": "condor_schedd"}[world.scheduler]
    found = [process for process in processes.in_box(world.first) if _name(process) == name]
    if not found or not processes.signal_safely(found[0], signal.SIGKILL):
        return None
    time.sleep(fault.lasts_s)
    if world.scheduler == "slurm":
        # HTCondor's master does it by itself.
        world.exec("slurmctld", root=True)
    return f"{name} for {fault.lasts_s:g} s"


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.name()
    return ""


def move_folder(world: World, fault: Fault) -> str | None:
    """Move the results folder away, and back."""
    away = world.disk.folder / "moved"
    if world.disk.is_covered(world.results):
        return None  # what is mounted there would go with it
    try:
        world.results.rename(away)
    except OSError:
        return None
    time.sleep(fault.lasts_s)
    # A run that was begun meanwhile has made a folder of its own, without a row.
    if world.results.exists():
        world.results.rename(world.disk.folder / f"begun-meanwhile-{time.monotonic_ns()}")
    away.rename(world.results)
    return f"for {fault.lasts_s:g} s"


def make_unwritable(world: World, fault: Fault) -> str | None:
    """Let nobody create a file among the records, as on a disk that became read-only."""
    records = world.results / "records"
    try:
        os.chmod(records, 0o555)  # noqa: PTH101
    except OSError:
        return None
    time.sleep(fault.lasts_s)
    with contextlib.suppress(OSError):
        os.chmod(records, 0o755)  # noqa: PTH101
    return f"for {fault.lasts_s:g} s"


def start_second_driver(world: World, fault: Fault) -> str | None:
    """Begin another run in the same folder. It must be refused while the first one lives."""
    if not world.pids("driver"):
        return None
    with subprocess.Popen(
        [BOX, "exec", *world.run_command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            # The first one has ended meanwhile: this is the run now.
            process.terminate()
            said, _ = process.communicate()
            return None
    return "refused" if "another run is using it" in said else None


def reboot_driver(world: World, fault: Fault) -> str | None:
    """Kill all processes of the user on the driver's machine at once."""
    its = [each for each in processes.of_user(world.first) if processes.on_login(each, world.first)]
    hit = [process.pid for process in its if processes.signal_safely(process, signal.SIGKILL)]
    return f"{len(hit)} processes" if hit else None
