"""Judges a pool's jobs by what the batch system and the scheduler say of them; pure functions."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from hpcbench.cluster.batch import Job, JobState

LOST_S = 60.0
"""How long the worker of a job that still runs may be away: a restarted one is back by then."""

STARTS = 4
"""A job that HTCondor has started so often, and whose worker never connected, is given up."""

NEVER_STARTS = frozenset(
    {
        "AssocMaxWallDurationPerJobLimit",
        "BadConstraints",
        "DependencyNeverSatisfied",
        "InvalidAccount",
        "InvalidQOS",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "QOSMaxWallDurationPerJobLimit",
    }
)
"""Slurm's reasons for which a waiting job waits for ever."""


RETRY_S = 60.0
"""After a refusal, so long no job is submitted where others were taken."""

TRANSIENT = (
    "Unable to contact",
    "timed out",
    "try again",
    "no answer within",
    "Connection refused",
)
TRANSIENT_RETRY_S, TRANSIENT_RETRIES = 5.0, 3
"""A batch system that does not answer is asked again, so often, where it has no job of ours."""


def after_refusal(words: str, *, refusals: int, others: bool) -> float | None:
    """Seconds until a job is submitted again; None where the run cannot go on.

    ``refusals`` counts those in a row, with this one; ``others`` of its jobs are there or wait.
    """
    passing = any(text in words for text in TRANSIENT)
    if passing and refusals <= TRANSIENT_RETRIES:
        return TRANSIENT_RETRY_S
    return RETRY_S if others else None


@dataclass(frozen=True)
class Sent:
    """A job that was submitted, under its worker's name. Times are from `time.monotonic`."""

    worker: str
    id: str
    at: float
    gone_since: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of a pool's jobs, by their workers' names.

    ``died`` never connected, ``held`` had done so; their words are the batch system's. ``ended``
    had connected, too. ``lost`` run on without a worker. ``hopeless`` is the reason why jobs wait
    for ever.
    """

    died: Mapping[str, str]
    held: Mapping[str, str]
    ended: frozenset[str]
    lost: frozenset[str]
    hopeless: str | None


def judge(
    sent: Mapping[str, Sent],
    found: Mapping[str, Job],
    *,
    asked_at: float,
    connected: AbstractSet[str],
    ever_connected: AbstractSet[str],
    now: float,
) -> Verdict:
    """``found`` is what the batch system answered to a question of ``asked_at``, by job id.

    Jobs that were submitted later are not judged; nor is one whose worker is connected.
    """
    died: dict[str, str] = {}
    held: dict[str, str] = {}
    ended: set[str] = set()
    lost: set[str] = set()
    hopeless = None
    for name, job in sent.items():
        seen = found.get(job.id, Job(job.id, JobState.ENDED, "gone from the queue"))
        if name in connected or job.at >= asked_at:
            continue
        if seen.starts >= STARTS and name not in ever_connected:
            died[name] = f"started {seen.starts} times, each time in vain"
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
        elif seen.state is JobState.WAITING and seen.reason in NEVER_STARTS:
            hopeless = seen.reason
    return Verdict(died, held, frozenset(ended), frozenset(lost), hopeless)
