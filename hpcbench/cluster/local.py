"""Workers that are processes of this computer."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distributed import Client, LocalCluster
from distributed.security import Security

from hpcbench.cluster import batch
from hpcbench.cluster.dask_internals import (
    connected_client,
    dask_settings,
    forked_workers,
)
from hpcbench.cluster.fork_server import fork_server, hidden_main_module
from hpcbench.cluster.run_state import PoolJobs
from hpcbench.config.site import Pool


@dataclass(frozen=True)
class _LocalWorkers:
    """See `hpcbench.cluster.workers.Workers`; Dask itself replaces a worker that dies."""

    client: Client
    cluster: LocalCluster

    @property
    def live(self) -> int:
        scheduler: Any = self.cluster.scheduler
        return len(scheduler.workers)

    @property
    def jobs(self) -> PoolJobs:
        return PoolJobs(self.live, batch=False)

    def scale(self, wanted: int) -> Sequence[str]:  # noqa: ARG002 - they are always there
        return ()

    def exclude_node(self, worker: str, node: str) -> bool:  # noqa: ARG002 - there is one node
        return False

    def release(self, worker: str) -> None:
        """Do nothing: they hold nothing that others wait for."""

    def stop_submitting(self) -> None:
        """Do nothing: there is nothing to submit."""


@contextmanager
def local_workers(pool: Pool) -> Iterator[_LocalWorkers]:
    """Start the worker processes of a pool.

    All connections are encrypted with keys that live in memory only: on a login node the
    loopback is shared with everyone who is logged in.

    Parameters
    ----------
    pool
        It has ``max_jobs`` workers.

    Yields
    ------
    Workers
        They are gone when the block is left.
    """
    with dask_settings(), forked_workers(), hidden_main_module(), fork_server():
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
            # The fork server may be older than a change of this process's environment. A driver
            # may itself be in a batch job: the records say which.
            env={**os.environ, **batch.job_variables(batch.this_job())},
        )
        with connected_client(cluster) as client:
            yield _LocalWorkers(client, cluster)
