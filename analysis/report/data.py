"""The columns of a report: what its figure, its table and its details of a point are made of.

One row per configuration, as `hpcbench.analysis.summary.statistics` joins repeats. Numbers have
five digits and
texts are codes into a list of those that occur, which keeps thousands of points small.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from hpcbench.analysis.summary import configuration, statistics
from hpcbench.analysis.summary.axis_names import axis_name, axis_unit, value_text
from hpcbench.analysis.summary.configuration_names import device_name
from hpcbench.analysis.summary.derived_metrics import energy_j_per_infer, settled_latency_us
from hpcbench.analysis.summary.points import natural_key
from hpcbench.records.columns import COLUMNS, Status

Json = dict[str, Any]

SETTINGS, FIGURED, ABOUT = "Settings", "Figures", "Where and with what"
"""The groups of columns, as the details of a point have them."""

_MS, _GIB, _PERCENT = (1e-3, "ms"), (2.0**-30, "GiB"), (100.0, "%")
ENERGY = "energy_j_per_infer"

FIGURES: dict[str, tuple[str, float, str]] = {
    "throughput_infer_per_s": ("throughput", 1.0, "infer/s"),
    "latency_avg_us": ("mean latency", *_MS),
    "latency_p50_us": ("p50 latency", *_MS),
    "latency_p90_us": ("p90 latency", *_MS),
    "latency_p95_us": ("p95 latency", *_MS),
    "latency_p99_us": ("p99 latency", *_MS),
    "latency_percentile_us": ("latency settled by", *_MS),
    "client_send_us": ("client send", *_MS),
    "network_us": ("network", *_MS),
    "server_queue_us": ("server queue", *_MS),
    "server_compute_input_us": ("compute input", *_MS),
    "server_compute_infer_us": ("compute infer", *_MS),
    "server_compute_output_us": ("compute output", *_MS),
    "client_recv_us": ("client receive", *_MS),
    "request_count": ("requests counted", 1.0, ""),
    "send_request_rate": ("rate sent", 1.0, "1/s"),
    "delayed_requests_percent": ("delayed requests", 1.0, "%"),
    "gpu_utilization_avg": ("GPU utilisation", *_PERCENT),
    "gpu_power_avg_w": ("GPU power", 1.0, "W"),
    "gpu_memory_max_bytes": ("GPU memory", *_GIB),
    ENERGY: ("energy per inference", 1.0, "J"),
    "server_ready_s": ("server start", 1.0, "s"),
}
"""What is measured: column, its name in the report, and the factor to the unit shown there."""

_BARRED = ("throughput_infer_per_s", ENERGY)
_IN_TABLE = (
    *("throughput_infer_per_s", "latency_p50_us", "latency_p99_us", "gpu_memory_max_bytes"),
)

_NAMES = {"model": "name in the repository", "sdk_image_digest": "client image digest"}
_MEANINGS = {column.name: column.meaning for column in COLUMNS} | {
    ENERGY: "mean power of the GPUs over throughput"
}


@dataclass(frozen=True)
class Points:
    """The configurations of a set of results, and the measurements behind each.

    ``table`` has the columns of `configuration.CONFIGURATION`, the statistics of FIGURES, ``row``
    (its first measured row in ``frame``), ``device`` and ``status``. ``numbers`` gives the row of
    ``table`` to which each row of ``frame`` belongs.
    """

    frame: pd.DataFrame
    table: pd.DataFrame
    numbers: configuration.Numbers


def points_of(frame: pd.DataFrame) -> Points:
    """Joins the repeats in what `load_results` returns."""
    frame = configuration.normalised(frame.assign(**{ENERGY: energy_j_per_infer(frame)}))
    names = [name for name in FIGURES if np.isfinite(configuration.as_floats(frame[name])).any()]
    table = statistics.join_repeats(frame, names)
    numbers = configuration.group_numbers(frame, configuration.CONFIGURATION)
    status = frame["status"].astype(object).to_numpy()[table["row"]]
    status[(table["unstable"] > 0).to_numpy()] = str(Status.UNSTABLE)
    return Points(frame, table.assign(status=status, device=devices(table)), numbers)


def devices(table: pd.DataFrame) -> list[str]:
    """The short name of what each row ran on; ``table`` has the columns of the configuration."""
    names = ["gpu_name", "gpu_count", "cpu_name", "cpu_count", "instance_kind"]
    numbers = configuration.group_numbers(table, names)
    first = np.unique(numbers, return_index=True)[1]
    short = [device_name(row) for row in configuration.plain_rows(table[names], first)]
    return [short[number] for number in numbers]


def columns(points: Points) -> list[Json]:
    """All columns, as the page's script takes them; the table of the page shows them in order."""
    table, rows = points.table, points.frame.iloc[points.table["row"]].reset_index(drop=True)
    settings, rest = _settings(table)
    found = [*settings, _text("status", "status", table["status"], SETTINGS)]
    found[-1] |= {"shown": True, "facet": True, "search": True}
    found += [
        _number(name, name, "", table[name].to_numpy(float), SETTINGS)
        for name in ("measured", "repeats")
    ]
    found += [_figure(table, name) for name in FIGURES if name in table]
    found += rest
    for name in ("campaign", "node", "kernel", "hpcbench_version", "platform", "point_id"):
        found.append(_text(name, name.replace("_", " "), rows[name], ABOUT))
    found[-1]["search"] = True
    for name, label in (
        *(("reason", "Reason"), ("log_tail", "End of the log"), ("command", "Command")),
        *(("figures_command", "Command of the figures"), ("server_config", "config.pbtxt")),
    ):
        found.append(_text(name, label, rows[name], label))
        found[-1] |= {"long": True, "search": name == "reason"}
    return [column for column in found if _is_known(column)]


def repeats(points: Points) -> Json:
    """Every measurement, ordered by point; those of point i are first[i] up to first[i + 1]."""
    order = np.argsort(points.numbers, kind="stable")
    frame = points.frame.iloc[order]
    latency = settled_latency_us(frame).to_numpy() * 1e-3
    throughput = configuration.as_floats(frame["throughput_infer_per_s"])
    ended = frame["ended_at"].dt.strftime("%Y-%m-%d %H:%M:%S")
    counts = np.bincount(points.numbers, minlength=len(points.table))
    return {
        "first": [0, *np.cumsum(counts).tolist()],
        "columns": [
            _number("repeat", "repeat", "", frame["repeat"].to_numpy(float), ""),
            _text("status", "status", frame["status"], ""),
            _number("throughput_infer_per_s", "throughput", "infer/s", throughput, ""),
            _number("latency_ms", "latency", "ms", latency, ""),
            _text("ended_at", "ended (UTC)", ended, ""),
            _text("node", "node", frame["node"], ""),
            _text("placement_id", "server log", frame["placement_id"], ""),
            _text("reason", "reason", frame["reason"], ""),
        ],
    }


def _settings(table: pd.DataFrame) -> tuple[list[Json], list[Json]]:
    """(what sets points apart, what all share or what follows from the former)."""
    candidates: list[Json] = [
        _text("model_label", "model", table["model_label"], SETTINGS) | {"facet": True},
        _text("device", "device", table["device"], SETTINGS) | {"facet": True},
        *(_setting(table, name) for name in configuration.LOAD),
        *_variants(table),
        *(
            _text(name, _NAMES.get(name, name.replace("_", " ")), _told(table, name), ABOUT)
            for name in ("site", "pool", *_others(table))
        ),
    ]
    kept: list[Json] = []
    rest: list[Json] = []
    numbers = np.zeros(len(table), dtype=np.int64)
    for column in candidates:
        finer = _finer(numbers, column["values"])
        tells = len(finer) and finer.max() > numbers.max()
        always = column["name"] in ("model_label", "device", "batch_size", "concurrency")
        if tells or always:
            kept.append(column | {"setting": True, "shown": True, "search": "levels" in column})
            numbers = finer
        else:
            rest.append(column)
    return kept, rest


def _finer(numbers: configuration.Numbers, values: list[Any]) -> configuration.Numbers:
    pair = pd.DataFrame({"numbers": numbers, "values": pd.Series(values, dtype=object)})
    return configuration.group_numbers(pair, ["numbers", "values"])


def _others(table: pd.DataFrame) -> list[str]:
    asked = {axis for text in table["variant"].dropna().unique() for axis in json.loads(text)}
    told = {"model_label", "variant", *configuration.LOAD, "site", "pool", *asked}
    return [name for name in configuration.CONFIGURATION if name in table and name not in told]


def _told(table: pd.DataFrame, name: str) -> pd.Series:
    if name not in configuration.RESOLVED:
        return table[name]
    return pd.Series(_said(table, name), dtype=object)


def _said(table: pd.DataFrame, name: str) -> list[str | None]:
    missing = table[name].isna()
    return [
        None if gone else value_text(name, value)
        for value, gone in zip(table[name], missing, strict=True)
    ]


def _setting(table: pd.DataFrame, name: str) -> Json:
    """A column of the load: numbers where it has numbers."""
    values = table[name]
    if is_numeric_dtype(values) and not is_bool_dtype(values):
        number = configuration.as_floats(values)
        return _number(name, axis_name(name), axis_unit(name), number, SETTINGS)
    return _text(name, axis_name(name), pd.Series(_said(table, name), dtype=object), SETTINGS)


def _variants(table: pd.DataFrame) -> list[Json]:
    """A column for every axis of the servers, numbers where its values are."""
    codes, texts = pd.factorize(table["variant"].astype(object))
    variants: list[dict[str, Any]] = [json.loads(text) for text in texts]
    found = []
    for axis in sorted(
        {name for variant in variants for name in variant}, key=configuration.axis_sort_key
    ):
        given = [variant.get(axis, configuration.BASE) for variant in variants]
        if _counts(given) and axis in table and is_numeric_dtype(table[axis]):
            asked = np.array(
                [value if isinstance(value, int) else np.nan for value in [*given, None]]
            )
            served = configuration.as_floats(table[axis])
            number = np.where(np.isnan(asked[codes]), served, asked[codes])
            found.append(_number(axis, axis_name(axis), axis_unit(axis), number, SETTINGS))
            continue
        said = [value_text(axis, value) for value in given]
        text = pd.Series([*said, None], dtype=object).iloc[codes]
        found.append(_text(axis, axis_name(axis), text, SETTINGS) | {"unit": axis_unit(axis)})
    return found


def _counts(values: list[Any]) -> bool:
    """Whether the values of an axis are numbers, beside those that leave it alone."""
    given = [value for value in values if value not in (configuration.BASE, None)]
    return bool(given) and all(type(value) is int for value in given)


def _figure(table: pd.DataFrame, name: str) -> Json:
    label, factor, unit = FIGURES[name]
    values = table[name].to_numpy(float) * factor
    column = _number(name, label, unit, values, FIGURED) | {"shown": name in _IN_TABLE}
    if name in _BARRED or name.startswith("latency"):
        for end in ("low", "high"):
            column[end] = _rounded(table[f"{name}_{end}"].to_numpy(float) * factor)
    return column


def _number(name: str, label: str, unit: str, values: configuration.Array, group: str) -> Json:
    column = {"name": name, "label": label, "unit": unit, "group": group}
    return column | {
        "meaning": _MEANINGS.get(name, ""),
        "used": bool(np.isfinite(values).any()),
        "values": _rounded(values, 15 if group == SETTINGS else 5),
    }


def _rounded(values: configuration.Array, digits: int = 5) -> list[float | int | None]:
    """So many digits, whole numbers as such, and None for what JSON has no number for."""
    return [
        None if value - value != 0 else _short(float(f"{value:.{digits}g}"))
        for value in values.tolist()
    ]


def _short(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _text(name: str, label: str, values: pd.Series, group: str) -> Json:
    codes, found = pd.factorize(values.astype(object))
    order = list(range(len(found)))
    if group == SETTINGS and name != "model_label":
        order.sort(key=lambda i: natural_key(str(found[i])))
    places = np.empty(len(found) + 1, dtype=np.int64)
    places[order], places[-1] = np.arange(len(found)), -1
    column = {"name": name, "label": label, "unit": "", "group": group}
    return column | {
        "meaning": _MEANINGS.get(name, ""),
        "levels": [str(found[i]) for i in order],
        "values": places[codes].tolist(),
    }


def _is_known(column: Mapping[str, Any]) -> bool:
    return bool(column["levels"]) if "levels" in column else bool(column["used"])
