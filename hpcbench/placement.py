"""Groups points into placements: one Triton launch and the points measured on it."""

import hashlib
import heapq
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from hpcbench.grid import Point, ServerVariant
from hpcbench.records import Key
from hpcbench.warmup import Request

SERVER_START_S = 10.0
STOP_S = 20.0
"""What a worker keeps in hand at the end of its job: to stop Triton, and to tell the driver."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One Triton launch: everything that a worker needs to measure its points.

    Repeats are placements of their own, so that their spread includes that of fresh servers.
    """

    campaign: str
    pool: str
    repeat: int
    variant: ServerVariant
    points: tuple[Point, ...]
    requests: tuple[Request, ...] = ()
    """What the campaign sends to servers of this variant, so that all its placements warm up and
    build engines alike, however its points are split."""

    @property
    def id(self) -> str:
        """Names the placement's log and files; depends on its points."""
        text = f"{self.pool}/{self.repeat}/{'/'.join(point.id for point in self.points)}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def keys(self) -> list[Key]:
        return [(point.id, self.pool, self.repeat) for point in self.points]

    @property
    def estimate_s(self) -> float:
        """Seconds it should take where every point settles within three windows."""
        return SERVER_START_S + sum(point.load.estimate_s for point in self.points)

    @property
    def point_s(self) -> float:
        """Seconds that its longest point takes at most, unless its perf_analyzer hangs."""
        return max(point.load.longest_s for point in self.points)

    def needs_s(self, points: int) -> float:
        """Seconds that a job must have left for its first points, so many of them."""
        longest_s = sum(point.load.longest_s for point in self.points[:points])
        return SERVER_START_S + longest_s + STOP_S

    def without(self, done: AbstractSet[Key]) -> "Placement | None":
        """What is left of it once ``done`` is taken away; None if nothing is."""
        left = tuple(p for p in self.points if (p.id, self.pool, self.repeat) not in done)
        return replace(self, points=left) if left else None


def place(
    points: Iterable[Point],
    *,
    campaign: str,
    pool: str,
    repeats: int,
) -> list[Placement]:
    """Every (point, repeat) in exactly one placement; the longest first."""
    by_variant: dict[ServerVariant, list[Point]] = {}
    for point in points:
        by_variant.setdefault(point.variant, []).append(point)
    placements = [
        Placement(
            campaign=campaign,
            pool=pool,
            repeat=repeat,
            variant=variant,
            points=tuple(members),
            requests=tuple(sorted({(point.lengths, point.load.batch_size) for point in members})),
        )
        for repeat in range(repeats)
        for variant, members in by_variant.items()
    ]
    return list(longest_first(placements))


def spread(
    placements: Iterable[Placement], *, jobs: int, walltime_s: int | None
) -> tuple[Placement, ...]:
    """The same points in more placements where one would not fit a job, or jobs would be idle.

    A placement is halved for the sake of idle jobs only while each half measures for longer than
    its server takes to start.
    """
    parts = [part for placement in placements for part in _fitting(placement, walltime_s)]
    heap = [(-part.estimate_s, number, part) for number, part in enumerate(parts)]
    heapq.heapify(heap)
    while heap and len(heap) < jobs:
        _, number, longest = heap[0]
        half = len(longest.points) // 2
        halves = [
            replace(longest, points=p) for p in (longest.points[:half], longest.points[half:])
        ]
        if not half or min(h.estimate_s for h in halves) < 2 * SERVER_START_S:
            break
        heapq.heapreplace(heap, (-halves[0].estimate_s, number, halves[0]))
        heapq.heappush(heap, (-halves[1].estimate_s, len(heap) + len(parts), halves[1]))
    return longest_first(part for _, _, part in heap)


def _fitting(placement: Placement, walltime_s: int | None) -> list[Placement]:
    """Runs of points that are done within one job even where none of them settles."""
    if walltime_s is None:
        return [placement]
    free_s = walltime_s - placement.needs_s(0)
    parts: list[list[Point]] = []
    left_s = 0.0
    for point in placement.points:
        left_s -= point.load.longest_s
        if left_s < 0 or not parts:
            parts.append([])
            left_s = free_s - point.load.longest_s
        parts[-1].append(point)
    return [replace(placement, points=tuple(points)) for points in parts]


def longest_first(placements: Iterable[Placement | None]) -> tuple[Placement, ...]:
    """The placements that have points left, in the order in which they are submitted."""
    return tuple(sorted((p for p in placements if p), key=lambda p: -p.estimate_s))
