"""Events in a JSON file of perf_analyzer, which ``compare_outputs`` sends to models."""

import base64
import binascii
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hpcbench.config.campaign import Campaign
from hpcbench.config.triton_protobuf import DataType, ModelConfig
from hpcbench.errors import BadInput
from hpcbench.plan.point import Point

VALUE_BYTES = {
    **dict.fromkeys(("TYPE_BOOL", "TYPE_UINT8", "TYPE_INT8"), 1),
    **dict.fromkeys(("TYPE_UINT16", "TYPE_INT16", "TYPE_FP16", "TYPE_BF16"), 2),
    **dict.fromkeys(("TYPE_UINT32", "TYPE_INT32", "TYPE_FP32"), 4),
    **dict.fromkeys(("TYPE_UINT64", "TYPE_INT64", "TYPE_FP64"), 8),
}
"""Size of one value in bytes. Strings have no fixed size."""

_HINT = (
    'allowed: {"data": [EVENT, ...]}, where an EVENT has for each input a list of values, or '
    '{"content": [...], "shape": [...]}, or {"b64": "...", "shape": [...]}; hpcbench make-input '
    "writes such a file from events"
)


def read_steps(path: Path) -> list[Any]:
    """Return the events of a file, unchecked.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    list
        At least one.

    Raises
    ------
    ValueError
        If it is no JSON, or has no list of events.
    """
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    data = whole.get("data") if isinstance(whole, dict) else None
    if not isinstance(data, list):
        raise ValueError(f"{path} has no list 'data'")
    # A stream of several requests is a list in the list.
    steps = [step for entry in data for step in (entry if isinstance(entry, list) else [entry])]
    if not steps:
        raise ValueError(f"{path} has no events")
    return steps


def event_problem(event: Any, config: ModelConfig) -> str | None:
    """Return why a model could not take an event.

    Parameters
    ----------
    event
        An event, as it stands in the file.
    config
        The configuration of the model.

    Returns
    -------
    str or None
        A phrase that follows the name of the event; None where it could.
    """
    if not isinstance(event, dict):
        return "is not a mapping of inputs to values"
    for each in config.input:
        if each.name in event:
            problem = _tensor_problem(event[each.name], DataType.Name(each.data_type), each.dims)
            if problem is not None:
                return f"has for {each.name} {problem}"
        elif not each.optional:
            return f"has no {each.name}"
    return None


def _tensor_problem(value: Any, kind: str, dims: Iterable[int]) -> str | None:
    shape = tuple(dims)
    if isinstance(value, dict):
        given = value.get("shape", list(shape))
        if not isinstance(given, list) or any(type(length) is not int for length in given):
            return "a shape that is not a list of whole numbers"
        shape = tuple(given)
        if "b64" in value:
            count = _encoded_count(value["b64"], kind)
            if count is None:
                return f"b64 that is not base64 of {kind.removeprefix('TYPE_')}"
            return _miscount(count, shape)
        if "content" not in value:
            return "neither content nor b64"
        value = value["content"]
    allowed = (str,) if kind == "TYPE_STRING" else (int, float)
    values = list(_flat(value))
    for each in values:
        if not isinstance(each, allowed):
            return f"the value {str(each)[:40]!r}, which is no {kind.removeprefix('TYPE_')}"
    return _miscount(len(values), shape)


def _flat(value: Any) -> Iterator[Any]:
    if not isinstance(value, list):
        yield value
        return
    for each in value:
        yield from _flat(each)


def _encoded_count(text: Any, kind: str) -> int | None:
    size = VALUE_BYTES.get(kind)
    try:
        found = base64.b64decode(text)
    except (binascii.Error, TypeError, ValueError):
        return None
    return None if size is None or len(found) % size else len(found) // size


def _miscount(count: int, shape: tuple[int, ...]) -> str | None:
    if -1 in shape or count == math.prod(shape):
        return None
    return f"{count} values, and the shape {list(shape)}, which takes {math.prod(shape)}"


def check_compared(campaign: Campaign, points: Iterable[Point]) -> None:
    """Check that models and their references can take the events of ``compare_outputs``.

    Parameters
    ----------
    campaign
        The campaign.
    points
        Its points.

    Raises
    ------
    BadInput
        A file holds something else.
    """
    asked = {
        (compared.inputs, compared.events, model)
        for compared, measured in {(p.variant.compared, p.variant.model) for p in points}
        if compared is not None
        for model in (measured, compared.reference)
    }
    where = f"{campaign.source}: compare_outputs.inputs"
    for name, count, model in sorted(asked, key=lambda each: (each[0], each[1], each[2].name)):
        try:
            steps = read_steps(Path(name))[:count]
        except (OSError, ValueError) as error:
            raise BadInput(f"{where}: {error}", _HINT) from error
        config = ModelConfig.FromString(model.config)
        for number, step in enumerate(steps):
            problem = event_problem(step, config)
            if problem is not None:
                text = f"{where}: {name}: event {number} {problem}; model '{model.name}' gets it"
                raise BadInput(text, _HINT)
