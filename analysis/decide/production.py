"""The numbers that production needs of a recommendation, each with the rows that it comes from."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.decide.recommend import Recommendation
from hpcbench.analysis.summary.configuration import as_floats, group_numbers
from hpcbench.analysis.summary.configuration_names import beside_text

_ALIKE = (
    *("site", "pool", "model", "model_label", "model_version", "variant", "variant_name", "shapes"),
    *("batch_size", "protocol", "server_image_digest", "gpu_count", "gpu_name", "beside"),
    "server_flags",
)
"""What the rows of one server and batch size have in common; they differ in the load."""

PRODUCTION_COLUMNS = (
    *_ALIKE,
    *("point_id", "concurrency", "request_rate", "valid", "part_of"),
    *("latency_p99_us", "latency_p99_bound_us", "server_queue_us"),
    *("success_count", "execution_count", "server_ready_s", "server_memory_max_bytes"),
    *("server_cpu_s", "cpu_sampled_s", "server_image", "run_id", "needs"),
    "beside_configs",
)
"""The columns that `numbers_for_production` needs."""

PROBE_PERIOD_S = 10
"""Kubernetes asks so often whether a server has started, as SuperSONIC's chart does."""

LEAST_PROBES = 3
"""A pod starts slower than a process, and may read its models from a network for the first time."""

READY_MARGIN, MEMORY_MARGIN, TIMEOUT_MARGIN = 2.0, 1.5, 10.0
"""What production gets, over the longest start, the most memory and the highest p99 measured."""

_MIB = 2**20


@dataclass(frozen=True)
class Production:
    """What production needs to know of one recommendation. None: not known.

    Attributes
    ----------
    rows
        How many measurements the numbers of the configuration come from.
    sessions
        Of how many sessions they are.
    load_rows
        How many measurements the threshold comes from: of the highest load within the limit.
    concurrency, request_rate
        That load.
    queue_ms_per_execution
        Time that requests waited in the queue, over the batches that ran [ms]: the metric that
        SuperSONIC scales on. Mean of ``load_rows``.
    queue_ms_low, queue_ms_high
        The least and the most of them.
    server_load_threshold
        That, as the whole number that the chart takes; 1 at least.
    servers
        How many serve the requested rate; spares come on top. None where no rate was requested.
    spares
        Servers beyond these.
    ready_median_s, ready_max_s
        From the start of Triton until it was ready.
    ready_starts
        How many starts these are of.
    startup_failures
        How many probes of PROBE_PERIOD_S may fail while it starts: READY_MARGIN times the longest
        start, LEAST_PROBES at least.
    memory_max_bytes
        Most resident memory of the server.
    memory_mib
        What it may take: MEMORY_MARGIN times that, in steps of 256 MiB.
    cpus
        What it used, rounded up to whole CPUs.
    gpus
        GPUs of one server.
    needs
        The other models that the server has to load: those that it calls, and those beside it.
    beside
        The other models on the server and their load, in words; None for none.
    image
        With its digest where that is known of the registry's image; None for no container.
    triton_version
        Of the measurement.
    latency_p99_ms
        The highest that can be said: an upper bound where every measurement has one.
    latency_is_bound
        Whether it is one.
    timeout_s
        TIMEOUT_MARGIN times that, in whole seconds: a request this late is lost, not slow.
    """

    rows: int
    sessions: int
    load_rows: int
    concurrency: int | None
    request_rate: float | None
    queue_ms_per_execution: float | None
    queue_ms_low: float | None
    queue_ms_high: float | None
    server_load_threshold: int | None
    servers: int | None
    spares: int | None
    ready_median_s: float | None
    ready_max_s: float | None
    ready_starts: int
    startup_failures: int | None
    memory_max_bytes: int | None
    memory_mib: int | None
    cpus: int | None
    gpus: int
    needs: tuple[str, ...]
    beside: str | None
    image: str | None
    triton_version: str | None
    latency_p99_ms: float | None
    latency_is_bound: bool
    timeout_s: int | None

    @property
    def startup_wait_s(self) -> int:
        """How long to wait for a server [s]; 60 as cmsTriton does, where nothing is known."""
        return (self.startup_failures or 6) * PROBE_PERIOD_S

    @property
    def json(self) -> dict[str, Any]:
        """All of it by name."""
        return asdict(self)


def numbers_for_production(one: Recommendation, frame: pd.DataFrame) -> Production | None:
    """Return what production needs of a recommendation.

    Parameters
    ----------
    one
        The recommendation.
    frame
        All measurements, with PRODUCTION_COLUMNS.

    Returns
    -------
    Production or None
        None where nothing is recommended.
    """
    best = one.best
    if best is None:
        return None
    rows = _alike(frame, best)
    chosen = rows[rows["point_id"] == best["point_id"]]
    loaded = _highest_load(rows, chosen, one.requirements.max_latency_p99_ms)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_request = as_floats(loaded["success_count"]) / as_floats(loaded["execution_count"])
        cpus = _known(as_floats(rows["server_cpu_s"]) / as_floats(rows["cpu_sampled_s"]))
    queue_ms = _known(as_floats(loaded["server_queue_us"]) * per_request / 1000)
    mean_queue_ms = float(np.mean(queue_ms)) if len(queue_ms) else None
    ready_s = _known(as_floats(rows["server_ready_s"]))
    ready_max_s = float(ready_s.max()) if len(ready_s) else None
    memory = _known(as_floats(rows["server_memory_max_bytes"]))
    bounds = _known(as_floats(chosen["latency_p99_bound_us"])) / 1000
    is_bound = 0 < len(bounds) == len(chosen)
    highest = bounds if is_bound else _known(as_floats(chosen["latency_p99_us"])) / 1000
    p99_ms = float(highest.max()) if len(highest) else None
    first = loaded.iloc[0] if len(loaded) else pd.Series(best)
    return Production(
        rows=len(chosen),
        sessions=max(1, chosen["run_id"].nunique()),
        load_rows=len(queue_ms),
        concurrency=_plain(first.get("concurrency"), int),
        request_rate=_plain(first.get("request_rate"), float),
        queue_ms_per_execution=mean_queue_ms,
        queue_ms_low=float(queue_ms.min()) if len(queue_ms) else None,
        queue_ms_high=float(queue_ms.max()) if len(queue_ms) else None,
        server_load_threshold=None if mean_queue_ms is None else max(1, round(mean_queue_ms)),
        servers=one.sizing.servers if one.sizing else None,
        spares=one.sizing.spares if one.sizing else None,
        ready_median_s=float(np.median(ready_s)) if len(ready_s) else None,
        ready_max_s=ready_max_s,
        ready_starts=len(ready_s),
        startup_failures=_probes(ready_max_s),
        memory_max_bytes=int(memory.max()) if len(memory) else None,
        memory_mib=_times(memory.max() / _MIB, MEMORY_MARGIN / 256, 256) if len(memory) else None,
        cpus=max(1, math.ceil(cpus.max())) if len(cpus) else None,
        gpus=_plain(best.get("gpu_count"), int) or 0,
        needs=_needs(chosen),
        beside=None if best["beside"] is None else beside_text(json.loads(best["beside"])),
        image=_image(chosen),
        triton_version=_plain(best.get("triton_version"), str),
        latency_p99_ms=p99_ms,
        latency_is_bound=is_bound,
        timeout_s=_times(p99_ms, TIMEOUT_MARGIN / 1000),
    )


def _alike(frame: pd.DataFrame, best: Mapping[str, Any]) -> pd.DataFrame:
    """Return the valid rows of the recommended server and batch size, under any load."""
    mask = frame["valid"].fillna(value=False).to_numpy(dtype=bool, copy=True)
    mask &= frame["part_of"].isna().to_numpy()
    for name in ("site", "pool"):
        mask &= (frame[name] == best[name]).to_numpy(dtype=bool)
    rows = frame[mask]
    servers = group_numbers(rows, _ALIKE)
    is_best = (rows["point_id"] == best["point_id"]).to_numpy(dtype=bool)
    found: pd.DataFrame = rows[np.isin(servers, servers[is_best])]
    return found


def _highest_load(rows: pd.DataFrame, chosen: pd.DataFrame, limit_ms: float | None) -> pd.DataFrame:
    """Return the rows of the highest load that keeps the limit of the p99 latency."""
    if limit_ms is None or rows["concurrency"].isna().all():
        return chosen
    p99_ms = pd.Series(as_floats(rows["latency_p99_us"]) / 1000, index=rows.index)
    means = p99_ms.groupby(as_floats(rows["concurrency"])).mean()
    kept = means[means <= limit_ms]
    if kept.empty:
        return chosen
    found: pd.DataFrame = rows[as_floats(rows["concurrency"]) == kept.index.max()]
    return found


def _known(values: Any) -> Any:
    return values[np.isfinite(values)]


def _times(value: float | None, factor: float, step: int = 1) -> int | None:
    return None if value is None else max(1, math.ceil(value * factor)) * step


def _probes(ready_s: float | None) -> int | None:
    probes = _times(ready_s, READY_MARGIN / PROBE_PERIOD_S)
    return None if probes is None else max(LEAST_PROBES, probes)


def _plain(value: Any, kind: type) -> Any:
    return None if value is None or pd.isna(value) else kind(value)


def _needs(rows: pd.DataFrame) -> tuple[str, ...]:
    known = [rows[name].dropna() for name in ("needs", "beside_configs")]
    names = (name for each in known if len(each) for name in json.loads(each.iloc[0]))
    return tuple(dict.fromkeys(names))


def _image(rows: pd.DataFrame) -> str | None:
    """Return the image as Kubernetes names it; None where it was a file or no image."""
    if rows.empty or pd.isna(rows["server_image"].iloc[0]):
        return None
    name = str(rows["server_image"].iloc[0]).removeprefix("docker://")
    digest = rows["server_image_digest"].iloc[0]
    if name.startswith(("/", ".")) or name.endswith(".sif"):
        return None
    is_digest = not pd.isna(digest) and str(digest).startswith("sha256:")
    return f"{name.partition('@')[0]}@{digest}" if is_digest else name
