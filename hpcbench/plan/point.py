"""One element of the grid, the server on which it is measured, and what their ids consist of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import starmap
from typing import Any

from hpcbench.config.load_axes import LoadVariant
from hpcbench.config.model import Dims
from hpcbench.config.server_values import Setting
from hpcbench.plan.model import TritonModel

Shapes = tuple[tuple[str, Dims], ...]
"""Names of inputs with their lengths."""

Request = tuple[Shapes, int]
"""The lengths of the inputs of a request, and its batch size."""


@dataclass(frozen=True, kw_only=True)
class OutputComparison:
    """What the outputs of a server are compared with.

    Attributes
    ----------
    reference
        The model whose outputs are right.
    inputs
        The JSON file with the events, as perf_analyzer reads it.
    digest
        Hash of that file.
    events
        How many of them.
    """

    reference: TritonModel
    inputs: str
    digest: str
    events: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerVariant:
    """One Triton configuration: a model of the repository and what the campaign changes in it.

    Attributes
    ----------
    model
        The model as it stands in the repository.
    label
        The model's name in figures and messages.
    position
        The model's place in the campaign, from 0. Figures keep this order.
    version
        The version to serve; None leaves the choice to the model's version policy.
    server_image
        The site's name for the server image; None for the site's default.
    flags
        Options of tritonserver besides hpcbench's own.
    changes
        (axis, value) of each server axis that differs from the model's own config.pbtxt.
    compared
        What its outputs are compared with; None for nothing.
    """

    model: TritonModel
    label: str
    position: int
    version: int | None
    server_image: str | None = None
    flags: tuple[str, ...] = ()
    changes: tuple[tuple[str, Setting], ...]
    compared: OutputComparison | None = None

    def __hash__(self) -> int:
        # Of what tells variants of a campaign apart, not of all: it may have a million of them.
        return hash((self.position, self.version, self.changes))

    @property
    def axes(self) -> dict[str, Setting]:
        """The values of the server axes that the campaign changes, by name."""
        return dict(self.changes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One element of the grid: a server variant and a load on it.

    Attributes
    ----------
    id
        Hash of everything that defines the point. Names are no part of it.
    variant
        The server variant that is measured.
    shapes
        Lengths of the inputs, without the batch dimension.
    load
        What perf_analyzer sends.
    shapes_name
        The campaign's name for the shapes; None where it gives none.
    variant_name
        The campaign's name for the variant; None where it gives none.
    co_located
        What else the same server holds: a Point for a load that runs at the same time, a
        ServerVariant that is loaded and idle.
    together_id
        Shared by all points that are measured at the same time; None for a point that is
        measured alone.
    """

    id: str
    variant: ServerVariant
    shapes: Shapes
    load: LoadVariant
    shapes_name: str | None = None
    variant_name: str | None = None
    co_located: tuple["Point | ServerVariant", ...] = ()
    together_id: str | None = None

    @property
    def served(self) -> tuple[ServerVariant, ...]:
        """All variants that the server holds, in the order of the campaign."""
        if not self.co_located:
            return (self.variant,)
        others = (b.variant if isinstance(b, Point) else b for b in self.co_located)
        return tuple(sorted((self.variant, *others), key=lambda variant: variant.position))

    @property
    def batch_in_shapes(self) -> bool:
        """Whether the batch is a length of the inputs: the model has no batch dimension."""
        return self.variant.model.max_batch_size == 0

    @property
    def columns(self) -> dict[str, Any]:
        """What its record, its rows in the plan and references know of it, by their columns."""
        return {
            "point_id": self.id,
            "together_id": self.together_id,
            "model_label": self.variant.label,
            "model_version": self.variant.version,
            "model_digest": self.variant.model.digest,
            "variant": json.dumps(self.variant.axes),
            "server_flags": json.dumps(self.variant.flags) if self.variant.flags else None,
            "variant_name": self.variant_name,
            "beside": json.dumps([*map(_co_located, self.co_located)]) if self.co_located else None,
            "shapes_name": self.shapes_name,
            **self.load.columns,
        }

    @property
    def lengths(self) -> Shapes:
        """The shapes as they are sent: with the batch where it is a length of the inputs."""
        if not self.batch_in_shapes:
            return self.shapes
        inputs = dict(self.variant.model.inputs or ())
        return tuple(
            (name, (self.load.batch_size, *dims) if len(dims) < len(inputs[name]) else dims)
            for name, dims in self.shapes
        )


def _co_located(each: Point | ServerVariant) -> dict[str, Any]:
    variant = each.variant if isinstance(each, Point) else each
    entry = {
        "model_label": variant.label,
        "model_digest": variant.model.digest,
        "model_version": variant.version,
        "variant": variant.axes,
    }
    if not isinstance(each, Point):
        return entry | {"load": None}  # loaded, but idle
    load = each.load
    amount = {"batch_size": load.batch_size, "concurrency": load.concurrency}
    return entry | {"shapes": dict(each.shapes), "load": amount | load.identity}


def server_identity(variant: ServerVariant, image: str) -> str:
    """Return canonical JSON of what defines a server, without whatever has its default value.

    So an axis that is added to hpcbench later changes no id, as long as its default changes
    nothing.

    Parameters
    ----------
    variant
        The server variant.
    image
        Digests of the software that serves and measures it.

    Returns
    -------
    str
        As `canonical_json` of the whole, put together from parts that other servers have, too.
    """
    model = variant.model
    same = _rest_of_identity(model.name, model.digest, variant.version, variant.flags, image)
    if not variant.changes:
        return f"{{{same}}}"
    # "changes" is the first of all keys.
    return f'{{"changes":{{{",".join(sorted(starmap(_entry, variant.changes)))}}},{same}}}'


@lru_cache
def _rest_of_identity(
    model: str, digest: str, version: int | None, flags: tuple[str, ...], image: str
) -> str:
    """Return what is the same for all variants of a model."""
    whole = {
        "model": model,
        "digest": digest,
        "version": version,
        "flags": flags or None,
        "image": image,
    }
    return canonical_json({k: value for k, value in whole.items() if value is not None})[1:-1]


# Typed: else 1 and true would be one key. A campaign of a million servers has a few values.
@lru_cache(maxsize=2**16, typed=True)
def _entry(axis: str, value: Setting) -> str:
    """Return one entry of a JSON object."""
    return canonical_json({axis: value})[1:-1]


def canonical_json(value: Mapping[str, Any]) -> str:
    """Return JSON that is the same string for equal content.

    Parameters
    ----------
    value
        Anything that JSON can hold.

    Returns
    -------
    str
        JSON with sorted keys and without spaces.
    """
    return _ENCODER.encode(value)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
"""Made once: json.dumps makes one for each call, which takes longer than to use it."""
