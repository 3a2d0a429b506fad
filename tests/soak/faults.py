"""The faults that a soak lets happen. Each gives what it has hit; None where there was nothing."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tests.soak import machine_faults, processes, site_faults
from tests.soak.schedule import Fault
from tests.soak.world import World

_LOOK_FOR_S = 8.0
"""Seconds to wait for a program that runs for a moment only."""

PROGRAMS = tuple(processes.KINDS)


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes
    ----------
    happen
        Does it, returns when it is over.
    weight
        How often it comes, in proportion.
    lasts_s
        From which seconds its length is drawn.
    schedulers
        Where it can happen.
    """

    happen: Callable[[World, Fault], str | None]
    weight: float = 1.0
    lasts_s: Sequence[float] = (0.0,)
    schedulers: frozenset[str] = frozenset({"local", "slurm", "htcondor"})


def _victim(world: World, kind: str, pick: float) -> "processes.psutil.Process | None":
    deadline = time.monotonic() + _LOOK_FOR_S
    while True:
        found = processes.of_kind(world.first, kind)
        if found:
            return found[int(pick * len(found))]
        if time.monotonic() > deadline:
            return None
        time.sleep(0.05)


def _kill(kind: str, world: World, fault: Fault) -> str | None:
    victim = _victim(world, kind, fault.pick)
    hit = victim is not None and processes.signal_safely(victim, signal.SIGKILL)
    return f"process {victim.pid}" if victim and hit else None


def _stop(kind: str, world: World, fault: Fault) -> str | None:
    victim = _victim(world, kind, fault.pick)
    if victim is None or not processes.signal_safely(victim, signal.SIGSTOP):
        return None
    time.sleep(fault.lasts_s)
    processes.signal_safely(victim, signal.SIGCONT)
    return f"process {victim.pid} for {fault.lasts_s:g} s"


_STOPS_S = (0.5, 2.0, 6.0, 15.0)
_BROKEN_S = (0.5, 3.0, 8.0)
_DISKS = ("results", "scratch")
MOVED = "results folder moved away"
_BATCH = frozenset({"slurm", "htcondor"})

FAULTS: Mapping[str, Kind] = {
    **{f"kill -9 {kind}": Kind(partial(_kill, kind)) for kind in PROGRAMS},
    **{
        f"kill -STOP, later -CONT {kind}": Kind(partial(_stop, kind), 0.5, _STOPS_S)
        for kind in PROGRAMS
    },
    **{
        f"job: {what}": Kind(partial(site_faults.act_on_job, what), 0.7, schedulers=_BATCH)
        for what in ("cancel", "requeue", "hold")
    },
    "node crashes": Kind(site_faults.fail_node, 0.3, (1.0, 10.0), _BATCH),
    "slurmctld or schedd killed": Kind(site_faults.restart_daemon, 0.3, (1.0, 10.0), _BATCH),
    "job: walltime shortened": Kind(site_faults.shorten_job, 0.4, schedulers=frozenset({"slurm"})),
    "network cut": Kind(machine_faults.cut_network, 0.5, (5.0, 30.0, 120.0), _BATCH),
    "clock an hour ahead": Kind(partial(machine_faults.step_clock, 1), 0.4, (1.0, 10.0, 40.0)),
    "clock an hour behind": Kind(partial(machine_faults.step_clock, -1), 0.4, (1.0, 10.0, 40.0)),
    **{
        f"disk of {name} {what}": Kind(partial(happen, name), 0.3, lasts_s)
        for name in _DISKS
        for what, happen, lasts_s in (
            ("full", machine_faults.fill_disk, _BROKEN_S),
            ("read-only", machine_faults.make_read_only, _BROKEN_S),
            ("hangs", machine_faults.let_disk_hang, (2.0, 10.0, 30.0)),
            ("slow", machine_faults.let_disk_be_slow, (5.0, 20.0)),
        )
    },
    "quota used up": Kind(machine_faults.use_up_quota, 0.4, _BROKEN_S),
    MOVED: Kind(site_faults.move_folder, 0.4, _BROKEN_S),
    "records not writable": Kind(site_faults.make_unwritable, 0.4, _BROKEN_S),
    "second driver": Kind(site_faults.start_second_driver, 0.3),
    "driver's machine reboots": Kind(site_faults.reboot_driver, 0.4),
}
