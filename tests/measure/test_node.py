"""What the records say of a node, and how long its job may still run."""

from __future__ import annotations

import os
import platform
import time

import psutil
import pytest

from hpcbench.measure import node
from hpcbench.records.columns import COLUMNS


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
    assert node.usable_cpus(None) == allowed
    assert node.usable_cpus(1) == 1
    assert node.usable_cpus(10_000) == allowed


def test_a_process_that_may_use_one_cpu_says_one() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert node.node_columns()["cpu_count"] == 1
        assert node.usable_cpus(8) == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_job_that_nothing_ends_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(node.DEADLINE, raising=False)
    assert node.time_left_s() == float("inf")
    monkeypatch.setenv(node.DEADLINE, str(time.time() + 100))
    assert 90 < node.time_left_s() <= 100


def test_a_node_has_the_name_that_its_batch_system_gives_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(node.NODE_NAME, raising=False)
    assert node.batch_name() == platform.node()
    monkeypatch.setenv(node.NODE_NAME, "nid001234")
    assert node.batch_name() == "nid001234"
