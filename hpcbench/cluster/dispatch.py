"""Gives placements to the workers of all pools, stores what comes back, and tries again."""

import contextlib
import logging
import pickle
import queue
import time
import traceback
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from distributed import Client, Future, KilledWorker

from hpcbench.cluster.dask_internals import submit_task
from hpcbench.cluster.events import (
    JobsSeen,
    Listener,
    Note,
    PlacementRetried,
    PlacementStarted,
    StartsWorkers,
    from_message,
    point_measured,
)
from hpcbench.cluster.pool_tasks import PoolTasks, Task
from hpcbench.cluster.run_state import StateFile
from hpcbench.cluster.spread import NodesOfPoints, earlier_nodes
from hpcbench.cluster.stopping import Stop, interrupted
from hpcbench.cluster.worker import (
    TOPIC,
    PlacementResult,
    run_placement,
    stop_after_point,
)
from hpcbench.cluster.workers import start_workers
from hpcbench.config.site import Site
from hpcbench.errors import Interrupted, SiteError, UnusableNode
from hpcbench.plan.initial_record import initial_record
from hpcbench.plan.placement import Placement
from hpcbench.plan.plan import Plan
from hpcbench.records import merging, store
from hpcbench.records.columns import Record, Status
from hpcbench.records.folder import Results, write_atomically
from hpcbench.records.lease import check_lease
from hpcbench.runtime import process

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""How often a worker may die at the same point before the point is given up."""

UNUSABLE_NODES = 3
"""Stop after this many unusable nodes if no node of the pool has produced a result."""

FRUITLESS = 5
"""So many jobs in a row that never had time for a measurement end the run."""

TURN_S = 1.0
"""Seconds between two looks at the jobs, and between two reports of how the run stands."""

STOP_S = 15.0
"""Seconds that workers may take to stop their programs at the end of a run."""


def dispatch(
    plan: Plan, results: Results, account: str | None, notify: Listener, stop: Stop
) -> None:
    """Measure all that is left of a plan; when this returns, no worker is left.

    Parameters
    ----------
    plan
        What to measure.
    results
        The results folder, in which each point gets its record.
    account
        Who is charged for the jobs; None where nobody is named.
    notify
        Called with each event.
    stop
        Whether the run is to stop.

    Raises
    ------
    SiteError
        Where the site refuses.
    Interrupted
        After a signal, or `hpcbench cancel`.
    """
    names = [name for name, placements in plan.placements.items() if placements]
    with ExitStack() as stack:
        pools = [
            PoolTasks(
                name,
                workers,
                deque(map(Task, plan.placements[name])),
                measured=_measured_before(plan, name, results),
            )
            for name, workers in start_workers(plan.site, names, results, account, stack)
        ]
        notify(StartsWorkers())
        _Dispatcher(plan.site, results, notify, pools, stop).run()


def _measured_before(plan: Plan, pool: str, results: Results) -> NodesOfPoints:
    placements = plan.placements[pool]
    # There is one node, or there are first repeats only: nobody would ask.
    if plan.site.scheduler == "local" or not any(each.repeat for each in placements):
        return NodesOfPoints()
    return earlier_nodes(results, pool, placements[0].run_id)


class _Dispatcher:
    """The loop of a run, in the driver's main thread.

    Dask calls back in threads of its own: all that these do is to put an event into a queue.
    """

    def __init__(
        self, site: Site, results: Results, notify: Listener, pools: list[PoolTasks], stop: Stop
    ) -> None:
        self.site = site
        self.results = results
        self.notify = notify
        self.pools = pools
        self.stop = stop
        self.state = StateFile(results)
        # Its put may be called by a signal's handler, whatever the main thread is about.
        self.events: queue.SimpleQueue[Future[Any] | Mapping[str, Any] | None] = queue.SimpleQueue()
        for pool in pools:
            pool.workers.client.subscribe_topic(TOPIC, lambda event: self.events.put(event[1]))

    def run(self) -> None:
        """Go on until each point has its record, or until the points under way have theirs."""
        try:
            with self.stop.after_points(self._wake_to_stop):
                self._measure()
        except BaseException:
            # First in all pools, so that none goes on to submit while another one is stopped.
            for pool in self.pools:
                pool.workers.stop_submitting()
            for pool in self.pools:
                _stop_programs(pool.workers.client)
            raise

    def _wake_to_stop(self) -> bool:
        self.events.put(None)
        return any(pool.begun for pool in self.pools)

    def _measure(self) -> None:
        turn, is_passed_on = 0.0, False
        while any(pool.begun if is_passed_on else pool.left for pool in self.pools):
            # By the clock: many workers send many events.
            if time.monotonic() > turn + TURN_S:
                turn = time.monotonic()
                self._look_after_jobs()
            for pool in self.pools:
                self._submit_tasks(pool)
            with contextlib.suppress(queue.Empty):
                self._handle(self.events.get(timeout=TURN_S))
            if self.stop.is_asked and not is_passed_on:
                is_passed_on = True
                self._stop_after_points()
        # Also where the handler's error was lost in compiled code before this loop.
        if any(pool.left for pool in self.pools):
            raise interrupted()

    def _stop_after_points(self) -> None:
        """Let no worker begin a point."""
        for pool in self.pools:
            pool.workers.stop_submitting()
        for pool in self.pools:
            pool.workers.client.run(stop_after_point, nanny=False, on_error="ignore")

    def _look_after_jobs(self) -> None:
        if self.results.cancel.exists():
            raise Interrupted(
                "stopped by hpcbench cancel; what was measured is kept",
                "run the same hpcbench run command again: it goes on where this one stopped",
            )
        check_lease(self.results.lease)
        for pool in self.pools:
            for future in pool.without_worker():
                future.cancel()
            try:
                # What is not under way any more needs no worker.
                wanted = len(pool.begun) if self.stop.is_asked else pool.left
                for note in pool.workers.scale(wanted, pool.busy):
                    log.warning("%s", note)
                    self.notify(Note(note))
            except SiteError as error:
                nodes = "".join(f"\nunusable before: {why}" for why in pool.unusable.values())
                raise SiteError(error.message + nodes, error.hint) from error
        jobs = {pool.name: pool.workers.jobs for pool in self.pools}
        self.notify(JobsSeen(jobs))
        self.state.write(lambda: [key for pool in self.pools for key in pool.running], jobs)

    def _submit_tasks(self, pool: PoolTasks) -> None:
        while not self.stop.is_asked and (task := pool.next_task()):
            future = submit_task(
                pool.workers.client,
                run_placement,
                task.placement,
                self.site,
                str(self.results.folder),
                # Dask takes a task of the same name for the same task.
                key=f"{task.placement.id}-{task.attempt}-{time.monotonic_ns()}",
                worker=task.worker,
            )
            pool.in_flight[future] = task
            future.add_done_callback(self.events.put)

    def _handle(self, event: "Future[Any] | Mapping[str, Any] | None") -> None:
        """Act upon a result, or what a worker reports; None only ends the waiting."""
        if isinstance(event, Future):
            self._handle_result(event)
        elif event is not None:
            self._handle_report(event)

    def _handle_report(self, message: Mapping[str, Any]) -> None:
        """Act upon what a worker reports; where it cannot write a record, the record is in it."""
        if "pickle" in message:
            record: Record = pickle.loads(message["pickle"])  # noqa: S301 - from our own workers
            # Another worker may have had this placement, and was quicker.
            if record.key not in store.finished_keys_of(self.results, record.placement_id):
                store.write_point(self.results, record)
        event = from_message(message)
        if isinstance(event, PlacementStarted):
            pool = next(pool for pool in self.pools if pool.name == event.pool)
            pool.begin(event.placement_id, event.worker, event.node)
        self.notify(event)

    def _handle_result(self, future: "Future[Any]") -> None:
        pool = next(pool for pool in self.pools if future in pool.in_flight)
        task = pool.end(future)
        if future.cancelled():
            pool.waiting.appendleft(Task(task.placement, task.attempt))
            return
        error = future.exception()
        if error is None:
            self._store_result(future.result(), pool, task)
        elif isinstance(error, UnusableNode):
            self._exclude_node(error, pool, task)
        # By the settings here Dask gives a task up at the first death of its worker.
        elif isinstance(error, KilledWorker):
            self._retry(pool, task)
        else:
            placement = task.placement
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            log.error("placement %s: %s", placement.id, "".join(traceback.format_exception(error)))
            left = placement.without_done(store.recorded_keys(self.results, placement.id))
            if left is not None:
                self._give_up(left, reason)

    def _store_result(self, result: PlacementResult, pool: PoolTasks, task: Task) -> None:
        """Store what came with a result, and put back what the worker had no time for."""
        placement = task.placement
        if not self.stop.is_asked:
            _check_time(result, pool, placement)
        if result.records:
            # Each came by itself as well, as soon as it was measured, and may be lost with a
            # connection: so all come once more, and what is missing is stored.
            stored = store.recorded_keys(self.results, placement.id)
            for record in result.records:
                if record.key not in stored:
                    store.write_point(self.results, record)
            merging.merge_points(self.results, placement.id)
        for name, text in result.logs.items():
            write_atomically(self.results.logs / name, text)
        if result.left and self.stop.is_asked:
            pool.waiting.appendleft(task)
        elif result.left:
            pool.workers.release(result.worker)
            left = placement.without_done({key for key in placement.keys if key not in result.left})
            if left is not None:
                log.info(
                    "the job of %s is nearly over: %d points go back",
                    result.worker,
                    len(result.left),
                )
                pool.waiting.appendleft(Task(left, task.attempt))

    def _exclude_node(self, error: UnusableNode, pool: PoolTasks, task: Task) -> None:
        log.warning("unusable node: %s", error)
        known = error.node in pool.unusable
        pool.unusable[error.node] = error.message
        if not pool.workers.exclude_node(error.worker, error.node) or (
            len(pool.unusable) >= UNUSABLE_NODES and not pool.fruitful
        ):
            raise error
        if not known:
            text = f"unusable node, its work goes elsewhere: {error.message}"
            self.notify(Note(text))
        pool.waiting.appendleft(Task(task.placement, task.attempt))

    def _retry(self, pool: PoolTasks, task: Task) -> None:
        """A worker died: its placement goes on elsewhere, unless this is its second death here."""
        placement = task.placement
        recorded = store.recorded_keys(self.results, placement.id)
        left = placement.without_done(recorded)
        log.warning("placement %s, attempt %d: its worker was killed", placement.id, task.attempt)
        if left is None:
            return
        measured = not recorded.isdisjoint(placement.keys)
        if measured or task.attempt < ATTEMPTS:
            self.notify(PlacementRetried(left, "it was killed"))
            # Where it has measured something, it died at another point than before.
            pool.waiting.appendleft(Task(left, 1 if measured else task.attempt + 1))
            return
        self._give_up(left, f"its worker died {ATTEMPTS} times: it was killed")

    def _give_up(self, left: Placement, reason: str) -> None:
        for point in left.points:
            record = initial_record(point, left, self.site, Status.FAILED, reason)
            store.write_point(self.results, record)
            self.notify(point_measured(record))


def _check_time(result: PlacementResult, pool: PoolTasks, placement: Placement) -> None:
    """Raise SiteError where job after job ends before it has measured anything."""
    if result.counts or not result.left:
        pool.fruitful.add(result.worker)
        pool.fruitless.clear()
    elif result.worker not in pool.fruitful:
        pool.fruitless.add(result.worker)
    if len(pool.fruitless) >= FRUITLESS:
        raise SiteError(
            f"pool {pool.name}: {FRUITLESS} jobs in a row had no time for a single point, which "
            f"needs up to {placement.needs_s(1):.0f} s",
            "does the batch system give these jobs less time than walltime says? Raise it, or "
            "lower measurement_interval_ms",
        )


def _stop_programs(client: Client) -> None:
    """End Triton and perf_analyzer on the workers, before the workers go."""
    # A worker that is closed in the middle of a task is killed after a while, without a chance
    # to stop its programs.
    with contextlib.suppress(Exception):
        client.run(process.stop_all, nanny=False, on_error="ignore")
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline and any(client.processing().values()):
            time.sleep(0.1)
