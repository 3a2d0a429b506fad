"""What the records say of a node, and how long its job may still run."""

from __future__ import annotations

import os
import platform
import time

import psutil
import pytest

from hpcbench.config.cpu_shares import CpuShares
from hpcbench.errors import UnusableNode
from hpcbench.measure import node
from hpcbench.measure.node import CpuSets
from hpcbench.records.columns import COLUMNS
from tests.helpers import own_cpus


def test_a_node_says_its_name_cpus_and_memory() -> None:
    found = node.node_columns()
    assert found["node"]
    assert found["cpu_name"]
    assert found["cpu_count"] == len(os.sched_getaffinity(0))
    assert found["memory_bytes"] == psutil.virtual_memory().total
    assert "Linux" in found["kernel"]


def test_every_fact_is_a_column_of_the_record() -> None:
    assert set(node.node_columns()) <= {column.name for column in COLUMNS}


def test_the_job_is_named_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for outside in (None, ""):
        monkeypatch.delenv(node.JOB_ID, raising=False)
        if outside is not None:
            monkeypatch.setenv(node.JOB_ID, outside)
        assert node.node_columns()["job_id"] is None
    monkeypatch.setenv(node.JOB_ID, "4711")
    assert node.node_columns()["job_id"] == "4711"


def test_cpus_are_those_of_this_process_and_no_more_than_the_pool_gives() -> None:
    allowed = len(os.sched_getaffinity(0))
    assert node.divided_cpus(None) == CpuSets(allowed)
    assert node.divided_cpus(1) == CpuSets(1)
    assert node.divided_cpus(10_000) == CpuSets(allowed)


def test_a_job_that_has_too_few_cpus_to_divide_is_on_an_unusable_node() -> None:
    with pytest.raises(UnusableNode, match="for the server and 9000 for the client"):
        node.divided_cpus(CpuShares(server=1, client=9000))


def test_divided_cpus_are_whole_cores_next_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU 0 and 4 are threads of one core, as are 1 and 5, 2 and 6, 3 and 7."""
    monkeypatch.setattr(node.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(node, "_core", lambda cpu: (0, cpu % 4))
    found = node.divided_cpus(CpuShares(server=6, client=2))
    assert found == CpuSets(6, (0, 4, 1, 5, 2, 6), (3, 7))


def test_the_server_is_on_the_numa_node_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(node, "_core", lambda cpu: (cpu // 4, cpu))
    monkeypatch.setattr(node, "_numa_node", lambda cpu: cpu // 4)
    monkeypatch.setattr(node.device, "gpu_numa_nodes", lambda: {1})
    found = node.divided_cpus(CpuShares(server=4, client=2))
    assert found == CpuSets(4, (4, 5, 6, 7), (0, 1))


def test_a_process_that_may_use_one_cpu_says_one() -> None:
    with own_cpus.only_one():
        assert node.node_columns()["cpu_count"] == 1
        assert node.divided_cpus(8) == CpuSets(1)


def test_a_job_that_nothing_ends_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(node.DEADLINE, raising=False)
    assert node.time_left_s() == float("inf")
    monkeypatch.setenv(node.DEADLINE, str(time.monotonic() + 100))
    assert 90 < node.time_left_s() <= 100


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_clock_that_is_set_does_not_change_when_a_job_ends(
    monkeypatch: pytest.MonkeyPatch, step_s: int
) -> None:
    monkeypatch.setenv(node.DEADLINE, str(time.monotonic() + 100))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + step_s)
    assert 90 < node.time_left_s() <= 100


def test_a_node_has_the_name_that_its_batch_system_gives_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(node.NODE_NAME, raising=False)
    assert node.batch_name() == platform.node()
    monkeypatch.setenv(node.NODE_NAME, "nid001234")
    assert node.batch_name() == "nid001234"
