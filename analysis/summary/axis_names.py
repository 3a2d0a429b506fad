"""Words for axes: their names, units and values as they stand in figures, tables and file names."""

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hpcbench.records.columns import COLUMNS
from hpcbench.records.variants import BASE

TIMES = "\N{MULTIPLICATION SIGN}"

PROPER_NAMES = {
    "tensorrt": "TensorRT",
    "openvino": "OpenVINO",
    "grpc": "gRPC",
    "http": "HTTP",
    "gpu": "GPU",
    "gpus": "GPUs",
    "cpu": "CPU",
    "cuda": "CUDA",
}
"""How a product or an abbreviation is written, by its spelling in campaign files."""

_NAMES = {
    "instance_count": "instances",
    "preferred_batch_size": "dynamic batching",
    "max_queue_delay_us": "queue delay",
    "request_intervals_digest": "arrivals",
    "capacity_max_latency_p99_ms": "p99 limit",
    "shapes_name": "shapes",
    "variant_name": "variant",
}
"""Of axes whose columns are called otherwise than people call them."""

_ENDINGS = {"us": "µs", "ms": "ms", "s": "s", "bytes": "B", "mb": "MB", "gb": "GB", "percent": "%"}
_UNITS = {column.name: column.unit for column in COLUMNS} | {"request_rate": "requests/s"}
_UNNAMED = ("accelerator", "instance_kind", "request_rate")
"""Axes whose values need no name beside them."""


def axis_name(axis: str) -> str:
    """Return what people call an axis or a column, without its unit.

    Parameters
    ----------
    axis
        The name of a column of the records, or of an axis of the campaign file.

    Returns
    -------
    str
        ``"queue delay"`` for ``max_queue_delay_us``.
    """
    if axis in _NAMES:
        return _NAMES[axis]
    stem, _, ending = axis.rpartition("_")
    words = (stem if stem and ending in _ENDINGS else axis).split("_")
    return " ".join(PROPER_NAMES.get(word, word) for word in words)


def axis_unit(axis: str) -> str:
    """Return the unit of an axis.

    Parameters
    ----------
    axis
        The name of a column of the records, or of an axis of the campaign file.

    Returns
    -------
    str
        The unit of that column, else the unit that the name ends with; ``""`` for none.
    """
    if known := _UNITS.get(axis, ""):
        return "" if known == "1" else {"us": "µs"}.get(known, known)
    stem, _, ending = axis.rpartition("_")
    return _ENDINGS.get(ending, "") if stem else ""


def axis_label(axis: str) -> str:
    """Return the label of an axis in a figure.

    Parameters
    ----------
    axis
        The name of a column of the records, or of an axis of the campaign file.

    Returns
    -------
    str
        Its name with a capital letter, and its unit in brackets: ``"Queue delay [µs]"``.
    """
    name, unit = axis_name(axis), axis_unit(axis)
    name = name[:1].upper() + name[1:]
    return f"{name} [{unit}]" if unit else name


def value_text(axis: str, given: Any) -> str:
    """Return the value of an axis, without its name and unit.

    Parameters
    ----------
    axis
        The name of the axis.
    given
        Its value as in a campaign file, also as JSON; None: the axis is switched off.

    Returns
    -------
    str
        ``"none"``, ``"on"``, ``"4/8"``, ``"TensorRT FP16"``, ...
    """
    if isinstance(given, str) and given.startswith("{"):
        with contextlib.suppress(ValueError):
            given = json.loads(given)
    match given:
        case None:
            text = "none"
        case bool():
            text = "on" if given else "off"
        case int():
            text = str(given)
        case float():
            text = f"{given:g}"
        case Mapping():
            text = _mapping_text(given)
        case list() | tuple():
            # An empty list of preferred batch sizes is dynamic batching with Triton's own choice.
            text = "/".join(value_text(axis, one) for one in given) or "on"
        case _:
            text = str(given).removeprefix("sha256:")
            text = text[:12] if axis.endswith("digest") else PROPER_NAMES.get(text, text)
    return text


def axis_phrase(axis: str, given: Any) -> str:
    """Return an axis with its value, as people say it.

    Parameters
    ----------
    axis
        The name of the axis.
    given
        Its value as in a campaign file; ``"base"`` is what the model's own configuration has.

    Returns
    -------
    str
        ``"2 instances"``, ``"no dynamic batching"``, ``"queue delay 100 µs"``; ``""`` where there
        is nothing to say.
    """
    name, text = axis_name(axis), value_text(axis, given)
    if given == BASE:
        return f"default {name}"
    if axis == "max_queue_delay_us" and given is None:
        return ""
    if text in ("none", "off"):
        return f"no {name}"
    if text == "on":
        return name
    if axis == "instance_count":
        return f"{text} instance{'s' * (given != 1)}"
    if axis in _UNNAMED:
        name = ""
    return " ".join(filter(None, [name, text, axis_unit(axis)]))


def _mapping_text(given: Mapping[str, Any]) -> str:
    # Name and precision speak for themselves; every other key is named.
    rest = {key: text for key, text in given.items() if key not in ("name", "precision_mode")}
    bare = [given[key] for key in ("name", "precision_mode") if given.get(key)]
    others = [f"{axis_name(key)} {value_text(key, text)}" for key, text in sorted(rest.items())]
    return " ".join([*(PROPER_NAMES.get(str(text), str(text)) for text in bare), *others])


def shape_texts(shapes: str) -> dict[str, str]:
    """Return the shape that was given to each input.

    Parameters
    ----------
    shapes
        The column ``shapes`` of a record: JSON with a list of lengths by the input's name.

    Returns
    -------
    dict
        The lengths, joined by a multiplication sign, by the input's name.
    """
    given: dict[str, Any] = json.loads(shapes)
    return {
        name: TIMES.join(map(str, lengths if isinstance(lengths, list) else [lengths]))
        for name, lengths in given.items()
    }


def file_name_part(words: Iterable[str]) -> str:
    """Return words as a part of a file's name.

    Parameters
    ----------
    words
        Texts with any characters.

    Returns
    -------
    str
        Lower-case ASCII letters, digits and underscores.
    """
    return "_".join(re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_") for word in words)
