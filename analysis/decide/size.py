"""How many GPUs a rate of inferences needs, and how many clients one of them serves."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hpcbench.analysis.summary import limits
from hpcbench.analysis.summary.configuration import CONFIGURATION, RESOLVED, floats, group_numbers
from hpcbench.analysis.summary.limits import Wanted


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


def size(table: pd.DataFrame, best: int, wanted: Wanted) -> Sizing | None:
    """The sizing for row ``best`` of a table of one model and device; None without a rate."""
    if wanted.rate is None:
        return None
    column = limits.THROUGHPUT.column
    mean, low, high = (float(table[f"{column}{end}"].iloc[best]) for end in ("", "_low", "_high"))
    if not mean > 0:
        return None
    servers = servers_for(wanted.rate, mean)
    gpus = table["gpu_count"].iloc[best]
    on_gpu = pd.notna(table["gpu_name"].iloc[best]) and (
        table["instance_kind"].iloc[best] != "KIND_CPU"
    )
    gpus_per_server = int(gpus) if on_gpu and pd.notna(gpus) else int(on_gpu)
    price = limits.price_per_hour(table.iloc[[best]], wanted.prices)[0] if wanted.prices else np.nan
    clients, interpolated = _clients(table, best, wanted)
    return Sizing(
        rate=wanted.rate,
        servers=servers,
        servers_low=servers_for(wanted.rate, high) if high > 0 else None,
        servers_high=servers_for(wanted.rate, low) if low > 0 else None,
        gpus_per_server=gpus_per_server,
        share=wanted.rate / (servers * mean),
        clients=clients,
        clients_interpolated=interpolated,
        cost_per_hour=(
            float(price) * servers * max(gpus_per_server, 1) if math.isfinite(price) else None
        ),
    )


def servers_for(rate: float, throughput: float) -> int:
    """The fewest servers of that throughput that reach the rate (both in infer/s)."""
    # A quotient that is whole but for rounding needs no further server.
    return max(1, math.ceil(rate / throughput * (1 - 1e-12)))


def _clients(table: pd.DataFrame, best: int, wanted: Wanted) -> tuple[int | None, int | None]:
    if pd.isna(table["concurrency"].iloc[best]):
        return None, None
    rest = [name for name in CONFIGURATION if name not in ("concurrency", *RESOLVED)]
    numbers = group_numbers(table, rest)
    line = table[(numbers == numbers[best]) & (table["measured"] > 0)].sort_values("concurrency")
    meets = np.ones(len(line), dtype=bool)
    for limit in wanted.limits:
        meets &= limit.met(floats(line[limit.figure.column]))
    last = int(np.flatnonzero(meets)[-1])
    concurrency = floats(line["concurrency"])
    clients = int(concurrency[last])
    if wanted.max_latency_p99_ms is None or last + 1 == len(line):
        return clients, None
    latency = floats(line[limits.LATENCY.column])[last : last + 2]
    if not latency[1] > wanted.max_latency_p99_ms:
        return clients, None
    here, there = concurrency[last : last + 2]
    part = (wanted.max_latency_p99_ms - latency[0]) / (latency[1] - latency[0])
    interpolated = math.floor(here + part * (there - here))
    return clients, interpolated if interpolated > clients else None
