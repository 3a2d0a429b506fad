"""The campaign file: one study, described once. Every list in it is an axis."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from hpcbench import textfile
from hpcbench.fields import Count, Frozen, Label, Name
from hpcbench.load_axes import Load, Measurement
from hpcbench.server_axes import Server


class Model(Frozen):
    """One model of the repository. ``server``, ``load`` and ``measurement`` override axes.

    ``server_image`` names one of the site's ``server_images``, for a model that its usual
    ``server_image`` does not serve.
    """

    name: Name
    label: Label | None = None
    version: Count | None = None
    server_image: Name | None = None
    shapes: dict[str, tuple[Count, ...]] = Field(default={})
    server: Server | None = None
    load: Load | None = None
    measurement: Measurement | None = None


class Campaign(Frozen):
    """One study: models, the grid of their axes, and how to measure it.

    Written in Python, ``server=`` and ``load=`` take a Server and a Load, as the keys of the
    file do; ``Campaign.load`` is the function that reads a file.
    """

    name: Name
    model_repository: Annotated[Path, AfterValidator(textfile.absolute)]
    models: tuple[Model, ...]
    server_axes: Server = Field(default=Server(), alias="server")
    load_axes: Load = Field(default=Load(), alias="load")
    measurement: Measurement = Measurement()
    repeats: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1

    _source: str = PrivateAttr(default="campaign")

    @property
    def source(self) -> str:
        """The file it was read from, for messages."""
        return self._source

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

    @classmethod
    def load(cls, path: str | Path) -> "Campaign":
        """Reads a campaign file; raises BadInput with every mistake in it."""
        campaign = textfile.load(Path(path), cls)
        campaign._source = str(path)  # noqa: SLF001 - of this very class
        return campaign
