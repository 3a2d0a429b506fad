"""What hpcbench asks of a batch system, as a Protocol, and the plain data that it answers with.

Each batch system is one module that implements the Protocol; `hpcbench.config.site.SYSTEMS` names
them. All jobs of a run share a name, so that they can be found and cancelled even where the driver
was killed before it could write down a job's id.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from hpcbench.config.site import SYSTEMS, Pool, Site
from hpcbench.errors import SiteError
from hpcbench.measure import node
from hpcbench.runtime import process
from hpcbench.runtime.temporary import temporary_folder

COMMAND_TIMEOUT_S = 60.0

MODULE = "HPCBENCH_BATCH_SYSTEM"
"""In the environment of a job: the dotted name of the module of its batch system."""

WALLTIME = "HPCBENCH_WALLTIME_S"
"""In the environment of a job: the seconds that the site file gives it."""


class JobState(StrEnum):
    """The states of a job that hpcbench tells apart."""

    WAITING = "waiting"
    RUNNING = "running"
    HELD = "held"
    ENDED = "ended"


@dataclass(frozen=True)
class Job:
    """A job as the batch system sees it.

    Attributes
    ----------
    id
        The id by which the batch system's commands know it.
    state
        What it is doing.
    reason
        Why it waits, is held or ended, in the batch system's own words; empty where it says none.
    node
        The node that it runs or ran on; empty before it has one.
    starts
        How often it was started, where the batch system starts a job again that it has evicted.
    never_starts
        Whether it waits for something that cannot come true.
    """

    id: str
    state: JobState
    reason: str = ""
    node: str = ""
    starts: int = 0
    never_starts: bool = False


@dataclass(frozen=True)
class ThisJob:
    """The job that a process runs in, as the job's environment describes it.

    Attributes
    ----------
    id
        The id by which the batch system's commands know it; None where it is not said.
    node
        The batch system's name of the node; None where it is not said.
    ends_at
        When the batch system ends it, in seconds since the epoch; None where it is not said.
    """

    id: str | None
    node: str | None
    ends_at: float | None = None


@dataclass(frozen=True)
class JobRequest:
    """What each job of a pool asks for.

    Attributes
    ----------
    site, pool
        As in the site file.
    run
        The name that all jobs of the run share.
    account
        Who is charged, with the suffix of the pool; None where nobody is named.
    logs
        The folder in which each job's standard error becomes ``job-ID.log``.
    python
        The interpreter, as a shell reads it.
    exports
        A shell command that exports what the job has to know, to run after the pool's prologue.
    excluded
        The nodes that get no job.
    key_files
        What has to travel with the job where the nodes do not see the driver's folders.
    """

    site: Site
    pool: Pool
    run: str
    account: str | None
    logs: Path
    python: str
    exports: str
    excluded: tuple[str, ...] = ()
    key_files: tuple[Path, ...] = ()


class BatchSystem(Protocol):
    """One batch system: all that hpcbench knows of it.

    Methods that run a command raise SiteError where the batch system does not answer.
    """

    @property
    def commands(self) -> tuple[str, str, str]:
        """The programs that submit, query and cancel jobs."""

    @property
    def temporary_failures(self) -> Sequence[str]:
        """Parts of messages that mean: the same command may work in a few seconds."""

    @property
    def cluster_class(self) -> str:
        """The "package.module:Class" of dask-jobqueue that submits to it."""

    def version(self) -> str:
        """Return one line about its version.

        Returns
        -------
        str
            What the command that queries jobs prints.
        """

    def jobs(self, run: str) -> dict[str, Job]:
        """Query the jobs of a run.

        Parameters
        ----------
        run
            The name that these jobs share.

        Returns
        -------
        dict of str to Job
            The jobs by their ids; those that ended may be missing.
        """

    def cancel(self, run: str, ids: Iterable[str] = ()) -> None:
        """Cancel jobs; that there are none is no error.

        Parameters
        ----------
        run
            The name that these jobs share.
        ids
            The ids of the jobs to cancel; by default all of the run.
        """

    def has_other_nodes(self, excluded: Sequence[str], *, gpus: bool) -> bool:
        """Return whether a job could run anywhere else.

        Parameters
        ----------
        excluded
            The nodes that get no job.
        gpus
            Whether only nodes with GPUs count.

        Returns
        -------
        bool
            True also where the batch system does not say, or refuses such a job by itself.
        """

    def sees_queue_of(self, host: str) -> bool:
        """Return whether the jobs that were submitted on another host are in this host's queue.

        Parameters
        ----------
        host
            The host's name, as `socket.gethostname` gives it there.

        Returns
        -------
        bool
            False where each login node has a queue of its own and ``host`` is not this one.
        """

    def job_settings(self, request: JobRequest) -> dict[str, Any]:
        """Return the arguments of the cluster class that this batch system needs.

        Parameters
        ----------
        request
            What each job asks for.

        Returns
        -------
        dict of str to object
            They replace arguments of the same name that hold for every batch system.
        """

    def submission_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment for the command that submits.

        Parameters
        ----------
        environment
            The driver's, which may itself be in a job.

        Returns
        -------
        dict of str to str
            It without what would override the job script.
        """

    def this_job(self) -> ThisJob | None:
        """Return the job that this process runs in.

        Returns
        -------
        ThisJob or None
            None outside of this batch system's jobs.
        """


def system(name: str) -> BatchSystem:
    """Return a batch system by its name in a site file.

    Parameters
    ----------
    name
        One of `hpcbench.config.site.SYSTEMS`.

    Returns
    -------
    BatchSystem
        What its module calls ``SYSTEM``.
    """
    return _loaded(SYSTEMS[name].module)


def _loaded(module: str) -> BatchSystem:
    found: BatchSystem = import_module(module).SYSTEM
    return found


def this_job() -> ThisJob | None:
    """Return the job that this process runs in.

    Returns
    -------
    ThisJob or None
        None outside of a batch job.
    """
    # A job of hpcbench's knows its batch system. A driver that a user has started in a job, with
    # workers of its own, does not: then each is asked.
    own = os.environ.get(MODULE)
    modules = [own] if own else [entry.module for entry in SYSTEMS.values()]
    return next((job for module in modules if (job := _loaded(module).this_job())), None)


def job_variables(job: ThisJob | None) -> dict[str, str]:
    """Return the variables by which `hpcbench.measure.node` knows the job that it is in.

    Parameters
    ----------
    job
        The job, or None outside of one.

    Returns
    -------
    dict of str to str
        Empty strings where something is not known: else those of a job around this one would
        be inherited.
    """
    return {
        node.JOB_ID: (job.id if job else None) or "",
        node.NODE_NAME: (job.node if job else None) or "",
    }


def active(jobs: Mapping[str, Job]) -> list[str]:
    """Return the ids of the jobs that wait, run or are held.

    Parameters
    ----------
    jobs
        Jobs by their ids.

    Returns
    -------
    list of str
        In the order of ``jobs``.
    """
    return [job.id for job in jobs.values() if job.state is not JobState.ENDED]


def wait_for_end(batch_system: BatchSystem, run: str, seconds: float = 30.0) -> list[str]:
    """Wait until no job of a run is left.

    Parameters
    ----------
    batch_system
        Where the jobs are.
    run
        The name that the jobs share.
    seconds
        How long to wait at most.

    Returns
    -------
    list of str
        The ids of the jobs that are still there.

    Raises
    ------
    SiteError
        Where the batch system does not answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        left = active(batch_system.jobs(run))
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(1)


def command_output(argv: Sequence[str], harmless: Sequence[str] = ()) -> str:
    """Run a command of a batch system.

    Parameters
    ----------
    argv
        The program and its arguments.
    harmless
        Parts of messages with which a failure counts as success.

    Returns
    -------
    str
        What the command printed.

    Raises
    ------
    SiteError
        Where it is not there, fails, or does not end within `COMMAND_TIMEOUT_S`.
    """
    with temporary_folder() as folder:
        try:
            done = process.run(process.Command(argv), folder=folder, timeout_s=COMMAND_TIMEOUT_S)
        except OSError as error:
            raise SiteError(f"{argv[0]}: {error.strerror}") from error
    message = (done.stderr or done.stdout).strip()
    # First: a command that was killed has an exit code, too.
    if done.timed_out:
        raise SiteError(
            f"{argv[0]} gave no answer within {COMMAND_TIMEOUT_S:.0f} s",
            "the batch system may be down; run the same command again later",
        )
    if done.returncode and not any(text in message for text in harmless):
        hint = (
            "" if done.returncode != 127 else "run hpcbench where the batch system's commands are"
        )
        raise SiteError(f"{argv[0]}: {message or f'exit code {done.returncode}'}", hint)
    return done.stdout
