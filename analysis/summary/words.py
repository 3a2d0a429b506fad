"""Names for people: of devices, of configurations by what sets them apart, and of files."""

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hpcbench.analysis.summary.configuration import BASE, CONFIGURATION, LOAD, RESOLVED, WINDOWS
from hpcbench.records.columns import COLUMNS

_CLUTTER = re.compile(
    r"\((?:R|TM)\)|\bNVIDIA (?=\S)|\s@.*$|\b(?:CPU|Processor)\b|\b\d+-Core\b|\bwith Radeon .*$",
    re.IGNORECASE,
)
_TIMES = "\N{MULTIPLICATION SIGN}"
_PROPER = {
    "tensorrt": "TensorRT",
    "openvino": "OpenVINO",
    "grpc": "gRPC",
    "http": "HTTP",
    "gpu": "GPU",
    "gpus": "GPUs",
    "cpu": "CPU",
    "cuda": "CUDA",
}
_NAMES = {
    "instance_count": "instances",
    "preferred_batch_size": "dynamic batching",
    "max_queue_delay_us": "queue delay",
    "shapes_name": "shapes",
    "variant_name": "variant",
}
"""Of axes whose columns are called otherwise than people call them."""

_ENDINGS = {"us": "µs", "ms": "ms", "s": "s", "bytes": "B", "mb": "MB", "gb": "GB", "percent": "%"}
_UNITS = {column.name: column.unit for column in COLUMNS} | {"request_rate": "requests/s"}
_UNNAMED = ("accelerator", "instance_kind", "request_rate")
"""Axes whose values say of what they are."""

_WORDS = {
    "stability_percentage": "settled within {:g}%",
    "max_trials": "at most {} windows",
    "percentile": "settled by p{}",
}


def name(axis: str) -> str:
    """What people call an axis or a column, without its unit."""
    if axis in _NAMES:
        return _NAMES[axis]
    stem, _, ending = axis.rpartition("_")
    words = (stem if stem and ending in _ENDINGS else axis).split("_")
    return " ".join(_PROPER.get(word, word) for word in words)


def unit(axis: str) -> str:
    """The unit of an axis, "" for none: that of its column, else what its name ends with."""
    if known := _UNITS.get(axis, ""):
        return "" if known == "1" else {"us": "µs"}.get(known, known)
    stem, _, ending = axis.rpartition("_")
    return _ENDINGS.get(ending, "") if stem else ""


def label(axis: str) -> str:
    """The name of an axis with its unit, as it stands at the axis of a figure."""
    told, of = name(axis), unit(axis)
    told = told[:1].upper() + told[1:]
    return f"{told} [{of}]" if of else told


def value(axis: str, given: Any) -> str:
    """The value of an axis alone, without name and unit; "base" is what the model's file says."""
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
            text = _mapping(given)
        case list() | tuple():
            text = "/".join(value(axis, one) for one in given) or "on"
        case _:
            text = str(given).removeprefix("sha256:")
            text = text[:12] if axis.endswith("digest") else _PROPER.get(text, text)
    return text


def phrase(axis: str, given: Any) -> str:
    """An axis with its value, as people say it; "" for one that says nothing."""
    told, text = name(axis), value(axis, given)
    if given == BASE:
        return f"default {told}"
    if axis == "max_queue_delay_us" and given is None:
        return ""
    if text in ("none", "off"):
        return f"no {told}"
    if text == "on":
        return told
    if axis == "instance_count":
        return f"{text} instance{'s' * (given != 1)}"
    if axis in _UNNAMED:
        told = ""
    return " ".join(filter(None, [told, text, unit(axis)]))


def _beside(text: str) -> str:
    """What else a server held, and under which load: all that sets one such company apart."""
    told = []
    for each in json.loads(text):
        axes, shapes_, load = each["variant"], each.get("shapes") or {}, each["load"] or {}
        parts = [
            *(phrase(axis, given) for axis, given in axes.items()),
            *(f"{of} {lengths}" for of, lengths in shapes(json.dumps(shapes_)).items()),
            *(phrase(key, given) for key, given in load.items() if key not in WINDOWS),
        ]
        what = f" ({', '.join(filter(None, parts))})" if any(parts) else ""
        told.append(f"{each['model_label']}{what}{' idle' if each['load'] is None else ''}")
    return f"beside {' and '.join(told)}"


def _mapping(given: Mapping[str, Any]) -> str:
    """The name and the precision alone say what they are."""
    rest = {key: text for key, text in given.items() if key not in ("name", "precision_mode")}
    bare = [given[key] for key in ("name", "precision_mode") if given.get(key)]
    others = [f"{name(key)} {value(key, text)}" for key, text in sorted(rest.items())]
    return " ".join([*(_PROPER.get(str(text), str(text)) for text in bare), *others])


def device(row: Mapping[str, Any]) -> str:
    """The short name of what the model ran on: the GPU, or the processor where there is none."""
    on_gpu = row["gpu_name"] is not None and row["instance_kind"] != "KIND_CPU"
    name = row["gpu_name"] if on_gpu else row["cpu_name"]
    if name is None:
        return "unknown device"
    short = " ".join(_CLUTTER.sub(" ", str(name)).split()) or str(name)
    count = row["gpu_count"] if on_gpu else row["cpu_count"]
    if on_gpu:
        return f"{count} {_TIMES} {short}" if count and count > 1 else short
    return f"{short} ({count} CPU{'s' * (count > 1)})" if count else short


def server_axes(row: Mapping[str, Any]) -> dict[str, Any]:
    """The server axes that were set to something else than base, or, where nobody knows what was
    asked for, what the server had.
    """
    if row["variant"] is not None:
        asked: dict[str, Any] = json.loads(row["variant"])
        return asked
    return {axis: row[axis] for axis in _SERVED if row[axis] is not None}


_SERVED = tuple(axis for axis in RESOLVED if axis not in ("instance_kind", "dynamic_batching"))


def in_words(row: Mapping[str, Any]) -> dict[str, str]:
    """Everything that can set a configuration apart, in words, the most telling first.

    ``row`` has the columns of `configuration.CONFIGURATION`, missing ones as None. What the server
    resolved stands under "found ..." beside what was asked for.
    """
    known = {column: row[column] for column in CONFIGURATION if row[column] is not None}
    parts = {"model_label": known["model_label"], "device": device(row)}
    # What was asked for says more than what came of it, and is there also where nothing came.
    parts |= {axis: phrase(axis, given) for axis, given in server_axes(row).items()}
    for column in (column for column in RESOLVED if column in known and column != "instance_kind"):
        parts[f"found {column}"] = phrase(column, known.pop(column))
    parts |= {column: phrase(column, known[column]) for column in LOAD if column in known}
    if "protocol" in known:
        calls = {None: "", True: "asynchronous ", False: "synchronous "}
        call = calls[known.pop("asynchronous", None)]
        parts["protocol"] = call + _PROPER.get(known["protocol"], known["protocol"])
    if "beside" in known:
        parts["beside"] = _beside(known["beside"])
    if "input_data" in known:
        data = known["input_data"]
        parts["input_data"] = f"{data if data in ('random', 'zero') else data[:12]} input"
    if "measurement_interval_ms" in known:
        parts["measurement_interval_ms"] = f"{known['measurement_interval_ms'] / 1000:g} s windows"
    parts |= {
        column: text.format(known[column]) for column, text in _WORDS.items() if column in known
    }
    if "shapes_name" in known:
        # With a name for them, the lengths say nothing new.
        parts["shapes_name"] = phrase("shapes_name", known["shapes_name"])
    if "shapes" in known:
        parts |= {f"shape of {of}": f"{of} {text}" for of, text in shapes(known["shapes"]).items()}
    rest = {
        column: known[column] for column in known if column not in (*parts, "variant", "shapes")
    }
    return parts | {column: phrase(column, given) for column, given in rest.items()}


def shapes(text: str) -> dict[str, str]:
    """The lengths given to each input, as 16 x 50."""
    given: dict[str, Any] = json.loads(text)
    return {
        of: _TIMES.join(map(str, lengths if isinstance(lengths, list) else [lengths]))
        for of, lengths in given.items()
    }


def file_name(words: Iterable[str]) -> str:
    """Words as a part of a file's name: plain lower-case letters, digits and underscores."""
    return "_".join(re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_") for word in words)
