"""What the GPUs did. This machine may have none: then a stand-in answers for NVML."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pynvml
import pytest

from hpcbench.measure import gpu_sampling
from hpcbench.measure.gpu_sampling import Gpus, GpuState, NvmlGpus
from hpcbench.measure.sampling import Energy, Reading
from tests.helpers.nvml import MIG, UUIDS, nvml, refuse, use_nvml


def use(monkeypatch: pytest.MonkeyPatch, visible: str, **changes: Any) -> NvmlGpus:
    use_nvml(monkeypatch, nvml(divided=visible == MIG, **changes))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    return NvmlGpus()


def readings(*states: Gpus, step: float = 1.0) -> list[Reading[Gpus]]:
    return [Reading(step * number, state) for number, state in enumerate(states)]


def test_nvml_is_read_in_plain_units(monkeypatch: pytest.MonkeyPatch) -> None:
    (state,) = use(monkeypatch, UUIDS[1]).read()
    assert state == GpuState(
        utilization=0.6,
        power_w=200.0,
        energy_j=3000.0,
        memory_bytes=3 * 2**30,
        memory_total_bytes=40 * 2**30,
        sm_clock_mhz=1410,
        memory_clock_mhz=1215,
        temperature_c=60,
        throttle_reasons=frozenset(),
        pids=frozenset({4242}),
    )


def test_what_a_gpu_does_not_report_is_missing_and_the_rest_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lacking = refuse(pynvml.NVML_ERROR_NOT_SUPPORTED)
    source = use(
        monkeypatch,
        "0",
        nvmlDeviceGetTotalEnergyConsumption=lacking,
        nvmlDeviceGetUtilizationRates=lacking,
    )
    (state,) = source.read()
    assert (state.energy_j, state.utilization, state.power_w) == (None, None, 100.0)


def test_a_mig_instance_has_its_own_memory_and_nobodys_energy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The power of the whole GPU also feeds other people's instances."""
    memory = {0: 30, 10: 2}
    source = use(
        monkeypatch,
        MIG,
        nvmlDeviceGetMemoryInfo=lambda handle: type(
            "Memory", (), {"used": memory[handle], "total": 5}
        ),
        # As on an A100 with driver 550: an instance has no clocks and no temperature of its own.
        nvmlDeviceGetTemperature=lambda handle, _: {0: 55}[handle],
    )
    (state,) = source.read()
    assert (state.memory_bytes, state.temperature_c) == (2, 55)
    assert (state.energy_j, state.power_w, state.utilization) == (None, None, None)


def test_columns_are_means_over_readings_and_gpus_and_sums_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = use(monkeypatch, "0,1").read()
    columns = gpu_sampling.gpu_load_columns(readings(state, state), own={4242})
    assert columns["gpu_utilization_avg"] == pytest.approx(0.5)
    assert columns["gpu_power_avg_w"] == 150
    assert columns["gpu_memory_max_bytes"] == 6 * 2**30
    assert columns["gpu_memory_total_bytes"] == 80 * 2**30
    assert columns["gpu_temperature_max_c"] == 60
    assert columns["gpu_sm_clock_min_mhz"] == 1410
    assert (columns["gpu_throttle_reasons"], columns["gpu_other_processes"]) == ("", 0)


def test_a_process_that_is_not_the_servers_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    (state,) = use(monkeypatch, "0").read()
    assert state.pids == {4242}
    both = replace(state, pids=frozenset({4242, os.getpid()}))
    columns = gpu_sampling.gpu_load_columns(readings((both,)), own={os.getpid()})
    assert columns["gpu_other_processes"] == 1


def test_where_the_server_is_not_among_the_processes_nobody_knows_which_are_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a container with process ids of its own, and where MPS computes for all."""
    state = use(monkeypatch, "0").read()
    assert "gpu_other_processes" not in gpu_sampling.gpu_load_columns(readings(state), own={1})
    nobody = (GpuState(pids=frozenset()),)
    assert gpu_sampling.gpu_load_columns(readings(nobody), own={1})["gpu_other_processes"] == 0


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (pynvml.nvmlClocksThrottleReasonGpuIdle, ""),
        (pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting, ""),
        (pynvml.nvmlClocksThrottleReasonSwPowerCap, "power_cap"),
        (0x8 | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown, "hw_slowdown, hw_thermal"),
    ],
)
def test_a_gpu_that_is_slowed_down_says_why(
    monkeypatch: pytest.MonkeyPatch, bits: int, words: str
) -> None:
    usual = use(monkeypatch, "0").read()
    slowed = use(monkeypatch, "0", nvmlDeviceGetCurrentClocksThrottleReasons=lambda _: bits).read()
    columns = gpu_sampling.gpu_load_columns(readings(usual, slowed, usual), own=())
    assert columns["gpu_throttle_reasons"] == words


def test_energy_is_the_difference_of_the_counters_of_all_gpus() -> None:
    first = GpuState(energy_j=1000.0), GpuState(energy_j=500.0)
    last = GpuState(energy_j=1300.0), GpuState(energy_j=700.0)
    assert gpu_sampling.energy(readings(first, last, step=2.0)) == Energy(500.0, 2.0)
    assert gpu_sampling.energy(readings(first)) is None


def test_energy_is_mean_power_over_time_where_a_gpu_has_no_counter() -> None:
    states = [(GpuState(power_w=watts), GpuState(power_w=50.0)) for watts in (50.0, 100.0, 150.0)]
    assert gpu_sampling.energy(readings(*states)) == Energy(300.0, 2.0)


def test_power_that_one_gpu_does_not_report_is_no_energy_of_the_others() -> None:
    states = [(GpuState(power_w=100.0), GpuState())] * 2
    assert gpu_sampling.energy(readings(*states)) is None


METRICS = """\
# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-11111111-aaaa"} 0.270000
nv_gpu_utilization{gpu_uuid="GPU-22222222-bbbb"} 0.000000
# HELP nv_gpu_memory_used_bytes GPU used memory, in bytes
# TYPE nv_gpu_memory_used_bytes gauge
nv_gpu_memory_used_bytes{gpu_uuid="GPU-11111111-aaaa"} 3221225472.000000
nv_gpu_memory_used_bytes{gpu_uuid="GPU-22222222-bbbb"} 1073741824.000000
# HELP nv_gpu_power_usage GPU power usage in watts
# TYPE nv_gpu_power_usage gauge
nv_gpu_power_usage{gpu_uuid="GPU-11111111-aaaa"} 71.300000
nv_gpu_power_usage{gpu_uuid="GPU-22222222-bbbb"} 28.700000
# HELP nv_cpu_utilization CPU utilization rate [0.0 - 1.0]
# TYPE nv_cpu_utilization gauge
nv_cpu_utilization 0.200000
"""


def test_where_nvml_is_missing_tritons_metrics_say_what_they_can() -> None:
    state = gpu_sampling.parse_metrics(METRICS)
    columns = gpu_sampling.gpu_load_columns(readings(state, state), own=())
    assert columns == {
        "gpu_utilization_avg": pytest.approx(0.135),
        "gpu_power_avg_w": 50.0,
        "gpu_memory_max_bytes": 2**32,
    }
    assert gpu_sampling.energy(readings(state, state)) == Energy(100.0, 1.0)


def test_a_server_without_gpus_has_none_in_its_metrics() -> None:
    assert gpu_sampling.parse_metrics("nv_cpu_utilization 0.200000\n") == ()
