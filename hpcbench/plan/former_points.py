"""Points whose models had digests of more files formerly: results under these ids still count."""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from hpcbench.plan.grid import Grid
from hpcbench.plan.model import TritonModel
from hpcbench.plan.point import Point


def former_points(
    points: Grid, models: Mapping[str, TritonModel], expand: Callable[..., Grid]
) -> dict[str, tuple[Point, ...]]:
    """Return points with the former digests of their models.

    Parameters
    ----------
    points
        All points of a campaign.
    models
        Its models, by the names that the campaign has for them.
    expand
        Makes the points of models with other digests.

    Returns
    -------
    dict of str to tuple of Point
        By the id that a point has now, those with other ids.
    """
    found: dict[str, tuple[Point, ...]] = {}
    for number in range(max((len(each.former_digests) for each in models.values()), default=0)):
        formerly = {name: _with_former(model, number) for name, model in models.items()}
        if formerly == models:
            continue
        # The same points in the same order: only the digests of the models differ.
        for point, former in zip(points.points, expand(formerly).points, strict=True):
            known = found.get(point.id, ())
            if former.id not in {point.id, *(each.id for each in known)}:
                found[point.id] = (*known, former)
    return found


def _with_former(model: TritonModel, number: int) -> TritonModel:
    parts = tuple(_with_former(part, number) for part in model.composing)
    former = dict(enumerate(model.former_digests)).get(number, model.digest)
    return replace(model, digest=former, composing=parts)


def known_points(
    points: Iterable[Point], former: Mapping[str, tuple[Point, ...]], known: AbstractSet[str]
) -> dict[str, Point]:
    """Return the former points that results with some ids go on with.

    What is left of a model that has former ids gets such, too, so that its results are of one
    digest; except what has been measured under its id of now.

    Parameters
    ----------
    points
        Points with their ids of now.
    former
        What `former_points` found for them.
    known
        The ids of the results.

    Returns
    -------
    dict of str to Point
        By their ids now.
    """
    digests = {
        each.variant.model.name: each.variant.model.digest
        for formerly in former.values()
        for each in formerly
        if each.id in known
    }
    found: dict[str, Point] = {}
    for point in points if digests else ():
        formerly = former.get(point.id, ())
        measured = next((each for each in formerly if each.id in known), None)
        if measured is None and point.id not in known:
            digest = digests.get(point.variant.model.name)
            measured = next((f for f in formerly if f.variant.model.digest == digest), None)
        if measured is not None:
            found[point.id] = measured
    return found
