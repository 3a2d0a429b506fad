"""What programs took of the CPUs: the process trees of the server and of its clients, and RAPL."""

import contextlib
import itertools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbench.measure.sampling import Energy, Reading

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LIMITED = 0.9
"""Share of its CPUs, or of one CPU by its busiest thread, from which a client may be the limit."""


@dataclass(frozen=True)
class Usage:
    """What a tree of processes has taken so far.

    Attributes
    ----------
    cpu_s
        CPU seconds, by process.
    thread_cpu_s
        CPU seconds, by thread.
    waited_s
        Seconds in which it could have run and had no CPU, by thread.
    switches
        How often it got a CPU, by thread.
    memory_bytes
        Resident memory of all of them now.
    cpus
        The CPUs that they may use.
    """

    cpu_s: Mapping[int, float]
    thread_cpu_s: Mapping[int, float]
    waited_s: Mapping[int, float]
    switches: Mapping[int, int]
    memory_bytes: int
    cpus: frozenset[int]


@dataclass(frozen=True)
class Programs:
    """The server and its clients at one time.

    Attributes
    ----------
    server, clients
        What they have taken so far.
    busy_s
        For how long all processes of the node have kept each CPU busy, in seconds.
    """

    server: Usage
    clients: Usage
    busy_s: Mapping[int, float]


@dataclass(frozen=True)
class ProcessTrees:
    """The processes of the server and of its clients, from /proc: a source for a sampler.

    Attributes
    ----------
    server
        The process that the server descends from.
    clients
        Returns the processes that the clients descend from.
    period_s
        Seconds between two readings.
    """

    server: int
    clients: Callable[[], Collection[int]]
    period_s: float = 0.25

    def read(self) -> Programs:
        """Return what both have taken so far.

        Returns
        -------
        Programs
            Server and clients; empty where one is not running.
        """
        # On a busy node this takes long, and what is compared must be of the same time.
        before = busy_cpu_s()
        server, clients = usage([self.server]), usage(self.clients())
        after = busy_cpu_s()
        busy_s = {cpu: (before.get(cpu, later) + later) / 2 for cpu, later in after.items()}
        return Programs(server, clients, busy_s)


def busy_cpu_s(path: str = "/proc/stat") -> dict[int, float]:
    """Return for how long each CPU of the node has been busy.

    Parameters
    ----------
    path
        The file in which Linux says it.

    Returns
    -------
    dict of int to float
        Seconds by the number of the CPU, with interrupts and with what a hypervisor took.
    """
    found = {}
    for line in _read(path).splitlines():
        # Asked before the split: the line of interrupts has a word for each of them.
        if line.startswith("cpu") and not line.startswith("cpu "):
            name, *ticks = line.split()
            user, nice, system, _, _, irq, softirq, steal, *_ = map(int, ticks)
            busy = user + nice + system + irq + softirq + steal
            found[int(name.removeprefix("cpu"))] = busy / _TICKS_PER_S
    return found


def descendants(roots: Collection[int]) -> list[int]:
    """Return all processes below some processes.

    Parameters
    ----------
    roots
        Process ids.

    Returns
    -------
    list of int
        Without the roots themselves.
    """
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        for thread in _threads(pid):
            with contextlib.suppress(OSError):
                children = _read(f"/proc/{pid}/task/{thread}/children").split()
                found += map(int, children)
                waiting += map(int, children)
    return found


def usage(roots: Collection[int]) -> Usage:
    """Return what all processes below some processes have taken so far.

    Parameters
    ----------
    roots
        Process ids, of supervisors: they take nothing themselves.

    Returns
    -------
    Usage
        A process that ends meanwhile is left out.
    """
    cpu_s: dict[int, float] = {}
    thread_cpu_s: dict[int, float] = {}
    waited_s: dict[int, float] = {}
    switches: dict[int, int] = {}
    memory = 0
    cpus: set[int] = set()
    for pid in descendants(roots):
        with contextlib.suppress(OSError):
            # After the name, which may hold spaces and brackets.
            stat = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            cpu_s[pid] = (int(stat[11]) + int(stat[12])) / _TICKS_PER_S
            memory += int(stat[21]) * _PAGE_BYTES
            cpus |= os.sched_getaffinity(pid)
            for thread in _threads(pid):
                # Nanoseconds on a CPU, nanoseconds of waiting for one, how often it got one. The
                # status file, which has context switches by name, takes several times as long.
                run_ns, wait_ns, runs = _read(f"/proc/{pid}/task/{thread}/schedstat").split()
                thread_cpu_s[thread] = int(run_ns) / 1e9
                waited_s[thread] = int(wait_ns) / 1e9
                switches[thread] = int(runs)
    return Usage(cpu_s, thread_cpu_s, waited_s, switches, memory, frozenset(cpus))


def _threads(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return []


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def program_columns(readings: Sequence[Reading[Programs]]) -> dict[str, Any]:
    """Return what server and clients took, by the names of the columns.

    Parameters
    ----------
    readings
        In the order of time.

    Returns
    -------
    dict of str to Any
        Empty with less than two readings, or where one of the two is not running.
    """
    if len(readings) < 2:
        return {}
    first, last = readings[0], readings[-1]
    seconds = last.at - first.at
    server, clients = last.value.server, last.value.clients
    if not (server.cpu_s and clients.cpu_s):
        return {}
    server_cpu_s = _difference(first.value.server.cpu_s, server.cpu_s)
    client_cpu_s = _difference(first.value.clients.cpu_s, clients.cpu_s)
    cpus = server.cpus | clients.cpus
    busy_s = sum(last.value.busy_s.get(n, 0.0) - first.value.busy_s.get(n, 0.0) for n in cpus)
    busiest = _largest(first.value.clients.thread_cpu_s, clients.thread_cpu_s) / seconds
    share = client_cpu_s / seconds / len(clients.cpus)
    return {
        "cpu_sampled_s": seconds,
        "server_cpu_s": server_cpu_s,
        "server_cpu_wait_s": _difference(first.value.server.waited_s, server.waited_s),
        "server_memory_max_bytes": max(each.value.server.memory_bytes for each in readings),
        "server_context_switches": _difference(first.value.server.switches, server.switches),
        "client_cpu_s": client_cpu_s,
        "client_cpu_wait_s": _difference(first.value.clients.waited_s, clients.waited_s),
        "client_memory_max_bytes": max(each.value.clients.memory_bytes for each in readings),
        "client_context_switches": _difference(first.value.clients.switches, clients.switches),
        "client_cpu_share": share,
        "client_busiest_thread": busiest,
        "client_threads": len(clients.thread_cpu_s),
        "client_cpu_limited": max(share, busiest) >= _LIMITED,
        "cpus_shared": bool(server.cpus & clients.cpus),
        # Two clocks: that of the CPUs ticks a hundred times a second.
        "other_cpu_s": max(0.0, busy_s - server_cpu_s - client_cpu_s),
    }


def _difference(first: Mapping[int, Any], last: Mapping[int, Any]) -> Any:
    # One that is new has taken all of it since; what one has taken that is gone is not known.
    return sum(value - first.get(key, 0) for key, value in last.items())


def _largest(first: Mapping[int, float], last: Mapping[int, float]) -> float:
    return max((value - first.get(key, 0.0) for key, value in last.items()), default=0.0)


POWERCAP = Path("/sys/class/powercap")
"""Where Linux has the energy counters of the CPUs; AMD's, too, are called intel-rapl."""


@dataclass(frozen=True)
class Rapl:
    """The energy counters of the CPU packages (RAPL): a source for a sampler.

    Attributes
    ----------
    packages
        For each package the file of its counter, and the energy in joules at which it starts anew.
    period_s
        Seconds between two readings.
    """

    packages: tuple[tuple[Path, float], ...]
    period_s: float = 0.25

    def read(self) -> tuple[float, ...]:
        """Return the counter of each package.

        Returns
        -------
        tuple of float
            Joules.

        Raises
        ------
        OSError
            Where this user may not read them.
        """
        return tuple(int(path.read_text()) / 1e6 for path, _ in self.packages)

    def energy(self, readings: Sequence[Reading[tuple[float, ...]]]) -> Energy | None:
        """Return the energy of all packages between the first and the last reading.

        Parameters
        ----------
        readings
            In the order of time.

        Returns
        -------
        Energy or None
            None with less than two readings.
        """
        if len(readings) < 2:
            return None
        spans = [span for _, span in self.packages]
        # Each step by itself: a counter starts anew about once a minute.
        joules = sum(
            (b - a) % span
            for one, two in itertools.pairwise(readings)
            for a, b, span in zip(one.value, two.value, spans, strict=True)
        )
        return Energy(joules, readings[-1].at - readings[0].at)


def find_rapl(folder: Path = POWERCAP) -> Rapl | None:
    """Return the energy counters of the CPUs that this user may read.

    Parameters
    ----------
    folder
        Where Linux has them.

    Returns
    -------
    Rapl or None
        None where there are none, or where only root may read them, as on most nodes.
    """
    found = []
    try:
        for path in sorted(folder.glob("intel-rapl:*")):
            # Others are parts of a package, or the whole board.
            if (path / "name").read_text().startswith("package"):
                int((path / "energy_uj").read_text())
                span = int((path / "max_energy_range_uj").read_text()) / 1e6
                found.append((path / "energy_uj", span))
    except (OSError, ValueError):
        return None
    return Rapl(tuple(found)) if found else None
