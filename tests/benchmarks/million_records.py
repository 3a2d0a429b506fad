"""Makes many synthetic records, and measures what merges, reads and decides from them.

    python tests/benchmarks/million_records.py [--records N] [--folder DIR] [--csv-files N]

The records lie as runs at four sites would have left them: a results folder each, a file for each
placement, columns filled as real ones are, every hundredth placement measured twice. Beside
``hpcbench aggregate`` and ``recommend``, each in a process of its own, it times two loops over
csv.reader, on trees of their own files, in the same run: that of the CMS SONIC documentation, and
one that does as much as aggregate does. On a busy machine the processor time says more than the
wall time.
"""

import argparse
import csv
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hpcbench.records.columns import SCHEMA
from hpcbench.records.frame import KEY_COLUMNS, SORT_COLUMNS
from hpcbench.records.store import SMALL_FILE

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
    attempt: int = 0


def placements(records: int) -> Iterator[Placement]:
    """As many as ``records`` need, so that all sites, pools and models have equally many."""
    number = 0
    for variant in itertools.count():
        for model, repeat in itertools.product(range(len(MODELS)), range(REPEATS)):
            for site, pools in SITES.items():
                for pool, gpu in pools.items():
                    if number * POINTS >= records:
                        return
                    for attempt in range(2 if number % 100 == 99 else 1):
                        yield Placement(number, site, pool, gpu, model, variant, repeat, attempt)
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

    def floats(values: object) -> pa.Array:
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
        "throughput_infer_per_s": floats(throughput),
        "latency_avg_us": floats(latency),
        "latency_std_us": floats(latency * 0.13),
        "latency_p50_us": floats(latency * 0.98),
        "latency_p90_us": floats(latency * 1.16),
        "latency_p95_us": floats(latency * 1.24),
        "latency_p99_us": floats(latency * 1.5),
        "latency_percentile_us": floats(latency * 1.24),
        **{
            column: floats(stage[:, place])
            for place, column in enumerate(
                (
                    *("client_send_us", "network_us", "server_queue_us"),
                    *("server_compute_input_us", "server_compute_infer_us"),
                    *("server_compute_output_us", "client_recv_us", "server_overhead_us"),
                )
            )
        },
        "client_request_response_us": floats(stage[:, 0] * 2),
        "client_response_wait_us": floats(latency),
        "client_overhead_percent": floats(np.full(n, 0.3)),
        "send_request_rate": floats(throughput / batch),
        "delayed_requests_percent": floats(np.zeros(n)),
        "server_request_us": floats(latency * 0.9),
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
            "gpu_utilization_avg": floats(np.minimum(1, concurrency / 16)),
            "gpu_power_avg_w": floats(60 + 200 * np.minimum(1, concurrency / 16)),
            "gpu_memory_max_bytes": counts(np.full(n, 3 * 2**30) * instances),
            "gpu_memory_total_bytes": counts(np.full(n, 40 * 2**30)),
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
    """Results folders of four sites with so many records in all."""
    for site in SITES:
        (folder / site / "records").mkdir(parents=True)
    left = records
    for placement in placements(records):
        rows = min(POINTS, left)
        left -= rows
        path = folder / placement.site / "records" / f"{placement.number:012x}.parquet"
        pq.write_table(table(placement, rows), path, **SMALL_FILE)
    return [folder / site for site in SITES]


def write_loop(folder: Path, files: int) -> list[str]:
    """Trees of CSV files as the loop writes them; the names of the models in them."""
    header = (
        "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
        "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,"
        "p90 latency,p95 latency,p99 latency\n"
    )
    models = [f"model_{number}" for number in range(-(-files // len(BATCHES)))]
    for model in models:
        (folder / model).mkdir(parents=True)
        for batch in BATCHES:
            row = f"4,{832.253 * batch},14,553,2438,62,15320,350,2,18209,30126,33278,38481\n"
            (folder / model / f"{model}_batch{batch}.csv").write_text(header + row)
    return models


def read_loop(folder: str, models: Sequence[str]) -> int:
    """The reading of the documentation's plotting script, without what it prints."""
    throughputs: dict[str, dict[int, float]] = {}
    latencies: dict[str, dict[int, float]] = {}
    for model in models:
        dirname = f"{folder}/{model}"
        if not os.path.isdir(dirname):  # noqa: PTH112
            continue
        throughputs[model] = {}
        latencies[model] = {}
        for batch in BATCHES:
            fname = f"{dirname}/{model}_batch{batch}.csv"
            if not os.path.isfile(fname):  # noqa: PTH113
                continue
            with open(fname, newline="") as csvfile:  # noqa: PTH123
                datareader = csv.reader(csvfile)
                for i, row in enumerate(datareader):
                    if i != 1:
                        continue
                    throughputs[model][batch] = float(row[1])
                    latencies[model][batch] = float(row[-1]) / 1.0e3
    return sum(map(len, latencies.values()))


def write_all_columns(folder: Path, files: int) -> None:
    """A CSV file for each of so many records, with all columns that a record has."""
    folder.mkdir(parents=True)
    for placement in placements(files):
        rows = table(placement, min(POINTS, files - placement.number * POINTS)).to_pylist()
        for number, row in enumerate(rows):
            with (folder / f"{placement.number:06d}_{number:03d}.csv").open(
                "w", newline=""
            ) as stream:
                writer = csv.writer(stream)
                writer.writerow(row)
                writer.writerow(row.values())


def merge_loop(folder: str, out: str) -> int:
    """What ``aggregate`` does, in the manner of the loop: a row per file, all of its columns."""
    found: dict[tuple[str, ...], list[str]] = {}
    for fname in os.listdir(folder):  # noqa: PTH208
        with open(f"{folder}/{fname}", newline="") as csvfile:  # noqa: PTH123
            for i, row in enumerate(csv.reader(csvfile)):
                if i == 0:
                    places = {name: place for place, name in enumerate(row)}
                    continue
                key = tuple(row[places[name]] for name in KEY_COLUMNS)
                ended = places["ended_at"]
                if key not in found or found[key][ended] < row[ended]:
                    found[key] = row
    order = [places[name] for name in SORT_COLUMNS]
    with open(out, "w", newline="") as csvfile:  # noqa: PTH123
        writer = csv.writer(csvfile)
        writer.writerow(places)
        writer.writerows(sorted(found.values(), key=lambda row: [row[place] for place in order]))
    return len(found)


@dataclass(frozen=True)
class Took:
    """Wall and processor seconds, and the peak of the memory, of one process."""

    wall_s: float
    cpu_s: float
    peak_gib: float


def timed(*words: str) -> Took:
    """Runs Python with these arguments; ends with its message where it fails."""
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - begun
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(words)}: ended with {code}")
    return Took(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)


def timed_here(action: Callable[[], int]) -> tuple[Took, int]:
    """What a function of this process took, and what it gave."""
    wall, cpu = time.monotonic(), time.process_time()
    count = action()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Took(time.monotonic() - wall, time.process_time() - cpu, peak), count


READ = (
    "import sys; from hpcbench import load_results; "
    "load_results(sys.argv[1], columns=['model', 'batch_size', 'throughput_infer_per_s', "
    "'latency_p99_us'])"
)


def main() -> None:
    """Makes the records, unless the folder holds them, and prints a line for each way."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--records", type=int, default=1_000_000)
    options.add_argument("--folder", type=Path, help="keeps the records there, for the next time")
    options.add_argument("--csv-files", type=int, default=20_000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (given.folder or Path(scratch)) / f"{given.records}"
        sites = [folder / site for site in SITES]
        if not folder.is_dir():
            sites = write(folder, given.records)
        files = sum(1 for site in sites for _ in (site / "records").iterdir())
        print(
            f"{given.records} records of {len(sites)} sites in {files} files, "
            f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
        )
        merged = str(Path(scratch) / "merged.parquet")
        hpcbench = ("-m", "hpcbench")
        took = {
            "aggregate": timed(*hpcbench, "aggregate", *map(str, sites), "--out", merged),
            "recommend": timed(*hpcbench, "recommend", merged),
            "load_results, 4 columns": timed("-c", READ, merged),
        }
        models = write_loop(Path(scratch) / "loop", given.csv_files)
        loop, count = timed_here(lambda: read_loop(f"{scratch}/loop", models))
        write_all_columns(Path(scratch) / "all", given.csv_files)
        merging, merged_count = timed_here(
            lambda: merge_loop(f"{scratch}/all", f"{scratch}/merged.csv")
        )
    both = Took(
        took["aggregate"].wall_s + took["recommend"].wall_s,
        took["aggregate"].cpu_s + took["recommend"].cpu_s,
        max(took["aggregate"].peak_gib, took["recommend"].peak_gib),
    )
    print(f"aggregate and recommend together: {both.wall_s:.1f} s, {both.peak_gib:.2f} GiB")
    head = ("wall s", "CPU s", "peak GiB", "wall us/record", "loop / this, wall", "and CPU")
    print(_EXPLAINED.format(files=given.csv_files))
    print(f"{'':34}" + "".join(f"{word:>19}" for word in head))
    _line("loop: 2 numbers of each file", loop, count, loop, count)
    _line("load_results, 4 columns", took["load_results, 4 columns"], given.records, loop, count)
    _line("recommend", took["recommend"], given.records, loop, count)
    _line("loop: all columns, merged", merging, merged_count, merging, merged_count)
    _line("aggregate", took["aggregate"], given.records, merging, merged_count)
    _line("aggregate and recommend", both, given.records, merging, merged_count)


_EXPLAINED = """
The loops open {files} CSV files of one record each, just written, and read them with csv.reader.
The first does what the documentation's script does: it takes two numbers of 13 columns. Below it
stand the reading of as much from merged results, and the choice of a configuration, which reads
every column that sets points apart. The second does what aggregate does: it keeps all columns of
each record and the later of two attempts, sorts them and writes them."""


def _line(name: str, took: Took, records: int, loop: Took, files: int) -> None:
    ratios = (
        loop.wall_s / files / (took.wall_s / records),
        loop.cpu_s / files / (took.cpu_s / records),
    )
    numbers = (
        *(f"{took.wall_s:.1f}", f"{took.cpu_s:.1f}", f"{took.peak_gib:.2f}"),
        f"{took.wall_s / records * 1e6:.2f}",
        *(f"{ratio:.2f}" for ratio in ratios),
    )
    print(f"{name:34}" + "".join(f"{number:>19}" for number in numbers))


if __name__ == "__main__":
    main()
