"""What becomes of a run's jobs: what is made of the batch system's words, and how they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from hpcbench.cluster import batch, jobs, ledger
from hpcbench.cluster.batch import Job, JobState
from hpcbench.cluster.jobs import (
    LOST_S,
    RETRY_S,
    STARTS,
    TEMPORARY_RETRIES,
    TEMPORARY_RETRY_S,
    ClassifiedJobs,
    ConnectedWorkers,
    SubmittedJob,
    classify_jobs,
    seconds_to_wait,
)
from hpcbench.errors import Interrupted
from hpcbench.records.folder import Results
from tests.helpers.waiting import wait_until


def classified(
    job: Job | None, *, gone_since: float | None = None, **changes: Any
) -> ClassifiedJobs:
    """The verdict on the job 7 of worker w, submitted at 10, when asked at 20."""
    settings: dict[str, Any] = {
        "asked_at": 20.0,
        "connected": frozenset(),
        "ever_connected": frozenset(),
        "now": 21.0,
    }
    sent = {"w": SubmittedJob("w", "7", 10.0, gone_since)}
    return classify_jobs(sent, {job.id: job} if job else {}, **(settings | changes))


NOTHING = ClassifiedJobs({}, {}, frozenset(), frozenset(), None)


def test_a_job_that_ended_before_its_worker_connected_has_died_in_the_batch_systems_words() -> None:
    verdict = classified(Job("7", JobState.ENDED, "FAILED (NonZeroExitCode)"))
    assert verdict.died == {"w": "FAILED (NonZeroExitCode)"}
    assert not verdict.ended


def test_a_job_that_is_gone_from_the_queue_is_over() -> None:
    assert classified(None).died == {"w": "gone from the queue"}
    assert classified(None, ever_connected={"w"}).ended == {"w"}


def test_a_job_whose_worker_had_connected_has_simply_ended() -> None:
    verdict = classified(Job("7", JobState.ENDED, "TIMEOUT"), ever_connected={"w"})
    assert (verdict.died, verdict.ended) == ({}, {"w"})


def test_a_job_submitted_after_the_question_is_not_judged_by_the_answer() -> None:
    assert classified(None, asked_at=9.0) == NOTHING


@pytest.mark.parametrize("state", list(JobState))
def test_a_connected_worker_is_never_given_up(state: JobState) -> None:
    assert classified(Job("7", state), connected={"w"}, ever_connected={"w"}) == NOTHING


def test_a_job_that_runs_on_without_its_worker_is_lost_after_a_while() -> None:
    runs = Job("7", JobState.RUNNING)
    seen = {"ever_connected": {"w"}}
    assert classified(runs, gone_since=15.0, now=15.0 + LOST_S - 1, **seen) == NOTHING
    assert classified(runs, gone_since=15.0, now=15.0 + LOST_S + 1, **seen).lost == {"w"}


def test_a_job_that_starts_is_given_time_to_connect() -> None:
    assert classified(Job("7", JobState.RUNNING), now=500.0) == NOTHING


def test_a_held_job_has_died_with_the_reason_for_the_hold() -> None:
    assert classified(Job("7", JobState.HELD, "no such folder")).died == {
        "w": "held: no such folder"
    }


def test_a_job_that_is_held_while_it_works_has_not_died_before_it_connected() -> None:
    verdict = classified(Job("7", JobState.HELD, "too much memory"), ever_connected={"w"})
    assert (verdict.died, verdict.held) == ({}, {"w": "held: too much memory"})


@pytest.mark.parametrize("reason", ["Priority", "Resources", "", "ReqNodeNotAvail"])
def test_a_waiting_job_is_left_to_wait(reason: str) -> None:
    assert classified(Job("7", JobState.WAITING, reason)) == NOTHING


def test_a_job_that_would_wait_for_ever_is_reported() -> None:
    waits = Job("7", JobState.WAITING, "InvalidQOS", never_starts=True)
    assert classified(waits).hopeless == "InvalidQOS"


def test_a_job_that_is_started_again_and_again_in_vain_has_died() -> None:
    again = Job("7", JobState.WAITING, "", "", STARTS)
    assert classified(again).died == {"w": f"was started {STARTS} times, and never connected"}
    assert classified(again, ever_connected={"w"}) == NOTHING


DOWN = "sbatch: error: Batch job submission failed: Unable to contact slurm controller"
REFUSED = "sbatch: error: invalid partition specified: nowhere"


@pytest.mark.parametrize(
    ("words", "refusals", "others", "wait_s"),
    [
        (REFUSED, 1, False, None),
        (REFUSED, 1, True, RETRY_S),
        (REFUSED, 99, True, RETRY_S),
        (DOWN, TEMPORARY_RETRIES, False, TEMPORARY_RETRY_S),
        (DOWN, TEMPORARY_RETRIES + 1, False, None),
        (DOWN, TEMPORARY_RETRIES + 1, True, RETRY_S),
    ],
)
def test_a_refusal_ends_the_run_where_no_job_is_there_and_none_can_be_hoped_for(
    words: str, refusals: int, others: bool, wait_s: float | None
) -> None:
    temporary = batch.system("slurm").temporary_failures
    assert seconds_to_wait(words, temporary, refusals=refusals, other_jobs=others) == wait_s


# Who is connected, asked from another thread than the scheduler's


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
        busy = client.submit(time.sleep, 1, workers=[cluster.workers[2].worker_address])
        assert wait_until(lambda: workers.idle == ["3"])
        busy.result()
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
