"""How many GPUs a rate of inferences needs, and how many clients one server can have.

Clients of a closed loop wait for their answers, so that the server is always busy and no queue
grows. Production does not wait. Where an open loop with Poisson arrivals was measured, its rate is
what a server serves; else a part of the closed loop's throughput, whose latency nobody measured.
Where such open loops were measured and none kept the limits, no number is given: a part of the
closed loop's throughput would contradict what was measured.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.decide.candidates import Candidates
from hpcbench.analysis.summary import limits
from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    LOAD,
    RESOLVED,
    as_floats,
    group_numbers,
    plain_rows,
)
from hpcbench.analysis.summary.limits import ENERGY, THROUGHPUT, Requirements
from hpcbench.analysis.summary.number_format import format_number
from hpcbench.analysis.summary.searches import is_search

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes
    ----------
    value
        The number.
    low, high
        The limits; None where nothing was measured twice.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Sizing:
    """What a rate needs with the recommended configuration on one device.

    Attributes
    ----------
    rate
        The rate to be served [infer/s].
    servers
        How many Triton servers serve it, without spares: with the lower limit of what one serves.
    servers_low
        The same from the upper limit; None where there is no interval.
    spares
        Servers beyond these, so that as many may fail.
    gpus_per_server
        0 on nodes without GPUs.
    measured_rate
        Whether an open loop with Poisson arrivals was measured at this rate per server, or above.
    higher_rate_tried
        Whether such an open loop was tried at a higher rate, too. None where ``measured_rate`` is
        false, or the rate is the answer of a search.
    capacity
        What one server is expected to serve [infer/s].
    share
        Of the closed loop's throughput, what each of ``servers`` gets; None in open loop.
    clients
        The highest concurrency measured, with this server variant and batch size, that keeps all
        limits. None in open loop.
    clients_interpolated
        How many clients would just keep the p99 limit, on a straight line from there to the next
        concurrency measured. None where that is not more than ``clients``.
    cost_per_hour
        Of all servers and spares; None without a price.
    cost_per_million
        Of a million inferences at this rate, on all servers and spares; None without a price.
    kwh_per_million
        Energy of the GPUs for a million inferences, at the load that was measured; None where it
        was not.
    """

    rate: float
    servers: int
    servers_low: int | None
    spares: int
    gpus_per_server: int
    measured_rate: bool
    higher_rate_tried: bool | None
    capacity: float
    share: float | None
    clients: int | None
    clients_interpolated: int | None
    cost_per_hour: float | None
    cost_per_million: Estimate | None
    kwh_per_million: Estimate | None


def size_for_rate(candidates: Candidates, best: int) -> Sizing | None:
    """Return how many servers the requested rate needs.

    Parameters
    ----------
    candidates
        The configurations of one model on one device.
    best
        The row of the recommended configuration.

    Returns
    -------
    Sizing or None
        None where no rate is requested, the configuration has no throughput, or open loops were
        measured of which none kept the limits (`not_sized`).
    """
    wanted = candidates.requirements
    if wanted.rate is None or _lowest_not_kept(candidates, best) is not None:
        return None
    measured = _largest_open_loop(candidates, best)
    row = plain_rows(candidates.table, [best if measured is None else measured])[0]
    mean, low, high = (row[f"{THROUGHPUT.column}{end}"] for end in ("", "_low", "_high"))
    if not mean or mean <= 0:
        return None
    part = 1.0 if measured is not None else wanted.headroom
    capacity = part * (mean if low is None else low)
    servers = servers_needed(wanted.rate, capacity)
    servers_low = None if high is None else servers_needed(wanted.rate, part * high)
    gpus = _gpus(row)
    price = _price(candidates.table, best, wanted)
    per_server = None if price is None else price * max(gpus, 1)
    clients, interpolated = _clients(candidates, best)
    return Sizing(
        rate=wanted.rate,
        servers=servers,
        servers_low=servers_low,
        spares=wanted.spares,
        gpus_per_server=gpus,
        measured_rate=measured is not None,
        higher_rate_tried=None if measured is None else _is_higher_tried(candidates, measured),
        capacity=capacity,
        share=None if measured is not None else wanted.rate / (servers * mean),
        clients=clients,
        clients_interpolated=interpolated,
        cost_per_hour=None if per_server is None else per_server * (servers + wanted.spares),
        cost_per_million=_cost(per_server, servers, servers_low, wanted),
        kwh_per_million=_energy(row),
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


def not_sized(candidates: Candidates, best: int) -> Iterator[str]:
    """Say why a rate has no number of servers where open loops were measured and none will do.

    Parameters
    ----------
    candidates
        The configurations of one model on one device.
    best
        The row of the recommended configuration.

    Yields
    ------
    str
        A sentence without a full stop; nothing where there is a number, or no rate is requested.
    """
    wanted = candidates.requirements
    lowest = None if wanted.rate is None else _lowest_not_kept(candidates, best)
    if lowest is None:
        return
    row = plain_rows(candidates.table, [lowest])[0]
    sent = format_number(row[THROUGHPUT.column])
    yield (
        f"no number of servers for {format_number(wanted.rate)} infer/s: of the rates of requests "
        f"at random, the lowest measured, {sent} infer/s, {_fault(candidates, lowest)}: measure "
        "lower rates, or load.capacity"
    )


def _fault(candidates: Candidates, position: int) -> str:
    """Return what keeps an open loop from being a rate that a server serves."""
    if candidates.overloaded[position]:
        return "was more than the server kept up with"
    if not candidates.reliable[position]:
        return "failed in a third or more of its repeats"
    for limit in candidates.requirements.limits:
        mean = as_floats(candidates.table[limit.metric.column])[[position]]
        if (
            limit.metric is THROUGHPUT
            or limit.is_met(candidates.limit_values[limit.option])[position]
        ):
            continue
        value = f"({limit.metric.name} {format_number(mean[0])} {limit.metric.unit})"
        if np.isfinite(mean[0]) and not limit.is_met(mean)[0]:
            return f"already exceeds {limit} {value}"
        return f"is not known to keep {limit} {value}"
    return "has no throughput"


def _largest_open_loop(candidates: Candidates, best: int) -> int | None:
    """Return the highest Poisson rate at which this server kept all limits."""
    sent = np.where(_open_loops_kept(candidates, best), _throughput(candidates), -np.inf)
    return int(np.argmax(sent)) if np.isfinite(sent.max()) else None


def _lowest_not_kept(candidates: Candidates, best: int) -> int | None:
    """Return the lowest Poisson rate of this server, where none that was measured keeps all limits.

    A search for another limit, or one that found nothing, says nothing of this one.
    """
    if _open_loops_kept(candidates, best).any():
        return None
    chosen = ~is_search(candidates.table) & candidates.measured
    sent = np.where(_open_loops(candidates, best) & chosen, _throughput(candidates), np.nan)
    return int(np.nanargmin(sent)) if np.isfinite(sent).any() else None


def _is_higher_tried(candidates: Candidates, measured: int) -> bool | None:
    if is_search(candidates.table)[measured]:
        return None
    rates = as_floats(candidates.table["request_rate"])
    return bool((rates[_open_loops(candidates, measured)] > rates[measured]).any())


def _open_loops_kept(candidates: Candidates, best: int) -> Any:
    usable = candidates.reliable & ~candidates.overloaded & np.isfinite(_throughput(candidates))
    return _open_loops(candidates, best) & _limits_kept(candidates) & usable


def _open_loops(candidates: Candidates, best: int) -> Any:
    """Return which configurations are this server and batch size with Poisson arrivals."""
    table = candidates.table
    same = _alike(table, best, [name for name in LOAD if name != "batch_size"])
    return same & (table["request_distribution"] == "poisson").fillna(False).to_numpy(dtype=bool)


def _throughput(candidates: Candidates) -> Any:
    return as_floats(candidates.table[THROUGHPUT.column])


def _limits_kept(candidates: Candidates) -> Any:
    kept = candidates.measured.copy()
    for limit in candidates.requirements.limits:
        # A lower rate than a server could serve is no fault of the server.
        if limit.metric is not THROUGHPUT:
            kept &= limit.is_met(candidates.limit_values[limit.option])
    return kept


def _alike(table: pd.DataFrame, best: int, free: list[str]) -> Any:
    rest = [name for name in CONFIGURATION if name not in (*free, *RESOLVED)]
    numbers = group_numbers(table, rest)
    return numbers == numbers[best]


def _gpus(row: dict[str, Any]) -> int:
    on_gpu = row["gpu_name"] is not None and row["instance_kind"] != "KIND_CPU"
    return int(row["gpu_count"] or 1) if on_gpu else 0


def _price(table: pd.DataFrame, best: int, wanted: Requirements) -> float | None:
    if not wanted.prices:
        return None
    price = float(limits.price_per_hour(table.iloc[[best]], wanted.prices)[0])
    return price if math.isfinite(price) else None


def _cost(
    per_server: float | None, servers: int, servers_low: int | None, wanted: Requirements
) -> Estimate | None:
    if per_server is None or wanted.rate is None:
        return None
    million_h = 1e6 / wanted.rate / 3600
    most = per_server * (servers + wanted.spares) * million_h
    if servers_low is None:
        return Estimate(most, None, None)
    return Estimate(most, per_server * (servers_low + wanted.spares) * million_h, most)


def _energy(row: dict[str, Any]) -> Estimate | None:
    value, low, high = (row.get(f"{ENERGY.column}{end}") for end in ("", "_low", "_high"))
    if not value:
        return None
    kwh = 1e6 / JOULES_PER_KWH
    # More inferences per joule are fewer joules.
    return Estimate(kwh / value, kwh / high if high else None, kwh / low if low else None)


def _clients(candidates: Candidates, best: int) -> tuple[int | None, int | None]:
    table, wanted = candidates.table, candidates.requirements
    if pd.isna(table["concurrency"].iloc[best]):
        return None, None
    # Imported results do not know every load.
    known = table["concurrency"].notna().to_numpy(dtype=bool)
    line = _alike(table, best, ["concurrency"]) & candidates.measured & known
    places = np.flatnonzero(line)[np.argsort(as_floats(table["concurrency"])[line])]
    last = int(np.flatnonzero(_limits_kept(candidates)[places])[-1])
    concurrency = as_floats(table["concurrency"])[places]
    clients = int(concurrency[last])
    if wanted.max_latency_p99_ms is None or last + 1 == len(places):
        return clients, None
    values = candidates.limit_values[wanted.limits[0].option]
    latency = values[places[last : last + 2]]
    if not latency[1] > wanted.max_latency_p99_ms:
        return clients, None
    here, there = concurrency[last : last + 2]
    part = (wanted.max_latency_p99_ms - latency[0]) / (latency[1] - latency[0])
    interpolated = math.floor(here + part * (there - here))
    return clients, interpolated if interpolated > clients else None
