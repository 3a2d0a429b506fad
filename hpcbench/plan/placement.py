"""A placement: one Triton launch with the points that are measured on it, and their time."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from hpcbench.config.load_axes import WINDOWS_IN_A_ROW, LoadVariant
from hpcbench.config.server_values import Setting
from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.config.values import BASE
from hpcbench.plan import accelerators
from hpcbench.plan.backend import backend_name
from hpcbench.plan.model import TritonModel
from hpcbench.plan.point import Point, Request, ServerVariant

if TYPE_CHECKING:
    # Importing the columns imports pyarrow, which planning does not use.
    from hpcbench.records.columns import Key
    from hpcbench.records.session import Session

K = TypeVar("K")

SERVER_START_S = 10.0
"""Time in seconds that a start of Triton is expected to take."""

BACKEND_START_S = {"python": 3.0, "pytorch": 10.0, "tensorflow": 15.0, "tensorrt": 5.0}
"""Seconds that a backend takes on top of that, to load its libraries; others take next to none."""

SERVER_END_S = 3.0
"""Time in seconds that a Triton is expected to take until it has ended."""

ENGINE_S = 600.0
"""Time in seconds that TensorRT may take to compile a model. It is always expected: the node that a
job will get may have the engines of an earlier run, or may not."""

SWAP_S = 5.0
"""Time in seconds to replace a variant by another one on a running Triton."""

STOP_S = 20.0
"""Time in seconds that a worker keeps at the end of its job, to stop Triton and to report."""

PointGroup = tuple[Point, ...]
"""Points that are measured at the same time: one point, or one of each of several models."""


@dataclass(frozen=True)
class Pace:
    """How long earlier measurements of a model took in the same results folder.

    Attributes
    ----------
    ready_s
        From the start of its server until it was ready, in seconds.
    factor
        What its points took, over what they take where they settle within three windows.
    """

    ready_s: float
    factor: float


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One Triton launch: everything that a worker needs to measure its points.

    Variants that differ only in scheduling follow each other on the same Triton. Repeats are
    placements of their own, so that their spread includes the spread of fresh servers.

    Attributes
    ----------
    campaign
        Name of the campaign.
    pool
        Name of the pool.
    repeat
        Number of the repeat, from 0.
    points
        The points in the order in which they are measured.
    requests
        (name of a model, what the campaign sends to it on such servers). All placements of these
        servers warm up and build engines alike, however the points are split.
    session
        The session that measures it; None in a plan that nobody runs.
    pace
        How long earlier measurements of its model took; None where there are none.
    """

    campaign: str
    pool: str
    repeat: int
    points: tuple[Point, ...]
    requests: tuple[tuple[str, tuple[Request, ...]], ...] = ()
    session: "Session | None" = None
    pace: Pace | None = None

    @property
    def run_id(self) -> str | None:
        """The name of the session; None without one."""
        return self.session.run_id if self.session else None

    @property
    def id(self) -> str:
        """12 hexadecimal digits that name the placement's log and files."""
        # Parts of a placement that was split have other points, and so logs of their own.
        # So have those of another session.
        run_id = f"{self.session.run_id}/" if self.session else ""
        text = f"{run_id}{self.pool}/{self.repeat}/{'/'.join(point.id for point in self.points)}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def server_image(self) -> str | None:
        """The site's name for the server image; None for the site's default."""
        return self.points[0].variant.server_image

    @property
    def keys(self) -> "list[Key]":
        """(point_id, pool, repeat) of each point."""
        return [(point.id, self.pool, self.repeat) for point in self.points]

    @property
    def served(self) -> tuple[tuple[ServerVariant, ...], ...]:
        """What its Triton holds, one after the other: one model each, or several that share it."""
        return tuple(served for served, _ in _runs(self.points, lambda point: point.served))

    @property
    def by_served(self) -> list[tuple[tuple[ServerVariant, ...], "Placement"]]:
        """The same, each with the part of the placement that is measured on it."""
        return [
            (served, self if points is self.points else replace(self, points=points))
            for served, points in _runs(self.points, lambda point: point.served)
        ]

    @property
    def point_groups(self) -> tuple[PointGroup, ...]:
        """The points in their order, those that are measured at the same time in one group."""
        groups = _runs(self.points, lambda point: point.together_id or point.id)
        return tuple(group for _, group in groups)

    @cached_property
    def estimate_s(self) -> float:
        """Seconds that it takes if every point settles as earlier ones, or within three windows."""
        served = self.served
        swaps_s = SWAP_S * (len(served) - 1)
        points_s = sum(map(_estimate_s, self.point_groups))
        if self.pace is None:
            return server_start_s(served[0]) + swaps_s + points_s
        return self.pace.ready_s + SERVER_END_S + swaps_s + self.pace.factor * points_s

    @property
    def next_s(self) -> "dict[Key, float]":
        """Seconds that a job must have left to go on after a group, by the group's last key.

        The last group is not in it. A swap may fail, so it counts as a start of Triton.
        """
        return {
            (before[-1].id, self.pool, self.repeat): longest_s(after)
            + STOP_S
            + (server_start_s(after[0].served) if before[0].served != after[0].served else 0.0)
            for before, after in itertools.pairwise(self.point_groups)
        }

    def needs_s(self, groups: int) -> float:
        """Return the seconds that a job must have left to measure its first groups of points.

        Parameters
        ----------
        groups
            Number of groups; 0 asks for the first server only.

        Returns
        -------
        float
            The time even if no point settles, with the start and stop of the servers.
        """
        first = self.point_groups[:groups]
        starts_s = sum(map(server_start_s, {g[0].served for g in first or self.point_groups[:1]}))
        return starts_s + sum(map(longest_s, first)) + STOP_S

    def time_columns(self, started_at: datetime) -> dict[str, Any]:
        """Return when a measurement started, as the columns of its record say it.

        Parameters
        ----------
        started_at
            The time, UTC.

        Returns
        -------
        dict of str to object
            ``started_at``, and ``session_s`` where a session measures the placement.
        """
        if self.session is None:
            return {"started_at": started_at}
        seconds = (started_at - self.session.started_at).total_seconds()
        return {"started_at": started_at, "session_s": seconds}

    def with_points(self, others: Mapping[str, Point]) -> "Placement":
        """Return the placement with other points in the place of some.

        Parameters
        ----------
        others
            What takes the place of a point, by its id.

        Returns
        -------
        Placement
            The placement, under another id where points have changed.
        """
        if not others:
            return self
        return replace(self, points=tuple(others.get(p.id, p) for p in self.points))

    def without_done(self, done: "AbstractSet[Key]") -> "Placement | None":
        """Return the part of the placement that is left to measure.

        Parameters
        ----------
        done
            Keys of what has been measured.

        Returns
        -------
        Placement or None
            None where nothing is left.
        """
        left = tuple(p for p in self.points if (p.id, self.pool, self.repeat) not in done)
        return replace(self, points=left) if left else None


def _runs(points: PointGroup, of: Callable[[Point], K]) -> list[tuple[K, PointGroup]]:
    """Return points that follow each other and have something in common, after that."""
    if len(points) == 1:  # as in each of a million placements
        return [(of(points[0]), points)]
    return [(common, tuple(run)) for common, run in itertools.groupby(points, of)]


def server_start_s(served: Iterable[ServerVariant]) -> float:
    """Return how long a Triton takes to start until it can be measured.

    Parameters
    ----------
    served
        The variants that it holds.

    Returns
    -------
    float
        Time in seconds. Triton loads its models at the same time, so the slowest backend counts;
        TensorRT compiles one after the other.
    """
    starts = [_start_s(v.model, v.axes.get("accelerator", BASE)) for v in served]
    return SERVER_START_S + max(starts)[0] + sum([engines_s for _, engines_s in starts])


@lru_cache  # a grid has few models, with few accelerators
def _start_s(model: TritonModel, accelerator: Setting) -> tuple[float, float]:
    """Seconds for the libraries of the slowest backend, and for engines."""
    models = (model, *model.composing)
    backend_s = max(BACKEND_START_S.get(backend_name(each) or "", 0.0) for each in models)
    return backend_s, ENGINE_S * _compiles(model, accelerator)


def builds_engines(variant: ServerVariant) -> bool:
    """Whether TensorRT compiles the model, because an axis or its config.pbtxt asks for it.

    Parameters
    ----------
    variant
        The server variant.

    Returns
    -------
    bool
        True where its first start takes minutes.
    """
    return _compiles(variant.model, variant.axes.get("accelerator", BASE))


def _compiles(model: TritonModel, accelerator: Setting) -> bool:
    if accelerator == BASE:
        config = ModelConfig.FromString(model.config)
        return "tensorrt" in accelerators.compiling_accelerators(config)
    return bool(accelerator) and json.loads(str(accelerator))["name"] == "tensorrt"


def longest_s(group: PointGroup) -> float:
    """Return how long the points of a group take at most.

    Parameters
    ----------
    group
        Points that are measured at the same time.

    Returns
    -------
    float
        Time in seconds where none of them settles.
    """
    loads = _loads(group)
    first_s = 0.0 if len(loads) == 1 else max(WINDOWS_IN_A_ROW * load.window_s for load in loads)
    return first_s + max(load.longest_s for load in loads)


def _loads(group: PointGroup) -> list[LoadVariant]:
    """Return all loads on the server, also those of points that an earlier job has measured."""
    point = group[0]
    return [point.load, *[other.load for other in point.co_located if isinstance(other, Point)]]


def _estimate_s(group: PointGroup) -> float:
    loads = _loads(group)
    # Several models are first brought under load, and then measured.
    cycles = 1 if len(loads) == 1 else 2
    return cycles * max([load.estimate_s for load in loads])
