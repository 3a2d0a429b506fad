"""A pool of the site as a Dask cluster of one-thread workers."""

import contextlib
import logging
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import dask
from distributed import Client, LocalCluster, SpecCluster
from distributed.core import Status
from distributed.security import Security

from hpcbench.cluster import batch, tls
from hpcbench.cluster.dask_settings import SETTINGS
from hpcbench.config.site import Pool

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Jobs:
    """How many workers a pool has and how many jobs wait, and why; ``batch``: in a queue."""

    running: int
    waiting: int = 0
    reason: str = ""
    batch: bool = True


class Workers(Protocol):
    """A pool's workers while a run lasts."""

    @property
    def client(self) -> Client:
        """Sends them work."""

    @property
    def live(self) -> int:
        """How many are connected."""

    def keep(self, wanted: int) -> Sequence[str]:
        """Sees to it that ``wanted`` jobs are there or on their way, within the pool's limit.

        To be called about once a second; never waits. Returns what a user should know, as lines.
        Raises SiteError where the site refuses, or its jobs die before they connect.
        """

    def avoid(self, worker: str, node: str) -> bool:
        """Ends a worker whose node is unusable, and keeps further jobs away from that node.

        False where there is no other node.
        """

    def release(self, worker: str) -> None:
        """Ends a worker that is idle, or whose time is nearly over."""

    def submit_no_more(self) -> None:
        """What was not submitted yet is not: the run ends."""

    @property
    def jobs(self) -> Jobs:
        """For those who look on."""


@dataclass(frozen=True)
class _Local:
    """Workers that are processes of this computer; Dask itself replaces one that dies."""

    client: Client
    cluster: LocalCluster

    @property
    def live(self) -> int:
        scheduler: Any = self.cluster.scheduler
        return len(scheduler.workers)

    def keep(self, wanted: int) -> Sequence[str]:  # noqa: ARG002 - they are always there
        return ()

    def avoid(self, worker: str, node: str) -> bool:  # noqa: ARG002 - there is one node
        return False

    def release(self, worker: str) -> None:
        """They hold nothing that others wait for."""

    def submit_no_more(self) -> None:
        """There is nothing to submit."""

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.live, batch=False)


@contextmanager
def local_workers(pool: Pool) -> Iterator[Workers]:
    """``pool.max_jobs`` worker processes on this computer.

    All connections are encrypted with keys that live in memory only: on a login node the
    loopback is shared with everyone who is logged in. Both are gone when the block is left.
    """
    with dask_settings(), _blank_main():
        cluster = LocalCluster(
            n_workers=pool.max_jobs,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tls",
            security=Security.temporary(),
            # None would mean the default port, on every interface.
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            memory_limit=0,
            # A driver may itself be in a batch job: the records say which.
            env=batch.job_variables(batch.this_job()),
        )
        with connected(cluster) as client:
            yield _Local(client, cluster)


@contextmanager
def connected(cluster: Any) -> Iterator[Client]:
    """A client of the cluster; both end with the block.

    Where Dask fails at that, it is logged and no more: a broken connection must not replace the
    reason for which a run ends, nor make a run fail that has measured all.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(_close, cluster)
        client = Client(cluster)
        stack.callback(_close, client)
        yield client


def _close(part: Any) -> None:
    try:
        part.close()
    except Exception as error:  # noqa: BLE001 - Dask's connections fail in many ways
        log.warning("Dask closed with an error: %s", error)
        if isinstance(part, SpecCluster):
            # It stopped in the middle, and would try again when the interpreter ends.
            with contextlib.suppress(Exception):
                part.sync(_let_go, part)
                part.close()


async def _let_go(cluster: Any) -> None:
    """Leaves Dask nothing to talk about, and lets it close once more."""
    for worker in cluster.workers.values():
        await worker.close()
    cluster.workers.clear()
    cluster.worker_spec.clear()
    cluster.status = Status.running


@contextmanager
def dask_settings() -> Iterator[None]:
    """Dask as hpcbench needs it, and quiet."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    tls.survive_closed_connections()
    with dask.config.set(SETTINGS):
        yield


@contextmanager
def _blank_main() -> Iterator[None]:
    """Hides the user's script from new worker processes, which would else run it once more.

    Tasks name functions of hpcbench only, so that workers need nothing of the script.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
