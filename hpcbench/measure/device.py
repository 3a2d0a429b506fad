"""The GPUs that this process was given, as NVIDIA's management library (NVML) sees them.

Nothing is kept between two calls. CUDA_VISIBLE_DEVICES alone says which GPUs belong to this
process, so code that changes it need not inform this module.
"""

import contextlib
import logging
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

from hpcbench.errors import UnusableNode

log = logging.getLogger(__name__)

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_TAKEN = "HPCBENCH_GPUS_TAKEN"
"""In the environment of a local worker that has taken its share of the computer's GPUs."""


def gpu_columns() -> dict[str, Any]:
    """Return what the records say of the GPUs of this process.

    Returns
    -------
    dict of str to Any
        ``cuda_visible_devices`` and ``gpu_count`` always; ``gpu_name``, ``gpu_uuid`` and
        ``gpu_driver`` where there is a GPU and it answers, and what it says of its place.
    """
    handles = gpu_handles()
    found = {"cuda_visible_devices": os.environ.get(_VISIBLE), "gpu_count": len(handles)}
    if not handles:
        return found
    try:
        return found | {
            "gpu_name": ", ".join(dict.fromkeys(pynvml.nvmlDeviceGetName(h) for h in handles)),
            "gpu_uuid": ",".join(pynvml.nvmlDeviceGetUUID(h) for h in handles),
            "gpu_driver": pynvml.nvmlSystemGetDriverVersion(),
            **_place_columns(handles),
        }
    except pynvml.NVMLError as error:
        log.warning("NVML does not return the GPU's name: %s", error)
        return found


def _place_columns(handles: tuple[Any, ...]) -> dict[str, Any]:
    """Where the GPUs sit, and how they are connected; the least of several."""
    # The link is slower while a GPU idles, so its generation is the one that it can have here.
    generations = [asked(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, h) for h in handles]
    widths = [asked(pynvml.nvmlDeviceGetCurrPcieLinkWidth, h) for h in handles]
    nodes = gpu_numa_nodes()
    instances = [
        f"{asked(pynvml.nvmlDeviceGetGpuInstanceId, h)}/"
        f"{asked(pynvml.nvmlDeviceGetComputeInstanceId, h)}"
        for h in handles
        if asked(pynvml.nvmlDeviceIsMigDeviceHandle, h)
    ]
    return {
        "gpu_mig_instance": ",".join(instances) or None,
        "gpu_numa_node": ",".join(map(str, sorted(nodes))) or None,
        "gpu_pcie_generation": min((each for each in generations if each), default=None),
        "gpu_pcie_width": min((each for each in widths if each), default=None),
    }


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
        info = asked(pynvml.nvmlDeviceGetPciInfo, handle)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # NVML writes the domain with eight digits, Linux with four.
            place = devices / info.busId.lower()[-len("0000:00:00.0") :] / "numa_node"
            found.add(int(place.read_text()))
    # Linux says -1 on nodes that have only one.
    return {node for node in found if node >= 0}


def asked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Ask NVML something that a GPU or a driver may not know.

    Parameters
    ----------
    function
        A function of NVML.
    *arguments
        Its arguments.

    Returns
    -------
    Any
        The answer; None where there is none.
    """
    try:
        return function(*arguments)
    except pynvml.NVMLError:
        return None


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
        The compute capabilities, such as "sm80"; "cpu" without a GPU, "gpu" where it does not
        answer.
    """
    try:
        found = {pynvml.nvmlDeviceGetCudaComputeCapability(handle) for handle in gpu_handles()}
    except pynvml.NVMLError as error:
        log.debug("NVML does not return the GPU's compute capability: %s", error)
        return "gpu"
    return "-".join(f"sm{major}{minor}" for major, minor in sorted(found)) or "cpu"


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
    if gpu is None:
        return None
    found = gpu_columns()
    if found["gpu_count"] < count:
        return f"{count} x {gpu} promised, {found['gpu_count']} GPUs found"
    if found.get("gpu_name") != gpu:
        return f"{gpu} promised, {found.get('gpu_name')} found"
    return None


def name_gpus_by_uuid() -> None:
    """Rewrite CUDA_VISIBLE_DEVICES so that it names the GPUs of this job by their UUIDs.

    An index means another GPU where a container or a control group hides some, and a batch system's
    "CUDA0" means nothing to CUDA.
    """
    handles = gpu_handles()
    if handles and os.environ.get(_VISIBLE):
        _make_visible(handles)


def take_gpus(worker: int, count: int) -> None:
    """Leave this process its share of the computer's GPUs, in CUDA_VISIBLE_DEVICES.

    For local workers, which no batch system gives GPUs of their own. A worker takes its share
    once; a computer without GPUs is left as it is.

    Parameters
    ----------
    worker
        The number of this worker, from 0. No two workers with different numbers share a GPU.
    count
        GPUs per worker.

    Raises
    ------
    UnusableNode
        If the computer has too few GPUs for this worker.
    """
    handles = gpu_handles()
    # Once, because the share is counted among the GPUs that are visible before it is taken.
    if not handles or not count or _TAKEN in os.environ:
        return
    own = handles[worker * count : (worker + 1) * count]
    if len(own) < count:
        raise UnusableNode(
            f"{platform.node()}: {len(handles)} GPUs are too few for worker number {worker + 1} "
            f"with {count} GPUs per worker",
            "lower max_jobs or gpus_per_job in the site file",
        )
    _make_visible(own)
    os.environ[_TAKEN] = str(worker)


def _make_visible(handles: tuple[Any, ...]) -> None:
    os.environ[_VISIBLE] = ",".join(pynvml.nvmlDeviceGetUUID(handle) for handle in handles)


def gpu_handles() -> tuple[Any, ...]:
    """Return NVML's handles of the GPUs in CUDA_VISIBLE_DEVICES.

    Returns
    -------
    tuple
        In the order of the variable; empty without a driver.
    """
    try:
        # NVML counts these calls: all but the first cost nothing.
        pynvml.nvmlInit()
        # NVML ignores CUDA_VISIBLE_DEVICES and lists all GPUs of the node. If the variable is set
        # but empty, this process has none.
        visible = os.environ.get(_VISIBLE)
        if visible is None:
            indices = range(pynvml.nvmlDeviceGetCount())
            return tuple(pynvml.nvmlDeviceGetHandleByIndex(index) for index in indices)
        names = [name.strip() for name in visible.split(",") if name.strip()]
        return tuple(_handle(name) for name in names)
    # ValueError: a batch system may say "NoDevFiles", which is no number.
    except (pynvml.NVMLError, ValueError) as error:
        log.debug("no GPU here: %s", error)
        return ()


def _handle(name: str) -> Any:
    if name.startswith(("GPU-", "MIG-")):
        return pynvml.nvmlDeviceGetHandleByUUID(name)
    # Some batch systems say CUDA0, others 0.
    return pynvml.nvmlDeviceGetHandleByIndex(int(name.removeprefix("CUDA")))
