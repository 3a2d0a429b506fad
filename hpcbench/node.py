"""What this node is, and what its GPUs did meanwhile."""

import logging
import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pynvml

log = logging.getLogger(__name__)


@cache
def facts() -> Mapping[str, Any]:
    """Columns that stay the same while this process lives."""
    return {
        "node": platform.node(),
        "cpu_name": _cpu_name(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": f"{_distribution()}, Linux {platform.release()}",
        "job_id": os.environ.get("SLURM_JOB_ID"),
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
    # HTCondor says CUDA0, Slurm says 0.
    return pynvml.nvmlDeviceGetHandleByIndex(int(name.removeprefix("CUDA")))


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
