"""One job of a pool, seen from the driver: whether it is taken, starts, connects, and can measure.

The job is one of a run's, by the same code; what a connected worker is asked is in `visit`.
"""

import re
import time
from collections.abc import Generator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from hpcbench.cluster import ledger
from hpcbench.cluster.ledger import Run
from hpcbench.cluster.submission import DEATH_TIMEOUT_S
from hpcbench.cluster.workers import start_workers
from hpcbench.config.site import Site
from hpcbench.doctor.findings import Findings, NothingToCheck
from hpcbench.doctor.worker_checks import ANSWER_S, CHECKS, Visit, connected
from hpcbench.errors import JobsDied, SiteError
from hpcbench.records.folder import Results

WALLTIME_S = 300
"""What a job asks for. It takes less than a minute, but for software on a slow file system."""

BEFORE = ("batch system", "network interface", "ports")
"""Without these, no job is submitted."""


def one_short_job(site: Site, name: str) -> Site:
    """The site with one pool, and that with one job, which asks for `WALLTIME_S` at most."""
    pool = site.pools[name]
    limits: dict[str, int] = {"max_jobs": 1}
    if site.scheduler != "local":
        limits["walltime"] = min(pool.walltime or WALLTIME_S, WALLTIME_S)
    return site.model_copy(update={"pools": {name: pool.model_copy(update=limits)}})


def examine(
    site: Site,
    name: str,
    folder: Path,
    account: str | None,
    wait_s: float,
    findings: Findings,
    runs: list[Run],
) -> Generator[str, None, None]:
    """Checks a pool, and yields what it waits for; to be asked on every second or so.

    The folder is made here, and holds what a results folder of a run does; the run is added to
    ``runs``. Every check is made, or skipped with its reason, when nothing is yielded any more.
    """
    phases: tuple[str, ...] = ("job accepted", "job starts", "worker connects")
    if site.scheduler == "local":
        phases = phases[-1:]
    needs = dict(zip(phases, (BEFORE, *((phase,) for phase in phases)), strict=False))
    if not findings.unmet(BEFORE):
        where = Results(folder)
        try:
            where.create()
            with ExitStack() as stack:
                one = one_short_job(site, name)
                ((_, workers),) = start_workers(one, [name], where, account, stack, max_deaths=1)
                visit = Visit(one, name, folder, workers)
                if site.scheduler != "local":
                    runs += ledger.unfinished(where)
                yield from _until_connected(visit, where, wait_s, findings)
                findings.look("worker connects", lambda: connected(visit), pool=name)
                for check, wants, action in CHECKS:
                    yield ""
                    findings.look(check, partial(action, visit), wants, pool=name)
        except (SiteError, OSError, RuntimeError) as error:
            if isinstance(error, JobsDied) and ": held: " not in error.message:
                findings.look("job starts", lambda: "it did", pool=name)
            left = (phase for phase in phases if not findings.made(phase, name))
            phase = next(left, "job ends")
            findings.look(phase, partial(_fail, error), pool=name)
    for check, wants in [*needs.items(), *((check, wants) for check, wants, _ in CHECKS)]:
        if not findings.made(check, name):
            findings.look(check, _unreachable, wants, pool=name)


def _fail(error: SiteError | OSError | RuntimeError) -> str:
    if isinstance(error, RuntimeError):
        raise SiteError(f"Dask: {error}") from error
    if isinstance(error, OSError):
        raise error
    known = advice(error.message) if isinstance(error, JobsDied) else error.hint
    raise SiteError(re.sub(r"^pool \S+: ", "", error.message), known)


def _until_connected(
    visit: Visit, where: Results, wait_s: float, findings: Findings
) -> Generator[str, None, None]:
    """Raises SiteError where the job is refused, dies, or does not start in time."""

    def accepted() -> list[str]:
        ids = [id_ for run in ledger.unfinished(where) for id_ in ledger.job_ids(where, run)]
        if ids and not findings.made("job accepted", visit.name):
            findings.look("job accepted", lambda: f"job {ids[0]}", pool=visit.name)
        return ids

    begun = time.monotonic()
    while not visit.workers.live:
        visit.workers.scale(1)
        waited = time.monotonic() - begun
        ids = accepted()
        jobs = visit.workers.jobs
        why = f" ({jobs.reason})" if jobs.reason else ""
        if jobs.waiting and waited > wait_s:
            raise SiteError(
                f"not started within {wait_s / 60:g} min{why}",
                "try again with a longer --wait, or when the queue is shorter; where no node ever "
                "fits, correct what the pool asks for",
            )
        if waited > wait_s + DEATH_TIMEOUT_S + ANSWER_S:
            raise SiteError(f"no worker has connected after {waited:.0f} s", advice("timed out"))
        yield f"pool {visit.name}: job {ids[0]} waits{why}" if jobs.waiting and ids else ""
    if visit.site.scheduler == "local":
        return
    accepted()
    waited = time.monotonic() - begun
    findings.look("job starts", lambda: f"within {waited:.0f} s", pool=visit.name)


def advice(words: str) -> str:
    """What to do about a job that died before it connected, by the end of its log."""
    return next((hint for pattern, hint in _ADVICE.items() if re.search(pattern, words)), "")


_ADVICE = {
    r"No module named": (
        "python in the site file must be an interpreter that has hpcbench, on every node; by "
        "default, it is the one that runs this"
    ),
    r"(python\S*|bash): .*(No such file|[Nn]ot found|[Pp]ermission denied)|line \d+: .*"
    r"(not found|No such file|ermission denied|Is a directory)|prologue": (
        "python in the site file must be a path that every node sees; commands of the prologue "
        "must exist there"
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


def _unreachable() -> str:
    raise NothingToCheck("not reached")
