"""What an endless perf_analyzer has printed: which of its rounds counts, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbench.config.load_axes import LoadVariant
from hpcbench.measure import concurrent, perf_output
from hpcbench.measure.concurrent import Line
from tests.helpers.builders import PRINTED

REPORT = """  Client:
    Request count: 271
    Throughput: 996.235 infer/sec
    p50 latency: 15629 usec
"""


def printed(*rates: tuple[float, ...], start: float = 0.0) -> list[Line]:
    """Rounds of windows of a second each; every line is seen a tenth of a second late."""
    lines = []
    at = start
    for windows in rates:
        lines.append(Line("Request concurrency: 4\n", at, at + 0.1))
        for number, rate in enumerate(windows, start=1):
            at += 1
            text = f"  Pass [{number}] throughput: {rate} infer/sec. p95 latency: 500 usec\n"
            lines.append(Line(text, at, at + 0.1))
        lines += [Line(line, at, at + 0.1) for line in REPORT.splitlines(keepends=True)]
    return lines


EVEN = (100.0, 100.0, 100.0)
ODD = (100.0, 100.0, 150.0)


def test_a_round_is_over_when_the_next_begins() -> None:
    found = concurrent.measurement_cycles(printed(EVEN, ODD, EVEN))
    assert [(each.begin, each.end) for each in found] == [(0, 3.1), (3, 6.1)]
    assert found[0].metrics(None)["latency_p50_us"] == 15629
    assert concurrent.measurement_cycles(printed(EVEN)) == []


def test_the_spread_is_what_perf_analyzer_compares() -> None:
    even, odd = concurrent.measurement_cycles(printed(EVEN, ODD, EVEN))
    assert even.spread == 0
    assert odd.spread == pytest.approx(0.5)
    (dead,) = concurrent.measurement_cycles(printed((0.0, 100.0, 100.0), EVEN))
    assert dead.spread == float("inf")


def test_of_more_windows_the_last_three_count() -> None:
    (long,) = concurrent.measurement_cycles(printed((7.0, 100.0, 100.0, 100.0), EVEN))
    assert (long.begin, long.end) == (1, 4.1)
    assert long.spread == 0


def test_the_first_round_that_settled_is_chosen_of_those_with_the_load_beside_it() -> None:
    found = concurrent.measurement_cycles(printed(EVEN, ODD, EVEN, EVEN, EVEN))
    load = LoadVariant(stability_percentage=10, max_trials=10)
    assert concurrent.select_cycle(found, load, since=0) == found[0]
    assert concurrent.select_cycle(found, load, since=0.5) == found[2]
    assert concurrent.select_cycle(found[:2], load, since=0.5) is None


def test_what_never_settles_is_given_up_after_as_many_windows_as_alone() -> None:
    found = concurrent.measurement_cycles(printed(*[ODD] * 9))
    load = LoadVariant(stability_percentage=10, max_trials=10)
    assert concurrent.select_cycle(found, load, since=0) == found[3]
    assert not concurrent.is_stable(found[3], load)


def test_the_overlap_is_what_windows_have_shown_of_all_others() -> None:
    (one, two, *_) = concurrent.measurement_cycles(printed(EVEN, EVEN, EVEN))
    span = concurrent.load_span(printed(EVEN, EVEN, EVEN, start=0.5))
    assert span == (1.6, 9.5)
    assert concurrent.load_overlap(two, {"other": span}) == 1
    assert concurrent.load_overlap(one, {"other": span}) == pytest.approx(1.5 / 3.1)
    gone = concurrent.load_span(printed(EVEN, (100.0,)))
    assert concurrent.load_overlap(two, {"other": span, "gone": gone}) == pytest.approx(1 / 3.1)
    assert concurrent.load_overlap(two, {"other": span, "silent": None}) == 0
    assert concurrent.load_span([]) is None


@pytest.mark.parametrize("case", ["grpc_async", "grpc_async_p95", "http", "rate"])
def test_a_report_says_what_the_csv_says_to_the_microsecond(case: str) -> None:
    folder: Path = PRINTED / case
    percentile = 95 if case.endswith("p95") else None
    text = (folder / "stdout.txt").read_text()
    (cells,) = perf_output.csv_rows((folder / "result.csv").read_text())
    expected = perf_output.csv_metrics(cells, percentile)
    found = perf_output.parse_report(text, percentile)
    assert expected.keys() <= found.keys()
    for name, value in expected.items():
        # The printed parts of a request are cut to whole microseconds, each of them.
        slack = 10 if name == "network_us" else 1
        assert found[name] == pytest.approx(value, abs=slack), name
