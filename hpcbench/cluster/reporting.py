"""Classes for dask-jobqueue that tell what becomes of each submission, or that it is not made.

dask-jobqueue only logs a refused submission, and submits all jobs at once. The two mixins here
mend that for any of its classes, also for those that a site brings.
"""

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed.core import Status
from distributed.deploy.spec import ProcessInterface
from distributed.security import Security

from hpcbench.cluster.batch import BatchSystem

SUBMISSIONS = 4
"""How many jobs are submitted at a time, so that a login node does not choke."""

SUBMIT_TIMEOUT_S = 60.0


@dataclass
class Desk:
    """Where a pool's jobs report, by their workers' names: ids given, or words of refusal.

    They do so in Dask's thread; all else is called from the driver's.
    """

    taken: Callable[[str, str], None]
    _refused: dict[str, str] = field(default_factory=dict)
    _unwanted: set[str] = field(default_factory=set)
    _closed: bool = False
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SUBMISSIONS))

    def hear(self) -> dict[str, str]:
        """What was refused since the last call, in the batch system's words."""
        return {name: self._refused.pop(name) for name in list(self._refused)}

    def withdraw(self, names: Iterable[str]) -> None:
        """These jobs are not submitted any more where they have not been yet."""
        self._unwanted.update(names)

    def close(self) -> None:
        """No job is submitted any more: a run that ends must not go on with its queue."""
        self._closed = True

    def refuse(self, name: str, words: str) -> None:
        self._refused[name] = words

    def wants(self, name: str) -> bool:
        """Whether this job is to be submitted now.

        After a refusal that the driver has not heard yet it is refused as well, unasked: one
        that is over a limit of the site's must not ask a thousand times.
        """
        if self._closed or name in self._unwanted:
            return False
        words = next(iter(list(self._refused.values())), None)
        if words is not None:
            self._refused[name] = words
        return words is None


class _ReportingJob(ProcessInterface):
    """Mixed into a job class of dask-jobqueue: a refusal is told, and closing costs no command."""

    desk: Desk
    system: BatchSystem
    name: str
    job_id: str
    executable = "/bin/bash"

    async def start(self) -> None:
        async with self.desk.gate:
            if not self.desk.wants(self.name):
                await ProcessInterface.start(self)
                return
            try:
                await super().start()  # type: ignore[no-untyped-call]
            except (RuntimeError, ValueError, OSError) as error:
                self.desk.refuse(self.name, str(error))
                await ProcessInterface.start(self)
            else:
                self.desk.taken(self.name, self.job_id)

    async def close(self) -> None:
        """All jobs of a run are cancelled by one command elsewhere."""
        self.status = Status.closed

    @classmethod
    async def _call(cls, cmd: Sequence[str], **_: Any) -> str:
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
            words = (err or out).decode(errors="replace").strip()
            raise RuntimeError(words or f"{cmd[0]}: exit code {process.returncode}")
        return out.decode(errors="replace")


def reporting(cluster: Any, desk: Desk, system: BatchSystem) -> Any:
    """The same class with jobs that report to ``desk`` what the batch system said."""
    attributes = {"desk": desk, "system": system}
    job_cls = type("ReportingJob", (_ReportingJob, cluster.job_cls), attributes)
    return type("ReportingCluster", (_ReportingCluster, cluster), {"job_cls": job_cls})


class _ReportingCluster:
    """Mixed into a cluster class: no worker gets the name of an earlier one, and keys stay put.

    One whose scheduler cannot be started says why, and leaves no thread behind.
    """

    _name: str
    _loop_runner: Any

    def __init__(self, *, worker_security: Security | None, **options: Any) -> None:
        self._worker_security = worker_security
        try:
            super().__init__(**options)
        except BaseException:
            if hasattr(self, "_loop_runner"):
                self._loop_runner.stop()
            raise

    def scale(self, n: int | None = None, jobs: int = 0, **more: Any) -> Any:
        """One job is one worker: dask-jobqueue's own count of it takes a scheduler that runs."""
        scale: Any = super().scale  # type: ignore[misc]
        return scale(jobs=jobs if n is None else n, **more)

    def _get_worker_security(self, _: Any) -> Security | None:
        return self._worker_security

    def _new_worker_name(self, _: int) -> str:
        return f"{self._name}-{next(_numbers)}"


_numbers = itertools.count()
