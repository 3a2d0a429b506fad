"""Groups points into placements: one Triton launch and the points measured on it."""

import hashlib
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from hpcbench.campaign import Measurement
from hpcbench.grid import Point, ServerVariant
from hpcbench.records import Key

SERVER_START_S = 10.0
WINDOW_STRETCH = 1.2
"""perf_analyzer sleeps this much longer than the window it was asked for."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One Triton launch: everything that a worker needs to measure its points.

    Repeats are placements of their own, so that their spread includes that of fresh servers.
    """

    campaign: str
    pool: str
    repeat: int
    variant: ServerVariant
    measurement: Measurement
    input_data_digest: str | None
    points: tuple[Point, ...]

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
        window_s = self.measurement.measurement_interval_ms / 1000 * WINDOW_STRETCH
        return SERVER_START_S + len(self.points) * (3 * window_s + 1)

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
    measurement: Measurement,
    input_data_digest: str | None,
    done: AbstractSet[Key] = frozenset(),
) -> list[Placement]:
    """Every (point, repeat) that is not done, in exactly one placement; the longest first."""
    by_variant: dict[ServerVariant, list[Point]] = {}
    for point in points:
        by_variant.setdefault(point.variant, []).append(point)
    placements = [
        Placement(
            campaign=campaign,
            pool=pool,
            repeat=repeat,
            variant=variant,
            measurement=measurement,
            input_data_digest=input_data_digest,
            points=tuple(members),
        ).without(done)
        for repeat in range(repeats)
        for variant, members in by_variant.items()
    ]
    return list(longest_first(placements))


def longest_first(placements: Iterable[Placement | None]) -> tuple[Placement, ...]:
    """The placements that have points left, in the order in which they are submitted."""
    return tuple(sorted((p for p in placements if p), key=lambda p: -p.estimate_s))
