"""The verdict on a perf_analyzer that was ended, from what it had shown, and a likely cause."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hpcbench.config.load_axes import LoadVariant
from hpcbench.measure import perf_analyzer, stop_rule
from hpcbench.measure.load_outcome import Heard, outcome, with_hint
from hpcbench.measure.open_loop import Schedule
from hpcbench.measure.perf_output import Outcome
from hpcbench.measure.report_stream import Pass, Report
from hpcbench.records.columns import Status
from tests.helpers.builders import point, triton_model, variant

LOAD = LoadVariant(measurement_interval_ms=1000)
SCHEDULE = Schedule(rate=100.0, poisson=False, inferences=1)


def reports(*latencies: float, text: str = "", rate: float = 100.0) -> tuple[Report, ...]:
    """Reports of a third of a second each, by their mean latency in microseconds."""
    return tuple(
        Report(
            n / 3,
            (n + 1) / 3,
            text,
            {"throughput_infer_per_s": rate, "request_count": 33, "latency_avg_us": us},
        )
        for n, us in enumerate(latencies)
    )


def verdict(found: tuple[Report, ...], **changes: Any) -> stop_rule.StopDecision:
    asked: dict[str, Any] = {"per_window": 3, "stability_percentage": 10, "max_trials": 10}
    return stop_rule.by_windows([r.observation for r in found], **(asked | changes))


def heard(found: tuple[Report, ...], **changes: Any) -> Heard:
    seen: dict[str, Any] = {
        "load": LOAD,
        "plan": perf_analyzer.first_plan(LOAD),
        "schedule": None,
        "passes": (Pass(100.0, 0.1, 0.1),),
        "loaded": (0.0, 9.0),
        "reports": found,
        "verdict": verdict(found) if found else None,
        "late": False,
        "unanswered": False,
        "exit_code": None,
        "stdout": "",
        "stderr": "",
    }
    return Heard(**(seen | changes))


def outcome_of(of: Heard, **changes: Any) -> Outcome:
    around: dict[str, Any] = {"overlap": 1.0, "ended": [], "limit_s": 60.0}
    return outcome(of, **(around | changes))


EVEN = reports(*[100.0] * 9)


def test_windows_that_agree_are_ok_and_say_which_count() -> None:
    found = outcome_of(heard(EVEN))
    assert (found.status, found.reason) == (Status.OK, None)
    assert found.metrics["windows_throughput_infer_per_s"] == pytest.approx([100.0] * 3)
    assert found.metrics["windows_latency_us"] == pytest.approx([100.0] * 3)
    assert found.metrics["windows_counted"] == 3
    assert found.metrics["request_count"] == 9 * 33
    assert found.metrics["warm_up_s"] == 0


def test_latency_that_grows_is_unstable() -> None:
    growing = reports(*[110_000.0 * (1 + n // 3) for n in range(12)])
    found = outcome_of(heard(growing, verdict=verdict(growing, max_trials=4)))
    assert found.status == Status.UNSTABLE
    assert "in latency by" in (found.reason or "")
    assert len(found.metrics["windows_latency_us"]) == 4


def test_what_perf_analyzer_says_against_itself_is_unstable() -> None:
    words = "[WARNING] Perf Analyzer is not able to keep up with the desired load.\n"
    found = outcome_of(heard(reports(*[100.0] * 9, text=words)))
    assert found.status == Status.UNSTABLE
    assert "the client is the limit" in (found.reason or "")


def test_what_perf_analyzer_writes_to_its_standard_error_is_read_too() -> None:
    words = "[WARNING] Perf Analyzer is not able to keep up with the desired load.\n"
    found = outcome_of(heard(EVEN, stderr=words))
    assert found.status == Status.UNSTABLE
    assert "the client is the limit" in (found.reason or "")


def test_an_open_loop_below_its_rate_is_overloaded_though_it_settled() -> None:
    slow = reports(*[100.0] * 9, rate=90.0)
    found = outcome_of(heard(slow, schedule=SCHEDULE))
    assert found.status == Status.UNSTABLE
    assert (found.reason or "").startswith("overloaded: 100 requests per second were asked for")
    assert found.metrics["send_request_rate"] == pytest.approx(90)


@pytest.mark.parametrize(("late", "overloaded"), [(1, False), (6, True)])
def test_a_report_that_prints_no_delays_counts_with_none(late: int, overloaded: bool) -> None:
    """One of 60 reports with a hiccup of the machine is no overload; a tenth of them is."""
    said = {"send_request_rate": 94.0, "delayed_requests_percent": 12.0}
    found = tuple(
        replace(report, metrics=report.metrics | (said if n < late else {}))
        for n, report in enumerate(reports(*[100.0] * 60))
    )
    precise = stop_rule.StopDecision(True, True, 0, 60, 0)
    of = outcome_of(heard(found, schedule=SCHEDULE, verdict=precise))
    assert of.metrics["delayed_requests_percent"] == pytest.approx(12 * late / 60)
    assert of.metrics["send_request_rate"] == pytest.approx(100 - 6 * late / 60)
    assert of.metrics["overloaded"] is overloaded
    assert of.status == (Status.UNSTABLE if overloaded else Status.OK)


def test_an_open_loop_that_printed_no_report_leaves_its_rate_to_the_server() -> None:
    found = outcome_of(heard((), schedule=SCHEDULE, late=True), overlap=None)
    assert found.status == Status.UNSTABLE
    assert found.metrics == {"overloaded": True}
    assert heard((), late=True).span == (0.0, 9.0)


def test_a_load_without_the_others_beside_it_is_unstable() -> None:
    found = outcome_of(heard(EVEN), overlap=0.4, ended=["other"])
    assert found.status == Status.UNSTABLE
    assert (
        found.reason == "the other models loaded the server for only 40% of this time: other ended"
    )


def test_a_perf_analyzer_that_ended_by_itself_has_failed() -> None:
    found = outcome_of(heard(EVEN, exit_code=137))
    assert (found.status, found.reason) == (Status.FAILED, "perf_analyzer was ended by signal 9")


def test_one_that_got_no_answer_says_what_to_do() -> None:
    found = outcome_of(heard((), unanswered=True), overlap=None)
    assert found.status == Status.FAILED
    assert "give measurement.measurement_interval_ms more time" in (found.reason or "")


def test_one_that_was_not_done_in_time_is_a_timeout_with_what_it_had() -> None:
    found = outcome_of(heard(EVEN[:6]))
    assert found.status == Status.TIMEOUT
    assert "killed after 60 s" in (found.reason or "")
    assert found.metrics["request_count"] == 6 * 33
    assert outcome_of(heard(()), overlap=None).status == Status.TIMEOUT


NOT_READY = (
    "Failed to process the request(s) for model 'bls_0', message: TritonModelException: Model add "
    "- Error when running inference: Failed for execute the inference request. Model 'add' is not "
    "ready."
)
"""What perf_analyzer printed of a model in Python that calls another one."""


def test_a_model_that_is_called_and_not_there_is_named_with_the_key_that_loads_it() -> None:
    bls = triton_model("bls")
    outcome = with_hint(Outcome(Status.FAILED, NOT_READY), point(of=variant(bls)))
    assert (outcome.reason or "").endswith(
        "Model 'add' is not ready; the model calls 'add', which this server does not hold; add it "
        "to the model in the campaign, as in {name: bls, needs: [add]}"
    )
    more = point(of=variant(replace(bls, needs=("sub",))))
    assert "needs: [sub, add]" in (with_hint(Outcome(Status.FAILED, NOT_READY), more).reason or "")


def test_random_strings_are_named_where_a_model_with_strings_fails() -> None:
    config = 'input { name: "x" data_type: TYPE_STRING dims: 1 }'
    words = point(of=variant(triton_model(inputs={}, config=config)))
    words = replace(words, variant=variant(replace(words.variant.model, inputs=(("x", (1,)),))))
    failed = Outcome(Status.FAILED, "not a number")
    assert "string_data" in (with_hint(failed, words).reason or "")
    given = replace(words, load=replace(words.load, string_data="7"))
    assert with_hint(failed, given) == failed


def test_a_load_without_any_response_names_what_may_be_the_cause() -> None:
    closed = with_hint(outcome_of(heard(()), overlap=None), point())
    assert closed.status == Status.TIMEOUT
    reason = closed.reason or ""
    assert reason.startswith("perf_analyzer was killed after 60 s")
    assert "reported no response; the model may wait for something" in reason
    # Where some were answered, it was only too slow.
    slow = outcome_of(heard(EVEN[:6]))
    assert with_hint(slow, point()) == slow


def test_what_was_measured_or_fails_for_its_own_reason_gets_no_hint() -> None:
    for given in (
        Outcome(Status.OK, None, {"throughput_infer_per_s": 1.0}),
        Outcome(Status.FAILED, "the model says no"),
    ):
        assert with_hint(given, point()) == given
