"""What pydantic finds wrong with a file becomes a message for the person who wrote it."""

import re
import typing
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hpcbench.errors import BadInput, did_you_mean

Location = tuple[int | str, ...]
"""The way to a key: keys, and positions in lists."""


def bad_input(
    error: ValidationError, model: type[BaseModel], source: str, lines: dict[Location, int]
) -> BadInput:
    """Return the error that says what is wrong with a file, or with what is written in Python.

    Parameters
    ----------
    error
        What pydantic found.
    model
        What it was to be.
    source
        The file, or the class.
    lines
        The line of each key and list item; empty for what is written in Python.

    Returns
    -------
    BadInput
        With every mistake: the line and key, what is allowed, and the nearest right spelling.
    """
    messages = dict.fromkeys(_message(each, model, source, lines) for each in error.errors())
    return BadInput("\n".join(messages))


def _in_file(location: Location, lines: dict[Location, int]) -> Location:
    """The location without the position of a value that stands for a list of one."""
    found: Location = ()
    for part in location:
        is_single = isinstance(part, int) and found in lines and (*found, part) not in lines
        found = found if is_single else (*found, part)
    return found


def _message(
    detail: ErrorDetails, model: type[BaseModel], source: str, lines: dict[Location, int]
) -> str:
    # Kinds of a value in brackets, such as "<shares>", are no keys.
    keys = (part for part in detail["loc"] if not str(part).startswith("<"))
    location = _in_file((*keys, *detail.get("ctx", {}).get("location", ())), lines)
    # Behind the keys of the file, pydantic's location goes on with the names of validators.
    known = next((n for n in range(len(location), 0, -1) if location[:n] in lines), 0)
    where = f"{source}:{lines[location[:known]]}" if known else source
    kind = detail["type"]
    if lines and kind not in ("extra_forbidden", "missing"):
        location = location[:known]
    key = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        allowed = _fields_at(model, location[:-1])
        guess = did_you_mean(str(location[-1]), allowed)
        return f"{where}: {key}: unknown key;{guess} allowed here: {', '.join(allowed)}"
    if kind == "missing":
        return f"{where}: {key}: is missing"
    given = detail["input"]
    text = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    text = _PLAIN.get(kind, text)
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        text = f"allowed: {', '.join(allowed)};{did_you_mean(str(given), allowed)}".rstrip(";")
    shown = "" if isinstance(given, dict | BaseModel) else f" (given: {given!r})"
    return f"{where}: {key}: {text}{shown}" if key else f"{where}: {text}"


_PLAIN = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a string",
    "path_type": "must be one path",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "too_short": "is empty; give at least one",
}
"""Pydantic speaks of Python's types; these are the words for a YAML file."""


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that the annotations of ``model`` allow at ``location``."""
    current: Any = model
    for part in location:
        if typing.get_origin(current) is dict:
            current = typing.get_args(current)[1]
            continue
        for candidate in _models_in(current):
            for name, info in candidate.model_fields.items():
                if part == (info.alias or name):
                    current = info.annotation
                    break
    keys: dict[str, None] = {}
    for candidate in _models_in(current):
        for name, info in candidate.model_fields.items():
            keys[info.alias or name] = None
    return list(keys)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for argument in typing.get_args(annotation) for m in _models_in(argument)]
