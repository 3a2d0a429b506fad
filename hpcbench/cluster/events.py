"""What happens in a run: the events that the ``listener`` of `hpcbench.run` gets.

A worker sends those that it knows of as mappings, because Dask carries nothing else in its logs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcbench.records.columns import Key, Record

if TYPE_CHECKING:
    # Workers import this module, and need none of these.
    from hpcbench.cluster.run_state import PoolJobs
    from hpcbench.plan.placement import Placement
    from hpcbench.plan.plan import Plan


@dataclass(frozen=True)
class Planned:
    """The run knows what it will do; nothing has been started.

    Attributes
    ----------
    plan
        What is missing, and how much was there: ``plan.measurements``, ``plan.done`` and
        ``plan.estimate_s`` [s].
    """

    plan: "Plan"


@dataclass(frozen=True)
class PullsImage:
    """An image is fetched from its registry, once for all nodes.

    Attributes
    ----------
    image
        Its name.
    """

    image: str


@dataclass(frozen=True)
class StartsWorkers:
    """Workers are started, or jobs for them are submitted."""


@dataclass(frozen=True)
class JobsSeen:
    """How the jobs stand; comes every second, also where nothing has changed.

    Attributes
    ----------
    pools
        By the name of the pool.
    """

    pools: "Mapping[str, PoolJobs]"


@dataclass(frozen=True)
class PlacementStarted:
    """A worker has begun a placement: it starts Triton.

    Attributes
    ----------
    placement_id
        As in the column of this name.
    pool
        The pool of the worker.
    worker
        Its name.
    node
        Where it runs, by the batch system's name.
    at
        When, by the clock of the node [s since 1970].
    """

    placement_id: str
    pool: str
    worker: str
    node: str
    at: float


@dataclass(frozen=True)
class PlacementEnded:
    """A worker has stopped Triton at the end of a placement.

    Attributes
    ----------
    placement_id, pool, worker, at
        As of `PlacementStarted`.
    """

    placement_id: str
    pool: str
    worker: str
    at: float


@dataclass(frozen=True)
class PointMeasured:
    """A point has its record, which is safe on the disk.

    Attributes
    ----------
    key
        (point_id, pool, repeat).
    status
        A value of `hpcbench.records.columns.Status`: "ok", "unstable", "failed", "timeout" or
        "not_applicable".
    reason
        Why it is not "ok"; None where it is.
    model_label
        The model's name in figures.
    batch_size
        Inferences per request; None where the model has no batch dimension.
    concurrency
        Requests in flight; None in an open loop.
    request_rate
        Requests per second that were sent; None in a closed loop.
    request_intervals
        The file with the times of requests; None without one.
    throughput_infer_per_s
        What came back [infer/s]; None where nothing was measured.
    node
        Where; None where no node was needed.
    is_part
        Whether this is the share of one model in a point of models that share a server. The point
        itself comes as well.
    """

    key: Key
    status: str
    reason: str | None
    model_label: str
    batch_size: int | None
    concurrency: int | None
    request_rate: float | None
    request_intervals: str | None
    throughput_infer_per_s: float | None
    node: str | None
    is_part: bool = False


@dataclass(frozen=True)
class PlacementRetried:
    """A worker died; what it had not measured goes to another one.

    Attributes
    ----------
    placement
        What is left.
    reason
        How the worker died.
    """

    placement: "Placement"
    reason: str


@dataclass(frozen=True)
class Note:
    """Something that the user should read.

    Attributes
    ----------
    text
        One or more lines.
    """

    text: str


@dataclass(frozen=True)
class Stopping:
    """A signal came. The listener is called within the signal's handler.

    Attributes
    ----------
    text
        What happens now, and what another signal would do.
    """

    text: str


Event = (
    Planned
    | PullsImage
    | StartsWorkers
    | JobsSeen
    | PlacementStarted
    | PlacementEnded
    | PointMeasured
    | PlacementRetried
    | Note
    | Stopping
)
Listener = Callable[[Event], None]

WorkerEvent = PlacementStarted | PlacementEnded | PointMeasured
"""What only workers know of."""

_KINDS = {kind.__name__: kind for kind in (PlacementStarted, PlacementEnded, PointMeasured)}


def to_message(event: WorkerEvent) -> dict[str, Any]:
    """Return an event as a worker sends it.

    Parameters
    ----------
    event
        The event.

    Returns
    -------
    dict
        The kind of event, and its strings and numbers by name.
    """
    # Apart from what is added: Dask's scheduler writes the address of the worker under "worker".
    return {"kind": type(event).__name__, "event": dict(vars(event))}


def from_message(message: Mapping[str, Any]) -> WorkerEvent:
    """Return the event that a worker has sent.

    Parameters
    ----------
    message
        As `to_message` makes it; other keys are ignored.

    Returns
    -------
    PlacementStarted, PlacementEnded or PointMeasured
        The event.
    """
    kind = _KINDS[message["kind"]]
    values = dict(message["event"])
    if "key" in values:
        # Dask makes a list of it.
        values["key"] = tuple(values["key"])
    return kind(**values)


def point_measured(record: Record) -> PointMeasured:
    """Return what the driver and its user see of a record at once.

    Parameters
    ----------
    record
        The record of a point, or of a part of one.

    Returns
    -------
    PointMeasured
        The event.
    """
    return PointMeasured(
        key=record.key,
        status=str(record.status),
        reason=record.reason,
        model_label=record.model_label,
        batch_size=record.batch_size,
        concurrency=record.concurrency,
        request_rate=record.request_rate,
        request_intervals=record.request_intervals,
        throughput_infer_per_s=record.throughput_infer_per_s,
        node=record.node,
        is_part=record.part_of is not None,
    )
