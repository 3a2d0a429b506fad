"""Faults of machines: clocks that are set, networks that are cut, disks, a quota."""

import re
import time

from tests.soak import processes
from tests.soak.disk import Disk
from tests.soak.schedule import Fault
from tests.soak.world import World, scratch_of

# What the kernel would deliver to the box's own addresses is looked up after these rules only.
_CUT = """
ip rule add pref 100 lookup local && ip rule del pref 0
for port in "$@"; do
    ip rule add pref 1 ipproto tcp dport "$port" unreachable
    ip rule add pref 1 ipproto tcp sport "$port" unreachable
done
"""
_MEND = "while ip rule del pref 1; do :; done"


def cut_network(world: World, fault: Fault) -> str | None:
    """Let nothing pass between the driver's scheduler and its workers, and mend it later."""
    ports = _dask_ports(world)
    if not ports:
        return None
    world.exec("sh", "-c", _CUT, "sh", *ports, root=True)
    time.sleep(fault.lasts_s)
    world.exec("sh", "-c", _MEND, root=True)
    return f"{len(ports)} ports for {fault.lasts_s:g} s"


def _dask_ports(world: World) -> list[str]:
    """The ports on which the user's Pythons listen: schedulers, workers and what watches them."""
    lines = world.exec("ss", "-Hltnp", root=True).stdout.splitlines()
    found = [
        processes.number_inside(process.pid)
        for kind in ("driver", "worker", "nanny")
        for process in processes.of_kind(world.first, kind)
    ]
    ours = {
        line.split()[3].rpartition(":")[2]
        for line in lines
        if not set(found).isdisjoint(map(int, re.findall(r"pid=(\d+)", line)))
    }
    return sorted(ours)


def step_clock(hours: int, world: World, fault: Fault) -> str | None:
    """Set the clock of the driver's machine or of the jobs' nodes, and set it right later."""
    preload = world.preload
    is_drivers = world.scheduler == "local" or fault.pick < 0.5
    machine = preload.driver if is_drivers else preload.jobs
    machine.set_state(step_s=3600 * hours)
    time.sleep(fault.lasts_s)
    machine.set_state()
    return f"the {'driver' if is_drivers else 'nodes'} for {fault.lasts_s:g} s"


def use_up_quota(world: World, fault: Fault) -> str | None:
    """Let nobody create a file in the results folder, as where a quota is used up."""
    machines = world.preload.driver, world.preload.jobs
    for machine in machines:
        machine.set_state(quota_is_used_up=True)
    time.sleep(fault.lasts_s)
    for machine in machines:
        machine.set_state()
    return f"for {fault.lasts_s:g} s"


def fill_disk(name: str, world: World, fault: Fault) -> str | None:
    """Leave no byte free on a disk, for a while."""
    disk = _disk(name, world)
    is_full = disk.fill()
    time.sleep(fault.lasts_s)
    disk.empty()
    return f"for {fault.lasts_s:g} s" if is_full else None


def make_read_only(name: str, world: World, fault: Fault) -> str | None:
    """Let a disk be read-only for what is opened meanwhile."""
    disk = _disk(name, world)
    folder = world.results if name == "results" else scratch_of(disk.folder)
    disk.make_read_only(folder)
    # Not where it is moved away at this moment.
    hit = disk.is_covered(folder)
    time.sleep(fault.lasts_s)
    disk.make_writable(folder)
    return f"for {fault.lasts_s:g} s" if hit else None


def let_disk_hang(name: str, world: World, fault: Fault) -> str | None:
    """Let whoever writes to a disk wait."""
    return f"for {fault.lasts_s:g} s" if _disk(name, world).hang(1, fault.lasts_s, 0) else None


def let_disk_be_slow(name: str, world: World, fault: Fault) -> str | None:
    """Let a disk take what is written in one of eight tenths of a second only."""
    hit = _disk(name, world).hang(int(fault.lasts_s), 0.7, 0.1)
    return f"for {fault.lasts_s:g} s" if hit else None


def _disk(name: str, world: World) -> Disk:
    return {"results": world.disk, "scratch": world.scratch}[name]
