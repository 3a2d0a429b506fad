"""Spreads a campaign over the pools of a site, stores what arrives, and resumes."""

import contextlib
import logging
import pickle
import queue
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker

from hpcbench import images, keys, ledger, process, runstate, store
from hpcbench.batch_cluster import DEATHS, Submission, batch_workers
from hpcbench.campaign import Campaign
from hpcbench.cluster import Workers, local_workers
from hpcbench.errors import Interrupted, SiteError, UnusableNode
from hpcbench.leftovers import end_earlier_runs
from hpcbench.measure import unmeasured
from hpcbench.placement import Placement
from hpcbench.planning import Plan, plan, plan_rows
from hpcbench.records import Record, Status
from hpcbench.site import Site
from hpcbench.store import Results
from hpcbench.watch import batch_run
from hpcbench.worker import TOPIC, Done, told, work

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""How often a worker may die at the same point before the point is given up."""

UNUSABLE_NODES = 3
"""So many unusable nodes of a pool, and nothing measured on any other, end the run."""

FRUITLESS = 5
"""So many jobs in a row that never had time for a measurement end the run."""

UNENCRYPTED = (
    "site %s says network.tls: false: whoever reaches this network can run programs as you"
)

TURN_S = 1.0
"""How often jobs are looked after, and others are told how the run stands."""

Listener = Callable[[Mapping[str, Any]], None]
"""Told about everything that happens in a run, for progress bars and logs."""


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
    runstate.check_folder(where, site)
    account = runstate.account(account, site)
    where.create()
    with store.locked(where), runstate.log_file(where), runstate.signals_interrupt():
        where.cancel.unlink(missing_ok=True)
        end_earlier_runs(where, lambda text: tell({"kind": "note", "text": text}))
        store.merge_leftovers(where)
        todo = todo.without(store.done(where))
        runstate.write_yaml(where.campaign, campaign)
        runstate.write_yaml(where.site, site)
        store.write_plan(where, plan_rows(todo))
        tell({"kind": "planned", "plan": todo})
        if site.scheduler != "local" and not site.network.tls:
            log.warning(UNENCRYPTED, site.name)
            tell({"kind": "note", "text": UNENCRYPTED % site.name})
        _tell_inapplicable(todo, where, tell)
        if any(todo.placements.values()):
            images.pull(todo.site.container, lambda image: tell({"kind": "pull", "image": image}))
            _drive(todo, where, account, tell)
        store.merge_leftovers(where)
        where.state.unlink(missing_ok=True)
    return summarise(where, started=started, done_before=todo.done)


def summarise(where: Results, *, started: float = 0.0, done_before: int = 0) -> Summary:
    """Counts what the folder holds against what the newest run set out to measure."""
    found = store.statuses(where)
    wanted = [(row["point_id"], row["pool"], row["repeat"]) for row in store.read_plan(where)]
    counts = Counter(found[key][0] for key in wanted if key in found)
    return Summary(
        results=where.folder,
        counts=dict(counts),
        missing=sum(key not in found for key in wanted),
        measured_now=max(0, counts.total() - done_before),
        seconds=time.monotonic() - started,
    )


@dataclass
class _Pool:
    """One pool while the run lasts. ``flying`` maps what is on a worker to its attempt."""

    name: str
    workers: Workers
    waiting: deque[tuple[Placement, int]]
    flying: dict[Future[Any], tuple[Placement, int]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    fruitful: set[str] = field(default_factory=set)
    fruitless: set[str] = field(default_factory=set)

    @property
    def window(self) -> int:
        """Placements in flight: those beyond the live workers wait on the scheduler, so that a
        worker that is done need not wait for the driver.
        """
        live = self.workers.live
        return live + 1 + live // 10

    @property
    def left(self) -> int:
        return len(self.waiting) + len(self.flying)


def _drive(todo: Plan, where: Results, account: str | None, tell: Listener) -> None:
    events: queue.SimpleQueue[Future[Any] | Mapping[str, Any]] = queue.SimpleQueue()
    with ExitStack() as stack:
        pools = []
        for name, workers in _pools(todo, where, account, stack):
            workers.client.subscribe_topic(TOPIC, lambda event: events.put(event[1]))
            pools.append(_Pool(name, workers, deque((p, 1) for p in todo.placements[name])))
        tell({"kind": "workers"})
        turn = 0.0
        try:
            while any(pool.left for pool in pools):
                if time.monotonic() > turn + TURN_S:
                    turn = time.monotonic()
                    _look_after(pools, where, tell)
                for pool in pools:
                    _submit(pool, todo.site, where, events)
                with contextlib.suppress(queue.Empty):
                    event = events.get(timeout=TURN_S)
                    if isinstance(event, Future):
                        _finish(event, pools, todo.site, where, tell)
                    else:
                        _hear(event, where, tell)
        except BaseException:
            for pool in pools:
                _stop_programs(pool.workers.client)
            raise


def _pools(
    todo: Plan, where: Results, account: str | None, stack: ExitStack
) -> Iterator[tuple[str, Workers]]:
    """The workers of each pool that has something to do; all are gone when ``stack`` is left."""
    names = [name for name, placements in todo.placements.items() if placements]
    return started(todo.site, names, where, account, stack)


def started(
    site: Site,
    names: Sequence[str],
    where: Results,
    account: str | None,
    stack: ExitStack,
    *,
    deaths: int = DEATHS,
) -> Iterator[tuple[str, Workers]]:
    """The workers of these pools; they, their jobs and their keys are gone with ``stack``.

    So many ``deaths`` in a row of jobs that did not connect are a SiteError.
    """
    if site.scheduler == "local":
        for name in names:
            yield name, stack.enter_context(local_workers(site.pools[name]))
        return
    run_ = ledger.begin(where, site.scheduler)
    stack.callback(ledger.finish, where, run_)
    made = stack.enter_context(keys.made(where.keys)) if site.network.tls else None
    watcher = stack.enter_context(batch_run(run_))
    submission = Submission(where, run_, account, made, watcher, deaths)
    for name in names:
        yield name, stack.enter_context(batch_workers(site, name, submission))


def _look_after(pools: Sequence[_Pool], where: Results, tell: Listener) -> None:
    if where.cancel.exists():
        raise Interrupted(
            "ended by hpcbench cancel; what was measured is kept",
            "the same hpcbench run command goes on where this one stopped",
        )
    for pool in pools:
        try:
            for note in pool.workers.keep(pool.left):
                log.warning("%s", note)
                tell({"kind": "note", "text": note})
        except SiteError as error:
            nodes = "".join(f"\nunusable before: {why}" for why in pool.unusable.values())
            raise SiteError(error.message + nodes, error.hint) from error
    jobs = {pool.name: pool.workers.jobs for pool in pools}
    tell({"kind": "jobs", "pools": jobs})
    running = [key for pool in pools for p, _ in pool.flying.values() for key in p.keys]
    runstate.write(where, running, jobs)


def _hear(event: Mapping[str, Any], where: Results, tell: Listener) -> None:
    """What a worker says of a record; where it cannot write it, the record comes along."""
    if "pickle" in event:
        record: Record = pickle.loads(event["pickle"])  # noqa: S301 - from our own workers
        store.write_point(where, record)
    tell({key: value for key, value in event.items() if key != "pickle"})


def _submit(pool: _Pool, site: Site, where: Results, events: "queue.SimpleQueue[Any]") -> None:
    while pool.waiting and len(pool.flying) < pool.window:
        placement, attempt = pool.waiting.popleft()
        future = pool.workers.client.submit(
            work,
            placement,
            site,
            str(where.folder),
            key=f"{placement.id}-{attempt}-{time.monotonic_ns()}",
            pure=False,
            # Only tasks that are marked so wait on the scheduler until a worker is free; others
            # are put on a busy one, and die with it.
            _data_producer=True,
        )
        pool.flying[future] = placement, attempt
        future.add_done_callback(events.put)


def _finish(
    future: "Future[Any]",
    pools: Sequence[_Pool],
    site: Site,
    where: Results,
    tell: Listener,
) -> None:
    pool = next(pool for pool in pools if future in pool.flying)
    placement, attempt = pool.flying.pop(future)
    error = future.exception()
    if error is None:
        _take(future.result(), pool, placement, attempt, where)
    elif isinstance(error, UnusableNode):
        _avoid(error, pool, placement, attempt, tell)
    elif isinstance(error, KilledWorker):
        _try_again(pool, placement, attempt, site, where, tell)
    else:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        log.error("placement %s: %s", placement.id, "".join(traceback.format_exception(error)))
        left = placement.without(store.parts_of(where, placement.id))
        if left is not None:
            _give_up(left, reason, site, where, tell)


def _take(done: Done, pool: _Pool, placement: Placement, attempt: int, where: Results) -> None:
    """Stores what came with a result, and puts back what the worker had no time for."""
    if done.counts:
        pool.fruitful.add(done.worker)
        pool.fruitless.clear()
    elif done.worker not in pool.fruitful:
        pool.fruitless.add(done.worker)
    if len(pool.fruitless) >= FRUITLESS:
        raise SiteError(
            f"pool {pool.name}: {FRUITLESS} jobs in a row had no time for a single point, which "
            f"needs up to {placement.needs_s(1):.0f} s",
            "does the batch system give these jobs less time than walltime says? Raise it, or "
            "lower measurement_interval_ms",
        )
    if done.records:
        stored = store.parts_of(where, placement.id)
        for record in done.records:
            if record.key not in stored:
                store.write_point(where, record)
        store.merge_points(where, placement.id)
    for name, text in done.logs.items():
        store.write_atomically(where.logs / name, text)
    if done.left:
        pool.workers.release(done.worker)
        left = placement.without({key for key in placement.keys if key not in done.left})
        if left is not None:
            log.info("the job of %s is nearly over: %d points go back", done.worker, len(done.left))
            pool.waiting.appendleft((left, attempt))


def _avoid(
    error: UnusableNode, pool: _Pool, placement: Placement, attempt: int, tell: Listener
) -> None:
    log.warning("unusable node: %s", error)
    known = error.node in pool.unusable
    pool.unusable[error.node] = error.message
    if not pool.workers.avoid(error.worker, error.node) or (
        len(pool.unusable) >= UNUSABLE_NODES and not pool.fruitful
    ):
        raise error
    if not known:
        tell({"kind": "note", "text": f"unusable node, its work goes elsewhere: {error.message}"})
    pool.waiting.appendleft((placement, attempt))


def _try_again(
    pool: _Pool, placement: Placement, attempt: int, site: Site, where: Results, tell: Listener
) -> None:
    """A worker died: its placement goes on elsewhere, unless this is its second death here."""
    parts = store.parts_of(where, placement.id)
    left = placement.without(parts)
    log.warning("placement %s, attempt %d: its worker was killed", placement.id, attempt)
    if left is None:
        return
    if parts or attempt < ATTEMPTS:
        tell({"kind": "retry", "placement": left, "reason": "it was killed"})
        pool.waiting.appendleft((left, 1 + (0 if parts else attempt)))
        return
    _give_up(left, f"its worker died {ATTEMPTS} times: it was killed", site, where, tell)


def _give_up(left: Placement, reason: str, site: Site, where: Results, tell: Listener) -> None:
    for point in left.points:
        record = unmeasured(point, left, site, Status.FAILED, reason)
        store.write_point(where, record)
        tell(told(record))


def _tell_inapplicable(todo: Plan, where: Results, tell: Listener) -> None:
    """Writes the records of points that no worker need see."""
    for each in todo.inapplicable:
        for point in each.placement.points:
            record = unmeasured(
                point, each.placement, todo.site, Status.NOT_APPLICABLE, each.reason
            )
            store.write_point(where, record)
            tell(told(record))
        store.merge_points(where, each.placement.id)


def _stop_programs(client: Client) -> None:
    """Ends Triton and perf_analyzer on the workers, before the workers go."""
    with contextlib.suppress(Exception):
        client.run(process.stop_all, nanny=False, on_error="ignore")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and any(client.processing().values()):
            time.sleep(0.1)
