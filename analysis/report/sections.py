"""The parts of a report that are text: what was run where, what failed and why, with what."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hpcbench.analysis.decide.recommend import Recommendation, recommend_configurations
from hpcbench.analysis.decide.recommend_text import recommendation_distinctions
from hpcbench.analysis.report.data import Points, devices
from hpcbench.analysis.summary import configuration
from hpcbench.analysis.summary.configuration_names import device_name, load_text, server_text
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.analysis.summary.number_format import format_interval, format_with_error
from hpcbench.analysis.summary.points import row_dicts
from hpcbench.records.columns import MEASURED, Status

NONE = "\N{EN DASH}"
"""What stands where there is no value."""

_TIMES = "\N{MULTIPLICATION SIGN}"

MOST_TAILS = 3
MOST_TAIL_CHARACTERS = 6000
MOST_GROUPS = 100
MOST_CONFIGS = 40

MEANINGS = {
    Status.OK: "measured: three windows agreed",
    Status.UNSTABLE: "measured, but no three windows agreed",
    Status.FAILED: "no figures",
    Status.TIMEOUT: "no figures in time",
    Status.NOT_APPLICABLE: "this model or backend cannot take an axis",
}

# What differs between two cases of the same trouble: addresses, ids, counts and times.
_PARTICULAR = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+(?:\.\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Trouble:
    """Measurements that went wrong in the same way."""

    status: str
    reason: str
    count: int
    where: list[str]
    more: int
    tails: list[str]


def counts(frame: pd.DataFrame) -> list[tuple[str, int, str]]:
    """(status, measurements that ended so, what it means), all statuses."""
    found = frame["status"].value_counts()
    return [(str(status), int(found.get(status, 0)), MEANINGS[status]) for status in Status]


def best(points: Points) -> list[dict[str, Any]]:
    """For each model on each device the configuration that `recommend` gives without any limit.

    ``row`` is its place in the table of points, None where nothing is recommended.
    """
    advice = recommend_configurations(points.frame, Requirements())
    return [
        {
            "model": one.identity["model_label"],
            "device": device_name(one.identity),
            "distinction": distinction,
            "best": one.best,
            "load": load_text(one.best) if one.best else "",
            "server": server_text(one.best) if one.best else "",
            "throughput": format_with_error(one.best or {}, "throughput_infer_per_s"),
            "latency_ms": format_with_error(one.best or {}, "latency_p99_ms"),
            "gain": _gain(one),
            "notes": one.notes if one.best else one.failing,
            "row": _place(points, one.best) if one.best else None,
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


def _place(points: Points, row: Mapping[str, Any]) -> int | None:
    """Where the table has that configuration."""
    ids = points.frame["point_id"].to_numpy(dtype=object)[points.table["row"]]
    for place in (ids == row["point_id"]).nonzero()[0]:
        mine = points.table.iloc[place]
        if all(_same(mine[name], row[name]) for name in configuration.CONFIGURATION):
            return int(place)
    return None


def _same(value: Any, other: Any) -> bool:
    if other is None:
        return not isinstance(value, tuple) and bool(pd.isna(value))
    return type(value) is not type(pd.NA) and bool(value == other)


def origins(points: Points) -> list[dict[str, Any]]:
    """One row per campaign, site, pool and what was found there, with counts and times."""
    frame = points.frame.assign(device=points.table["device"].to_numpy()[points.numbers])
    keys = ["campaign", "site", "pool", "device", "gpu_driver", "triton_version"]
    groups = frame.groupby(keys, dropna=False, sort=False, observed=True)
    table = groups.agg(
        measurements=("status", "size"),
        measured=("status", lambda statuses: int(statuses.isin(sorted(MEASURED)).sum())),
        nodes=("node", "nunique"),
        first=("started_at", "min"),
        last=("ended_at", "max"),
    ).reset_index()
    return _records(table)


def software(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Each combination of images and versions, and how many measurements were made with it."""
    keys = [
        *("runtime", "server_image_digest", "sdk_image_digest", "triton_version"),
        *("perf_analyzer_version", "hpcbench_version"),
    ]
    return _grouped(frame, keys)


def machines(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Each kind of node."""
    keys = [
        *("site", "pool", "gpu_name", "gpu_count", "gpu_driver", "cpu_name", "cpu_count"),
        *("memory_bytes", "kernel"),
    ]
    return _grouped(frame, keys)


def models(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Each model, as it was served."""
    keys = [
        *("model_label", "model", "model_version", "model_digest", "platform", "max_batch_size"),
        "shapes",
    ]
    return _grouped(frame, keys)


def server_configs(frame: pd.DataFrame) -> list[tuple[str, str, int]]:
    """(model, config.pbtxt, measurements with it), each file once, in their order."""
    known = frame[frame["server_config"].notna()]
    rows = _grouped(known, ["model_label", "server_config"])
    return [(row["model_label"], row["server_config"], row["measurements"]) for row in rows]


def commands(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """(model, command) of the first measurement of each model that has one."""
    first = frame[frame["command"].notna()].drop_duplicates("model_label")
    return list(zip(first["model_label"].astype(str), first["command"].astype(str), strict=True))


def troubles(points: Points) -> list[Trouble]:
    """Everything that is not ok, alike reasons together, the commonest of each status first."""
    bad = points.frame[(points.frame["status"] != Status.OK).to_numpy(dtype=bool)]
    bad = bad.assign(device=devices(bad), told=bad["reason"].astype(object))
    bad["told"] = bad["told"].where(bad["told"].notna(), "no reason was recorded")
    bad["kind"] = [
        _PARTICULAR.sub("#", _essence(status, reason))
        for status, reason in zip(bad["status"], bad["told"], strict=True)
    ]
    worst_first = [Status.FAILED, Status.TIMEOUT, Status.UNSTABLE, Status.NOT_APPLICABLE]
    found = [
        _trouble(str(status), rows)
        for status, rows in (
            (rows["status"].iloc[0], rows)
            for _, rows in bad.groupby(["status", "kind"], sort=False)
        )
    ]
    return sorted(found, key=lambda t: (worst_first.index(Status(t.status)), -t.count))


def _essence(status: str, reason: str) -> str:
    # Points that did not settle differ in their figures only.
    return reason.partition(":")[0] if status == Status.UNSTABLE else reason


def _trouble(status: str, rows: pd.DataFrame) -> Trouble:
    reason = _essence(status, str(rows["told"].iloc[0]))
    tails = rows["log_tail"].dropna()
    unlike = tails[~tails.map(lambda text: _PARTICULAR.sub("#", str(text))).duplicated()]
    places: dict[str, set[int]] = {}
    for label, device, size in zip(
        rows["model_label"], rows["device"], rows["batch_size"], strict=True
    ):
        sizes = places.setdefault(f"{label} on {device}", set())
        if not pd.isna(size):
            sizes.add(int(size))
    where = [
        place + (f", batch size {', '.join(map(str, sorted(sizes)))}" if sizes else "")
        for place, sizes in places.items()
    ]
    return Trouble(
        status=status,
        reason=reason,
        count=len(rows),
        where=where[:12],
        more=len(where[12:]),
        tails=[str(tail)[-MOST_TAIL_CHARACTERS:] for tail in unlike[:MOST_TAILS]],
    )


def _grouped(frame: pd.DataFrame, keys: Sequence[str]) -> list[dict[str, Any]]:
    groups = frame.groupby(list(keys), dropna=False, sort=False, observed=True)
    return _records(groups.size().reset_index(name="measurements"))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    values = table.astype(object)
    return row_dicts(values.where(values.notna(), None))
