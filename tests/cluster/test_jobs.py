"""Which workers of a run are connected, and that none of its jobs is left at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from hpcbench.cluster import batch, jobs, ledger
from hpcbench.cluster.jobs import ConnectedWorkers
from hpcbench.errors import Interrupted
from hpcbench.records.folder import Results
from tests.helpers.waiting import wait_until

# Who is connected, asked from another thread than the scheduler's


GO = threading.Event()
"""Of this process, in which workers are threads."""


def _wait_for_go() -> bool:
    return GO.wait(200)


def test_workers_are_known_by_name_while_they_are_there_and_remembered() -> None:
    workers = ConnectedWorkers()
    with (
        LocalCluster(
            n_workers=2, processes=False, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.scheduler.add_plugin(workers)
        assert workers.names == frozenset(), "those of before are not seen"
        cluster.scale(4)
        assert wait_until(lambda: workers.names == {"2", "3"} and len(cluster.workers) == 4)
        GO.clear()
        busy = client.submit(_wait_for_go, workers=[cluster.workers[2].worker_address])
        try:
            assert wait_until(lambda: workers.idle == ["3"])
        finally:
            GO.set()
        assert busy.result()
        cluster.scale(2)
        assert wait_until(lambda: workers.names == frozenset())
    assert workers.ever == {"2", "3"}


def test_it_can_be_asked_while_workers_come_and_go() -> None:
    class State:
        def __init__(self, name: str) -> None:
            self.name = name
            self.processing: dict[str, Any] = {}

    class Scheduler:
        def __init__(self) -> None:
            self.workers = {f"tls://{number}": State(str(number)) for number in range(200)}

    scheduler = Scheduler()
    workers, stop = ConnectedWorkers(), threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for address in scheduler.workers:
                workers.add_worker(scheduler, address)
            for address in scheduler.workers:
                workers.remove_worker(scheduler, address, stimulus_id="left")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        seen = [len(workers.names) + len(workers.idle) for _ in range(2000)]
    finally:
        stop.set()
        thread.join()
    assert max(seen) > 0


# The end of a run


UNREACHABLE = 'echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1'


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "GOODBYE_S", 0.0)


def test_a_run_of_which_nothing_is_left_is_over(
    queue: Path,
    results: Results,
) -> None:
    with jobs.watch_jobs(results, ledger.begin(results, "slurm")):
        assert not queue.exists()
    assert queue.exists()
    assert ledger.unfinished(results) == []


def test_a_run_is_not_over_where_the_batch_system_does_not_say_so(
    program: Callable[[str, str], None],
    results: Results,
) -> None:
    """The next command in this folder looks again."""
    program("squeue", UNREACHABLE)
    program("scancel", UNREACHABLE)
    run = ledger.begin(results, "slurm")
    with jobs.watch_jobs(results, run):
        pass
    assert ledger.unfinished(results) == [run]


def test_jobs_are_cancelled_also_where_a_signal_comes_while_they_are_waited_for(
    queue: Path,
    results: Results,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = batch.wait_for_end
    signals = iter([Interrupted("stopped by SIGINT")])

    def interrupted(*arguments: object) -> list[str]:
        for signal in signals:
            raise signal
        return asked(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(batch, "wait_for_end", interrupted)
    with (
        pytest.raises(Interrupted, match="SIGINT"),
        jobs.watch_jobs(results, ledger.begin(results, "slurm")),
    ):
        pass
    assert queue.exists()
    assert ledger.unfinished(results) == []
