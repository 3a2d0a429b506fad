"""What imported records lack, in words."""

from collections.abc import Iterator, Sequence

from hpcbench.records.columns import MEASURED, Record

_LACKING: dict[str, tuple[str, ...]] = {
    "the GPU (--gpu)": ("gpu_name",),
    "the node and its software": ("node", "gpu_driver", "triton_version", "server_image_digest"),
    "the server's configuration": ("server_config", "dynamic_batching"),
    "how many requests were counted": ("request_count",),
    "the length of a window and the spread allowed": ("measurement_interval_ms",),
    "whether it was gRPC or HTTP": ("protocol",),
    "the inputs": ("input_data", "shapes"),
    "any latency": ("latency_avg_us", "latency_p50_us", "latency_p95_us", "latency_p99_us"),
    "the server's own times": ("server_queue_us", "server_compute_infer_us"),
    "GPU utilisation, power and energy": ("gpu_utilization_avg", "gpu_energy_j"),
}
"""What figures and recommendations would use, in words, and the columns that hold it."""


def lacking(records: Sequence[Record]) -> Iterator[str]:
    """What no record of them has, and which points there are no files of."""
    measured = [record for record in records if record.status in MEASURED]
    for words, columns in _LACKING.items():
        if all(getattr(r, column) is None for r in measured for column in columns):
            yield words
    unasked = sum(r.percentile is None and r.latency_avg_us is None for r in measured)
    if unasked:
        yield (
            f"the mean latency of {unasked} points; where perf_analyzer was given a percentile, "
            "say which: --percentile"
        )
    yield from _missing_points(records)


def _missing_points(records: Sequence[Record]) -> Iterator[str]:
    """Batch sizes that one model has and another lacks: perf_analyzer writes nothing on failure."""
    batches: dict[tuple[str, str], set[int]] = {}
    for record in records:
        batches.setdefault((record.pool, record.model_label), set()).add(record.batch_size or 0)
    wanted = set().union(*batches.values())
    for (pool, label), present in batches.items():
        if missing := sorted(wanted - present):
            yield f"{label} on {pool} at batch size {', '.join(map(str, missing))}: no file"
