"""What the batch system says of a run's jobs while it lasts.

`Watcher` asks the batch system, and `watch_jobs` sees that none of the run's jobs is left at its
end. What is made of their answers is in `hpcbench.cluster.job_limits`.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from hpcbench.cluster import batch, ledger
from hpcbench.cluster.batch import Job
from hpcbench.cluster.ledger import Run
from hpcbench.errors import SiteError
from hpcbench.records.folder import Results

log = logging.getLogger(__name__)

EARLY_POLL_S, LATE_POLL_S = 5.0, 20.0
EARLY_S = 120.0
"""Seconds in which the batch system is asked more often: most failures come at the start."""

GOODBYE_S = 15.0
"""Seconds that jobs may take to end by themselves at the end of a run."""


class Watcher:
    """Asks the batch system about a run's jobs every few seconds, in a thread of its own.

    Parameters
    ----------
    run
        The run, as it stands in the ledger.

    Attributes
    ----------
    answer
        When the batch system was asked last, by `time.monotonic`, and its answer, by the jobs'
        ids; None before the first answer.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._stop = threading.Event()
        # A daemon: a command that hangs must not keep a driver from ending.
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self.answer: tuple[float, dict[str, Job]] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        # It may be in the middle of a command, which ends by then.
        self._thread.join(batch.COMMAND_TIMEOUT_S)

    def _watch(self) -> None:
        started = time.monotonic()
        while not self._stop.is_set():
            asked_at = time.monotonic()
            try:
                self.answer = asked_at, self._run.system.jobs(self._run.name)
            except (SiteError, ValueError, KeyError) as error:
                # A batch system that is busy or restarted answers again later.
                log.warning("the batch system does not say how its jobs are: %s", error)
            took_s = time.monotonic() - asked_at
            early = time.monotonic() - started < EARLY_S
            # A batch system that is slow is asked less often.
            self._stop.wait(max(EARLY_POLL_S if early else LATE_POLL_S, 10 * took_s))


@contextmanager
def watch_jobs(results: Results, run: Run) -> Iterator[Watcher]:
    """Watch a run's jobs, and see that none of them is left when the block is left.

    The ledger says that the run is finished only where the batch system has said so: else
    `hpcbench cancel`, or the next run in this folder, looks again.

    Parameters
    ----------
    results
        The folder with the ledger.
    run
        The run, as it stands in the ledger.

    Yields
    ------
    Watcher
        It has the batch system's last answer.
    """
    gone = False
    try:
        with Watcher(run) as watcher:
            yield watcher
    finally:
        try:
            # A job whose worker was closed ends by itself. One that is cancelled would stand as
            # such in the batch system's accounts.
            gone = _end_by_themselves(run)
        finally:
            # Also where a signal interrupted the wait.
            if gone or _cancel_jobs(run):
                ledger.finish(results, run)


def _end_by_themselves(run: Run) -> bool:
    """Give a run's jobs a moment to end; return whether none is left."""
    try:
        return not batch.wait_for_end(run.system, run.name, GOODBYE_S)
    except SiteError as error:
        log.warning("it is not known whether jobs of %s are left: %s", run.name, error)
        return False


def _cancel_jobs(run: Run) -> bool:
    """Cancel what is left of a run's jobs; return whether the batch system says that none is."""
    try:
        run.system.cancel(run.name)
        left = batch.wait_for_end(run.system, run.name)
    except SiteError as error:
        log.warning("it is not known whether all jobs of %s are gone: %s", run.name, error)
        return False
    if left:
        log.warning("jobs %s of %s are cancelled, and still there", ", ".join(left), run.name)
    return not left
