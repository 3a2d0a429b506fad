"""A third batch system: its queue is a folder, and its only node is this computer.

This is all that hpcbench needs to know of a batch system, besides one entry in SYSTEMS.
"""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from dask_jobqueue.core import Job as DaskJob
from dask_jobqueue.core import JobQueueCluster

from hpcbench.cluster.batch import BatchSystem, Job, JobRequest, JobState, ThisJob, command_output

FOLDER = "FOLDER_QUEUE"
"""The variable that names the folder of the queue, and of the program that submits."""

SUBMIT = r"""#!/bin/bash
[ "$1" = --version ] && { echo "folder queue 1"; exit; }
id=1; until mkdir "$FOLDER_QUEUE/$id" 2>/dev/null; do id=$((id + 1)); done
job=$FOLDER_QUEUE/$id
cp "$1" "$job/script"
log=$(sed -n 's/^#QUEUE log=//p' "$job/script")
FOLDER_JOB=$id setsid bash -c 'bash "$1/script" &> "$2"; echo $? > "$1/exit_code"' \
    - "$job" "$log/job-$id.log" < /dev/null &> /dev/null &
echo $! > "$job/group"
echo "job $id is submitted"
"""


class FolderJob(DaskJob):  # type: ignore[misc]
    """One job for dask-jobqueue."""

    submit_command = "fsub"
    cancel_command = "false"
    config_name = "local"
    job_id_regexp = r"job (?P<job_id>\d+)"

    def __init__(self, scheduler: Any = None, name: Any = None, **options: Any) -> None:
        super().__init__(scheduler=scheduler, name=name, shebang="#!/bin/bash", **options)
        self.job_header = "\n".join(f"#QUEUE {line}" for line in self.job_extra_directives)


class FolderCluster(JobQueueCluster):  # type: ignore[misc]
    """The class that submits such jobs."""

    job_cls = FolderJob


class FolderQueue:
    """The batch system."""

    commands = ("fsub", "fsub", "fsub")
    temporary_failures = ()
    cluster_class = "tests.cluster.folder_queue:FolderCluster"

    def version(self) -> str:
        return command_output(["fsub", "--version"]).strip()

    def jobs(self, run: str) -> dict[str, Job]:
        of_run = (path for path in _folders() if f"#QUEUE name={run}\n" in _read(path / "script"))
        return {path.name: _job(path) for path in of_run}

    def cancel(self, run: str, ids: Iterable[str] = ()) -> None:
        for id_ in set(ids) or self.jobs(run):
            for process in _processes(Path(os.environ[FOLDER]) / id_):
                process.send_signal(signal.SIGTERM)

    def has_other_nodes(self, excluded: Sequence[str], *, gpus: bool) -> bool:
        return False

    def sees_queue_of(self, host: str) -> bool:
        return True

    def job_settings(self, request: JobRequest) -> dict[str, Any]:
        return {"job_extra_directives": [f"name={request.run}", f"log={request.logs}"]}

    def submission_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        return dict(environment)

    def this_job(self) -> ThisJob | None:
        id_ = os.environ.get("FOLDER_JOB")
        return ThisJob(id_, f"folder-{platform.node()}") if id_ else None


def install(folder: Path) -> dict[str, str]:
    """Makes an empty queue; the variables by which it is found."""
    (folder / "queue").mkdir(parents=True)
    (folder / "fsub").write_text(SUBMIT)
    (folder / "fsub").chmod(0o755)
    return {FOLDER: str(folder / "queue"), "PATH": f"{folder}:{os.environ['PATH']}"}


def _folders() -> list[Path]:
    return sorted(Path(os.environ[FOLDER]).iterdir())


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _job(path: Path) -> Job:
    if not _read(path / "group"):
        return Job(path.name, JobState.WAITING, "is being submitted")
    if any(_processes(path)):
        return Job(path.name, JobState.RUNNING, node=f"folder-{platform.node()}")
    code = _read(path / "exit_code").strip()
    return Job(path.name, JobState.ENDED, f"exit code {code}" if code else "killed")


def _processes(path: Path) -> Iterator[psutil.Process]:
    """What is left of a job: all of it is in one process group."""
    group = int(_read(path / "group"))
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (ProcessLookupError, psutil.Error):
            continue


SYSTEM: BatchSystem = FolderQueue()
