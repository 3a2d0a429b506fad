"""Kinds of values that campaign and site files have in common."""

import re
from collections.abc import Hashable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

BASE: Literal["base"] = "base"
"""The value of a server axis that keeps what the model's own config.pbtxt has."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
MAX_COUNT = 10**9
"""The largest whole number that a file may have: larger ones are mistakes."""


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            "allowed are letters, digits and . _ + -, with a letter or digit first, because names "
            "become folders and parts of command lines"
        )
    return value


def _label(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be one line without control characters")
    return value


Count = Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT)]
Name = Annotated[str, AfterValidator(_name)]
Label = Annotated[str, AfterValidator(_label)]


def as_axis(value: Any) -> Any:
    """Make an axis of what a file has; for validators.

    Parameters
    ----------
    value
        A list of values, or one value.

    Returns
    -------
    tuple
        The values.

    Raises
    ------
    ValueError
        Where there is no value, or one appears twice.
    """
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values:
        raise ValueError("this axis is empty; give at least one value, or leave the key out")
    seen: set[Hashable] = set()
    for item in values:
        key = value_key(item)
        if key in seen:
            raise ValueError(f"{item!r} appears twice in this axis")
        seen.add(key)
    return values


def value_key(value: Any) -> Hashable:
    """Return what finds a value of an axis in a set or a mapping.

    Parameters
    ----------
    value
        A value, as the file has it or as it was validated.

    Returns
    -------
    hashable
        The same for equal values of one type, and for no others.
    """
    kind = type(value)
    if isinstance(value, list | tuple):
        return kind, *map(value_key, value)
    if isinstance(value, dict):
        return kind, frozenset((key, value_key(each)) for key, each in value.items())
    try:
        hash(value)
    except TypeError:
        return kind, repr(value)  # nothing that an axis takes: what reads the value will say so
    # With its type: in a set, True is 1.
    return kind, value


def check_line(value: str) -> str:
    """Check that a string can go into a job script as one line; for validators.

    Parameters
    ----------
    value
        What the file has.

    Returns
    -------
    str
        The same.

    Raises
    ------
    ValueError
        Where it would make other lines.
    """
    if not value.strip() or not value.isprintable():
        raise ValueError("must be one line of printable characters")
    if value.endswith("\\"):
        raise ValueError("must not end with a backslash, which would join it with the next line")
    return value


def matching(pattern: str, words: str) -> AfterValidator:
    """Return a validator for strings.

    Parameters
    ----------
    pattern
        A regular expression that all of the string must match.
    words
        The message for one that does not.

    Returns
    -------
    AfterValidator
        For an annotation.
    """

    def check(value: str) -> str:
        if not value.isprintable() or not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(words)
        return value

    return AfterValidator(check)


OneLine = Annotated[str, AfterValidator(check_line)]
"""A string that goes into a job script as one line."""

Word = Annotated[
    str, matching(r"[^\s\"'`\\;#]+", "must be one word, without quotes, backslash, ; and #")
]
"""A string that a directive has without quotes."""


_WALLTIME = re.compile(r"(?:(\d+)-)?(\d+):([0-5]?\d):([0-5]?\d)")


def _seconds(value: Any) -> int:
    # YAML itself reads 12:00:00 without quotes as the number of seconds.
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = _WALLTIME.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError('must be "HH:MM:SS" or "D-HH:MM:SS"')
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _bytes(value: Any) -> int:
    found = re.fullmatch(r"(\d+) ?(MiB|GiB)", value) if isinstance(value, str) else None
    if not found or not int(found[1]):
        raise ValueError('must be a number of MiB or GiB, such as "64GiB"')
    return int(found[1]) * {"MiB": 2**20, "GiB": 2**30}[found[2]]


def format_walltime(seconds: int) -> str:
    """Return a duration as the batch systems write it.

    Parameters
    ----------
    seconds
        The duration.

    Returns
    -------
    str
        HH:MM:SS, where the hours may be more than 24.
    """
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


Seconds = Annotated[int, BeforeValidator(_seconds), PlainSerializer(format_walltime)]
Bytes = Annotated[int, BeforeValidator(_bytes), PlainSerializer(lambda n: f"{n >> 20}MiB")]
