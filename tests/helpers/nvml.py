"""A stand-in for NVML with two GPUs, which answers as nvidia-ml-py does."""

import types
from collections.abc import Callable
from typing import Any

import pynvml

UUIDS = ("GPU-11111111-aaaa", "GPU-22222222-bbbb")
MIG = "MIG-33333333-cccc"
"""An instance on the first of them, whose handle is 10."""


def nvml(**changes: Any) -> types.SimpleNamespace:
    """Strings, whole millijoules, milliwatts, percent and megahertz; 100 W and 200 W."""

    def by_index(index: int) -> int:
        if not 0 <= index < len(UUIDS):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return index

    def by_uuid(uuid: str) -> int:
        if uuid not in (*UUIDS, MIG):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return 10 if uuid == MIG else UUIDS.index(uuid)

    functions = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: len(UUIDS),
        "nvmlDeviceGetHandleByIndex": by_index,
        "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlDeviceGetName": lambda _: "NVIDIA A100-SXM4-40GB",
        "nvmlDeviceGetUUID": lambda handle: MIG if handle == 10 else UUIDS[handle],
        "nvmlSystemGetDriverVersion": lambda: "550.90.07",
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: (handle + 1) * 1_500_000,
        "nvmlDeviceGetPowerUsage": lambda handle: (handle + 1) * 100_000,
        "nvmlDeviceGetUtilizationRates": lambda handle: types.SimpleNamespace(
            gpu=40 + 20 * handle, memory=10
        ),
        "nvmlDeviceGetMemoryInfo": lambda _: types.SimpleNamespace(
            total=40 * 2**30, free=37 * 2**30, used=3 * 2**30
        ),
        "nvmlDeviceGetClockInfo": lambda _, kind: 1215 if kind == pynvml.NVML_CLOCK_MEM else 1410,
        "nvmlDeviceGetTemperature": lambda handle, _: 50 + 10 * handle,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: 0,
        "nvmlDeviceGetComputeRunningProcesses": lambda _: [types.SimpleNamespace(pid=4242)],
        "nvmlDeviceIsMigDeviceHandle": lambda handle: int(handle == 10),
        "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda _: 0,
        "nvmlDeviceGetGpuInstanceId": lambda _: 7,
        "nvmlDeviceGetComputeInstanceId": lambda _: 0,
        "nvmlDeviceGetPciInfo": lambda handle: types.SimpleNamespace(
            busId=f"00000000:{0x10 + handle:02X}:00.0"
        ),
        "nvmlDeviceGetMaxPcieLinkGeneration": lambda _: 4,
        "nvmlDeviceGetCurrPcieLinkWidth": lambda _: 16,
    }
    constants = {
        name: value for name, value in vars(pynvml).items() if isinstance(value, int | type)
    }
    return types.SimpleNamespace(**(constants | functions | changes))


def refuse(code: int) -> Callable[..., Any]:
    """A function of NVML that has no answer."""

    def raising(*_: Any) -> Any:
        raise pynvml.NVMLError(code)

    return raising
