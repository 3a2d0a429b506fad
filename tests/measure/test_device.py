"""The GPUs of a process. This machine may have none: then a stand-in answers for NVML."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from hpcbench.measure import device, node, visible_gpus
from tests.helpers.nvml import A100, INSTANCES, MIG, SLICE, UUIDS, mismatch, nvml, refuse, use_nvml


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    use_nvml(monkeypatch, nvml())
    # Set first, so that what a test leaves there is removed after it.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


@pytest.fixture
def divided_gpu(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the two GPUs has two MIG instances."""
    use_nvml(monkeypatch, nvml(divided=True))


def test_a_node_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    use_nvml(monkeypatch, nvml(nvmlInit=refuse(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)))
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
    use_nvml(monkeypatch, nvml(nvmlDeviceGetName=lambda handle: kinds[handle]))
    assert device.gpu_columns()["gpu_name"] == "NVIDIA A100-SXM4-40GB, Tesla T4"


@pytest.mark.parametrize(
    ("given", "uuids"),
    [
        ("1", UUIDS[1:]),
        ("CUDA1", UUIDS[1:]),
        (UUIDS[1], UUIDS[1:]),
        ("0, 1", UUIDS),
        ("1,0", UUIDS[::-1]),
        ("GPU-22222222", UUIDS[1:]),
        ("GPU-2,GPU-1", UUIDS[::-1]),
        # CUDA ignores what comes after a name that it does not know.
        ("1,-1,0", UUIDS[1:]),
        ("1,GPU-9,0", UUIDS[1:]),
    ],
)
def test_only_the_gpus_that_a_worker_was_given_count(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, given: str, uuids: tuple[str, ...]
) -> None:
    """Slurm counts, HTCondor says CUDA0 or, by default, eight digits of the UUID."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    found = device.gpu_columns()
    assert found["gpu_count"] == len(uuids)
    assert found["gpu_uuid"] == ",".join(uuids)


def test_a_gpu_that_does_not_say_its_name_does_not_stop_the_work(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost GPU, or one in a container without rights: a fact is missing, no more."""
    use_nvml(monkeypatch, nvml(nvmlDeviceGetName=refuse(pynvml.NVML_ERROR_GPU_IS_LOST)))
    assert node.node_columns()["node"]


@pytest.mark.parametrize("given", ["0", "CUDA0", UUIDS[0], "GPU-11111111"])
def test_the_gpus_of_a_job_are_named_by_their_uuid(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    visible_gpus.name_gpus_by_uuid()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == UUIDS[0]


@pytest.mark.parametrize(
    ("given", "uuid"),
    [
        (INSTANCES[1], INSTANCES[1]),
        ("MIG-44444444", INSTANCES[1]),
        # As drivers before 470 name it, and as a batch system may that does not know MIG.
        (f"MIG-{UUIDS[0]}/8/0", INSTANCES[1]),
        ("MIG-GPU-1111/8/0", INSTANCES[1]),
        ("0", INSTANCES[0]),
        ("CUDA0", INSTANCES[0]),
        (UUIDS[0], INSTANCES[0]),
        # CUDA uses one instance only, the first.
        (",".join(INSTANCES[::-1]), INSTANCES[1]),
        ("1", UUIDS[1]),
    ],
)
def test_a_mig_instance_is_found_however_it_is_named(
    divided_gpu: None, monkeypatch: pytest.MonkeyPatch, given: str, uuid: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    visible_gpus.name_gpus_by_uuid()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == uuid
    assert device.gpu_columns()["gpu_uuid"] == uuid


@pytest.mark.parametrize("given", ["MIG-9", "MIG-GPU-1111/9/0", "MIG-GPU-9/7/0", "GPU-", "MIG-"])
def test_a_name_of_no_gpu_or_of_several_is_none(
    divided_gpu: None, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert device.gpu_columns()["gpu_count"] == 0


def test_a_pool_that_promises_another_gpu_is_found_out(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    kind = "NVIDIA A100-SXM4-40GB"
    assert mismatch(None, 1) is None
    assert mismatch(kind, 1) is None
    assert mismatch(kind, 2) == f"2 x {kind} promised, 1 found"
    assert mismatch(None, 2) == "2 x GPU promised, 1 found"
    assert mismatch("NVIDIA H100", 1) == f"NVIDIA H100 promised, {kind} found"
    assert mismatch(kind, 0) == f"{kind} promised, and gpus_per_job is 0"
    assert mismatch(None, 0) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert mismatch(kind, 1) == f"1 x {kind} promised, 2 found"


def test_a_job_that_sees_all_gpus_of_its_node_is_not_measured_on_those_of_others(
    two_gpus: None,
) -> None:
    assert mismatch(None, 2) is None
    assert (
        mismatch(None, 1) == "1 x GPU promised, 2 found, and CUDA_VISIBLE_DEVICES does "
        "not say which are this job's"
    )


def test_without_nvml_a_gpu_that_has_no_name_in_the_site_file_is_not_missed(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_nvml(monkeypatch, nvml(nvmlInit=refuse(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)))
    assert mismatch(None, 1) is None
    assert mismatch(A100, 1) == f"1 x {A100} promised, 0 found"


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


def test_a_mig_instance_has_name_size_and_place_and_what_its_gpu_has(
    divided_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "0000:10:00.0").mkdir()
    (tmp_path / "0000:10:00.0" / "numa_node").write_text("1\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", MIG)
    found = device.gpu_columns()
    assert (found["gpu_count"], found["gpu_uuid"], found["gpu_name"]) == (1, MIG, SLICE)
    assert (found["gpu_mig_instance"], found["gpu_mig_profile"]) == ("7/0", "1g.5gb")
    assert (found["gpu_pcie_generation"], found["gpu_pcie_width"]) == (4, 16)
    assert (found["gpu_persistence_mode"], found["gpu_ecc"]) == (True, True)
    assert device.gpu_numa_nodes(tmp_path) == {1}
    assert mismatch(SLICE, 1) is None
    assert mismatch(A100, 1) == f"{A100} promised, {SLICE} found"


def test_instances_of_different_sizes_never_have_one_name(
    divided_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver may name only the whole GPU, or nothing at all."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", MIG)
    # NVIDIA's MIG User Guide: 3c.4g.20gb is a part of the computing units of 4g.20gb.
    large = SimpleNamespace(
        gpuInstanceSliceCount=4, computeInstanceSliceCount=3, memorySizeMB=20096
    )
    for name in (lambda _: A100, lambda handle: {0: A100}.get(handle) or refused(handle)):
        use_nvml(
            monkeypatch,
            nvml(divided=True, nvmlDeviceGetName=name, nvmlDeviceGetAttributes_v2=lambda _: large),
        )
        assert device.gpu_columns()["gpu_name"] == f"{A100} MIG 3c.4g.20gb"
        assert device.gpu_columns()["gpu_mig_profile"] == "3c.4g.20gb"


refused = refuse(pynvml.NVML_ERROR_NOT_SUPPORTED)


def test_engines_of_a_mig_instance_are_not_those_of_the_whole_gpu(
    divided_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert device.gpu_architecture() == "sm80"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", MIG)
    assert device.gpu_architecture() == "sm80-1g.5gb"


def test_several_mig_instances_are_promised_in_vain(
    divided_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(INSTANCES))
    problem = mismatch(SLICE, 2)
    assert problem is not None
    assert "1 found (of 2 MIG instances, a program of CUDA's uses the first one only)" in problem


def test_settings_of_several_gpus_are_those_that_all_have(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second GPU does not correct errors."""
    assert device.gpu_columns()["gpu_ecc"] is False
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert device.gpu_columns()["gpu_ecc"] is True
    use_nvml(monkeypatch, nvml(nvmlDeviceGetEccMode=refused, nvmlDeviceGetPersistenceMode=refused))
    found = device.gpu_columns()
    assert (found["gpu_ecc"], found["gpu_persistence_mode"]) == (None, None)
