"""Runs a campaign on a site into a results folder: plans, measures what is missing, sums up."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcbench.cluster import run_state
from hpcbench.cluster.dispatch import Listener, drive
from hpcbench.cluster.ledger import end_earlier_runs
from hpcbench.cluster.worker import told
from hpcbench.config.campaign import Campaign
from hpcbench.config.site import Site
from hpcbench.errors import SiteError
from hpcbench.plan.initial_record import initial_record, plan_rows
from hpcbench.plan.plan import Plan, plan
from hpcbench.records import store
from hpcbench.records.columns import Status
from hpcbench.records.folder import Results, lock_folder
from hpcbench.runtime import images

log = logging.getLogger(__name__)

UNENCRYPTED = (
    "site %s says network.tls: false: whoever reaches this network can run programs as you"
)


@dataclass(frozen=True)
class Summary:
    """How a run ended: how many measurements have which status, and how many were made now."""

    results: Path
    counts: Mapping[str, int]
    missing: int
    measured_now: int
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 where every point has its record and none failed."""
        bad = self.counts.get(Status.FAILED, 0) + self.counts.get(Status.TIMEOUT, 0)
        return 1 if bad or self.missing else 0


def run(
    campaign: Campaign,
    site: Site,
    results: str | Path,
    *,
    pools: Sequence[str] = (),
    account: str | None = None,
    listener: Listener | None = None,
) -> Summary:
    """Measures what ``results`` does not hold yet, and returns how it ended.

    ``account`` is charged for the jobs where the site wants to know; by default the environment
    variable HPCBENCH_ACCOUNT. Killed at any moment, the same call goes on where it stopped.
    Raises BadInput before anything is started, SiteError where the site refuses, Interrupted
    after SIGINT, SIGTERM or SIGHUP, when all workers and their programs are gone.
    """
    where = Results(Path(results).absolute())
    try:
        return _run(campaign, site, where, pools, account, listener or (lambda _: None))
    except OSError as error:
        raise SiteError(
            f"{error.filename or where.folder}: {error.strerror or error}",
            "what was measured is kept; mend this and run the same command again",
        ) from error


def _run(
    campaign: Campaign,
    site: Site,
    where: Results,
    pools: Sequence[str],
    account: str | None,
    tell: Listener,
) -> Summary:
    started = time.monotonic()
    todo = plan(campaign, site, pools=pools)
    run_state.check_folder(where, site)
    account = run_state.account(account, site)
    where.create()
    with lock_folder(where), run_state.log_file(where), run_state.signals_interrupt():
        where.cancel.unlink(missing_ok=True)
        end_earlier_runs(where, lambda text: tell({"kind": "note", "text": text}))
        store.recover_records(where)
        todo = todo.without_done(store.finished_keys(where))
        run_state.write_yaml(where.campaign, campaign)
        run_state.write_yaml(where.site, site)
        store.write_plan(where, plan_rows(todo))
        tell({"kind": "planned", "plan": todo})
        if site.scheduler != "local" and not site.network.tls:
            log.warning(UNENCRYPTED, site.name)
            tell({"kind": "note", "text": UNENCRYPTED % site.name})
        _tell_inapplicable(todo, where, tell)
        if any(todo.placements.values()):
            waiting = (p for placements in todo.placements.values() for p in placements)
            for name in {placement.server_image for placement in waiting}:
                wanted = todo.site.container.with_server_image(name)
                images.pull_images(wanted, lambda image: tell({"kind": "pull", "image": image}))
            drive(todo, where, account, tell)
        store.recover_records(where)
        where.state.unlink(missing_ok=True)
    return summarise(where, started=started, done_before=todo.done)


def summarise(where: Results, *, started: float = 0.0, done_before: int = 0) -> Summary:
    """Counts what the folder holds against what the newest run set out to measure."""
    found = store.read_statuses(where)
    wanted = [(row["point_id"], row["pool"], row["repeat"]) for row in store.read_plan(where)]
    counts = Counter(found[key][0] for key in wanted if key in found)
    return Summary(
        results=where.folder,
        counts=dict(counts),
        missing=sum(key not in found for key in wanted),
        measured_now=max(0, counts.total() - done_before),
        seconds=time.monotonic() - started,
    )


def _tell_inapplicable(todo: Plan, where: Results, tell: Listener) -> None:
    """Writes the records of points that no worker need see."""
    for each in todo.inapplicable:
        records = [
            initial_record(point, each.placement, todo.site, Status.NOT_APPLICABLE, each.reason)
            for point in each.placement.points
        ]
        store.write_records(where.records / f"{each.placement.id}-told.parquet", records)
        store.merge_points(where, each.placement.id)
        for record in records:
            tell(told(record))
