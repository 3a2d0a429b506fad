"""The workers of a site's pools while a run lasts: processes of this computer, or batch jobs."""

import resource
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Protocol

from distributed import Client

from hpcbench.cluster import ledger, tls
from hpcbench.cluster.batch_workers import MAX_DEATHS, batch_workers
from hpcbench.cluster.jobs import watch_jobs
from hpcbench.cluster.local import local_workers
from hpcbench.cluster.run_state import PoolJobs
from hpcbench.cluster.submission import Submission
from hpcbench.config.site import Site
from hpcbench.records.folder import Results


class Workers(Protocol):
    """A pool's workers while a run lasts."""

    @property
    def client(self) -> Client:
        """Sends them tasks."""

    @property
    def live(self) -> int:
        """How many are connected."""

    @property
    def jobs(self) -> PoolJobs:
        """What those who look on see."""

    def scale(self, wanted: int) -> Sequence[str]:
        """Bring the number of jobs nearer to what is wanted; never waits.

        To be called about once a second: it also looks after the jobs that are there.

        Parameters
        ----------
        wanted
            How many workers have something to do. The pool's ``max_jobs`` limits it.

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
