"""Expands a campaign into points with stable ids: pure functions on plain data."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hpcbench import server_axes
from hpcbench.campaign import Campaign, Model
from hpcbench.errors import BadInput
from hpcbench.load_axes import Load, LoadVariant, Measurement
from hpcbench.model import TritonModel
from hpcbench.server_axes import Server
from hpcbench.server_values import Setting
from hpcbench.textfile import nearest


@dataclass(frozen=True, kw_only=True)
class ServerVariant:
    """One Triton configuration: a model of the repository and what is changed in it.

    ``position`` is the model's place in the campaign, which figures keep to, ``server_image``
    the site's name for another image than its usual one. ``changes`` holds (axis, value) of each
    axis that is not left as the model's own config.pbtxt has it.
    """

    model: TritonModel
    label: str
    position: int
    version: int | None
    server_image: str | None = None
    changes: tuple[tuple[str, Setting], ...]

    @property
    def axes(self) -> dict[str, Setting]:
        """The server axes by name that the campaign changes."""
        return dict(self.changes)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One element of the grid: a server variant and a load on it."""

    id: str
    variant: ServerVariant
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    load: LoadVariant


@dataclass(frozen=True)
class Grid:
    """The points of a campaign, and how many combinations fell onto an equal one."""

    points: tuple[Point, ...]
    merged: int


def expand(
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
    for position, model in enumerate(campaign.models):
        triton_model = models[model.name]
        server = _narrowed(campaign.server_axes, model.server)
        load = _narrowed(campaign.load_axes, model.load)
        measurement = _narrowed(campaign.measurement, model.measurement)
        found = _problems(campaign, model, triton_model, server, load, measurement)
        problems |= dict.fromkeys(found)
        if found:
            continue
        shapes = tuple(sorted((name, tuple(dims)) for name, dims in model.shapes.items()))
        loads = list(_loads(load, measurement, input_data))
        combinations += math.prod(map(len, server.axes.values())) * len(loads)
        for variant in _variants(model, triton_model, server, position):
            for each in loads:
                point = Point(
                    id=_id(variant, shapes, each, software[model.server_image]),
                    variant=variant,
                    shapes=shapes,
                    load=each,
                )
                same = points.setdefault(point.id, point)
                if same.variant.label != variant.label:
                    other = same.variant.label
                    problem = (
                        f"the same points as {other!r}; change shapes or axes, or leave it out"
                    )
                    problems[f"{campaign.source}: model {variant.label!r}: {problem}"] = None
    if problems:
        raise BadInput("\n".join(problems))
    return Grid(points=tuple(points.values()), merged=combinations - len(points))


def _narrowed(axes: Any, override: Any) -> Any:
    """The campaign's axes with those that the model sets itself in their place."""
    if override is None:
        return axes
    given = {name: getattr(override, name) for name in override.model_fields_set}
    return axes.model_copy(update=given)


def _variants(
    model: Model, triton_model: TritonModel, server: Server, position: int
) -> list[ServerVariant]:
    variants: dict[ServerVariant, None] = {}
    for values in itertools.product(*server.axes.values()):
        asked = dict(zip(server.axes, values, strict=True))
        variant = ServerVariant(
            model=triton_model,
            label=model.label or model.name,
            position=position,
            version=model.version,
            server_image=model.server_image,
            changes=tuple(server_axes.changes(asked).items()),
        )
        variants[variant] = None
    return list(variants)


def _loads(
    load: Load, measurement: Measurement, input_data: Mapping[str, str]
) -> Iterator[LoadVariant]:
    """A variant for each combination: first the closed loops, then the open ones."""
    axes = {**load.axes, **measurement.axes}
    closed = axes | {"request_rate": (None,), "request_distribution": (None,)}
    opened = axes | {"concurrency": (None,)}
    only_open = load.request_rate and "concurrency" not in load.model_fields_set
    # Without a rate, the product of the open loops is empty.
    for loops in (opened,) if only_open else (closed, opened):
        for values in itertools.product(*loops.values()):
            asked = dict(zip(loops, values, strict=True))
            if asked["measurement_mode"] == "time_windows":
                asked["measurement_request_count"] = None
            yield LoadVariant(**asked, input_data_digest=input_data.get(asked["input_data"]))


def _problems(
    campaign: Campaign,
    model: Model,
    triton_model: TritonModel,
    server: Server,
    load: Load,
    measurement: Measurement,
) -> list[str]:
    """What this model cannot take, each with key, value and what is allowed."""
    where = f"{campaign.source}: model '{model.name}'"
    own = triton_model.max_batch_size
    largest = server_axes.largest_batch(server, own)
    known = triton_model.inputs is not None
    batching = triton_model.dynamic_batching if known else None
    found = [
        f"{where}: {told}" for told in server_axes.problems(server, limit=own, batching=batching)
    ]
    if largest is not None:
        allowed = max(1, largest)
        found += [
            f"{where}: load.batch_size: {size} is over its max_batch_size; allowed: 1 to {allowed}"
            + ("" if own else " (max_batch_size is 0: the model has no batch dimension)")
            for size in load.batch_size
            if size > allowed
        ]
    if model.version is not None and model.version not in triton_model.versions:
        found.append(
            f"{where}: version: {model.version} is not there; "
            f"it has: {', '.join(map(str, triton_model.versions))}"
        )
    if triton_model.inputs is not None:
        # A data file brings its own shapes; a folder is looked at where it lies.
        from_file = not {"random", "zero"} & set(measurement.input_data)
        found += _shape_problems(where, model, dict(triton_model.inputs), from_file)
    return found


def _shape_problems(
    where: str, model: Model, inputs: Mapping[str, tuple[int, ...]], from_file: bool
) -> list[str]:
    found = [
        f"{where}: shapes: it has no input '{name}';{nearest(name, inputs)} "
        f"its inputs: {', '.join(inputs)}"
        for name in model.shapes
        if name not in inputs
    ]
    for name, dims in inputs.items():
        given = model.shapes.get(name)
        if given is None:
            if -1 in dims and not from_file:
                found.append(
                    f"{where}: shapes: input '{name}' has dims {list(dims)}; say how long it is, "
                    f"e.g. shapes: {{{name}: {[50 if d == -1 else d for d in dims]}}}"
                )
        elif len(given) != len(dims) or any(
            d not in (-1, g) for d, g in zip(dims, given, strict=True)
        ):
            found.append(
                f"{where}: shapes: input '{name}' has dims {list(dims)}, given: {list(given)}; "
                "only a -1 may be replaced, and the batch dimension is left out"
            )
    return found


def _id(
    variant: ServerVariant,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    load: LoadVariant,
    image: str,
) -> str:
    """A hash of what defines a point, less whatever is as it is by default.

    So an axis that is added later moves no id, as long as its default changes nothing.
    """
    served = {
        "model": variant.model.name,
        "digest": variant.model.digest,
        "version": variant.version,
        "changes": variant.axes,
        "shapes": shapes,
        "image": image,
    }
    text = _text({name: value for name, value in served.items() if value not in (None, {}, ())})
    return hashlib.sha256(f"{text}{_text(load.identity)}".encode()).hexdigest()[:16]


def _text(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True, separators=(",", ":"))
