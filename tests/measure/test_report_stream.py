"""What an endless perf_analyzer has printed: its passes and reports, and when they were made."""

from __future__ import annotations

import pytest

from hpcbench.measure import load_run
from hpcbench.measure.report_stream import Line, ReportStream
from tests.helpers.builders import PRINTED

REPORT = """  Client:
    Request count: 271
    Throughput: 996.235 infer/sec
    Avg latency: 980 usec (standard deviation 20 usec)
    p50 latency: 15629 usec
"""
LOST = (
    "  Pass [{}] cb::Error: No valid requests recorded within time interval. Please use a larger "
    "time window.\n"
)


def printed(*rates: tuple[float | None, ...]) -> list[Line]:
    """Reports on passes of a second each; every line is seen a tenth of a second late."""
    lines = []
    at = 0.0
    for passes in rates:
        lines.append(Line("Request concurrency: 4\n", at, at + 0.1))
        for number, rate in enumerate(passes, start=1):
            at += 1
            text = f"  Pass [{number}] throughput: {rate} infer/sec. p95 latency: 500 usec\n"
            lines.append(Line(text if rate else LOST.format(number), at, at + 0.1))
        lines += [Line(line, at, at + 0.1) for line in REPORT.splitlines(keepends=True)]
    return lines


def read(*rates: tuple[float | None, ...]) -> ReportStream:
    stream = ReportStream(None)
    for line in printed(*rates):
        stream.add([line])
    return stream


EVEN = (100.0, 100.0, 100.0)


def test_a_report_is_over_when_the_next_begins() -> None:
    found = read(EVEN, EVEN, EVEN).reports
    assert [(each.begin, each.end) for each in found] == [(0, 3.1), (3, 6.1)]
    assert found[0].metrics["latency_p50_us"] == 15629
    assert read(EVEN).reports == []


def test_a_report_of_a_perf_analyzer_that_ends_with_it_is_over_at_its_end() -> None:
    text = (PRINTED / "intervals" / "stdout.txt").read_text()
    stream = ReportStream(None)
    for at, line in enumerate(text.splitlines(keepends=True)):
        stream.add([Line(line, at, at + 1)])
    assert [each.metrics["latency_p99_us"] for each in stream.reports] == [11706, 4512]
    assert [each.observation.requests for each in stream.reports] == [296, 296]
    assert stream.begun == 1
    # From the settings of the second one on, not from the end of the first.
    assert stream.reports[1].begin == text.splitlines().index("*** Measurement Settings ***", 1)


def test_a_stop_rule_gets_what_it_needs() -> None:
    (found,) = read(EVEN, EVEN).reports
    assert found.observation.throughput == 996.235
    assert found.observation.latency == 980
    assert found.observation.requests == 271


def test_of_more_passes_the_last_three_count() -> None:
    (found,) = read((None, 100.0, 100.0, 100.0), EVEN).reports
    assert (found.begin, found.end) == (1, 4.1)


def test_passes_without_an_answer_are_counted() -> None:
    assert read((100.0, None, None)).lost_passes == 2
    assert read((None, None, 100.0)).lost_passes == 0


def test_requests_longer_than_a_pass_are_neither_a_slow_start_nor_a_hiccup() -> None:
    assert read((100.0, None)).has_gaps
    assert not read((None, None, 100.0)).has_gaps
    assert not read(EVEN, (100.0, None)).has_gaps


def test_the_overlap_is_what_passes_have_shown_of_all_others() -> None:
    span = read(EVEN, EVEN, EVEN).load_span
    assert span == (1.1, 9)
    assert load_run.load_overlap((3.0, 6.1), {"other": span}) == 1
    assert load_run.load_overlap((0.0, 3.1), {"other": span}) == pytest.approx(2 / 3.1)
    gone = read(EVEN, (100.0,)).load_span
    assert load_run.load_overlap((3.0, 6.1), {"other": span, "gone": gone}) == pytest.approx(
        1 / 3.1
    )
    assert load_run.load_overlap((3.0, 6.1), {"other": span, "silent": None}) == 0
    assert read().load_span is None
