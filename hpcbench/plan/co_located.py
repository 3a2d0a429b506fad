"""Several models on one server: the points of each alone, and of all at the same time."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hpcbench.plan.point import Point, ServerVariant, canonical, hashed, identity


def shared(members: Sequence[Sequence[Point]], image: str) -> Iterator[Point]:
    """All points on servers that hold these models: each alone, then all at the same time."""
    by_variant: list[dict[ServerVariant, dict[str, Point]]] = []
    for points in members:
        found: dict[ServerVariant, dict[str, Point]] = {}
        for point in points:
            found.setdefault(point.variant, {})[point.id] = point
        by_variant.append(found)
    for served in itertools.product(*by_variant):
        own = [found[variant].values() for found, variant in zip(by_variant, served, strict=True)]
        for number, alone in enumerate(own):
            idle = (*served[:number], *served[number + 1 :])
            held = [canonical(identity(variant, image)) for variant in idle]
            for point in alone:
                yield replace(point, id=hashed(point.id, *held), beside=idle)
        for loaded in itertools.product(*own):
            together = hashed(*(point.id for point in loaded))
            for number, point in enumerate(loaded):
                others = (*loaded[:number], *loaded[number + 1 :])
                yield replace(
                    point,
                    id=hashed(point.id, *(other.id for other in others)),
                    beside=others,
                    together=together,
                )


def problems(where: str, members: Mapping[str, Sequence[Point]]) -> list[str]:
    """What the models of a group, by their labels, cannot be measured with."""
    kinds = {each.load.shared_memory for points in members.values() for each in points} - {"none"}
    nothing = [
        f"{where}: exclude leaves nothing of '{label}' to measure beside the others; change the "
        "rule, or leave the group out"
        for label, points in members.items()
        if not points
    ]
    return nothing + [
        f"{where}: measurement.shared_memory: {kind} is not for "
        "models that are measured together: each perf_analyzer is ended at work, and would leave "
        "its memory behind; allowed: none"
        for kind in sorted(kinds)
    ]
