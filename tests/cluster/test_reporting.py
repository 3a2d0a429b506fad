"""Submissions through dask-jobqueue: what is asked of the batch system, and what no longer."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from distributed.deploy.spec import ProcessInterface

from hpcbench.cluster import batch
from hpcbench.cluster.reporting import SUBMISSIONS, Desk, reporting


class System:
    """In the place of a batch system: takes so many jobs, and then refuses."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.limit = limit
        self.asked = 0
        self.together = 0
        self.under_way = 0


def submit(names: list[str], desk: Desk, system: System) -> None:
    class Job(ProcessInterface):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        async def start(self) -> None:
            system.asked += 1
            refused = system.asked > system.limit
            system.under_way += 1
            system.together = max(system.together, system.under_way)
            await asyncio.sleep(0.001)
            system.under_way -= 1
            if refused:
                raise RuntimeError("QOSMaxSubmitJobPerUserLimit")
            self.job_id = str(next(numbers))
            await super().start()

    numbers = itertools.count(1)
    jobs = reporting(type("Cluster", (), {"job_cls": Job}), desk, batch.system("slurm")).job_cls

    async def all_of_them() -> None:
        await asyncio.gather(*(jobs(name=name) for name in names))

    asyncio.run(all_of_them())


@pytest.fixture
def taken() -> dict[str, str]:
    return {}


@pytest.fixture
def desk(taken: dict[str, str]) -> Desk:
    return Desk(taken.__setitem__)


NAMES = [f"w{number}" for number in range(100)]


def test_jobs_are_submitted_a_few_at_a_time(desk: Desk, taken: dict[str, Any]) -> None:
    system = System()
    submit(NAMES, desk, system)
    assert taken.keys() == set(NAMES)
    assert (system.asked, system.together) == (100, SUBMISSIONS)
    assert desk.hear() == {}


def test_after_a_refusal_the_batch_system_is_not_asked_for_the_rest(
    desk: Desk, taken: dict[str, Any]
) -> None:
    system = System(limit=10)
    submit(NAMES, desk, system)
    assert len(taken) == 10
    assert system.asked < 10 + 2 * SUBMISSIONS
    refused = desk.hear()
    assert refused.keys() == set(NAMES) - taken.keys()
    assert set(refused.values()) == {"QOSMaxSubmitJobPerUserLimit"}
    submit(["later"], desk, System())
    assert "later" in taken, "what was heard is forgotten"


def test_jobs_that_are_not_wanted_any_more_are_not_submitted(
    desk: Desk, taken: dict[str, Any]
) -> None:
    desk.withdraw(NAMES[5:])
    submit(NAMES, desk, System())
    assert taken.keys() == set(NAMES[:5])
    assert desk.hear() == {}


def test_a_run_that_ends_submits_nothing(desk: Desk, taken: dict[str, Any]) -> None:
    desk.close()
    submit(NAMES, desk, System())
    assert not taken
