"""The campaign file: one study, described once. Every list in it is an axis."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from hpcbench.config import yaml_model
from hpcbench.config.load_axes import Axis, Load, Measurement
from hpcbench.config.server_axes import Server
from hpcbench.config.yaml_model import Count, Frozen, Label, Name, as_axis, did_you_mean

Dims = tuple[int, ...]


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


def _texts(value: Any) -> Any:
    return tuple(str(each) if type(each) is int else each for each in as_axis(value))


Shapes = dict[
    str,
    Annotated[tuple[Count, ...], WrapValidator(_dims_or_named)],
]


class Model(Frozen):
    """One model of the repository. ``server``, ``load`` and ``measurement`` override axes.

    ``shapes`` are the lengths of the inputs, or several such mappings by their names: an axis.
    ``server_image`` names one of the site's ``server_images``, for a model that its usual
    ``server_image`` does not serve.
    """

    name: Name
    label: Label | None = None
    version: Axis[Count | None] = (None,)
    server_image: Name | None = None
    shapes: Annotated[Shapes, BeforeValidator(_named)] = Field(default={})
    server: Server | None = None
    load: Load | None = None
    measurement: Measurement | None = None

    @model_validator(mode="after")
    def _shapes_are_of_one_kind(self) -> "Model":
        kinds = {isinstance(value, dict) for value in self.shapes.values()}
        if len(kinds) > 1:
            raise ValueError(
                "shapes: has both inputs with their lengths and names of several shapes; below "
                "a name, give the lengths of all inputs"
            )
        return self

    @property
    def shape_sets(self) -> dict[str | None, dict[str, Dims]]:
        """The lengths of the inputs for each name of the axis; None is that of no name."""
        given: dict[Any, Any] = dict(self.shapes)
        named = any(isinstance(value, dict) for value in given.values())
        return given if named else {None: given}


class Variant(Server, Load, Measurement):
    """Values of any axes: those that a named variant has in place of the campaign's."""


class ExcludeRule(Variant):
    """Values of any axes: combinations that have one of each are excluded."""

    model: Annotated[tuple[Name | Label, ...], BeforeValidator(_texts)] = ()
    version: Axis[Count | None] = ()
    shapes: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()

    @property
    def values_by_axis(self) -> dict[str, tuple[Any, ...]]:
        """The values by axis, of those axes that it names."""
        return {
            name: getattr(self, name)
            for name in ExcludeRule.model_fields
            if name in self.model_fields_set
        }

    def applies_to(self, model: Model) -> bool:
        """Whether it is about this model: it names it, or none."""
        return not self.model or not {model.name, model.label}.isdisjoint(self.model)


AXIS_NAMES = {
    (info.alias or name): name for name, info in ExcludeRule.model_fields.items() if name != "model"
}
"""The axes as a file calls them, and the fields that hold them."""


class GroupMember(Frozen):
    """A model in a group that shares a server. ``server`` and ``load`` override its axes there."""

    server: Server | None = None
    load: Load | None = None


class Campaign(Frozen):
    """One study: models, the grid of their axes, and how to measure it.

    Written in Python, ``server=`` and ``load=`` take a Server and a Load, as the keys of the
    file do; ``Campaign.load`` is the function that reads a file.
    """

    name: Name
    model_repository: Annotated[Path, AfterValidator(yaml_model.absolute_path)]
    models: tuple[Model, ...]
    server_axes: Server = Field(default=Server(), alias="server")
    load_axes: Load = Field(default=Load(), alias="load")
    measurement: Measurement = Measurement()
    variants: dict[Label, Variant] = Field(default={})
    zip: tuple[tuple[str, ...], ...] = ()
    exclude: tuple[ExcludeRule, ...] = ()
    together: tuple[dict[Label, GroupMember], ...] = ()
    repeats: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    fresh_servers: Annotated[bool, Field(strict=True)] = True

    _source: str = PrivateAttr(default="campaign")

    @property
    def source(self) -> str:
        """The file it was read from, for messages."""
        return self._source

    @field_validator("zip", mode="after")
    @classmethod
    def _axes_are_zipped_once(cls, groups: tuple[tuple[str, ...], ...]) -> Any:
        seen: set[str] = set()
        for group in groups:
            for name in group:
                if name not in AXIS_NAMES:
                    raise ValueError(
                        f"there is no axis '{name}';{did_you_mean(name, AXIS_NAMES)} the axes: "
                        f"{', '.join(AXIS_NAMES)}"
                    )
                if name in seen:
                    raise ValueError(f"the axis '{name}' stands in it twice")
                seen.add(name)
            if len(group) < 2:
                raise ValueError(
                    "each item is a list of two axes or more, e.g. [[batch_size, concurrency]]"
                )
        return groups

    @field_validator("exclude", mode="after")
    @classmethod
    def _rules_name_something(cls, rules: tuple[ExcludeRule, ...]) -> Any:
        if any(not rule.values_by_axis for rule in rules):
            raise ValueError("a rule names no axis: it would exclude everything")
        return rules

    @model_validator(mode="after")
    def _models_can_be_told_apart(self) -> "Campaign":
        if not self.models:
            raise ValueError("models: is empty; name at least one")
        labels = [model.label or model.name for model in self.models]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(
                f"models: two models are called {', '.join(twice)} in figures; give each a label "
                "of its own"
            )
        return self

    @model_validator(mode="after")
    def _rules_name_what_there_is(self) -> "Campaign":
        labels = [model.label or model.name for model in self.models]
        known = {*labels, *(model.name for model in self.models)}
        for number, rule in enumerate(self.exclude):
            for name in rule.model:
                if name not in known:
                    raise ValueError(
                        f"exclude[{number}]: there is no model '{name}';"
                        f"{did_you_mean(name, known)} the models: {', '.join(labels)}"
                    )
            concerned = [model for model in self.models if rule.applies_to(model)]
            shapes = list(dict.fromkeys(n for m in concerned for n in m.shape_sets if n))
            of = f" of {', '.join(rule.model)}" if rule.model else ""
            for name in rule.shapes:
                if name not in shapes:
                    there = f"the names: {', '.join(shapes)}" if shapes else "none has a name"
                    raise ValueError(
                        f"exclude[{number}]: no shapes{of} are called '{name}';"
                        f"{did_you_mean(name, shapes)} {there}"
                    )
        return self

    @model_validator(mode="after")
    def _groups_can_share_a_server(self) -> "Campaign":
        names = {model.label or model.name: model.name for model in self.models}
        for number, group in enumerate(self.together):
            where = f"together[{number}]"
            for label in group:
                if label not in names:
                    raise ValueError(
                        f"{where}: no model is called '{label}';{did_you_mean(label, names)} "
                        f"the models: {', '.join(names)}"
                    )
            if len(group) < 2:
                raise ValueError(f"{where}: name at least two models, which share a server")
            served = [names[label] for label in group]
            twice = sorted({name for name in served if served.count(name) > 1})
            if twice:
                raise ValueError(
                    f"{where}: a server holds a model once, and two of these are {', '.join(twice)}"
                    " of the repository; leave one out"
                )
            images = {m.server_image for m in self.models if (m.label or m.name) in group}
            if len(images) > 1:
                raise ValueError(
                    f"{where}: a server runs in one image, and these models name several in "
                    "server_image; leave out those that need another"
                )
        return self

    @classmethod
    def load(cls, path: str | Path) -> "Campaign":
        """Reads a campaign file; raises BadInput with every mistake in it."""
        campaign = yaml_model.load_yaml(Path(path), cls)
        campaign._source = str(path)  # noqa: SLF001 - of this very class
        return campaign
