"""Names for people: of devices, of configurations by what sets them apart, and of files."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from analysis.configuration import CONFIGURATION, RESOLVED

_CLUTTER = re.compile(
    r"\((?:R|TM)\)|\bNVIDIA (?=\S)|\s@.*$|\b(?:CPU|Processor)\b|\b\d+-Core\b|\bwith Radeon .*$",
    re.IGNORECASE,
)
_TIMES = "\N{MULTIPLICATION SIGN}"
_PROPER = {"tensorrt": "TensorRT", "openvino": "OpenVINO", "grpc": "gRPC", "http": "HTTP"}
_AXES = {
    "instance_count": "instances",
    "preferred_batch_size": "dynamic batching",
    "max_queue_delay_us": "queue delay",
}
SERVER_AXES = (*_AXES, "accelerator")
_WORDS = {
    "concurrency": "concurrency {}",
    "batch_size": "batch size {}",
    "request_rate": "{:g} requests/s",
    "stability_percentage": "settled within {:g}%",
    "max_trials": "at most {} windows",
    "instance_kind": "{}",
}


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


def in_words(row: Mapping[str, Any]) -> dict[str, str]:
    """Everything that can set a configuration apart, in words, the most telling first.

    ``row`` has the columns of `configuration.CONFIGURATION`, missing ones as None. What the server
    resolved stands under "found ..." beside what was asked for.
    """
    known = {name: value for name in CONFIGURATION if (value := row[name]) is not None}
    parts = {"model_label": known["model_label"], "device": device(row)}
    axes = json.loads(known.get("variant", "{}"))
    # What was asked for says more than what came of it, and is there also where nothing came.
    parts |= variant(axes or {name: known[name] for name in SERVER_AXES if name in known})
    for name in (name for name in RESOLVED if name in known and name != "instance_kind"):
        parts[f"found {name}"] = _plain(name, known.pop(name))
    parts |= {name: text.format(known[name]) for name, text in _WORDS.items() if name in known}
    if "protocol" in known:
        calls = {None: "", True: "asynchronous ", False: "synchronous "}
        call = calls[known.get("asynchronous")]
        parts["protocol"] = call + _PROPER.get(known["protocol"], known["protocol"])
    if "input_data" in known:
        data = known["input_data"]
        parts["input_data"] = f"{data if data in ('random', 'zero') else data[:12]} input"
    if "measurement_interval_ms" in known:
        parts["measurement_interval_ms"] = f"{known['measurement_interval_ms'] / 1000:g} s windows"
    for name, lengths in json.loads(known.get("shapes", "{}")).items():
        parts[f"shape of {name}"] = f"{name} {_TIMES.join(map(str, lengths))}"
    rest = {name: known[name] for name in known if name not in (*parts, "variant", "shapes")}
    return parts | {name: _plain(name, value) for name, value in rest.items()}


def _plain(name: str, value: Any) -> str:
    text = str(value).removeprefix("sha256:")
    return f"{name.replace('_', ' ')} {text[:12] if name.endswith('digest') else text}"


def variant(axes: Mapping[str, Any]) -> dict[str, str]:
    """The server axes of one variant in words; "base" is what the model's own file says."""
    words = {}
    for axis, value in axes.items():
        if value == "base":
            words[axis] = f"default {_AXES.get(axis, axis)}"
        elif value is None:
            words[axis] = "" if axis == "max_queue_delay_us" else f"no {_AXES.get(axis, axis)}"
        elif axis == "instance_count":
            words[axis] = f"{value} instance{'s' * (value > 1)}"
        elif axis == "preferred_batch_size":
            words[axis] = " ".join(["dynamic batching", "/".join(map(str, value))]).strip()
        elif axis == "max_queue_delay_us":
            words[axis] = f"queue delay {value} µs"
        elif axis == "accelerator":
            words[axis] = _accelerator(json.loads(value))
        else:
            words[axis] = _plain(axis, value)
    return words


def _accelerator(given: Mapping[str, str]) -> str:
    parameters = {key: value for key, value in given.items() if key != "name"}
    precision = parameters.pop("precision_mode", "")
    others = [f"{key} {value}" for key, value in sorted(parameters.items())]
    return " ".join(filter(None, [_PROPER.get(given["name"], given["name"]), precision, *others]))


def file_name(words: Iterable[str]) -> str:
    """Words as a part of a file's name: plain lower-case letters, digits and underscores."""
    return "_".join(re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_") for word in words)
