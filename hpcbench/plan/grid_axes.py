"""Which axes a model has in a campaign, and how many points their products have."""

import contextlib
import math
from collections.abc import Iterator
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

MOST_POINTS = 10**6
"""Larger grids are mostly mistakes: they take minutes and GiB to plan, and years to measure."""


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
    alone = [_model_size(campaign, model, GroupMember()) for model in campaign.models]
    groups = [
        math.prod(
            _model_size(campaign, model, group[model.shown_as])
            for model in campaign.models
            if model.shown_as in group
        )
        for group in campaign.together
    ]
    return sum(alone) + sum(groups)


def _model_size(campaign: Campaign, model: Model, member: GroupMember) -> int:
    total = 0
    variants: list[NamedVariant | None] = [*campaign.variants.values()]
    for own in variants or [None]:
        for axes in products(model, axes_of(campaign, model, own, member)):
            # Axes that do not fit together are reported when the grid is expanded.
            with contextlib.suppress(ValueError):
                factors = axis_product.make_factors(axes, zipped_fields(campaign))
                total += math.prod(len(factor.rows) for factor in factors)
    return total


def check_size(campaign: Campaign, *, yes: bool) -> None:
    """Check that somebody wants a grid of this size.

    Parameters
    ----------
    campaign
        The campaign.
    yes
        Whether the user says so.

    Raises
    ------
    BadInput
        The grid is larger than `MOST_POINTS`, and nobody said that it is meant.
    """
    size = grid_size(campaign)
    if size > MOST_POINTS and not yes:
        raise BadInput(
            f"{campaign.source}: its axes have {size:,} combinations, more than {MOST_POINTS:,}",
            "give fewer values, or join axes with zip; if it is meant, repeat with --yes",
        )
