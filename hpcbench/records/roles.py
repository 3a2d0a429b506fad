"""What a column is for, and how one is declared."""

import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import pyarrow as pa


class Role(StrEnum):
    """What a column is for. Said of each column where it is defined, never by its place.

    Two measurements that differ in a column of `SEPARATING` belong to different configurations,
    and are never averaged.
    """

    MODEL = "model"
    """Which model, with which files and shapes."""
    SERVER = "server"
    """What the campaign changes in the model's Triton configuration."""
    LOAD = "load"
    """How much load arrives."""
    CALL = "call"
    """How, and with what, the client calls the server."""
    WINDOW = "window"
    """How long, and until when, a point is measured."""
    PLACE = "place"
    """At which site, in which pool."""
    SOFTWARE = "software"
    """The images, or the prefix, that Triton and perf_analyzer ran from."""
    HARDWARE = "hardware"
    """What the node turned out to have."""
    RESOLVED = "resolved"
    """What the server says that it loaded: known only once it was ready."""
    VERSION = "version"
    """What the programs say that they are."""
    IDENTITY = "identity"
    """What names a measurement and ties it to others."""
    OUTCOME = "outcome"
    """How the measurement ended."""
    METRIC = "metric"
    """A number that was measured."""
    PROVENANCE = "provenance"
    """Where a row comes from; explains it and separates nothing."""


SEPARATING = frozenset(Role) - {Role.IDENTITY, Role.OUTCOME, Role.METRIC, Role.PROVENANCE}
"""The roles of the columns that make a configuration."""


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes
    ----------
    name
        The field of `Record`.
    type
        Its type on disk.
    unit
        "1" for a count or a ratio, "" for what is no number or only names something.
    meaning
        What it says, and what it means where it is missing.
    role
        What it is for.
    header
        perf_analyzer's name for it in its CSV, "" where it has none.
    """

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    role: Role
    header: str = ""


def column(
    role: Role, meaning: str, *, unit: str = "", header: str = "", required: bool = False
) -> Any:
    """Declare a column as a field of a dataclass.

    Parameters
    ----------
    role
        What the column is for.
    meaning
        What it says, and what it means where it is missing.
    unit
        "1" for a count or a ratio, "" for what is no number or only names something.
    header
        perf_analyzer's name for it in its CSV, "" where it has none.
    required
        Whether every row must have it; other columns are None by default.

    Returns
    -------
    dataclasses.Field
        The field. Typed as Any, as `dataclasses.field` is, so that it fits every annotation.
    """
    metadata = {"role": role, "meaning": meaning, "unit": unit, "header": header}
    return field(default=MISSING if required else None, metadata=metadata)


_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
    tuple[int, ...]: pa.list_(pa.int64()),
    tuple[float, ...]: pa.list_(pa.float64()),
}


def arrow_type(annotation: Any) -> pa.DataType:
    """Return the type on disk of a field.

    Parameters
    ----------
    annotation
        The field's annotation, such as ``float | None``.

    Returns
    -------
    pyarrow.DataType
        The type of its values; every column may hold nulls.
    """
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    return _TYPES[annotation]


_LOSSLESS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], bool]], ...] = (
    (pa.types.is_string, lambda t: pa.types.is_large_string(t) or pa.types.is_string_view(t)),
    (pa.types.is_integer, pa.types.is_integer),
    (pa.types.is_floating, lambda t: pa.types.is_integer(t) or pa.types.is_floating(t)),
    (pa.types.is_timestamp, lambda t: pa.types.is_timestamp(t) and t.tz is not None),
)
"""(what a column must be, what it may be in a file instead): the values are the same."""


def may_become(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether values of one type can be of another without losing anything.

    Parameters
    ----------
    given
        What they are.
    wanted
        What a column must be.

    Returns
    -------
    bool
        Whether they can. That each of them fits shows only when they are cast.
    """
    if pa.types.is_dictionary(given):
        return may_become(given.value_type, wanted)
    if pa.types.is_list(wanted) and given != pa.null():
        is_list = pa.types.is_list(given) or pa.types.is_large_list(given)
        return is_list and may_become(given.value_type, wanted.value_type)
    allowed = any(must(wanted) and may(given) for must, may in _LOSSLESS)
    return allowed or given in (wanted, pa.null())
