"""Makes a large set of synthetic records, and measures what reads them.

    python tests/benchmarks/million_records.py [--records 1000000] [--folder DIR]

The records lie as four sites would have left them: results folders with a file per placement.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hpcbench.records import SCHEMA
from hpcbench.store import SMALL_FILE

SITES = {
    "north": {"a100": "NVIDIA A100-SXM4-40GB", "t4": "Tesla T4"},
    "south": {"a100": "NVIDIA A100-SXM4-80GB", "l4": "NVIDIA L4"},
    "east": {"gpu": "NVIDIA H100 80GB HBM3", "cpu": None},
    "west": {"gpu": "NVIDIA H200", "a30": "NVIDIA A30"},
}
"""Two sites have pools of the same name, with other GPUs."""

MODELS = ("particlenet_AK4", "particlenet_AK4_PT", "deeptau_nosplit", "deepmet", "jet_tagger")
BATCHES = (1, 4, 8, 16, 32, 64, 128, 256)
CONCURRENCIES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)
REPEATS = 3
POINTS = len(BATCHES) * len(CONCURRENCIES)


@dataclass(frozen=True)
class Placement:
    """One launch of a server, with the points measured on it."""

    number: int
    site: str
    pool: str
    gpu: str | None
    model: int
    variant: int
    repeat: int


def placements(records: int) -> Iterator[Placement]:
    """As many as ``records`` need, so that all sites, pools and models have equally many."""
    number = 0
    for variant in itertools.count():
        for model, repeat in itertools.product(range(len(MODELS)), range(REPEATS)):
            for site, pools in SITES.items():
                for pool, gpu in pools.items():
                    if number * POINTS >= records:
                        return
                    yield Placement(number, site, pool, gpu, model, variant, repeat)
                    number += 1


def table(placement: Placement, rows: int) -> pa.Table:
    """The records of a placement; about 1 % failed, and 5 % did not settle."""
    p, n = placement, rows
    chance = np.random.default_rng(p.number)
    grid = list(itertools.product(BATCHES, CONCURRENCIES))[:n]
    batch = np.array([b for b, _ in grid])
    concurrency = np.array([c for _, c in grid])
    luck = chance.random(n)
    status = np.where(luck < 0.01, "failed", np.where(luck < 0.06, "unstable", "ok"))
    failed = status == "failed"
    instances, delay = 1 + p.variant % 4, 100 * (p.variant // 4 % 5)
    preferred = [2 ** (p.variant // 20 % 5 + 1), 2 ** (p.variant // 20 % 5 + 2)]
    speed = (1 + p.model) * 700.0 * (0.05 if p.gpu is None else 1.0) * instances**0.5
    noise = chance.normal(1, 0.02, n)
    throughput = speed * batch / (1 + batch / 40) * (1 - np.exp(-concurrency / 6)) * noise
    latency = concurrency * batch / throughput * 1e6
    variant = {
        "instance_count": instances,
        "preferred_batch_size": preferred,
        "max_queue_delay_us": delay,
        "accelerator": None,
    }
    name = MODELS[p.model]
    config = (
        f'name: "{name}"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 256\n'
        + "".join(
            f'input {{\n  name: "pf_{i}"\n  data_type: TYPE_FP32\n  dims: [{10 + i}, -1]\n}}\n'
            for i in range(12)
        )
        + f"dynamic_batching {{ max_queue_delay_microseconds: {delay} }}\n"
        + f"instance_group {{ count: {instances} kind: KIND_GPU }}\n"
    )
    start = np.datetime64(datetime(2026, 11, 1), "us")  # noqa: DTZ001
    began = start + (p.number * 90 + np.arange(n) * 35).astype("timedelta64[s]")
    windows = np.repeat(3, n)
    stage = latency[:, None] * chance.dirichlet([8, 30, 1, 50, 1, 1, 1, 8], n)

    def figures(values: object) -> pa.Array:
        return pa.array(np.round(values, 3), pa.float64(), mask=failed)

    def counts(values: object) -> pa.Array:
        return pa.array(np.asarray(values).astype("int64"), pa.int64(), mask=failed)

    def lists(values: np.ndarray) -> pa.Array:
        return pa.ListArray.from_arrays(
            np.concatenate([[0], windows.cumsum()]).astype("int32"),
            pa.array(np.round((values[:, None] * chance.normal(1, 0.02, (n, 3))).ravel(), 3)),
            mask=pa.array(failed),
        )

    ids = [f"{hash((p.model, p.variant, b, c)) & (2**64 - 1):016x}" for b, c in grid]
    columns: dict[str, object] = {
        "point_id": ids,
        "campaign": "synthetic-scan",
        "site": p.site,
        "pool": p.pool,
        "repeat": p.repeat,
        "placement_id": f"{p.number:012x}",
        "status": status.tolist(),
        "reason": ["the server died" if f else None for f in failed],
        "log_tail": ["E1101 error: CUDA out of memory\n" * 20 if f else None for f in failed],
        "model": name,
        "model_label": name.replace("_", " "),
        "model_position": p.model,
        "model_digest": f"{p.model:064x}",
        "variant": json.dumps(variant),
        "shapes": json.dumps({"pf_points": [2, 50], "pf_features": [20, 50], "pf_mask": [1, 50]}),
        "batch_size": batch,
        "concurrency": concurrency,
        "protocol": "grpc",
        "asynchronous": True,
        "measurement_interval_ms": 9000,
        "stability_percentage": 10.0,
        "max_trials": 10,
        "percentile": 95,
        "input_data": "random",
        "platform": "onnxruntime_onnx",
        "max_batch_size": 256,
        "instance_count": instances,
        "instance_kind": "KIND_GPU" if p.gpu else "KIND_CPU",
        "dynamic_batching": True,
        "preferred_batch_size": [preferred] * n,
        "max_queue_delay_us": delay,
        "server_config": config,
        "server_ready_s": 11.25,
        "server_fresh": [i == 0 for i in range(n)],
        "throughput_infer_per_s": figures(throughput),
        "latency_avg_us": figures(latency),
        "latency_std_us": figures(latency * 0.13),
        "latency_p50_us": figures(latency * 0.98),
        "latency_p90_us": figures(latency * 1.16),
        "latency_p95_us": figures(latency * 1.24),
        "latency_p99_us": figures(latency * 1.5),
        "latency_percentile_us": figures(latency * 1.24),
        **{
            column: figures(stage[:, place])
            for place, column in enumerate(
                (
                    *("client_send_us", "network_us", "server_queue_us"),
                    *("server_compute_input_us", "server_compute_infer_us"),
                    *("server_compute_output_us", "client_recv_us", "server_overhead_us"),
                )
            )
        },
        "client_request_response_us": figures(stage[:, 0] * 2),
        "client_response_wait_us": figures(latency),
        "client_overhead_percent": figures(np.full(n, 0.3)),
        "send_request_rate": figures(throughput / batch),
        "delayed_requests_percent": figures(np.zeros(n)),
        "server_request_us": figures(latency * 0.9),
        "request_count": counts(27 * throughput / batch),
        "inference_count": counts(27 * throughput),
        "execution_count": counts(27 * throughput / batch / 2),
        "success_count": counts(27 * throughput / batch),
        "windows_throughput_infer_per_s": lists(throughput),
        "windows_latency_us": lists(latency),
        "gpu_count": 1 if p.gpu else 0,
        "node": f"{p.site}-{p.number % 37:03d}",
        "cpu_name": "AMD EPYC 7763 64-Core Processor",
        "cpu_count": 32,
        "memory_bytes": 256 * 2**30,
        "kernel": "Linux 5.14.0-427.el9.x86_64",
        "job_id": str(4_000_000 + p.number),
        "runtime": "apptainer",
        "server_image_digest": "sha256:" + "5" * 64,
        "sdk_image_digest": "sha256:" + "6" * 64,
        "triton_version": "2.51.0",
        "perf_analyzer_version": "2.51.0",
        "command": [
            f"perf_analyzer -m {name} -u 127.0.0.1:8001 -i grpc --async -b {b} "
            f"--concurrency-range {c}:{c} --measurement-interval 9000 --stability-percentage 10 "
            "--max-trials 10 --input-data random --percentile=95 --shape pf_points:2,50 "
            "--shape pf_features:20,50 --shape pf_mask:1,50 --collect-metrics -v --verbose-csv"
            for b, c in grid
        ],
        "exit_code": 0,
        "perf_analyzer_s": chance.normal(30, 1, n),
        "started_at": pa.array(began).cast(pa.timestamp("us", "UTC")),
        "ended_at": pa.array(began + np.timedelta64(34, "s")).cast(pa.timestamp("us", "UTC")),
        "hpcbench_version": "0.3.0",
    }
    if p.gpu:
        columns |= {
            "gpu_name": p.gpu,
            "gpu_uuid": f"GPU-{p.number % 37:08x}",
            "gpu_driver": "550.54.15",
            "gpu_utilization_avg": figures(np.minimum(1, concurrency / 16)),
            "gpu_power_avg_w": figures(60 + 200 * np.minimum(1, concurrency / 16)),
            "gpu_memory_max_bytes": counts(np.full(n, 3 * 2**30) * instances),
            "gpu_memory_total_bytes": counts(np.full(n, 40 * 2**30)),
            "gpu_energy_j": figures(30 * (60 + 200 * np.minimum(1, concurrency / 16))),
        }
    arrays = []
    for field in SCHEMA:
        value = columns.get(field.name)
        if value is None or isinstance(value, str | int | float):
            arrays.append(pa.repeat(pa.scalar(value, field.type), n))
        else:
            arrays.append(pa.array(value, field.type))
    return pa.table(arrays, schema=SCHEMA)


def write(folder: Path, records: int) -> list[Path]:
    """Results folders of four sites with so many records in all; a few files' points were measured
    twice."""
    for site in SITES:
        (folder / site / "records").mkdir(parents=True, exist_ok=True)
    left = records
    for placement in placements(records):
        rows = min(POINTS, left)
        left -= rows
        path = folder / placement.site / "records" / f"{placement.number:012x}.parquet"
        pq.write_table(table(placement, rows), path, **SMALL_FILE)
    return [folder / site for site in SITES]


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--records", type=int, default=1_000_000)
    options.add_argument("--folder", type=Path)
    given = options.parse_args()
    import time

    begun = time.monotonic()
    write(given.folder, given.records)
    print(time.monotonic() - begun, UTC)
