"""Realistic results of any size: models on GPUs, as a real campaign would have left them.

Throughput saturates with batch size, concurrency and instances, latency follows from it by Little's
law, big batches run out of memory on small GPUs, some points do not settle.
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hpcbench.records.columns import SCHEMA
from hpcbench.records.frame import load_results

GPUS = {
    # name: (site, pool, driver, speed, memory [GiB], idle power, power)
    "NVIDIA A100-SXM4-40GB": ("perlmutter", "a100", "550.54.15", 1.0, 40, 55.0, 400.0),
    "Tesla T4": ("lxplus", "t4", "535.161.08", 0.22, 15, 15.0, 70.0),
    "NVIDIA H100 80GB HBM3": ("jean-zay", "h100", "555.42.06", 2.1, 80, 70.0, 700.0),
    "NVIDIA L4": ("lxplus", "l4", "535.161.08", 0.4, 23, 13.0, 72.0),
}
MODELS = (
    *("ParticleNet AK4", "ParticleNet AK8 mass", "DeepTau 2018", "DeepMET", "Jet tagger"),
    *("ParticleTransformer", "Muon isolation", "GNN tracking", "HGCal energy", "UParT AK4"),
    *("Photon ID", "Vertex finder"),
)
BATCH_SIZES = (1, 4, 8, 16, 32, 64, 128)


def write_results(
    path: Path,
    *,
    models: int = 3,
    gpus: int = 3,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    concurrencies: Sequence[int] = (1, 4, 16),
    instances: Sequence[int | str] = (1, 2),
    batching: Sequence[Sequence[int] | None] = (None, (8, 16)),
    repeats: int = 3,
    troubles: bool = True,
    seed: int = 1,
) -> Path:
    """A Parquet file with the product of these. Without ``troubles`` every measurement is ok."""
    grid = itertools.product(
        range(models), list(GPUS)[:gpus], instances, batching, concurrencies, batch_sizes
    )
    asked = pd.DataFrame(
        [point for point in grid for _ in range(repeats)],
        columns=["model", "gpu", "instances", "batching", "concurrency", "batch"],
    )
    asked["repeat"] = np.tile(np.arange(repeats), len(asked) // repeats)
    chance = np.random.default_rng(seed)
    columns = _columns(asked, chance, troubles=troubles)
    table = pa.table(
        {name: _column(columns, name, len(asked)) for name in SCHEMA.names},
        schema=SCHEMA,
    )
    pq.write_table(table, path, compression="zstd")
    return path


def results(folder: Path, **axes: Any) -> pd.DataFrame:
    """What `load_results` gives for `write_results`; ``folder`` keeps the file."""
    return load_results(write_results(folder / "results.parquet", **axes))


def _column(columns: dict[str, Any], name: str, rows: int) -> Any:
    """The column of that name; one value stands for all rows, and none where it is not given."""
    value = columns.get(name)
    return value if isinstance(value, (list, pa.Array)) else [value] * rows


def _columns(asked: pd.DataFrame, chance: np.random.Generator, *, troubles: bool) -> dict[str, Any]:
    n = len(asked)
    facts = pd.DataFrame(GPUS, index=["site", "pool", "driver", "speed", "memory", "idle", "power"])
    gpu = facts[asked["gpu"]].T.reset_index(drop=True)
    labels = [
        MODELS[m % len(MODELS)] + (f" v{m // len(MODELS) + 1}" if m >= len(MODELS) else "")
        for m in asked["model"]
    ]
    names = [label.lower().replace(" ", "_") for label in labels]
    batch, concurrency = asked["batch"].to_numpy(float), asked["concurrency"].to_numpy(float)
    count = np.array([2 if c == "base" else int(c) for c in asked["instances"]])
    weight = 0.35 + (asked["model"].to_numpy() * 7 % 11) / 3.0
    joined = np.array([1.0 if b is None else 1.35 for b in asked["batching"]])
    service_ms = weight * (0.9 + 0.05 * batch * weight) / gpu["speed"].to_numpy(float)
    useful = np.minimum(concurrency, 1 + 0.8 * count * joined)
    # Two or three requests in flight are enough to keep an instance busy.
    rate = 1000 / service_ms * useful / (1 + 0.12 * useful)
    throughput = rate * batch * np.exp(chance.normal(0, 0.012, n))
    latency = concurrency * batch / throughput * 1e6
    shares = chance.dirichlet([6, 40, 8, 900, 6, 4], n)
    network = 90 + 6 * batch + chance.gamma(4, 20, n)
    busy = np.minimum(service_ms * 1000, 0.9 * latency)
    queue = np.maximum(latency - busy - network, 5.0)
    memory = 0.9 + 0.06 * batch * weight * count
    starts = np.datetime64("2026-11-02T08:00", "us") + np.arange(n) * np.timedelta64(31, "s")

    status = np.full(n, "ok", dtype=object)
    reason = np.full(n, None, dtype=object)
    tail = np.full(n, None, dtype=object)
    if troubles:
        luck = chance.random(n)
        status[luck < 0.04] = "unstable"
        reason[luck < 0.04] = "no three windows agreed within 10 %: 812.1, 1043.7, 640.2 infer/s"
        lost = luck > 0.997
        status[lost], reason[lost] = "timeout", "perf_analyzer did not end within 240 s"
        tail[lost] = "Request concurrency: 16\n  Pass [1] throughput: 0 infer/sec"
        full = memory > 0.9 * gpu["memory"].to_numpy(float) * 0.35
        status[full] = "failed"
        reason[full] = [
            f"the server answered: CUDA out of memory, {m:.2f} GiB" for m in memory[full]
        ]
        tail[full] = [
            f"E1123 12:{i % 60:02d}:00.{i % 1000:03d} 4711 model_lifecycle.cc:654] failed to load: "
            f"BFCArena::AllocateRawInternal Available memory of {i % 97 * 1024} is smaller than "
            f"requested bytes of {i % 89 * 65536}\nI1123 signal (11) received."
            for i in np.flatnonzero(full)
        ]
    there = np.isin(status, ["ok", "unstable"])

    def floats(values: Any) -> pa.Array:
        return pa.array(np.round(np.asarray(values, float), 3), pa.float64(), mask=~there)

    def counts(values: Any) -> pa.Array:
        return pa.array(np.asarray(values).astype("int64"), pa.int64(), mask=~there)

    variants = [
        json.dumps(
            {
                "instance_count": i,
                "preferred_batch_size": None if b is None else list(b),
                "max_queue_delay_us": None if b is None else 100,
                "accelerator": None,
            }
        )
        for i, b in zip(asked["instances"], asked["batching"], strict=True)
    ]
    configs = [
        f'name: "{name}"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 128\n'
        f"instance_group {{ count: {c} kind: KIND_GPU }}\n"
        + (f"dynamic_batching {{ preferred_batch_size: {list(b)} }}\n" if b is not None else "")
        for name, c, b in zip(names, count, asked["batching"], strict=True)
    ]
    commands = [
        f"perf_analyzer -m {name} -b {b} --concurrency-range {c} -i grpc --async --percentile=95 "
        "--measurement-interval 5000 --stability-percentage 10 --max-trials 10 "
        "--shape pf_points:2,50 --shape pf_features:20,50 --shape pf_mask:1,50 "
        "--verbose-csv --collect-metrics -f result.csv -u localhost:8001"
        for name, b, c in zip(names, asked["batch"], asked["concurrency"], strict=True)
    ]
    point = pd.factorize(pd.Series(list(zip(names, variants, batch, concurrency, strict=True))))[0]
    server = pd.factorize(
        pd.Series(list(zip(names, variants, asked["gpu"], asked["repeat"], strict=True)))
    )[0]
    energy = (gpu["idle"] + (gpu["power"] - gpu["idle"]) * np.minimum(0.95, useful / 2.6)).to_numpy(
        float
    )
    return {
        "point_id": [f"{p:016x}" for p in point],
        "campaign": "particlenet-batch-scan",
        "site": gpu["site"].tolist(),
        "pool": gpu["pool"].tolist(),
        "repeat": asked["repeat"].tolist(),
        "placement_id": [f"{s:012x}" for s in server],
        "status": status.tolist(),
        "reason": reason.tolist(),
        "log_tail": tail.tolist(),
        "model": names,
        "model_label": labels,
        "model_position": asked["model"].tolist(),
        "model_digest": [f"{m:016x}" for m in asked["model"]],
        "variant": variants,
        "shapes": json.dumps({"pf_points": [2, 50], "pf_features": [20, 50], "pf_mask": [1, 50]}),
        "batch_size": asked["batch"].tolist(),
        "concurrency": asked["concurrency"].tolist(),
        "protocol": "grpc",
        "asynchronous": True,
        "measurement_interval_ms": 5000,
        "stability_percentage": 10.0,
        "max_trials": 10,
        "percentile": 95,
        "input_data": "random",
        "platform": "onnxruntime_onnx",
        "max_batch_size": 128,
        "instance_count": counts(count),
        "instance_kind": pa.array(["KIND_GPU"] * n, mask=~there),
        "dynamic_batching": pa.array([b is not None for b in asked["batching"]], mask=~there),
        "server_config": configs,
        "server_ready_s": floats(6 + 4 * chance.random(n)),
        "throughput_infer_per_s": floats(throughput),
        "latency_avg_us": floats(latency),
        "latency_std_us": floats(0.12 * latency),
        "latency_p50_us": floats(0.97 * latency),
        "latency_p90_us": floats(1.15 * latency),
        "latency_p95_us": floats(
            p95 := latency * np.maximum(1.24 * np.exp(chance.normal(0, 0.03, n)), 1.16)
        ),
        "latency_p99_us": floats(
            np.maximum(1.6 * latency * np.exp(chance.normal(0, 0.08, n)), 1.05 * p95)
        ),
        "latency_percentile_us": floats(1.24 * latency),
        "client_send_us": floats(3 + shares[:, 0] * 1000),
        "network_us": floats(network),
        "server_queue_us": floats(queue),
        "server_compute_input_us": floats(busy * shares[:, 2]),
        "server_compute_infer_us": floats(busy * shares[:, 3]),
        "server_compute_output_us": floats(busy * shares[:, 4]),
        "client_recv_us": floats(2 + shares[:, 5] * 1000),
        "request_count": counts(rate * 15),
        "gpu_utilization_avg": floats(np.minimum(0.99, 0.3 * useful)),
        "gpu_power_avg_w": floats(energy),
        "gpu_memory_max_bytes": counts(memory * 2**30),
        "gpu_memory_total_bytes": counts(gpu["memory"].to_numpy(float) * 2**30),
        "perf_analyzer_s": floats(np.full(n, 28.0)),
        "node": [f"{site}-gpu{i % 7:03d}" for i, site in enumerate(gpu["site"])],
        "gpu_name": asked["gpu"].tolist(),
        "gpu_count": 1,
        "gpu_driver": gpu["driver"].tolist(),
        "cpu_name": "AMD EPYC 7763 64-Core Processor",
        "cpu_count": 32,
        "memory_bytes": 256 * 2**30,
        "kernel": "Red Hat Enterprise Linux 9.4, Linux 5.14.0",
        "job_id": [str(4_100_000 + s) for s in server],
        "runtime": "apptainer",
        "server_image_digest": "sha256:" + "5e1f" * 16,
        "sdk_image_digest": "sha256:" + "9ab3" * 16,
        "triton_version": "2.51.0",
        "perf_analyzer_version": "2.51.0",
        "command": commands,
        "exit_code": 0,
        "started_at": pa.array(starts, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC")),
        "ended_at": pa.array(starts + np.timedelta64(28, "s"), pa.timestamp("us")).cast(
            pa.timestamp("us", tz="UTC")
        ),
        "hpcbench_version": "0.1.0",
    }
