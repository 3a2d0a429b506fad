"""The items of ``models:`` in a campaign: models of the repository, and axes of their own."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from hpcbench.config import yaml_model
from hpcbench.config.load_axes import Axis, Load, Measurement
from hpcbench.config.server_axes import Server
from hpcbench.config.values import Count, Label, Name
from hpcbench.config.yaml_model import FileSection

Dims = tuple[int, ...]
"""The lengths of a tensor, without the batch dimension."""


def _dims_or_named(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, dict):
        return handler(value)
    for name, dims in value.items():
        whole = isinstance(dims, list | tuple) and all(type(d) is int and d >= 1 for d in dims)
        if not whole:
            raise ValueError(f"{name}: must be a list of whole numbers from 1, not {dims!r}")
    return {str(name): tuple(dims) for name, dims in value.items()}


def _named(value: Any) -> Any:
    """Names may look like numbers: ``shapes: {20: ...}``."""
    return {str(key): each for key, each in value.items()} if isinstance(value, dict) else value


Shapes = dict[
    str,
    Annotated[
        tuple[Count, ...],
        WrapValidator(_dims_or_named),
        # Below a name stands a mapping, which pydantic would warn of in the place of a tuple.
        PlainSerializer(lambda value: value, return_type=Any),
    ],
]


class CompareOutputs(FileSection):
    """Stored events whose outputs are compared with those of a reference.

    Attributes
    ----------
    inputs
        A JSON file of perf_analyzer, relative to the campaign file.
    events
        How many of its events are sent.
    reference
        A model of the repository whose outputs are right; None for the model itself, as it stands
        there.
    """

    inputs: Annotated[Path, AfterValidator(yaml_model.absolute_path)]
    events: Count = 100
    reference: Name | None = None


class Model(FileSection):
    """One model of the repository.

    Attributes
    ----------
    name
        Its folder in the repository.
    label
        Its name in figures and tables; ``name`` by default.
    version
        An axis of its versions; None for the server's choice.
    server_image
        One of the site's ``server_images``, for a model that the usual one cannot serve.
    needs
        Models of the repository that it calls without its config.pbtxt saying so, as models in
        Python do (business logic scripting). Each of its servers holds them, as they are.
    shapes
        The lengths of the inputs, without the batch dimension; or several such mappings by name,
        which are an axis.
    server, load, measurement
        Axes that replace the campaign's for this model.
    compare_outputs
        What its outputs are compared with, in place of the campaign's.
    """

    name: Name
    label: Label | None = None
    version: Axis[Count | None] = (None,)
    server_image: Name | None = None
    needs: tuple[Name, ...] = ()
    shapes: Annotated[Shapes, BeforeValidator(_named)] = Field(default={})
    server: Server | None = None
    load: Load | None = None
    measurement: Measurement | None = None
    compare_outputs: CompareOutputs | None = None

    @model_validator(mode="after")
    def _shapes_are_of_one_kind(self) -> "Model":
        kinds = {isinstance(value, dict) for value in self.shapes.values()}
        if len(kinds) > 1:
            raise ValueError(
                "shapes: mixes inputs with their lengths and names of several shapes; below a "
                "name, give the lengths of all inputs"
            )
        return self

    @property
    def shown_as(self) -> str:
        """Its name in figures and tables."""
        return self.label or self.name

    @property
    def shape_sets(self) -> dict[str | None, dict[str, Dims]]:
        """The lengths of the inputs by the name of the shapes; None where they have no name."""
        given: dict[Any, Any] = dict(self.shapes)
        named = any(isinstance(value, dict) for value in given.values())
        return given if named else {None: given}
