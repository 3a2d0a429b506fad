"""The table that every figure starts from: one row per point, with what is drawn of it.

What makes two measurements repeats of one point, and how they are joined, is
`hpcbench.analysis.summary.statistics`.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.summary import statistics
from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    as_floats,
    axis_sort_key,
    group_numbers,
    normalised,
)
from hpcbench.records.columns import Status

STAGES = {
    "client_send_ms": "client send",
    "network_ms": "network",
    "server_queue_ms": "queue",
    "server_compute_input_ms": "compute input",
    "server_compute_infer_ms": "compute infer",
    "server_compute_output_ms": "compute output",
    "client_recv_ms": "client receive",
}
"""Where a request spends its time, in the order in which it does, with their names in figures."""

OUTPUTS = ("output_rms_difference", "output_max_difference")
"""What a comparison of outputs leaves, where there was one; see `figures.tradeoff`."""

_LATENCIES = tuple(f"latency_{which}_ms" for which in ("avg", "p50", "p90", "p95", "p99"))

QUANTITIES = (
    *("throughput_infer_per_s", "latency_ms", *_LATENCIES, *STAGES),
    *("gpu_utilization_percent", "gpu_power_w", "gpu_memory_gib", "infer_per_j"),
    *OUTPUTS,
)
"""What a point has a mean and an interval of."""

_LACKING = (Status.FAILED, Status.TIMEOUT, Status.NOT_APPLICABLE)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per point, in the order of the campaign and then of CONFIGURATION.

    ``frame`` is what `load_results` returns. Beside what `statistics.join_repeats` gives of
    QUANTITIES a row has ``status``, "unstable" if one repeat was, and that of the records where
    none has figures; ``lacking``, the statuses of repeats without figures; ``reason``,
    ``campaigns``, ``point_id``, ``request_count``, ``part_of``; ``position`` of the model in its
    campaign.

    Latencies are in ms. ``latency_ms`` is the percentile that was asked for, else the mean.
    ``gpu_power_w`` is that of all GPUs, and ``infer_per_j`` the reciprocal of
    `statistics.energy_j_per_infer`. A missing figure is NaN, any other missing value None.
    """
    rows = frame[frame["batch_size"].notna()].reset_index(drop=True)
    rows = normalised(rows)
    rows = rows.assign(**_quantities(rows))
    points = statistics.join_repeats(rows, QUANTITIES)
    numbers = group_numbers(rows, CONFIGURATION)
    texts = [*CONFIGURATION]
    points[texts] = points[texts].astype(object).where(points[texts].notna(), None)
    for name in ("point_id", "request_count", "part_of"):
        found = rows[name].astype(object).iloc[points["row"]].reset_index(drop=True)
        points[name] = found.where(found.notna(), None)
    position = rows["model_position"].to_numpy(dtype=np.float64, na_value=np.inf)
    # Results that know no campaign have no place in one: they come last.
    points["position"] = pd.Series(position).groupby(numbers).min()
    _tell_statuses(points, rows, numbers)
    position = points["position"].to_numpy(np.float64)
    order = [*(natural_ranks(points[name]) for name in reversed(CONFIGURATION)), position]
    points = points.drop(columns="row")
    # A copy is of one piece: figures add columns, which a table in a hundred pieces takes badly.
    return points.iloc[np.lexsort(order)].reset_index(drop=True).copy()


def _quantities(rows: pd.DataFrame) -> dict[str, npt.NDArray[np.float64]]:
    def column(name: str) -> npt.NDArray[np.float64]:
        if name not in rows:
            return np.full(len(rows), np.nan)
        return as_floats(rows[name])

    seconds, energy = column("perf_analyzer_s"), statistics.energy_j_per_infer(rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        counted = column("gpu_energy_j") / np.where(seconds > 0, seconds, np.nan)
        infer_per_j = 1 / energy.to_numpy()
    told = column("gpu_power_avg_w") * column("gpu_count")
    return {
        "latency_ms": statistics.settled_latency_us(rows).to_numpy() / 1000,
        **{name: column(f"{name.removesuffix('ms')}us") / 1000 for name in (*_LATENCIES, *STAGES)},
        "gpu_utilization_percent": column("gpu_utilization_avg") * 100,
        "gpu_power_w": np.where(np.isfinite(counted), counted, told),
        "gpu_memory_gib": column("gpu_memory_max_bytes") / 2**30,
        "infer_per_j": infer_per_j,
        **{name: column(name) for name in OUTPUTS},
    }


def _tell_statuses(points: pd.DataFrame, rows: pd.DataFrame, numbers: npt.NDArray[Any]) -> None:
    status = rows["status"].to_numpy(dtype=object)
    has = {
        which: np.bincount(numbers[status == which], minlength=len(points)) > 0
        for which in sorted(_LACKING)
    }
    nothing = points["measured"] == 0
    points["status"] = np.select(
        [points["unstable"] > 0, *(nothing & has[which] for which in _LACKING)],
        [str(which) for which in (Status.UNSTABLE, *_LACKING)],
        str(Status.OK),
    ).astype(object)
    points["lacking"] = [
        ", ".join(str(which) for which, there in zip(has, point, strict=True) if there)
        for point in zip(*has.values(), strict=True)
    ]
    reasons = rows["reason"].astype(object).groupby(numbers).first()
    points["reason"] = reasons.where(reasons.notna(), None)
    names = pd.DataFrame({"name": rows["campaign"].astype(object), "point": numbers})
    names = names.drop_duplicates().sort_values("name")
    several = names["point"].duplicated(keep=False)
    joined = names[several].groupby("point")["name"].agg(", ".join)
    alone = names[~several].set_index("point")["name"]
    points["campaigns"] = pd.concat([alone, joined.astype(object)])


def natural_ranks(values: pd.Series) -> npt.NDArray[np.int64]:
    """The place of each value in a reader's order: none first, then 2 before 10, also in text."""
    codes, uniques = pd.factorize(values.astype(object))
    keys = _variant_keys(uniques) if values.name == "variant" else [natural_key(v) for v in uniques]
    order = sorted(range(len(uniques)), key=lambda code: keys[code])
    places = np.zeros(len(uniques) + 1, dtype=np.int64)
    places[order] = range(1, len(uniques) + 1)
    found: npt.NDArray[np.int64] = places[codes]
    return found


_Key = list[tuple[int, float, str]]


def _variant_keys(variants: Iterable[str]) -> list[list[_Key]]:
    """An axis that is left alone makes the natural reference, as one that is switched off does."""
    asked: list[dict[str, Any]] = [json.loads(text) for text in variants]
    axes = sorted({axis for axes in asked for axis in axes}, key=axis_sort_key)
    return [[natural_key(given.get(axis)) for axis in axes] for given in asked]


def natural_key(value: Any) -> _Key:
    """Sorts 2 before 10, also inside a text, and what is missing first."""
    if value is None:
        return []
    if isinstance(value, int | float):
        return [(1, float(value), "")]
    return [
        (1, float(word), "") if word.isdecimal() else (0, 0.0, word)
        for word in re.split(r"(\d+)", str(value))
    ]


def row_dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dicts."""
    rows: list[Any] = table.to_dict("records")
    return rows
