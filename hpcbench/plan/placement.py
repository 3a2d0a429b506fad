"""Groups points into placements: one Triton launch and the points measured on it."""

import hashlib
import heapq
import itertools
import json
from collections.abc import Hashable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache

from tritonclient.grpc.model_config_pb2 import ModelConfig

from hpcbench.config.load_axes import REST_WINDOWS
from hpcbench.config.server_axes import SCHEDULING
from hpcbench.config.yaml_model import BASE
from hpcbench.plan import accelerators
from hpcbench.plan.model_config import Request
from hpcbench.plan.point import Point, ServerVariant
from hpcbench.records.columns import Key

SERVER_START_S = 10.0
ENGINE_S = 600.0
"""Of a server whose model TensorRT compiles first; whether a node that will be given has the
engines already, nobody knows."""

SWAP_S = 5.0
STOP_S = 20.0
"""What a worker keeps in hand at the end of its job: to stop Triton, and to tell the driver."""

PointGroup = tuple[Point, ...]
"""Points that are measured in one go: one, or those of several models at the same time."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One Triton launch: everything that a worker needs to measure its points.

    Variants that differ only in scheduling follow each other on the same Triton. Repeats are
    placements of their own, so that their spread includes that of fresh servers.
    """

    campaign: str
    pool: str
    repeat: int
    points: tuple[Point, ...]
    requests: tuple[tuple[str, tuple[Request, ...]], ...] = ()
    """(name of a model, what the campaign sends to it on such servers): all their placements warm
    up and build engines alike, however the points are split."""

    @property
    def id(self) -> str:
        """Names the placement's log and files; depends on its points."""
        text = f"{self.pool}/{self.repeat}/{'/'.join(point.id for point in self.points)}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def server_image(self) -> str | None:
        """The site's name for the image of its Triton; None for the usual one."""
        return self.points[0].variant.server_image

    @property
    def keys(self) -> list[Key]:
        return [(point.id, self.pool, self.repeat) for point in self.points]

    @property
    def served(self) -> tuple[tuple[ServerVariant, ...], ...]:
        """What its Triton holds, one after the other; one model each unless several share it."""
        return tuple(served for served, _ in itertools.groupby(p.served for p in self.points))

    @property
    def by_served(self) -> list[tuple[tuple[ServerVariant, ...], "Placement"]]:
        """The same, each with the part of the placement that is measured on it."""
        parts = itertools.groupby(self.points, lambda point: point.served)
        return [(served, replace(self, points=tuple(points))) for served, points in parts]

    @property
    def point_groups(self) -> tuple[PointGroup, ...]:
        """Its points in the order in which they are measured, those of one go together."""
        return tuple(tuple(each) for _, each in itertools.groupby(self.points, _together))

    @property
    def estimate_s(self) -> float:
        """Seconds it should take where every point settles within three windows."""
        swaps_s = SWAP_S * (len(self.served) - 1)
        starts_s = _start_s(self.points[0].served)
        return starts_s + swaps_s + sum(map(_estimate_s, self.point_groups))

    @property
    def next_s(self) -> dict[Key, float]:
        """Seconds that a job must have left to go on, by the last key of each measurement.

        The very last is not in it. Where a swap fails, a server is started.
        """
        return {
            (before[-1].id, self.pool, self.repeat): _longest_s(after)
            + STOP_S
            + (_start_s(after[0].served) if before[0].served != after[0].served else 0.0)
            for before, after in itertools.pairwise(self.point_groups)
        }

    def needs_s(self, measurements: int) -> float:
        """Seconds that a job must have left for its first measurements, so many of them."""
        first = self.point_groups[:measurements]
        starts_s = sum(map(_start_s, {each[0].served for each in first or self.point_groups[:1]}))
        return starts_s + sum(map(_longest_s, first)) + STOP_S

    def without_done(self, done: AbstractSet[Key]) -> "Placement | None":
        """What is left of it once ``done`` is taken away; None if nothing is."""
        left = tuple(p for p in self.points if (p.id, self.pool, self.repeat) not in done)
        return replace(self, points=left) if left else None


def _start_s(served: Iterable[ServerVariant]) -> float:
    """Seconds from the start of a Triton that holds these until it can be measured."""
    return SERVER_START_S + ENGINE_S * sum(map(builds_engines, served))


@lru_cache  # the points of a grid come variant by variant
def builds_engines(variant: ServerVariant) -> bool:
    """Whether TensorRT compiles the model, because an axis or its config.pbtxt asks for it."""
    asked = variant.axes.get("accelerator", BASE)
    if asked == BASE:
        return "tensorrt" in accelerators.compiling_accelerators(
            ModelConfig.FromString(variant.model.config)
        )
    return bool(asked) and json.loads(str(asked))["name"] == "tensorrt"


def _together(point: Point) -> str:
    return point.together_id or point.id


def _loads(each: PointGroup) -> list[Point]:
    """All that loads the server in one go: also what was measured in an earlier job."""
    return [each[0], *(b for b in each[0].co_located if isinstance(b, Point))]


def _estimate_s(each: PointGroup) -> float:
    loads = [point.load for point in _loads(each)]
    # Several models are first brought under load, then measured.
    rounds = 1 if len(loads) == 1 else 2
    return rounds * max(load.estimate_s for load in loads)


def _longest_s(each: PointGroup) -> float:
    loads = [point.load for point in _loads(each)]
    first_s = 0.0 if len(loads) == 1 else max(REST_WINDOWS * load.window_s for load in loads)
    return first_s + max(load.longest_s for load in loads)


def make_placements(
    points: Iterable[Point],
    *,
    campaign: str,
    pool: str,
    repeats: int,
    fresh_servers: bool,
) -> list[Placement]:
    """Every (point, repeat) in exactly one placement; the longest first.

    With ``fresh_servers`` each variant has a Triton of its own. Otherwise those that differ only
    in scheduling share one, and another comes first with every repeat.
    """
    by_server: dict[tuple[ServerVariant, ...], list[Point]] = {}
    for point in points:
        by_server.setdefault(point.served, []).append(point)
    families: dict[Hashable, list[list[Point]]] = {}
    for served, members in by_server.items():
        # What an ensemble calls cannot leave a server that the ensemble stays on.
        swaps = not fresh_servers and all(variant.model.swappable for variant in served)
        family = tuple(map(_family, served)) if swaps else served
        families.setdefault(family, []).append(members)
    requests = {family: _requests(variants) for family, variants in families.items()}
    placements = [
        Placement(
            campaign=campaign,
            pool=pool,
            repeat=repeat,
            points=tuple(itertools.chain.from_iterable(_rotated(variants, repeat))),
            requests=requests[family],
        )
        for repeat in range(repeats)
        for family, variants in families.items()
    ]
    return list(longest_first(placements))


def _family(variant: ServerVariant) -> ServerVariant:
    """The same for all variants that may follow each other on one Triton."""
    if not {"accelerator", "config"}.isdisjoint(variant.axes):
        return variant
    kept = tuple(change for change in variant.changes if change[0] not in SCHEDULING)
    return replace(variant, changes=kept)


def _requests(
    variants: Iterable[Iterable[Point]],
) -> tuple[tuple[str, tuple[Request, ...]], ...]:
    found: dict[str, set[Request]] = {}
    for point in itertools.chain.from_iterable(variants):
        asked = found.setdefault(point.variant.model.name, set())
        asked.add((point.lengths, point.load.batch_size))
    return tuple((name, tuple(sorted(asked))) for name, asked in found.items())


def _rotated(variants: Sequence[list[Point]], by: int) -> list[list[Point]]:
    first = by % len(variants)
    return [*variants[first:], *variants[:first]]


def split_placements(
    placements: Iterable[Placement], *, jobs: int, walltime_s: int | None
) -> tuple[Placement, ...]:
    """The same points in more placements where one would not fit a job, or jobs would be idle.

    A placement is halved for the sake of idle jobs only while each half measures for longer than
    its server takes to start; between two variants, where it has several.
    """
    parts = [part for placement in placements for part in _fitting(placement, walltime_s)]
    heap = [(-part.estimate_s, number, part) for number, part in enumerate(parts)]
    heapq.heapify(heap)
    while heap and len(heap) < jobs:
        _, number, longest = heap[0]
        halves = _halves(longest)
        if not halves or min(h.estimate_s for h in halves) < 2 * SERVER_START_S:
            break
        heapq.heapreplace(heap, (-halves[0].estimate_s, number, halves[0]))
        heapq.heappush(heap, (-halves[1].estimate_s, len(heap) + len(parts), halves[1]))
    return longest_first(part for _, _, part in heap)


def _halves(placement: Placement) -> list[Placement]:
    """Two parts, as equal as may be; none where it is one measurement."""
    whole = placement.point_groups
    by_server = [list(each) for _, each in itertools.groupby(whole, lambda each: each[0].served)]
    pieces = by_server if len(by_server) > 1 else [[each] for each in whole]
    if len(pieces) == 1:
        return []
    ends = list(itertools.accumulate(sum(len(each) for each in piece) for piece in pieces))
    cut = min(ends[:-1], key=lambda end: abs(2 * end - ends[-1]))
    points = placement.points
    return [replace(placement, points=part) for part in (points[:cut], points[cut:])]


def _fitting(placement: Placement, walltime_s: int | None) -> list[Placement]:
    """Runs of points that are done within one job even where none of them settles."""
    if walltime_s is None:
        return [placement]
    parts: list[list[Point]] = []
    served: tuple[ServerVariant, ...] = ()
    left_s = 0.0
    for each in placement.point_groups:
        # Where a swap fails, a server is started.
        fresh = each[0].served != served
        left_s -= _longest_s(each) + (_start_s(each[0].served) if fresh else 0.0)
        if left_s < 0 or not parts:
            parts.append([])
            left_s = walltime_s - _start_s(each[0].served) - STOP_S - _longest_s(each)
        parts[-1].extend(each)
        served = each[0].served
    return [replace(placement, points=tuple(points)) for points in parts]


def longest_first(placements: Iterable[Placement | None]) -> tuple[Placement, ...]:
    """The placements that have points left, in the order in which they are submitted."""
    return tuple(sorted((p for p in placements if p), key=lambda p: -p.estimate_s))
