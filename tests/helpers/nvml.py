"""A stand-in for NVML with two GPUs, which answers as nvidia-ml-py does.

What it says of a MIG instance has the form of recorded answers: the names of nvidia-smi -L and of
condor_gpu_discovery, and the memory of an A100's smallest instance. As for the real library, an
instance has no clocks, no power, no temperature, no place on the PCI bus, no settings.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pynvml

if TYPE_CHECKING:
    import pytest

UUIDS = ("GPU-11111111-aaaa", "GPU-22222222-bbbb")
A100 = "NVIDIA A100-SXM4-40GB"
INSTANCES = ("MIG-33333333-cccc", "MIG-44444444-dddd")
"""The instances of the first GPU where it is divided. Their handles are 10 and 11."""
MIG = INSTANCES[0]
SLICE = f"{A100} MIG 1g.5gb"
_FIRST_INSTANCE = 10


def nvml(*, divided: bool = False, serial: str = "", **changes: Any) -> types.SimpleNamespace:
    """Strings, whole millijoules, milliwatts, percent and megahertz; 100 W and 200 W.

    All UUIDs end with the serial: locks of GPUs are seen by all tests of this machine.
    """
    instances = INSTANCES if divided else ()
    handles = {f"{uuid}{serial}": place for place, uuid in enumerate(UUIDS)}
    handles |= {f"{each}{serial}": _FIRST_INSTANCE + i for i, each in enumerate(instances)}
    uuids = {handle: uuid for uuid, handle in handles.items()}

    def by_index(index: int) -> int:
        if not 0 <= index < len(UUIDS):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return index

    def by_uuid(uuid: str) -> int:
        if uuid not in handles:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return handles[uuid]

    def instance(gpu: int, place: int) -> int:
        if gpu != 0 or place >= len(instances):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return _FIRST_INSTANCE + place

    def memory(handle: int) -> types.SimpleNamespace:
        total = 4864 * 2**20 if _is_instance(handle) else 40 * 2**30
        return types.SimpleNamespace(total=total, free=total - 3 * 2**30, used=3 * 2**30)

    functions = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: len(UUIDS),
        "nvmlDeviceGetHandleByIndex": by_index,
        "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlDeviceGetName": lambda handle: SLICE if _is_instance(handle) else A100,
        "nvmlDeviceGetUUID": lambda handle: uuids[handle],
        "nvmlSystemGetDriverVersion": lambda: "550.90.07",
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 12040,
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetComputeRunningProcesses": lambda _: [types.SimpleNamespace(pid=4242)],
        "nvmlDeviceIsMigDeviceHandle": _is_instance,
        "nvmlDeviceGetMaxMigDeviceCount": lambda gpu: 7 if divided and gpu == 0 else 0,
        "nvmlDeviceGetMigDeviceHandleByIndex": instance,
        "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda _: 0,
        "nvmlDeviceGetGpuInstanceId": lambda handle: 7 + handle - _FIRST_INSTANCE,
        "nvmlDeviceGetComputeInstanceId": lambda _: 0,
        "nvmlDeviceGetAttributes_v2": lambda _: types.SimpleNamespace(
            gpuInstanceSliceCount=1, computeInstanceSliceCount=1, memorySizeMB=4864
        ),
    }
    of_whole_gpus = {
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: (handle + 1) * 1_500_000,
        "nvmlDeviceGetPowerUsage": lambda handle: (handle + 1) * 100_000,
        "nvmlDeviceGetUtilizationRates": lambda handle: types.SimpleNamespace(
            gpu=40 + 20 * handle, memory=10
        ),
        "nvmlDeviceGetClockInfo": lambda _, kind: 1215 if kind == pynvml.NVML_CLOCK_MEM else 1410,
        "nvmlDeviceGetTemperature": lambda handle, _: 50 + 10 * handle,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: 0,
        "nvmlDeviceGetCudaComputeCapability": lambda _: (8, 0),
        "nvmlDeviceGetPciInfo": lambda handle: types.SimpleNamespace(
            busId=f"00000000:{0x10 + handle:02X}:00.0"
        ),
        "nvmlDeviceGetMaxPcieLinkGeneration": lambda _: 4,
        "nvmlDeviceGetCurrPcieLinkWidth": lambda _: 16,
        "nvmlDeviceGetPersistenceMode": lambda _: 1,
        # Now, and after the next start.
        "nvmlDeviceGetEccMode": lambda handle: [1 - handle, 1],
    }
    functions |= {name: _refused_to_instances(each) for name, each in of_whole_gpus.items()}
    constants = {
        name: value for name, value in vars(pynvml).items() if isinstance(value, int | type)
    }
    return types.SimpleNamespace(**(constants | functions | changes))


def use_nvml(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    """Let hpcbench ask this library."""
    # Only here: with_nvml needs this module before it lets hpcbench have a library.
    from hpcbench.measure import device, gpu_sampling, visible_gpus

    for module in (device, gpu_sampling, visible_gpus):
        monkeypatch.setattr(module, "pynvml", library)


def refuse(code: int) -> Callable[..., Any]:
    """A function of NVML that has no answer."""

    def raising(*_: Any) -> Any:
        raise pynvml.NVMLError(code)

    return raising


def _is_instance(handle: int) -> int:
    return int(handle >= _FIRST_INSTANCE)


def _refused_to_instances(function: Callable[..., Any]) -> Callable[..., Any]:
    def asked(handle: int, *more: Any) -> Any:
        if _is_instance(handle):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return function(handle, *more)

    return asked


def mismatch(gpu: str | None, count: int) -> str | None:
    """How the GPUs of this process differ from those that a pool promises."""
    from hpcbench.measure import device

    found = device.gpu_mismatch(gpu, count, device.gpu_columns())
    return found.problem if found else None
