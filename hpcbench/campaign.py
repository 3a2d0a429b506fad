"""The campaign file: one study, described once. Every list in it is an axis."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    ValidationInfo,
    model_validator,
)

from hpcbench import textfile

BASE: Literal["base"] = "base"
"""The value of a server axis that leaves the model as its own config.pbtxt has it."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(
            "allowed are letters, digits and . _ + -, beginning with a letter or digit, because "
            "names become folders and command lines"
        )
    return value


def _label(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be a text on one line, without control characters")
    return value


def _axis(value: Any) -> Any:
    """One value is an axis of one; an axis has no value twice, and at least one."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values:
        raise ValueError("this axis is empty; give at least one value, or leave the key out")
    for position, item in enumerate(values):
        # `in` would take True for 1.
        if any(type(item) is type(other) and item == other for other in values[:position]):
            raise ValueError(f"{item!r} stands twice in this axis")
    return values


def _preferred_axis(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and all(type(item) is int for item in value):
        sizes = list(value)
        raise ValueError(
            f"each value of this axis is itself a list of sizes: write [{sizes}] for one "
            f"configuration that prefers all of them, {[[size] for size in sizes]} for one each"
        )
    return _axis(value)


def _count_or_base(value: Any) -> Any:
    if value == BASE or (type(value) is int and 1 <= value <= 10_000):
        return value
    raise ValueError("allowed: a whole number from 1 to 10000, or base")


def _delay_or_base(value: Any) -> Any:
    if value == BASE or (type(value) is int and 0 <= value <= MOST):
        return value
    raise ValueError("allowed: whole microseconds from 0, or base")


def _sizes_or_base(value: Any) -> Any:
    if value is None or value == BASE:
        return value
    if isinstance(value, list | tuple) and all(
        type(item) is int and 1 <= item <= MOST for item in value
    ):
        return tuple(value)
    raise ValueError(
        "allowed: a list of batch sizes, [] for dynamic batching without preferred sizes, null "
        "for no dynamic batching, or base"
    )


MOST = 10**9
Count = Annotated[int, Field(strict=True, ge=1, le=MOST)]
Name = Annotated[str, AfterValidator(_name)]
CountOrBase = Annotated[int | Literal["base"], PlainValidator(_count_or_base)]
DelayOrBase = Annotated[int | Literal["base"], PlainValidator(_delay_or_base)]
# Pydantic would serialise by the annotation, which these validators do not go by.
AS_IT_IS = PlainSerializer(lambda value: value)
SizesOrBase = Annotated[
    tuple[int, ...] | None | Literal["base"], PlainValidator(_sizes_or_base), AS_IT_IS
]


class _Frozen(textfile.Checked):
    pass


class Accelerator(BaseModel):
    """An execution accelerator of Triton; keys beside ``name`` are its parameters."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Literal["tensorrt", "openvino"]

    def parameters(self) -> dict[str, str]:
        """As Triton takes them: every value is a string."""
        return {
            key: str(value).lower() if isinstance(value, bool) else str(value)
            for key, value in (self.model_extra or {}).items()
        }

    @model_validator(mode="after")
    def _parameters_are_plain(self) -> "Accelerator":
        for key, value in (self.model_extra or {}).items():
            if not isinstance(value, str | int | float):
                raise ValueError(
                    f"{key}: must be a text, a number, true or false, not {value!r}; for an axis "
                    "over it, write one mapping for each of its values"
                )
        return self


def _accelerator_or_base(value: Any) -> Any:
    if value is None or value == BASE or isinstance(value, Accelerator):
        return value
    if isinstance(value, dict):
        return Accelerator.model_validate(value)
    raise ValueError("allowed: a mapping such as {name: tensorrt}, null for none, or base")


AcceleratorOrBase = Annotated[
    Accelerator | None | Literal["base"], PlainValidator(_accelerator_or_base), AS_IT_IS
]


class _Axes(_Frozen):
    @property
    def axes(self) -> tuple[tuple[Any, ...], ...]:
        """The values of each axis, in the order of the fields."""
        return tuple(getattr(self, name) for name in type(self).model_fields)


class Server(_Axes):
    """The axes that need another Triton configuration, hence another placement."""

    instance_count: Annotated[tuple[CountOrBase, ...], BeforeValidator(_axis)] = (BASE,)
    preferred_batch_size: Annotated[tuple[SizesOrBase, ...], BeforeValidator(_preferred_axis)] = (
        BASE,
    )
    max_queue_delay_us: Annotated[tuple[DelayOrBase, ...], BeforeValidator(_axis)] = (BASE,)
    accelerator: Annotated[tuple[AcceleratorOrBase, ...], BeforeValidator(_axis)] = (BASE,)


class Load(_Axes):
    """The axes that perf_analyzer sweeps against one server."""

    batch_size: Annotated[tuple[Count, ...], BeforeValidator(_axis)] = (1,)
    concurrency: Annotated[tuple[Count, ...], BeforeValidator(_axis)] = (1,)


class Measurement(_Frozen):
    """How each point is measured; the same for all points of a campaign."""

    protocol: Literal["grpc", "http"] = "grpc"
    asynchronous: bool = Field(default=True, alias="async", strict=True)
    percentile: Annotated[int, Field(strict=True, ge=1, le=99)] | None = None
    measurement_interval_ms: Count = 5000
    stability_percentage: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = 10.0
    max_trials: Annotated[int, Field(strict=True, ge=3, le=1000)] = 10
    input_data: str = "random"
    timeout_s: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _resolve_data_file(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, dict):
            given = data.get("input_data", "random")
            if given == "":
                raise ValueError("input_data: allowed: random, zero, or the path of a data file")
            if isinstance(given, str) and given not in ("random", "zero"):
                return {**data, "input_data": str(textfile.absolute(Path(given), info))}
        return data


class Model(_Frozen):
    """One model of the repository. ``server`` and ``load`` narrow or override its axes."""

    name: Name
    label: Annotated[str, AfterValidator(_label)] | None = None
    version: Count | None = None
    shapes: dict[str, tuple[Count, ...]] = Field(default={})
    server: Server | None = None
    load: Load | None = None


class Campaign(_Frozen):
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
