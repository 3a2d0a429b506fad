"""The order of measurements: of repeats and variants in placements, and of placements in jobs."""

import heapq
import itertools
import random
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace

from hpcbench.config.server_axes import SCHEDULING_AXES
from hpcbench.plan.placement import (
    SERVER_START_S,
    STOP_S,
    Placement,
    longest_s,
    server_start_s,
)
from hpcbench.plan.point import Point, Request, ServerVariant

Requests = tuple[tuple[str, tuple[Request, ...]], ...]
"""What a campaign sends to the models of a server, by the names of these."""


def make_placements(
    points: Iterable[Point],
    *,
    campaign: str,
    pool: str,
    repeats: int,
    fresh_servers: bool,
) -> list[Placement]:
    """Put every (point, repeat) into exactly one placement.

    Parameters
    ----------
    points
        Points of the campaign that the pool can measure.
    campaign
        Name of the campaign.
    pool
        Name of the pool.
    repeats
        How often each point is measured.
    fresh_servers
        Whether each variant gets a Triton of its own. Otherwise variants that differ only in
        scheduling share one.

    Returns
    -------
    list of Placement
        As `interleave_repeats` orders them.
    """
    families = _families(points, fresh_servers)
    # Most servers of a large campaign get the same requests: kept once.
    known: dict[Requests, Requests] = {}
    requests = [known.setdefault(found, found) for found in map(_requests, families)]
    placements = [
        Placement(
            campaign=campaign,
            pool=pool,
            repeat=repeat,
            points=tuple(itertools.chain.from_iterable(order_of_repeat(variants, repeat))),
            requests=asked,
        )
        for repeat in range(repeats)
        for variants, asked in zip(families, requests, strict=True)
    ]
    return list(interleave_repeats(placements))


def _families(points: Iterable[Point], fresh_servers: bool) -> list[list[list[Point]]]:
    """Return for each Triton the points of each variant that follows another one on it."""
    by_server: dict[tuple[ServerVariant, ...], list[Point]] = {}
    for point in points:
        by_server.setdefault(point.served, []).append(point)
    if fresh_servers:
        return [[members] for members in by_server.values()]
    families: dict[Hashable, list[list[Point]]] = {}
    for served, members in by_server.items():
        # The models that an ensemble calls cannot leave a server while the ensemble stays on it.
        swaps = all(variant.model.swappable for variant in served)
        family = tuple(map(_without_scheduling, served)) if swaps else served
        families.setdefault(family, []).append(members)
    return [*families.values()]


def order_of_repeat(variants: Sequence[list[Point]], repeat: int) -> list[list[Point]]:
    """Return the variants of a server in the order in which one repeat measures them.

    Each repeat starts with the next variant. So the first place, on a server that nothing has been
    loaded on before, falls to another variant with every repeat.

    Parameters
    ----------
    variants
        The points of each variant, in the order of the campaign.
    repeat
        Number of the repeat, from 0.

    Returns
    -------
    list of list of Point
        The same lists, rotated.
    """
    first = repeat % len(variants)
    return [*variants[first:], *variants[:first]]


def in_drawn_order(placement: Placement, seed: int) -> Placement:
    """Return a placement whose points are in an order that is drawn.

    In a fixed order, what changes while a server runs (clocks, heat, memory) would look like an
    effect of the batch size. Variants stay where they are: each repeat starts with another one.

    Parameters
    ----------
    placement
        The placement.
    seed
        Of the session. The same seed gives the same order.

    Returns
    -------
    Placement
        The same points; those that are measured at the same time stay together.
    """
    ids = "/".join(sorted(point.id for point in placement.points))
    chance = random.Random(f"{seed}/{placement.pool}/{placement.repeat}/{ids}")  # noqa: S311
    points: list[Point] = []
    for _, part in placement.by_served:
        groups = list(part.point_groups)
        chance.shuffle(groups)
        points += itertools.chain.from_iterable(groups)
    return replace(placement, points=tuple(points))


def interleave_repeats(placements: Iterable[Placement | None]) -> tuple[Placement, ...]:
    """Return placements in the order in which they are submitted.

    All first repeats come before all second ones, however long they take: what drifts in the
    course of a session then meets all configurations alike. Within a repeat, long placements come
    first, so that the last jobs to end are short.

    Parameters
    ----------
    placements
        Placements; None for those in which nothing is left to measure.

    Returns
    -------
    tuple of Placement
        Without the Nones. Equally long ones stay in their order.
    """
    return tuple(sorted((p for p in placements if p), key=lambda p: (p.repeat, -p.estimate_s)))


def _without_scheduling(variant: ServerVariant) -> ServerVariant:
    """Return the same for all variants that may follow each other on one Triton."""
    # Triton has crashed when it reloaded a model with an accelerator, which `config` may add, too.
    if not {"accelerator", "config"}.isdisjoint(variant.axes):
        return variant
    kept = tuple(change for change in variant.changes if change[0] not in SCHEDULING_AXES)
    return replace(variant, changes=kept)


def _requests(variants: Iterable[Iterable[Point]]) -> Requests:
    found: dict[str, set[Request]] = {}
    for point in itertools.chain.from_iterable(variants):
        requests = found.setdefault(point.variant.model.name, set())
        requests.add((point.lengths, point.load.batch_size))
    return tuple((name, tuple(sorted(requests))) for name, requests in found.items())


def split_placements(
    placements: Iterable[Placement], *, jobs: int, walltime_s: int | None
) -> tuple[Placement, ...]:
    """Split placements that do not fit into a job, and others until no job is idle.

    For the sake of idle jobs, a placement is halved only while each half measures for longer than
    its server takes to start: between two variants where it has several, else between points.

    Parameters
    ----------
    placements
        Placements of one pool.
    jobs
        How many jobs of the pool run at the same time.
    walltime_s
        Time limit of a job in seconds; None where it has none.

    Returns
    -------
    tuple of Placement
        The same points, as `interleave_repeats` orders them.
    """
    parts = [part for placement in placements for part in _fit_walltime(placement, walltime_s)]
    # The number decides between equally long placements, which cannot be compared themselves.
    heap = [(-part.estimate_s, number, part) for number, part in enumerate(parts)]
    heapq.heapify(heap)
    while heap and len(heap) < jobs:
        _, number, longest = heap[0]
        halves = _halves(longest)
        # Below that, starting another server would take longer than it saves.
        if not halves or min(h.estimate_s for h in halves) < 2 * SERVER_START_S:
            break
        heapq.heapreplace(heap, (-halves[0].estimate_s, number, halves[0]))
        heapq.heappush(heap, (-halves[1].estimate_s, len(heap) + len(parts), halves[1]))
    return interleave_repeats(part for _, _, part in heap)


def _halves(placement: Placement) -> list[Placement]:
    """Return two parts, as equal as possible; none where there is one group of points."""
    groups = placement.point_groups
    by_server = [list(each) for _, each in itertools.groupby(groups, lambda g: g[0].served)]
    # A cut between servers costs nothing: the second one would have to be started anyway.
    pieces = by_server if len(by_server) > 1 else [[group] for group in groups]
    if len(pieces) == 1:
        return []
    ends = list(itertools.accumulate(sum(map(len, piece)) for piece in pieces))
    cut = min(ends[:-1], key=lambda end: abs(2 * end - ends[-1]))
    points = placement.points
    return [replace(placement, points=part) for part in (points[:cut], points[cut:])]


def _fit_walltime(placement: Placement, walltime_s: int | None) -> list[Placement]:
    """Return parts that end within one job even if no point settles."""
    if walltime_s is None or len(placement.points) == 1:
        return [placement]
    parts: list[list[Point]] = []
    served: tuple[ServerVariant, ...] = ()
    left_s = 0.0
    for group in placement.point_groups:
        # A swap may fail, so it counts as a start of Triton.
        fresh = group[0].served != served
        left_s -= longest_s(group) + (server_start_s(group[0].served) if fresh else 0.0)
        if left_s < 0 or not parts:
            parts.append([])
            left_s = walltime_s - server_start_s(group[0].served) - STOP_S - longest_s(group)
        parts[-1].extend(group)
        served = group[0].served
    return [replace(placement, points=tuple(points)) for points in parts]
