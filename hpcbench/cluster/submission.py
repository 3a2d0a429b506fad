"""What the jobs of a pool are submitted with, and the Dask cluster that submits them."""

import asyncio
import errno
import importlib
import logging
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask_jobqueue.core import JobQueueCluster
from distributed.security import Security

from hpcbench.cluster import batch, dask_internals
from hpcbench.cluster.batch import JobRequest
from hpcbench.cluster.ledger import Run
from hpcbench.cluster.tls import Keys
from hpcbench.config.site import SYSTEMS, Pool, Site
from hpcbench.errors import SiteError, cause_chain
from hpcbench.records.folder import Results

DEATH_TIMEOUT_S = 60
"""How long a job looks for its scheduler before it ends."""


SUBMISSIONS = 4
"""How many jobs are submitted at a time, so that a login node does not choke."""


@dataclass
class SubmissionGate:
    """Where the jobs of a pool ask whether to be submitted, and report the answer.

    Jobs are known by the names of their workers. They ask and report in the thread of Dask's event
    loop; everything else is called in the driver's thread.

    Attributes
    ----------
    on_accepted
        Called with the names of the worker and its job's id when a job was accepted.
    slots
        Lets so many jobs be submitted at the same time.
    """

    on_accepted: Callable[[str, str], None]
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SUBMISSIONS))
    _refused: dict[str, str] = field(default_factory=dict)
    _withdrawn: set[str] = field(default_factory=set)
    _closed: bool = False

    def refusals(self) -> dict[str, str]:
        """Return what was refused since the last call.

        Returns
        -------
        dict of str to str
            The batch system's messages.
        """
        return {name: self._refused.pop(name) for name in list(self._refused)}

    def withdraw(self, names: Iterable[str]) -> None:
        """Submit jobs no more that have not been submitted yet.

        Parameters
        ----------
        names
            The names of their workers.
        """
        self._withdrawn.update(names)

    def close(self) -> None:
        """Submit no job any more: a run that ends must not go on with its queue."""
        self._closed = True

    def admits(self, name: str) -> bool:
        """Return whether a job is to be submitted now.

        After a refusal that the driver has not seen yet, it is refused as well, unasked: one that
        is over a limit of the site's must not ask a thousand times.

        Parameters
        ----------
        name
            The name of its worker.

        Returns
        -------
        bool
            False also where it is not wanted any more.
        """
        if self._closed or name in self._withdrawn:
            return False
        # A copy: the driver's thread takes refusals away meanwhile.
        message = next(iter(list(self._refused.values())), None)
        if message is not None:
            self._refused[name] = message
        return message is None

    def accept(self, name: str, job_id: str) -> None:
        """Note that the batch system has accepted a job.

        Parameters
        ----------
        name
            The name of its worker.
        job_id
            Its id.
        """
        self.on_accepted(name, job_id)

    def refuse(self, name: str, message: str) -> None:
        """Note that the batch system has refused a job.

        Parameters
        ----------
        name
            The name of its worker.
        message
            What the batch system said.
        """
        self._refused[name] = message


@dataclass(frozen=True)
class Submission:
    """What all pools of a run share.

    Attributes
    ----------
    site
        With a batch system.
    results
        Where the run writes.
    run
        Its entry in the ledger.
    account
        Who is charged; None where nobody is named.
    keys
        Its keys; None where connections are not encrypted.
    """

    site: Site
    results: Results
    run: Run
    account: str | None
    keys: Keys | None

    def settings(self, pool_name: str, excluded: Sequence[str] = ()) -> dict[str, Any]:
        """Return the arguments of the cluster class for jobs of a pool.

        Parameters
        ----------
        pool_name
            The pool's name in the site file.
        excluded
            Nodes that get no job.

        Returns
        -------
        dict of str to object
            Keyword arguments of dask-jobqueue's classes.
        """
        site, pool = self.site, self.site.pools[pool_name]
        request = JobRequest(
            site=site,
            pool=pool,
            run=self.run.name,
            account=_charged(self.account, pool),
            logs=self.results.logs,
            # Without -P, Python looks for modules in the folder that the job starts in, first.
            python=f"{shlex.quote(site.python or sys.executable)} -P",
            exports=_exports(site, pool),
            excluded=tuple(excluded),
            key_files=self.keys.files if self.keys else (),
        )
        ports = site.network.ports
        listening = ["--worker-port", ports, "--nanny-port", ports] if ports else []
        common = {
            # One job is one worker with one thread, which measures one placement at a time. These
            # are not the CPUs that the job asks for.
            "cores": 1,
            "processes": 1,
            # dask-jobqueue wants a number. Whatever Dask would do by it is switched off.
            "memory": f"{pool.memory or 2**30} B",
            "worker_command": "hpcbench.cluster.start_worker",
            # On the loopback, at any free port: a node may have several jobs.
            "worker_extra_args": ["--dashboard-address", "127.0.0.1:0", *listening],
            "death_timeout": DEATH_TIMEOUT_S,
            "python": request.python,
            # A prologue that failed would else end in a worker that fails in some later place.
            "job_script_prologue": ["set -e", *pool.prologue, request.exports],
            "log_directory": None,
            "local_directory": None,
        }
        return common | self.run.system.job_settings(request)

    def start_cluster(self, pool_name: str, gate: SubmissionGate) -> Any:
        """Start the scheduler of a pool, without a job.

        Parameters
        ----------
        pool_name
            The pool's name in the site file.
        gate
            Where its jobs report.

        Returns
        -------
        JobQueueCluster
            The cluster, which has to be closed.

        Raises
        ------
        SiteError
            Where no scheduler can listen.
        """
        site = self.site
        cls = dask_internals.reporting_cluster(cluster_class(site), gate, self.run.system)
        problem: BaseException
        # Dask's scheduler takes a port, and no range of them.
        for port in site.network.port_range:
            try:
                return cls(
                    name=f"{self.run.name}-{pool_name}",
                    interface=site.network.interface,
                    protocol="tls://" if self.keys else "tcp://",
                    security=self.keys.security() if self.keys else None,
                    worker_security=self.worker_security,
                    scheduler_options={"dashboard_address": "127.0.0.1:0", "port": port},
                    silence_logs=logging.CRITICAL,
                    **self.settings(pool_name),
                )
            except (RuntimeError, ValueError, OSError) as error:
                problem = cause_chain(error)[-1]
                # Another port helps against nothing else.
                if getattr(problem, "errno", None) != errno.EADDRINUSE:
                    break
        else:
            # Never where the site names none: port 0 is not in use.
            raise SiteError(
                f"pool {pool_name}: no scheduler could be started here: all ports of "
                f"{site.network.listening} are in use",
                f"end what listens there, or widen the range in the site file of {site.name}: each "
                "pool of each run takes a port",
            )
        raise SiteError(
            f"pool {pool_name}: no scheduler could be started here: {problem}",
            f"look at network in the site file of {site.name}: interface and ports",
        ) from problem

    def script(self, pool_name: str) -> str:
        """Return what the batch system's command that submits gets for a job of a pool.

        Parameters
        ----------
        pool_name
            The pool's name in the site file.

        Returns
        -------
        str
            The job script, with words in capitals for the address of the scheduler.
        """
        protocol = "tls://" if self.keys else "tcp://"
        gate = SubmissionGate(lambda *_: None)
        cls = dask_internals.reporting_cluster(cluster_class(self.site), gate, self.run.system)
        with dask_internals.jobqueue_settings():
            return dask_internals.job_script(
                cls,
                f"{protocol}SCHEDULER:PORT",
                name="hpcbench-RUN",
                interface=self.site.network.interface,
                protocol=protocol,
                security=self.worker_security,
                **self.settings(pool_name),
            )

    @property
    def worker_security(self) -> Security | None:
        """Where the jobs find the keys: where files are carried, in the folder they start in."""
        if self.keys is None:
            return None
        return self.keys.security(None if self.site.shared_filesystem else Path())


def _charged(account: str | None, pool: Pool) -> str | None:
    # Some sites charge hours on GPUs to an account with a name of its own, as m1234_g for m1234.
    suffix = pool.account_suffix or ""
    return account if not account or account.endswith(suffix) else f"{account}{suffix}"


def _exports(site: Site, pool: Pool) -> str:
    variables = {batch.MODULE: SYSTEMS[site.scheduler].module}
    if pool.walltime:
        variables = {batch.WALLTIME: str(pool.walltime), **variables}
    return f"export {' '.join(f'{name}={value}' for name, value in variables.items())}"


def cluster_class(site: Site) -> Any:
    """Return dask-jobqueue's class for a site's batch system, or the site's own.

    Parameters
    ----------
    site
        With a batch system.

    Returns
    -------
    type
        A subclass of JobQueueCluster.

    Raises
    ------
    SiteError
        Where the site's own cannot be imported, or is none.
    """
    name = site.cluster_class or batch.system(site.scheduler).cluster_class
    module, _, attribute = name.partition(":")
    hint = "install the package that brings it, or correct it"
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise SiteError(f"cluster_class: {name}: {error}", hint) from error
    if not (isinstance(found, type) and issubclass(found, JobQueueCluster)):
        raise SiteError(f"cluster_class: {name}: is not one of dask-jobqueue's classes", hint)
    return found


def job_script(site: Site, pool_name: str, *, account: str | None = None) -> str:
    """Return the job script of a pool, with words in capitals for what is known only in a run.

    A site's own ``cluster_class`` may add to it when it starts.

    Parameters
    ----------
    site
        With a batch system.
    pool_name
        The pool's name in the site file.
    account
        Who is charged; None where nobody is named.

    Returns
    -------
    str
        What the batch system's command that submits gets.
    """
    results = Results(Path("RESULTS"))
    keys = Keys(results.keys) if site.network.tls else None
    run = Run("hpcbench-RUN", site.scheduler, "")
    return Submission(site, results, run, account, keys).script(pool_name)
