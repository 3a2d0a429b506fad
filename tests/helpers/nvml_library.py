"""What real GPUs answered, given by a library as NVIDIA's own gives it: to the real nvidia-ml-py.

The values are those of nvidia-smi -q on two machines, in the test data of Telegraf: one with A100s
that are divided (driver 535.54.03), one with a T4 (driver 515.105.01). nvidia-smi does not print
UUIDs of instances there; theirs are invented. The functions are those of nvml.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import pynvml
import pytest

Answers = Mapping[str, tuple[Any, ...]]
"""By function: what it writes where its arguments point to. `...` is an argument that is read."""

DIVIDED = "GPU-513536b6-7d19-9063-b049-1e69664bb298"
T4 = "GPU-d37e67a5-91dd-3774-a5cb-99096249601a"
SLICES = {
    f"MIG-{digit * 8}-7d19-5063-b049-1e69664bb298": 3 + place for place, digit in enumerate("abcd")
}
"""The GPU instance of each."""
_GPU, _INSTANCE = 1, 100

_OF_A100: Answers = {
    "nvmlDeviceGetName": (b"NVIDIA A100-SXM4-80GB",),
    "nvmlDeviceGetUUID": (DIVIDED.encode(),),
    "nvmlDeviceGetPersistenceMode": (0,),
    "nvmlDeviceGetEccMode": (1, 1),
    "nvmlDeviceGetMaxPcieLinkGeneration": (4,),
    "nvmlDeviceGetCurrPcieLinkWidth": (16,),
    "nvmlDeviceGetPciInfo_v3": ({"busId": b"00000000:01:00.0"},),
    "nvmlDeviceGetCudaComputeCapability": (8, 0),
    "nvmlDeviceGetMemoryInfo": ({"total": 81920 << 20, "used": 919 << 20, "free": 80999 << 20},),
    "nvmlDeviceGetTemperature": (..., 27),
    "nvmlDeviceGetClockInfo": (..., 1275),
    "nvmlDeviceGetCurrentClocksThrottleReasons": (0,),
    "nvmlDeviceGetPowerUsage": (67030,),
    "nvmlDeviceIsMigDeviceHandle": (0,),
    "nvmlDeviceGetMaxMigDeviceCount": (7,),
}
_OF_T4: Answers = {
    "nvmlDeviceGetName": (b"Tesla T4",),
    "nvmlDeviceGetUUID": (T4.encode(),),
    "nvmlDeviceGetPersistenceMode": (0,),
    "nvmlDeviceGetEccMode": (1, 1),
    "nvmlDeviceGetMaxPcieLinkGeneration": (3,),
    "nvmlDeviceGetCurrPcieLinkWidth": (8,),
    "nvmlDeviceGetPciInfo_v3": ({"busId": b"00000000:00:1E.0"},),
    "nvmlDeviceGetCudaComputeCapability": (7, 5),
    "nvmlDeviceGetMemoryInfo": ({"total": 15360 << 20, "used": 1420 << 20, "free": 13939 << 20},),
    "nvmlDeviceGetUtilizationRates": ({"gpu": 0, "memory": 0},),
    "nvmlDeviceGetTemperature": (..., 40),
    "nvmlDeviceGetClockInfo": (..., 585),
    "nvmlDeviceGetCurrentClocksThrottleReasons": (0,),
    "nvmlDeviceGetPowerUsage": (26780,),
    "nvmlDeviceIsMigDeviceHandle": (0,),
    "nvmlDeviceGetMaxMigDeviceCount": (0,),
}


def _of_instance(uuid: str, gpu_instance: int, name: bytes | None) -> Answers:
    named = {"nvmlDeviceGetName": (name,)} if name else {}
    return {
        **named,
        "nvmlDeviceGetUUID": (uuid.encode(),),
        "nvmlDeviceIsMigDeviceHandle": (1,),
        "nvmlDeviceGetGpuInstanceId": (gpu_instance,),
        "nvmlDeviceGetComputeInstanceId": (0,),
        "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": (_GPU,),
        "nvmlDeviceGetMemoryInfo": ({"total": 19968 << 20, "used": 12 << 20, "free": 19955 << 20},),
        "nvmlDeviceGetAttributes_v2": (
            {
                "multiprocessorCount": 14,
                "gpuInstanceSliceCount": 1,
                "computeInstanceSliceCount": 1,
                "memorySizeMB": 19968,
            },
        ),
    }


class Library:
    """The functions of libnvidia-ml.so that hpcbench asks, for the GPUs of one machine."""

    def __init__(self, devices: Mapping[int, Answers], driver: bytes, lacking: str = "") -> None:
        self._devices, self._driver, self._lacking = devices, driver, lacking

    def __getattr__(self, name: str) -> Callable[..., int]:
        own = f"_{name.removesuffix('_v2').removesuffix('_v3')}"
        if self._lacking and self._lacking in name:
            # A driver that is older than the function.
            raise AttributeError(name)
        if own in vars(Library):
            return getattr(self, own)  # type: ignore[no-any-return]
        return lambda handle, *arguments: self._answer(name, _number(handle), arguments)

    def _answer(self, name: str, handle: int, arguments: tuple[Any, ...]) -> int:
        answers = self._devices.get(handle)
        if answers is None:
            return int(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        if name not in answers:
            return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        for argument, value in zip(arguments, answers[name], strict=False):
            if value is not ...:
                _write(argument, value)
        return 0

    def _nvmlInitWithFlags(self, _: int) -> int:  # noqa: N802 - names of nvml.h, here and below
        return 0

    def _nvmlSystemGetDriverVersion(self, text: Any, _: Any) -> int:  # noqa: N802
        text.value = self._driver
        return 0

    def _nvmlDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = sum(number < _INSTANCE for number in self._devices)
        return 0

    def _nvmlDeviceGetHandleByIndex(self, index: Any, handle: Any) -> int:  # noqa: N802
        if index.value + _GPU not in self._devices:
            return int(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        _write(handle, index.value + _GPU)
        return 0

    def _nvmlDeviceGetHandleByUUID(self, uuid: Any, handle: Any) -> int:  # noqa: N802
        for number, answers in self._devices.items():
            if answers["nvmlDeviceGetUUID"] == (uuid.value,):
                _write(handle, number)
                return 0
        return int(pynvml.NVML_ERROR_NOT_FOUND)

    def _nvmlDeviceGetMigDeviceHandleByIndex(  # noqa: N802
        self, gpu: Any, index: Any, handle: Any
    ) -> int:
        number = _INSTANCE + index.value
        if _number(gpu) != _GPU or number not in self._devices:
            return int(pynvml.NVML_ERROR_NOT_FOUND)
        _write(handle, number)
        return 0

    def _nvmlDeviceGetComputeRunningProcesses(  # noqa: N802
        self, _: Any, count: Any, processes: Any
    ) -> int:
        if processes is None:
            count._obj.value = 1
            return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
        count._obj.value = 1
        processes[0].pid = 4242
        return 0


def _number(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _write(argument: Any, value: Any) -> None:
    """Write where an argument points to, as C does."""
    target = getattr(argument, "_obj", argument)
    if isinstance(value, dict):
        for name, each in value.items():
            setattr(target, name, each)
    elif isinstance(target, ctypes._Pointer):
        ctypes.memmove(ctypes.addressof(target), ctypes.byref(ctypes.c_void_p(value)), 8)
    else:
        target.value = value


def divided_a100(*, names_instances: bool = True) -> Library:
    """A machine with one of the divided A100s; drivers before 470 do not name instances."""
    name = b"NVIDIA A100-SXM4-80GB MIG 1g.20gb" if names_instances else None
    instances = {
        _INSTANCE + place: _of_instance(uuid, gpu_instance, name)
        for place, (uuid, gpu_instance) in enumerate(SLICES.items())
    }
    return Library({_GPU: _OF_A100, **instances}, b"535.54.03")


def one_t4(lacking: str = "") -> Library:
    """A machine with a T4, whose driver may lack functions."""
    return Library({_GPU: _OF_T4}, b"515.105.01", lacking)


def load(monkeypatch: pytest.MonkeyPatch, library: Library, visible: str | None) -> None:
    """Let nvidia-ml-py find this library, and hpcbench these GPUs."""
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(pynvml, "_nvmlLib_refcount", 0)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
