"""The campaign file: one study, described once. Every list in it is an axis."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from hpcbench.config import yaml_model
from hpcbench.config.load_axes import Load, Measurement, override_axes
from hpcbench.config.model import CompareOutputs, Model
from hpcbench.config.point_rules import AXIS_NAMES, PointRule, Reference
from hpcbench.config.server_axes import Server
from hpcbench.config.server_values import ServerFlag
from hpcbench.config.values import Label, Name
from hpcbench.config.yaml_model import FileSection
from hpcbench.errors import did_you_mean


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

    Written in Python, it has the keys of the file. Each axis takes a value or a list of values,
    and the grid is the product of all axes::

        Campaign(
            name="batch-scan",
            model_repository="models",
            models=[{"name": "tagger", "shapes": {"features": [20, 50]}}],
            server={"instance_count": [1, 2]},
            load={"batch_size": [1, 8, 64], "concurrency": 4},
            measurement={"measurement_interval_ms": 5000},
            repeats=3,
        )

    `Campaign.load` is something else: it reads a file. All axes, with their units, are attributes
    of `hpcbench.config.server_axes.Server`, `hpcbench.config.load_axes.Load` and `Measurement`.

    Attributes
    ----------
    name
        The name of the study, in records and in the results folder.
    model_repository
        The folder with the models; in Python, relative to the working folder.
    model_repositories
        Further folders with models, as several ``--model-repository`` of tritonserver.
    server_flags
        Options with which each Triton is started, besides hpcbench's own; part of what a point is.
    models
        The models that are measured; see `Model`.
    server_axes
        The key ``server``, see `Server`: axes that need another Triton configuration, such as
        ``instance_count``, ``max_queue_delay_us`` [us] and ``accelerator``.
    load_axes
        The key ``load``, see `Load`: axes that are swept against one server. ``batch_size``
        [inferences per request], and ``concurrency`` [requests in flight] or ``request_rate``
        [requests/s].
    measurement
        How perf_analyzer measures, see `Measurement`: ``measurement_interval_ms`` [ms],
        ``percentile`` [%], ``timeout_s`` [s], and others.
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
    model_repositories: tuple[Annotated[Path, AfterValidator(yaml_model.absolute_path)], ...] = ()
    server_flags: tuple[ServerFlag, ...] = ()
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

    def replace(self, **changes: Any) -> "Campaign":
        """Return the campaign with other values, which are checked.

        ``campaign.replace(load={"batch_size": [1, 64]}, repeats=3)`` keeps the other axes.

        Parameters
        ----------
        **changes
            New values by key of the file. ``server``, ``load`` and ``measurement`` hold the axes to
            change; the others stay. One of ``concurrency``, ``request_rate``,
            ``request_intervals`` and ``capacity`` replaces all four. Models and variants keep axes
            of their own.

        Returns
        -------
        Campaign
            A copy.

        Raises
        ------
        BadInput
            Where a key or a value is not allowed.
        """
        mine: dict[str, Server | Load | Measurement] = {
            "server": self.server_axes,
            "load": self.load_axes,
            "measurement": self.measurement,
        }
        for key in mine.keys() & changes.keys():
            section, given = mine[key], changes[key]
            if isinstance(given, Mapping):
                given = type(section)(**given)
            if isinstance(given, type(section)):
                # As a mapping, for the axes to be checked together.
                changes[key] = override_axes(section, given).model_dump()
        return self.model_copy(update=changes)

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
    def repositories(self) -> tuple[Path, ...]:
        """All folders with models, each once."""
        return tuple(dict.fromkeys((self.model_repository, *self.model_repositories)))

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
