"""What an import tells the user: what no file says, and what cannot be true as it stands."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath

import pyarrow as pa

from hpcbench.records.columns import MEASURED, SCHEMA, Record
from hpcbench.records.rule_columns import PERCENTILES, mean_latency_us
from hpcbench.records.validity import INPUTS, broken_rules, with_verdicts

_COLUMNS_OF: dict[str, tuple[str, ...]] = {
    "the GPU (--gpu)": ("gpu_name",),
    "the node and its software": ("node", "gpu_driver", "triton_version", "server_image_digest"),
    "the server's configuration": ("server_config", "dynamic_batching", "variant_name"),
    "how many requests were counted": ("request_count",),
    "the length of a window and the spread allowed": ("measurement_interval_ms",),
    "whether it was gRPC or HTTP": ("protocol",),
    "the inputs": ("input_data", "shapes"),
    "any latency": ("latency_avg_us", "latency_p50_us", "latency_p95_us", "latency_p99_us"),
    "the server's own times": ("server_queue_us", "server_compute_infer_us", "server_compute_us"),
    "GPU utilisation, power and energy": ("gpu_utilization_avg", "gpu_power_avg_w"),
}
"""What figures and recommendations use, and the columns that hold it."""


def missing_information(records: Sequence[Record]) -> Iterator[str]:
    """Return what figures and recommendations would use and no record has.

    Parameters
    ----------
    records
        Of one import.

    Yields
    ------
    str
        A phrase, also for a batch size that one model has and another lacks.
    """
    measured = [record for record in records if record.status in MEASURED]
    for words, columns in _COLUMNS_OF.items():
        if all(getattr(r, column) is None for r in measured for column in columns):
            yield words
    without_mean = sum(r.percentile is None and r.latency_avg_us is None for r in measured)
    if without_mean:
        yield (
            f"the mean latency of {without_mean} points; if perf_analyzer ran with a percentile, "
            "give it here, too: --percentile"
        )
    yield from _missing_points(records)


def _missing_points(records: Sequence[Record]) -> Iterator[str]:
    # Where perf_analyzer fails, there may be no file at all.
    batches: dict[tuple[str, str], set[int]] = {}
    for record in records:
        batches.setdefault((record.pool, record.model_label), set()).add(record.batch_size or 0)
    wanted = set().union(*batches.values())
    for (pool, label), present in batches.items():
        if missing := sorted(wanted - present):
            yield f"{label} on {pool} at batch size {', '.join(map(str, missing))}: no file"


def doubts(records: Sequence[Record], sources: Sequence[PurePath]) -> Iterator[str]:
    """Return which records break a rule of docs/validity.md, file by file, with the numbers.

    Parameters
    ----------
    records
        Of one import.
    sources
        The file of each.

    Yields
    ------
    str
        A sentence for each file and rule.
    """
    names = [name for name in INPUTS if name in SCHEMA.names]
    columns = {name: [getattr(record, name) for record in records] for name in names}
    columns["status"] = [str(status) for status in columns["status"]]
    table = pa.table(columns, schema=pa.schema([SCHEMA.field(name) for name in names]))
    means = mean_latency_us(table)
    by_rule: dict[tuple[PurePath, str], list[int]] = {}
    for place, reasons in enumerate(with_verdicts(table)["invalid_reasons"].to_pylist()):
        for rule in broken_rules(reasons or ""):
            by_rule.setdefault((sources[place], rule.code), []).append(place)
    rows_of = {source: sources.count(source) for source in dict.fromkeys(sources)}
    for (source, code), places in by_rule.items():
        said = _SAID.get(code, _meaning)
        each = [said(code, records[place], float(means[place])) for place in places]
        first = max(each, key=lambda pair: pair[0])[1]
        yield f"{source}: {code} in {len(places)} of {rows_of[source]} rows; {first}"


def _meaning(code: str, _record: Record, _mean_us: float) -> tuple[float, str]:
    return 0.0, broken_rules(code)[0].meaning


def _little(_code: str, record: Record, mean_us: float) -> tuple[float, str]:
    """Return how far a row is from Little's law, and that in words."""
    asked = f"batch size {record.batch_size}"
    throughput = record.throughput_infer_per_s or 0.0
    if record.concurrency is None:
        sent = record.send_request_rate or record.request_rate or 0.0
        load = throughput / (record.batch_size or 1)
        return abs(load - sent), f"{load:.4g} requests per second were answered, {sent:.4g} sent"
    p99_us = record.latency_p99_us
    if not math.isnan(mean_us):
        found = throughput * mean_us / 1e6 / record.concurrency
        ratio = found / (record.batch_size or 1)
        words = f"throughput x latency / concurrency is {found:.3g}, and the row says {asked}"
        if abs(ratio - 1) > 0.1 or p99_us is None:
            return max(ratio, 1 / ratio if ratio else 1.0), words
    found = throughput * (p99_us or 0.0) / 1e6 / record.concurrency
    ratio = found / (record.batch_size or 1)
    words = f"throughput x p99 latency / concurrency is {found:.3g}, below its {asked}"
    return 1 / ratio if ratio else 1.0, words


def _percentiles(_code: str, record: Record, _mean_us: float) -> tuple[float, str]:
    values: Mapping[str, float | None] = {name: getattr(record, name) for name in PERCENTILES}
    known = {name: value for name, value in values.items() if value is not None}
    words = [f"{name.split('_')[1]} {value:g}" for name, value in known.items()]
    return max(known.values()) / (min(known.values()) or 1.0), f"{', '.join(words)} us"


_SAID: dict[str, Callable[[str, Record, float], tuple[float, str]]] = {
    "LITTLE": _little,
    "PERCENTILES": _percentiles,
}
"""For some rules: how bad a row is, and a phrase with its numbers."""
