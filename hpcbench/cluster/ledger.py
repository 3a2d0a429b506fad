"""Which batch jobs a results folder has ever asked for: written before, and as, they are submitted.

With it, `status` and `cancel` work from another shell, and the next run ends what a killed driver
left behind.

Ends runs from outside: one that is at work, and whatever jobs a killed driver left behind.
"""

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hpcbench.cluster import batch
from hpcbench.cluster.batch import BatchSystem
from hpcbench.errors import SiteError
from hpcbench.records import store
from hpcbench.records.folder import Results, is_folder_locked


@dataclass(frozen=True)
class Run:
    """One run's jobs: the name that all of them have, and the host from which they were sent."""

    name: str
    scheduler: str
    host: str

    @property
    def system(self) -> BatchSystem:
        """Where its jobs are."""
        return batch.system(self.scheduler)


def begin(results: Results, scheduler: str) -> Run:
    """Notes a run with a new name, before its first job is submitted."""
    run = Run(f"hpcbench-{uuid.uuid4().hex[:8]}", scheduler, socket.gethostname())
    _append(results.ledger, {"run": run.name, "scheduler": run.scheduler, "host": run.host})
    return run


def add(results: Results, run: Run, pool: str, job_id: str) -> None:
    """Notes a job that the batch system has taken."""
    _append(results.ledger, {"run": run.name, "pool": pool, "job": job_id})


def finish(results: Results, run: Run) -> None:
    """Notes that none of a run's jobs is left."""
    _append(results.ledger, {"run": run.name, "finished": True})


def unfinished(results: Results) -> list[Run]:
    """The runs that may have left jobs behind, the newest last."""
    lines = _lines(results.ledger)
    over = {line["run"] for line in lines if line.get("finished")}
    return [
        Run(line["run"], line["scheduler"], line["host"])
        for line in lines
        if "scheduler" in line and line["run"] not in over
    ]


def job_ids(results: Results, run: Run) -> list[str]:
    """The jobs that the batch system took from a run."""
    return [
        line["job"] for line in _lines(results.ledger) if line["run"] == run.name and "job" in line
    ]


def _append(path: Path, entry: dict[str, Any]) -> None:
    entry["at"] = datetime.now(UTC).isoformat(timespec="seconds")
    with path.open("a") as stream:
        # After a line that was cut off, this one must stand alone all the same.
        stream.write("\n" + json.dumps(entry) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _lines(path: Path) -> list[dict[str, Any]]:
    """The entries; a last line that was cut off says no more than what the run's name says."""
    found = []
    for line in path.read_text().split("\n") if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


Tell = Callable[[str], None]

CANCEL_S = 90.0
"""How long a driver may take to end its run before its jobs are ended without it."""


def end_earlier_runs(where: Results, tell: Tell) -> list[Run]:
    """Cancels the jobs that killed runs left, which would measure the same points beside us.

    Returns the runs of which nothing is left.
    """
    ended = []
    for run_ in unfinished(where):
        left = batch.active(run_.system.jobs(run_.name))
        if not left and not run_.system.sees_queue_of(run_.host):
            tell(
                f"jobs of {run_.name} were sent from {run_.host}, whose queue is perhaps not this "
                "host's: any that wait there end by themselves a minute after they start"
            )
        if left:
            tell(f"cancelling jobs of an earlier run: {', '.join(left)}")
            run_.system.cancel(run_.name)
            left = batch.wait_for_end(run_.system, run_.name)
        shutil.rmtree(where.keys, ignore_errors=True)
        if left:
            tell(f"jobs {', '.join(left)} of {run_.name} are cancelled, and still in the queue")
            continue
        finish(where, run_)
        ended.append(run_)
    return ended


def cancel(where: Results, tell: Tell) -> None:
    """Ends the run at work in a results folder, and whatever jobs of earlier ones are left.

    Raises BadInput where there is no run, SiteError where its driver, perhaps on another host,
    does not answer and the batch system does not either.
    """
    store.read_plan(where)
    if is_folder_locked(where) or unfinished(where):
        # Where a file system keeps its locks to one host, a driver on another one seems gone.
        where.cancel.touch()
    if is_folder_locked(where):
        tell("asking the driver to end the run")
        deadline = time.monotonic() + CANCEL_S
        while is_folder_locked(where) and time.monotonic() < deadline:
            time.sleep(0.5)
        if not is_folder_locked(where):
            tell("the run has ended; what was measured is kept")
    for run_ in end_earlier_runs(where, tell):
        tell(f"no job of {run_.name} is left")
    if unfinished(where):
        raise SiteError(
            f"{where.folder}: the batch system has not let go of all jobs yet",
            "give the same command again in a few minutes",
        )
