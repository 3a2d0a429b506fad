"""Which axes a model has in a campaign, and how many points their products have."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcbench.config import load_axes
from hpcbench.config.campaign import Campaign, GroupMember, NamedVariant
from hpcbench.config.load_axes import Load, Measurement
from hpcbench.config.model import Model
from hpcbench.config.point_rules import AXIS_NAMES
from hpcbench.config.server_axes import Server
from hpcbench.config.yaml_model import axis_values
from hpcbench.errors import BadInput
from hpcbench.plan import axis_product

MOST_MEASUREMENTS = 10**6
"""More are mostly a mistake: they take minutes and GiB to plan, and years to measure."""

SERVER_NAMES = frozenset({"version", *Server.model_fields})
"""The axes of which another value is another server; the rest are of the load."""


@dataclass(frozen=True)
class Axes:
    """The axes that apply to a model.

    Attributes
    ----------
    server, load, measurement
        The campaign's sections, with what a model, a variant or a group sets in their place.
    """

    server: Server
    load: Load
    measurement: Measurement


def axes_of(
    campaign: Campaign, model: Model, own: NamedVariant | None, member: GroupMember
) -> Axes:
    """Return the axes of a model.

    Parameters
    ----------
    campaign
        The campaign.
    model
        One of its models.
    own
        A named variant; None where the campaign has none.
    member
        What the group sets in which the model shares a server.

    Returns
    -------
    Axes
        Later ones win: campaign, model, variant, group.
    """
    return Axes(
        load_axes.override_axes(campaign.server_axes, model.server, own, member.server),
        load_axes.override_axes(campaign.load_axes, model.load, own, member.load),
        load_axes.override_axes(campaign.measurement, model.measurement, own),
    )


def products(model: Model, axes: Axes) -> Iterator[dict[str, tuple[Any, ...]]]:
    """Yield the products of axes of a model: closed and open loops have different axes.

    Parameters
    ----------
    model
        The model.
    axes
        Its axes.

    Yields
    ------
    dict
        The values by axis.
    """
    for loop in load_axes.split_loops(axes.load):
        yield {
            "version": model.version,
            **axis_values(axes.server),
            "shapes": tuple(model.shape_sets),
            **loop,
            **axis_values(axes.measurement),
        }


def zipped_fields(campaign: Campaign) -> list[list[str]]:
    """Return the groups of ``zip`` by the fields that hold the axes.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    list of list of str
        One list per group.
    """
    return [[AXIS_NAMES[axis] for axis in group] for group in campaign.zip]


def grid_size(campaign: Campaign) -> int:
    """Return how many combinations the axes of a campaign have, without making one.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    int
        Of all models, alone and in groups; before ``exclude``, and before equal ones are merged.
    """
    alone = (_model_size(campaign, model, GroupMember())[1] for model in campaign.models)
    return sum(alone) + sum(_group_size(campaign, group) for group in campaign.together)


def _group_size(campaign: Campaign, group: Mapping[str, GroupMember]) -> int:
    """Each model under load while the others are idle, and then all of them, each with a point."""
    members = [
        _model_size(campaign, model, group[model.shown_as])
        for model in campaign.models
        if model.shown_as in group
    ]
    servers = [server for server, _ in members]
    alone = (
        points * math.prod([*servers[:number], *servers[number + 1 :]])
        for number, (_, points) in enumerate(members)
    )
    return sum(alone) + len(members) * math.prod(points for _, points in members)


def _model_size(campaign: Campaign, model: Model, member: GroupMember) -> tuple[int, int]:
    """Return how many servers a model has, and how many points on all of them."""
    servers = points = 0
    variants: list[NamedVariant | None] = [*campaign.variants.values()]
    for own in variants or [None]:
        axes = axes_of(campaign, model, own, member)
        sizes = [_product_size(campaign, product) for product in products(model, axes)]
        # Closed and open loops load the same servers.
        servers += max(server for server, _ in sizes)
        points += sum(server * load for server, load in sizes)
    return servers, points


def _product_size(campaign: Campaign, axes: Mapping[str, Sequence[Any]]) -> tuple[int, int]:
    """Return how many servers a product of axes has, and how many loads of each of them."""
    try:
        factors = axis_product.make_factors(axes, zipped_fields(campaign))
    except ValueError:
        return 0, 0  # axes that do not fit together are reported when the grid is expanded
    server, load = (
        math.prod(
            len(factor.rows)
            for factor in factors
            if SERVER_NAMES.isdisjoint(factor.names) == is_load
        )
        for is_load in (False, True)
    )
    return server, load


def check_size(campaign: Campaign, *, pools: int, yes: bool, all_points: bool = True) -> None:
    """Check that somebody wants a campaign of this size.

    Parameters
    ----------
    campaign
        The campaign.
    pools
        How many pools measure it.
    yes
        Whether the user says that the size is meant.
    all_points
        Whether all points are measured. Of chosen ones, few are left of however many there are, so
        repeats and pools do not count.

    Raises
    ------
    BadInput
        It has more measurements than `MOST_MEASUREMENTS`, and nobody said that it is meant.
    """
    combinations = grid_size(campaign)
    times = campaign.repeats * pools if all_points else 1
    if combinations * times <= MOST_MEASUREMENTS or yes:
        return
    each = (
        f", and with repeats and pools {combinations * times:,} measurements" if times > 1 else ""
    )
    raise BadInput(
        f"{campaign.source}: its axes have {combinations:,} combinations{each}, more than "
        f"{MOST_MEASUREMENTS:,}",
        "give fewer values, or join axes with zip; if it is meant, repeat with --yes, in Python "
        "with yes=True",
    )
