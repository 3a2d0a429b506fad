"""The cases of ``hpcbench recommend`` and of its sizing."""

import heapq
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.decide.candidates import RECOMMEND_COLUMNS
from hpcbench.analysis.decide.recommend import Recommendation, recommend_configurations
from hpcbench.analysis.summary.limits import Requirements
from tests.benchmarks.synthetic import as_read
from tests.helpers.measurements import loaded, measured, server

Chance = np.random.Generator

BATCH = 8


@cache
def _template(configurations: int, repeats: int) -> pd.DataFrame:
    """Rows of configurations that differ in their concurrency; the first has the model's own."""
    two = server(instance_count=2)
    rows = [
        measured(
            concurrency=number + 1,
            repeat=repeat,
            variant=two if number else server(),
            own_config=not number,
            latency_avg_us=None,
        )
        for number in range(configurations)
        for repeat in range(repeats)
    ]
    return loaded(rows).dropna(axis="columns", how="all")


def _recommended(
    throughput: np.ndarray, p99_ms: np.ndarray, **wanted: Any
) -> tuple[Recommendation, int]:
    """The recommendation from values of shape (configurations, repeats), and its position."""
    frame = _template(*throughput.shape)
    number = frame["concurrency"].to_numpy(int) - 1
    place = number, frame.groupby(number).cumcount().to_numpy()
    frame = frame.assign(
        throughput_infer_per_s=throughput[place], latency_p99_us=np.round(p99_ms[place] * 1000)
    )
    read = as_read(frame, RECOMMEND_COLUMNS)
    (found,) = recommend_configurations(read, Requirements(**wanted))
    return found, found.best["concurrency"] - 1 if found.best else -1


def _noisy(truth: np.ndarray, cv: float, repeats: int, chance: Chance) -> np.ndarray:
    return truth[:, None] * np.exp(cv * chance.normal(size=(len(truth), repeats)))


# A limit on the p99


def _limited(cv: float, repeats: int, chance: Chance) -> tuple[float, float]:
    """(true p99 over the limit, throughput over that of the best that truly keeps it)."""
    clients = np.arange(1, 41)
    throughput, p99_ms = 12_000 * clients / (clients + 10), (clients + 10) * 1.0
    limit = chance.uniform(20, 45)
    found, place = _recommended(
        _noisy(throughput, 0.01, repeats, chance),
        _noisy(p99_ms, cv, repeats, chance),
        max_latency_p99_ms=limit,
    )
    if found.best is None:
        return 0.0, 0.0
    return float(p99_ms[place] > limit), throughput[place] / throughput[p99_ms <= limit].max()


def _over_the_limit(cv: float, repeats: int, chance: Chance) -> float:
    return _limited(cv, repeats, chance)[0]


def _throughput_within(cv: float, repeats: int, chance: Chance) -> float:
    return _limited(cv, repeats, chance)[1]


# Many that are equal


def _equal(count: int, repeats: int, cv: float, chance: Chance) -> Recommendation:
    values = _noisy(np.full(count, 1000.0), cv, repeats, chance)
    return _recommended(values, _noisy(np.full(count, 500.0), cv, repeats, chance))[0]


def _truth_covered(count: int, repeats: int, cv: float, chance: Chance) -> float:
    found = _equal(count, repeats, cv, chance).corrected
    return float(found is not None and found.low <= 1000 * np.exp(cv**2 / 2) <= found.high)


def _false_gain(count: int, repeats: int, cv: float, chance: Chance) -> float:
    base = _equal(count, repeats, cv, chance).base
    return float(base is not None and base.low > 1)


def _left_out(count: int, repeats: int, cv: float, chance: Chance) -> float:
    return 1 - len(_equal(count, repeats, cv, chance).as_good) / (count - 1)


# Servers for a rate


def _service_s(requests: int, chance: Chance) -> np.ndarray:
    """Of one GPU: 0.8 ms for a request of BATCH inferences, and twice that for one in a hundred."""
    base = 0.8e-3 * np.exp(0.1 * chance.normal(size=requests))
    return base * np.where(chance.random(requests) < 0.01, 2, 1)


def _closed_loop(clients: int, requests: int, chance: Chance) -> tuple[float, float]:
    """(inferences per second, p99 [ms]) where each client waits for its answer."""
    waiting, free_at, latencies = [0.0] * clients, 0.0, []
    for service in _service_s(requests, chance):
        sent = heapq.heappop(waiting)
        free_at = max(free_at, sent) + service
        latencies.append(free_at - sent)
        heapq.heappush(waiting, free_at)
    return BATCH * requests / free_at, 1000 * float(np.quantile(latencies[clients:], 0.99))


def _open_loop(rate: float, requests: int, chance: Chance) -> tuple[float, float]:
    """The same where requests arrive at random, so many a second."""
    arrival = np.cumsum(chance.exponential(1 / rate, requests))
    ends = np.empty(requests)
    free_at = 0.0
    for place, (sent, service) in enumerate(
        zip(arrival, _service_s(requests, chance), strict=True)
    ):
        free_at = max(free_at, sent) + service
        ends[place] = free_at
    return BATCH * requests / ends[-1], 1000 * float(np.quantile(ends - arrival, 0.99))


@cache
def _sized_template() -> pd.DataFrame:
    loads: list[dict[str, Any]] = [{"concurrency": clients} for clients in (4, 8, 16)]
    loads += [
        {"concurrency": None, "request_rate": float(rate), "request_distribution": "poisson"}
        for rate in range(500, 1300, 100)
    ]
    rows = [
        measured(repeat=repeat, latency_avg_us=None, **load)
        for load in loads
        for repeat in range(3)
    ]
    return loaded(rows).dropna(axis="columns", how="all")


def _sized(open_loops: bool, chance: Chance) -> float:
    """Whether the p99 keeps the limit where the rate is spread over the servers recommended."""
    frame, limit, rate = _sized_template(), 20.0, 100_000.0
    if not open_loops:
        frame = frame[frame["request_rate"].isna()]
    found = [
        _closed_loop(int(clients), 3000, chance)
        if pd.notna(clients)
        else _open_loop(float(asked), 3000, chance)
        for clients, asked in zip(frame["concurrency"], frame["request_rate"], strict=True)
    ]
    throughput, p99_ms = np.array(found).T
    frame = frame.assign(throughput_infer_per_s=throughput, latency_p99_us=np.round(1000 * p99_ms))
    wanted = Requirements(max_latency_p99_ms=limit, rate=rate)
    (advice,) = recommend_configurations(as_read(frame, RECOMMEND_COLUMNS), wanted)
    each = rate / advice.sizing.servers / BATCH if advice.sizing else np.inf
    return float(_open_loop(each, 20_000, chance)[1] <= limit)


def _case(name: str, function: Any, *words: Any, **promise: Any) -> dict[str, Any]:
    return {"name": f"recommend: {name}", "trial": partial(function, *words), **promise}


CASES = (
    *(
        _case(
            f"40 candidates, p99's cv {cv:.0%}, {n} repeats, {what}",
            *(function, cv, n),
            **promise,
        )
        for cv in (0.05, 0.1)
        for n in (3, 5)
        for what, function, promise in (
            ("true p99 over the limit", _over_the_limit, {"most": 0.05, "trials": 200}),
            ("throughput over the best within", _throughput_within, {"least": 0.9}),
        )
    ),
    *(
        _case(f"50 equal, 3 repeats, {what}", *(function, 50, 3, 0.05), **promise)
        for what, function, promise in (
            ("interval holds the truth", _truth_covered, {"least": 0.93, "trials": 300}),
            ("a gain that is not there", _false_gain, {"most": 0.05, "trials": 200}),
            ("left out of as good", _left_out, {"most": 0.05}),
        )
    ),
    *(
        _case(
            f"p99 within the limit at random arrivals, sized from {what}",
            *(_sized, open_loops),
            least=0.95,
        )
        for what, open_loops in (("an open loop", True), ("a closed loop", False))
    ),
)
