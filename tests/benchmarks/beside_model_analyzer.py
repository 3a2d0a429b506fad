"""Measures hpcbench beside Model Analyzer on the same grid, in turn, in one run.

    python -m tests.benchmarks.beside_model_analyzer ANALYZER [--rounds 1] [--interval-ms 1000]

ANALYZER is the program ``model-analyzer``, of the package triton-model-analyzer. Both measure three
batch sizes on three numbers of instances of the demo's model, on the same Triton with the same
perf_analyzer. Model Analyzer's windows are of a second, and it decides itself when a point has
settled. hpcbench measures until it knows throughput and latency to 5 %. It should take at most a
fifth of the time, and give every point.
"""

import argparse
import ctypes
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from hpcbench.runtime.loopback import free_ports
from tests.benchmarks import demo_runs
from tests.benchmarks.beside_the_loop import PR_SET_CHILD_SUBREAPER
from tests.helpers.real import SHAPES

INSTANCES = (1, 2, 4)
CONCURRENCY = 4


def analyzer(
    program: str, folder: Path, batches: list[int], flags: dict[str, Any], limit_s: float
) -> tuple[float, int, str]:
    """Seconds that Model Analyzer takes, the points that it keeps, and how it ended."""
    folder.mkdir()
    http, grpc, metrics = (each.number for each in free_ports(3))
    shapes = [f"{name}:{','.join(map(str, shape))}" for name, shape in SHAPES.items()]
    config = {
        "model_repository": str(demo_runs.MODELS),
        "output_model_repository_path": str(folder / "repository"),
        "checkpoint_directory": str(folder / "checkpoints"),
        "export_path": str(folder / "export"),
        "triton_launch_mode": "local",
        "triton_server_path": str(demo_runs.PREFIX / "bin" / "tritonserver"),
        "perf_analyzer_path": str(demo_runs.PREFIX / "bin" / "perf_analyzer"),
        "triton_http_endpoint": f"localhost:{http}",
        "triton_grpc_endpoint": f"localhost:{grpc}",
        "triton_metrics_url": f"http://localhost:{metrics}/metrics",
        "client_protocol": "grpc",
        "run_config_search_disable": True,
        "skip_summary_reports": True,
        "skip_detailed_reports": True,
        "perf_analyzer_flags": {
            "measurement-mode": "time_windows",
            "percentile": 95,
            "shape": shapes,
            **flags,
        },
        "profile_models": {
            "jet_tagger": {
                "cpu_only": True,
                "parameters": {"batch_sizes": batches, "concurrency": [CONCURRENCY]},
                # It measures the model as it is, with one instance, in any case.
                "model_config_parameters": {
                    "instance_group": [[{"kind": ["KIND_CPU"], "count": list(INSTANCES[1:])}]]
                },
            }
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    begun = time.monotonic()
    with (folder / "log").open("w") as log:
        words = [program, "profile", "-v", "-f", str(folder / "config.yaml")]
        started = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        try:
            ended = f"exit code {started.wait(limit_s)}"
        except subprocess.TimeoutExpired:
            ended = f"ended after {limit_s:g} s"
    took_s = time.monotonic() - begun
    # Its server and its perf_analyzer outlive it where it is ended.
    for each in psutil.Process().children(recursive=True):
        each.kill()
    said = (folder / "log").read_text()
    return took_s, said.count("Reading PA results"), ended


def hpcbench(folder: Path, batches: list[int], interval_ms: int) -> tuple[float, int, str]:
    """Seconds that hpcbench takes, the points that it keeps, and how they ended."""
    files = demo_runs.inputs(
        folder,
        container={},
        server={"instance_count": list(INSTANCES)},
        load={"batch_size": batches, "concurrency": CONCURRENCY},
        measurement={
            "percentile": 95,
            "measurement_interval_ms": interval_ms,
            "stop": {"precision": 0.05, "max_s": 30},
        },
    )
    begun = time.monotonic()
    frame = demo_runs.run(files, folder / "results")
    took_s = time.monotonic() - begun
    kept = int(frame["throughput_infer_per_s"].notna().sum())
    return took_s, kept, ", ".join(f"{n} {s}" for s, n in frame["status"].value_counts().items())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("analyzer")
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--interval-ms", type=int, default=1000)
    options.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    options.add_argument("--stability-percentage", type=int, default=10)
    options.add_argument("--limit-s", type=float, default=300.0)
    given = options.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    points = len(given.batches) * len(INSTANCES)
    flags = {
        "measurement-interval": given.interval_ms,
        "stability-percentage": given.stability_percentage,
    }
    rows = []
    with tempfile.TemporaryDirectory(prefix="hpcbench-") as name:
        for number in range(1, given.rounds + 1):
            ours = hpcbench(Path(name) / f"hpcbench-{number}", given.batches, given.interval_ms)
            print(f"hpcbench: {ours}", flush=True)
            theirs = analyzer(
                given.analyzer,
                Path(name) / f"analyzer-{number}",
                given.batches,
                flags,
                given.limit_s,
            )
            for who, (took_s, kept, ended) in (("Model Analyzer", theirs), ("hpcbench", ours)):
                ratio = f"{took_s / theirs[0]:.3f}"
                rows.append((number, who, f"{took_s:.1f}", f"{kept}/{points}", ratio, ended))
    demo_runs.print_table(
        ("round", "", "wall s", "points kept", "wall / Model Analyzer", "ended"), rows
    )


if __name__ == "__main__":
    main()
