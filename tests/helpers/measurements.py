"""Records with metrics, as a campaign on GPUs leaves them, and tables of them as they are read."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from hpcbench.records.columns import Record, Status
from hpcbench.records.frame import load_results
from hpcbench.records.store import write_records
from tests.helpers import builders

A100 = "NVIDIA A100-SXM4-40GB"
T4 = "Tesla T4"


def server(**axes: Any) -> str:
    """A server variant as the records hold it."""
    return json.dumps(axes)


def measured(throughput: float = 1000.0, p99_ms: float = 5.0, **changes: Any) -> Record:
    """One measurement on an A100, with 10000 requests behind it."""
    columns: dict[str, Any] = {
        "batch_size": 8,
        "concurrency": 4,
        "repeat": 0,
        "site": "cern",
        "pool": "a100",
        "variant": server(),
        "model_digest": "d1",
        "protocol": "grpc",
        "asynchronous": True,
        "input_data": "random",
        "percentile": 95,
        "request_count": 10_000,
        "throughput_infer_per_s": throughput,
        "latency_p50_us": 500.0 * p99_ms,
        "latency_p99_us": 1000.0 * p99_ms,
        "gpu_name": A100,
        "gpu_count": 1,
        "gpu_driver": "550.54",
        "gpu_memory_max_bytes": 2**31,
        "instance_kind": "KIND_GPU",
        "cpu_name": "AMD EPYC 7763 64-Core Processor",
        "cpu_count": 32,
        "server_config": 'name: "tagger"\n',
    }
    columns |= changes
    if columns["concurrency"] and columns["batch_size"] and columns["throughput_infer_per_s"]:
        # By Little's law. Next to it the p99 of most tests is low: a few requests took very long.
        requests_per_s = columns["throughput_infer_per_s"] / columns["batch_size"]
        columns.setdefault("latency_avg_us", 1e6 * columns["concurrency"] / requests_per_s)
    columns.setdefault("point_id", _point_id(columns))
    return builders.record(**columns)


def failed(reason: str = "out of memory", **changes: Any) -> Record:
    """A point that failed before its server said anything of itself."""
    nothing = dict.fromkeys(
        (
            *("throughput_infer_per_s", "latency_p50_us", "latency_p99_us", "request_count"),
            "latency_avg_us",
            *("gpu_name", "gpu_count", "gpu_driver", "gpu_memory_max_bytes", "instance_kind"),
            *("cpu_name", "cpu_count", "server_config"),
        )
    )
    return measured(**nothing | {"status": Status.FAILED, "reason": reason} | changes)


def repeats(throughputs: Iterable[float], p99_ms: float = 5.0, **changes: Any) -> list[Record]:
    """A point measured as often as there are throughputs."""
    return [
        measured(throughput, p99_ms, repeat=repeat, **changes)
        for repeat, throughput in enumerate(throughputs)
    ]


def loaded(records: Iterable[Record]) -> pd.DataFrame:
    """The records as they come back from a results folder."""
    with tempfile.TemporaryDirectory() as folder:
        return load_results(write(Path(folder), records))


def write(folder: Path, records: Iterable[Record]) -> Path:
    """A results folder with these records."""
    (folder / "records").mkdir(parents=True)
    write_records(folder / "records" / "placement.parquet", list(records))
    return folder


def _point_id(columns: dict[str, Any]) -> str:
    names = (
        "model",
        "model_version",
        "batch_size",
        "concurrency",
        "request_rate",
        "variant",
        "shapes",
        "percentile",
    )
    digests = ("model_digest", "server_image_digest", "input_data")
    return " ".join(str(columns.get(name)) for name in (*names, *digests))
