"""The node that this process runs on, and the batch job that it belongs to."""

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from hpcbench.config.cpu_shares import CpuShares
from hpcbench.errors import UnusableNode
from hpcbench.measure import device
from hpcbench.runtime.affinity import on_cpus

# The job script sets these from the batch system's own variables, so that nothing here needs to
# know which batch system it is.
DEADLINE = "HPCBENCH_DEADLINE"
"""In the environment of a job: when it ends, by `time.monotonic`, which a node has once for all."""

JOB_ID = "HPCBENCH_JOB_ID"
"""In the environment of a job: its id in the batch system."""

NODE_NAME = "HPCBENCH_NODE"
"""In the environment of a job: what the batch system calls the node that it is on."""


def time_left_s() -> float:
    """Return how long this job may still run.

    Returns
    -------
    float
        Seconds until the batch system ends the job; infinite outside of a job.
    """
    deadline = os.environ.get(DEADLINE)
    return float(deadline) - time.monotonic() if deadline else float("inf")


def batch_name() -> str:
    """Return the batch system's name of this node, by which jobs can be kept away from it.

    Returns
    -------
    str
        The host name where no batch system gave another one.
    """
    return os.environ.get(NODE_NAME) or platform.node()


def node_columns() -> dict[str, Any]:
    """Return what the records say of this node, its GPUs and the batch job.

    Returns
    -------
    dict of str to Any
        Values by the names of their columns.
    """
    return {
        "node": platform.node(),
        "cpu_name": _cpu_name(),
        # What a cgroup or the job leaves of the node; os.cpu_count() would count all CPUs.
        "cpu_count": len(os.sched_getaffinity(0)),
        "cpu_governor": _cpu_governor(),
        "numa_nodes": _numa_nodes(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": f"{_distribution()}, Linux {platform.release()}",
        "job_id": os.environ.get(JOB_ID) or None,
        **device.gpu_columns(),
    }


@dataclass(frozen=True)
class CpuSets:
    """The CPUs of the two programs of a measurement.

    Attributes
    ----------
    server
        How many Triton may use.
    server_cpus, client_cpus
        Which CPUs each gets; empty where they share those of this process.
    """

    server: int
    server_cpus: tuple[int, ...] = ()
    client_cpus: tuple[int, ...] = ()


def divided_cpus(asked: int | CpuShares | None) -> CpuSets:
    """Return the CPUs of server and client.

    Parameters
    ----------
    asked
        The pool's ``cpus``; None where the site file sets no limit.

    Returns
    -------
    CpuSets
        Of those that the batch system gave this process. Divided ones are whole cores next to each
        other, the server's on the NUMA node of the GPU where there is one.

    Raises
    ------
    UnusableNode
        If the job has too few to divide.
    """
    allowed = os.sched_getaffinity(0)
    if not isinstance(asked, CpuShares):
        return CpuSets(min(len(allowed), asked) if asked else len(allowed))
    wanted = asked.server + asked.client
    if len(allowed) < wanted:
        raise UnusableNode(
            f"{platform.node()}: the job may use {len(allowed)} CPUs, and the pool's cpus has "
            f"{asked.server} for the server and {asked.client} for the client",
            "ask for more CPUs per job, or give both fewer",
        )
    near = device.gpu_numa_nodes()
    ordered = sorted(allowed, key=lambda cpu: (_numa_node(cpu) not in near, _core(cpu), cpu))
    return CpuSets(
        asked.server, tuple(ordered[: asked.server]), tuple(ordered[asked.server : wanted])
    )


@contextmanager
def share_of_cpus(first: int, count: int) -> Iterator[None]:
    """Leave this thread some CPUs that other workers of this computer do not take.

    Parameters
    ----------
    first
        How many CPUs other workers take before this one.
    count
        How many it gets; 0 for all that there are.

    Yields
    ------
    None
        Where there are too few for all workers, they still share all that there are.
    """
    allowed = os.sched_getaffinity(0)
    own = sorted(allowed, key=lambda cpu: (_core(cpu), cpu))[first : first + count]
    with on_cpus(own if len(own) == count else ()):
        yield


def _numa_node(cpu: int) -> int | None:
    nodes = Path(f"/sys/devices/system/cpu/cpu{cpu}").glob("node[0-9]*")
    return next((int(path.name.removeprefix("node")) for path in nodes), None)


def _core(cpu: int) -> tuple[int, ...]:
    """The socket and the core; two CPUs with the same ones are threads of one core."""
    folder = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    with contextlib.suppress(OSError, ValueError):
        return tuple(
            int((folder / name).read_text()) for name in ("physical_package_id", "core_id")
        )
    return (0, cpu)


def _cpu_governor() -> str | None:
    """How the frequency of these CPUs is chosen; None where the node does not say."""
    found = set()
    for cpu in os.sched_getaffinity(0):
        with contextlib.suppress(OSError):
            path = Path(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")
            found.add(path.read_text().strip())
    return ", ".join(sorted(found)) or None


def _numa_nodes() -> str | None:
    found = {_numa_node(cpu) for cpu in os.sched_getaffinity(0)} - {None}
    return ",".join(map(str, sorted(found, key=str))) or None


def _cpu_name() -> str | None:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    # ARM's /proc/cpuinfo has no model name.
    return platform.machine() or None


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()
