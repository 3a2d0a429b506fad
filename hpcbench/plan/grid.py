"""Several models on one server: the points of each alone, and of all at the same time.

Expands a campaign into points with stable ids: pure functions on plain data.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hpcbench.config import load_axes, server_axes
from hpcbench.config.campaign import AXIS_NAMES, Campaign, GroupMember, Model, Variant
from hpcbench.config.load_axes import LoadVariant
from hpcbench.config.server_axes import Server
from hpcbench.config.yaml_model import Axes
from hpcbench.errors import BadInput
from hpcbench.plan import applicability, axis_product
from hpcbench.plan.axis_product import Combination, Factor
from hpcbench.plan.model import TritonModel, hash_id
from hpcbench.plan.point import (
    Point,
    ServerVariant,
    Shapes,
    canonical_json,
    server_identity,
)


def co_located_points(members: Sequence[Sequence[Point]], image: str) -> Iterator[Point]:
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
            held = [canonical_json(server_identity(variant, image)) for variant in idle]
            for point in alone:
                yield replace(point, id=hash_id(point.id, *held), co_located=idle)
        for loaded in itertools.product(*own):
            together_id = hash_id(*(point.id for point in loaded))
            for number, point in enumerate(loaded):
                others = (*loaded[:number], *loaded[number + 1 :])
                yield replace(
                    point,
                    id=hash_id(point.id, *(other.id for other in others)),
                    co_located=others,
                    together_id=together_id,
                )


def co_location_problems(where: str, members: Mapping[str, Sequence[Point]]) -> list[str]:
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


A = TypeVar("A", bound=Axes)
V = TypeVar("V")


@dataclass(frozen=True)
class Grid:
    """The points of a campaign, and what became of the other combinations.

    ``merged`` fell onto an equal one; ``excluded`` holds (rule, how many it took) of each rule.
    ``no_effect`` says which parts of the campaign change nothing, and why.
    """

    points: tuple[Point, ...]
    merged: int
    excluded: tuple[tuple[str, int], ...] = ()
    no_effect: tuple[str, ...] = ()


def expand_grid(
    campaign: Campaign,
    models: Mapping[str, TritonModel],
    *,
    software: Mapping[str | None, str],
    input_data: Mapping[str, str],
) -> Grid:
    """All points of the campaign, in the order in which it was written.

    ``models`` maps the models' names to what was read of them, ``software`` the names of server
    images (None for the usual one) to what will serve and measure then, ``input_data`` the data
    files' paths to their digests.
    Raises BadInput with everything that a model cannot take.
    """
    points: dict[str, Point] = {}
    problems: dict[str, None] = {}
    combinations = 0
    dropped = [0] * len(campaign.exclude)
    every: list[tuple[Model, Sequence[Factor]]] = []
    single = [{model.label or model.name: GroupMember()} for model in campaign.models]
    for number, group in enumerate((*single, *campaign.together), -len(single)):
        members, labels, image = [], [], ""
        for position, model in enumerate(campaign.models):
            label = model.label or model.name
            if label in group:
                labels.append(label)
                image = software[model.server_image]
                parts = list(_parts(campaign, models, position, group[label]))
                every += [(model, part.factors) for part in parts]
                problems |= dict.fromkeys(problem for part in parts for problem in part.problems)
                members.append(_member(parts, campaign, dropped, image, input_data))
        if number >= 0:
            where = f"{campaign.source}: together[{number}]"
            told = co_location_problems(where, dict(zip(labels, members, strict=True)))
            problems |= dict.fromkeys(told)
        if problems:
            continue
        for point in co_located_points(members, image) if number >= 0 else members[0]:
            combinations += 1
            same = points.setdefault(point.id, point)
            if same.variant.position != point.variant.position:
                problem = (
                    f"the same points as {same.variant.label!r}; change shapes or axes, or leave "
                    "it out"
                )
                problems[f"{campaign.source}: model {point.variant.label!r}: {problem}"] = None
    if problems:
        raise BadInput("\n".join(problems))
    if not points:
        raise BadInput(f"{campaign.source}: exclude: nothing is left to measure")
    return Grid(
        points=tuple(points.values()),
        merged=combinations - len(points),
        excluded=tuple(
            (axis_product.rule_text(rule), count)
            for rule, count in zip(campaign.exclude, dropped, strict=True)
        ),
        no_effect=tuple(axis_product.no_effect_warnings(campaign, every, dropped)),
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A part of the grid that is one product: of one model, one named variant, one kind of loop."""

    model: Model
    triton_model: TritonModel
    position: int
    variant_name: str | None
    factors: Sequence[Factor]
    problems: Sequence[str]

    @property
    def label(self) -> str:
        return self.model.label or self.model.name


def _parts(
    campaign: Campaign, models: Mapping[str, TritonModel], position: int, member: GroupMember
) -> Iterator[_Part]:
    variants: list[tuple[str | None, Variant | None]] = [*campaign.variants.items()]
    model = campaign.models[position]
    for name, own in variants or [(None, None)]:
        server = _narrowed(campaign.server_axes, model.server, own, member.server)
        load = load_axes.override_load(campaign.load_axes, model.load, own, member.load)
        measurement = _narrowed(campaign.measurement, model.measurement, own)
        where = f"{campaign.source}: model '{model.name}'"
        found = applicability.model_problems(model, models[model.name], server, load, measurement)
        problems = [f"{where}: {problem}" for problem in found]
        for loop in load_axes.split_loops(load):
            axes = {
                "version": model.version,
                **server.axes,
                "shapes": tuple(model.shape_sets),
                **loop,
                **measurement.axes,
            }
            together = [[AXIS_NAMES[axis] for axis in group] for group in campaign.zip]
            factors: list[Factor] = []
            try:
                factors = axis_product.make_factors(axes, together)
            except ValueError as error:
                problems.append(f"{where}: zip: {error}")
            yield _Part(
                model=model,
                triton_model=models[model.name],
                position=position,
                variant_name=name,
                factors=factors,
                problems=problems,
            )


def _member(
    parts: Sequence[_Part],
    campaign: Campaign,
    dropped: list[int],
    image: str,
    input_data: Mapping[str, str],
) -> list[Point]:
    """All points of one model."""
    found: list[Point] = []
    for part in parts:
        if not part.problems:
            rules = [r if r.applies_to(part.model) else None for r in campaign.exclude]
            found += _points(part, rules, dropped, image, input_data)
    return found


def _narrowed(axes: A, *overrides: Axes | None) -> A:
    """The axes with those that a model, or a variant, sets itself in their place."""
    given = {
        name: getattr(override, name)
        for override in overrides
        if override is not None
        for name in type(axes).model_fields
        if name in override.model_fields_set
    }
    return axes.model_copy(update=given)


def _points(
    part: _Part,
    rules: Sequence[Any],
    dropped: list[int],
    image: str,
    input_data: Mapping[str, str],
) -> Iterator[Point]:
    """Its points; each server variant and each load of it is made once."""
    served = {"version", *Server.model_fields}
    # A rule about other models takes nothing: no value is in an empty list.
    given = [rule.values_by_axis if rule else {"version": ()} for rule in rules]
    for rule in given:
        rule.pop("model", None)

    def variant(asked: Mapping[str, Any]) -> tuple[ServerVariant, str]:
        axes = {name: asked[name] for name in Server.model_fields}
        made = ServerVariant(
            model=part.triton_model,
            label=part.label,
            position=part.position,
            version=asked["version"],
            server_image=part.model.server_image,
            changes=tuple(server_axes.config_changes(axes).items()),
        )
        return made, canonical_json(server_identity(made, image))

    strings = applicability.has_strings(part.triton_model)

    def load(asked: Mapping[str, Any]) -> tuple[LoadVariant, Shapes, str | None, str]:
        name = asked["shapes"]
        lengths = applicability.input_lengths(part.triton_model, part.model.shape_sets[name])
        shapes = tuple(sorted(lengths.items()))
        settings = {key: value for key, value in asked.items() if key != "shapes"}
        digest = input_data.get(asked["input_data"])
        made = load_axes.load_variant(settings, input_data_digest=digest, strings=strings)
        return (
            made,
            shapes,
            name,
            canonical_json({"shapes": shapes} if shapes else {}) + canonical_json(made.identity),
        )

    variant_of = _once(part.factors, lambda name: name in served, variant)
    load_of = _once(part.factors, lambda name: name not in served, load)
    for combination in axis_product.allowed_combinations(part.factors, given, dropped):
        made, served_text = variant_of(combination)
        asked, shapes, shapes_name, load_text = load_of(combination)
        yield Point(
            id=hash_id(served_text + load_text),
            variant=made,
            shapes=shapes,
            load=asked,
            shapes_name=shapes_name,
            variant_name=part.variant_name,
        )


def _once(
    factors: Sequence[Factor],
    concerned: Callable[[str], bool],
    make: Callable[[Mapping[str, Any]], V],
) -> Callable[[Combination], V]:
    """``make`` of the axes that are ``concerned``, called once for each of their combinations."""
    # A factor of one row is the same in all combinations.
    places = tuple(
        place
        for place, factor in enumerate(factors)
        if len(factor.rows) > 1 and any(map(concerned, factor.names))
    )
    made: dict[tuple[int, ...], V] = {}

    def cached_make(combination: Combination) -> V:
        key = tuple([combination[place] for place in places])
        found = made.get(key)
        if found is None:
            asked = axis_product.combination_values(factors, combination)
            found = make({name: value for name, value in asked.items() if concerned(name)})
            made[key] = found
        return found

    return cached_make
