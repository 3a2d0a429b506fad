"""Whether an open loop keeps its rate."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hpcbench.measure.open_loop import (
    Schedule,
    is_surely_late,
    late_reason,
    schedule_columns,
)
from hpcbench.measure.report_stream import Pass, Report, ReportStream
from hpcbench.records.rules import RULES

STEADY = Schedule(rate=100.0, poisson=False, inferences=4)
RANDOM = Schedule(rate=100.0, poisson=True, inferences=4)


def printed(*rates: float) -> ReportStream:
    """Passes of a second, by requests per second."""
    passes = [Pass(4 * rate, n + 1.0, n + 1.0) for n, rate in enumerate(rates)]
    return ReportStream(None, begun=0.0, passes=passes)


def late(*rates: float, schedule: Schedule = STEADY, silent_s: float = 0.1) -> bool:
    now = len(rates) + silent_s
    return is_surely_late(schedule, printed(*rates), pass_s=1.0, now=now)


def test_three_passes_below_the_rate_are_enough() -> None:
    assert late(90.0, 91.0, 90.0)
    assert not late(90.0, 91.0)
    assert not late(90.0, 91.0, 99.0)


def test_a_loop_that_catches_up_after_a_slow_start_is_not_late() -> None:
    assert not late(20.0, 140.0, 140.0, 100.0)


def test_a_loop_whose_first_request_is_cold_is_not_late_before_any_answer_can_be_there() -> None:
    assert not late(*[0.0] * 40)
    assert not late(*[0.0] * 40, 200.0, 140.0)
    assert late(*[0.0] * 50)


def test_a_random_schedule_may_have_fewer_requests_by_chance() -> None:
    assert not late(80.0, 75.0, 80.0, schedule=RANDOM)
    assert late(50.0, 60.0, 60.0, schedule=RANDOM)


def test_a_late_loop_that_prints_nothing_any_more_is_not_waited_for() -> None:
    assert late(4.0, silent_s=5.0)
    assert not late(4.0, silent_s=1.0)
    assert not late(100.0, silent_s=5.0)
    assert late(silent_s=5.5)
    assert not late(silent_s=1.5)
    assert not is_surely_late(STEADY, ReportStream(None), pass_s=1.0, now=100.0)


def test_what_perf_analyzer_says_of_delayed_requests_is_believed() -> None:
    stream = printed(99.0, 95.0)
    stream.reports.append(Report(0.0, 3.0, "", {"delayed_requests_percent": 46.0}))
    assert is_surely_late(STEADY, stream, pass_s=1.0, now=2.5)


# The times of a file of three seconds

FILE = Schedule(rate=100.0, poisson=False, inferences=4, period_s=3.0)


def cycles(*rates: float, delayed: float = 0.0) -> ReportStream:
    """Reports of three passes of a second, by requests per second: a pass has no burst, or all."""
    stream = printed(*(each for rate in rates for each in (0.0, 3 * rate, 0.0)))
    for number, rate in enumerate(rates):
        metrics = {"throughput_infer_per_s": 4 * rate, "delayed_requests_percent": delayed}
        stream.reports.append(Report(3.0 * number, 3.0 * number + 3, "", metrics))
    return stream


def test_of_a_file_only_whole_cycles_show_whether_a_loop_is_late() -> None:
    def is_late(stream: ReportStream, now: float) -> bool:
        return is_surely_late(FILE, stream, pass_s=1.0, now=now)

    begun = printed(0.0, 300.0)
    assert not is_late(begun, 2.5)
    assert not is_late(cycles(99.0), 3.1)
    assert is_late(cycles(99.0, 90.0), 6.1)
    # Most requests of a burst are sent a millisecond after they are due.
    assert not is_late(cycles(99.0, 99.0, delayed=60.0), 6.1)
    # perf_analyzer starts anew between two reports, but does not take a minute for that.
    assert not is_late(cycles(99.0), 13.0)
    assert is_late(cycles(99.0), 60.0)


def test_part_of_a_cycle_owes_nothing() -> None:
    assert FILE.least(1.0) == 0
    assert FILE.least(3.01) == pytest.approx((0.98 * 300 - 2) / 3.01)
    assert FILE.least(8.0) == pytest.approx((0.98 * 600 - 2) / 8)


def test_a_burst_that_is_sent_late_is_no_overload() -> None:
    metrics = {
        "throughput_infer_per_s": 4 * 99.5,
        "delayed_requests_percent": 60.0,
        "request_count": 900,
    }
    assert not schedule_columns(FILE, metrics)["overloaded"]
    assert schedule_columns(STEADY, metrics)["overloaded"]
    slow = metrics | {"throughput_infer_per_s": 4 * 90.0, "request_count": 810}
    assert schedule_columns(FILE, slow)["overloaded"]


def test_a_loop_that_kept_its_rate_has_no_lag() -> None:
    kept = schedule_columns(STEADY, {"throughput_infer_per_s": 399.0, "request_count": 1000})
    assert not kept["overloaded"]
    assert kept["send_request_rate"] == 99.75
    assert kept["schedule_lag_s"] < 0.03


def test_a_loop_that_did_not_says_by_how_much() -> None:
    metrics = {
        "throughput_infer_per_s": 4 * 80.0,
        "send_request_rate": 80.0,
        "delayed_requests_percent": 99.7,
        "request_count": 800,
    }
    found = schedule_columns(STEADY, metrics)
    assert found["overloaded"]
    assert found["schedule_lag_s"] == pytest.approx(2)
    assert late_reason(STEADY, metrics | found) == (
        "overloaded: 100 requests per second were asked for: 80 per second were sent or "
        "answered, 99.7 % of them were delayed"
    )


@pytest.mark.parametrize(("percent", "overloaded"), [(0.9, False), (1.1, True), (12.0, True)])
def test_delays_of_more_than_one_percent_are_an_overload(percent: float, overloaded: bool) -> None:
    metrics = {
        "throughput_infer_per_s": 400.0,
        "request_count": 1000,
        "delayed_requests_percent": percent,
    }
    assert schedule_columns(STEADY, metrics)["overloaded"] is overloaded


@pytest.mark.parametrize("poisson", [False, True])
@pytest.mark.parametrize("rate", [10.0, 30.0, 50.0, 400.0])
def test_a_row_is_called_overloaded_where_its_measurement_is(rate: float, poisson: bool) -> None:
    """With few requests, the two that the ends of the time may cut are more than 2 %."""
    (rule,) = (rule for rule in RULES if rule.code == "OVERLOADED")
    schedule = Schedule(rate, poisson, inferences=1)
    due = round(3 * rate)
    found, rows = [], []
    for count in range(due // 2, due + 1):
        metrics = {"throughput_infer_per_s": count / 3, "request_count": count}
        columns = schedule_columns(schedule, metrics)
        found.append(columns.pop("overloaded"))
        rows.append(metrics | columns)
    asked = {"request_rate": rate, "request_distribution": "poisson" if poisson else "constant"}
    table = pa.Table.from_pylist([row | asked for row in rows])
    assert rule.is_broken(table).tolist() == found
    assert {True, False} <= set(found) or (poisson and rate < 50)
