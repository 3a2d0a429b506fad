"""The grid: a campaign becomes points with stable ids. Pure functions on plain data."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

from hpcbench.config import load_axes, server_axes
from hpcbench.config.campaign import Campaign, GroupMember, NamedVariant
from hpcbench.config.load_axes import LoadVariant
from hpcbench.config.model import Model
from hpcbench.config.values import BASE
from hpcbench.errors import BadInput
from hpcbench.plan import axis_product, grid_axes, model_limits
from hpcbench.plan.arrivals import Intervals
from hpcbench.plan.axis_product import Combination, Factor
from hpcbench.plan.digest import hash_id
from hpcbench.plan.model import TritonModel
from hpcbench.plan.point import (
    OutputComparison,
    Point,
    ServerVariant,
    Shapes,
    canonical_json,
    server_identity,
)

V = TypeVar("V")

_Files = tuple[Mapping[str, str], Mapping[str, Mapping[str, Any]]]
"""By their paths: the digests of the data files, the columns of those with intervals."""


@dataclass(frozen=True)
class Grid:
    """The points of a campaign, and what became of the other combinations.

    Attributes
    ----------
    points
        All points, in the order of the campaign.
    merged
        Number of combinations that equal another one.
    excluded
        (rule of ``exclude``, number of combinations that it excludes).
    no_effect
        Warnings about parts of the campaign that change nothing.
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
    intervals: Mapping[str, Intervals] | None = None,
) -> Grid:
    """Expand a campaign into its points.

    Parameters
    ----------
    campaign
        The campaign.
    models
        The models of the repository by their names.
    software
        Digests of what serves and measures, by the name of the server image; None is the site's
        default.
    input_data
        Digests of the data files by their paths.
    intervals
        The files of ``request_intervals`` by their paths.

    Returns
    -------
    Grid
        The points in the order of the campaign.

    Raises
    ------
    BadInput
        Everything that a model cannot take, or nothing is left to measure.
    """
    replayed = {path: each.columns for path, each in (intervals or {}).items()}
    points: dict[str, Point] = {}
    problems: dict[str, None] = {}  # keeps the order, and says each only once
    combinations = 0
    dropped = [0] * len(campaign.exclude)
    all_parts: list[tuple[Model, Sequence[Factor]]] = []
    singles = [(None, {model.shown_as: GroupMember()}) for model in campaign.models]
    for number, group in [*singles, *enumerate(campaign.together)]:
        members: dict[str, list[Point]] = {}
        image = ""
        for position, model in enumerate(campaign.models):
            label = model.shown_as
            if label in group:
                # The campaign makes sure that all models of a group have the same image.
                image = software[model.server_image]
                parts = list(_parts(campaign, models, input_data, position, group[label]))
                all_parts += [(model, part.factors) for part in parts]
                problems |= dict.fromkeys(p for part in parts for p in part.problems)
                members[label] = [
                    point
                    for part in parts
                    if not part.problems
                    for point in _points(part, campaign, dropped, image, (input_data, replayed))
                ]
        if number is not None:
            where = f"{campaign.source}: together[{number}]"
            problems |= dict.fromkeys(_co_location_problems(where, members))
        if problems:
            continue  # look for more of them, but expand nothing that will not be used
        alone = itertools.chain.from_iterable(members.values())
        shared = _co_located_points([*members.values()], image)
        for point in alone if number is None else shared:
            combinations += 1
            # Different combinations may mean the same, e.g. a delay without dynamic batching. The
            # first one stays. Equal points of two models are an error: figures could not tell them
            # apart.
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
        no_effect=tuple(axis_product.no_effect_warnings(campaign, all_parts, dropped)),
    )


def _co_located_points(members: Sequence[Sequence[Point]], image: str) -> Iterator[Point]:
    """Yield all points on servers that hold several models: each alone, then all at once."""
    by_variant: list[dict[ServerVariant, dict[str, Point]]] = []
    for points in members:
        found: dict[ServerVariant, dict[str, Point]] = {}
        for point in points:
            found.setdefault(point.variant, {})[point.id] = point
        by_variant.append(found)
    for served in itertools.product(*by_variant):
        own = [found[variant].values() for found, variant in zip(by_variant, served, strict=True)]
        # The others are loaded, but idle: that shows what sharing costs without their load.
        for number, alone in enumerate(own):
            idle = (*served[:number], *served[number + 1 :])
            texts = [server_identity(variant, image) for variant in idle]
            for point in alone:
                yield replace(point, id=hash_id(point.id, *texts), co_located=idle)
        for loaded in itertools.product(*own):
            together_id = hash_id(*(point.id for point in loaded))
            # One point per model: each has its own record, with the others in it.
            for number, point in enumerate(loaded):
                others = (*loaded[:number], *loaded[number + 1 :])
                yield replace(
                    point,
                    id=hash_id(point.id, *(other.id for other in others)),
                    co_located=others,
                    together_id=together_id,
                )


def _co_location_problems(where: str, members: Mapping[str, Sequence[Point]]) -> list[str]:
    """Return why the models of a group, by their labels, cannot be measured on one server."""
    kinds = {each.load.shared_memory for points in members.values() for each in points} - {"none"}
    nothing = [
        f"{where}: exclude leaves no point of '{label}' to measure with the others; change the "
        "rule, or leave the group out"
        for label, points in members.items()
        if not points
    ]
    searches = [
        f"{where}: load.capacity of '{label}': a search loads one model, at many rates; give the "
        "models of a group a concurrency, a request_rate or request_intervals"
        for label, points in members.items()
        if any(each.load.is_search for each in points)
    ]
    memory = [
        f"{where}: measurement.shared_memory: {kind} cannot be used for models that are measured "
        "at the same time: perf_analyzer is stopped while it works, and would leave its shared "
        "memory behind; allowed: none"
        for kind in sorted(kinds)
    ]
    return nothing + searches + memory


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A part of the grid that is one product: of one model, one named variant, one kind of loop."""

    model: Model
    triton_model: TritonModel
    position: int
    variant_name: str | None
    factors: Sequence[Factor]
    problems: Sequence[str]
    compared: OutputComparison | None


def _parts(
    campaign: Campaign,
    models: Mapping[str, TritonModel],
    input_data: Mapping[str, str],
    position: int,
    member: GroupMember,
) -> Iterator[_Part]:
    variants: list[tuple[str | None, NamedVariant | None]] = [*campaign.variants.items()]
    model = campaign.models[position]
    for name, own in variants or [(None, None)]:
        axes_of = grid_axes.axes_of(campaign, model, own, member)
        where = f"{campaign.source}: model '{model.name}'"
        found = model_limits.model_problems(
            model, models[model.name], axes_of.server, axes_of.load, axes_of.measurement
        )
        problems = [f"{where}: {problem}" for problem in found]
        # Closed and open loops are products of their own: they have different axes.
        for axes in grid_axes.products(model, axes_of):
            factors: list[Factor] = []
            try:
                factors = axis_product.make_factors(axes, grid_axes.zipped_fields(campaign))
            except ValueError as error:
                problems.append(f"{where}: zip: {error}")
            yield _Part(
                model=model,
                triton_model=models[model.name],
                position=position,
                variant_name=name,
                factors=factors,
                problems=problems,
                compared=_comparison(campaign, models, input_data, model),
            )


def _comparison(
    campaign: Campaign,
    models: Mapping[str, TritonModel],
    input_data: Mapping[str, str],
    model: Model,
) -> OutputComparison | None:
    asked = campaign.comparison_of(model)
    if asked is None:
        return None
    return OutputComparison(
        reference=models[asked.reference or model.name],
        inputs=str(asked.inputs),
        digest=input_data[str(asked.inputs)],
        events=asked.events,
    )


def _points(
    part: _Part,
    campaign: Campaign,
    dropped: list[int],
    image: str,
    files: _Files,
) -> Iterator[Point]:
    """Yield the points of a part; each server variant and each load of it is made once."""
    # A rule about other models excludes nothing here: no value is in an empty list.
    rules = [
        rule.values_by_axis if rule.is_about(part.model.name, part.model.label) else {"version": ()}
        for rule in campaign.exclude
    ]
    # Which models a rule is about has been answered; the model is no axis.
    for rule in rules:
        rule.pop("model", None)
    names = {name for factor in part.factors for name in factor.names}
    # What stays as the model has it changes no variant.
    kept = {name for f in part.factors for name in f.names if f.rows == ((BASE,),)}
    strings = model_limits.has_strings(part.triton_model)
    # Axes of the server come before all others, so the last one varies slowest: points of a server
    # follow each other, and of a million servers only the last one is remembered.
    variant_of = _cached(
        part.factors,
        grid_axes.SERVER_NAMES & names - kept,
        partial(_variant, part, image, campaign.server_flags),
        most=1,
    )
    load_of = _cached(
        part.factors, names - grid_axes.SERVER_NAMES, partial(_load, part, files, strings)
    )
    for combination in axis_product.allowed_combinations(part.factors, rules, dropped):
        variant, variant_text = variant_of(combination)
        load, shapes, shapes_name, load_text = load_of(combination)
        yield Point(
            id=hash_id(variant_text + load_text),
            variant=variant,
            shapes=shapes,
            load=load,
            shapes_name=shapes_name,
            variant_name=part.variant_name,
        )


def _variant(
    part: _Part, image: str, flags: tuple[str, ...], values: Mapping[str, Any]
) -> tuple[ServerVariant, str]:
    """Return a server variant, and the part of a point's identity that it is."""
    variant = ServerVariant(
        model=part.triton_model,
        label=part.model.shown_as,
        position=part.position,
        version=values["version"],
        server_image=part.model.server_image,
        flags=flags,
        changes=tuple(server_axes.config_changes(values).items()),
        compared=part.compared,
    )
    return variant, server_identity(variant, image)


def _load(
    part: _Part, files: _Files, strings: bool, values: Mapping[str, Any]
) -> tuple[LoadVariant, Shapes, str | None, str]:
    """Return a load, its shapes with their name, and the part of the identity that they are."""
    name = values["shapes"]
    lengths = model_limits.input_lengths(part.triton_model, part.model.shape_sets[name])
    shapes = tuple(sorted(lengths.items()))
    settings = {key: value for key, value in values.items() if key != "shapes"}
    input_data, replayed = files
    load = load_axes.load_variant(
        settings,
        input_data_digest=input_data.get(values["input_data"]),
        strings=strings,
        replayed=replayed.get(values["request_intervals"]),
    )
    text = canonical_json({"shapes": shapes} if shapes else {}) + canonical_json(load.identity)
    return load, shapes, name, text


def _cached(
    factors: Sequence[Factor],
    names: AbstractSet[str],
    make: Callable[[Mapping[str, Any]], V],
    most: int | None = None,
) -> Callable[[Combination], V]:
    """Return ``make`` as a function of combinations, called once for the same values of its axes.

    Most points share their server variant or their load with others, and making either is what
    takes the time of a large grid. The last ``most`` are remembered; all by default.
    """
    concerned = {
        place: axis_product.narrowed(factor, names)
        for place, factor in enumerate(factors)
        if not names.isdisjoint(factor.names)
    }
    # A factor of one row is the same in all combinations.
    fixed = [factor for factor in concerned.values() if len(factor.rows) == 1]
    same = axis_product.combination_values(fixed, (0,) * len(fixed))
    varying = {place: factor for place, factor in concerned.items() if len(factor.rows) > 1}
    parts = [*varying.values()]

    @lru_cache(maxsize=most)
    def of_rows(*numbers: int) -> V:
        return make(same | axis_product.combination_values(parts, numbers))

    return lambda combination: of_rows(*[combination[place] for place in varying])
