"""Scans over batch size as records, for the tests of tables and figures."""

import json
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from hpcbench.measure.capacity import next_power, rate_of
from hpcbench.records.columns import Record
from hpcbench.records.frame import load_results
from hpcbench.records.store import write_records

BATCHES = (1, 4, 8, 16, 32, 64, 128)


def variant(**axes: Any) -> str:
    return json.dumps(axes)


def record(
    label: str = "PN-AK4 ONNX", batch: int = 1, repeat: int = 0, status: str = "ok", **changed: Any
) -> Record:
    """A measurement as a run would leave it, at 100 infer/s and batch / 2 ms unless changed."""
    measured = status in ("ok", "unstable")
    now = datetime.now(UTC)
    columns: dict[str, Any] = {
        "campaign": "scan",
        "site": "local",
        "pool": "gpu",
        "placement_id": "placement",
        "reason": None if status == "ok" else "out of memory",
        "model": label.split(maxsplit=1)[0],
        "variant": variant(),
        "concurrency": 4,
        "protocol": "grpc",
        "asynchronous": True,
        "measurement_interval_ms": 9000,
        "percentile": 95,
        "input_data": "random",
        "gpu_name": "NVIDIA A100-SXM4-40GB",
        "gpu_count": 1,
        "cpu_name": "AMD EPYC 7763 64-Core Processor",
        "cpu_count": 32,
        "instance_kind": "KIND_GPU",
        "throughput_infer_per_s": 100.0 if measured else None,
        "latency_percentile_us": 500.0 * batch if measured else None,
        "started_at": now,
        "ended_at": now,
        **changed,
    }
    if columns["throughput_infer_per_s"] and columns["concurrency"]:
        # By Little's law, as in every row that is valid.
        in_flight = columns["concurrency"] * batch
        columns.setdefault("latency_avg_us", 1e6 * in_flight / columns["throughput_infer_per_s"])
    identity = [v for k, v in columns.items() if k not in ("pool", "reason")]
    columns.setdefault("point_id", f"{label} {batch} {[str(v) for v in identity]}")
    return Record(model_label=label, batch_size=batch, repeat=repeat, status=status, **columns)


def scan(label: str = "PN-AK4 ONNX", repeats: int = 1, scale: float = 1.0, **changed: Any):
    """A scan over batch sizes whose throughput rises and levels off, with some spread."""
    return [
        record(
            label,
            batch,
            repeat,
            throughput_infer_per_s=scale * 800 * batch / (1 + batch / 24) * (1 + 0.02 * repeat),
            latency_percentile_us=4e6 / scale / 800 * (1 + batch / 24) * (1 - 0.02 * repeat),
            point_id=f"{label} {batch} {changed}",
            **changed,
        )
        for batch in BATCHES
        for repeat in range(repeats)
    ]


Load = Callable[[Iterable[Record]], pd.DataFrame]


def through_parquet(records: Iterable[Record], folder: Path) -> pd.DataFrame:
    """Records as they come back from a results folder."""
    (folder / "records").mkdir(parents=True, exist_ok=True)
    write_records(folder / "records" / "placement.parquet", list(records))
    return load_results(folder)


def with_everything(frame: pd.DataFrame) -> pd.DataFrame:
    """The results, and the same from servers of two GPUs and in FP16, with outputs compared."""
    twice = frame.assign(gpu_count=2, pool=frame["pool"] + "x2")
    twice["throughput_infer_per_s"] = frame["throughput_infer_per_s"] * 1.8
    half = '{"name": "tensorrt", "precision_mode": "FP16"}'
    fast = frame.assign(
        variant=[json.dumps(json.loads(v) | {"accelerator": half}) for v in frame["variant"]],
        accelerator=pd.Series(half, index=frame.index, dtype="string"),
        throughput_infer_per_s=frame["throughput_infer_per_s"] * 2.5,
    )
    whole = pd.concat([frame, twice, fast], ignore_index=True)
    is_half = whole["accelerator"].notna()
    return whole.assign(
        output_rms_difference=is_half.map({True: 8e-4, False: 2e-6}),
        output_max_difference=is_half.map({True: 5e-3, False: 1e-5}),
    )


def with_searches(frame: pd.DataFrame, limit_ms: float = 20.0) -> pd.DataFrame:
    """The results, and of each server a search for its capacity at the largest batch size."""
    most = frame["batch_size"] == frame["batch_size"].max()
    base = frame[most & (frame["status"] == "ok") & (frame["concurrency"] == 4)]
    places, columns = [], []
    for place, (rate, batch) in enumerate(
        zip(base["throughput_infer_per_s"] / base["batch_size"], base["batch_size"], strict=True)
    ):
        for step in _search(float(rate), int(batch), limit_ms, f"search{place}"):
            places.append(place)
            columns.append(step)
    rows = base.iloc[places].reset_index(drop=True)
    more = pd.DataFrame(columns)
    given = {name: pd.Series(more[name].tolist(), dtype=frame[name].dtype) for name in more}
    return pd.concat([frame, rows.assign(**given)], ignore_index=True)


def _search(capacity: float, batch: int, limit_ms: float, point: str) -> list[dict[str, Any]]:
    """What a search asks of a server with one queue that takes so many requests per second."""
    within, kept = 0.05, dict[int, bool]()
    first = math.floor(math.log(capacity / 4) / math.log1p(within))
    asked = {
        "concurrency": None,
        "request_distribution": "poisson",
        "capacity_max_latency_p99_ms": limit_ms,
        "capacity_within": within,
    }
    steps: list[dict[str, Any]] = []
    while (power := next_power(kept, first, within)) is not None:
        rate = rate_of(power, within)
        busy = rate / capacity
        p99_ms = 1000 / capacity * (1 + 2.3 * busy / (1 - busy)) if busy < 1 else math.nan
        kept[power] = p99_ms <= limit_ms
        is_late = busy > 1
        steps.append(
            asked
            | {
                "point_id": f"{point}/{len(steps)}",
                "part_of": point,
                "capacity_step": len(steps) + 1,
                "request_rate": rate,
                "send_request_rate": min(rate, capacity),
                "throughput_infer_per_s": batch * min(rate, capacity),
                "latency_p99_us": None if is_late else 1000 * p99_ms,
                "overloaded": is_late,
                "status": "unstable" if is_late else "ok",
                "capacity_infer_per_s": None,
            }
        )
    best = max((power for power, does in kept.items() if does), default=None)
    if best is None:
        return steps
    found = next(step for step in steps if step["request_rate"] == rate_of(best, within))
    answer = {"capacity_infer_per_s": batch * rate_of(best, within), "request_rate": None}
    end = found | answer | {"point_id": point, "part_of": None, "capacity_step": None}
    return [*steps, end]
