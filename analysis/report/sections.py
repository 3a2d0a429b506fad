"""The sections of a report that are text: what ran where, and with what."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from hpcbench.analysis.decide.recommend import Recommendation, recommend_configurations
from hpcbench.analysis.decide.recommend_text import recommendation_distinctions
from hpcbench.analysis.report.page_data import ReportPoints
from hpcbench.analysis.summary import configuration
from hpcbench.analysis.summary.configuration_names import (
    device_name,
    load_text,
    model_text,
    server_text,
)
from hpcbench.analysis.summary.invalid_rows import INVALID
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.analysis.summary.number_format import format_interval, format_with_error
from hpcbench.analysis.summary.points import row_dicts
from hpcbench.analysis.summary.statistics import Counts
from hpcbench.records.columns import MEASURED, Status

NO_VALUE = "\N{EN DASH}"
"""What stands where there is no value."""

_TIMES = "\N{MULTIPLICATION SIGN}"

MOST_CONFIGS = 40

STATUS_MEANINGS: dict[str, str] = {
    Status.OK: "measured; three windows agreed",
    Status.UNSTABLE: "measured, but no three windows agreed",
    INVALID: "measured, but not valid, and so left out",
    Status.FAILED: "no result",
    Status.TIMEOUT: "no result in time",
    Status.NOT_APPLICABLE: "the model or the backend does not support a setting",
}


def status_counts(frame: pd.DataFrame) -> list[tuple[str, int, str]]:
    """Count the measurements of each status.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them.

    Returns
    -------
    list[tuple[str, int, str]]
        Status, number of measurements, and meaning of every status.
    """
    found = frame["status"].value_counts()
    return [
        (str(status), int(found.get(status, 0)), meaning)
        for status, meaning in STATUS_MEANINGS.items()
    ]


def best_configurations(points: ReportPoints) -> list[dict[str, Any]]:
    """Recommend a configuration for each model on each device, without any limit.

    Parameters
    ----------
    points
        Points of the page.

    Returns
    -------
    list[dict[str, Any]]
        Texts for the summary. ``row`` is the position in ``points.table``, None where nothing is
        recommended.
    """
    advice = recommend_configurations(points.frame, Requirements())
    return [
        {
            "model": model_text(one.identity),
            "device": device_name(one.identity),
            "distinction": distinction,
            "best": one.best,
            "load": load_text(one.best) if one.best else "",
            "server": server_text(one.best) if one.best else "",
            "throughput": format_with_error(one.best or {}, "throughput_infer_per_s"),
            "latency_ms": format_with_error(one.best or {}, "latency_p99_ms"),
            "counts": str(Counts.of(one.best)) if one.best else "",
            "gain": _gain(one),
            "notes": one.notes if one.best else one.failing,
            "row": _position(points, one.best) if one.best else None,
        }
        for one, distinction in zip(advice, recommendation_distinctions(advice), strict=True)
    ]


def _gain(advice: Recommendation) -> str:
    base = advice.base
    if base is None:
        return ""
    if advice.best is not None and advice.best["own"]:
        return "is its own"
    return f"{format_interval(base.ratio, base.low, base.high)} {_TIMES}"


def _position(points: ReportPoints, row: Mapping[str, Any]) -> int | None:
    """Return the position of a configuration in ``points.table``."""
    ids = points.frame["point_id"].to_numpy(dtype=object)[points.table["row"]]
    # Points of different pools or software share an id.
    for place in (ids == row["point_id"]).nonzero()[0]:
        mine = points.table.iloc[place]
        if all(_same(mine[name], row[name]) for name in configuration.CONFIGURATION):
            return int(place)
    return None


def _same(value: Any, other: Any) -> bool:
    if other is None:
        return not isinstance(value, tuple) and bool(pd.isna(value))
    return type(value) is not type(pd.NA) and bool(value == other)


def campaigns_run(points: ReportPoints) -> list[dict[str, Any]]:
    """Summarize what ran where.

    Parameters
    ----------
    points
        All points.

    Returns
    -------
    list[dict[str, Any]]
        For each campaign, site, pool, device, driver and Triton version the numbers of
        measurements and nodes, and the first and last time.
    """
    frame = points.frame.assign(device=points.table["device"].to_numpy()[points.numbers])
    keys = ["campaign", "site", "pool", "device", "gpu_driver", "triton_version"]
    groups = frame.groupby(keys, dropna=False, sort=False, observed=True)
    table = groups.agg(
        measurements=("status", "size"),
        measured=("status", lambda statuses: int(statuses.isin(sorted(MEASURED)).sum())),
        settled=("status", lambda statuses: int((statuses == Status.OK).sum())),
        nodes=("node", "nunique"),
        first=("started_at", "min"),
        last=("ended_at", "max"),
    ).reset_index()
    return _plain_records(table)


def software_used(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the measurements of each combination of images and versions.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them.

    Returns
    -------
    list[dict[str, Any]]
        One row for each combination.
    """
    keys = [
        *("runtime", "server_image_digest", "sdk_image_digest", "triton_version"),
        *("perf_analyzer_version", "hpcbench_version"),
    ]
    return _count_measurements(frame, keys)


def node_types(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the measurements of each type of node.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them.

    Returns
    -------
    list[dict[str, Any]]
        One row for each combination of pool, GPU, CPU, memory and kernel.
    """
    keys = [
        *("site", "pool", "gpu_name", "gpu_count", "gpu_driver", "cpu_name", "cpu_count"),
        *("memory_bytes", "kernel"),
    ]
    return _count_measurements(frame, keys)


def models_served(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the measurements of each model.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them.

    Returns
    -------
    list[dict[str, Any]]
        One row for each combination of label, files and shapes.
    """
    keys = [
        *("model_label", "model", "model_version", "model_digest", "platform", "max_batch_size"),
        "shapes",
    ]
    return _count_measurements(frame, keys)


def server_configs(frame: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Return every config.pbtxt that Triton was given.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them.

    Returns
    -------
    list[tuple[str, str, int]]
        Label of the model, content of the file, and number of measurements with it.
    """
    known = frame[frame["server_config"].notna()]
    rows = _count_measurements(known, ["model_label", "server_config"])
    return [(row["model_label"], row["server_config"], row["measurements"]) for row in rows]


def first_commands(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the first command of perf_analyzer for each model.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them.

    Returns
    -------
    list[tuple[str, str]]
        Label of the model and command line, for models that have one.
    """
    first = frame[frame["command"].notna()].drop_duplicates("model_label")
    return list(zip(first["model_label"].astype(str), first["command"].astype(str), strict=True))


def _count_measurements(frame: pd.DataFrame, keys: Sequence[str]) -> list[dict[str, Any]]:
    groups = frame.groupby(list(keys), dropna=False, sort=False, observed=True)
    return _plain_records(groups.size().reset_index(name="measurements"))


def _plain_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    values = table.astype(object)
    return row_dicts(values.where(values.notna(), None))
