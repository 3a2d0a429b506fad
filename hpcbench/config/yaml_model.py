"""Reads a YAML file that a person wrote into a pydantic model, with messages for that person.

What the keys of campaign and site files have in common: kinds of values, axes, `base`.
"""

import difflib
import re
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from hpcbench.errors import BadInput

Location = tuple[int | str, ...]
M = TypeVar("M", bound=BaseModel)


def load_yaml(path: Path, model: type[M]) -> M:
    """The validated content of ``path``; relative paths in it are relative to its folder.

    Raises BadInput, naming file, line, key, what is allowed and the nearest right spelling.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{path}: cannot be read: {reason}") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = _lines(path, root) if root else {}
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise BadInput(f"{path}{line}: this is not YAML: {problem}") from error
    if not isinstance(data, dict):
        raise BadInput(f"{path}: is empty or not a mapping of keys to values")
    return validate(data, model, source=str(path), folder=path.parent, lines=lines)


if typing.TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class _TellsMistakes(ModelMetaclass):
    """Lets a model that is made in Python raise what one that is read from a file does."""

    def __call__(cls: type[M], *arguments: Any, **values: Any) -> M:  # type: ignore[misc] # noqa: N805
        try:
            return typing.cast("M", super().__call__(*arguments, **values))  # type: ignore[misc]
        except ValidationError as error:
            raise _bad_input(error, cls, cls.__name__, {}) from error


class Checked(BaseModel, metaclass=_TellsMistakes):
    """Whatever becomes part of a file. Raises BadInput where it is made of something wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def validate(
    data: object,
    model: type[M],
    *,
    source: str,
    folder: Path,
    lines: dict[Location, int] | None = None,
) -> M:
    """``data`` as a ``model``; every mistake in it is told in one BadInput."""
    try:
        return model.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        raise _bad_input(error, model, source, lines or {}) from error


def _bad_input(
    error: ValidationError, model: type[BaseModel], source: str, lines: dict[Location, int]
) -> BadInput:
    messages = dict.fromkeys(_message(each, model, source, lines) for each in error.errors())
    return BadInput("\n".join(messages))


def absolute_path(value: Path, info: ValidationInfo) -> Path:
    """A path of a file that `load_yaml` reads, relative to that file's folder; for validators."""
    folder: Path = (info.context or {}).get("folder", Path())
    try:
        return (folder / value.expanduser()).resolve()
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def mistake(location: Location, message: str) -> PydanticCustomError:
    """Return what a validator of several keys raises, so that the message names one of them.

    Parameters
    ----------
    location
        The way to the key, from the model that the validator belongs to.
    message
        What is wrong with it.

    Returns
    -------
    PydanticCustomError
        An error whose line and key `load` finds.

    """
    return PydanticCustomError("mistake", "{message}", {"message": message, "location": location})


def did_you_mean(word: str, allowed: typing.Iterable[str]) -> str:
    """`` did you mean 'x'?`` where one of ``allowed`` is close to ``word``, else ""."""
    # Capitals are the most usual slip, and no likeness to difflib.
    known = {each.lower(): each for each in allowed}
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f" did you mean '{known[close[0]]}'?" if close else ""


def _message(
    detail: ErrorDetails, model: type[BaseModel], source: str, lines: dict[Location, int]
) -> str:
    location = (*detail["loc"], *detail.get("ctx", {}).get("location", ()))
    # Beyond what stands in the text, pydantic's location names its own validators.
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
    "string_type": "must be a text",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "too_short": "is empty; give at least one",
}
"""Pydantic's words for Python's types, in those of a YAML file."""


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """The keys allowed at ``location``: walks the annotations of ``model``."""
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


def _lines(path: Path, node: yaml.Node, prefix: Location = ()) -> dict[Location, int]:
    """The line of every key and list item; a key that stands twice is an error, not a choice."""
    lines: dict[Location, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise BadInput(f"{path}:{key.start_mark.line + 1}: a key must be a text")
            here = (*prefix, key.value)
            if here in lines:
                raise BadInput(
                    f"{path}:{key.start_mark.line + 1}: {'.'.join(map(str, here))}: stands "
                    f"twice; the first is in line {lines[here]}"
                )
            lines[here] = key.start_mark.line + 1
            lines |= _lines(path, value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*prefix, index)] = value.start_mark.line + 1
            lines |= _lines(path, value, (*prefix, index))
    return lines


BASE: Literal["base"] = "base"
"""The value of a server axis that leaves the model as its own config.pbtxt has it."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
MAX_COUNT = 10**9


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


Count = Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT)]
Name = Annotated[str, AfterValidator(_name)]
Label = Annotated[str, AfterValidator(_label)]


class Frozen(Checked):
    """A part of a file: nothing in it changes, and no key is taken that is not known."""


class Axes(Frozen):
    """Axes of a grid, one a field."""

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The values of each axis by its name, in the order of the fields."""
        return {name: getattr(self, name) for name in type(self).model_fields}


def as_axis(value: Any) -> Any:
    """One value is an axis of one; an axis has no value twice, and at least one."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values:
        raise ValueError("this axis is empty; give at least one value, or leave the key out")
    for position, item in enumerate(values):
        # `in` would take True for 1.
        if any(type(item) is type(other) and item == other for other in values[:position]):
            raise ValueError(f"{item!r} stands twice in this axis")
    return values
