"""How many GPUs a rate of inferences needs, and how many clients one server can have."""

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
    """What a rate needs with the recommended configuration on one device.

    Attributes
    ----------
    rate
        The rate to be served [infer/s].
    servers
        How many Triton servers it takes, each loaded as it was measured, or less.
    servers_low, servers_high
        The same from the limits of the interval of the throughput. None: there is no interval, or
        its lower limit is not above 0.
    gpus_per_server
        0 on nodes without GPUs.
    share
        The part of the measured throughput that is used, at most 1.
    clients
        The highest concurrency measured, with this server variant and batch size, that meets all
        limits. None in open loop.
    clients_interpolated
        How many clients would just meet the p99 limit, on a straight line from there to the next
        concurrency measured. None where that is not more than ``clients``.
    cost_per_hour
        Of all servers; None without a price.
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
    """Return how many servers the requested rate needs.

    Parameters
    ----------
    table
        The configurations of one model on one device, from `statistics.join_repeats`.
    best
        The row of the recommended configuration.
    requirements
        The rate [infer/s], prices and limits.

    Returns
    -------
    Sizing or None
        None where no rate is requested, or the configuration has no throughput.
    """
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
    """Return how many servers reach a rate.

    Parameters
    ----------
    rate
        The rate [infer/s].
    throughput
        Of one server [infer/s].

    Returns
    -------
    int
        At least 1.
    """
    # 3.0000000000000004 servers are 3: the quotient is not exact.
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
