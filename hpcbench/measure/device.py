"""What NVIDIA's management library (NVML) says of the GPUs that this process was given."""

import contextlib
import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

from hpcbench.measure.visible_gpus import (
    VISIBLE,
    asked,
    gpu_handles,
    gpu_uuid,
    instance_ids,
    is_mig_instance,
    whole_gpu,
)

log = logging.getLogger(__name__)


def gpu_columns() -> dict[str, Any]:
    """Return what the records say of the GPUs of this process.

    Returns
    -------
    dict of str to Any
        ``cuda_visible_devices`` and ``gpu_count`` always; ``gpu_name``, ``gpu_uuid`` and
        ``gpu_driver`` where there is a GPU and it answers, and what it says of its place.
    """
    handles = gpu_handles()
    found = {"cuda_visible_devices": os.environ.get(VISIBLE), "gpu_count": len(handles)}
    if not handles:
        return found
    try:
        return found | {
            "gpu_name": ", ".join(dict.fromkeys(map(gpu_name, handles))),
            "gpu_uuid": ",".join(map(gpu_uuid, handles)),
            "gpu_driver": pynvml.nvmlSystemGetDriverVersion(),
            **_place_columns(handles),
        }
    except pynvml.NVMLError as error:
        log.warning("NVML does not return the GPU's name: %s", error)
        return found


def _place_columns(handles: tuple[Any, ...]) -> dict[str, Any]:
    """Where the GPUs sit, how they are connected and set; the least of several."""
    cards = [whole_gpu(handle) for handle in handles]
    # The link is slower while a GPU idles, so its generation is the one that it can have here.
    generations = [asked(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, card) for card in cards]
    widths = [asked(pynvml.nvmlDeviceGetCurrPcieLinkWidth, card) for card in cards]
    persistence = [asked(pynvml.nvmlDeviceGetPersistenceMode, card) for card in cards]
    # The second is what it will be after the next start.
    ecc = [(asked(pynvml.nvmlDeviceGetEccMode, card) or (None,))[0] for card in cards]
    nodes = gpu_numa_nodes()
    slices = [handle for handle in handles if is_mig_instance(handle)]
    instances = ["{}/{}".format(*instance_ids(each)) for each in slices]
    return {
        "gpu_mig_instance": ",".join(instances) or None,
        "gpu_mig_profile": ",".join(filter(None, map(mig_profile, slices))) or None,
        "gpu_numa_node": ",".join(map(str, sorted(nodes))) or None,
        "gpu_pcie_generation": min((each for each in generations if each), default=None),
        "gpu_pcie_width": min((each for each in widths if each), default=None),
        "gpu_persistence_mode": None if None in persistence else all(persistence),
        "gpu_ecc": None if None in ecc else all(ecc),
    }


def gpu_name(handle: Any) -> str:
    """Return the name of a GPU; that of a MIG instance always has its profile.

    Parameters
    ----------
    handle
        NVML's handle.

    Returns
    -------
    str
        Such as "NVIDIA A100-SXM4-40GB", or "NVIDIA A100-SXM4-40GB MIG 1g.5gb".
    """
    if not is_mig_instance(handle):
        return str(pynvml.nvmlDeviceGetName(handle))
    name: str = asked(pynvml.nvmlDeviceGetName, handle) or ""
    if " MIG " in name:
        return name
    # Instances of different sizes must not pass for the same GPU.
    card: str = pynvml.nvmlDeviceGetName(whole_gpu(handle))
    return f"{card} MIG {mig_profile(handle) or 'of unknown size'}"


def mig_profile(instance: Any) -> str | None:
    """Return the size of a MIG instance, as `nvidia-smi -L` says it.

    Parameters
    ----------
    instance
        NVML's handle.

    Returns
    -------
    str or None
        Such as "1g.5gb", "1c.3g.20gb" or "1g.10gb+me"; None where NVML does not say.
    """
    name = asked(pynvml.nvmlDeviceGetName, instance) or ""
    if found := re.search(r" MIG (\S+)$", name):
        return found[1]
    size = asked(pynvml.nvmlDeviceGetAttributes_v2, instance)
    memory = asked(pynvml.nvmlDeviceGetMemoryInfo, whole_gpu(instance))
    if size is None or memory is None:
        return None
    gpu, compute = size.gpuInstanceSliceCount, size.computeInstanceSliceCount
    # Profiles are called by eighths of the GPU's memory, of which an instance gets a little less:
    # 4,864 MiB of 40 GiB are 5 GB.
    eighths = round(8 * size.memorySizeMB * 2**20 / memory.total)
    gigabytes = round(eighths / 8 * math.ceil(memory.total / 2**30))
    part = f"{compute}c." if compute < gpu else ""
    return f"{part}{gpu}g.{gigabytes}gb"


def gpu_numa_nodes(devices: Path = Path("/sys/bus/pci/devices")) -> set[int]:
    """Return the NUMA nodes that the GPUs of this process are attached to.

    Parameters
    ----------
    devices
        Where Linux lists what is on the PCI bus.

    Returns
    -------
    set of int
        Empty without a GPU, and where the node does not say.
    """
    found = set()
    for handle in gpu_handles():
        info = asked(pynvml.nvmlDeviceGetPciInfo, whole_gpu(handle))
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # NVML writes the domain with eight digits, Linux with four.
            place = devices / info.busId.lower()[-len("0000:00:00.0") :] / "numa_node"
            found.add(int(place.read_text()))
    # Linux says -1 on nodes that have only one.
    return {node for node in found if node >= 0}


def driver_cuda_version() -> tuple[int, int] | None:
    """Return the newest CUDA version that the node's driver supports.

    Returns
    -------
    tuple of int or None
        Major and minor version; None without a driver.
    """
    if not gpu_handles():
        return None
    try:
        number = pynvml.nvmlSystemGetCudaDriverVersion_v2()
    except pynvml.NVMLError as error:
        log.debug("the driver does not return its CUDA version: %s", error)
        return None
    # NVML codes 12.4 as 12040.
    return number // 1000, number % 1000 // 10


def gpu_architecture() -> str:
    """Return what TensorRT engines are built for: they run on no other architecture.

    Returns
    -------
    str
        The compute capabilities, such as "sm80", with the sizes of MIG instances; "cpu" without a
        GPU, "gpu" where it does not answer.
    """
    try:
        found = {_architecture(handle) for handle in gpu_handles()}
    except pynvml.NVMLError as error:
        log.debug("NVML does not return the GPU's compute capability: %s", error)
        return "gpu"
    return "-".join(sorted(found)) or "cpu"


def _architecture(handle: Any) -> str:
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(whole_gpu(handle))
    # What TensorRT finds fastest depends on how many multiprocessors there are.
    part = f"-{mig_profile(handle)}" if is_mig_instance(handle) else ""
    return f"sm{major}{minor}{part}"


_NO_GPU = ("", "-1", "NoDevFiles", "none")
"""What CUDA_VISIBLE_DEVICES says where a job has no GPU."""


@dataclass(frozen=True)
class GpuMismatch:
    """How the GPUs of a job differ from those that its pool promises.

    Attributes
    ----------
    problem
        What was promised and what was found.
    hint
        What to do.
    """

    problem: str
    hint: str


def gpu_mismatch(gpu: str | None, count: int, found: Mapping[str, Any]) -> GpuMismatch | None:
    """Compare the GPUs of a job with what the site file says of its pool.

    Parameters
    ----------
    gpu
        The name of the pool's GPU, as NVML spells it; None if the site file names none.
    count
        How many GPUs each job of the pool asks for. With 0 its servers get none, whatever the node
        has, and no name can be promised.
    found
        Columns of `gpu_columns`.

    Returns
    -------
    GpuMismatch or None
        None if nothing differs. Without NVML only a GPU that was named is missed: Triton may see
        one all the same.
    """
    there, name = found["gpu_count"], found.get("gpu_name")
    problem = hint = None
    if gpu is not None and not count:
        problem, hint = f"{gpu} promised, and gpus_per_job is 0", _NONE
    elif count and there != count and (there or gpu is not None):
        problem, hint = _other_count(gpu, count, found)
    elif gpu is not None and name != gpu:
        problem, hint = f"{gpu} promised, {name} found", _CORRECT
    return GpuMismatch(problem, hint) if problem and hint else None


def _other_count(gpu: str | None, count: int, found: Mapping[str, Any]) -> tuple[str, str]:
    there, given = found["gpu_count"], given_gpus(found["cuda_visible_devices"])
    promised = f"{count} x {gpu or 'GPU'} promised, {there} found"
    if there > count and not given:
        return f"{promised}, and {VISIBLE} does not say which are this job's", _NOT_OURS
    if there > count:
        return promised, _TOO_MANY
    if " MIG " in (found.get("gpu_name") or ""):
        why = f"of {len(given)} MIG instances, a program of CUDA's uses the first one only"
        return f"{promised} ({why})", _ONE_INSTANCE
    return promised, _CORRECT


_NONE = "gpus_per_job: 1, or leave gpu out to measure CPUs"
_NOT_OURS = (
    f"the job sees GPUs that may be another job's: let the batch system set {VISIBLE}, or ask for "
    "whole nodes"
)
_TOO_MANY = "correct gpus_per_job, or the directives that ask for GPUs: Triton uses all"
_ONE_INSTANCE = (
    "a server can use one MIG instance only: gpus_per_job: 1, and as many jobs as there are "
    "instances"
)
_CORRECT = (
    "correct gpu, or what the pool asks for (gpus_per_job, constraint, requirements, directives), "
    "in the site file"
)


def given_gpus(visible: str | None) -> list[str]:
    """Return the GPUs that a job was given.

    Parameters
    ----------
    visible
        CUDA_VISIBLE_DEVICES; None where it is not set.

    Returns
    -------
    list of str
        As the batch system names them.
    """
    return [word for word in (visible or "").split(",") if word.strip() not in _NO_GPU]
