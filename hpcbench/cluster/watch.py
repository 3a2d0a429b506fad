"""Asks the batch system about a run's jobs while it lasts, and sees that none of them is left."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from hpcbench.cluster import batch, ledger
from hpcbench.cluster.ledger import Run
from hpcbench.errors import SiteError
from hpcbench.records.store import Results

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
                self.answer = asked_at, batch.jobs(self._run.system, self._run.name)
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
        batch.cancel(run.system, run.name)
        left = batch.wait_for_end(run.system, run.name)
    except SiteError as error:
        log.warning("whether all jobs of %s are gone is not known: %s", run.name, error)
        return False
    if left:
        log.warning("jobs %s of %s are cancelled, and still there", ", ".join(left), run.name)
    return not left
