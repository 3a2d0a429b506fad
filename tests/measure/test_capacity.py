"""The search for the highest rate that keeps a limit: as arithmetic, and on the real Triton."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcbench.config.load_axes import MOST_STEPS, LoadVariant
from hpcbench.measure.capacity import Measured, keeps, next_power, rate_of, search, step_load
from hpcbench.measure.open_loop import drawn_intervals_us
from hpcbench.measure.perf_output import Outcome
from hpcbench.records.columns import Status
from tests.helpers import models, real
from tests.helpers.queue_server import QueueServer
from tests.helpers.real import QUICK, quick_run

LIMIT_MS = 20.0
SEARCH = LoadVariant(
    batch_size=8,
    concurrency=None,
    request_distribution="poisson",
    capacity_max_latency_p99_ms=LIMIT_MS,
    capacity_within=0.05,
)


@given(
    truth=st.floats(1e-3, 1e6),
    guess=st.floats(0.05, 500),
    within=st.floats(0.01, 1),
)
def test_the_highest_power_that_keeps_the_limit_is_found(
    truth: float, guess: float, within: float
) -> None:
    first = math.floor(math.log(truth / guess) / math.log1p(within))
    kept: dict[int, bool] = {}
    while (power := next_power(kept, first, within)) is not None:
        assert power not in kept
        kept[power] = (1 + within) ** power <= truth
    # The rest is for the closed loop, second tries, and the end.
    assert len(kept) <= MOST_STEPS - 9
    if guess > 1 / 16:
        best = max(power for power, does in kept.items() if does)
        assert (1 + within) ** best <= truth < (1 + within) ** (best + 1)


def test_where_even_the_lowest_rate_is_too_high_the_search_ends() -> None:
    kept: dict[int, bool] = {}
    while (power := next_power(kept, 100, 0.05)) is not None:
        kept[power] = False
    assert rate_of(100, 0.05) / rate_of(min(kept), 0.05) == pytest.approx(32, rel=0.05)


# What a search does with a server of known capacity


def served(
    capacity: float, *, alone: float, slower: Callable[[LoadVariant], float] = lambda _: 1.0
) -> tuple[list[LoadVariant], Callable[[LoadVariant], tuple[Outcome, dict[str, Any]]]]:
    """A server whose p99 is at the limit at a rate of requests, and below it at lower rates."""
    asked: list[LoadVariant] = []

    def run(load: LoadVariant) -> tuple[Outcome, dict[str, Any]]:
        asked.append(load)
        if load.concurrency == 1:
            metrics = {"throughput_infer_per_s": alone * load.batch_size}
            return Outcome(Status.OK, None, metrics), {"command": "closed"}
        assert load.request_rate is not None
        p99_us = 1000 * LIMIT_MS * load.request_rate * slower(load) / capacity
        overloaded = load.request_rate > 2 * capacity
        metrics = {"latency_p99_us": p99_us, "latency_p50_us": p99_us / 2, "overloaded": overloaded}
        status = Status.UNSTABLE if metrics["overloaded"] else Status.OK
        return Outcome(status, None, metrics), {"command": "open"}

    return asked, run


def searched(run: Callable[[LoadVariant], tuple[Outcome, dict[str, Any]]]) -> list[Measured]:
    return list(search("p", SEARCH, "chance", run))


@pytest.mark.parametrize("alone", [30.0, 190.0, 2000.0])
def test_each_step_is_a_row_and_the_last_row_has_the_answer(alone: float) -> None:
    asked, run = served(200.0, alone=alone)
    *steps, end = searched(run)
    assert [step.columns["capacity_step"] for step in steps] == [*range(len(steps))]
    assert {step.columns["part_of"] for step in steps} == {"p"}
    assert len({step.columns["point_id"] for step in steps} | {"p"}) == len(steps) + 1
    assert steps[0].columns["concurrency"] == 1
    rates = {step.columns["request_rate"]: keeps(step.outcome, LIMIT_MS) for step in steps[1:]}
    best = max(rate for rate, does in rates.items() if does)
    assert 200 / 1.051 < best <= 200
    assert end.outcome.metrics["capacity_infer_per_s"] == 8 * best
    assert not {"part_of", "point_id", "capacity_step", "request_rate"} & set(end.columns)
    assert end.outcome.status is Status.OK
    # What is too high is measured twice, unless it is by far; what decides the answer once more.
    twice = {rate for rate, does in rates.items() if not does and rate < 400}
    decisive = min(rate for rate, does in rates.items() if not does)
    assert decisive in twice
    times = Counter(load.request_rate for load in asked)
    assert {rate for rate in rates if times[rate] == 2} == {*twice, best} - {decisive}
    assert {rate for rate in rates if times[rate] == 3} == {decisive}
    # One sequence of arrivals for all steps, another one for what was found.
    assert len({load.arrivals_seed for load in asked[1:-1]}) == 1
    assert asked[-1].arrivals_seed not in {load.arrivals_seed for load in asked[:-1]}


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_the_rates_of_a_search_are_requests_and_its_answer_is_inferences(batch_size: int) -> None:
    """Whatever the batch size: the same server answers as many requests."""
    asked, run = served(200.0, alone=190.0)
    load = replace(SEARCH, batch_size=batch_size)
    *steps, end = search("p", load, "chance", run)
    _, run = served(200.0, alone=190.0)
    same = searched(run)
    assert [each.columns["request_rate"] for each in steps] == [
        each.columns["request_rate"] for each in same[:-1]
    ]
    assert {each.columns["batch_size"] for each in steps} == {batch_size}
    assert {load.batch_size for load in asked} == {batch_size}
    answer = end.outcome.metrics["capacity_infer_per_s"]
    assert answer == pytest.approx(batch_size * asked[-1].request_rate)
    assert answer / batch_size == pytest.approx(
        same[-1].outcome.metrics["capacity_infer_per_s"] / SEARCH.batch_size
    )


def test_a_rate_that_is_too_high_the_second_time_gives_way_to_the_next_one_below() -> None:
    _, run = served(200.0, alone=190.0)
    sure = searched(run)[-1].outcome.metrics["capacity_infer_per_s"]
    seeds: list[int | None] = []

    def slower(load: LoadVariant) -> float:
        seeds.append(load.arrivals_seed)
        return 1.0 if load.arrivals_seed == seeds[0] else 1.06

    _, run = served(200.0, alone=190.0, slower=slower)
    *steps, end = searched(run)
    assert [step.columns["request_rate"] for step in steps[-2:]] == [sure / 8] * 2
    assert end.outcome.metrics["capacity_infer_per_s"] == pytest.approx(sure / 1.05, rel=1e-3)

    seeds.clear()
    _, run = served(200.0, alone=190.0, slower=lambda load: slower(load) ** 9)
    end = searched(run)[-1]
    assert end.outcome.status is Status.UNSTABLE
    assert "did not keep a p99 latency of 20 ms when they were measured again" in str(
        end.outcome.reason
    )
    assert "capacity_infer_per_s" not in end.outcome.metrics


def test_a_stall_in_one_measurement_does_not_make_its_rate_too_high() -> None:
    _, run = served(200.0, alone=60.0)
    sure = searched(run)[-1].outcome.metrics["capacity_infer_per_s"]
    for stalled in range(1, len(searched(run))):
        runs = iter(range(99))

        def slower(_: LoadVariant, stalled: int = stalled, runs: Iterator[int] = runs) -> float:
            return 1.9 if next(runs) == stalled - 1 else 1.0

        _, run = served(200.0, alone=60.0, slower=slower)
        assert searched(run)[-1].outcome.metrics["capacity_infer_per_s"] == sure


def test_a_stall_in_both_measurements_of_a_rate_does_not_exclude_all_higher_ones() -> None:
    _, run = served(200.0, alone=60.0)
    sure = searched(run)[-1].outcome.metrics["capacity_infer_per_s"]
    for stalled in range(1, len(searched(run)) - 1):
        runs = iter(range(99))

        def slower(_: LoadVariant, stalled: int = stalled, runs: Iterator[int] = runs) -> float:
            return 1.9 if next(runs) in (stalled - 1, stalled) else 1.0

        _, run = served(200.0, alone=60.0, slower=slower)
        assert searched(run)[-1].outcome.metrics["capacity_infer_per_s"] == sure


def within_a_tenth(server: QueueServer, limit_s: float, trials: int) -> float:
    load = replace(SEARCH, batch_size=1, capacity_max_latency_p99_ms=1000 * limit_s)
    knee = server.capacity(limit_s)
    ends = (list(search("p", load, f"{n}", server.run(n)))[-1].outcome for n in range(trials))
    found = (end.metrics.get("capacity_infer_per_s", 0.0) for end in ends)
    return sum(abs(each / knee - 1) <= 0.1 for each in found) / trials


def test_the_queue_of_the_simulation_waits_as_long_as_theory_says() -> None:
    chance = np.random.default_rng(1), np.random.default_rng(2)
    for load in (0.3, 0.8):
        found_s, answered = QueueServer(0.01).latencies_s(100 * load, 5000, *chance)
        # Pollaczek and Khinchine.
        assert found_s.mean() == pytest.approx(0.01 + 0.01 * load / (2 * (1 - load)), rel=0.05)
        assert answered == pytest.approx(100 * load, rel=0.02)


def test_on_a_machine_that_stalls_nine_of_ten_searches_are_within_a_tenth_of_the_truth() -> None:
    calm = QueueServer(0.01)
    assert within_a_tenth(calm, 0.2, trials=80) >= 0.9
    # One step of five has a stall, which takes 0.3 s in the mean; with one try each, 77 % are.
    stalling = replace(calm, stalls_per_s=0.2 / 15, stall_s=0.3)
    assert within_a_tenth(stalling, 0.2, trials=80) >= 0.9


def test_where_each_p99_is_off_by_a_fifth_nine_of_ten_searches_are_right() -> None:
    server, limit_s = QueueServer(0.01), 0.2
    load = replace(SEARCH, batch_size=1, capacity_max_latency_p99_ms=1000 * limit_s)
    knee = server.capacity(limit_s)
    ratios, steps = [], []
    for trial in range(150):
        measure, chance = server.run(trial), np.random.default_rng([1, trial])

        def run(
            load: LoadVariant,
            measure: Callable[[LoadVariant], tuple[Outcome, dict[str, Any]]] = measure,
            chance: np.random.Generator = chance,
        ) -> tuple[Outcome, dict[str, Any]]:
            outcome, columns = measure(load)
            p99_us = outcome.metrics.get("latency_p99_us", 0.0) * chance.lognormal(0, 0.2)
            return replace(outcome, metrics={**outcome.metrics, "latency_p99_us": p99_us}), columns

        found = list(search("p", load, f"{trial}", run))
        ratios.append(found[-1].outcome.metrics.get("capacity_infer_per_s", 0.0) / knee)
        steps.append(len(found))
    assert np.mean(np.abs(np.array(ratios) - 1) <= 0.1) >= 0.9
    assert abs(np.median(ratios) - 1) < 0.03
    assert np.mean(steps) < 13


def test_a_limit_that_no_rate_keeps_is_not_applicable() -> None:
    _, run = served(1.0, alone=190.0)
    *steps, end = searched(run)
    assert all(step.columns["part_of"] == "p" for step in steps)
    assert end.outcome.status is Status.NOT_APPLICABLE
    assert "no rate keeps a p99 latency of 20 ms" in str(end.outcome.reason)


def test_a_rate_that_is_never_too_high_ends_after_so_many_steps() -> None:
    _, run = served(1e30, alone=190.0)
    found = searched(run)
    assert len(found) < MOST_STEPS
    assert found[-1].outcome.status is Status.FAILED


@pytest.mark.parametrize("fails_at", [0, 1, 4, -1])
def test_a_step_that_fails_is_the_end_of_the_search(fails_at: int) -> None:
    _, run = served(200.0, alone=190.0)
    fails_at = range(len(searched(run)))[fails_at]
    tried = iter(range(99))

    def broken(load: LoadVariant) -> tuple[Outcome, dict[str, Any]]:
        if next(tried) == fails_at:
            return Outcome(Status.TIMEOUT, "hung"), {"command": "this one"}
        return run(load)

    *steps, end = searched(broken)
    assert len(steps) == fails_at
    assert end.outcome.status is Status.TIMEOUT
    assert str(end.outcome.reason).startswith("at ")
    assert end.columns == {"command": "this one"}


# Arrivals


def test_windows_have_enough_requests_and_time_to_see_a_queue_grow() -> None:
    assert step_load(SEARCH, 1000.0, 1).measurement_interval_ms == 5000
    assert step_load(SEARCH, 20.0, 1).measurement_interval_ms == 6667
    # The time of max_trials windows, and no more.
    assert step_load(SEARCH, 1.0, 1).measurement_interval_ms == 16667
    slow = replace(SEARCH, capacity_max_latency_p99_ms=2000.0)
    assert step_load(slow, 1000.0, 1).measurement_interval_ms == 40_000


def test_drawn_arrivals_are_those_of_a_poisson_process() -> None:
    found_us = drawn_intervals_us(500.0, 200_000, seed=3)
    assert found_us.mean() == pytest.approx(2000, rel=0.01)
    assert found_us.std() == pytest.approx(2000, rel=0.01)
    counts = np.bincount((np.cumsum(found_us) // 100_000).astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.1)
    assert np.corrcoef(found_us[1:], found_us[:-1])[0, 1] == pytest.approx(0, abs=0.01)
    faster_us = drawn_intervals_us(5000.0, 200_000, seed=3)
    assert np.cumsum(faster_us)[-1] * 10 == pytest.approx(np.cumsum(found_us)[-1], rel=1e-6)


# On the real Triton


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_the_capacity_of_a_server_lies_between_its_own_steps(
    tmp_path: Path, native_prefix: Path
) -> None:
    models.sleeping(tmp_path / "models", seconds=0.01)
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        tmp_path / "models",
        models=[{"name": "sleeper"}],
        load={"batch_size": 3, "capacity": {"max_latency_p99_ms": 300, "within": 0.25}},
        measurement=QUICK,
    )
    *steps, end = real.measured(campaign, site, tmp_path / "logs")
    assert end.status is Status.OK, (end.reason, [step.latency_p99_us for step in steps])
    assert [step.capacity_step for step in steps] == [*range(len(steps))]
    assert {step.part_of for step in steps} == {end.point_id}
    assert (steps[0].concurrency, steps[0].request_rate) == (1, None)
    assert (end.concurrency, end.request_rate, end.part_of) == (None, None, None)
    assert end.request_distribution == "poisson"
    assert "--request-intervals intervals.txt" in (end.command or "")
    answer = (end.capacity_infer_per_s or 0) / 3
    kept: dict[float, bool] = {}
    for step in steps[1:]:
        its = (step.latency_p99_us or 0) <= 300_000 and not step.overloaded
        # A rate that was found is measured once more, and may not keep the limit then.
        kept[step.request_rate or 0] = kept.get(step.request_rate or 0, False) or its
    # Where it was too high the second time, one of the two below it is the answer.
    best = max(rate for rate, does in kept.items() if does)
    assert best / 1.26**2 < answer <= best
    assert (end.latency_p99_us or 0) <= 300_000
    # One request takes 10 ms of sleep, so no rate above 100 can be served.
    assert min(rate for rate, does in kept.items() if not does) <= 125 * 1.01
    assert answer < 100
    assert end.send_request_rate == pytest.approx(answer, rel=0.2)
    # All of a step are arrivals of their own: three windows of 1.2 s.
    assert end.request_count == pytest.approx(answer * 3 * 1.2, rel=0.25)
    assert (end.foreign_requests, end.windows_counted) == (0, 1)
