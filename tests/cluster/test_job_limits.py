"""How long a run waits for a job, and what it makes of the batch system's words."""

from __future__ import annotations

from typing import Any

import pytest

from hpcbench.cli.campaign import doctor
from hpcbench.cluster import batch
from hpcbench.cluster.batch import Job, JobState
from hpcbench.cluster.job_limits import (
    DOCTOR_PENDING_S,
    LOST_S,
    RETRY_S,
    STARTS,
    TEMPORARY_RETRIES,
    TEMPORARY_RETRY_S,
    ClassifiedJobs,
    SubmittedJob,
    classify_jobs,
    seconds_to_wait,
    started_again,
)


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


def test_a_job_submitted_after_the_question_is_not_classified_by_the_answer() -> None:
    assert classified(None, asked_at=9.0) == NOTHING


@pytest.mark.parametrize("state", list(JobState))
def test_a_connected_worker_is_never_given_up(state: JobState) -> None:
    assert classified(Job("7", state), connected={"w"}, ever_connected={"w"}) == NOTHING


def test_a_job_that_runs_on_without_its_worker_is_lost_after_a_while() -> None:
    runs = Job("7", JobState.RUNNING)
    seen = {"ever_connected": {"w"}}
    assert classified(runs, gone_since=15.0, now=15.0 + LOST_S - 1, **seen) == NOTHING
    assert classified(runs, gone_since=15.0, now=15.0 + LOST_S + 1, **seen).lost == {"w"}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (Job("7", JobState.WAITING, starts=1), Job("7", JobState.RUNNING, starts=1)),
        # The batch system was not asked while it waited.
        (Job("7", JobState.RUNNING, starts=1), Job("7", JobState.RUNNING, starts=2)),
    ],
)
def test_a_job_that_its_batch_system_starts_again_has_as_long_once_more(
    first: Job, then: Job
) -> None:
    sent = {"w": SubmittedJob("w", "7", 10.0, gone_since=15.0, starts=1)}
    seen: dict[str, Any] = {"asked_at": 200.0, "connected": set(), "ever_connected": {"w"}}
    for job, at in ((first, 70.0), (then, 74.0)):
        sent |= started_again(sent, {"7": job}, at)
    early = classify_jobs(sent, {"7": then}, now=70.0 + LOST_S, **seen)
    assert not early.lost
    assert not started_again(sent, {"7": then}, 80.0)
    assert classify_jobs(sent, {"7": then}, now=75.0 + LOST_S, **seen).lost == {"w"}


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


def test_the_command_and_the_function_of_the_doctor_let_a_job_stay_pending_equally_long() -> None:
    minutes = next(each.default for each in doctor.params if each.name == "wait_min")
    assert 60 * minutes == DOCTOR_PENDING_S
