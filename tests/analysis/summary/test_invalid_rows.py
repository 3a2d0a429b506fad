"""What is not valid gives no metric, and is never silently absent."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hpcbench.analysis.decide.recommend import recommend_configurations
from hpcbench.analysis.figures.captions import invalid_note
from hpcbench.analysis.figures.registry import FIGURES
from hpcbench.analysis.report.page import render_report
from hpcbench.analysis.report.page_data import report_points
from hpcbench.analysis.report.problems import find_problems
from hpcbench.analysis.report.sections import status_counts
from hpcbench.analysis.summary.invalid_rows import (
    INVALID,
    accept_rules,
    is_left_out,
    is_nothing_valid,
    without_invalid,
)
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.analysis.summary.points import summarise
from tests.helpers.measurements import failed, loaded, measured, repeats

MISLABELLED = {"latency_avg_us": 48_064.0, "concurrency": 4, "batch_size": 100}


def mislabelled(throughput: float = 83.0, **changes):
    return measured(throughput, **(MISLABELLED | changes))


def test_a_mislabelled_row_gives_no_figure_and_is_counted() -> None:
    sound = repeats([3200.0, 3210.0], latency_avg_us=10_000.0)
    wrong = measured(9999.0, repeat=2, latency_avg_us=10_000.0)
    (point,) = summarise(loaded([*sound, wrong])).to_dict("records")
    assert (point["repeats"], point["measured"], point["invalid"]) == (3, 2, 1)
    assert point["throughput_infer_per_s"] == pytest.approx(3205)
    assert (point["status"], point["lacking"]) == ("ok", INVALID)


def test_a_point_of_which_nothing_is_valid_stays_with_the_reason() -> None:
    (point,) = summarise(loaded([mislabelled()])).to_dict("records")
    assert (point["measured"], point["status"], point["lacking"]) == (0, INVALID, INVALID)
    assert point["reason"].startswith("not valid: LITTLE, throughput times latency is not the load")


def test_what_did_not_settle_or_has_few_requests_is_used() -> None:
    frame = loaded([measured(status="unstable"), measured(repeat=1, request_count=30)])
    assert frame["invalid_reasons"].tolist() == ["UNSETTLED", "FEW_REQUESTS"]
    assert not is_left_out(frame).any()
    assert without_invalid(frame) is frame


def test_rules_that_a_caller_handles_itself_leave_nothing_out() -> None:
    frame = loaded([mislabelled(), mislabelled(repeat=1)])
    assert is_left_out(frame).tolist() == [True, True]
    assert not is_left_out(frame, but=["LITTLE"]).any()


def test_a_frame_without_verdicts_is_taken_as_it_is() -> None:
    frame = loaded([mislabelled()]).drop(columns=["valid", "invalid_reasons"])
    assert without_invalid(frame) is frame


def test_a_point_that_failed_early_stands_on_the_device_that_an_invalid_row_knows() -> None:
    early = failed(batch_size=8, gpu_name=None, gpu_count=None, cpu_name=None, cpu_count=None)
    (advice,) = recommend_configurations(loaded([mislabelled(), early]), Requirements())
    assert (advice.configurations, advice.measured) == (2, 0)


def test_a_second_time_changes_nothing() -> None:
    once = without_invalid(loaded([mislabelled(), measured()]))
    assert without_invalid(once).equals(once)


def test_figures_say_how_many_are_left_out() -> None:
    rows = [
        measured(400.0 * batch, batch_size=batch, repeat=repeat, latency_avg_us=10_000.0)
        for batch in (1, 2, 4)
        for repeat in range(2)
    ]
    rows += [measured(9.0, batch_size=4, repeat=2, latency_avg_us=10_000.0), mislabelled()]
    points = summarise(loaded(rows))
    (_, data), *_ = FIGURES["throughput_latency_vs_batch"].prepare(points)
    assert invalid_note(data) == (
        "2 measurements are left out as not valid; hpcbench check says why."
    )
    assert invalid_note(data[data["x"] == 4]).startswith("1 measurement is left out")
    assert invalid_note(data[data["x"] < 4]) == ""


def test_the_map_of_statuses_has_points_that_are_not_valid() -> None:
    ((_, data),) = FIGURES["status_map"].prepare(summarise(loaded([measured(), mislabelled()])))
    assert data["state"].tolist() == ["ok", INVALID]
    labels = [text.get_text() for text in FIGURES["status_map"].draw(data).legends[0].get_texts()]
    assert "not valid (1)" in labels


def test_the_report_counts_them_and_says_why() -> None:
    frame = without_invalid(loaded([measured(), mislabelled()]))
    assert (INVALID, 1) in [(name, count) for name, count, _ in status_counts(frame)]
    (problem,) = find_problems(report_points(frame))
    assert (problem.status, problem.count) == (INVALID, 1)
    assert problem.reason.startswith("not valid: LITTLE")


def test_the_fastest_is_not_recommended_if_it_is_not_valid() -> None:
    wrong = repeats([9000.0, 9010.0, 9020.0], concurrency=16, latency_avg_us=10_000.0)
    sound = repeats([3200.0, 3210.0, 3205.0], latency_avg_us=10_000.0)
    (advice,) = recommend_configurations(loaded([*wrong, *sound]), Requirements())
    assert advice.best is not None
    assert advice.best["concurrency"] == 4


def disturbed(batch=1, **changes):
    """Others took half of the CPU time that server and client waited for."""
    cpu = {"server_cpu_s": 5.0, "client_cpu_s": 3.0, "cpu_sampled_s": 8.0, "other_cpu_s": 9.0}
    waits = {"server_cpu_wait_s": 6.0, "client_cpu_wait_s": 2.0}
    load = {"batch_size": batch, "latency_avg_us": 10_000.0}
    return measured(400.0 * batch, **load, **cpu, **waits, **changes)


def test_rules_that_are_accepted_leave_nothing_out_and_what_they_let_in_is_counted() -> None:
    frame = loaded([disturbed(), disturbed(repeat=1), mislabelled(repeat=7)])
    accepting = accept_rules(frame, ["DISTURBED"])
    assert frame["invalid_reasons"].tolist() == ["DISTURBED", "DISTURBED", "LITTLE"]
    assert is_left_out(accepting).tolist() == [False, False, True]
    words = "2 measurements are used that are not valid, as asked for by --accept"
    (advice,) = recommend_configurations(accepting, Requirements())
    assert advice.measured == 1
    assert any(note.startswith(words) for note in advice.notes)
    assert words in invalid_note(summarise(accepting))
    assert words in render_report(accepting, source="", made_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_a_row_that_breaks_another_rule_too_stays_out() -> None:
    frame = loaded([disturbed(failure_count=3)])
    assert frame["invalid_reasons"].tolist() == ["FAILURES, DISTURBED"]
    accepting = accept_rules(frame, ["DISTURBED"])
    assert is_left_out(accepting).all()
    assert not accepting["accepted"].any()
    assert not is_left_out(accept_rules(frame, ["DISTURBED", "FAILURES"])).any()


def test_where_nothing_is_valid_the_recommendation_says_why_and_what_to_do() -> None:
    frame = loaded([disturbed(), disturbed(2, failure_count=3)])
    (advice,) = recommend_configurations(frame, Requirements())
    text = "\n".join(advice.failing)
    assert "none of its 2 configurations has a valid measurement; not valid: 2 of 2" in text
    assert "DISTURBED: other processes took the CPUs" in text
    assert "hpcbench run with --new-session" in text
    assert "or use them as they are: --accept FAILURES --accept DISTURBED" in text


def test_nothing_is_valid_only_where_something_was_measured() -> None:
    assert is_nothing_valid(loaded([mislabelled(), failed()]))
    assert not is_nothing_valid(loaded([mislabelled(), measured()]))
    assert not is_nothing_valid(loaded([failed()]))
