"""Segments of shared memory are called alike: on one node, one perf_analyzer has them at a time."""

import subprocess
import threading
import time
from pathlib import Path

import pytest

from hpcbench.config.container import Container
from hpcbench.errors import UnusableNode
from hpcbench.measure.measure import measure
from hpcbench.plan import plan
from hpcbench.records.columns import Status
from hpcbench.runtime import command
from hpcbench.runtime import native as native_runtime
from tests.helpers.real import QUICK, quick_run
from tests.helpers.stranger import BECOME, needs_root


def test_workers_of_one_node_wait_for_each_other_where_they_share_names() -> None:
    native = Container(prefix="/native")
    inside: list[int] = []
    most: list[int] = []

    def hold() -> None:
        with command.runtime_of(native).exclusive_shared_memory():
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


@needs_root
def test_a_stranger_who_holds_the_lock_does_not_make_a_run_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every user of a node can lock a folder that every user can open."""
    monkeypatch.setattr(native_runtime, "FOREIGN_LOCK_S", 0.5)
    hold = [*BECOME, "flock", "/dev/shm", "-c", "echo held; read _"]
    pipe = subprocess.PIPE
    with subprocess.Popen(hold, stdin=pipe, stdout=pipe, text=True) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "held\n"
        runtime = command.runtime_of(Container(prefix=Path("/native")))
        words = r"process \d+ of .* has held its lock for \d+ s"
        with pytest.raises(UnusableNode, match=words), runtime.exclusive_shared_memory():
            pass
        stranger.communicate("\n")
    with runtime.exclusive_shared_memory():
        pass


def test_containers_have_shared_memory_of_their_own() -> None:
    images = Container(runtime="apptainer", server_image="a.sif", sdk_image="b.sif")
    runtime = command.runtime_of(images)
    with runtime.exclusive_shared_memory(), runtime.exclusive_shared_memory():
        pass


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_tensors_go_through_shared_memory_of_the_native_runtime(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        demo_models,
        load={"batch_size": 2, "concurrency": 2},
        measurement={**QUICK, "shared_memory": ["none", "system"]},
    )
    (placement,) = plan.plan(campaign, site).placements["cpu"]
    records = list(measure(placement, site, tmp_path / "logs"))
    assert {record.status for record in records} == {Status.OK}, records[-1].reason
    assert [record.shared_memory for record in records] == ["none", "system"]
