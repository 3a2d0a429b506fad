"""The node that this process runs on, and the batch job that it belongs to."""

import os
import platform
import time
from pathlib import Path
from typing import Any

import psutil

from hpcbench.measure import device

# The job script sets these from the batch system's own variables, so that nothing here needs to
# know which batch system it is.
DEADLINE = "HPCBENCH_DEADLINE"
"""In the environment of a job: when it ends, in seconds since the epoch."""

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
    return float(deadline) - time.time() if deadline else float("inf")


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
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": f"{_distribution()}, Linux {platform.release()}",
        "job_id": os.environ.get(JOB_ID) or None,
        **device.gpu_columns(),
    }


def usable_cpus(limit: int | None) -> int:
    """Return how many CPUs a placement may use.

    Parameters
    ----------
    limit
        The pool's ``cpus``; None where the site file sets no limit.

    Returns
    -------
    int
        The CPUs that the batch system gave this process, at most ``limit``.
    """
    allowed = len(os.sched_getaffinity(0))
    return min(allowed, limit) if limit else allowed


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
