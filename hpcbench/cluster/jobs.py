"""Judges a pool's jobs by what the batch system and the scheduler say of them; pure functions.

Asks the batch system about a run's jobs while it lasts, and sees that none of them is left.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from hpcbench.cluster import batch, ledger
from hpcbench.cluster.batch import Job, JobState
from hpcbench.cluster.ledger import Run
from hpcbench.errors import SiteError
from hpcbench.records.folder import Results

LOST_S = 60.0
"""How long the worker of a job that still runs may be away: a restarted one is back by then."""

STARTS = 4
"""A job that was started so often, and whose worker never connected, is given up."""

RETRY_S = 60.0
"""After a refusal, so long no job is submitted where others were taken."""

TRANSIENT = (
    "timed out",
    "try again",
    "no answer within",
    "Connection refused",
)
TRANSIENT_RETRY_S, TRANSIENT_RETRIES = 5.0, 3
"""A batch system that does not answer is asked again, so often, where it has no job of ours."""


def after_refusal(
    words: str, temporary: Sequence[str], *, refusals: int, others: bool
) -> float | None:
    """Seconds until a job is submitted again; None where the run cannot go on.

    ``temporary`` are the batch system's own words for a failure that passes, besides `TRANSIENT`.
    ``refusals`` counts those in a row, with this one; ``others`` of its jobs are there or wait.
    """
    passing = any(text in words for text in (*TRANSIENT, *temporary))
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
        elif seen.never_starts:
            hopeless = seen.reason
    return Verdict(died, held, frozenset(ended), frozenset(lost), hopeless)


log = logging.getLogger(__name__)

EARLY_POLL_S, LATE_POLL_S = 5.0, 20.0
EARLY_S = 120.0
"""So long after the start the batch system is asked more often: what goes wrong does so then."""

GOODBYE_S = 15.0
"""At the end of a run, so long its jobs may take to end by themselves."""


class Watcher:
    """Asks the batch system about a run's jobs every few seconds, in a thread of its own."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self.answer: tuple[float, dict[str, batch.Job]] | None = None
        """When it was asked, by `time.monotonic`, and what it said."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(batch.COMMAND_TIMEOUT_S)

    def _watch(self) -> None:
        started = time.monotonic()
        while not self._stop.is_set():
            asked_at = time.monotonic()
            try:
                self.answer = asked_at, self._run.system.jobs(self._run.name)
            except (SiteError, ValueError, KeyError) as error:
                # A batch system that is busy or restarted answers again later.
                log.warning("the batch system does not tell of its jobs: %s", error)
            took_s = time.monotonic() - asked_at
            early = time.monotonic() - started < EARLY_S
            self._stop.wait(max(EARLY_POLL_S if early else LATE_POLL_S, 10 * took_s))


@contextmanager
def batch_run(where: Results, run: Run) -> Iterator[Watcher]:
    """Watches a run's jobs, and sees that none of them is left when the block is left.

    The run is noted as finished where the batch system has said so, and not otherwise: then
    `hpcbench cancel`, or the next run in this folder, looks again.
    """
    gone = False
    try:
        with Watcher(run) as watcher:
            yield watcher
    finally:
        try:
            gone = _end_by_themselves(run)
        finally:
            # Also where a signal has come while it was waited.
            if gone or _cancelled(run):
                ledger.finish(where, run)


def _end_by_themselves(run: Run) -> bool:
    """Gives a run's jobs a moment to end; whether none is left."""
    try:
        return not batch.wait_for_end(run.system, run.name, GOODBYE_S)
    except SiteError as error:
        log.warning("whether jobs of %s are left is not known: %s", run.name, error)
        return False


def _cancelled(run: Run) -> bool:
    """Cancels what is left of a run's jobs; whether the batch system says that none is."""
    try:
        run.system.cancel(run.name)
        left = batch.wait_for_end(run.system, run.name)
    except SiteError as error:
        log.warning("whether all jobs of %s are gone is not known: %s", run.name, error)
        return False
    if left:
        log.warning("jobs %s of %s are cancelled, and still there", ", ".join(left), run.name)
    return not left
