"""How long a job may stay pending, be refused, or be away before a run acts: pure functions.

A run sets no limit to a job that is pending: a queue may be days long. What ends the run is a
job of which the batch system says that it never starts (`ClassifiedJobs.hopeless`).
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from hpcbench.cluster.batch import Job, JobState

DOCTOR_PENDING_S = 300.0
"""Seconds after which `hpcbench doctor` cancels a job that is still pending."""

LOST_S = 60.0
"""Seconds that a running job's worker may be away; a worker that Dask restarts is back by then."""

STARTS = 4
"""A job that was started this often, and whose worker never connected, is given up."""

RETRY_S = 60.0
"""Seconds without a submission after a refusal, where the run has other jobs."""

TEMPORARY_FAILURES = ("timed out", "try again", "no answer within", "Connection refused")
"""Parts of messages of any batch system that does not answer, but may do so soon."""

TEMPORARY_RETRY_S, TEMPORARY_RETRIES = 5.0, 3
"""Seconds between submissions to a batch system that does not answer, and how many there are."""


def seconds_to_wait(
    refusal: str, temporary_failures: Sequence[str], *, refusals: int, other_jobs: bool
) -> float | None:
    """Return when to submit again after a refusal.

    Parameters
    ----------
    refusal
        What the batch system said.
    temporary_failures
        Parts of messages that mean, in this batch system, that it may answer soon.
    refusals
        How many there were in a row, with this one.
    other_jobs
        Whether the run has jobs that were accepted.

    Returns
    -------
    float or None
        Seconds to wait; None where the run cannot go on.
    """
    temporary = any(part in refusal for part in (*TEMPORARY_FAILURES, *temporary_failures))
    if temporary and refusals <= TEMPORARY_RETRIES:
        return TEMPORARY_RETRY_S
    return RETRY_S if other_jobs else None


@dataclass(frozen=True)
class SubmittedJob:
    """A job that the batch system has accepted.

    Attributes
    ----------
    worker
        The name of the Dask worker that it runs.
    id
        Its id in the batch system.
    at
        When it was accepted, by `time.monotonic`.
    gone_since
        When its worker was first seen to be away, or the job was seen to start again, by
        `time.monotonic`; None while the worker is connected or has never been.
    starts
        How often the batch system had started it when it was asked last.
    """

    worker: str
    id: str
    at: float
    gone_since: float | None = None
    starts: int = 0


@dataclass(frozen=True)
class ClassifiedJobs:
    """What became of a pool's jobs, by the names of their workers.

    Attributes
    ----------
    died
        Those that never connected, and why, in the batch system's words.
    held
        Those that were held after they had connected, and why.
    ended
        Those that ended after they had connected.
    lost
        Those that run on without a worker.
    hopeless
        Why a job waits for ever; None where none does.
    """

    died: Mapping[str, str]
    held: Mapping[str, str]
    ended: frozenset[str]
    lost: frozenset[str]
    hopeless: str | None


def started_again(
    submitted: Mapping[str, SubmittedJob], queue: Mapping[str, Job], now: float
) -> dict[str, SubmittedJob]:
    """Return the jobs that the batch system starts again, with a new time to connect.

    A batch system that has lost a node starts its jobs again, under their ids: their workers are
    away for as long as that takes, and then come back by the same names.

    Parameters
    ----------
    submitted
        The jobs, by the names of their workers.
    queue
        What the batch system answered, by the jobs' ids.
    now
        The time, by `time.monotonic`.

    Returns
    -------
    dict of str to SubmittedJob
        Those that change.
    """
    found = {}
    for name, job in submitted.items():
        seen = queue.get(job.id)
        if seen is None or (seen.starts == job.starts and seen.state is not JobState.WAITING):
            continue
        since = None if job.gone_since is None else now
        found[name] = replace(job, gone_since=since, starts=seen.starts)
    return found


def classify_jobs(
    submitted: Mapping[str, SubmittedJob],
    queue: Mapping[str, Job],
    *,
    asked_at: float,
    connected: AbstractSet[str],
    ever_connected: AbstractSet[str],
    now: float,
) -> ClassifiedJobs:
    """Say what became of each job whose worker is not connected.

    Parameters
    ----------
    submitted
        The jobs, by the names of their workers.
    queue
        What the batch system answered, by the jobs' ids.
    asked_at
        When it was asked, by `time.monotonic`: it cannot know of jobs that are younger.
    connected
        The names of the workers that are connected now.
    ever_connected
        The names of the workers that were connected at any time.
    now
        The time, by `time.monotonic`.

    Returns
    -------
    ClassifiedJobs
        Jobs of which nothing can be said yet are in none of its groups.
    """
    died: dict[str, str] = {}
    held: dict[str, str] = {}
    ended: set[str] = set()
    lost: set[str] = set()
    hopeless = None
    for name, job in submitted.items():
        # A batch system forgets a job some time after its end: what it does not know has ended.
        seen = queue.get(job.id, Job(job.id, JobState.ENDED, "gone from the queue"))
        # A worker that is connected proves more than the batch system, which may be seconds behind.
        if name in connected or job.at >= asked_at:
            continue
        if seen.starts >= STARTS and name not in ever_connected:
            died[name] = f"was started {seen.starts} times, and never connected"
        elif seen.state is JobState.HELD:
            (held if name in ever_connected else died)[name] = f"held: {seen.reason}"
        elif seen.state is JobState.ENDED:
            if name in ever_connected:
                ended.add(name)
            else:
                died[name] = seen.reason
        elif seen.state is JobState.RUNNING and job.gone_since is not None:
            if now - job.gone_since > LOST_S:
                lost.add(name)
        elif seen.never_starts:
            hopeless = seen.reason
    return ClassifiedJobs(died, held, frozenset(ended), frozenset(lost), hopeless)
