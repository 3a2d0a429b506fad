"""On which node the repeats of a point are measured: on different ones, where there are.

Otherwise what is peculiar to a node would be taken for the point's: its repeats would agree with
each other, and not with what another node measures.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from hpcbench.plan.placement import Placement
from hpcbench.records import store
from hpcbench.records.columns import MEASURED
from hpcbench.records.folder import Results

WAIT_S = 30.0
"""Seconds that a worker without work may wait for a placement to find a better node, where one will
be free by then."""

LOOK_AHEAD = 100
"""Of so many waiting placements one is chosen."""


@dataclass(frozen=True)
class FreeWorker:
    """A worker that has nothing to do.

    Attributes
    ----------
    name
        Its name in Dask.
    node
        Its node; empty where that is not known yet.
    free_s
        Seconds since it became free.
    """

    name: str
    node: str
    free_s: float


@dataclass(frozen=True)
class NodesOfPoints:
    """How often each point of a pool was begun on each node.

    Attributes
    ----------
    counts
        By (point_id, node).
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, placement: Placement, node: str) -> None:
        """Note that a placement has begun on a node.

        Parameters
        ----------
        placement
            The placement.
        node
            The node.
        """
        self.counts.update((point.id, node) for point in placement.points)

    def times(self, placement: Placement, node: str) -> int:
        """Return how often the points of a placement were begun on a node.

        Parameters
        ----------
        placement
            The placement.
        node
            The node.

        Returns
        -------
        int
            The sum over its points.
        """
        return sum(self.counts[point.id, node] for point in placement.points)


def choose_placement(
    waiting: Iterable[Placement],
    free: Sequence[FreeWorker],
    measured: NodesOfPoints,
    *,
    nodes: AbstractSet[str],
    free_soon: AbstractSet[str],
) -> tuple[int, str] | None:
    """Choose what is measured next, and by which worker.

    The first placement that waits goes to a free worker on a node on which its points were measured
    least often among all nodes that there are. Where no free worker is on such a node, the next one
    may, also one of the next round, so that no worker is idle. Only where that cannot be either, a
    worker waits for a little while.

    Parameters
    ----------
    waiting
        What waits, in its order; at least one.
    free
        Workers that have nothing to do; at least one.
    measured
        Where the points were measured before.
    nodes
        The nodes of all workers, free or not.
    free_soon
        Those of them on which a worker will be free within `WAIT_S`.

    Returns
    -------
    tuple of int and str
        The place of the placement among those that wait, and the name of the worker; None to wait.
    """
    candidates = list(islice(waiting, LOOK_AHEAD))
    first = candidates[0]
    for place, placement in enumerate(candidates):
        if placement.repeat > first.repeat + 1:
            break
        times = {node: measured.times(placement, node) for node in nodes}
        least = min(times.values())
        for worker in free:
            if times[worker.node] == least:
                return place, worker.name
    times = {node: measured.times(first, node) for node in nodes}
    best = {node for node in nodes if times[node] == min(times.values())}
    if best & free_soon and all(worker.free_s < WAIT_S for worker in free):
        return None
    return 0, min(free, key=lambda worker: times[worker.node]).name


def node_key(name: str) -> str:
    """Return the name of a node as batch systems, hosts and records have it in common.

    Parameters
    ----------
    name
        With or without the domain.

    Returns
    -------
    str
        Without it.
    """
    return name.partition(".")[0]


def earlier_nodes(results: Results, pool: str, run_id: str | None) -> NodesOfPoints:
    """Return where a session has measured before: a run that was interrupted goes on.

    Parameters
    ----------
    results
        The results folder.
    pool
        The pool.
    run_id
        The session; None for none.

    Returns
    -------
    NodesOfPoints
        What its records say.
    """
    names = ("point_id", "node", "pool", "run_id", "status")
    table = store.read_table(results.folder, names, on_damage=lambda _: None)
    for name, values in (("pool", [pool]), ("run_id", [run_id]), ("status", sorted(MEASURED))):
        table = table.filter(pc.is_in(table[name], pa.array(values, pa.string())))
    rows = table.group_by(["point_id", "node"]).aggregate([([], "count_all")]).to_pylist()
    counts = {
        (row["point_id"], node_key(row["node"])): row["count_all"] for row in rows if row["node"]
    }
    return NodesOfPoints(Counter(counts))
