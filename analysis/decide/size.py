"""How many GPUs a rate of inferences needs, and how many clients one of them serves."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hpcbench.analysis.summary import limits
from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    RESOLVED,
    as_floats,
    group_numbers,
)
from hpcbench.analysis.summary.limits import Requirements


@dataclass(frozen=True)
class Sizing:
    """What a rate needs of one device with the recommended configuration.

    ``servers`` is the number of Tritons with ``gpus_per_server`` GPUs each (0: none has one), each
    as loaded as it was measured, or less. ``servers_low`` and ``servers_high`` come of the interval
    of the throughput, None where there is none or it has no end. ``share`` is the part of the
    measured throughput that is used. ``clients`` is the highest concurrency measured with this
    server variant and batch size that keeps to all limits, None in open loop;
    ``clients_interpolated`` how many would keep to the p99 limit on a straight line from there to
    the next point measured, None where they are not more. ``cost_per_hour`` is for all servers.
    """

    rate: float
    servers: int
    servers_low: int | None
    servers_high: int | None
    gpus_per_server: int
    share: float
    clients: int | None
    clients_interpolated: int | None
    cost_per_hour: float | None


def size_for_rate(table: pd.DataFrame, best: int, requirements: Requirements) -> Sizing | None:
    """The sizing for row ``best`` of a table of one model and device; None without a rate."""
    if requirements.rate is None:
        return None
    column = limits.THROUGHPUT.column
    mean, low, high = (float(table[f"{column}{end}"].iloc[best]) for end in ("", "_low", "_high"))
    if not mean > 0:
        return None
    servers = servers_needed(requirements.rate, mean)
    gpus = table["gpu_count"].iloc[best]
    on_gpu = pd.notna(table["gpu_name"].iloc[best]) and (
        table["instance_kind"].iloc[best] != "KIND_CPU"
    )
    gpus_per_server = int(gpus) if on_gpu and pd.notna(gpus) else int(on_gpu)
    price = (
        limits.price_per_hour(table.iloc[[best]], requirements.prices)[0]
        if requirements.prices
        else np.nan
    )
    clients, interpolated = _clients(table, best, requirements)
    return Sizing(
        rate=requirements.rate,
        servers=servers,
        servers_low=servers_needed(requirements.rate, high) if high > 0 else None,
        servers_high=servers_needed(requirements.rate, low) if low > 0 else None,
        gpus_per_server=gpus_per_server,
        share=requirements.rate / (servers * mean),
        clients=clients,
        clients_interpolated=interpolated,
        cost_per_hour=(
            float(price) * servers * max(gpus_per_server, 1) if math.isfinite(price) else None
        ),
    )


def servers_needed(rate: float, throughput: float) -> int:
    """The fewest servers of that throughput that reach the rate (both in infer/s)."""
    # A quotient that is whole but for rounding needs no further server.
    return max(1, math.ceil(rate / throughput * (1 - 1e-12)))


def _clients(
    table: pd.DataFrame, best: int, requirements: Requirements
) -> tuple[int | None, int | None]:
    if pd.isna(table["concurrency"].iloc[best]):
        return None, None
    rest = [name for name in CONFIGURATION if name not in ("concurrency", *RESOLVED)]
    numbers = group_numbers(table, rest)
    line = table[(numbers == numbers[best]) & (table["measured"] > 0)].sort_values("concurrency")
    meets = np.ones(len(line), dtype=bool)
    for limit in requirements.limits:
        meets &= limit.is_met(as_floats(line[limit.metric.column]))
    last = int(np.flatnonzero(meets)[-1])
    concurrency = as_floats(line["concurrency"])
    clients = int(concurrency[last])
    if requirements.max_latency_p99_ms is None or last + 1 == len(line):
        return clients, None
    latency = as_floats(line[limits.LATENCY.column])[last : last + 2]
    if not latency[1] > requirements.max_latency_p99_ms:
        return clients, None
    here, there = concurrency[last : last + 2]
    part = (requirements.max_latency_p99_ms - latency[0]) / (latency[1] - latency[0])
    interpolated = math.floor(here + part * (there - here))
    return clients, interpolated if interpolated > clients else None
