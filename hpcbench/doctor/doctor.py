"""Checks a site before it costs GPU hours: this host, then one short job for each pool.

The jobs are those of a run, by the same code. Nothing that is started here outlives it, and its
folder goes with it, also where this process is killed.
"""

import contextlib
import glob
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from hpcbench.cluster import batch, run_state
from hpcbench.cluster.dask_internals import dask_settings, jobqueue_settings
from hpcbench.cluster.ledger import Run
from hpcbench.config.site import Site
from hpcbench.doctor import host_checks, job_checks
from hpcbench.doctor.findings import Check, Findings, Tell
from hpcbench.errors import BadInput, HpcbenchError, Interrupted, SiteError
from hpcbench.plan.plan import chosen_pools
from hpcbench.records.folder import Results
from hpcbench.runtime import images, process

TURN_S = 0.5
GUARD_S = 120.0
"""So long may take what is left to do where this process is killed."""


def examine(
    site: Site,
    folder: Path,
    *,
    pools: Sequence[str] = (),
    account: str | None = None,
    wait_s: float = 300.0,
    tell: Tell = lambda _: None,
) -> list[Check]:
    """Checks the site, with a folder of its own in ``folder``, where results would be written.

    A job that has not started after ``wait_s`` is cancelled. Raises BadInput before anything is
    started, Interrupted after SIGINT, SIGTERM or SIGHUP, when jobs, programs and files are gone.
    """
    names = chosen_pools(site, pools)
    account = run_state.charged_account(account, site)
    with contextlib.suppress(SiteError):  # it is told when it is looked at
        site = site.model_copy(update={"container": images.resolve_images(site.container)})
    run_state.check_results_path(Results(folder.absolute()), site)
    findings = Findings(tell)
    runs: list[Run] = []
    own = folder.absolute() / f"hpcbench-doctor-{uuid.uuid4().hex[:8]}"
    with run_state.signals_interrupt():
        try:
            with _made(own):
                for name, needs, action in host_checks.listed(site, len(names), own):
                    findings.look(name, action, needs)
                jobs = [
                    job_checks.examine(site, name, own / name, account, wait_s, findings, runs)
                    for name in names
                ]
                _take_turns(jobs, tell)
            findings.look("nothing is left", partial(_left, runs, own))
        except Interrupted as error:
            raise Interrupted(
                f"the examination was interrupted; {_told_left(runs, own)}"
            ) from error
    return findings.checks


@contextmanager
def _made(own: Path) -> Iterator[None]:
    """Makes the folder, and deletes it when the block is left, or this process killed; in that
    case, ends the jobs of the runs in it, too.
    """
    guard = process.Command([sys.executable, "-m", "hpcbench.doctor.guard", str(own)])
    nowhere = subprocess.DEVNULL
    orphaned = [glob.escape(str(own))]
    with process.running(guard, stdout=nowhere, stderr=nowhere, grace_s=GUARD_S, orphaned=orphaned):
        try:
            _make(own)
            yield
        finally:
            deadline = time.monotonic() + 10
            shutil.rmtree(own, ignore_errors=True)
            # On NFS, a file that is open somewhere leaves another one behind for a moment.
            while own.exists() and time.monotonic() < deadline:
                time.sleep(0.2)
                shutil.rmtree(own, ignore_errors=True)


def _make(own: Path) -> None:
    try:
        own.mkdir(mode=0o700)
    except OSError as error:
        raise BadInput(
            f"--results {own.parent}: no folder can be made there: {error.strerror}",
            "name a folder in which you may create files, and which every node sees",
        ) from error


def _told_left(runs: Sequence[Run], own: Path) -> str:
    try:
        return _left(runs, own)
    except HpcbenchError as error:
        return error.message


def _left(runs: Sequence[Run], own: Path) -> str:
    jobs = [id_ for run in runs for id_ in batch.active(run.system.jobs(run.name))]
    if jobs:
        raise SiteError(f"jobs {', '.join(jobs)} are still in the queue", "cancel them by hand")
    if own.exists():
        raise SiteError(f"{own} is still there", "delete it by hand")
    return "no job, no program and no file is left"


def _take_turns(jobs: Sequence[Generator[str, None, None]], tell: Tell) -> None:
    """Lets all go on until none has anything left to do: jobs of several pools wait together."""
    with ExitStack() as stack:
        # Each pool sets the same, and takes it back: only from here on, the order is right.
        stack.enter_context(dask_settings())
        stack.enter_context(jobqueue_settings())
        for job in jobs:
            stack.enter_context(closing(job))
        waiting = list(jobs)
        while waiting:
            for job in list(waiting):
                words = next(job, None)
                if words is None:
                    waiting.remove(job)
                elif words:
                    tell(words)
            time.sleep(TURN_S if waiting else 0)
