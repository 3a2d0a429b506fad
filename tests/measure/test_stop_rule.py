"""When a measurement has seen enough. The series are simulated, so their truth is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hpcbench.measure import stop_rule
from hpcbench.measure.stop_rule import Observation, StopDecision, by_precision, by_windows, warm_up


def observed(
    throughputs: Sequence[float], latencies: Sequence[float] | None = None, seconds: float = 1.0
) -> list[Observation]:
    latencies = latencies or [100.0] * len(throughputs)
    return [
        Observation(t, us, round(t * seconds), n * seconds, (n + 1) * seconds)
        for n, (t, us) in enumerate(zip(throughputs, latencies, strict=True))
    ]


def windows(*series: Sequence[float], **changes: Any) -> StopDecision:
    """The verdict after the report at which the rule stops, or after the last."""
    asked: dict[str, Any] = {"per_window": 1, "stability_percentage": 10.0, "max_trials": 10}
    everything = observed(*series)
    for count in range(1, len(everything) + 1):
        verdict = by_windows(everything[:count], **(asked | changes))
        if verdict.done:
            break
    return verdict


def test_three_windows_in_a_row_that_agree_are_enough() -> None:
    verdict = windows([100.0, 104.0, 98.0, 100.0])
    assert (verdict.done, verdict.settled, verdict.first, verdict.last) == (True, True, 0, 3)


def test_windows_that_do_not_agree_are_followed_by_others() -> None:
    verdict = windows([100.0, 130.0, 100.0, 104.0, 98.0])
    assert (verdict.settled, verdict.first, verdict.last) == (True, 2, 5)


def test_latency_must_agree_as_throughput_must() -> None:
    """The signature of an open loop that is overloaded: 110, 220, 330, 440 ms."""
    latencies = [110_000.0 * n for n in range(1, 11)]
    verdict = windows([50.0] * 10, latencies)
    assert verdict.done
    assert not verdict.settled
    assert verdict.reason == (
        "did not settle within 10 windows: the last three differ in throughput by 0%, "
        "in latency by 25%"
    )
    assert (verdict.first, verdict.last) == (7, 10)


def test_a_window_of_several_reports_slides_by_one_of_them() -> None:
    verdict = windows([200.0] + [100.0] * 10, per_window=3)
    # The first report is warm-up, so that nine others follow it.
    assert (verdict.settled, verdict.first, verdict.last, verdict.warm_up) == (True, 1, 10, 1)


def test_a_report_that_stalled_is_waited_out_and_is_no_warm_up() -> None:
    series = [100.0 + n % 2 for n in range(30)]
    series[4] = 40.0
    verdict = windows(series, per_window=3)
    # The window with the stall differs by a fifth; the three after it agree.
    assert (verdict.settled, verdict.first, verdict.last, verdict.warm_up) == (True, 5, 14, 0)


@pytest.mark.parametrize(
    ("slow", "max_trials", "first"), [(4, 3, 6), (2, 3, 3), (4, 4, 6), (0, 3, 0)]
)
def test_no_warm_up_counts_where_few_windows_are_allowed(
    slow: int, max_trials: int, first: int
) -> None:
    series = [20.0] * slow + [100.0 + n % 2 for n in range(3 * max_trials - slow)]
    verdict = windows(series, per_window=3, max_trials=max_trials)
    assert verdict.warm_up == slow
    assert verdict.settled is (slow == 0)
    assert (verdict.first, verdict.last) == (first, 3 * max_trials if slow else 9)
    if slow:
        assert verdict.reason == (
            f"did not settle within {max_trials} windows: {slow} of {3 * max_trials} reports are "
            "warm-up, which leaves too few for three windows"
        )


def test_what_is_left_of_a_measurement_that_was_not_done_is_no_warm_up_either() -> None:
    verdict = by_windows(
        observed([20.0] * 3 + [100.0, 101.0, 100.0, 101.0, 100.0]),
        per_window=3,
        stability_percentage=10.0,
        max_trials=10,
    )
    assert (verdict.done, verdict.warm_up, verdict.first, verdict.last) == (False, 3, 5, 8)


def test_a_window_that_answered_nothing_agrees_with_nothing() -> None:
    assert not windows([0.0] * 3).settled


def test_the_values_of_a_window_are_those_of_all_its_requests() -> None:
    both = [Observation(100, 10.0, 100, 0, 1), Observation(300, 50.0, 300, 1, 2)]
    assert stop_rule.window_values(both, 2) == ((200.0,), (40.0,))
    # What fills no window lies at the beginning.
    assert stop_rule.window_values(observed([1.0, 2.0, 3.0]), 2)[0] == pytest.approx((2.5,), 0.05)


def test_a_beginning_that_differs_is_warm_up() -> None:
    noise = np.random.default_rng(1).normal(0, 1, 30)
    series = 100 + noise
    series[:4] -= (40, 30, 20, 10)
    assert warm_up(series) == 4
    assert warm_up(100 + noise) == 0
    assert warm_up([1.0, 2.0]) == 0
    assert warm_up([7.0] * 9) == 0
    assert warm_up([1e9 + each for each in series]) == 4


def test_few_series_without_a_warm_up_lose_their_beginning() -> None:
    chance = np.random.default_rng(2)
    found = [warm_up(chance.normal(100, 3, 9)) > 0 for _ in range(400)]
    assert np.mean(found) < 0.05


def test_a_slow_first_part_is_found_in_most_series() -> None:
    chance = np.random.default_rng(3)
    series = chance.normal(100, 3, (200, 30))
    series[:, :5] -= 15
    assert np.mean([warm_up(each) >= 4 for each in series]) > 0.9


def test_a_stall_among_other_reports_does_not_make_what_came_before_it_a_warm_up() -> None:
    chance = np.random.default_rng(6)
    series = chance.normal(100, 3, (400, 20))
    series[:, 6] *= 2
    assert np.mean([warm_up(each) > 0 for each in series]) < 0.03
    assert warm_up([7.0, 7.0, 14.0, *[7.0] * 8]) == 0
    # Nor does it hide a warm-up before it, or move the warm-up's end.
    series[:, :3] -= 30
    assert np.mean([2 <= warm_up(each) <= 4 for each in series]) > 0.9


def test_reports_of_which_some_are_slow_at_random_are_no_warm_up() -> None:
    chance = np.random.default_rng(7)
    for count in (9, 20, 60, 200):
        series = chance.normal(100, 5, (200, count)) * np.where(
            chance.random((200, count)) < 0.05, 2, 1
        )
        # The first report may be the slow one.
        assert np.mean([warm_up(each) > 0 for each in series]) < 0.1


def precise(
    series: Sequence[float], seconds: float = 0.1, step: int = 1, **changes: Any
) -> StopDecision:
    """The verdict at which the rule stops, asked after so many more reports each time."""
    asked: dict[str, Any] = {"precision": 0.02, "max_s": 1000.0}
    everything = observed(series, list(series), seconds=seconds)
    for count in range(step, len(everything) + 1, step):
        verdict = by_precision(everything[:count], **(asked | changes))
        if verdict.done:
            break
    return verdict


def test_what_hardly_varies_is_precise_after_ten_reports_and_six_seconds() -> None:
    series = [100.0 + n % 2 for n in range(70)]
    verdict = precise(series, seconds=0.6)
    assert (verdict.settled, verdict.first, verdict.last) == (True, 0, 10)
    assert verdict.reached == pytest.approx(0.0066, abs=0.0001)
    assert precise(series, seconds=1.0).last == 10
    assert precise(series, seconds=0.1).last == 60
    assert precise(series, seconds=0.1, max_s=2.0).last == 20
    assert precise(series, seconds=0.1, max_s=2.0).settled


def test_what_varies_too_much_ends_when_its_time_is_over() -> None:
    chance = np.random.default_rng(5)
    verdict = precise(list(chance.normal(100, 30, 100)), max_s=5.0)
    assert verdict.done
    assert not verdict.settled
    assert verdict.last == 50
    assert "did not reach ± 0.02 of the mean within 5 s: ± " in (verdict.reason or "")


def correlated(chance: np.random.Generator, count: int, correlation: float) -> list[float]:
    """A series of mean 100 and standard deviation 5, a first-order autoregression."""
    steps = chance.normal(0, 5 * math.sqrt(1 - correlation**2), count)
    values = [chance.normal(0, 5)]
    for step in steps[1:]:
        values.append(correlation * values[-1] + step)
    return [100 + value for value in values]


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("precision", [0.05, 0.02])
def test_nine_of_ten_intervals_hold_the_true_mean_however_early_they_were_narrow(
    correlation: float, precision: float
) -> None:
    chance = np.random.default_rng(4)
    covered, within = [], []
    for _ in range(120):
        series = correlated(chance, 900, correlation)
        # Looks are 15 reports apart, or more.
        verdict = precise(series, step=15, precision=precision)
        assert verdict.settled
        assert verdict.reached is not None
        mean = np.mean(series[verdict.first : verdict.last])
        covered.append(abs(mean - 100) <= verdict.reached * mean)
        within.append(abs(mean / 100 - 1) <= precision)
    assert np.mean(covered) >= 0.9
    assert np.mean(within) >= 0.9


def test_an_interval_is_looked_at_when_a_quarter_more_was_heard() -> None:
    series = correlated(np.random.default_rng(4), 60, 0.0)
    everything = observed(series, series, seconds=1.0)
    looks = [by_precision(everything[:n], precision=0.01, max_s=1000.0).last for n in range(1, 31)]
    assert looks == [*range(1, 10), *[10] * 3, *[13] * 4, *[17] * 5, *[22] * 6, *[28] * 3]


@pytest.mark.parametrize("precision", [0.05, 0.02])
def test_intervals_hold_where_one_of_twenty_reports_is_twice_as_slow(precision: float) -> None:
    chance = np.random.default_rng(8)
    covered = []
    for _ in range(80):
        slow = np.where(chance.random(2500) < 0.05, 2.0, 1.0)
        series = list(chance.normal(100, 5, 2500) * slow / 1.05)
        verdict = precise(series, step=15, precision=precision)
        assert verdict.settled
        assert verdict.reached is not None
        mean = np.mean(series[verdict.first : verdict.last])
        covered.append(abs(mean - 100) <= verdict.reached * mean)
    assert np.mean(covered) >= 0.85
