"""Ends runs from outside: one that is at work, and whatever jobs a killed driver left behind."""

import socket
import time
from collections.abc import Callable

from hpcbench.cluster import batch, ledger, tls
from hpcbench.cluster.ledger import Run
from hpcbench.errors import SiteError
from hpcbench.records import store
from hpcbench.records.store import Results

Tell = Callable[[str], None]

CANCEL_S = 90.0
"""How long a driver may take to end its run before its jobs are ended without it."""


def end_earlier_runs(where: Results, tell: Tell) -> list[Run]:
    """Cancels the jobs that killed runs left, which would measure the same points beside us.

    Returns the runs of which nothing is left.
    """
    ended = []
    for run_ in ledger.unfinished(where):
        left = batch.active(batch.jobs(run_.system, run_.name))
        elsewhere = run_.system == "htcondor" and run_.host != socket.gethostname()
        if elsewhere and not left:
            tell(
                f"jobs of {run_.name} were sent from {run_.host}, whose queue is perhaps not this "
                "host's: any that wait there end by themselves a minute after they start"
            )
        if left:
            tell(f"cancelling jobs of an earlier run: {', '.join(left)}")
            batch.cancel(run_.system, run_.name)
            left = batch.wait_for_end(run_.system, run_.name)
        tls.remove(where.keys)
        if left:
            tell(f"jobs {', '.join(left)} of {run_.name} are cancelled, and still in the queue")
            continue
        ledger.finish(where, run_)
        ended.append(run_)
    return ended


def cancel(where: Results, tell: Tell) -> None:
    """Ends the run at work in a results folder, and whatever jobs of earlier ones are left.

    Raises BadInput where there is no run, SiteError where its driver, perhaps on another host,
    does not answer and the batch system does not either.
    """
    store.read_plan(where)
    if store.is_locked(where) or ledger.unfinished(where):
        # Where a file system keeps its locks to one host, a driver on another one seems gone.
        where.cancel.touch()
    if store.is_locked(where):
        tell("asking the driver to end the run")
        deadline = time.monotonic() + CANCEL_S
        while store.is_locked(where) and time.monotonic() < deadline:
            time.sleep(0.5)
        if not store.is_locked(where):
            tell("the run has ended; what was measured is kept")
    for run_ in end_earlier_runs(where, tell):
        tell(f"no job of {run_.name} is left")
    if ledger.unfinished(where):
        raise SiteError(
            f"{where.folder}: the batch system has not let go of all jobs yet",
            "give the same command again in a few minutes",
        )
