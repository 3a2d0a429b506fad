"""Segments of shared memory are called alike: on one node, one perf_analyzer has them at a time."""

import threading
import time
from pathlib import Path

import pytest

from hpcbench.config.container import Container
from hpcbench.measure.measure import measure
from hpcbench.plan import plan
from hpcbench.records.columns import Status
from hpcbench.runtime import command
from tests.helpers.real import QUICK, quick_run


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
