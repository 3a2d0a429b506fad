"""What this node is, and what its GPUs did meanwhile."""

import logging
import os
import platform
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pynvml

from hpcbench.errors import UnusableNode

log = logging.getLogger(__name__)

DEADLINE = "HPCBENCH_DEADLINE"
"""In the environment of a job: when it ends, in seconds since the epoch."""

JOB_ID = "HPCBENCH_JOB_ID"
"""In the environment of a job: its id in the batch system."""

NODE_NAME = "HPCBENCH_NODE"
"""In the environment of a job: what the batch system calls the node that it is on."""


def time_left_s() -> float:
    """Seconds until this job ends; infinite where nothing ends it."""
    deadline = os.environ.get(DEADLINE)
    return float(deadline) - time.time() if deadline else float("inf")


def batch_name() -> str:
    """What the batch system calls this node, so that jobs can be kept away from it."""
    return os.environ.get(NODE_NAME) or platform.node()


@cache
def facts() -> Mapping[str, Any]:
    """Columns that stay the same while this process lives."""
    return {
        "node": platform.node(),
        "cpu_name": _cpu_name(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": f"{_distribution()}, Linux {platform.release()}",
        "job_id": os.environ.get(JOB_ID) or None,
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        **_gpu_facts(),
    }


def cpus(limit: int | None) -> int:
    """Processors that a placement may use: those of this process, at most ``limit``."""
    allowed = len(os.sched_getaffinity(0))
    return min(allowed, limit) if limit else allowed


def energy_j() -> float | None:
    """Joules drawn by this worker's GPUs since their driver was loaded, from NVML."""
    handles = _gpus()
    if not handles:
        return None
    try:
        millijoules = [pynvml.nvmlDeviceGetTotalEnergyConsumption(h) for h in handles]
    except pynvml.NVMLError as error:
        log.debug("no energy counter: %s", error)
        return None
    return float(sum(millijoules)) / 1000


def cuda_of_driver() -> tuple[int, int] | None:
    """The newest CUDA (major, minor) that the node's driver supports; None without a driver."""
    if not _gpus():
        return None
    try:
        number = pynvml.nvmlSystemGetCudaDriverVersion_v2()
    except pynvml.NVMLError as error:
        log.debug("the driver does not tell its CUDA: %s", error)
        return None
    return number // 1000, number % 1000 // 10


def gpu_architecture() -> str:
    """What engines are built for: "sm80" and the like; "cpu" without a GPU."""
    try:
        found = {pynvml.nvmlDeviceGetCudaComputeCapability(handle) for handle in _gpus()}
    except pynvml.NVMLError as error:
        log.debug("the GPU does not tell its architecture: %s", error)
        return "gpu"
    return "-".join(f"sm{major}{minor}" for major, minor in sorted(found)) or "cpu"


def _cpu_name() -> str | None:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine() or None


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


@cache
def _gpus() -> tuple[Any, ...]:
    """NVML's handles of the GPUs that this worker was given; none without a driver."""
    try:
        pynvml.nvmlInit()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return tuple(
                pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())
            )
        names = [name.strip() for name in visible.split(",") if name.strip()]
        return tuple(_handle(name) for name in names)
    except (pynvml.NVMLError, ValueError) as error:
        log.debug("no GPU here: %s", error)
        return ()


def _handle(name: str) -> Any:
    if name.startswith(("GPU-", "MIG-")):
        return pynvml.nvmlDeviceGetHandleByUUID(name)
    # Some batch systems say CUDA0, others 0.
    return pynvml.nvmlDeviceGetHandleByIndex(int(name.removeprefix("CUDA")))


def name_gpus_by_uuid() -> None:
    """Makes CUDA_VISIBLE_DEVICES name the GPUs of this job in a way that means the same anywhere.

    An index means another GPU where a container or a control group hides some, and a batch
    system's CUDA0 means nothing to CUDA.
    """
    handles = _gpus()
    if handles and os.environ.get("CUDA_VISIBLE_DEVICES"):
        uuids = ",".join(pynvml.nvmlDeviceGetUUID(handle) for handle in handles)
        os.environ["CUDA_VISIBLE_DEVICES"] = uuids


@cache
def take_gpus(worker: int, count: int) -> None:
    """Leaves this process ``count`` GPUs of its computer, others than any other worker's.

    For workers that no batch system has given their own. Raises UnusableNode where there are too
    few; a computer without GPUs is left as it is.
    """
    handles = _gpus()
    own = handles[worker * count : (worker + 1) * count]
    if not handles or not count:
        return
    if len(own) < count:
        raise UnusableNode(
            f"{platform.node()}: {len(handles)} GPUs are too few for a worker number {worker + 1} "
            f"with {count}",
            "lower max_jobs or gpus_per_job in the site file",
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(pynvml.nvmlDeviceGetUUID(h) for h in own)
    _gpus.cache_clear()
    facts.cache_clear()


def gpu_mismatch(gpu: str | None, count: int) -> str | None:
    """What of a pool's promise this node does not keep; None where all is as promised."""
    if gpu is None:
        return None
    found = facts()
    if found["gpu_count"] < count:
        return f"{count} x {gpu} promised, {found['gpu_count']} GPUs found"
    if found.get("gpu_name") != gpu:
        return f"{gpu} promised, {found.get('gpu_name')} found"
    return None


def _gpu_facts() -> dict[str, Any]:
    handles = _gpus()
    if not handles:
        return {"gpu_count": 0}
    try:
        return _gpu_names(handles)
    except pynvml.NVMLError as error:
        log.warning("the GPU does not tell its name: %s", error)
        return {"gpu_count": len(handles)}


def _gpu_names(handles: tuple[Any, ...]) -> dict[str, Any]:
    return {
        "gpu_name": ", ".join(dict.fromkeys(pynvml.nvmlDeviceGetName(h) for h in handles)),
        "gpu_uuid": ",".join(pynvml.nvmlDeviceGetUUID(h) for h in handles),
        "gpu_count": len(handles),
        "gpu_driver": pynvml.nvmlSystemGetDriverVersion(),
    }
