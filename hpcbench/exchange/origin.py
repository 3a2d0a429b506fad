"""What the user knows of other people's files and the files do not say: options, and their names.

A pattern such as ``{model}_b{batch_size}_c{concurrency}`` says which columns stand in the names.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import pyarrow as pa

from hpcbench.errors import BadInput, did_you_mean
from hpcbench.records.columns import COLUMNS
from hpcbench.records.roles import Role

LOOP_NAME = "{model}_batch{batch_size}"
"""How the loop of the CMS SONIC documentation names its files."""

_TYPES = {column.name: column for column in COLUMNS}

_SETTABLE = {
    column.name: column
    for column in COLUMNS
    if column.role not in (Role.IDENTITY, Role.OUTCOME)
    or column.name in ("campaign", "repeat", "run_id")
}
"""The columns that a user can fill; the others follow from the file."""

_FROM_ONE = ("batch_size", "concurrency", "instance_count")

_FIELD = re.compile(r"\{(\w+)\}|(\*)")


@dataclass(frozen=True)
class Origin:
    """Where files come from.

    Attributes
    ----------
    site
        Name of the site.
    pool
        Name of the pool; None for the names of the folders.
    percentile
        Percentile that perf_analyzer was called with; None for none, or where it is unknown.
    columns
        Values by column: what is so for all files. It counts before what their names say.
    name
        A pattern for their names, in which ``{column}`` is the value of a column and ``*`` is
        anything within a name. With a ``/`` in it, it is for the path below the folder.
    """

    site: str = "imported"
    pool: str | None = None
    percentile: int | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    name: str = LOOP_NAME


def check_column(name: str) -> None:
    """Check that a user can give a column.

    Parameters
    ----------
    name
        The column.

    Raises
    ------
    BadInput
        There is no such column, or it follows from the file.
    """
    if name not in _SETTABLE:
        raise BadInput(
            f"{name}: is no column that can be given{did_you_mean(name, _SETTABLE)}",
            "docs/columns.md has all columns with their types and units",
        )


_MOST = {True: 10**9 - 1, False: 2**63 - 1}
"""The largest count that a column takes, by whether it is one of `_FROM_ONE`."""


def value_fault(name: str, value: float) -> str | None:
    """Return why a number cannot be true of a column.

    Parameters
    ----------
    name
        A column of numbers.
    value
        In its unit.

    Returns
    -------
    str or None
        What it must be, as a phrase; None where it can be true.
    """
    kind = _TYPES[name]
    if not math.isfinite(value):
        return "must be finite"
    if pa.types.is_integer(kind.type):
        least, most = int(name in _FROM_ONE), _MOST[name in _FROM_ONE]
        is_right = value == int(value) and least <= value <= most
        return None if is_right else f"must be a whole number from {least} to {most}"
    # Degrees Celsius are the only numbers here that may be below zero.
    return "must be 0 or more" if value < 0 and kind.unit != "Cel" else None


def parse_column(name: str, text: str) -> Any:
    """Return the value of a column from a string.

    Parameters
    ----------
    name
        The column.
    text
        Its value as a user writes it: lists as JSON, times as in ISO 8601 with a time zone.

    Returns
    -------
    object
        A value of the column's type.

    Raises
    ------
    BadInput
        There is no such column, it follows from the file, or it cannot have this value.
    """
    check_column(name)
    column = _SETTABLE[name]
    try:
        given = json.loads(text) if pa.types.is_list(column.type) else text
        scalar = pa.scalar(given, column.type) if isinstance(given, list) else pa.scalar(text)
        value = scalar.cast(column.type).as_py()
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise BadInput(
            f"{name}: must be {column.type}, and is {text!r}",
            "docs/columns.md has all columns with their types and units",
        ) from error
    if value == "":
        raise BadInput(f"{name}: is empty", f"leave {name} out, or give its value")
    numbers = value if isinstance(value, list) else [value]
    faults = (value_fault(name, each) for each in numbers if _is_number(each))
    if fault := next(filter(None, faults), None):
        raise BadInput(
            f"{name}: {fault}, and is {text!r}",
            "docs/columns.md has all columns with their types and units",
        )
    return tuple(value) if isinstance(value, list) else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def name_values(pattern: str, path: PurePath) -> dict[str, Any] | None:
    """Return what the name of a file says by a pattern.

    Parameters
    ----------
    pattern
        See `Origin`.
    path
        The file's path below the folder.

    Returns
    -------
    dict or None
        Values by column; None where the name does not have this form.

    Raises
    ------
    BadInput
        The pattern names something that is no column, or twice the same.
    """
    whole = path if "/" in pattern else PurePath(path.name)
    form = _name_form(pattern)
    found = form.fullmatch(whole.with_suffix("").as_posix()) or form.fullmatch(whole.as_posix())
    if found is None:
        return None
    return {name: parse_column(name, text) for name, text in found.groupdict().items()}


def _name_form(pattern: str) -> re.Pattern[str]:
    named = [m[1] for m in _FIELD.finditer(pattern) if m[1]]
    for name in named:
        if name not in _SETTABLE or named.count(name) > 1:
            reason = "stands there twice" if name in _SETTABLE else "is no column"
            raise BadInput(
                f"--name {pattern}: {{{name}}} {reason}{did_you_mean(name, _SETTABLE)}",
                f"an example: {LOOP_NAME}",
            )
    parts, end = [], 0
    for match in _FIELD.finditer(pattern):
        parts.append(re.escape(pattern[end : match.start()]))
        parts.append(f"(?P<{match[1]}>{_text_form(match[1])})" if match[1] else "[^/]*")
        end = match.end()
    return re.compile("".join([*parts, re.escape(pattern[end:])]))


def _text_form(name: str) -> str:
    kind = _SETTABLE[name].type
    if pa.types.is_integer(kind):
        # At most nine digits: what is larger is no batch size, and may be no number of Arrow's.
        return r"[1-9]\d{0,8}" if name in _FROM_ONE else r"\d{1,9}"
    return r"\d+(?:\.\d+)?" if pa.types.is_floating(kind) else r"[^/]+"
