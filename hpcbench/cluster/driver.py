"""Runs a campaign on a site into a results folder: plans, measures what is missing, sums up."""

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from hpcbench.cluster import run_state
from hpcbench.cluster.dispatch import dispatch
from hpcbench.cluster.events import Listener, Note, Planned, PullsImage, point_measured
from hpcbench.cluster.ledger import cancel_orphaned_jobs
from hpcbench.cluster.lock_file import differences_before, write_lock
from hpcbench.cluster.stopping import say_stopping, signals_interrupt
from hpcbench.config.campaign import Campaign
from hpcbench.config.html_tables import facts_html
from hpcbench.config.site import Site
from hpcbench.errors import DamagedFile, SiteError
from hpcbench.plan.grid_axes import check_size
from hpcbench.plan.initial_record import initial_record, plan_rows
from hpcbench.plan.lock import Lock
from hpcbench.plan.lock_differences import Difference, differences, differences_text
from hpcbench.plan.order import in_drawn_order
from hpcbench.plan.pace import earlier_rows, with_paces
from hpcbench.plan.plan import Plan, chosen_pools, plan
from hpcbench.records import merging, store
from hpcbench.records.columns import Status
from hpcbench.records.folder import Results, lock_folder
from hpcbench.records.session import Session, open_session
from hpcbench.runtime import pull
from hpcbench.runtime.ownership import others_cannot_write
from hpcbench.runtime.temporary import sweep

log = logging.getLogger(__name__)

UNENCRYPTED = (
    "site %s says network.tls: false: whoever reaches this network can run programs as you"
)

INAPPLICABLE = "inapplicable"
"""The name of the file with the records of points that apply nowhere, as if of one placement."""


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes
    ----------
    results
        The results folder.
    counts
        How many measurements have which status.
    missing
        How many have no record.
    measured_now
        How many this run has added.
    seconds
        How long it took.
    damaged
        How many files of records were damaged; they were moved aside.
    """

    results: Path
    counts: Mapping[str, int]
    missing: int
    measured_now: int
    seconds: float
    damaged: int = 0

    @property
    def exit_code(self) -> int:
        """0 where every point has its record, none failed and no file was damaged, else 1."""
        bad = self.counts.get(Status.FAILED, 0) + self.counts.get(Status.TIMEOUT, 0)
        return 1 if bad or self.missing or self.damaged else 0

    def _repr_html_(self) -> str:
        """Show a notebook how many measurements ended how."""
        counts = {name: number for name, number in self.counts.items() if number}
        more = {"missing": self.missing, "damaged files": self.damaged}
        facts = {
            **{str(name): number for name, number in counts.items()},
            **{name: number for name, number in more.items() if number},
            "measured now": self.measured_now,
            "time": str(timedelta(seconds=round(self.seconds))),
        }
        # As a person would write it.
        return facts_html(min(str(self.results), os.path.relpath(self.results), key=len), facts)


def run(
    campaign: Campaign,
    site: Site,
    results: str | Path,
    *,
    pools: Sequence[str] = (),
    account: str | None = None,
    listener: Listener | None = None,
    only: AbstractSet[str] | None = None,
    new_session: bool = False,
    lock: Lock | None = None,
    yes: bool = False,
) -> Summary:
    """Measure what a results folder does not hold yet.

    Killed at any moment, the same call goes on where it stopped.

    Parameters
    ----------
    campaign
        What to measure.
    site
        Where to measure it.
    results
        The results folder; it is made where there is none.
    pools
        The names of the pools to use; by default all of the site.
    account
        Who is charged for the jobs, where the site wants to know; by default what the environment
        variable HPCBENCH_ACCOUNT says.
    listener
        Called with each event of the run, one of `hpcbench.cluster.events`, for progress bars and
        logs. Without one, a notebook shows a bar and a table; a script only says what it waits
        for after Ctrl-C.
    only
        The point_ids to measure; all by default.
    new_session
        Measure everything again, beside what earlier sessions have measured in this folder. By
        default a run continues the session that is there.
    lock
        The lock whose campaign this is. What is different this time is said first, as a note; the
        session is another one than that of the lock, with its order.
    yes
        Whether the campaign is meant to have more than a million measurements.

    Returns
    -------
    Summary
        How it ended.

    Raises
    ------
    BadInput
        Before anything is started.
    SiteError
        Where the site refuses.
    Interrupted
        After SIGINT, SIGTERM or SIGHUP, when all workers and their programs are gone.
    """
    folder = Results(Path(results).absolute())
    try:
        with others_cannot_write():
            # First: what a killed run has left goes, also where this one cannot start.
            sweep()
            number = len(chosen_pools(site, pools))
            check_size(campaign, pools=number, yes=yes, all_points=only is None)
            todo = plan(campaign, site, pools=pools, only=only)
            wanted = _Wanted(todo, only or frozenset(), new_session, lock)
            return _run(wanted, folder, account, listener or say_stopping)
    except BrokenPipeError:
        raise  # of the listener: what it prints to is gone
    except OSError as error:
        raise SiteError(
            f"{error.filename or folder.folder}: {error.strerror or error}",
            "what was measured is kept; repair this and run the same command again",
        ) from error


@dataclass(frozen=True)
class _Wanted:
    """What a run was asked for; see `run`."""

    todo: Plan
    only: AbstractSet[str]
    new_session: bool
    lock: Lock | None

    def session_in(self, results: Results) -> Session:
        repeated = self.lock.repeated if self.lock else None
        return open_session(results, new=self.new_session, repeated=repeated)


def _run(wanted: _Wanted, results: Results, account: str | None, notify: Listener) -> Summary:
    started = time.monotonic()
    todo, site = wanted.todo, wanted.todo.site
    run_state.check_results_path(results, site)
    account = run_state.charged_account(account, site)
    results.create()
    with lock_folder(results), run_state.log_file(results), signals_interrupt(notify) as stop:
        # A cancel that came after the last run had ended is not meant for this one.
        results.cancel.unlink(missing_ok=True)
        cancel_orphaned_jobs(results, lambda text: notify(Note(text)))
        # First, so that what a killed run has measured counts as done.
        damaged = merging.recover_records(results)
        said = _say_what_differs(wanted, notify)
        session = wanted.session_in(results)
        todo = _in_session(todo, session)
        write_lock(wanted.todo, session, results, only=wanted.only, complete=False)
        done = store.finished_keys(results, damaged.append)
        _move_aside(damaged, notify)
        todo = todo.without_done(done)
        paced = with_paces(todo.placements, todo.grid.points, earlier_rows(results.folder))
        todo = replace(todo, placements=paced)
        run_state.write_yaml(results.campaign, todo.campaign)
        run_state.write_yaml(results.site, site)
        store.write_plan(results, plan_rows(todo))
        notify(Planned(todo))
        if site.scheduler != "local" and not site.network.tls:
            log.warning(UNENCRYPTED, site.name)
            notify(Note(UNENCRYPTED % site.name))
        _record_inapplicable(todo, results, notify)
        if any(todo.placements.values()):
            _pull_images(todo, notify)
            dispatch(todo, results, account, notify, stop)
        # What a worker that died had measured still lies in files of its own.
        late = merging.recover_records(results)
        _move_aside(late, notify)
        results.state.unlink(missing_ok=True)
        now = write_lock(wanted.todo, session, results, only=wanted.only, complete=True)
        _say_more(wanted, now, said, notify)
    summary = summarise(results, started=started, done_before=todo.done)
    return replace(summary, damaged=len(damaged) + len(late))


def _say_what_differs(wanted: _Wanted, notify: Listener) -> list[Difference]:
    """Say what is different from the lock that is repeated, before anything is measured."""
    if wanted.lock is None:
        return []
    found = differences_before(wanted.lock, wanted.todo)
    notify(Note(differences_text(wanted.lock, found)))
    return found


def _say_more(wanted: _Wanted, now: Lock, said: Sequence[Difference], notify: Listener) -> None:
    """Say what only the nodes knew."""
    if wanted.lock is None:
        return
    found = [each for each in differences(wanted.lock, now) if each not in said]
    if found:
        lines = ["known now that it was measured:", *map(str, found)]
        notify(Note("\n  ".join(lines)))


def _in_session(todo: Plan, session: Session) -> Plan:
    """Return the plan with the points of each placement in an order drawn from the seed."""
    placements = {
        pool: tuple(
            replace(in_drawn_order(each, session.seed), session=session) for each in waiting
        )
        for pool, waiting in todo.placements.items()
    }
    inapplicable = tuple(
        replace(each, placement=replace(each.placement, session=session))
        for each in todo.inapplicable
    )
    return replace(todo, placements=placements, inapplicable=inapplicable)


def _move_aside(damaged: Sequence[DamagedFile], notify: Listener) -> None:
    """Move damaged files aside, and say so; their points are measured again."""
    for error in damaged:
        merging.move_aside(error)
        text = f"moved aside, as {error.path.name}.damaged: {error.message}"
        log.warning("%s", text)
        notify(Note(text))


def _pull_images(todo: Plan, notify: Listener) -> None:
    """Pull what the workers need: the nodes may have no way to the registry."""
    waiting = (p for placements in todo.placements.values() for p in placements)
    for name in {placement.server_image for placement in waiting}:
        container = todo.site.container.with_server_image(name)
        pull.pull_images(container, lambda image: notify(PullsImage(image)))


def summarise(results: Results, *, started: float = 0.0, done_before: int = 0) -> Summary:
    """Count what a folder holds against what the newest run set out to measure.

    Parameters
    ----------
    results
        The results folder.
    started
        When the run started, by `time.monotonic`.
    done_before
        How many measurements were there before.

    Returns
    -------
    Summary
        How the run ended.
    """
    found = store.read_statuses(results)
    planned = [(row["point_id"], row["pool"], row["repeat"]) for row in store.read_plan(results)]
    counts = Counter(found[key][0] for key in planned if key in found)
    return Summary(
        results=results.folder,
        counts=dict(counts),
        missing=sum(key not in found for key in planned),
        measured_now=max(0, counts.total() - done_before),
        seconds=time.monotonic() - started,
    )


def _record_inapplicable(todo: Plan, results: Results, notify: Listener) -> None:
    """Write the records of points that no worker need see."""
    records = [
        initial_record(point, each.placement, todo.site, Status.NOT_APPLICABLE, each.reason)
        for each in todo.inapplicable
        for point in each.placement.points
    ]
    if not records:
        return
    # In one file: each costs a shared file system tens of milliseconds, and the jobs wait.
    store.write_records(results.records / f"{INAPPLICABLE}-new.parquet", records)
    merging.merge_points(results, INAPPLICABLE)
    for record in records:
        notify(point_measured(record))
