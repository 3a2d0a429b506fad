"""Check a site: this host first, then one short job in each pool.

The jobs are submitted by the same code as those of a run. No job, process or file outlives the
checks, even if this process is killed.

A check returns what was found. It raises SiteError where that is wrong, with a hint on what to do.
"""

import contextlib
import glob
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import psutil
from distributed.utils import get_ip

from hpcbench.cluster import batch, ledger, run_state, submission
from hpcbench.cluster.batch import BatchSystem
from hpcbench.cluster.dask_config import dask_settings
from hpcbench.cluster.dask_internals import jobqueue_settings
from hpcbench.cluster.job_limits import DOCTOR_PENDING_S
from hpcbench.cluster.stopping import signals_interrupt
from hpcbench.config.container import Container
from hpcbench.config.network import Network
from hpcbench.config.site import Site
from hpcbench.doctor import worker_checks
from hpcbench.doctor.findings import Check, CheckListener, Findings, NotChecked
from hpcbench.doctor.job_checks import PoolExamination
from hpcbench.errors import BadInput, HpcbenchError, Interrupted, SiteError
from hpcbench.plan.plan import chosen_pools
from hpcbench.records.folder import Results
from hpcbench.runtime import command, images, process, pull

HostCheck = tuple[str, Sequence[str], Callable[[], str]]
"""A check: its name, the names of those that it needs, and the function that makes it."""

FREE_BYTES = 1e9
"""A results folder with less space is too small for a campaign."""

TURN_S = 0.5
"""How often each pool gets its turn [s]."""

GUARD_S = 120.0
"""How long the guard may take to cancel the jobs of a killed process [s]."""

VERIFY_S = 300.0
"""How long hashing a prefix of several GB may take [s]."""

SUBMITTING_S = 3.0
"""By then a submission has ended that was under way when the process was killed [s]."""

# A program of its own, and a string: it must block SIGTERM before anything slow is imported.
_GUARD = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
signal.sigwait([signal.SIGTERM])
if os.path.isdir(sys.argv[1]):
    from hpcbench.doctor.doctor import cancel_jobs_of
    cancel_jobs_of(sys.argv[1])
"""


def check_site(
    site: Site,
    folder: Path,
    *,
    pools: Sequence[str] = (),
    account: str | None = None,
    wait_s: float = DOCTOR_PENDING_S,
    report: CheckListener = lambda _: None,
) -> list[Check]:
    """Check a site.

    Parameters
    ----------
    site
        The site.
    folder
        Where results would be stored. A folder of its own in there is used, and deleted.
    pools
        Names of the pools to check; all by default.
    account
        Account to charge; by default the environment variable HPCBENCH_ACCOUNT.
    wait_s
        Seconds after which a job that is still pending is cancelled.
    report
        Called with each check when it is finished, and with what is waited for.

    Returns
    -------
    list of Check
        All checks.

    Raises
    ------
    BadInput
        Before anything is started.
    Interrupted
        After SIGINT, SIGTERM or SIGHUP, when jobs, processes and files are gone.
    """
    names = chosen_pools(site, pools)
    account = run_state.charged_account(account, site)
    # Where an image cannot be found, the check "software here" says so.
    with contextlib.suppress(SiteError):
        site = site.model_copy(update={"container": images.resolve_images(site.container)})
    run_state.check_results_path(Results(folder.absolute()), site)
    findings = Findings(report)
    own = folder.absolute() / f"hpcbench-doctor-{uuid.uuid4().hex[:8]}"
    examinations = [
        PoolExamination(site, name, own / name, account, wait_s, findings) for name in names
    ]
    with signals_interrupt(lambda event: report(event.text)):
        try:
            with _temporary_folder(own):
                for name, needs, action in checks_of_host(site, len(names), own):
                    findings.check(name, action, needs)
                _take_turns([each.steps() for each in examinations], report)
            findings.check("nothing is left", partial(_check_nothing_left, examinations, own))
        except Interrupted as error:
            left = _what_is_left(examinations, own)
            raise Interrupted(f"the checks were interrupted; {left}") from error
    return findings.checks


@contextmanager
def _temporary_folder(own: Path) -> Iterator[None]:
    """Create the folder and delete it at the end.

    If this process is killed, the supervisor does both: it ends the guard, which cancels the jobs
    that the ledgers in the folder name, and then deletes the folder.
    """
    # Its local workers have folders for temporary files, too.
    sweep = [tempfile.gettempdir()]
    guard = process.Command([sys.executable, "-P", "-c", _GUARD, str(own)], sweep=sweep)
    nowhere = subprocess.DEVNULL
    orphaned = [glob.escape(str(own))]
    # As for `hpcbench run`, the folder of the results need not be there yet.
    missing = [parent for parent in own.parents if not parent.exists()]
    with process.running(guard, stdout=nowhere, stderr=nowhere, grace_s=GUARD_S, orphaned=orphaned):
        try:
            _create(own)
            yield
        finally:
            deadline = time.monotonic() + 10
            shutil.rmtree(own, ignore_errors=True)
            # NFS keeps a file that is still open somewhere under another name for a moment.
            while own.exists() and time.monotonic() < deadline:
                time.sleep(0.2)
                shutil.rmtree(own, ignore_errors=True)
            for parent in missing:
                # Only where it is empty: somebody may have put something into it meanwhile.
                with contextlib.suppress(OSError):
                    parent.rmdir()


def _create(own: Path) -> None:
    try:
        own.parent.mkdir(parents=True, exist_ok=True)
        own.mkdir(mode=0o700)
    except OSError as error:
        raise BadInput(
            f"--results {own.parent}: no folder can be created there: {error.strerror}",
            "name a folder in which you may create files, and which every node sees",
        ) from error


def cancel_jobs_of(folder: str) -> None:
    """Cancel the jobs that killed checks have left; called by the guard.

    Parameters
    ----------
    folder
        The folder of these checks, with a ledger of jobs for each pool.
    """
    # A submission that is under way would else bring a job after the last look.
    time.sleep(SUBMITTING_S)
    for path in Path(folder).glob("*/jobs.jsonl"):
        ledger.cancel_orphaned_jobs(Results(path.parent), lambda _: None)


def _what_is_left(examinations: Sequence[PoolExamination], own: Path) -> str:
    try:
        return _check_nothing_left(examinations, own)
    except HpcbenchError as error:
        return error.message


def _check_nothing_left(examinations: Sequence[PoolExamination], own: Path) -> str:
    runs = [run for each in examinations for run in each.runs]
    jobs = [id_ for run in runs for id_ in batch.active(run.system.jobs(run.name))]
    if jobs:
        raise SiteError(f"jobs {', '.join(jobs)} are still in the queue", "cancel them by hand")
    if own.exists():
        raise SiteError(f"{own} is still there", "delete it by hand")
    return "no job, no process and no file is left"


def _take_turns(pools: Sequence[Generator[str, None, None]], report: CheckListener) -> None:
    """Let each pool make its next step until all have ended: their jobs wait at the same time."""
    with ExitStack() as stack:
        # Each pool sets these again and takes them back, in whatever order the pools end.
        stack.enter_context(dask_settings())
        stack.enter_context(jobqueue_settings())
        for pool in pools:
            stack.enter_context(closing(pool))
        waiting = list(pools)
        while waiting:
            for pool in list(waiting):
                message = next(pool, None)
                if message is None:
                    waiting.remove(pool)
                elif message:
                    report(message)
            time.sleep(TURN_S if waiting else 0)


def checks_of_host(site: Site, pools: int, own: Path) -> list[HostCheck]:
    """Return the checks of this host in their order.

    Parameters
    ----------
    site
        The site.
    pools
        How many pools are used at the same time; each needs a port.
    own
        An empty folder in the folder for results.

    Returns
    -------
    list of HostCheck
        The checks, none of which has been made.
    """
    container = site.container
    checks: list[HostCheck] = [
        ("software here", (), lambda: _software(container)),
        ("perf_analyzer here", ("software here", "images"), lambda: _perf_analyzer(container, own)),
        ("results folder", (), lambda: _free_space(own.parent)),
    ]
    if container.has_images:
        checks.insert(1, ("images", ("software here",), lambda: _pull_images(container)))
    else:
        unchanged = partial(_verify, container, own)
        checks.insert(1, ("files as installed", ("software here",), unchanged))
    if site.scheduler == "local":
        return checks
    system = batch.system(site.scheduler)
    return [
        ("batch commands", (), lambda: _commands(site, system)),
        ("batch system", ("batch commands",), lambda: _answer(system)),
        ("network interface", (), lambda: _interface(site.network)),
        ("ports", ("network interface",), lambda: _ports(site.network, pools)),
        *checks,
    ]


def _commands(site: Site, system: BatchSystem) -> str:
    """The commands that submit, watch and cancel jobs."""
    missing = [name for name in system.commands if not shutil.which(name)]
    if missing:
        raise SiteError(
            f"not found: {', '.join(missing)}",
            "run hpcbench on a login node, or load the module that brings these commands",
        )
    # A class of the site's own may be misspelt, or its module be missing.
    if site.cluster_class:
        submission.cluster_class(site)
    return f"{', '.join(system.commands)}: {system.version()}"


def _answer(system: BatchSystem) -> str:
    """Whether the daemons answer: the commands may be installed without them."""
    asked = time.monotonic()
    # No run has this name: what is asked is whether an answer comes.
    system.jobs("hpcbench-doctor")
    return f"{system.commands[1]} answers in {time.monotonic() - asked:.1f} s"


def _interface(network: Network) -> str:
    """The address at which workers must reach this host."""
    name = network.interface
    if name is None:
        return f"none named: {get_ip()}, by which this host reaches others"
    addresses = _ipv4()
    if name not in addresses:
        there = ", ".join(f"{key} ({value})" for key, value in addresses.items())
        raise SiteError(
            f"{name} has no IPv4 address here; with one: {there or 'none'}",
            "correct network.interface in the site file: one that login and GPU nodes share",
        )
    only = " (this host only)" if addresses[name].startswith("127.") else ""
    return f"{name} is {addresses[name]}{only}"


def _ipv4() -> dict[str, str]:
    """The first IPv4 address of each interface that has one."""
    return {
        name: entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in reversed(entries)  # the first one of an interface comes last, and stays
        if entry.family == socket.AF_INET
    }


def _ports(network: Network, schedulers: int) -> str:
    """Whether enough ports of the site are free: the Dask scheduler of each pool takes one."""
    if not network.listening:
        return "any: the site file names no range"
    address = _ipv4()[network.interface] if network.interface else ""
    taken = [port for port in network.port_range if not _free(address, port)]
    total = len(network.port_range)
    key = "scheduler_ports" if network.scheduler_ports else "ports"
    if total - len(taken) < schedulers:
        raise SiteError(
            f"{total - len(taken)} of {network.listening} free, {schedulers} wanted",
            f"end what listens there, or widen network.{key} in the site file",
        )
    return f"{total - len(taken)} of {total} free in {network.listening}"


def _free(address: str, port: int) -> bool:
    with socket.socket() as entry:
        # As Dask does: a port that a connection has just left counts as free.
        entry.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            entry.bind((address, port))
            return True
    return False


def _software(container: Container) -> str:
    return command.runtime_of(container).find_software(container).server_digest


def _verify(container: Container, own: Path) -> str:
    """Whether the files of the prefix are those that were installed."""
    assert container.prefix is not None
    if not (container.prefix / "files.sha256").is_file():
        raise NotChecked(f"{container.prefix} was installed by a version that noted no hashes")
    script = Path(__file__).resolve().parents[1] / "containers" / "native.py"
    words = [sys.executable, str(script), "--verify", str(container.prefix)]
    with tempfile.TemporaryDirectory(prefix="verify-", dir=own) as folder:
        done = process.run(process.Command(words), folder=Path(folder), timeout_s=VERIFY_S)
    lines = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
    if done.returncode:
        raise SiteError(
            f"{lines[0]}; {lines[-1]}".partition("; to install it again")[0],
            f"install it again: rm -r {container.prefix}; hpcbench native {container.prefix}",
        )
    return lines[-1]


def _pull_images(container: Container) -> str:
    """Images of a registry are pulled to where the nodes find them."""
    pulled: list[str] = []
    pull.pull_images(container, pulled.append)
    return f"pulled {', '.join(pulled)}" if pulled else "both are there"


def _perf_analyzer(container: Container, folder: Path) -> str:
    """Whether it starts. The scratch folder of the nodes may not exist on this host."""
    if not command.runtime_of(container).is_installed():
        raise NotChecked(f"{container.runtime} is not installed on this host")
    return worker_checks.start_perf_analyzer(container.model_copy(update={"scratch": str(folder)}))


def _free_space(folder: Path) -> str:
    found = f"{folder}: {worker_checks.free_space(folder)}"
    if shutil.disk_usage(folder).free < FREE_BYTES:
        raise SiteError(found, "free some space, or give --results a folder on another disk")
    return found
