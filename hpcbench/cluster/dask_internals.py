"""Everything that reaches below the public names of dask, distributed and dask-jobqueue.

Each release may move any of it. For each, tests/cluster/test_dask_internals.py has a test that
fails then, and pyproject.toml caps the versions at those that were tested.
"""

import asyncio
import contextlib
import itertools
import os
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import dask
import yaml
from distributed import Client, Future, utils
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.security import Security

from hpcbench.cluster.batch import BatchSystem
from hpcbench.runtime.temporary import temporary_folder

SUBMIT_TIMEOUT_S = 60.0
_numbers = itertools.count()


@contextmanager
def forked_workers() -> Iterator[None]:
    """Let a `LocalCluster` fork its workers from multiprocessing's fork server.

    Yields
    ------
    None
        The setting before comes back when the block is left.
    """
    # Otherwise Dask imports NumPy and pandas here, and tells the server to import them, too.
    utils._forkserver_preload_set = True
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


@contextmanager
def jobqueue_settings() -> Iterator[None]:
    """Hide what a user's own jobqueue.yaml says: the site file says it all.

    Yields
    ------
    None
        The settings before come back when the block is left.
    """
    with dask.config.set(_shipped_jobqueue_settings()):
        yield


@cache
def _shipped_jobqueue_settings() -> dict[str, Any]:
    # dask-jobqueue has no function that gives its defaults: they are in a file of the package,
    # whose import fills the gaps of the user's. Imported here: local runs do not need it.
    import dask_jobqueue  # noqa: F401

    spec = find_spec("dask_jobqueue")
    assert spec is not None
    path = Path(str(spec.origin)).with_name("jobqueue.yaml")
    sections = yaml.safe_load(path.read_text(encoding="utf-8"))["jobqueue"]
    # Half an hour, the default, would end up in the script of a job for which no limit is asked.
    return {
        f"jobqueue.{name}": section | ({"walltime": None} if "walltime" in section else {})
        for name, section in sections.items()
    }


def survive_closed_connections() -> None:
    """Keep one peer that goes away from taking other connections of this process along.

    A peer that closes without saying so in TLS makes OpenSSL send it an alert. Where that fails,
    the error stays in OpenSSL's queue and is taken for that of the next connection that is read
    (seen with Python 3.13 and OpenSSL 3.5). Dask's messages carry their lengths: none is cut off
    unseen where such an end is no error.
    """
    dask_security: Any = Security
    # Dask has no setting for the options of its TLS contexts.
    original = dask_security._get_tls_context
    if getattr(original, "survives", False):
        return

    def context(self: Security, *arguments: Any) -> Any:
        found = original(self, *arguments)
        if found is not None:
            found.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        return found

    context.survives = True  # type: ignore[attr-defined]
    dask_security._get_tls_context = context


async def drop_workers(cluster: Any) -> None:
    """Leave a cluster nothing to talk about, and let it close once more.

    Parameters
    ----------
    cluster
        One whose closing has failed in the middle.
    """
    for worker in cluster.workers.values():
        await worker.close()
    cluster.workers.clear()
    cluster.worker_spec.clear()
    # close() does nothing where the status says that it has begun.
    cluster.status = Status.running


class ConnectedWorkers(SchedulerPlugin):
    """The workers that are connected to one scheduler, by their names.

    The scheduler's own table cannot be read from another thread: it is sorted by Python code, and
    going through it while a worker comes or leaves fails.

    Attributes
    ----------
    ever
        The names of all workers that have connected since the plugin was added.
    """

    def __init__(self) -> None:
        self._workers: dict[str, Any] = {}
        self.ever: set[str] = set()

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Note a worker that has connected; called by Dask.

        Parameters
        ----------
        scheduler
            Dask's scheduler.
        worker
            The worker's address.
        """
        state = scheduler.workers[worker]
        self._workers[worker] = state
        self.ever.add(str(state.name))

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:  # noqa: ARG002
        """Note that a worker is gone; called by Dask.

        Parameters
        ----------
        scheduler
            Dask's scheduler.
        worker
            The worker's address.
        **_
            What newer versions of Dask say besides.
        """
        self._workers.pop(worker, None)

    @property
    def names(self) -> frozenset[str]:
        """Those that are connected now."""
        return frozenset(str(state.name) for state in list(self._workers.values()))

    @property
    def idle(self) -> list[str]:
        """Those of them that have nothing to do."""
        workers = list(self._workers.values())
        return [str(state.name) for state in workers if not state.processing]


def submit_task(
    client: Client,
    function: Callable[..., Any],
    *arguments: object,
    key: str,
    worker: str | None = None,
) -> "Future[Any]":
    """Submit a task that waits on the scheduler until a worker is free, or to one that is.

    Parameters
    ----------
    client
        The client of a cluster.
    function
        What a worker runs.
    *arguments
        What it is given.
    key
        A name that no other task has.
    worker
        The name of a worker that has nothing to do. If it is gone by then, another one that is
        there may take the task; where none is, the task waits for ever, also if some come: whoever
        has submitted it must cancel it then.

    Returns
    -------
    Future
        The result to be.
    """
    if worker is not None:
        return client.submit(
            function, *arguments, key=key, pure=False, workers=[worker], allow_other_workers=True
        )
    # Only tasks that are marked as producers of data wait there; others are put on a busy
    # worker, and die with it.
    return client.submit(function, *arguments, key=key, pure=False, _data_producer=True)


class _Gate(Protocol):
    """What a job calls of `SubmissionGate`, whose module a process in a batch job never needs."""

    slots: asyncio.Semaphore

    def admits(self, name: str) -> bool: ...
    def accept(self, name: str, job_id: str) -> None: ...
    def refuse(self, name: str, message: str) -> None: ...


def reporting_cluster(cluster: Any, gate: _Gate, system: BatchSystem) -> Any:
    """Return a cluster class whose jobs report what becomes of them.

    dask-jobqueue only logs a refused submission, and submits all jobs at once. The mixins mend
    that for any of its classes, also for those that a site brings.

    Parameters
    ----------
    cluster
        A class derived from JobQueueCluster.
    gate
        Where the jobs ask whether to be submitted, and report.
    system
        The batch system.

    Returns
    -------
    type
        A class derived from ``cluster``, with the methods of `_ReportingCluster`. It takes one
        more argument, ``worker_security``.
    """
    attributes = {"gate": gate, "system": system}
    job = type("ReportingJob", (_ReportingJob, cluster.job_cls), attributes)
    return type("ReportingCluster", (_ReportingCluster, cluster), {"job_cls": job})


def job_script(cluster: Any, scheduler: str, **settings: Any) -> str:
    """Return the script of one job.

    Parameters
    ----------
    cluster
        A class derived from JobQueueCluster.
    scheduler
        The address of Dask's scheduler.
    **settings
        Arguments of the class.

    Returns
    -------
    str
        The file that is submitted.
    """
    # The cluster's own method needs a cluster, and so a scheduler, that runs.
    return str(cluster.job_cls(scheduler, **settings).job_script())


class _ReportingJob(ProcessInterface):
    gate: _Gate
    system: BatchSystem
    name: str
    job_id: str
    # One of dask-jobqueue's classes starts the script by /bin/sh, in which a prologue that was
    # written for bash may fail.
    executable = "/bin/bash"

    async def start(self) -> None:
        async with self.gate.slots:
            if not self.gate.admits(self.name):
                await ProcessInterface.start(self)
                return
            try:
                await super().start()  # type: ignore[no-untyped-call]
            except (RuntimeError, ValueError, OSError) as error:
                self.gate.refuse(self.name, str(error))
                # Dask would end the whole cluster where a job raises.
                await ProcessInterface.start(self)
            else:
                self.gate.accept(self.name, self.job_id)

    @contextmanager
    def job_file(self) -> Iterator[str]:
        # dask-jobqueue's own opens a name in /tmp, at which somebody else may have put a file.
        with temporary_folder() as folder:
            path = folder / "job.sh"
            path.write_text(self.job_script(), encoding="utf-8")  # type: ignore[attr-defined]
            yield str(path)

    async def close(self) -> None:
        # All jobs of a run are cancelled by one command elsewhere.
        self.status = Status.closed

    @classmethod
    async def _call(cls, cmd: Sequence[str], **_: Any) -> str:
        # dask-jobqueue's own has no time limit, and hands on the driver's environment.
        process = await asyncio.create_subprocess_exec(
            *cmd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=cls.system.submission_environment(os.environ),
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), SUBMIT_TIMEOUT_S)
        except TimeoutError as error:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise RuntimeError(f"{cmd[0]}: no answer within {SUBMIT_TIMEOUT_S:.0f} s") from error
        if process.returncode:
            message = (err or out).decode(errors="replace").strip()
            raise RuntimeError(message or f"{cmd[0]}: exit code {process.returncode}")
        return out.decode(errors="replace")


class _ReportingCluster:
    """What hpcbench asks of a pool's cluster, besides its scheduler. Jobs go by their workers."""

    _name: str
    _loop_runner: Any
    loop: Any
    new_spec: dict[str, Any]
    scheduler: Any
    sync: Any
    worker_spec: dict[str, Any]
    workers: dict[str, Any]

    def __init__(self, *, worker_security: Security | None, **options: Any) -> None:
        self._worker_security = worker_security
        try:
            super().__init__(**options)
        except BaseException:
            # Dask leaves the thread of its event loop behind where no scheduler could start.
            if hasattr(self, "_loop_runner"):
                self._loop_runner.stop()
            raise

    def scale(self, n: int | None = None, jobs: int = 0, **more: Any) -> Any:
        # One job is one worker: dask-jobqueue's own count of it asks the scheduler.
        scale: Any = super().scale  # type: ignore[misc]
        return scale(jobs=jobs if n is None else n, **more)

    def planned_jobs(self) -> list[str]:
        """Return the workers that Dask wants, the oldest first, whether they are there or not."""
        return list(self.worker_spec)

    def add_jobs(self, count: int) -> None:
        """Submit so many more jobs; returns before they are submitted."""
        self.loop.add_callback(self.scale, len(self.worker_spec) + count)

    def forget_jobs(self, names: Iterable[str]) -> None:
        """Neither want nor replace these workers any more."""

        # Scaling down, Dask's own way, chooses the workers itself, and runs a command for each.
        async def forget() -> None:
            for name in names:
                self.worker_spec.pop(name, None)
                job = self.workers.pop(name, None)
                if job is not None:
                    await job.close()

        self.sync(forget)

    def retire_worker(self, name: str) -> None:
        """Ask a worker to end; Dask declines where a result is on that worker only."""
        # The client's own method waits until the worker is gone.
        retire = self.scheduler.retire_workers
        self.loop.add_callback(retire, names=[name], close_workers=True)

    def change_job_settings(self, settings: dict[str, Any]) -> None:
        """Submit further jobs with these arguments of the cluster class."""
        self.new_spec["options"] |= settings

    def _get_worker_security(self, _: Any) -> Security | None:
        # dask-jobqueue's own hands on the driver's: a job may find the keys in another folder.
        return self._worker_security

    def _new_worker_name(self, _: int) -> str:
        # Dask's own gives the name of a worker that is gone to another one.
        return f"{self._name}-{next(_numbers)}"
