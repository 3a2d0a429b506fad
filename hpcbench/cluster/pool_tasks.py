"""The tasks of one pool while a run lasts: what waits, what Dask has, and what it gets next."""

import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from distributed import Future

from hpcbench.cluster.spread import WAIT_S, FreeWorker, NodesOfPoints, choose_placement, node_key
from hpcbench.cluster.workers import Workers
from hpcbench.plan.placement import Placement
from hpcbench.records.columns import Key


@dataclass(frozen=True)
class Task:
    """One attempt to measure a placement.

    Attributes
    ----------
    placement
        What to measure.
    attempt
        Counts the deaths at the same point, from 1.
    worker
        The worker that it is given to; None where Dask chooses it.
    """

    placement: Placement
    attempt: int = 1
    worker: str | None = None


_GONE_S = 5.0
"""Seconds after which nothing more comes from a worker that is gone, nor of its death."""


@dataclass(frozen=True)
class _Begun:
    """Which worker measures a placement, and since when, by `time.monotonic`."""

    worker: str
    at: float


@dataclass
class PoolTasks:
    """One pool while the run lasts.

    Attributes
    ----------
    name, workers
        Its name, and its workers.
    waiting
        The tasks that nobody has, in their order.
    in_flight
        Those that Dask has.
    begun
        Which of them a worker has begun.
    measured
        On which nodes points were measured.
    node_of
        On which node a worker is, by its name.
    free_since
        Since when a worker has had nothing to do.
    unusable
        Nodes with what is wrong with them.
    gone_since
        Since when the worker of a task is gone.
    fruitful, fruitless
        Workers that have measured something, and those since then that had no time to.
    """

    name: str
    workers: Workers
    waiting: deque[Task]
    in_flight: dict["Future[Any]", Task] = field(default_factory=dict)
    begun: dict["Future[Any]", _Begun] = field(default_factory=dict)
    measured: NodesOfPoints = field(default_factory=NodesOfPoints)
    node_of: dict[str, str] = field(default_factory=dict)
    free_since: dict[str, float] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    gone_since: dict["Future[Any]", float] = field(default_factory=dict)
    fruitful: set[str] = field(default_factory=set)
    fruitless: set[str] = field(default_factory=set)

    @property
    def window(self) -> int:
        """How many tasks to have in flight."""
        # Those beyond the live workers wait on the scheduler, so that a worker that is done need
        # not wait for the driver. Few: what is in flight cannot be given another order.
        live = self.workers.live
        return live + 1 + live // 10

    @property
    def left(self) -> int:
        """How many tasks are not done."""
        return len(self.waiting) + len(self.in_flight)

    @property
    def running(self) -> list[Key]:
        """The points of the placements that workers have begun."""
        return [key for each in self.begun for key in self.in_flight[each].placement.keys]

    @property
    def busy(self) -> frozenset[str] | None:
        """The workers that have a task; None where it is not known yet which one has."""
        names = {self._worker_of(future) for future in self.in_flight}
        return None if None in names else frozenset(filter(None, names))

    def begin(self, placement_id: str, worker: str, node: str) -> None:
        """Note that a worker has begun a placement.

        Parameters
        ----------
        placement_id
            The placement.
        worker
            The worker's name in Dask.
        node
            Its node.
        """
        self.node_of[worker] = node_key(node)
        for future, task in self.in_flight.items():
            if task.placement.id == placement_id:
                self.begun[future] = _Begun(worker, time.monotonic())
                self.measured.add(task.placement, node_key(node))

    def end(self, future: "Future[Any]") -> Task:
        """Forget a task that has ended.

        Parameters
        ----------
        future
            What Dask calls it.

        Returns
        -------
        Task
            The task.
        """
        self.begun.pop(future, None)
        return self.in_flight.pop(future)

    def without_worker(self) -> list["Future[Any]"]:
        """Return the tasks whose worker is gone, and of which nobody will hear any more.

        Dask may let a task wait for ever that was given to a worker: where that one goes before it
        has begun, or is sent away while it measures, and no other one is there at that moment.

        Returns
        -------
        list of Future
            Tasks to be cancelled.
        """
        there, now = self.workers.nodes.keys(), time.monotonic()
        gone = [
            future
            for future, task in self.in_flight.items()
            if task.worker is not None and self._worker_of(future) not in there
        ]
        self.gone_since = {future: self.gone_since.get(future, now) for future in gone}
        return [future for future, since in self.gone_since.items() if now - since > _GONE_S]

    def next_task(self) -> Task | None:
        """Take out of ``waiting`` what is to be submitted now.

        Returns
        -------
        Task or None
            None where nothing is.
        """
        if not self.waiting:
            return None
        # What a node has measured decides nothing for a first repeat, or where there is one node.
        if self.waiting[0].placement.repeat == 0 or not self.workers.nodes:
            return self.waiting.popleft() if len(self.in_flight) < self.window else None
        return self._next_where_it_fits()

    def _next_where_it_fits(self) -> Task | None:
        """A repeat is given to a worker that is free: none waits on Dask's scheduler."""
        now = time.monotonic()
        busy = self.busy
        if busy is None:
            # Some worker will take a task, and which one is not known: nor is, who stays free.
            return None
        nodes = {n: self.node_of.get(n) or node_key(its) for n, its in self.workers.nodes.items()}
        free = nodes.keys() - busy
        self.free_since = {name: self.free_since.get(name, now) for name in free}
        if not free:
            return None
        ending = {
            self._worker_of(each) for each in self.in_flight if self._left_s(each, now) < WAIT_S
        }
        chosen = choose_placement(
            (task.placement for task in self.waiting),
            [FreeWorker(name, nodes[name], now - at) for name, at in self.free_since.items()],
            self.measured,
            nodes=set(nodes.values()),
            free_soon={node for name, node in nodes.items() if name in ending},
        )
        if chosen is None:
            return None
        place, worker = chosen
        task = self.waiting[place]
        del self.waiting[place]
        return replace(task, worker=worker)

    def _worker_of(self, future: "Future[Any]") -> str | None:
        begun = self.begun.get(future)
        return begun.worker if begun else self.in_flight[future].worker

    def _left_s(self, future: "Future[Any]", now: float) -> float:
        begun = self.begun.get(future)
        return self.in_flight[future].placement.estimate_s - (now - begun.at if begun else 0.0)
