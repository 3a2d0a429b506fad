"""What real GPUs answered, through the real nvidia-ml-py, as columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbench.measure import device
from hpcbench.measure.gpu_sampling import GpuState, NvmlGpus
from hpcbench.measure.visible_gpus import gpu_uuid, visible_handles
from tests.helpers import nvml_library
from tests.helpers.nvml_library import DIVIDED, SLICES, T4


@pytest.mark.parametrize("visible", ["0", "CUDA0", T4, T4[:12], None])
def test_a_t4(monkeypatch: pytest.MonkeyPatch, visible: str | None) -> None:
    nvml_library.load(monkeypatch, nvml_library.one_t4(), visible)
    found = device.gpu_columns()
    # This computer may have something in the same place.
    del found["gpu_numa_node"]
    assert found == {
        "cuda_visible_devices": visible,
        "gpu_count": 1,
        "gpu_name": "Tesla T4",
        "gpu_uuid": T4,
        "gpu_driver": "515.105.01",
        "gpu_mig_instance": None,
        "gpu_mig_profile": None,
        "gpu_pcie_generation": 3,
        "gpu_pcie_width": 8,
        "gpu_persistence_mode": False,
        "gpu_ecc": True,
    }
    assert device.gpu_architecture() == "sm75"
    assert NvmlGpus().read() == (
        GpuState(
            utilization=0.0,
            power_w=26.78,
            memory_bytes=1420 << 20,
            memory_total_bytes=15360 << 20,
            sm_clock_mhz=585,
            memory_clock_mhz=585,
            temperature_c=40,
            throttle_reasons=frozenset(),
            pids=frozenset({4242}),
        ),
    )


def test_a_driver_from_before_mig_is_asked_about_it_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml_library.load(monkeypatch, nvml_library.one_t4(lacking="Mig"), "0")
    assert device.gpu_columns()["gpu_name"] == "Tesla T4"


@pytest.mark.parametrize("names_instances", [True, False])
@pytest.mark.parametrize(("uuid", "gpu_instance"), SLICES.items())
def test_an_instance_of_a_divided_a100(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    uuid: str,
    gpu_instance: int,
    names_instances: bool,
) -> None:
    library = nvml_library.divided_a100(names_instances=names_instances)
    nvml_library.load(monkeypatch, library, uuid)
    found = device.gpu_columns()
    assert (found["gpu_count"], found["gpu_uuid"]) == (1, uuid)
    assert found["gpu_name"] == "NVIDIA A100-SXM4-80GB MIG 1g.20gb"
    assert (found["gpu_mig_instance"], found["gpu_mig_profile"]) == (f"{gpu_instance}/0", "1g.20gb")
    assert (found["gpu_pcie_generation"], found["gpu_pcie_width"]) == (4, 16)
    assert (found["gpu_persistence_mode"], found["gpu_ecc"]) == (False, True)
    assert device.gpu_architecture() == "sm80-1g.20gb"
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "numa_node").write_text("3\n")
    assert device.gpu_numa_nodes(tmp_path) == {3}
    (state,) = NvmlGpus().read()
    assert (state.memory_bytes, state.memory_total_bytes) == (12 << 20, 19968 << 20)
    assert (state.utilization, state.power_w, state.energy_j) == (None, None, None)
    assert (state.sm_clock_mhz, state.temperature_c) == (1275, 27)


def test_the_instances_of_a_divided_a100_stand_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml_library.load(monkeypatch, nvml_library.divided_a100(), None)
    assert [gpu_uuid(handle) for handle in visible_handles()] == list(SLICES)
    first = next(iter(SLICES))
    for visible in ("0", DIVIDED, DIVIDED[:12], f"MIG-{DIVIDED}/3/0"):
        nvml_library.load(monkeypatch, nvml_library.divided_a100(), visible)
        assert device.gpu_columns()["gpu_uuid"] == first
