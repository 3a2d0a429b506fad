"""One short job of a pool, seen from this host: whether it is accepted, starts and connects.

The job is submitted by the same code as those of a run. What is checked on its node stands in
`hpcbench.doctor.worker_checks`.
"""

import re
import time
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hpcbench.cluster import ledger
from hpcbench.cluster.ledger import Run
from hpcbench.cluster.submission import DEATH_TIMEOUT_S
from hpcbench.cluster.workers import start_workers
from hpcbench.config.site import Site
from hpcbench.doctor.findings import Findings, NotChecked
from hpcbench.doctor.worker_checks import ANSWER_S, CHECKS, ConnectedWorker, connection
from hpcbench.errors import JobsDied, SiteError, hint_for
from hpcbench.records.folder import Results

WALLTIME_S = 300
"""What the job asks for. It takes less than a minute, unless the software is on a slow disk."""

HOST_CHECKS = ("batch system", "network interface", "ports")
"""No job is submitted if one of these checks of this host has failed."""


def with_one_short_job(site: Site, pool: str) -> Site:
    """Return a site with one pool, which runs one job of at most `WALLTIME_S`.

    Parameters
    ----------
    site
        A site.
    pool
        The name of one of its pools.

    Returns
    -------
    Site
        The changed copy.
    """
    limits: dict[str, int] = {"max_jobs": 1}
    if site.scheduler != "local":
        limits["walltime"] = min(site.pools[pool].walltime or WALLTIME_S, WALLTIME_S)
    return site.model_copy(update={"pools": {pool: site.pools[pool].model_copy(update=limits)}})


@dataclass
class PoolExamination:
    """The checks of one pool, which wait for its job without keeping other pools from theirs.

    Attributes
    ----------
    site
        The site as its file describes it.
    pool
        The name of the pool.
    folder
        Is created, and used like the results folder of a run.
    account
        Account to charge; None where the site asks for none.
    wait_s
        Seconds after which a job that has not started is cancelled.
    findings
        Gets the checks.
    runs
        The run whose jobs may be left in the queue; empty before anything is submitted.
    """

    site: Site
    pool: str
    folder: Path
    account: str | None
    wait_s: float
    findings: Findings
    runs: list[Run] = field(default_factory=list)

    def steps(self) -> Generator[str, None, None]:
        """Make all checks, in steps of about a second.

        Yields
        ------
        str
            What is waited for; empty between two checks.
        """
        if not self.findings.failed(HOST_CHECKS):
            try:
                yield from self._with_a_job()
            except (SiteError, OSError, RuntimeError) as error:
                self._job_failed(error)
        for name, needs in [*self._job_needs().items(), *((n, needs) for n, needs, _ in CHECKS)]:
            if not self.findings.has(name, self.pool):
                self.findings.check(name, _not_reached, needs, pool=self.pool)

    def _job_needs(self) -> dict[str, tuple[str, ...]]:
        """What can be seen of the job from here, and what each of these checks needs."""
        if self.site.scheduler == "local":
            return {"worker connects": HOST_CHECKS}
        return {
            "job accepted": HOST_CHECKS,
            "job starts": ("job accepted",),
            "worker connects": ("job starts",),
        }

    def _with_a_job(self) -> Generator[str, None, None]:
        results = Results(self.folder)
        results.create()
        site = with_one_short_job(self.site, self.pool)
        with ExitStack() as stack:
            started = start_workers(site, [self.pool], results, self.account, stack, max_deaths=1)
            ((_, workers),) = started
            if site.scheduler != "local":
                self.runs += ledger.unfinished(results)
            worker = ConnectedWorker(site, self.pool, self.folder, workers)
            yield from self._wait_for(worker, results)
            self.findings.check("worker connects", lambda: connection(worker), pool=self.pool)
            for name, needs, action in CHECKS:
                yield ""
                self.findings.check(name, partial(action, worker), needs, pool=self.pool)

    def _wait_for(self, worker: ConnectedWorker, results: Results) -> Generator[str, None, None]:
        """Raise SiteError if the job is refused, dies, or does not start in time."""
        begun = time.monotonic()
        while not worker.workers.live:
            # Also looks after the job: what the batch system says of it is raised here.
            worker.workers.scale(1)
            waited = time.monotonic() - begun
            ids = self._accepted(results)
            jobs = worker.workers.jobs
            why = f" ({jobs.reason})" if jobs.reason else ""
            if jobs.waiting and waited > self.wait_s:
                raise SiteError(
                    f"not started within {self.wait_s / 60:g} min{why}",
                    "try again with a longer --wait or when the queue is shorter; if no node can "
                    "ever run it, correct what the pool asks for",
                )
            # The worker itself gives up after DEATH_TIMEOUT_S; then there is a log to quote.
            if waited > self.wait_s + DEATH_TIMEOUT_S + ANSWER_S:
                raise SiteError(
                    f"no worker connected in {waited:.0f} s", hint_for("timed out", HINTS)
                )
            yield f"pool {self.pool}: job {ids[0]} waits{why}" if jobs.waiting and ids else ""
        if self.site.scheduler == "local":
            return
        # A job may start before it was ever seen in the queue.
        self._accepted(results)
        waited = time.monotonic() - begun
        self.findings.check("job starts", lambda: f"within {waited:.0f} s", pool=self.pool)

    def _accepted(self, results: Results) -> list[str]:
        ids = [id_ for run in ledger.unfinished(results) for id_ in ledger.job_ids(results, run)]
        if ids and not self.findings.has("job accepted", self.pool):
            self.findings.check("job accepted", lambda: f"job {ids[0]}", pool=self.pool)
        return ids

    def _job_failed(self, error: SiteError | OSError | RuntimeError) -> None:
        """Give the error to the first check that is not finished."""
        if isinstance(error, JobsDied) and ": held: " not in error.message:
            self.findings.check("job starts", lambda: "it did", pool=self.pool)
        left = (name for name in self._job_needs() if not self.findings.has(name, self.pool))
        self.findings.check(next(left, "job ends"), partial(_fail, error), pool=self.pool)


def _fail(error: SiteError | OSError | RuntimeError) -> str:
    if isinstance(error, RuntimeError):
        raise SiteError(f"Dask: {error}") from error
    if isinstance(error, OSError):
        raise error
    hint = hint_for(error.message, HINTS) if isinstance(error, JobsDied) else error.hint
    # A check is shown with its pool anyway.
    raise SiteError(re.sub(r"^pool \S+: ", "", error.message), hint)


def _not_reached() -> str:
    raise NotChecked("not reached")


HINTS = {
    r"No module named": (
        "python in the site file must be an interpreter that has hpcbench, on every node; the "
        "default is the one that runs this command"
    ),
    r"(python\S*|bash): .*(No such file|[Nn]ot found|[Pp]ermission denied)|line \d+: .*"
    r"(not found|No such file|ermission denied|Is a directory)|prologue": (
        "python in the site file must be a path that every node sees; commands of the prologue "
        "must exist on the nodes"
    ),
    r"not a valid network interface|have an IPv4 address": (
        "correct network.interface in the site file: one that login and GPU nodes share"
    ),
    r"Address already in use|Could not (start|listen) .*port|on ports?\b": (
        "each job on a node takes two ports of network.ports, and the scheduler one where it is "
        "on the same host: widen the range, or end what listens there"
    ),
    r"left no log|No such file or directory": (
        "does every node see this folder? If not, give --results one that they do"
    ),
    r"[Tt]imed out|Timeout|refused|No route|unreachable|ClosedError": (
        "the node does not reach this host: correct network.interface, or network.ports where a "
        "firewall lets only some through"
    ),
}
"""What to do about a job that died before its worker connected, by what its log says.

The most specific patterns come first.
"""
