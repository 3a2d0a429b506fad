"""Reports of perf_analyzer as one. The requests are drawn, so what the whole has is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpcbench.measure import pooling
from hpcbench.measure.perf_output import ComposingModel
from hpcbench.measure.pooling import pooled, pooled_percentile, rank

CHANCE = np.random.default_rng(7)
DISTRIBUTIONS = {
    "exponential": lambda n: CHANCE.exponential(1000, n),
    "lognormal": lambda n: 1000 * CHANCE.lognormal(0, 0.7, n),
    "normal": lambda n: CHANCE.normal(1000, 100, n),
}


def report(latencies: np.ndarray[Any, Any], seconds: float = 1.0) -> dict[str, Any]:
    """What perf_analyzer prints of these requests."""
    ordered = np.sort(latencies)
    return {
        "request_count": len(ordered),
        "throughput_infer_per_s": len(ordered) / seconds,
        "latency_avg_us": float(ordered.mean()),
        "latency_std_us": float(ordered.std(ddof=1)),
        **{f"latency_p{p}_us": float(ordered[rank(p, len(ordered)) - 1]) for p in (50, 90, 95, 99)},
    }


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize(("reports", "requests"), [(9, 200), (3, 2000), (30, 100)])
def test_pooled_percentiles_are_those_of_all_requests(
    name: str, reports: int, requests: int
) -> None:
    errors: dict[int, list[float]] = {50: [], 95: [], 99: []}
    # Of many reports fewer times: to pool them takes as long as they are many.
    for _ in range(min(100, 1000 // reports)):
        parts = [DISTRIBUTIONS[name](requests) for _ in range(reports)]
        found = pooled([report(part) for part in parts], None)
        exact = report(np.concatenate(parts))
        for percent, each in errors.items():
            column = f"latency_p{percent}_us"
            each.append(found[column] / exact[column] - 1)
    for percent, each in errors.items():
        assert abs(np.mean(each)) < 0.015, percent
        assert np.sqrt(np.mean(np.square(each))) < 0.05, percent


def test_means_and_spreads_are_those_of_all_requests() -> None:
    parts = [CHANCE.normal(1000, 50, 100), CHANCE.normal(1200, 80, 300)]
    found = pooled([report(parts[0], 1.0), report(parts[1], 1.0)], None)
    exact = report(np.concatenate(parts), 2.0)
    for name in ("latency_avg_us", "latency_std_us", "request_count", "throughput_infer_per_s"):
        assert found[name] == pytest.approx(exact[name]), name


def test_one_report_stays_what_it_is() -> None:
    whole = report(CHANCE.exponential(1000, 50)) | {"latency_percentile_us": 7.0}
    assert pooled([whole], 75) == pytest.approx(whole)


def test_a_percentile_lies_between_those_of_the_reports() -> None:
    reports = [{50: 10.0, 90: 20.0, 95: 30.0, 99: 40.0}, {50: 10.0, 90: 20.0, 95: 30.0, 99: 400.0}]
    assert 40 < pooled_percentile(99, reports, [1000, 1000]) < 400
    assert pooled_percentile(95, reports, [1000, 1000]) == 30
    # All percentiles of few requests may be the same one.
    assert 10 <= pooled_percentile(99, [{50: 10.0, 99: 10.0}, {50: 20.0, 99: 20.0}], [1, 1]) <= 20


def test_the_servers_times_count_by_the_requests_that_it_answered() -> None:
    one = {"request_count": 10, "throughput_infer_per_s": 10.0, "success_count": 30}
    two = {"request_count": 10, "throughput_infer_per_s": 10.0, "success_count": 10}
    found = pooled([one | {"server_queue_us": 100.0}, two | {"server_queue_us": 200.0}], None)
    assert found["server_queue_us"] == 125
    assert found["success_count"] == 40


def test_the_rate_that_was_sent_counts_by_time() -> None:
    one = {"request_count": 100, "throughput_infer_per_s": 100.0, "send_request_rate": 100.0}
    two = {"request_count": 100, "throughput_infer_per_s": 50.0, "send_request_rate": 50.0}
    assert pooled([one, two], None)["send_request_rate"] == pytest.approx(200 / 3)


def test_a_metric_that_one_report_lacks_is_that_of_the_others() -> None:
    one = {"request_count": 10, "throughput_infer_per_s": 10.0}
    assert pooled([one, one | {"network_us": 20.0}], None) == {
        "request_count": 20,
        "throughput_infer_per_s": 10.0,
        "network_us": 20.0,
    }


def test_the_largest_p99_is_a_bound_as_often_as_it_says() -> None:
    true_p99 = 1000 * np.log(100)
    above, promised = [], []
    for _ in range(400):
        found = pooling.p99_columns([report(CHANCE.exponential(1000, 300)) for _ in range(9)])
        above.append(found["latency_p99_bound_us"] >= true_p99)
        promised.append(found["latency_p99_bound_confidence"])
    assert promised[0] > 0.95
    # Three standard errors of what 400 trials may show.
    error = np.sqrt(promised[0] * (1 - promised[0]) / 400)
    assert abs(np.mean(above) - promised[0]) < 3 * error


def test_few_reports_or_requests_give_no_bound() -> None:
    few = pooling.p99_columns([report(CHANCE.exponential(1000, 300)) for _ in range(3)])
    assert few.keys() == {"latency_p99_max_us"}
    small = pooling.p99_columns([report(CHANCE.exponential(1000, 20)) for _ in range(9)])
    assert small.keys() == {"latency_p99_max_us"}
    assert pooling.p99_columns([{}]) == {}


def test_662_requests_bound_their_p99_with_a_third_and_not_with_99_percent() -> None:
    found = pooling.p99_columns([report(CHANCE.exponential(1000, 662))] * 8)
    assert found["latency_p99_bound_confidence"] == pytest.approx(1 - (1 - 0.34) ** 8, abs=0.01)


def test_models_that_an_ensemble_calls_are_pooled_one_by_one() -> None:
    def part(model: str, queue_us: float) -> ComposingModel:
        return ComposingModel(model, 1, {"success_count": 10, "server_queue_us": queue_us})

    reports = [(part("a", 1.0), part("b", 10.0)), (part("a", 3.0), part("b", 30.0))]
    first, second = pooling.pooled_composing(reports, 50.0)
    assert (first.model, first.metrics["server_queue_us"]) == ("a", 2.0)
    assert (second.model, second.metrics["server_queue_us"]) == ("b", 20.0)
    assert first.metrics["throughput_infer_per_s"] == 50.0
    assert first.metrics["success_count"] == 20


def test_a_report_whose_percentiles_are_nearly_the_same_is_pooled_with_others() -> None:
    burst = {50: 90_000.0, 90: 90_001.0, 95: 90_001.0, 99: 90_002.0}
    even = {50: 1000.0, 90: 1100.0, 95: 1200.0, 99: 2000.0}
    assert 2000 < pooled_percentile(99, [burst, even], [100, 100]) <= 90_002
