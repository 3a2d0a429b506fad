"""Configurations in words: device, load, server, and whatever else tells one from another."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hpcbench.analysis.summary.axis_names import PROPER_NAMES, TIMES, axis_phrase, shape_texts
from hpcbench.analysis.summary.configuration import CONFIGURATION, LOAD, RESOLVED, WINDOWS
from hpcbench.records.variants import BASE

_CLUTTER = re.compile(
    r"\((?:R|TM)\)|\bNVIDIA (?=\S)|\s@.*$|\b(?:CPU|Processor)\b|\b\d+-Core\b|\bwith Radeon .*$",
    re.IGNORECASE,
)
"""The parts of a device's full name that tell no reader anything."""

_WINDOW_PHRASES = {
    "stability_percentage": "settled within {:g}%",
    "max_trials": "at most {} windows",
    "stop_precision": "known to {:.2%}",
    "stop_max_s": "at most {:g} s",
    "percentile": "settled by p{}",
}
_RESOLVED_AXES = tuple(
    axis for axis in RESOLVED if axis not in ("instance_kind", "dynamic_batching")
)
_NAMED_ELSEWHERE = ("model_label", "device", *LOAD)
"""What tables have a column of its own for."""


def device_name(row: Mapping[str, Any]) -> str:
    """Return the short name of what the model ran on: the GPU, else the CPU.

    Parameters
    ----------
    row
        The columns ``gpu_name``, ``gpu_count``, ``cpu_name``, ``cpu_count`` and
        ``instance_kind``; None where a value is missing.

    Returns
    -------
    str
        ``"Tesla T4"``, ``"AMD EPYC 7763 (32 CPUs)"`` or ``"unknown device"``.
    """
    on_gpu = row["gpu_name"] is not None and row["instance_kind"] != "KIND_CPU"
    name = row["gpu_name"] if on_gpu else row["cpu_name"]
    if name is None:
        return "unknown device"
    short = " ".join(_CLUTTER.sub(" ", str(name)).split()) or str(name)
    count = row["gpu_count"] if on_gpu else row["cpu_count"]
    if on_gpu:
        return f"{count} {TIMES} {short}" if count and count > 1 else short
    return f"{short} ({count} CPU{'s' * (count > 1)})" if count else short


def version_text(row: Mapping[str, Any]) -> str:
    """Return which version of its model was measured, if the campaign chose one.

    Parameters
    ----------
    row
        The column ``model_version``; None where the model's version policy has chosen.

    Returns
    -------
    str
        ``"version 2"`` or ``""``.
    """
    version = row["model_version"]
    return "" if version is None else f"version {version}"


def model_text(row: Mapping[str, Any]) -> str:
    """Return the label of a model, with its version if the campaign chose one.

    Parameters
    ----------
    row
        The columns ``model_label`` and ``model_version``.

    Returns
    -------
    str
        ``"Jet tagger version 2"``.
    """
    return " ".join(filter(None, [row["model_label"], version_text(row)]))


def server_axes(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the server axes that were set, with their values.

    Parameters
    ----------
    row
        The columns of CONFIGURATION. Imported results know no ``variant``: for them stands what
        the server resolved.

    Returns
    -------
    dict
        The value of each axis by its name; empty for the model's own configuration.
    """
    if row["variant"] is not None:
        requested: dict[str, Any] = json.loads(row["variant"])
        return requested
    return {axis: row[axis] for axis in _RESOLVED_AXES if row[axis] is not None}


def describe_configuration(row: Mapping[str, Any]) -> dict[str, str]:
    """Return everything that can set a configuration apart, as phrases.

    Parameters
    ----------
    row
        The columns of CONFIGURATION; None where a value is missing.

    Returns
    -------
    dict
        A phrase by the name of its column or axis, the most telling first. What the server
        resolved stands under ``"found NAME"``, beside what was requested.
    """
    known = {column: row[column] for column in CONFIGURATION if row[column] is not None}
    parts = {"model_label": known["model_label"], "device": device_name(row)}
    # What was requested says more than what came of it, and failed points know nothing else.
    parts |= {axis: axis_phrase(axis, given) for axis, given in server_axes(row).items()}
    for column in (column for column in RESOLVED if column in known and column != "instance_kind"):
        parts[f"found {column}"] = axis_phrase(column, known.pop(column))
    parts |= {column: axis_phrase(column, known[column]) for column in LOAD if column in known}
    if "protocol" in known:
        calls = {None: "", True: "asynchronous ", False: "synchronous "}
        call = calls[known.pop("asynchronous", None)]
        parts["protocol"] = call + PROPER_NAMES.get(known["protocol"], known["protocol"])
    if "beside" in known:
        parts["beside"] = beside_text(json.loads(known["beside"]))
    if "input_data" in known:
        data = known["input_data"]
        parts["input_data"] = f"{data if data in ('random', 'zero') else data[:12]} input"
    if "measurement_interval_ms" in known:
        parts["measurement_interval_ms"] = f"{known['measurement_interval_ms'] / 1000:g} s windows"
    parts |= {
        column: text.format(known[column])
        for column, text in _WINDOW_PHRASES.items()
        if column in known
    }
    if "shapes_name" in known:
        # The user has named these shapes: the lengths would say the same again.
        parts["shapes_name"] = axis_phrase("shapes_name", known["shapes_name"])
    if "shapes" in known:
        shapes = shape_texts(known["shapes"])
        parts |= {f"shape of {name}": f"{name} {text}" for name, text in shapes.items()}
    rest = {
        column: known[column] for column in known if column not in (*parts, "variant", "shapes")
    }
    return parts | {column: axis_phrase(column, given) for column, given in rest.items()}


def loads_beside(text: str) -> list[dict[str, Any]]:
    """Return the other models that a server held, and the load on each, whatever served them.

    Parameters
    ----------
    text
        The column ``beside``.

    Returns
    -------
    list of dict
        Its entries without what the campaign changed in their configurations.
    """
    return [{**each, "variant": {}} for each in json.loads(text)]


def beside_text(others: Sequence[Mapping[str, Any]]) -> str:
    """Return the other models that a server held, and the load on each, in words.

    Parameters
    ----------
    others
        The entries of the column ``beside``.

    Returns
    -------
    str
        ``"beside DeepTau (batch size 1, concurrency 2) and PN-AK4 idle"``.
    """
    found = []
    for each in others:
        axes, shapes, load = each["variant"], each.get("shapes") or {}, each["load"] or {}
        parts = [
            *(axis_phrase(axis, given) for axis, given in axes.items()),
            *(f"{name} {lengths}" for name, lengths in shape_texts(json.dumps(shapes)).items()),
            *(axis_phrase(key, given) for key, given in load.items() if key not in WINDOWS),
        ]
        what = f" ({', '.join(filter(None, parts))})" if any(parts) else ""
        found.append(f"{each['model_label']}{what}{' idle' if each['load'] is None else ''}")
    return f"beside {' and '.join(found)}"


def load_text(row: Mapping[str, Any]) -> str:
    """Return batch size and concurrency, or batch size and rate, in words.

    Parameters
    ----------
    row
        The columns of CONFIGURATION; None where a value is missing.

    Returns
    -------
    str
        ``"batch size 8, concurrency 4"``; axes without a value are left out.
    """
    phrases = describe_configuration(row)
    return ", ".join(phrases[name] for name in LOAD if name in phrases)


def server_text(row: Mapping[str, Any]) -> str:
    """Return the server axes that differ from the model's own configuration, in words.

    Parameters
    ----------
    row
        The columns of CONFIGURATION; None where a value is missing. With ``also``, from
        `same_servers.with_one_name`, the other names of this server are said, too.

    Returns
    -------
    str
        ``"2 instances, TensorRT FP16"``; ``"base"`` where no axis differs; ``"unknown"`` where
        the results do not say.
    """
    phrases = [axis_phrase(axis, value) for axis, value in server_axes(row).items()]
    text = ", ".join(filter(None, phrases)) or ("unknown" if row["variant"] is None else BASE)
    return f"{text} (the same as {row['also']})" if row.get("also") else text


def short_name(row: Mapping[str, Any]) -> str:
    """Return what people tell configurations of one device apart by, in words.

    Parameters
    ----------
    row
        The columns of CONFIGURATION; None where a value is missing.

    Returns
    -------
    str
        ``"PN-AK4 ONNX, batch size 8, concurrency 4, 2 instances"``.
    """
    return f"{row['model_label']}, {load_text(row)}, {server_text(row)}"


def distinctions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what sets each row apart beside model, device, load and server.

    Parameters
    ----------
    rows
        Rows with the columns of CONFIGURATION.

    Returns
    -------
    list of str
        A text for each row; ``""`` where there is nothing else.
    """
    described = [describe_configuration(row) for row in rows]
    known = list(_NAMED_ELSEWHERE)
    for row in rows:
        known += [axis for axis in server_axes(row) if axis not in known]
    named: list[str] = []
    for name in dict.fromkeys(name for phrases in described for name in phrases):
        if name in known or name.startswith("found "):
            continue
        # What follows from the rest, as the model from its label, says nothing new.
        with_name = _count_distinct(described, [*known, *named, name])
        if with_name > _count_distinct(described, [*known, *named]):
            named.append(name)
    return [
        ", ".join(phrases[name] for name in named if phrases.get(name)) for phrases in described
    ]


def configuration_names(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], str]:
    """Return a name for each configuration, and what all of them have in common.

    Parameters
    ----------
    rows
        Rows with the columns of CONFIGURATION.

    Returns
    -------
    tuple
        The names, without what is the same in all rows; and that, for a line above them.
    """
    parts = [
        [phrases["model_label"], *(phrases.get(name, "") for name in LOAD), server_text(row), more]
        for row, phrases, more in zip(
            rows, map(describe_configuration, rows), distinctions(rows), strict=True
        )
    ]
    same = [len(set(column)) == 1 for column in zip(*parts, strict=True)]
    if all(same):
        return [", ".join(filter(None, row)) for row in parts], ""
    shared = [text for text, alike in zip(parts[0], same, strict=True) if alike and text]
    different = [
        [text for text, alike in zip(row, same, strict=True) if not alike and text] for row in parts
    ]
    return [", ".join(row) for row in different], ", ".join(shared)


def _count_distinct(described: Sequence[Mapping[str, str]], names: Sequence[str]) -> int:
    return len({tuple(phrases.get(name) for name in names) for phrases in described})
