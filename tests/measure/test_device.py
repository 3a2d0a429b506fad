"""The GPUs of a process. This machine may have none: then a stand-in answers for NVML."""

from __future__ import annotations

import os
from pathlib import Path

import pynvml
import pytest

from hpcbench.errors import UnusableNode
from hpcbench.measure import device, node
from tests.helpers.nvml import MIG, UUIDS, nvml, refuse


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "pynvml", nvml())
    for name in ("CUDA_VISIBLE_DEVICES", "HPCBENCH_GPUS_TAKEN"):
        # Set first, so that what a test leaves there is removed after it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_a_node_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = nvml(nvmlInit=refuse(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    monkeypatch.setattr(device, "pynvml", absent)
    found = device.gpu_columns()
    assert found["gpu_count"] == 0
    assert "gpu_name" not in found


def test_this_very_machine_can_be_asked() -> None:
    """Whatever it has: no GPU is a count of none, a GPU has a name."""
    found = device.gpu_columns()
    assert (found["gpu_count"] > 0) == bool(found.get("gpu_name"))


@pytest.mark.parametrize("given", ["", " ", "-1", "NoDevFiles"])
def test_a_worker_that_was_given_no_gpu_has_none(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """Slurm says NoDevFiles, people say -1."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert device.gpu_columns()["gpu_count"] == 0


def test_gpus_are_recorded_by_name_uuid_and_driver(two_gpus: None) -> None:
    found = device.gpu_columns()
    assert found["gpu_count"] == 2
    assert found["gpu_name"] == "NVIDIA A100-SXM4-40GB"
    assert found["gpu_uuid"] == ",".join(UUIDS)
    assert found["gpu_driver"] == "550.90.07"


def test_gpus_of_two_kinds_are_both_named(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ("NVIDIA A100-SXM4-40GB", "Tesla T4")
    monkeypatch.setattr(device, "pynvml", nvml(nvmlDeviceGetName=lambda handle: kinds[handle]))
    assert device.gpu_columns()["gpu_name"] == "NVIDIA A100-SXM4-40GB, Tesla T4"


@pytest.mark.parametrize(
    ("given", "uuids"),
    [
        ("1", UUIDS[1:]),
        ("CUDA1", UUIDS[1:]),
        (UUIDS[1], UUIDS[1:]),
        ("0, 1", UUIDS),
        ("1,0", UUIDS[::-1]),
    ],
)
def test_only_the_gpus_that_a_worker_was_given_count(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, given: str, uuids: tuple[str, ...]
) -> None:
    """Slurm counts, HTCondor says CUDA0 or the UUID."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    found = device.gpu_columns()
    assert found["gpu_count"] == len(uuids)
    assert found["gpu_uuid"] == ",".join(uuids)


def test_a_gpu_that_does_not_say_its_name_does_not_stop_the_work(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost GPU, or one in a container without rights: a fact is missing, no more."""
    monkeypatch.setattr(
        device, "pynvml", nvml(nvmlDeviceGetName=refuse(pynvml.NVML_ERROR_GPU_IS_LOST))
    )
    assert node.node_columns()["node"]


def test_workers_of_one_computer_take_different_gpus(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    device.take_gpus(1, 1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == UUIDS[1]
    assert device.gpu_columns()["gpu_uuid"] == UUIDS[1]
    device.take_gpus(1, 1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == UUIDS[1], "taken twice"


def test_a_worker_for_which_no_gpu_is_left_says_so(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UnusableNode, match="too few"):
        device.take_gpus(1, 2)


@pytest.mark.parametrize("given", ["0", "CUDA0", UUIDS[0]])
def test_the_gpus_of_a_job_are_named_by_their_uuid(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    device.name_gpus_by_uuid()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == UUIDS[0]


def test_a_pool_that_promises_another_gpu_is_found_out(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    kind = "NVIDIA A100-SXM4-40GB"
    assert device.gpu_mismatch(None, 1) is None
    assert device.gpu_mismatch(kind, 1) is None
    assert device.gpu_mismatch(kind, 2) == f"2 x {kind} promised, 1 GPUs found"
    assert device.gpu_mismatch("NVIDIA H100", 1) == f"NVIDIA H100 promised, {kind} found"


def test_a_gpu_says_how_it_is_connected_and_where(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for place, numa in (("0000:10:00.0", "0"), ("0000:11:00.0", "1")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "numa_node").write_text(f"{numa}\n")
    assert device.gpu_numa_nodes(tmp_path) == {0, 1}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert device.gpu_numa_nodes(tmp_path) == {1}
    found = device.gpu_columns()
    assert (found["gpu_pcie_generation"], found["gpu_pcie_width"]) == (4, 16)
    assert found["gpu_mig_instance"] is None


def test_a_node_with_one_numa_node_names_none(two_gpus: None, tmp_path: Path) -> None:
    """Linux says -1 there."""
    (tmp_path / "0000:10:00.0").mkdir()
    (tmp_path / "0000:10:00.0" / "numa_node").write_text("-1\n")
    assert device.gpu_numa_nodes(tmp_path) == set()


def test_a_mig_instance_is_named(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", MIG)
    assert device.gpu_columns()["gpu_mig_instance"] == "7/0"
