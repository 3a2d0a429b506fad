"""The data of a report's scripts: columns for its figure, its table and the details of a point.

There is one row for each configuration, with repeats joined as in
`hpcbench.analysis.summary.statistics`. Numbers have five digits, and strings are codes into a list
of those that occur: this keeps thousands of points small.
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
from hpcbench.analysis.summary.same_servers import with_one_name
from hpcbench.records.columns import COLUMNS, Status
from hpcbench.records.variants import BASE

Json = dict[str, Any]

SETTINGS, METRICS_GROUP, PROVENANCE = "Settings", "Metrics", "Where and with what"
"""Groups of columns, in the order of the details of a point."""

_MS, _GIB, _PERCENT = (1e-3, "ms"), (2.0**-30, "GiB"), (100.0, "%")
ENERGY = "energy_j_per_infer"

METRICS: dict[str, tuple[str, float, str]] = {
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
    "server_compute_us": ("compute", *_MS),
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
"""For each metric its name in the report, the factor to the unit shown there, and that unit."""

_WITH_INTERVAL = ("throughput_infer_per_s", ENERGY)
_IN_TABLE = (
    *("throughput_infer_per_s", "latency_p50_us", "latency_p99_us", "gpu_memory_max_bytes"),
)

# Numbers of a setting are written as they were given, others with as many digits as are known.
_SETTING_DIGITS, _METRIC_DIGITS = 15, 5

_NAMES = {"model": "name in the repository", "sdk_image_digest": "client image digest"}
_MEANINGS = {column.name: column.meaning for column in COLUMNS} | {
    ENERGY: "mean power of the GPUs divided by throughput"
}


@dataclass(frozen=True)
class ReportPoints:
    """The configurations of a set of results, and the measurements of each.

    Attributes
    ----------
    frame
        One row for each measurement, as `hpcbench.load_results` returns them.
    table
        One row for each configuration: the columns of `configuration.CONFIGURATION`, the
        statistics of METRICS, ``row`` (position of its first measured row in ``frame``),
        ``device`` and ``status``.
    numbers
        For each row of ``frame`` the position of its configuration in ``table``.
    """

    frame: pd.DataFrame
    table: pd.DataFrame
    numbers: configuration.Numbers


def report_points(frame: pd.DataFrame) -> ReportPoints:
    """Join the repeats of each configuration.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them.

    Returns
    -------
    ReportPoints
        Configurations in the order in which they appear in ``frame``.
    """
    frame = configuration.normalised(frame.assign(**{ENERGY: energy_j_per_infer(frame)}))
    frame = with_one_name(frame)
    names = [name for name in METRICS if np.isfinite(configuration.as_floats(frame[name])).any()]
    table = statistics.join_repeats(frame, names)
    numbers = configuration.group_numbers(frame, configuration.CONFIGURATION)
    status = frame["status"].astype(object).to_numpy()[table["row"]]
    status[(table["unstable"] > 0).to_numpy()] = str(Status.UNSTABLE)
    return ReportPoints(frame, table.assign(status=status, device=device_names(table)), numbers)


def device_names(table: pd.DataFrame) -> list[str]:
    """Return the short name of the device of each row.

    Parameters
    ----------
    table
        Rows with the columns of `configuration.HARDWARE` and ``instance_kind``.

    Returns
    -------
    list[str]
        Names such as ``Tesla T4``, one for each row.
    """
    names = ["gpu_name", "gpu_count", "cpu_name", "cpu_count", "instance_kind"]
    numbers = configuration.group_numbers(table, names)
    first = np.unique(numbers, return_index=True)[1]
    short = [device_name(row) for row in configuration.plain_rows(table[names], first)]
    return [short[number] for number in numbers]


def point_columns(points: ReportPoints) -> list[Json]:
    """Return all columns of the points for the scripts of the page.

    Parameters
    ----------
    points
        Points of `report_points`.

    Returns
    -------
    list[Json]
        Columns in the order of the table of the page, each with ``name``, ``label``, ``unit``,
        ``group``, ``meaning`` and ``values``; those of strings have ``levels``. Columns without
        any value are left out.
    """
    table, rows = points.table, points.frame.iloc[points.table["row"]].reset_index(drop=True)
    settings, rest = _setting_columns(table)
    found = [*settings, _text_column("status", "status", table["status"], SETTINGS)]
    found[-1] |= {"shown": True, "facet": True, "search": True}
    counts = {name: table[name].to_numpy(float) for name in ("measured", "repeats", "unstable")}
    counts["settled"] = counts["measured"] - counts.pop("unstable")
    found += [_number_column(name, name, "", n, SETTINGS) for name, n in counts.items()]
    found += [_metric_column(table, name) for name in METRICS if name in table]
    found += rest
    for name in ("campaign", "node", "kernel", "hpcbench_version", "platform", "point_id"):
        found.append(_text_column(name, name.replace("_", " "), rows[name], PROVENANCE))
    found[-1]["search"] = True
    for name, label in (
        *(("reason", "Reason"), ("log_tail", "End of the log"), ("command", "Command")),
        ("server_config", "config.pbtxt"),
    ):
        found.append(_text_column(name, label, rows[name], label))
        found[-1] |= {"long": True, "search": name == "reason"}
    return [column for column in found if _has_values(column)]


def measurement_columns(points: ReportPoints) -> Json:
    """Return the columns of all measurements for the details of a point.

    Parameters
    ----------
    points
        Points of `report_points`.

    Returns
    -------
    Json
        ``columns``, ordered by point, and ``first``: the measurements of point i are those from
        ``first[i]`` up to ``first[i + 1]``.
    """
    order = np.argsort(points.numbers, kind="stable")
    frame = points.frame.iloc[order]
    latency = settled_latency_us(frame).to_numpy() * 1e-3
    throughput = configuration.as_floats(frame["throughput_infer_per_s"])
    ended = frame["ended_at"].dt.strftime("%Y-%m-%d %H:%M:%S")
    counts = np.bincount(points.numbers, minlength=len(points.table))
    return {
        "first": [0, *np.cumsum(counts).tolist()],
        "columns": [
            _number_column("repeat", "repeat", "", frame["repeat"].to_numpy(float), ""),
            _text_column("status", "status", frame["status"], ""),
            _number_column("throughput_infer_per_s", "throughput", "infer/s", throughput, ""),
            _number_column("latency_ms", "latency", "ms", latency, ""),
            _text_column("ended_at", "ended (UTC)", ended, ""),
            _text_column("node", "node", frame["node"], ""),
            _text_column("placement_id", "server log", frame["placement_id"], ""),
            _text_column("reason", "reason", frame["reason"], ""),
        ],
    }


def _setting_columns(table: pd.DataFrame) -> tuple[list[Json], list[Json]]:
    """Return the columns that set points apart, and those that add nothing to these."""
    candidates: list[Json] = [
        _text_column("model_label", "model", table["model_label"], SETTINGS) | {"facet": True},
        _text_column("device", "device", table["device"], SETTINGS) | {"facet": True},
        *(_load_column(table, name) for name in configuration.LOAD),
        *_server_axis_columns(table),
        *(
            _text_column(name, _NAMES.get(name, name.replace("_", " ")), values, PROVENANCE)
            for name in ("site", "pool", *_other_names(table))
            for values in [_readable_values(table, name)]
        ),
    ]
    kept: list[Json] = []
    rest: list[Json] = []
    numbers = np.zeros(len(table), dtype=np.int64)
    for column in candidates:
        # A column whose values follow from those before it sets no points apart.
        finer = _refined(numbers, column["values"])
        adds = len(finer) and finer.max() > numbers.max()
        always = column["name"] in ("model_label", "device", "batch_size", "concurrency")
        if adds or always:
            kept.append(column | {"setting": True, "shown": True, "search": "levels" in column})
            numbers = finer
        else:
            rest.append(column)
    return kept, rest


def _refined(numbers: configuration.Numbers, values: list[Any]) -> configuration.Numbers:
    pair = pd.DataFrame({"numbers": numbers, "values": pd.Series(values, dtype=object)})
    return configuration.group_numbers(pair, ["numbers", "values"])


def _other_names(table: pd.DataFrame) -> list[str]:
    asked = {axis for text in table["variant"].dropna().unique() for axis in json.loads(text)}
    named = {"model_label", "variant", *configuration.LOAD, "site", "pool", *asked}
    return [name for name in configuration.CONFIGURATION if name in table and name not in named]


def _readable_values(table: pd.DataFrame, name: str) -> pd.Series:
    if name not in configuration.RESOLVED:
        return table[name]
    return _texts(table, name)


def _texts(table: pd.DataFrame, name: str) -> pd.Series:
    missing = table[name].isna()
    texts = [
        None if gone else value_text(name, value)
        for value, gone in zip(table[name], missing, strict=True)
    ]
    return pd.Series(texts, dtype=object)


def _load_column(table: pd.DataFrame, name: str) -> Json:
    values = table[name]
    if is_numeric_dtype(values) and not is_bool_dtype(values):
        number = configuration.as_floats(values)
        return _number_column(name, axis_name(name), axis_unit(name), number, SETTINGS)
    return _text_column(name, axis_name(name), _texts(table, name), SETTINGS)


def _server_axis_columns(table: pd.DataFrame) -> list[Json]:
    """Return a column for each server axis: of numbers where its values are numbers."""
    codes, texts = pd.factorize(table["variant"].astype(object))
    variants: list[dict[str, Any]] = [json.loads(text) for text in texts]
    found = []
    for axis in sorted(
        {name for variant in variants for name in variant}, key=configuration.axis_sort_key
    ):
        given = [variant.get(axis, BASE) for variant in variants]
        if _are_numbers(given) and axis in table and is_numeric_dtype(table[axis]):
            asked = np.array(
                [value if isinstance(value, int) else np.nan for value in [*given, None]]
            )
            # Where the axis was left alone, the server reports the number that it chose.
            served = configuration.as_floats(table[axis])
            number = np.where(np.isnan(asked[codes]), served, asked[codes])
            column = _number_column(axis, axis_name(axis), axis_unit(axis), number, SETTINGS)
        else:
            values = [*(value_text(axis, value) for value in given), None]
            text = pd.Series(values, dtype=object).iloc[codes]
            column = _text_column(axis, axis_name(axis), text, SETTINGS)
            column |= {"unit": axis_unit(axis)}
        found.append(column)
    return found


def _are_numbers(values: list[Any]) -> bool:
    """Return whether the values of an axis, beside those that leave it alone, are numbers."""
    given = [value for value in values if value not in (BASE, None)]
    return bool(given) and all(type(value) is int for value in given)


def _metric_column(table: pd.DataFrame, name: str) -> Json:
    label, factor, unit = METRICS[name]
    values = table[name].to_numpy(float) * factor
    column = _number_column(name, label, unit, values, METRICS_GROUP) | {"shown": name in _IN_TABLE}
    if name in _WITH_INTERVAL or name.startswith("latency"):
        for end in ("low", "high"):
            column[end] = _rounded(table[f"{name}_{end}"].to_numpy(float) * factor)
    return column


def _number_column(
    name: str, label: str, unit: str, values: configuration.Array, group: str
) -> Json:
    return {
        "name": name,
        "label": label,
        "unit": unit,
        "group": group,
        "meaning": _MEANINGS.get(name, ""),
        "used": bool(np.isfinite(values).any()),
        "values": _rounded(values, _SETTING_DIGITS if group == SETTINGS else _METRIC_DIGITS),
    }


def _rounded(values: configuration.Array, digits: int = _METRIC_DIGITS) -> list[float | int | None]:
    # JSON has no NaN and no infinity.
    return [
        None if value - value != 0 else _as_int(float(f"{value:.{digits}g}"))
        for value in values.tolist()
    ]


def _as_int(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _text_column(name: str, label: str, values: pd.Series, group: str) -> Json:
    codes, found = pd.factorize(values.astype(object))
    order = list(range(len(found)))
    if group == SETTINGS and name != "model_label":
        order.sort(key=lambda i: natural_key(str(found[i])))
    # Code -1, a missing value, finds the last place.
    places = np.empty(len(found) + 1, dtype=np.int64)
    places[order], places[-1] = np.arange(len(found)), -1
    return {
        "name": name,
        "label": label,
        "unit": "",
        "group": group,
        "meaning": _MEANINGS.get(name, ""),
        "levels": [str(found[i]) for i in order],
        "values": places[codes].tolist(),
    }


def _has_values(column: Mapping[str, Any]) -> bool:
    return bool(column["levels"]) if "levels" in column else bool(column["used"])
