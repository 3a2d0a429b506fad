"""The published rules by which the metrics of a row are believed or not.

A rule looks at the columns that are there; where one is missing, it finds nothing.
docs/validity.md says the same to users, with the same codes.

References
----------
.. [1] J. D. C. Little, "A proof for the queuing formula: L = lambda W", Operations Research 9
   (1961) 383-387.
.. [2] H. A. David and H. N. Nagaraja, "Order Statistics", 3rd edition (2003), section 7.1:
   intervals of quantiles that assume no distribution.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcbench.records.columns import Status
from hpcbench.records.config_rule import CONFIG_COLUMNS, has_other_config
from hpcbench.records.rule_columns import (
    LEAST_RATE_SENT,
    PERCENTILES,
    STAGES,
    Flags,
    Numbers,
    equals,
    first_known,
    flags,
    is_there,
    is_true,
    least_requests,
    mean_latency_us,
    numbers,
)

LITTLE_TOLERANCE = 0.1
"""How far the load that throughput and latency amount to may be from the load asked for."""

TAIL_TOLERANCE = 0.05
"""How far the 99th percentile may be below the mean that throughput and load amount to."""

TURNAROUND_US = 50.0
"""What a client needs between a response and the next request in its place. The latency of
perf_analyzer does not contain it; on models of less than a millisecond it is over 10 %."""

MOST_DELAYED_PERCENT = 1.0
"""Of an open loop: requests sent too late."""

STRANGER_MARGIN = 0.05
"""By how much the server may count more requests than the client did."""

MOST_CLIENT_OVERHEAD_PERCENT = 25.0

MOST_CPU_TAKEN = 0.1
"""The share of the CPU time that server and client needed and others took."""

LEAST_CPU_NEEDED = 0.5
"""In CPUs. Where server and client need less, others that take theirs change little."""

SLOWED_DOWN = ("thermal", "slowdown", "brake")
"""Reasons of NVML's that mean a fault of the node. A cap of power or clocks is none: many GPUs
reach it under every full load."""


@dataclass(frozen=True)
class Rule:
    """One reason for which a row may be invalid.

    Attributes
    ----------
    code
        What stands in ``invalid_reasons``.
    meaning
        What is wrong with a row that breaks it, as a phrase.
    columns
        The columns that it reads. Any of them may be missing.
    is_broken
        Returns where a row breaks it, for a table with some of ``columns``.
    left_out
        Whether the analysis leaves such a row out. Otherwise its metrics are what they say, but
        less sure than asked for: they are used, and marked.
    """

    code: str
    meaning: str
    columns: tuple[str, ...]
    is_broken: Callable[[pa.Table], Flags]
    left_out: bool = True


def _requests_per_s(table: pa.Table) -> Numbers:
    return numbers(table, "throughput_infer_per_s") / numbers(table, "batch_size")


def _breaks_little(table: pa.Table) -> Flags:
    rate, latency_us = _requests_per_s(table), mean_latency_us(table)
    concurrency = numbers(table, "concurrency")
    most = rate * latency_us / 1e6 / concurrency
    least = rate * (latency_us + TURNAROUND_US) / 1e6 / concurrency
    closed = (most > 1 + LITTLE_TOLERANCE) | (least < 1 - LITTLE_TOLERANCE)
    p99_us, implied_us = numbers(table, "latency_p99_us"), concurrency / rate * 1e6 - TURNAROUND_US
    # A mean above p99 is rare and can be true: then a few requests took very long. Where no request
    # was answered, nothing is implied.
    answered = (rate > 0) & ~(latency_us > p99_us)
    closed |= answered & (p99_us < (1 - TAIL_TOLERANCE) * implied_us)
    sent = first_known(numbers(table, "send_request_rate"), numbers(table, "request_rate"))
    found: Flags = closed | (np.abs(rate / sent - 1) > LITTLE_TOLERANCE)
    return found


def _has_disordered_percentiles(table: pa.Table) -> Flags:
    values = [numbers(table, name) for name in PERCENTILES]
    pairs = [(low, high) for place, low in enumerate(values) for high in values[place + 1 :]]
    found: Flags = np.any([low > high for low, high in pairs], axis=0)
    return found


def _has_other_batches(table: pa.Table) -> Flags:
    # Without a batch dimension the server counts a request as one inference.
    batch = np.where(numbers(table, "max_batch_size") == 0, 1.0, numbers(table, "batch_size"))
    per_request = numbers(table, "inference_count") / numbers(table, "success_count")
    # What the cache answers is a request without inference; a decoupled model answers as it likes.
    # An ensemble may divide a batch before it calls a model.
    counted = ~is_true(table, "response_cache") & ~is_there(table, "part_of")
    counted &= np.isnan(numbers(table, "response_throughput_per_s"))
    found: Flags = counted & (np.abs(per_request / batch - 1) > 0.01)
    return found


def _has_few_requests(table: pa.Table) -> Flags:
    # Where the mean was asked for, the percentile that is quoted beside it is the 99th.
    quoted = np.where(np.isnan(numbers(table, "latency_p99_us")), np.nan, 99.0)
    quantile = first_known(numbers(table, "percentile"), quoted) / 100
    # All of n requests are below the true quantile with probability quantile ** n. Above 2.5 %,
    # the 95 % interval of the quantile has no upper end.
    found: Flags = numbers(table, "request_count") * np.log(quantile) > np.log(0.025)
    return found


def _is_unsettled(table: pa.Table) -> Flags:
    return equals(table, "status", Status.UNSTABLE)


def _has_failures(table: pa.Table) -> Flags:
    return numbers(table, "failure_count") > 0


def _has_strangers(table: pa.Table) -> Flags:
    foreign = numbers(table, "foreign_requests")
    client, served = numbers(table, "request_count"), numbers(table, "success_count")
    # The ends of each of three windows cut what is in flight, in one of the two counts.
    in_flight = np.fmax(
        numbers(table, "concurrency"), _requests_per_s(table) * mean_latency_us(table) / 1e6
    )
    margin = np.fmax(STRANGER_MARGIN * client, 3 * np.nan_to_num(in_flight, nan=1.0))
    # A model beside it may be an ensemble that calls this one.
    more = ~is_there(table, "beside") & (served - client > margin)
    # Whoever counted at the server knows better.
    found: Flags = np.where(np.isnan(foreign), more, foreign > 0)
    return found


def _is_overloaded(table: pa.Table) -> Flags:
    asked, sent = numbers(table, "request_rate"), numbers(table, "send_request_rate")
    # Poisson arrivals vary by the square root of their number; those of a file come in bursts.
    replayed = equals(table, "request_distribution", "intervals")
    random = replayed | equals(table, "request_distribution", "poisson")
    count = numbers(table, "request_count")
    due = asked * count / sent
    too_slow = np.where(
        np.isnan(due),
        ~random & (sent < LEAST_RATE_SENT * asked),
        count < least_requests(due, random),
    )
    # Of requests that are due at once most are sent too late, if only by a millisecond.
    late = ~replayed & (numbers(table, "delayed_requests_percent") > MOST_DELAYED_PERCENT)
    return is_true(table, "overloaded") | (~np.isnan(asked) & (late | too_slow))


def _is_client_limit(table: pa.Table) -> Flags:
    overhead = numbers(table, "client_overhead_percent")
    return is_true(table, "client_cpu_limited") | (overhead > MOST_CLIENT_OVERHEAD_PERCENT)


def _is_disturbed(table: pa.Table) -> Flags:
    own, waited = (
        numbers(table, f"server_cpu{which}_s") + numbers(table, f"client_cpu{which}_s")
        for which in ("", "_wait")
    )
    # Threads also wait for each other's CPUs, and others may use CPUs that nobody waits for.
    taken = np.minimum(waited, numbers(table, "other_cpu_s"))
    # Else requests wait for something else, as for others to fill a batch, and threads that have
    # next to nothing to do wait for a CPU as long as they run, also on a quiet machine.
    busy = ~(own + taken < LEAST_CPU_NEEDED * numbers(table, "cpu_sampled_s"))
    found: Flags = busy & (taken / (own + taken) > MOST_CPU_TAKEN)
    return found


def _is_other_device(table: pa.Table) -> Flags:
    other: Flags = np.abs(numbers(table, "gpu_count") - numbers(table, "pool_gpu_count")) > 0
    if not {"pool_gpu", "gpu_name"} <= set(table.column_names):
        return other
    return other | flags(pc.not_equal(table["pool_gpu"], table["gpu_name"]))


def _is_shared_gpu(table: pa.Table) -> Flags:
    return numbers(table, "gpu_other_processes") > 0


def _is_throttled(table: pa.Table) -> Flags:
    if "gpu_throttle_reasons" not in table.column_names:
        return np.zeros(len(table), dtype=bool)
    reasons = pc.utf8_lower(table["gpu_throttle_reasons"].cast(pa.string()))
    found: Flags = np.any(
        [flags(pc.match_substring(reasons, word)) for word in SLOWED_DOWN], axis=0
    )
    return found


def _has_short_windows(table: pa.Table) -> Flags:
    slowest = np.fmax.reduce(
        [
            mean_latency_us(table),
            numbers(table, "latency_percentile_us"),
            numbers(table, "latency_p99_us"),
        ]
    )
    # perf_analyzer gets windows as long as a load needs; the interval asked for is the next best.
    asked_s = np.where(
        equals(table, "measurement_mode", "count_windows"),
        np.nan,
        numbers(table, "measurement_interval_ms") / 1000,
    )
    counted_s = numbers(table, "request_count") / _requests_per_s(table)
    window_s = first_known(counted_s / numbers(table, "windows_counted"), asked_s)
    found: Flags = window_s * 1e6 < slowest
    return found


_LITTLE_COLUMNS = (
    *("throughput_infer_per_s", "batch_size", "concurrency", "latency_avg_us", *STAGES),
    *("send_request_rate", "request_rate", "latency_p99_us"),
)

RULES = (
    Rule(
        "LITTLE",
        "throughput times latency is not the load asked for, by Little's law: the batch size, the "
        "load or a metric is not what the row says",
        _LITTLE_COLUMNS,
        _breaks_little,
    ),
    Rule(
        "PERCENTILES",
        "the percentiles of the latency are not in order: one of them is something else, or in "
        "another unit",
        PERCENTILES,
        _has_disordered_percentiles,
    ),
    Rule(
        "BATCH",
        "the server counted another number of inferences per request than the batch size",
        (
            *("inference_count", "success_count", "batch_size", "max_batch_size"),
            *("response_cache", "response_throughput_per_s", "part_of"),
        ),
        _has_other_batches,
    ),
    Rule(
        "STRANGER",
        "the server answered requests that the client did not send: somebody else used it",
        (
            *("foreign_requests", "request_count", "success_count", "beside"),
            *_LITTLE_COLUMNS,
        ),
        _has_strangers,
    ),
    Rule(
        "FAILURES",
        "requests failed while it was measured",
        ("failure_count",),
        _has_failures,
    ),
    Rule(
        "OVERLOADED",
        "the rate asked for was not sent: the latency leaves out what requests waited before",
        (
            *("overloaded", "request_rate", "send_request_rate", "delayed_requests_percent"),
            *("request_distribution", "request_count"),
        ),
        _is_overloaded,
    ),
    Rule(
        "CLIENT",
        "perf_analyzer was the limit, not the server",
        ("client_cpu_limited", "client_overhead_percent"),
        _is_client_limit,
    ),
    Rule(
        "DISTURBED",
        "other processes took the CPUs that server and client waited for",
        (
            *("server_cpu_s", "client_cpu_s", "server_cpu_wait_s", "client_cpu_wait_s"),
            *("other_cpu_s", "cpu_sampled_s"),
        ),
        _is_disturbed,
    ),
    Rule(
        "DEVICE",
        "the job had other GPUs, or another number of them, than its pool promises",
        ("gpu_count", "pool_gpu_count", "gpu_name", "pool_gpu"),
        _is_other_device,
    ),
    Rule(
        "GPU_SHARED",
        "other processes computed on the GPU meanwhile",
        ("gpu_other_processes",),
        _is_shared_gpu,
    ),
    Rule(
        "THROTTLED",
        "the GPU was slowed down by heat or by its power supply",
        ("gpu_throttle_reasons",),
        _is_throttled,
    ),
    Rule(
        "CONFIG",
        "the server's configuration is not the one asked for",
        CONFIG_COLUMNS,
        has_other_config,
    ),
    Rule(
        "SHORT_WINDOW",
        "a window is shorter than a request: slow ones may be missing",
        (
            *("windows_counted", "request_count", "throughput_infer_per_s", "batch_size"),
            *("measurement_interval_ms", "measurement_mode", "latency_percentile_us"),
            *("latency_p99_us", "latency_avg_us", *STAGES),
        ),
        _has_short_windows,
    ),
    Rule(
        "UNSETTLED",
        "it did not settle, or not to the precision asked for",
        ("status",),
        _is_unsettled,
        left_out=False,
    ),
    Rule(
        "FEW_REQUESTS",
        "too few requests for the percentile that is quoted",
        ("request_count", "percentile", "latency_p99_us"),
        _has_few_requests,
        left_out=False,
    ),
)
"""Every rule, in the order in which ``invalid_reasons`` names those that a row breaks."""
