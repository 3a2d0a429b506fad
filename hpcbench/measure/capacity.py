"""Search for the highest rate of Poisson arrivals that keeps a limit of latency.

The rates are powers of 1 + ``within``, so that the repeats of a search meet the same ones. A closed
loop with one request in flight says where to begin. From there the rate is doubled or halved until
the answer lies between two rates, then the middle power is tried: bisection on a log scale.

perf_analyzer draws the arrivals of all its reports, and of all its runs, from one seed: the same
requests at the same times, however often a rate is measured. So hpcbench draws them. Each step is
one report of three windows, and so of arrivals that are all different. All steps of a search have
one sequence, faster or slower, so that they differ by their rate and not by chance. Each repeat
has another one. So has the last measurement: the rate that was found is measured again, because it
was chosen where chance was in its favour. A rate counts as too high if two measurements say so, or
one says it clearly; the one that decides the answer, because no lower one was too high, if a third
measurement says so, too.
"""

import itertools
import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpcbench.config.load_axes import MOST_STEPS, WINDOWS_IN_A_ROW, LoadVariant
from hpcbench.measure.perf_output import Outcome
from hpcbench.plan.digest import hash_id
from hpcbench.records.columns import Status

MIN_REQUESTS = 400
"""Of a step. Below 368 the 95 % interval of a 99th percentile has no upper end."""

_TRIES = 3
"""How many rates, one below the other, are measured again before a search has no answer."""

_HALVINGS = 5
"""How often the rate of one request at a time is halved before no rate keeps the limit."""


@dataclass(frozen=True)
class Measured:
    """One measurement of a search.

    Attributes
    ----------
    outcome
        What was measured.
    columns
        More columns of its row. Those of a step name it and its search; those of the end of the
        search have the answer.
    """

    outcome: Outcome
    columns: dict[str, Any]


RunLoad = Callable[[LoadVariant], tuple[Outcome, dict[str, Any]]]
"""Measures a load, and returns its outcome with more columns of its row."""


def next_power(kept: Mapping[int, bool], first: int, within: float) -> int | None:
    """Return which rate to try next.

    Parameters
    ----------
    kept
        Whether the rates that were tried kept the limit, by their powers.
    first
        The power to begin with.
    within
        The rate of a power is (1 + within) to that power.

    Returns
    -------
    int or None
        A power; None where one is known that keeps the limit, and the next one that does not, or
        where even the lowest does not.
    """
    double = max(1, round(math.log(2) / math.log1p(within)))
    low = max((power for power, does in kept.items() if does), default=None)
    too_high = [power for power, does in kept.items() if not does and (low is None or power > low)]
    high = min(too_high, default=None)
    if low is None:
        if high is None:
            return first
        return high - double if high > first - _HALVINGS * double else None
    if high is None:
        return low + double
    return (low + high) // 2 if high - low > 1 else None


def rate_of(power: int, within: float) -> float:
    """Return a rate, to four digits.

    Parameters
    ----------
    power
        Its power.
    within
        One less than the base.

    Returns
    -------
    float
        Requests per second.
    """
    return float(f"{(1 + within) ** power:.4g}")


def step_load(load: LoadVariant, rate: float, seed: int) -> LoadVariant:
    """Return the load of a step.

    Parameters
    ----------
    load
        That of the search.
    rate
        Requests per second.
    seed
        From which its arrivals are drawn.

    Returns
    -------
    LoadVariant
        An open loop of three windows. They are longer than those asked for where they would have
        too few requests for a 99th percentile, if the time of ``max_trials`` windows allows it; and
        long enough for a rate that is too high by ``within`` to build up a queue as long as the
        limit.
    """
    enough_s = min(MIN_REQUESTS / rate, load.allowed_s) / WINDOWS_IN_A_ROW
    window_s = max(load.window_s, enough_s, load.queue_s)
    return replace(
        load,
        request_rate=rate,
        arrivals_seed=seed,
        measurement_interval_ms=math.ceil(1000 * window_s),
        max_trials=WINDOWS_IN_A_ROW,
        stability_percentage=None,
        stop_precision=None,
        stop_max_s=None,
    )


def search(point_id: str, load: LoadVariant, chance: str, run: RunLoad) -> Iterator[Measured]:
    """Search for the capacity of a server.

    Parameters
    ----------
    point_id
        The point whose load is a search.
    load
        That load.
    chance
        From which the seeds of the arrivals follow.
    run
        Measures a load on the server.

    Yields
    ------
    Measured
        The steps in their order, then the end of the search. A step that fails is its end.
    """
    limit_ms, within = load.capacity_max_latency_p99_ms, load.capacity_within
    assert limit_ms is not None
    assert within is not None
    seeds = random.Random(chance)  # noqa: S311
    numbers = itertools.count()
    closed = replace(load, concurrency=1, request_distribution=None)
    outcome, columns = run(closed)
    if _failed(outcome):
        yield Measured(_at(outcome, "one request at a time"), columns)
        return
    yield _step(point_id, next(numbers), closed, Measured(outcome, columns))
    alone = outcome.metrics["throughput_infer_per_s"] / load.batch_size
    first = math.floor(math.log(alone) / math.log1p(within))
    kept: dict[int, bool] = {}
    sure: set[int] = set()
    seed = seeds.getrandbits(32)
    number = 0
    while (power := _next_trial(kept, sure, first, within)) is not None:
        if number + 2 + 2 * _TRIES >= MOST_STEPS:
            reason = (
                f"{number + 1} steps did not find where the p99 latency gets over {limit_ms:g} ms"
            )
            yield Measured(Outcome(Status.FAILED, reason), {})
            return
        rate, is_known = rate_of(power, within), power in kept
        asked = step_load(load, rate, seed)
        for found in [Measured(*run(asked))] if is_known else _tries(asked, limit_ms, run):
            if _failed(found.outcome):
                yield Measured(_at(found.outcome, f"{rate:g} requests per second"), found.columns)
                return
            number = next(numbers)
            kept[power] = keeps(found.outcome, limit_ms)
            if is_known or _is_far_over(found.outcome, limit_ms):
                sure.add(power)
            yield _step(point_id, number, asked, found)
    highest = max((power for power, does in kept.items() if does), default=None)
    if highest is None:
        reason = (
            f"no rate keeps a p99 latency of {limit_ms:g} ms, not even {rate:g} requests per second"
        )
        yield Measured(Outcome(Status.NOT_APPLICABLE, reason), {})
        return
    again = [rate_of(highest - below, within) for below in range(_TRIES)]
    yield from _confirmed(point_id, load, again, seeds, numbers, run)


def _next_trial(
    kept: Mapping[int, bool], sure: Collection[int], first: int, within: float
) -> int | None:
    """Return which rate to try next: at last again the one that decides the answer.

    It has excluded all higher rates, of which most were never tried, and the machine may have
    spoiled it whenever it was tried itself.
    """
    power = next_power(kept, first, within)
    low = max((each for each, does in kept.items() if does), default=None)
    if power is not None or low is None:
        return power
    decisive = low + 1
    return None if decisive in sure else decisive


def _confirmed(
    point_id: str,
    load: LoadVariant,
    rates: Sequence[float],
    seeds: random.Random,
    numbers: Iterator[int],
    run: RunLoad,
) -> Iterator[Measured]:
    """Measure rates again, in falling order, until one keeps the limit: the end of the search."""
    limit_ms = load.capacity_max_latency_p99_ms
    assert limit_ms is not None
    last: tuple[LoadVariant, Measured] | None = None
    for rate in rates:
        asked = step_load(load, rate, seeds.getrandbits(32))
        for found in _tries(asked, limit_ms, run):
            if last is not None:
                yield _step(point_id, next(numbers), *last)
            if _failed(found.outcome):
                yield Measured(_at(found.outcome, f"{rate:g} requests per second"), found.columns)
                return
            if keeps(found.outcome, limit_ms):
                yield _end(asked, found, limit_ms)
                return
            last = asked, found
    assert last is not None
    yield _end(*last, limit_ms)


def _tries(load: LoadVariant, limit_ms: float, run: RunLoad) -> Iterator[Measured]:
    """Measure a rate, and once more where a stall of the machine may have spoiled it.

    A stall of a tenth of a second makes more than one of a hundred requests late, whatever the
    rate. Without a second measurement one of them at a low rate, early in the search, would exclude
    all higher rates. Its arrivals are the same: what differs is what the machine did. Where half of
    the requests were over the limit, no short stall has made them so.
    """
    found = Measured(*run(load))
    yield found
    its = found.outcome
    if not _failed(its) and not keeps(its, limit_ms) and not _is_far_over(its, limit_ms):
        yield Measured(*run(load))


def _is_far_over(outcome: Outcome, limit_ms: float) -> bool:
    """Return whether half of the requests were over the limit, which no short stall explains."""
    return bool(outcome.metrics.get("latency_p50_us", math.inf) > 1000 * limit_ms)


def keeps(outcome: Outcome, limit_ms: float) -> bool:
    """Return whether a measurement keeps the limit.

    Parameters
    ----------
    outcome
        What was measured.
    limit_ms
        The limit of the 99th percentile of latency, in ms.

    Returns
    -------
    bool
        False for a loop that could not keep its rate, whatever latency its requests had.
    """
    p99_us = outcome.metrics.get("latency_p99_us", math.inf)
    return not outcome.metrics.get("overloaded") and p99_us <= 1000 * limit_ms


def _failed(outcome: Outcome) -> bool:
    return outcome.status in (Status.FAILED, Status.TIMEOUT)


def _at(outcome: Outcome, load: str) -> Outcome:
    return replace(outcome, reason=f"at {load}: {outcome.reason}")


def _step(point_id: str, number: int, load: LoadVariant, found: Measured) -> Measured:
    its = {
        **found.columns,
        **load.columns,
        # The number, because a rate that is measured again is another row.
        "point_id": hash_id(f"{point_id}/{number}/{load.request_rate}"),
        "part_of": point_id,
        "capacity_step": number,
        "arrivals_seed": load.arrivals_seed,
    }
    return Measured(found.outcome, its)


def _end(load: LoadVariant, found: Measured, limit_ms: float) -> Measured:
    """The row of the search has no rate, so that the answers of its repeats can be joined."""
    assert load.request_rate is not None
    outcome = found.outcome
    columns = {**found.columns, "arrivals_seed": load.arrivals_seed}
    if keeps(outcome, limit_ms):
        answer = load.request_rate * load.batch_size
        metrics = {**outcome.metrics, "capacity_infer_per_s": answer}
        return Measured(replace(outcome, metrics=metrics), columns)
    reason = (
        f"the rates found did not keep a p99 latency of {limit_ms:g} ms when they were measured "
        f"again, the last one {load.request_rate:g} requests per second"
    )
    return Measured(replace(outcome, status=Status.UNSTABLE, reason=reason), columns)
