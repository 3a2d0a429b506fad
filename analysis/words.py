"""What is written on figures: names of devices, of series by what sets them apart, and notes."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.table import CONFIDENCE, IDENTITY, records

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
_WORDS = {
    "concurrency": "concurrency {}",
    "request_rate": "{:g} requests/s",
    "stability_percentage": "settled within {:g}%",
    "max_trials": "at most {} windows",
    "instance_kind": "{}",
}
_PRIMARY = (
    *("model_label", "device", "instance_count", "preferred_batch_size", "max_queue_delay_us"),
    *("accelerator", "concurrency", "request_rate"),
)
"""What a reader wants named wherever it differs, even if the series could be told without it."""


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


def legend(table: pd.DataFrame) -> tuple[str, dict[int, str]]:
    """The legend's title, and the text of each series in it: there what all share, here the rest.

    The device is always in one of the two.
    """
    parts = {row["series"]: _parts(row) for row in records(table.drop_duplicates("series"))}
    # What was never measured knows no device, which must not look like another one.
    measured = table.loc[table["measured"] > 0, "series"].unique()
    drawn = [parts[number] for number in (measured if len(measured) else parts)]
    named = [name for name in _PRIMARY if _differs(drawn, name)]
    for name in dict.fromkeys(name for described in parts.values() for name in described):
        if len(_distinct(parts.values(), [*named, name])) > len(_distinct(parts.values(), named)):
            named.append(name)
    texts = {
        number: ", ".join(text for name in named if (text := described.get(name)))
        for number, described in parts.items()
    }
    if not named:
        return drawn[0]["device"], dict.fromkeys(parts, drawn[0]["model_label"])
    shared = [drawn[0][name] for name in ("model_label", "device") if name not in named]
    return ", ".join(shared), {number: text or "as configured" for number, text in texts.items()}


def conditions(table: pd.DataFrame) -> str:
    """What all series were measured under, as far as it is the same and worth telling."""
    parts = [_parts(row) for row in records(table.drop_duplicates("series"))]
    names = (
        *("concurrency", "request_rate", "protocol", "input_data", "measurement_interval_ms"),
        *("instance_count", "preferred_batch_size", "max_queue_delay_us", "accelerator"),
    )
    same = [parts[0].get(name, "") for name in names if not _differs(parts, name)]
    told = [text for text in same if text and not text.startswith(("default ", "no "))]
    return f"Conditions: {', '.join(told)}." if told else ""


def statistics(table: pd.DataFrame) -> str:
    """How the points and their bars were made from the measurements."""
    counts = table.loc[table["measured"] > 0, "measured"]
    if counts.empty:
        return "No point was measured."
    text = "Each point was measured once: no error bars."
    if (most := counts.max()) > 1:
        several = most if counts.min() == most else f"{counts.min()} to {most}"
        interval = f"{CONFIDENCE:.0%} interval of the mean (Student's t)"
        both = "the two measurements"
        bars = both if most == 2 else interval
        if most > 2 and (counts == 2).any():
            bars = f"{interval}; where there are only two, {both}"
        text = f"Points: mean of {several} repeats. Bars: {bars}."
    if (table["status"] == "unstable").any():
        text += " Hollow: at least one measurement did not settle."
    return text


def absences(table: pd.DataFrame, texts: Mapping[int, str], latency_name: str) -> str:
    """Every point of which something is missing in the figure; "" if none is."""
    told: dict[str, dict[tuple[int, str], list[int]]] = {}
    for row in records(table):
        for what, how in _missing(row, latency_name):
            places = told.setdefault(what, {})
            places.setdefault((row["series"], how), []).append(row["batch_size"])
    several = len(texts) > 1
    return " ".join(
        f"{what}: "
        + "; ".join(
            (f"{texts[number]} " if several else "")
            + f"at batch size {', '.join(map(str, batch_sizes))}{how}"
            for (number, how), batch_sizes in places.items()
        )
        + "."
        for what, places in told.items()
    )


def _missing(row: Mapping[str, Any], latency_name: str) -> Iterator[tuple[str, str]]:
    statuses = row["lacking"].replace("_", " ")
    if not row["measured"]:
        yield "No result (crosses)", f" ({statuses})"
        return
    if statuses:
        lost = row["repeats"] - row["measured"]
        yield "Fewer repeats", f" ({lost} of {row['repeats']} {statuses})"
    # What is not positive cannot be drawn on a logarithmic axis; NaN is not positive either.
    if not row["throughput_infer_per_s"] > 0:
        yield "No throughput", ""
    if not row["latency_ms"] > 0:
        yield f"No {latency_name}", ""


def campaigns(table: pd.DataFrame) -> str:
    """The names of the campaigns, or how many there are."""
    names = sorted({name for text in table["campaigns"] for name in text.split(", ")})
    text = ", ".join(names)
    return text if len(text) <= 60 else f"{len(names)} campaigns" if names[1:] else f"{text[:59]}…"


def file_name(words: Iterable[str]) -> str:
    """Words as a part of a file's name: plain lower-case letters, digits and underscores."""
    return "_".join(re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_") for word in words)


def _distinct(parts: Iterable[Mapping[str, str]], names: list[str]) -> set[tuple[str, ...]]:
    return {tuple(described.get(name, "") for name in names) for described in parts}


def _differs(parts: Iterable[Mapping[str, str]], name: str) -> bool:
    return len(_distinct(parts, [name])) > 1


def _parts(row: Mapping[str, Any]) -> dict[str, str]:
    """Everything that can set a series apart, in words, the most telling first."""
    known = {name: value for name in IDENTITY if (value := row[name]) is not None}
    parts = {"model_label": known["model_label"], "device": device(row)}
    parts |= _variant(json.loads(known.get("variant", "{}")))
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


def _variant(axes: Mapping[str, Any]) -> dict[str, str]:
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
