"""One element of the grid, the server that it is measured on, and what an id is made of."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcbench.config.campaign import Dims
from hpcbench.config.load_axes import LoadVariant
from hpcbench.config.server_values import Setting
from hpcbench.plan.model import TritonModel

Shapes = tuple[tuple[str, Dims], ...]


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
    """One element of the grid: a server variant and a load on it.

    ``shapes`` are the lengths of inputs without the batch dimension. The names are those that
    the campaign gives to shapes and to a variant, if any: they are no part of the id.
    ``co_located`` is what else the same server holds: a Point for a load that runs at the same
    time, a ServerVariant that is loaded and idle. ``together_id`` is shared by
    points that are measured in one go, None for a point that is measured alone.
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
        """All that its server holds, in the order of the campaign."""
        others = (b.variant if isinstance(b, Point) else b for b in self.co_located)
        return tuple(sorted((self.variant, *others), key=lambda variant: variant.position))

    @property
    def batch_in_shapes(self) -> bool:
        """Whether the batch is a length of the inputs: the model has no batch dimension."""
        return self.variant.model.max_batch_size == 0

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


def server_identity(variant: ServerVariant, image: str) -> dict[str, Any]:
    """What defines a server, less whatever is as it is by default.

    So an axis that is added later moves no id, as long as its default changes nothing.
    """
    whole = {
        "model": variant.model.name,
        "digest": variant.model.digest,
        "version": variant.version,
        "changes": variant.axes,
        "image": image,
    }
    return {name: value for name, value in whole.items() if value not in (None, {})}


def hash_id(*texts: str) -> str:
    """An id for what these texts define."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def canonical_json(described: Mapping[str, Any]) -> str:
    """The same text for the same content."""
    return json.dumps(described, sort_keys=True, separators=(",", ":"))
