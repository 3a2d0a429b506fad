"""The workers of a site's pools while a run lasts: processes of this computer, or batch jobs."""

import logging
import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import dask
from distributed import Client, LocalCluster

from hpcbench.cluster import batch, ledger, tls
from hpcbench.cluster.batch_workers import MAX_DEATHS, batch_workers
from hpcbench.cluster.dask_config import connected_client, dask_settings
from hpcbench.cluster.dask_internals import forked_workers
from hpcbench.cluster.fork_server import fork_server, hidden_main_module
from hpcbench.cluster.jobs import watch_jobs
from hpcbench.cluster.run_state import PoolJobs
from hpcbench.cluster.submission import Submission
from hpcbench.config.site import Pool, Site
from hpcbench.records.folder import Results
from hpcbench.runtime.temporary import temporary_folder


class Workers(Protocol):
    """A pool's workers while a run lasts."""

    @property
    def client(self) -> Client:
        """Sends them tasks."""

    @property
    def live(self) -> int:
        """How many are connected."""

    @property
    def nodes(self) -> Mapping[str, str]:
        """The node of each live worker by its name, "" where it is not known yet.

        Empty where all are on one node, always.
        """

    @property
    def jobs(self) -> PoolJobs:
        """What those who look on see."""

    def scale(self, wanted: int, busy: AbstractSet[str] | None = frozenset()) -> Sequence[str]:
        """Bring the number of jobs nearer to what is wanted; never waits.

        To be called about once a second: it also looks after the jobs that are there.

        Parameters
        ----------
        wanted
            How many workers have something to do. The pool's ``max_jobs`` limits it.
        busy
            The names of workers that have a task, also one that Dask does not know of yet; None
            where Dask has not chosen a worker for a task: then none is sent away.

        Returns
        -------
        sequence of str
            What a user should know, one line each.

        Raises
        ------
        SiteError
            Where the site refuses the jobs, or they die before they connect.
        """

    def exclude_node(self, worker: str, node: str) -> bool:
        """End a worker whose node is unusable, and keep further jobs away from that node.

        Parameters
        ----------
        worker
            Its name in Dask.
        node
            The batch system's name of its node.

        Returns
        -------
        bool
            False where there is no other node.
        """

    def release(self, worker: str) -> None:
        """End a worker that is idle, or whose time is nearly over.

        Parameters
        ----------
        worker
            Its name in Dask.
        """

    def stop_submitting(self) -> None:
        """Submit no job any more: the run ends."""


def start_workers(
    site: Site,
    pool_names: Sequence[str],
    results: Results,
    account: str | None,
    stack: ExitStack,
    *,
    max_deaths: int = MAX_DEATHS,
) -> Iterator[tuple[str, Workers]]:
    """Start the workers of some pools; batch jobs are submitted later, by `Workers.scale`.

    Parameters
    ----------
    site
        Where they run.
    pool_names
        The names of the pools in the site file.
    results
        The results folder, with the ledger and the keys.
    account
        Who is charged for the jobs; None where nobody is named.
    stack
        When it is closed, the workers, their jobs and their keys are gone.
    max_deaths
        So many jobs in a row that die before they connect are a SiteError.

    Yields
    ------
    tuple of str and Workers
        The name of a pool, and its workers.
    """
    if site.scheduler == "local":
        for name in pool_names:
            yield name, stack.enter_context(local_workers(site.pools[name]))
        return
    _allow_many_connections()
    run = ledger.begin(results, site.scheduler)
    # Closed in the opposite order: the keys go before the last look at the queue.
    watcher = stack.enter_context(watch_jobs(results, run))
    keys = stack.enter_context(tls.make_keys(results.keys)) if site.network.tls else None
    submission = Submission(site, results, run, account, keys)
    for name in pool_names:
        yield name, stack.enter_context(batch_workers(name, submission, watcher, max_deaths))


def _allow_many_connections() -> None:
    """Raise the limit of open files: a worker takes several connections of this process."""
    # Login nodes often start shells with 1,024, and let everybody have more.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass(frozen=True)
class _LocalWorkers:
    """See `Workers`; Dask itself replaces a worker that dies."""

    client: Client
    cluster: LocalCluster

    @property
    def live(self) -> int:
        return len(self.cluster.scheduler_info["workers"])

    @property
    def nodes(self) -> Mapping[str, str]:
        return {}

    @property
    def jobs(self) -> PoolJobs:
        return PoolJobs(self.live, batch=False)

    def scale(
        self,
        wanted: int,  # noqa: ARG002 - they are always there
        busy: AbstractSet[str] | None = frozenset(),  # noqa: ARG002
    ) -> Sequence[str]:
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
    with (
        dask_settings(),
        forked_workers(),
        hidden_main_module(),
        fork_server(),
        temporary_folder() as workspace,
        # Dask's scheduler searches a folder in there for modules: in /tmp, anybody may have put it.
        dask.config.set({"temporary-directory": str(workspace)}),
    ):
        cluster = LocalCluster(
            n_workers=pool.max_jobs,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tls",
            security=tls.keys_in_memory(),
            # None would mean the default port, on every interface.
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            # Dask's own, in /tmp, stays there.
            local_directory=str(workspace),
            # Triton takes the memory, and a worker's limit does not count it.
            memory_limit=0,
            # The fork server may be older than a change of this process's environment. A driver
            # may itself be in a batch job: the records say which.
            env={**os.environ, **batch.job_variables(batch.this_job())},
        )
        with connected_client(cluster) as client:
            yield _LocalWorkers(client, cluster)
