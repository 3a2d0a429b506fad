"""A YAML file that a person wrote becomes a pydantic model, with messages for that person.

Here is also what the keys of campaign and site files have in common: kinds of values, axes, `base`.
"""

import os
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from hpcbench.config.html_tables import facts_html
from hpcbench.config.mistakes import Location, bad_input
from hpcbench.errors import BadInput

M = TypeVar("M", bound=BaseModel)


def load_yaml(path: Path, model: type[M]) -> M:
    """Read and validate a file.

    Parameters
    ----------
    path
        The file. Relative paths in it are relative to its folder.
    model
        What it must hold.

    Returns
    -------
    BaseModel
        The content, as ``model``.

    Raises
    ------
    BadInput
        With every mistake: the file, line and key, what is allowed, and the nearest right spelling.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{path}: cannot be read: {reason}") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root:
            _check_aliases(path, root)
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


class _RaisesBadInput(ModelMetaclass):
    """Makes a model that is written in Python raise the same error as one that is read."""

    # Not `__init__`: pydantic would call it for the nested models of a file, too, and their errors
    # would lose the line and the key.

    def __call__(cls: type[M], *arguments: Any, **values: Any) -> M:  # type: ignore[misc] # noqa: N805
        try:
            return typing.cast("M", super().__call__(*arguments, **values))  # type: ignore[misc]
        except ValidationError as error:
            raise bad_input(error, cls, cls.__name__, {}) from error


class FileSection(BaseModel, metaclass=_RaisesBadInput):
    """A part of a file. Nothing in it changes, and unknown keys are refused.

    Raises
    ------
    BadInput
        Where it is made of something wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show what was given: the defaults of all axes would hide it."""
        for name, value in super().__repr_args__():
            if name in self.model_fields_set or name not in type(self).model_fields:
                yield name, value

    def _repr_html_(self) -> str:
        """Show a notebook what was given."""
        return facts_html(type(self).__name__, plain(self))

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Return the keys of the file that were given, with their values.

        The class makes the same section of them. With the defaults it would make another one: an
        axis that is given may mean more than one that is left out.

        Parameters
        ----------
        **options
            Those of `pydantic.BaseModel.model_dump`.

        Returns
        -------
        dict
            Values by key.
        """
        return super().model_dump(**{"by_alias": True, "exclude_unset": True, **options})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values, which are checked like those of a file.

        Parameters
        ----------
        update
            New values by key.
        deep
            Whether to copy the values that stay, too.

        Returns
        -------
        FileSection
            The copy.

        Raises
        ------
        BadInput
            Where a key or a value is not allowed.
        """
        if not update:
            return super().model_copy(deep=deep)
        fields = type(self).model_fields
        keys = {name: info.alias or name for name, info in fields.items()}
        given = {keys.get(name, name): value for name, value in update.items()}
        kept = {name for name in fields if keys[name] not in given}
        checked = type(self)(**(self.model_dump(include=kept) | given))
        new = {name: getattr(checked, name) for name in fields.keys() - kept}
        return super().model_copy(update=new | (checked.model_extra or {}), deep=deep)


def validate(
    data: object,
    model: type[M],
    *,
    source: str,
    folder: Path,
    lines: dict[Location, int] | None = None,
) -> M:
    """Validate the content of a file.

    Parameters
    ----------
    data
        Mappings, lists and values.
    model
        What it must be.
    source
        The file, for messages.
    folder
        What relative paths are relative to.
    lines
        The line of each key and list item, for messages.

    Returns
    -------
    BaseModel
        The content, as ``model``.

    Raises
    ------
    BadInput
        With every mistake.
    """
    try:
        return model.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        raise bad_input(error, model, source, lines or {}) from error


def plain(model: BaseModel) -> dict[str, Any]:
    """Return what a file holds that reads as this model.

    Parameters
    ----------
    model
        A campaign, a site, or a part of one.

    Returns
    -------
    dict
        Values that YAML and JSON can hold, without those that were never given.
    """
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


def absolute_path(value: Path, info: ValidationInfo) -> Path:
    """Make a path absolute; for validators.

    Parameters
    ----------
    value
        As the file has it: relative to the folder of the file, or beginning with ~ or a variable.
    info
        What pydantic knows of the value.

    Returns
    -------
    Path
        Absolute and without links.

    Raises
    ------
    ValueError
        Where ~ stands for nothing.
    """
    folder: Path = (info.context or {}).get("folder", Path())
    try:
        return (folder / Path(os.path.expandvars(value)).expanduser()).resolve()
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
        An error whose line and key `load_yaml` finds.
    """
    return PydanticCustomError("mistake", "{message}", {"message": message, "location": location})


_MOST_NODES = 100_000
"""Values that aliases may stand for. A nest of ten of ten would fill the memory."""


def _check_aliases(path: Path, root: yaml.Node) -> None:
    """Refuse a file whose aliases stand for more values than anybody means."""
    sizes: dict[int, int] = {}
    inside: set[int] = set()

    def size(node: yaml.Node) -> int:
        # An alias is the very node that it stands for: each is counted once, however deep.
        if id(node) in inside:
            line = node.start_mark.line + 1
            raise BadInput(
                f"{path}:{line}: an alias (*) stands for a value that it is itself a part of"
            )
        if id(node) not in sizes:
            inside.add(id(node))
            parts = node.value if isinstance(node, yaml.CollectionNode) else ()
            flat = [x for part in parts for x in (part if isinstance(part, tuple) else (part,))]
            sizes[id(node)] = 1 + sum(map(size, flat))
            inside.remove(id(node))
        return sizes[id(node)]

    total = size(root)
    if total > max(_MOST_NODES, 2 * len(sizes)):
        raise BadInput(
            f"{path}: its aliases (*) stand for {total:,} values; write out what is meant"
        )


_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


def _check_number(path: Path, key: str, node: yaml.ScalarNode) -> None:
    """Refuse what YAML 1.1 takes for other numbers than people do."""
    plain = node.style is None and node.tag.endswith((":int", ":float"))
    where = f"{path}:{node.start_mark.line + 1}: {key}: {node.value}"
    if plain and _OCTAL.fullmatch(node.value):
        number = int(node.value.replace("_", ""), 8)
        raise BadInput(
            f"{where} is the octal number {number} in YAML",
            "leave out the 0 in front, or put a string in quotes",
        )
    if plain and _SIXTIES.fullmatch(node.value) and key != "walltime":
        raise BadInput(
            f"{where} is a number of base 60 in YAML: {yaml.safe_load(node.value)}",
            "write the number itself, or put a string in quotes",
        )


def _lines(path: Path, node: yaml.Node, prefix: Location = ()) -> dict[Location, int]:
    """The line of every key and list item. PyYAML would silently take the last of equal keys."""
    lines: dict[Location, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise BadInput(f"{path}:{key.start_mark.line + 1}: a key must be a string")
            _check_number(path, ".".join(map(str, prefix)) or "a key", key)
            if key.tag.endswith(":bool") and key.style is None:
                meant = str(yaml.safe_load(key.value)).lower()
                raise BadInput(
                    f"{path}:{key.start_mark.line + 1}: the key {key.value} is {meant} in YAML; "
                    "put it in quotes"
                )
            here = (*prefix, key.value)
            if here in lines:
                raise BadInput(
                    f"{path}:{key.start_mark.line + 1}: {'.'.join(map(str, here))}: appears "
                    f"twice; the first is in line {lines[here]}"
                )
            lines[here] = key.start_mark.line + 1
            if isinstance(value, yaml.ScalarNode):
                _check_number(path, key.value, value)
            lines |= _lines(path, value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*prefix, index)] = value.start_mark.line + 1
            if isinstance(value, yaml.ScalarNode):
                _check_number(path, ".".join(map(str, prefix)), value)
            lines |= _lines(path, value, (*prefix, index))
    return lines


def axis_values(section: FileSection) -> dict[str, tuple[Any, ...]]:
    """Return the axes of a section whose fields are axes.

    Parameters
    ----------
    section
        A section ``server:``, ``load:`` or ``measurement:``.

    Returns
    -------
    dict
        The values by the name of the axis, in the order of the fields.
    """
    return {name: getattr(section, name) for name in type(section).model_fields}
