"""The tables of Model Analyzer: metrics-model-inference, metrics-model-gpu and metrics-server-only.

Each is known by its headers. A configuration that Model Analyzer made, such as
``net_config_3``, is a variant of its model; ``net_config_default`` is the model as it was. Several
models at once are one row there, and concurrent measurements here: a cell such as
``"421.0, [184.5,236.5]"`` holds the sum or mean of all, then the value of each.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcbench.exchange.perf_files import UnknownFile, Values, whole
from hpcbench.measure.perf_output import csv_rows, parse_number

_METRICS: dict[str, tuple[str, float]] = {
    "Throughput (infer/sec)": ("throughput_infer_per_s", 1),
    "Avg Latency (ms)": ("latency_avg_us", 1e3),
    "p90 Latency (ms)": ("latency_p90_us", 1e3),
    "p95 Latency (ms)": ("latency_p95_us", 1e3),
    "p99 Latency (ms)": ("latency_p99_us", 1e3),
    "Client Send/Recv (ms)": ("client_request_response_us", 1e3),
    "Response Wait Time (ms)": ("client_response_wait_us", 1e3),
    "Server Queue time (ms)": ("server_queue_us", 1e3),
    "Server Compute Input time (ms)": ("server_compute_input_us", 1e3),
    "Server Compute Infer time (ms)": ("server_compute_infer_us", 1e3),
    "Server Compute Output time (ms)": ("server_compute_output_us", 1e3),
}
"""(column, factor to its unit) for each header of Model Analyzer 1.58."""

_MEMORY, _BUSY, _POWER = "GPU Memory Usage (MB)", "GPU Utilization (%)", "GPU Power Usage (W)"
_NAMING = ("Model", "Batch", "Concurrency", "Request Rate", "Model Config Path", "Instance Group")
"""What names a row."""

_OTHERS = ("Max Batch Size", "GPU UUID")
KNOWN_HEADERS = frozenset({*_NAMING, *_OTHERS, *_METRICS, _MEMORY, _BUSY, _POWER})

_SERVER_ALONE = "triton-server"

_Key = tuple[str, ...]


@dataclass(frozen=True)
class Tables:
    """The tables of Model Analyzer in one folder.

    Attributes
    ----------
    gpus
        Metrics of the GPUs, by what names a row of the table of inferences.
    alone
        Those of the server before it held a model.
    """

    gpus: Mapping[_Key, Values]
    alone: Values


def is_inference_table(headers: Collection[str]) -> bool:
    """Return whether these are the headers of metrics-model-inference.csv.

    Parameters
    ----------
    headers
        Of a CSV file.

    Returns
    -------
    bool
        Whether there are a model, a batch size and a throughput.
    """
    return {"Model", "Batch", "Throughput (infer/sec)"} <= set(headers)


def is_gpu_table(headers: Collection[str]) -> bool:
    """Return whether these are the headers of a table of GPUs.

    Parameters
    ----------
    headers
        Of a CSV file.

    Returns
    -------
    bool
        Whether there are a model and a GPU.
    """
    return {"Model", "GPU UUID"} <= set(headers)


def read_gpu_tables(texts: Sequence[str]) -> Tables:
    """Read the tables of GPUs of a folder.

    Parameters
    ----------
    texts
        Content of metrics-model-gpu.csv and of metrics-server-only.csv, in any order.

    Returns
    -------
    Tables
        Metrics by configuration, batch size and load.
    """
    rows: dict[_Key, list[Mapping[str, str]]] = {}
    alone: dict[str, Any] = {}
    for cells in (cells for text in texts for cells in csv_rows(text)):
        if cells["Model"] == _SERVER_ALONE:
            power = parse_number(cells.get(_POWER, ""))
            alone["idle_power_w"] = None if power is None else alone.get("idle_power_w", 0) + power
        else:
            rows.setdefault(_key(cells), []).append(cells)
    clear = {key: found for key, found in rows.items() if _has_one_row_per_gpu(found)}
    return Tables(
        gpus={key: _gpu_metrics(found) for key, found in clear.items()},
        alone={name: value for name, value in alone.items() if value is not None},
    )


def unmatched_rows(gpu_text: str, inference_texts: Sequence[str]) -> str | None:
    """Return which rows of a table of GPUs join no measurement.

    Parameters
    ----------
    gpu_text
        Content of metrics-model-gpu.csv.
    inference_texts
        Those of the metrics-model-inference.csv beside it.

    Returns
    -------
    str or None
        A phrase; None where each joins one.
    """
    times = Counter(_key(cells) for text in inference_texts for cells in csv_rows(text))
    rows = [cells for cells in csv_rows(gpu_text) if cells["Model"] != _SERVER_ALONE]
    lost = [cells for cells in rows if times[_key(cells)] != 1]
    if not lost:
        return None
    return (
        f"{len(lost)} of {len(rows)} rows, as of {lost[0]['Model']}, belong to no single row of "
        "the inferences: their GPUs' metrics are left out"
    )


def _has_one_row_per_gpu(rows: Sequence[Mapping[str, str]]) -> bool:
    return len({cells["GPU UUID"] for cells in rows}) == len(rows)


def _gpu_metrics(rows: Sequence[Mapping[str, str]]) -> Values:
    def numbers(header: str) -> list[float]:
        values = [parse_number(cells.get(header, "")) for cells in rows]
        return [value for value in values if value is not None]

    found: dict[str, Any] = {
        "gpu_uuid": ",".join(cells["GPU UUID"] for cells in rows),
        "gpu_count": len(rows),
    }
    if len(memory := numbers(_MEMORY)) == len(rows):
        found["gpu_memory_max_bytes"] = round(sum(memory) * 1e6)
    if len(busy := numbers(_BUSY)) == len(rows):
        found["gpu_utilization_avg"] = sum(busy) / len(rows) / 100
    if len(power := numbers(_POWER)) == len(rows):
        found["gpu_power_avg_w"] = sum(power) / len(rows)
    return found


def _key(cells: Mapping[str, str]) -> _Key:
    return tuple(cells.get(name, "") for name in _NAMING)


def analyzer_measurements(text: str, tables: Tables) -> Iterator[Values]:
    """Read a table of inferences.

    Parameters
    ----------
    text
        Content of metrics-model-inference.csv.
    tables
        Those of the GPUs beside it.

    Yields
    ------
    dict
        A measurement as values by column; one for each model of several.

    Raises
    ------
    UnknownFile
        Where a row does not tell its models apart.
    """
    rows = csv_rows(text)
    # Model Analyzer measures nothing twice: rows of one key differ in something that it does not
    # print, as the configurations of the models that a BLS model calls.
    times = Counter(map(_key, rows))
    seen: Counter[_Key] = Counter()
    for cells in rows:
        key = _key(cells)
        seen[key] += 1
        more = {**tables.alone, **(tables.gpus.get(key, {}) if times[key] == 1 else {})}
        hidden = f", other {seen[key]} of {times[key]}" if times[key] > 1 else ""
        if whole(cells["Batch"]) is not None:
            yield more | _one_model(cells, hidden)
        else:
            yield from (more | each for each in _several_models(cells, hidden))


def _one_model(cells: Mapping[str, str], hidden: str) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for header, (column, factor) in _METRICS.items():
        value = parse_number(cells.get(header, ""))
        if value is not None:
            metrics[column] = value * factor
    return {
        **metrics,
        "model": cells["Model"],
        "batch_size": whole(cells["Batch"]),
        "concurrency": whole(cells.get("Concurrency")),
        "request_rate": parse_number(cells.get("Request Rate", "")),
        "max_batch_size": whole(cells.get("Max Batch Size")),
        **_configuration(cells["Model"], cells, hidden),
    }


def _configuration(model: str, cells: Mapping[str, str], hidden: str = "") -> dict[str, Any]:
    name = cells.get("Model Config Path", "")
    # Of an ensemble, the instances are those of the models that it calls.
    group = re.fullmatch(r"(\d+):(\w+)", cells.get("Instance Group", "").strip())
    count = int(group[1]) if group else None
    axes = {"instance_count": count, "max_batch_size": whole(cells.get("Max Batch Size"))}
    is_base = re.match(rf"{re.escape(model)}_config_default\b", name) is not None
    known = {} if is_base else {axis: value for axis, value in axes.items() if value is not None}
    return {
        "instance_count": count,
        "instance_kind": f"KIND_{group[2]}" if group else None,
        "variant": json.dumps(known) if name else None,
        "variant_name": f"{name}{hidden}" if name else None,
    }


def _several_models(cells: Mapping[str, str], hidden: str) -> Iterator[dict[str, Any]]:
    """Yield what each of several models had, that were under load at the same time."""
    models = _listed(cells["Model"])
    parts = [
        {header: _part(text, place, len(models)) for header, text in cells.items()}
        for place in range(len(models))
    ]
    if len(models) < 2 or any(whole(part["Batch"]) is None for part in parts):
        raise UnknownFile("is about several models at once, and does not tell them apart")
    found = [_one_model(part, hidden) for part in parts]
    together = " + ".join(
        f"{each['variant_name'] or each['model']} {_load(each)}" for each in found
    )
    for place, each in enumerate(found):
        others = [other for other in found if other is not each]
        # Memory belongs to none of several models.
        yield each | {
            "gpu_memory_max_bytes": None,
            "model_position": place,
            "together_id": together,
            "beside": json.dumps([_beside(other) for other in others]),
        }


def _beside(other: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model as an entry of the column beside."""
    axes = json.loads(other["variant"]) if other["variant"] else {}
    return {
        "model_label": other["model"],
        "model_digest": None,
        "model_version": None,
        "variant": axes | ({"name": other["variant_name"]} if other["variant_name"] else {}),
        "shapes": {},
        "load": _load(other),
    }


def _load(values: Mapping[str, Any]) -> dict[str, Any]:
    names = ("batch_size", "concurrency", "request_rate")
    return {name: values[name] for name in names if values[name] is not None}


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _part(text: str, place: int, models: int) -> str:
    """Return the part of a cell that belongs to one of several models; the whole where it is one's.

    "421.0, [184.5,236.5]" is the total and each; "4,8" is each.
    """
    inside = re.search(r"\[([^]]*)\]", text)
    parts = _listed(inside[1] if inside else text)
    return parts[place] if len(parts) == models else "" if inside else text
