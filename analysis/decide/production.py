"""The numbers that production needs of a recommendation, each with the rows that it comes from."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.decide.recommend import Recommendation
from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    CONFIGURATION_INPUTS,
    LOAD,
    RESOLVED,
    WINDOWS,
    Numbers,
    as_floats,
    group_numbers,
    normalised,
    plain_rows,
    strings_as_categories,
)
from hpcbench.analysis.summary.configuration_names import beside_text
from hpcbench.analysis.summary.invalid_rows import OVERLOADED, is_overloaded, without_invalid
from hpcbench.analysis.summary.same_servers import with_one_name
from hpcbench.errors import BadInput
from hpcbench.records.columns import MEASURED

_FREE = {*LOAD, *WINDOWS, *RESOLVED} - {"batch_size"}

_SERVER_AND_BATCH = tuple(name for name in CONFIGURATION if name not in _FREE)
"""What the rows of one server and batch size have in common; they differ in the load."""

PRODUCTION_COLUMNS = tuple(
    dict.fromkeys(
        (
            *CONFIGURATION_INPUTS,
            *("point_id", "run_id", "placement_id", "invalid_reasons", "part_of", "source"),
            *("latency_p99_us", "latency_p99_bound_us", "server_queue_us"),
            *("success_count", "execution_count", "server_ready_s", "server_memory_max_bytes"),
            *("server_cpu_s", "cpu_sampled_s", "server_image", "gpu_mig_profile"),
            *("needs", "beside_configs"),
        )
    )
)
"""The columns that `numbers_for_production` needs."""

PROBE_PERIOD_S = 10
"""Kubernetes asks so often whether a server has started, as SuperSONIC's chart does."""

LEAST_PROBES = 3
"""A pod starts slower than a process, and may read its models from a network for the first time."""

READY_MARGIN, MEMORY_MARGIN, TIMEOUT_MARGIN = 2.0, 1.5, 10.0
"""What production gets, over the longest start, the most memory and the highest p99 measured."""

MEMORY_STEP_MIB = 256
"""The limit of the memory is rounded up to a multiple of this."""

_MIB = 2**20


@dataclass(frozen=True)
class Production:
    """What production needs to know of one recommendation. None: not known.

    Attributes
    ----------
    rows
        How many measurements the numbers of the configuration come from.
    point_ids, run_ids, sources
        Which: what these columns hold in them. Older and imported results have no ``run_id``, and
        those that were measured no ``source``.
    sessions
        Of how many sessions they are; None where that is not known.
    server_rows, server_point_ids
        The measurements of this server and batch size under any load: of them are the times until
        it was ready, the memory and the CPUs.
    load_rows, load_point_ids
        The measurements that the threshold comes from: of the highest load within the limit.
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
        How many starts these are of: measurements of one placement share one.
    startup_failures
        How many probes of PROBE_PERIOD_S may fail while it starts: READY_MARGIN times the longest
        start, LEAST_PROBES at least.
    memory_max_bytes
        Most resident memory of the server.
    memory_mib
        What it may take: MEMORY_MARGIN times that, in steps of MEMORY_STEP_MIB.
    cpus
        What it used, rounded up to whole CPUs.
    gpus
        GPUs of one server.
    mig_profile
        The size of the MIG slice that served, such as ``1g.5gb``; None for whole GPUs.
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
    point_ids: tuple[str, ...]
    run_ids: tuple[str, ...]
    sources: tuple[str, ...]
    sessions: int | None
    server_rows: int
    server_point_ids: tuple[str, ...]
    load_rows: int
    load_point_ids: tuple[str, ...]
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
    mig_profile: str | None
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


def numbers_for_production(
    advice: Iterable[Recommendation], frame: pd.DataFrame
) -> tuple[Production | None, ...]:
    """Return what production needs of each recommendation.

    Parameters
    ----------
    advice
        The recommendations.
    frame
        The measurements that they were made of, with PRODUCTION_COLUMNS.

    Returns
    -------
    tuple of Production or None
        In the order of ``advice``; None where nothing is recommended.

    Raises
    ------
    BadInput
        The measurements of a recommended configuration are not among these.
    """
    advice = list(advice)
    whole = frame[frame["part_of"].isna()]
    is_shared = whole["beside"].notna()
    # Apart, as recommendations are: which variants are one server is found in what is there.
    known = {
        shared: _Measured.of(whole[is_shared == shared])
        for shared in {one.best["beside"] is not None for one in advice if one.best}
    }
    return tuple(
        _numbers(one, one.best, known[one.best["beside"] is not None]) if one.best else None
        for one in advice
    )


@dataclass(frozen=True)
class _Measured:
    """Measurements as they are recommended: n rows, and the number of the group of each."""

    frame: pd.DataFrame
    configurations: Numbers
    servers: Numbers

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "_Measured":
        # In the steps of `candidates.tabulate`: other rows would give other configurations.
        frame = without_invalid(frame.reset_index(drop=True), but=[OVERLOADED])
        frame = with_one_name(normalised(strings_as_categories(frame)))
        return cls(
            frame, group_numbers(frame, CONFIGURATION), group_numbers(frame, _SERVER_AND_BATCH)
        )

    def rows(self, best: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return those of a configuration, and those of its server and batch size."""
        frame = self.frame
        used = frame["status"].isin(sorted(MEASURED)).to_numpy(dtype=bool) & ~is_overloaded(frame)
        # A point has the same id on all hardware of its pool.
        found = np.flatnonzero((frame["point_id"] == best["point_id"]).to_numpy(dtype=bool))
        _, first = np.unique(self.configurations[found], return_index=True)
        candidates = plain_rows(frame[[*CONFIGURATION]], found[first])
        for place, row in zip(found[first], candidates, strict=True):
            if all(row[name] == best[name] for name in CONFIGURATION):
                chosen = used & (self.configurations == self.configurations[place])
                alike = used & (self.servers == self.servers[place])
                if chosen.any():
                    return frame[chosen], frame[alike]
        raise BadInput(
            f"point {best['point_id']} is recommended, and none of its measurements is found",
            "do not change the results meanwhile; hpcbench check says what they hold",
        )


def _numbers(one: Recommendation, best: Mapping[str, Any], measured: _Measured) -> Production:
    chosen, rows = measured.rows(best)
    loaded = _highest_load(rows, chosen, one.requirements.max_latency_p99_ms)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_request = as_floats(loaded["success_count"]) / as_floats(loaded["execution_count"])
        cpus = _known(as_floats(rows["server_cpu_s"]) / as_floats(rows["cpu_sampled_s"]))
    queue_ms = _known(as_floats(loaded["server_queue_us"]) * per_request / 1000)
    mean_queue_ms = float(np.mean(queue_ms)) if len(queue_ms) else None
    starts = rows.drop_duplicates(["run_id", "placement_id", "server_ready_s"])
    ready_s = _known(as_floats(starts["server_ready_s"]))
    ready_max_s = float(ready_s.max()) if len(ready_s) else None
    memory = _known(as_floats(rows["server_memory_max_bytes"]))
    bounds = _known(as_floats(chosen["latency_p99_bound_us"])) / 1000
    is_bound = 0 < len(bounds) == len(chosen)
    highest = bounds if is_bound else _known(as_floats(chosen["latency_p99_us"])) / 1000
    p99_ms = float(highest.max()) if len(highest) else None
    run_ids = _distinct(chosen["run_id"])
    return Production(
        rows=len(chosen),
        point_ids=_distinct(chosen["point_id"]),
        run_ids=run_ids,
        sources=_distinct(chosen["source"]),
        sessions=len(run_ids) or None,
        server_rows=len(rows),
        server_point_ids=_distinct(rows["point_id"]),
        load_rows=len(queue_ms),
        load_point_ids=_distinct(loaded["point_id"]),
        concurrency=_plain(loaded["concurrency"].iloc[0], int),
        request_rate=_plain(loaded["request_rate"].iloc[0], float),
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
        memory_mib=_times(memory.max() / _MIB, MEMORY_MARGIN / MEMORY_STEP_MIB, MEMORY_STEP_MIB)
        if len(memory)
        else None,
        cpus=max(1, math.ceil(cpus.max())) if len(cpus) else None,
        gpus=_plain(best.get("gpu_count"), int) or 0,
        mig_profile=", ".join(_distinct(chosen["gpu_mig_profile"])) or None,
        needs=_needs(chosen),
        beside=None if best["beside"] is None else beside_text(json.loads(best["beside"])),
        image=_image(chosen),
        triton_version=_plain(best.get("triton_version"), str),
        latency_p99_ms=p99_ms,
        latency_is_bound=is_bound,
        timeout_s=_times(p99_ms, TIMEOUT_MARGIN / 1000),
    )


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


def _distinct(column: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(map(str, column.dropna().unique())))


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
    if pd.isna(rows["server_image"].iloc[0]):
        return None
    name = str(rows["server_image"].iloc[0]).removeprefix("docker://")
    digest = rows["server_image_digest"].iloc[0]
    if name.startswith(("/", ".")) or name.endswith(".sif"):
        return None
    is_digest = not pd.isna(digest) and str(digest).startswith("sha256:")
    return f"{name.partition('@')[0]}@{digest}" if is_digest else name
