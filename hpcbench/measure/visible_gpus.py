"""Which GPUs this process may use: CUDA_VISIBLE_DEVICES in all its spellings, as NVML's handles.

Nothing is kept between two calls. The variable alone says which GPUs belong to this process, so
code that changes it need not inform this module.

References
----------
"CUDA Environment Variables" in the CUDA C++ Programming Guide; NVIDIA's MIG User Guide.
"""

import logging
import os
import re
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import pynvml

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""In the environment: the GPUs that CUDA may use, by index, by UUID or by its first digits."""


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


def gpu_uuid(handle: Any) -> str:
    """Return what CUDA calls a GPU or a MIG instance on every node.

    Parameters
    ----------
    handle
        NVML's handle.

    Returns
    -------
    str
        GPU-..., or MIG-...
    """
    uuid: str = pynvml.nvmlDeviceGetUUID(handle)
    return uuid


def is_mig_instance(handle: Any) -> bool:
    """Return whether a handle is that of a MIG instance.

    Parameters
    ----------
    handle
        NVML's handle.

    Returns
    -------
    bool
        False for a whole GPU, and for drivers that do not know MIG.
    """
    return bool(asked(pynvml.nvmlDeviceIsMigDeviceHandle, handle))


def whole_gpu(handle: Any) -> Any:
    """Return the GPU that a MIG instance is a part of: what NVML says of the whole only.

    Parameters
    ----------
    handle
        NVML's handle of a GPU or of an instance.

    Returns
    -------
    Any
        The handle of the GPU; None where NVML does not return it.
    """
    if not is_mig_instance(handle):
        return handle
    return asked(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, handle)


def name_gpus_by_uuid() -> None:
    """Rewrite CUDA_VISIBLE_DEVICES so that it names the GPUs of this job by their UUIDs.

    An index means another GPU where a container or a control group hides some, a batch system's
    "CUDA0" means nothing to CUDA, and the index of a GPU that is divided means none of its
    instances.
    """
    handles = gpu_handles()
    if handles and os.environ.get(VISIBLE):
        os.environ[VISIBLE] = ",".join(map(gpu_uuid, handles))


def gpu_handles() -> tuple[Any, ...]:
    """Return NVML's handles of the GPUs that CUDA uses in this process.

    Returns
    -------
    tuple
        Those in CUDA_VISIBLE_DEVICES, in its order. Of MIG instances only the first one: CUDA uses
        no second one in the same process. Empty without a driver.
    """
    handles = visible_handles()
    return handles[:1] if handles and is_mig_instance(handles[0]) else handles


def visible_handles() -> tuple[Any, ...]:
    """Return NVML's handles of all GPUs in CUDA_VISIBLE_DEVICES.

    Returns
    -------
    tuple
        In the order of the variable; without it, all that there are, with the instances of a GPU in
        its place where it is divided. Empty without a driver.
    """
    try:
        # NVML counts these calls: all but the first cost nothing.
        pynvml.nvmlInit()
        # NVML ignores CUDA_VISIBLE_DEVICES and lists all GPUs of the node. If the variable is set
        # but empty, this process has none.
        visible = os.environ.get(VISIBLE)
        if visible is None:
            return tuple(part for gpu in _gpus() for part in (_instances(gpu) or [gpu]))
        names = [name.strip() for name in visible.split(",") if name.strip()]
        # CUDA ignores what comes after a name that it does not know, such as -1 or NoDevFiles.
        return tuple(takewhile(lambda handle: handle is not None, map(_handle, names)))
    except pynvml.NVMLError as error:
        log.debug("no GPU here: %s", error)
        return ()


def _gpus() -> list[Any]:
    count = pynvml.nvmlDeviceGetCount()
    return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]


def _instances(gpu: Any) -> list[Any]:
    """The MIG instances of a GPU that this process may use; none where it is not divided."""
    count = asked(pynvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0
    places = (asked(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, i) for i in range(count))
    return [handle for handle in places if handle is not None]


def _handle(name: str) -> Any:
    """NVML's handle of what CUDA_VISIBLE_DEVICES calls a GPU; None where there is none."""
    if name.startswith(("GPU-", "MIG-")):
        handle = asked(pynvml.nvmlDeviceGetHandleByUUID, name)
        handle = _abbreviated(name) if handle is None else handle
    else:
        # Some batch systems say CUDA0 for what is 0 elsewhere.
        digits = name.removeprefix("CUDA")
        handle = None
        if digits.isdecimal():
            handle = asked(pynvml.nvmlDeviceGetHandleByIndex, int(digits))
    # Of a GPU that is divided, CUDA uses the first instance that this process may use.
    return next(iter(_instances(handle)), handle) if handle is not None else None


def _abbreviated(name: str) -> Any:
    """The one GPU or instance whose UUID begins so: some batch systems give eight digits.

    Instances may also be named as drivers before 470 did, MIG-GPU-.../7/0.
    """
    old = re.fullmatch(r"MIG-(GPU-[\w-]+)/(\d+)/(\d+)", name)
    if old:
        ids = int(old[2]), int(old[3])
        gpu = _begins(_gpus(), old[1])
        parts = [] if gpu is None else _instances(gpu)
        return next((each for each in parts if instance_ids(each) == ids), None)
    everything = [each for gpu in _gpus() for each in (gpu, *_instances(gpu))]
    return _begins(everything, name)


def _begins(handles: list[Any], name: str) -> Any:
    matching = [each for each in handles if gpu_uuid(each).startswith(name)]
    return matching[0] if len(matching) == 1 else None


def instance_ids(instance: Any) -> tuple[int | None, int | None]:
    """Return the ids of a MIG instance on its GPU.

    Parameters
    ----------
    instance
        NVML's handle.

    Returns
    -------
    tuple of int or None
        GPU instance and compute instance; None where NVML does not say.
    """
    return (
        asked(pynvml.nvmlDeviceGetGpuInstanceId, instance),
        asked(pynvml.nvmlDeviceGetComputeInstanceId, instance),
    )
