"""What the GPUs did while points were measured: read from NVML, or else from Triton's metrics."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pynvml

from hpcbench.measure import loaded_config
from hpcbench.measure.sampling import Energy, Reading
from hpcbench.measure.visible_gpus import asked, gpu_handles, is_mig_instance, whole_gpu
from hpcbench.runtime.loopback import Port

NVML = "nvml"
TRITON = "triton"


@dataclass(frozen=True, kw_only=True)
class GpuState:
    """One GPU at one time. What its driver does not tell is None.

    Attributes
    ----------
    utilization
        Share of the time in which a kernel ran, over the driver's last period.
    power_w, energy_j
        Its power, and its energy since the driver was loaded.
    memory_bytes, memory_total_bytes
        Memory in use by all processes, and all of it.
    sm_clock_mhz, memory_clock_mhz
        Its clocks.
    temperature_c
        Its temperature.
    throttle_reasons
        Why its clocks are lower than they could be.
    pids
        The processes that compute on it.
    """

    utilization: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    memory_bytes: int | None = None
    memory_total_bytes: int | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle_reasons: frozenset[str] | None = None
    pids: frozenset[int] | None = None


Gpus = tuple[GpuState, ...]
"""All GPUs of a job at one time."""

# Idle clocks, and clocks that somebody has set or synchronised, are no sign of a GPU that cannot
# do what it should.
_THROTTLES = {
    pynvml.nvmlClocksThrottleReasonSwPowerCap: "power_cap",
    0x8: "hw_slowdown",  # nvidia-ml-py has no name for it in the old spelling
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "thermal",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "hw_thermal",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "hw_power_brake",
}


@dataclass(frozen=True)
class NvmlGpus:
    """NVML's view of the GPUs of this process: a source for a sampler.

    Attributes
    ----------
    period_s
        Seconds between two readings: energy counters step about as often.
    """

    period_s: float = 0.1

    def read(self) -> Gpus:
        """Return what NVML says of each GPU.

        Returns
        -------
        tuple of GpuState
            In the order of CUDA_VISIBLE_DEVICES.
        """
        return tuple(_state(handle) for handle in gpu_handles())


def _state(handle: Any) -> GpuState:
    mig = is_mig_instance(handle)
    # A MIG instance has memory and processes of its own. Its clocks are the whole GPU's, whose
    # power and energy also feed the other instances, and belong to nobody alone.
    whole = whole_gpu(handle)
    memory = asked(pynvml.nvmlDeviceGetMemoryInfo, handle)
    processes = asked(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)
    reasons = asked(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, whole)
    load = power_mw = energy_mj = None
    if not mig:
        load = asked(pynvml.nvmlDeviceGetUtilizationRates, handle)
        power_mw = asked(pynvml.nvmlDeviceGetPowerUsage, handle)
        energy_mj = asked(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    return GpuState(
        utilization=None if load is None else load.gpu / 100,
        power_w=None if power_mw is None else power_mw / 1000,
        energy_j=None if energy_mj is None else energy_mj / 1000,
        memory_bytes=None if memory is None else memory.used,
        memory_total_bytes=None if memory is None else memory.total,
        sm_clock_mhz=asked(pynvml.nvmlDeviceGetClockInfo, whole, pynvml.NVML_CLOCK_SM),
        memory_clock_mhz=asked(pynvml.nvmlDeviceGetClockInfo, whole, pynvml.NVML_CLOCK_MEM),
        temperature_c=asked(pynvml.nvmlDeviceGetTemperature, whole, pynvml.NVML_TEMPERATURE_GPU),
        throttle_reasons=None
        if reasons is None
        else frozenset(name for bit, name in _THROTTLES.items() if reasons & bit),
        pids=None if processes is None else frozenset(each.pid for each in processes),
    )


@dataclass(frozen=True)
class TritonGpus:
    """Triton's metrics of its GPUs, for nodes where NVML is missing: a source for a sampler.

    Attributes
    ----------
    metrics_port
        Triton's port for metrics.
    period_s
        Seconds between two readings: Triton reads its GPUs every two seconds by default.
    """

    metrics_port: Port
    period_s: float = 0.5

    def read(self) -> Gpus:
        """Return what Triton says of each GPU.

        Returns
        -------
        tuple of GpuState
            In the order of Triton's answer; empty where it has no GPU.

        Raises
        ------
        OSError, HTTPException
            Where it does not answer.
        """
        _, body = loaded_config.get(self.metrics_port, "/metrics")
        return parse_metrics(body.decode())


_METRICS: Mapping[str, tuple[str, type]] = {
    "nv_gpu_utilization": ("utilization", float),
    "nv_gpu_power_usage": ("power_w", float),
    "nv_gpu_memory_used_bytes": ("memory_bytes", int),
    "nv_gpu_memory_total_bytes": ("memory_total_bytes", int),
}


def parse_metrics(text: str) -> Gpus:
    """Return the GPUs in Triton's metrics.

    Parameters
    ----------
    text
        What its metrics port answers.

    Returns
    -------
    tuple of GpuState
        In the order in which they first appear.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, uuid, value in re.findall(r'^(\w+)\{gpu_uuid="([^"]+)"\} (\S+)$', text, re.MULTILINE):
        if name in _METRICS:
            column, kind = _METRICS[name]
            found.setdefault(uuid, {})[column] = kind(float(value))
    return tuple(GpuState(**each) for each in found.values())


def gpu_load_columns(readings: Sequence[Reading[Gpus]], own: Collection[int]) -> dict[str, Any]:
    """Return what the GPUs did, by the names of the columns.

    Parameters
    ----------
    readings
        In the order of time.
    own
        The processes of the measured server, and of its clients: they compute, too, where tensors
        reach the server through shared memory of CUDA.

    Returns
    -------
    dict of str to Any
        Without what no reading tells.
    """
    columns = {
        "gpu_utilization_avg": _mean(readings, "utilization"),
        "gpu_power_avg_w": _mean(readings, "power_w"),
        "gpu_memory_max_bytes": _largest_sum(readings, "memory_bytes"),
        "gpu_memory_total_bytes": _largest_sum(readings, "memory_total_bytes"),
        "gpu_sm_clock_avg_mhz": _mean(readings, "sm_clock_mhz"),
        "gpu_sm_clock_min_mhz": min(_values(readings, "sm_clock_mhz"), default=None),
        "gpu_memory_clock_avg_mhz": _mean(readings, "memory_clock_mhz"),
        "gpu_temperature_max_c": max(_values(readings, "temperature_c"), default=None),
        "gpu_throttle_reasons": _throttle_reasons(readings),
        "gpu_other_processes": _other_processes(readings, own),
    }
    return {name: value for name, value in columns.items() if value is not None}


def energy(readings: Sequence[Reading[Gpus]]) -> Energy | None:
    """Return the energy of all GPUs between the first and the last reading.

    Parameters
    ----------
    readings
        In the order of time.

    Returns
    -------
    Energy or None
        From the counters; from the mean power where they are missing (before Volta) or are those
        of Triton, which reads them every two seconds only. None where neither is known.
    """
    if len(readings) < 2:
        return None
    first, last = readings[0], readings[-1]
    seconds = last.at - first.at
    counters = [_sum(each.value, "energy_j") for each in (first, last)]
    if counters[0] is not None and counters[1] is not None:
        return Energy(counters[1] - counters[0], seconds)
    powers = [power for each in readings if (power := _sum(each.value, "power_w")) is not None]
    return Energy(fmean(powers) * seconds, seconds) if powers else None


def _sum(gpus: Gpus, name: str) -> float | None:
    """The sum over all GPUs; None where one does not tell."""
    values = [getattr(gpu, name) for gpu in gpus]
    return sum(values) if values and None not in values else None


def _values(readings: Iterable[Reading[Gpus]], name: str) -> list[Any]:
    found = [getattr(gpu, name) for reading in readings for gpu in reading.value]
    return [value for value in found if value is not None]


def _mean(readings: Iterable[Reading[Gpus]], name: str) -> float | None:
    values = _values(readings, name)
    return fmean(values) if values else None


def _largest_sum(readings: Iterable[Reading[Gpus]], name: str) -> int | None:
    sums = [sum(values) for each in readings if (values := _values([each], name))]
    return max(sums, default=None)


def _throttle_reasons(readings: Iterable[Reading[Gpus]]) -> str | None:
    found = _values(readings, "throttle_reasons")
    return ", ".join(sorted(frozenset().union(*found))) if found else None


def _other_processes(readings: Iterable[Reading[Gpus]], own: Collection[int]) -> int | None:
    found = _values(readings, "pids")
    known = frozenset().union(*found)
    # In a container with ids of its own, and where MPS computes for all, the server is not among
    # them, and nobody can tell which of them it is.
    if known and known.isdisjoint(own):
        return None
    return max((len(pids.difference(own)) for pids in found), default=None)
