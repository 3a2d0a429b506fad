"""One job of a pool, seen from the driver: whether it is taken, starts, connects, and can measure.

The job is one of a run's, by the same code; what is looked at within it is in `node_checks`.
"""

import contextlib
import queue
import re
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distributed import CancelledError, KilledWorker

from hpcbench import container as containers
from hpcbench import driver, ledger, node_checks
from hpcbench.cluster import Workers
from hpcbench.errors import HpcbenchError, JobsDied, SiteError
from hpcbench.findings import Findings, NothingToCheck
from hpcbench.jobqueue import DEATH_TIMEOUT_S
from hpcbench.ledger import Run
from hpcbench.site import Pool, Site
from hpcbench.store import Results
from hpcbench.worker import TOPIC

WALLTIME_S = 300
"""What a job asks for. It takes less than a minute, but for software on a slow file system."""

ANSWER_S = 60.0
SHARED_S = 30.0
"""How long what one side wrote or sent may take to be seen on the other."""

CLOCKS_S = 5.0
"""So far apart, workers would misjudge when their jobs end."""

BEFORE = ("batch system", "network interface", "ports")
"""Without these, no job is submitted."""


@dataclass(frozen=True)
class _Visit:
    """A worker that is connected, and the folder that its job shares with the driver."""

    site: Site
    name: str
    folder: Path
    workers: Workers

    @property
    def pool(self) -> Pool:
        return self.site.pools[self.name]

    def ask(self, function: Callable[..., Any], *arguments: Any, seconds: float = ANSWER_S) -> Any:
        """What the function returns on the node. Raises what it raises; all else as SiteError."""
        if not self.workers.live:
            raise SiteError("the worker is gone", "its job may have been ended: see the pool's QOS")
        future = self.workers.client.submit(
            function, *arguments, key=f"doctor-{uuid.uuid4().hex}", pure=False
        )
        try:
            error = future.exception(timeout=seconds)
        except (TimeoutError, CancelledError) as late:
            raise SiteError(f"no answer from the node within {seconds:.0f} s") from late
        if error is None:
            return future.result()
        if isinstance(error, KilledWorker):
            raise SiteError("the worker died meanwhile", "did the job run out of memory, or time?")
        if isinstance(error, HpcbenchError | OSError):
            raise error
        raise SiteError(
            f"{type(error).__name__}: {error}".partition("\n")[0],
            "is the same hpcbench installed on both sides? See versions",
        )


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
                ((_, workers),) = driver.started(one, [name], where, account, stack, deaths=1)
                visit = _Visit(one, name, folder, workers)
                if site.scheduler != "local":
                    runs += ledger.unfinished(where)
                yield from _until_connected(visit, where, wait_s, findings)
                findings.look("worker connects", lambda: _connected(visit), pool=name)
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
    visit: _Visit, where: Results, wait_s: float, findings: Findings
) -> Generator[str, None, None]:
    """Raises SiteError where the job is refused, dies, or does not start in time."""

    def accepted() -> list[str]:
        ids = [id_ for run in ledger.unfinished(where) for id_ in ledger.job_ids(where, run)]
        if ids and not findings.made("job accepted", visit.name):
            findings.look("job accepted", lambda: f"job {ids[0]}", pool=visit.name)
        return ids

    begun = time.monotonic()
    while not visit.workers.live:
        visit.workers.keep(1)
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
    r"(python\S*|bash): .*(No such file|[Nn]ot found|[Pp]ermission denied)|prologue": (
        "python in the site file must be a path that every node sees; commands of the prologue "
        "must exist there"
    ),
    r"not a valid network interface|have an IPv4 address": (
        "correct network.interface in the site file: one that login and GPU nodes share"
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


def _connected(visit: _Visit) -> str:
    """Both addresses, and how long it took."""
    info = visit.workers.client.scheduler_info()
    told = f"{', '.join(info['workers'])} to {info['address']}"
    if visit.site.scheduler == "local":
        return told
    with contextlib.suppress(SiteError):
        node, seconds = visit.ask(node_checks.arrival)
        told += f"; node {node}, {seconds:.1f} s after the job's Python began"
    return told


def _versions(visit: _Visit) -> str:
    info: Any = visit.workers.client.get_versions(packages=["triton-hpcbench"])
    here = _plain(info["client"]["packages"])
    for there in info["workers"].values():
        wrong = different(here, _plain(there["packages"]))
        if wrong:
            raise SiteError(
                "; ".join(wrong),
                "install the same on both sides, or correct python in the site file",
            )
    return ", ".join(f"{name} {here[name]}" for name in VERSIONS) + " on both sides"


VERSIONS = ("python", "triton-hpcbench", "dask", "distributed")


def _plain(packages: Mapping[str, str | None]) -> dict[str, str]:
    return {name: str(packages.get(name)).replace(".final.0", "") for name in VERSIONS}


def different(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """What differs between two sides, as text."""
    return [f"{k} {v} here, {there[k]} there" for k, v in here.items() if there[k] != v]


def _shared_folder(visit: _Visit) -> str:
    word, begun = uuid.uuid4().hex, time.monotonic()
    if not visit.site.shared_filesystem:
        heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        visit.workers.client.subscribe_topic(TOPIC, lambda event: heard.put(event[1]))
        visit.ask(node_checks.send, word)
        with contextlib.suppress(queue.Empty):
            while heard.get(timeout=SHARED_S).get("word") != word:
                continue
            return f"none, as said; records travel, in {time.monotonic() - begun:.1f} s"
        raise SiteError(f"what a worker tells did not arrive within {SHARED_S:.0f} s")
    (visit.folder / node_checks.FROM_DRIVER).write_text(word)
    visit.ask(node_checks.shared_folder, str(visit.folder), word)
    back = visit.folder / node_checks.FROM_NODE
    deadline = time.monotonic() + SHARED_S
    while not (back.exists() and back.read_text() == word):
        if time.monotonic() > deadline:
            raise SiteError(
                f"{visit.folder.parent}: what the node wrote is not seen here",
                node_checks.NOT_SHARED,
            )
        time.sleep(0.1)
    return f"{visit.folder.parent.parent}: both sides see it, in {time.monotonic() - begun:.1f} s"


def _clocks(visit: _Visit) -> str:
    trips = []
    for _ in range(3):
        before = time.time()
        there = visit.ask(time.time)
        trips.append((time.time() - before, there - (before + time.time()) / 2))
    took, apart = min(trips)
    if abs(apart) - took > CLOCKS_S:
        raise SiteError(
            f"the node's clock is {apart:+.1f} s from this one",
            "tell the site's administrators; workers would misjudge when their jobs end",
        )
    return f"{abs(apart):.2f} s apart, to {took:.2f} s"


def _gpus(visit: _Visit) -> str:
    if not visit.pool.gpus_per_job and visit.pool.gpu is None:
        raise NothingToCheck("the pool asks for none")
    return str(visit.ask(node_checks.gpus, visit.pool))


def _software(visit: _Visit) -> str:
    look = partial(node_checks.software, gpus=visit.pool.gpus_per_job > 0)
    there = str(visit.ask(look, visit.site.container, seconds=WALLTIME_S))
    here = there
    with contextlib.suppress(SiteError):
        here = containers.software(visit.site.container).server_digest
    if here != there:
        raise SiteError(
            f"{there} there, {here} here",
            "these are two installations: name one that all see, or install the same on both",
        )
    return there


def _scratch(visit: _Visit) -> str:
    return str(visit.ask(node_checks.scratch, visit.site.container))


def _perf_analyzer(visit: _Visit) -> str:
    return str(visit.ask(node_checks.perf_analyzer, visit.site.container))


def _triton(visit: _Visit) -> str:
    container, cpus = visit.site.container, visit.pool.cpus
    look = partial(node_checks.server, gpus=visit.pool.gpus_per_job > 0)
    return str(visit.ask(look, container, cpus, seconds=WALLTIME_S))


_HERE = ("worker connects",)
CHECKS: Sequence[tuple[str, Sequence[str], Callable[[_Visit], str]]] = (
    ("versions", _HERE, _versions),
    ("shared folder", _HERE, _shared_folder),
    ("clocks", _HERE, _clocks),
    ("GPUs", _HERE, _gpus),
    ("scratch folder", _HERE, _scratch),
    ("software", _HERE, _software),
    ("perf_analyzer", (*_HERE, "scratch folder", "software"), _perf_analyzer),
    ("Triton starts", (*_HERE, "scratch folder", "software"), _triton),
)
"""What is looked at in the job: name, names of those that it needs, and the check itself."""
