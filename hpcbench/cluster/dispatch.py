"""Gives placements to the workers of all pools, stores what comes back, and tries again."""

import contextlib
import logging
import pickle
import queue
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, Future, KilledWorker

from hpcbench.cluster import run_state
from hpcbench.cluster.local import Workers
from hpcbench.cluster.pools import started
from hpcbench.cluster.worker import TOPIC, Done, told, work
from hpcbench.config.site import Site
from hpcbench.errors import Interrupted, SiteError, UnusableNode
from hpcbench.plan.initial_record import initial_record
from hpcbench.plan.placement import Placement
from hpcbench.plan.plan import Plan
from hpcbench.records import store
from hpcbench.records.columns import Key, Record, Status
from hpcbench.records.folder import Results, write_atomically
from hpcbench.runtime import process

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""How often a worker may die at the same point before the point is given up."""

UNUSABLE_NODES = 3
"""So many unusable nodes of a pool, and nothing measured on any other, end the run."""

FRUITLESS = 5
"""So many jobs in a row that never had time for a measurement end the run."""

TURN_S = 1.0
"""How often jobs are looked after, and others are told how the run stands."""

Listener = Callable[[Mapping[str, Any]], None]
"""Told about everything that happens in a run, for progress bars and logs."""


@dataclass
class _Pool:
    """One pool while the run lasts.

    ``flying`` maps what Dask has to its attempt, ``begun`` names those that a worker has begun.
    """

    name: str
    workers: Workers
    waiting: deque[tuple[Placement, int]]
    flying: dict[Future[Any], tuple[Placement, int]] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
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

    @property
    def running(self) -> list[Key]:
        """The points of all placements that are on a worker."""
        placements = [placement for placement, _ in self.flying.values()]
        return [key for p in placements if p.id in self.begun for key in p.keys]


def drive(todo: Plan, where: Results, account: str | None, tell: Listener) -> None:
    """Measures what is to do; returns when all of it has a record, and no worker is left.

    Raises SiteError where the site refuses, Interrupted by a signal or by `hpcbench cancel`.
    """
    state = run_state.State(where)
    names = [name for name, placements in todo.placements.items() if placements]
    events: queue.SimpleQueue[Future[Any] | Mapping[str, Any]] = queue.SimpleQueue()
    with ExitStack() as stack:
        pools = []
        for name, workers in started(todo.site, names, where, account, stack):
            workers.client.subscribe_topic(TOPIC, lambda event: events.put(event[1]))
            pools.append(_Pool(name, workers, deque((p, 1) for p in todo.placements[name])))
        tell({"kind": "workers"})
        turn = 0.0
        try:
            while any(pool.left for pool in pools):
                if time.monotonic() > turn + TURN_S:
                    turn = time.monotonic()
                    _look_after(pools, where, state, tell)
                for pool in pools:
                    _submit(pool, todo.site, where, events)
                with contextlib.suppress(queue.Empty):
                    event = events.get(timeout=TURN_S)
                    if isinstance(event, Future):
                        _finish(event, pools, todo.site, where, tell)
                    else:
                        _hear(event, pools, where, tell)
        except BaseException:
            for pool in pools:
                pool.workers.submit_no_more()
            for pool in pools:
                _stop_programs(pool.workers.client)
            raise


def _look_after(
    pools: Sequence[_Pool], where: Results, state: run_state.State, tell: Listener
) -> None:
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
    state.write(lambda: [key for pool in pools for key in pool.running], jobs)


def _hear(event: Mapping[str, Any], pools: Sequence[_Pool], where: Results, tell: Listener) -> None:
    """What a worker says of a record; where it cannot write it, the record comes along."""
    if "pickle" in event:
        record: Record = pickle.loads(event["pickle"])  # noqa: S301 - from our own workers
        store.write_point(where, record)
    if event["kind"] == "started":
        next(pool for pool in pools if pool.name == event["pool"]).begun.add(event["placement_id"])
    tell({key: value for key, value in event.items() if key != "pickle"})


def _submit(pool: _Pool, site: Site, where: Results, events: "queue.SimpleQueue[Any]") -> None:
    window = pool.window
    while pool.waiting and len(pool.flying) < window:
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
    pool.begun.discard(placement.id)
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
        left = placement.without_done(store.recorded_keys(where, placement.id))
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
        stored = store.recorded_keys(where, placement.id)
        for record in done.records:
            if record.key not in stored:
                store.write_point(where, record)
        store.merge_points(where, placement.id)
    for name, text in done.logs.items():
        write_atomically(where.logs / name, text)
    if done.left:
        pool.workers.release(done.worker)
        left = placement.without_done({key for key in placement.keys if key not in done.left})
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
    parts = store.recorded_keys(where, placement.id)
    left = placement.without_done(parts)
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
        record = initial_record(point, left, site, Status.FAILED, reason)
        store.write_point(where, record)
        tell(told(record))


def _stop_programs(client: Client) -> None:
    """Ends Triton and perf_analyzer on the workers, before the workers go."""
    with contextlib.suppress(Exception):
        client.run(process.stop_all, nanny=False, on_error="ignore")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and any(client.processing().values()):
            time.sleep(0.1)
