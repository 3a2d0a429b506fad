"""The campaign file: one study, described once. Every list in it is an axis."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PrivateAttr,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from hpcbench.config import yaml_model
from hpcbench.config.load_axes import Axis, Load, Measurement
from hpcbench.config.point_rules import AXIS_NAMES, PointRule, Reference
from hpcbench.config.server_axes import Server
from hpcbench.config.values import Count, Label, Name
from hpcbench.config.yaml_model import FileSection
from hpcbench.errors import did_you_mean

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


class NamedVariant(Server, Load, Measurement):
    """Values of any axes, which replace the campaign's in the variant of this name."""


class GroupMember(FileSection):
    """A model in a group that shares a server.

    Attributes
    ----------
    server, load
        Axes that replace the model's in this group.
    """

    server: Server | None = None
    load: Load | None = None


class Campaign(FileSection):
    """One study: models, the grid of their axes, and how to measure it.

    Written in Python, ``server=`` takes a `Server` and ``load=`` a `Load`, like the keys of the
    file. `Campaign.load` is something else: it reads a file.

    Attributes
    ----------
    name
        The name of the study, in records and in the results folder.
    model_repository
        The folder with the models.
    models
        The models that are measured.
    server_axes
        Axes that need another Triton configuration.
    load_axes
        Axes that are swept against one server.
    measurement
        How perf_analyzer measures.
    variants
        Values of axes by the name of a variant.
    zip
        Groups of axes whose values go together instead of being multiplied.
    exclude
        Combinations to leave out.
    together
        Groups of models that share a server and are measured at the same time.
    repeats
        How often each point is measured.
    compare_outputs
        What the outputs of all models are compared with.
    references
        What is expected of points; no part of what a point is.
    fresh_servers
        Whether each placement has a Triton of its own; otherwise variants that differ only in
        scheduling follow each other on one.
    """

    name: Name
    model_repository: Annotated[Path, AfterValidator(yaml_model.absolute_path)]
    models: tuple[Model, ...]
    server_axes: Server = Field(default=Server(), alias="server")
    load_axes: Load = Field(default=Load(), alias="load")
    measurement: Measurement = Measurement()
    variants: dict[Label, NamedVariant] = Field(default={})
    zip: tuple[tuple[str, ...], ...] = ()
    exclude: tuple[PointRule, ...] = ()
    together: tuple[dict[Label, GroupMember], ...] = ()
    repeats: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    compare_outputs: CompareOutputs | None = None
    references: tuple[Reference, ...] = ()
    fresh_servers: Annotated[bool, Field(strict=True)] = True

    _source: str = PrivateAttr(default="campaign")

    def comparison_of(self, model: Model) -> CompareOutputs | None:
        """Return what the outputs of a model are compared with.

        Parameters
        ----------
        model
            One of the campaign's.

        Returns
        -------
        CompareOutputs or None
            Its own, else the campaign's; None for nothing.
        """
        return model.compare_outputs or self.compare_outputs

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
                    raise ValueError(f"the axis '{name}' appears in it twice")
                seen.add(name)
            if len(group) < 2:
                raise ValueError(
                    "each item is a list of two axes or more, e.g. [[batch_size, concurrency]]"
                )
        return groups

    @field_validator("exclude", mode="after")
    @classmethod
    def _rules_name_something(cls, rules: tuple[PointRule, ...]) -> Any:
        if any(not rule.values_by_axis for rule in rules):
            raise ValueError("a rule names no axis: it would exclude everything")
        return rules

    @model_validator(mode="after")
    def _labels_are_unlike(self) -> "Campaign":
        if not self.models:
            raise ValueError("models: is empty; name at least one")
        labels = [model.shown_as for model in self.models]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(
                f"models: two models are called {', '.join(twice)} in figures; give each a label "
                "of its own"
            )
        return self

    @model_validator(mode="after")
    def _models_need_others_alike(self) -> "Campaign":
        needs = {model.name: set(model.needs) for model in self.models}
        for model in self.models:
            if model.name in model.needs:
                raise ValueError(f"models: '{model.name}' needs itself; leave it out of its needs")
            if needs[model.name] != set(model.needs):
                raise ValueError(
                    f"models: '{model.name}' is named twice and needs other models each time; "
                    "give both the same needs"
                )
        return self

    @model_validator(mode="after")
    def _rules_name_what_there_is(self) -> "Campaign":
        rules = {f"exclude[{number}]": rule for number, rule in enumerate(self.exclude)}
        for number, reference in enumerate(self.references):
            rules[f"references[{number}].points"] = reference.points
        labels = [model.shown_as for model in self.models]
        known = {*labels, *(model.name for model in self.models)}
        for where, rule in rules.items():
            for name in rule.model:
                if name not in known:
                    raise ValueError(
                        f"{where}: there is no model '{name}';"
                        f"{did_you_mean(name, known)} the models: {', '.join(labels)}"
                    )
            concerned = [each for each in self.models if rule.is_about(each.name, each.label)]
            shapes = list(dict.fromkeys(n for m in concerned for n in m.shape_sets if n))
            of = f" of {', '.join(rule.model)}" if rule.model else ""
            for name in rule.shapes:
                if name not in shapes:
                    there = f"the names: {', '.join(shapes)}" if shapes else "none has a name"
                    raise ValueError(
                        f"{where}: no shapes{of} are called '{name}';"
                        f"{did_you_mean(name, shapes)} {there}"
                    )
        return self

    @model_validator(mode="after")
    def _groups_can_share_a_server(self) -> "Campaign":
        names = {model.shown_as: model.name for model in self.models}
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
            images = {m.server_image for m in self.models if m.shown_as in group}
            if len(images) > 1:
                raise ValueError(
                    f"{where}: a server runs in one image, and these models name several in "
                    "server_image; leave out those that need another"
                )
        return self

    @classmethod
    def load(cls, path: str | Path) -> "Campaign":
        """Read a campaign file.

        Parameters
        ----------
        path
            The file.

        Returns
        -------
        Campaign
            Its content.

        Raises
        ------
        BadInput
            With every mistake: line, key, what is allowed, and the nearest right spelling.
        """
        campaign = yaml_model.load_yaml(Path(path), cls)
        campaign.read_from(path)
        return campaign

    def read_from(self, path: str | Path) -> None:
        """Note the file for messages.

        Parameters
        ----------
        path
            The file that the campaign was read from.
        """
        self._source = str(path)
