"""The section ``server:`` of a campaign: the axes that need another Triton configuration."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    model_validator,
)

from hpcbench.fields import BASE, MOST, Axes, axis

Setting = str | int | tuple[int, ...] | None


def _preferred_axis(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and all(type(item) is int for item in value):
        sizes = list(value)
        raise ValueError(
            f"each value of this axis is itself a list of sizes: write [{sizes}] for one "
            f"configuration that prefers all of them, {[[size] for size in sizes]} for one each"
        )
    return axis(value)


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


CountOrBase = Annotated[int | Literal["base"], PlainValidator(_count_or_base)]
DelayOrBase = Annotated[int | Literal["base"], PlainValidator(_delay_or_base)]
# Pydantic would serialise by the annotation, which these validators do not go by.
AS_IT_IS = PlainSerializer(lambda value: value)
SizesOrBase = Annotated[
    tuple[int, ...] | None | Literal["base"], PlainValidator(_sizes_or_base), AS_IT_IS
]


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


class Server(Axes):
    """The axes that need another Triton configuration, hence another placement."""

    instance_count: Annotated[tuple[CountOrBase, ...], BeforeValidator(axis)] = (BASE,)
    preferred_batch_size: Annotated[tuple[SizesOrBase, ...], BeforeValidator(_preferred_axis)] = (
        BASE,
    )
    max_queue_delay_us: Annotated[tuple[DelayOrBase, ...], BeforeValidator(axis)] = (BASE,)
    accelerator: Annotated[tuple[AcceleratorOrBase, ...], BeforeValidator(axis)] = (BASE,)


def changes(asked: Mapping[str, Any]) -> dict[str, Setting]:
    """What one value of each axis changes in a model's configuration: the same for equal variants.

    An axis at "base" changes nothing, and is left out. An accelerator is the JSON text of its name
    and parameters, so that variants can be compared and hashed.
    """
    # Without dynamic batching nothing waits in a queue for a batch to fill.
    idle = {"max_queue_delay_us"} if asked["preferred_batch_size"] is None else set()
    return {
        name: _text(value) if isinstance(value, Accelerator) else value
        for name, value in asked.items()
        if value != BASE and name not in idle
    }


def _text(accelerator: Accelerator) -> str:
    return json.dumps({"name": accelerator.name, **accelerator.parameters()}, sort_keys=True)
