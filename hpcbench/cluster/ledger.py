"""The ledger of a results folder: which runs have submitted batch jobs, and which jobs.

An entry is written before, and as, a job is submitted. So `hpcbench status` and `hpcbench cancel`
work from another shell, and the next run cancels the jobs that a killed driver has orphaned.

A results folder may come from somebody else, and with it a ledger that names whatever jobs they
chose. So only what looks like a run of hpcbench's is read, and only from a ledger of this user's.
"""

import json
import os
import re
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
from hpcbench.config.site import SYSTEMS
from hpcbench.errors import SiteError
from hpcbench.records import store
from hpcbench.records.folder import Results, is_folder_locked
from hpcbench.runtime.ownership import is_own, open_no_link

CANCEL_S = 90.0
"""Seconds that a driver may take to end its run before its jobs are cancelled without it."""

_NAME = re.compile(r"hpcbench-[0-9a-f]{8}")
"""The name of a run. It becomes part of the batch system's commands."""


@dataclass(frozen=True)
class Run:
    """A run as it stands in the ledger.

    Attributes
    ----------
    name
        The name that all its jobs share, and no job of another run has.
    scheduler
        The batch system, by its name in the site file.
    host
        The host on which the jobs were submitted.
    """

    name: str
    scheduler: str
    host: str

    @property
    def system(self) -> BatchSystem:
        """The batch system that has its jobs."""
        return batch.system(self.scheduler)


def begin(results: Results, scheduler: str) -> Run:
    """Enter a run with a new name, before its first job is submitted.

    Parameters
    ----------
    results
        The folder with the ledger.
    scheduler
        The batch system, by its name in the site file.

    Returns
    -------
    Run
        The run, submitted from this host.
    """
    if os.path.lexists(results.ledger) and not is_own(results.ledger):
        # A colleague began this folder. Each of us finds only the jobs that we may cancel.
        results.ledger.rename(results.ledger.with_name(f"jobs-of-others-{uuid.uuid4().hex}.jsonl"))
    run = Run(f"hpcbench-{uuid.uuid4().hex[:8]}", scheduler, socket.gethostname())
    _append(results.ledger, {"run": run.name, "scheduler": run.scheduler, "host": run.host})
    return run


def add_job(results: Results, run: Run, pool: str, job_id: str) -> None:
    """Enter a job that the batch system has accepted.

    Parameters
    ----------
    results
        The folder with the ledger.
    run
        Whose job it is.
    pool
        The name of its pool.
    job_id
        Its id.
    """
    _append(results.ledger, {"run": run.name, "pool": pool, "job": job_id})


def finish(results: Results, run: Run) -> None:
    """Enter that none of a run's jobs is left.

    Parameters
    ----------
    results
        The folder with the ledger.
    run
        The run.
    """
    _append(results.ledger, {"run": run.name, "finished": True})


def unfinished(results: Results) -> list[Run]:
    """Return the runs that may have jobs.

    Parameters
    ----------
    results
        The folder with the ledger.

    Returns
    -------
    list of Run
        The newest last.
    """
    lines = _lines(results.ledger)
    over = {line["run"] for line in lines if line.get("finished")}
    return [
        Run(line["run"], line["scheduler"], line["host"])
        for line in lines
        if "scheduler" in line and line["run"] not in over
    ]


def job_ids(results: Results, run: Run) -> list[str]:
    """Return the jobs of a run that the batch system has accepted.

    Parameters
    ----------
    results
        The folder with the ledger.
    run
        The run.

    Returns
    -------
    list of str
        Their ids, in the order in which they were accepted.
    """
    return [
        line["job"] for line in _lines(results.ledger) if line["run"] == run.name and "job" in line
    ]


def _append(path: Path, entry: dict[str, Any]) -> None:
    entry["at"] = datetime.now(UTC).isoformat(timespec="seconds")
    with open_no_link(path, "a") as stream:
        # After a line that was cut off, this one must stand alone all the same.
        stream.write("\n" + json.dumps(entry) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _lines(path: Path) -> list[dict[str, Any]]:
    if not is_own(path):
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [entry for line in lines if (entry := _entry(line))]


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        # Empty, or cut off: the name of the run, in an earlier line, finds all its jobs.
        return None
    is_entry = isinstance(entry, dict) and all(
        isinstance(value, str | bool) for value in entry.values()
    )
    if not is_entry or not _NAME.fullmatch(str(entry.get("run", ""))):
        return None
    begins = "scheduler" in entry
    return entry if not begins or (entry["scheduler"] in SYSTEMS and "host" in entry) else None


def cancel_orphaned_jobs(results: Results, notify: Callable[[str], None]) -> list[Run]:
    """Cancel the jobs of runs that were killed: they would measure the same points as the next.

    Parameters
    ----------
    results
        The folder with the ledger. No run may be at work in it.
    notify
        Called with each line that the user should read.

    Returns
    -------
    list of Run
        The runs of which no job is left.

    Raises
    ------
    SiteError
        Where the batch system does not answer.
    """
    ended = []
    for run in unfinished(results):
        left = batch.active(run.system.jobs(run.name))
        if not left and not run.system.sees_queue_of(run.host):
            notify(
                f"jobs of {run.name} were submitted on {run.host}, whose queue this host may not "
                "see: any that wait there end by themselves a minute after they start"
            )
        if left:
            notify(f"cancelling jobs of an earlier run: {', '.join(left)}")
            run.system.cancel(run.name)
            left = batch.wait_for_end(run.system, run.name)
        # Its keys are of no use to anybody any more.
        shutil.rmtree(results.keys, ignore_errors=True)
        if left:
            notify(f"jobs {', '.join(left)} of {run.name} are cancelled, and still in the queue")
            continue
        finish(results, run)
        ended.append(run)
    return ended


def cancel_run(results: Results, notify: Callable[[str], None]) -> None:
    """End the run at work in a results folder, and cancel the jobs that earlier ones orphaned.

    Parameters
    ----------
    results
        The results folder.
    notify
        Called with each line that the user should read.

    Raises
    ------
    BadInput
        Where the folder holds no run.
    SiteError
        Where the driver, perhaps on another host, does not answer and the batch system does not
        either, or has not let go of all jobs.
    """
    store.read_plan(results)
    if not (is_folder_locked(results) or unfinished(results)):
        notify(f"{results.folder}: no run is at work here, and no job of an earlier one is left")
        return
    # Some file systems keep locks to one host: there, a driver on another one seems gone.
    results.cancel.touch()
    if is_folder_locked(results):
        notify("asking the driver to end the run")
        deadline = time.monotonic() + CANCEL_S
        while is_folder_locked(results) and time.monotonic() < deadline:
            time.sleep(0.5)
        if not is_folder_locked(results):
            notify("the run has ended; what was measured is kept")
    for run in cancel_orphaned_jobs(results, notify):
        notify(f"no job of {run.name} is left")
    if unfinished(results):
        raise SiteError(
            f"{results.folder}: the batch system still has jobs of this run",
            "run the same command again in a few minutes",
        )
