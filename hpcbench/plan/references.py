"""Refuses references that no result could ever be held against."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from hpcbench.config.campaign import Campaign
from hpcbench.config.site import SHIPPED_SITES, Site
from hpcbench.errors import BadInput, did_you_mean
from hpcbench.plan.point import Point

if TYPE_CHECKING:
    from hpcbench.records.references import Expectation


def check_references(campaign: Campaign, site: Site, points: Sequence[Point]) -> None:
    """Refuse references to metrics, GPUs and points that do not exist.

    Parameters
    ----------
    campaign
        The campaign; the names of its models have been checked.
    site
        The site.
    points
        All points of the campaign.

    Raises
    ------
    BadInput
        With every mistake.
    """
    if not campaign.references:
        return
    # Only here: it imports pyarrow, which planning does not use.
    from hpcbench.records.references import METRICS, expectations

    expected = expectations(campaign)
    problems = [
        f"{each.name}: there is no such metric;{did_you_mean(each.metric, METRICS)} the columns "
        "whose role is metric: docs/columns.md"
        for each in expected
        if each.metric not in METRICS
    ]
    problems += _unknown_gpus(campaign, site)
    problems += _without_points(expected, points)
    if problems:
        raise BadInput("\n".join(f"{campaign.source}: {problem}" for problem in problems))


def _unknown_gpus(campaign: Campaign, site: Site) -> Iterator[str]:
    """Yield a message for each GPU that neither the site nor one that comes with hpcbench has."""
    if any(pool.gpus_per_job and pool.gpu is None for pool in site.pools.values()):
        # Which GPU that is, only its node says.
        return
    here = _gpus(site)
    for number, each in enumerate(campaign.references):
        for name in each.gpu:
            if name in here:
                continue
            # The campaign may be that of several sites.
            known = here | _gpus_elsewhere()
            if name not in known:
                yield (
                    f"references[{number}].gpu: no pool has a '{name}';{did_you_mean(name, known)} "
                    f"GPUs of site '{site.name}': {', '.join(sorted(here)) or 'none'}"
                )


def _gpus(site: Site) -> frozenset[str]:
    return frozenset(pool.gpu for pool in site.pools.values() if pool.gpu is not None)


def _gpus_elsewhere() -> frozenset[str]:
    sites = map(Site.load, sorted(SHIPPED_SITES.glob("*.yaml")))
    return frozenset[str]().union(*map(_gpus, sites))


def _without_points(expected: Sequence["Expectation"], points: Iterable[Point]) -> Iterator[str]:
    """Yield a message for each entry that is about no point."""
    entries = {each.name.partition(".")[0]: each for each in expected}
    for point in points:
        row = {"model": point.variant.model.name, "part_of": None, **point.columns}
        entries = {name: each for name, each in entries.items() if not each.has_point(row)}
        if not entries:
            return
    for name in entries:
        yield (
            f"{name}.points: no point of a model that has its server alone is one of these; write "
            "the values as on the axes, and only of axes that have an effect"
        )
