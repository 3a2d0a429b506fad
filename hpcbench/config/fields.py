"""What the keys of campaign and site files have in common: kinds of values, axes, `base`."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from hpcbench.config import yaml_model

BASE: Literal["base"] = "base"
"""The value of a server axis that leaves the model as its own config.pbtxt has it."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
MOST = 10**9


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


Count = Annotated[int, Field(strict=True, ge=1, le=MOST)]
Name = Annotated[str, AfterValidator(_name)]
Label = Annotated[str, AfterValidator(_label)]


class Frozen(yaml_model.Checked):
    """A part of a file: nothing in it changes, and no key is taken that is not known."""


class Axes(Frozen):
    """Axes of a grid, one a field."""

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The values of each axis by its name, in the order of the fields."""
        return {name: getattr(self, name) for name in type(self).model_fields}


def axis(value: Any) -> Any:
    """One value is an axis of one; an axis has no value twice, and at least one."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values:
        raise ValueError("this axis is empty; give at least one value, or leave the key out")
    for position, item in enumerate(values):
        # `in` would take True for 1.
        if any(type(item) is type(other) and item == other for other in values[:position]):
            raise ValueError(f"{item!r} stands twice in this axis")
    return values
