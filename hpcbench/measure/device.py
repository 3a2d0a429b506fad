"""What NVIDIA's management library (NVML) says of the GPUs that this process was given."""

import contextlib
import logging
import math
import os
import re
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
    visible_handles,
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


def gpu_mismatch(gpu: str | None, count: int) -> str | None:
    """Compare the GPUs of this process with what the site file says of the pool.

    Parameters
    ----------
    gpu
        The name of the pool's GPU, as NVML spells it; None if the site file names none.
    count
        How many GPUs each job of the pool asks for.

    Returns
    -------
    str or None
        What differs; None if nothing does.
    """
    found = gpu_columns()
    there, promised = found["gpu_count"], f"{count} x {gpu or 'GPU'} promised"
    # Without NVML only a GPU that was named is missed: Triton may see one all the same.
    if count and there != count and (there or gpu):
        more = there > count and not found["cuda_visible_devices"]
        whose = f", and {VISIBLE} does not say which are this job's" if more else ""
        return f"{promised}, {there} found{whose}{_one_instance()}"
    if gpu is not None and found.get("gpu_name") != gpu:
        return f"{gpu} promised, {found.get('gpu_name')} found"
    return None


def _one_instance() -> str:
    """Why there is one GPU where the batch system gave several."""
    visible = visible_handles()
    if len(visible) < 2 or not is_mig_instance(visible[0]):
        return ""
    return f" (of {len(visible)} MIG instances, a program of CUDA's uses the first one only)"
