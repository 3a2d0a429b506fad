"""Which batch jobs a results folder has ever asked for: written before, and as, they are submitted.

With it, `status` and `cancel` work from another shell, and the next run ends what a killed driver
left behind.
"""

import json
import os
import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hpcbench.cluster.batch import BatchSystem
from hpcbench.records.store import Results


@dataclass(frozen=True)
class Run:
    """One run's jobs: the name that all of them have, and the host from which they were sent."""

    name: str
    system: BatchSystem
    host: str


def begin(results: Results, system: BatchSystem) -> Run:
    """Notes a run with a new name, before its first job is submitted."""
    run = Run(f"hpcbench-{uuid.uuid4().hex[:8]}", system, socket.gethostname())
    _append(results.ledger, {"run": run.name, "scheduler": run.system, "host": run.host})
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
