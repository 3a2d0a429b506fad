"""perf_analyzer's command line. The usage text in tests/data is real."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpcbench.config.load_axes import LoadVariant
from hpcbench.measure import measure, perf_analyzer
from hpcbench.measure.node import CpuSets
from hpcbench.measure.perf_analyzer import (
    PassPlan,
    better_plan,
    known_flags,
    timeout_s,
    unknown_flags,
)
from hpcbench.measure.stop_rule import Observation
from hpcbench.runtime.command import NodeAccess
from hpcbench.runtime.process import Command
from tests.helpers.builders import PRINTED, point, triton_model, variant


def printed(case: str, name: str) -> str:
    return (PRINTED / case / name).read_text()


REPLAYED = {
    "concurrency": None,
    "request_rate": 5.0,
    "request_distribution": "intervals",
    "request_intervals": "/data/a.txt",
    "request_intervals_s": 4.0,
}
"""An open loop with the times of a file."""


def words(**settings: Any) -> list[str]:
    chosen = settings.pop("point", None) or point(**{"batch_size": 8, "concurrency": 4} | settings)
    plan = perf_analyzer.first_plan(chosen.load)
    return perf_analyzer.arguments(chosen, url="127.0.0.1:8001", plan=plan)


def test_the_batch_of_a_model_without_a_batch_dimension_stands_in_its_shape() -> None:
    flat = triton_model(max_batch_size=0, inputs={"x": (-1, 16), "fixed": (3,)})
    chosen = point(of=variant(flat), shapes=(("fixed", (3,)), ("x", (16,))), batch_size=8)
    text = " ".join(words(point=chosen))
    assert " -b 1 " in text
    assert " --shape fixed:3 --shape x:8,16 " in text


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ({"streaming": True}, "--streaming"),
        ({"compression": "gzip"}, "--grpc-compression-algorithm gzip"),
        ({"shared_memory": "system"}, "--shared-memory system"),
        ({"output_shared_memory_bytes": 5}, "--output-shared-memory-size 5"),
        ({"max_threads": 2}, "--max-threads 2"),
        ({"string_length": 9}, "--string-length 9"),
        ({"string_data": "-x y"}, "--string-data=-x y"),
        (
            {"measurement_mode": "count_windows", "measurement_request_count": 70},
            "--measurement-mode count_windows --measurement-request-count 24",
        ),
        (
            {"concurrency": None, "request_rate": 12.5, "request_distribution": "poisson"},
            "--request-rate-range 12.5:12.5:0 --request-distribution poisson",
        ),
        (REPLAYED, "--request-intervals intervals.txt"),
        (REPLAYED, "--max-threads 4"),
        (REPLAYED | {"max_threads": 9}, "--max-threads 9"),
    ],
)
def test_each_setting_has_its_flag_and_no_other_line_has_it(
    settings: dict[str, Any], flags: str
) -> None:
    assert flags in " ".join(words(**settings))
    assert flags.split("=", maxsplit=1)[0].split(maxsplit=1)[0] not in " ".join(words())


def test_a_window_of_so_many_requests_has_more_time() -> None:
    counted = LoadVariant(measurement_mode="count_windows", measurement_request_count=50)
    assert timeout_s(counted) == 60 + 10 * 10 * 5
    text = " ".join(words(measurement_mode="count_windows", measurement_request_count=50))
    assert "--measurement-interval" not in text


def test_the_command_line_of_a_point() -> None:
    chosen = point(
        of=variant(triton_model("pnet"), version=2),
        batch_size=8,
        concurrency=4,
        shapes=(("pf", (2, 50)), ("sv", (11, 4))),
        percentile=95,
        measurement_interval_ms=9000,
    )
    text = " ".join(words(point=chosen))
    assert text == (
        "-m pnet -u 127.0.0.1:8001 -i grpc --async -b 8 --concurrency-range 4:4:0 "
        "--measurement-interval 833 --stability-percentage 999 --max-trials 1000 "
        "--input-data random -x 2 --percentile=95 --shape pf:2,50 --shape sv:11,4 "
        "-v --verbose-csv -f result.csv"
    )


def test_only_what_was_asked_for_stands_in_the_command_line() -> None:
    text = " ".join(words(protocol="http", asynchronous=False, input_data="zero"))
    assert "-i http --sync" in text
    assert "--input-data zero" in text
    for flag in ("--percentile", "--shape", "-x", "--async"):
        assert flag not in text


# How long its passes are


def plan_of(**asked: Any) -> PassPlan:
    return perf_analyzer.first_plan(LoadVariant(**asked))


def test_nine_passes_fill_a_window_of_a_closed_loop_and_three_one_of_an_open_loop() -> None:
    closed = plan_of(measurement_interval_ms=9000)
    assert closed.reports_per_window == 3
    assert closed.pass_s == pytest.approx(1, rel=0.001)
    opened = plan_of(measurement_interval_ms=9000, concurrency=None, request_rate=5.0)
    assert opened.reports_per_window == 1
    assert opened.pass_s == pytest.approx(3, rel=0.001)


def test_passes_without_an_answer_grow_up_to_the_window_that_was_asked_for() -> None:
    load = LoadVariant(measurement_interval_ms=9000)
    plan = perf_analyzer.first_plan(load)
    assert better_plan(load, plan, gaps=False, first=None) is None
    found = []
    while plan is not None:
        plan = better_plan(load, plan, gaps=True, first=None)
        found += [(round(plan.pass_s, 1), plan.reports_per_window)] if plan else []
    assert found == [(3.0, 1), (9.0, 1)]


def report_of(requests: int, latency_us: float = 1000.0) -> Observation:
    """A first report with so many requests in 0.1 s."""
    return Observation(10.0 * requests, latency_us, requests, 0.0, 0.1)


def test_reports_for_a_precision_get_two_hundred_requests_within_the_window() -> None:
    load = LoadVariant(stop_precision=0.02, stop_max_s=60.0)
    plan = perf_analyzer.first_plan(load)
    assert 3 * plan.pass_s == pytest.approx(0.1, rel=0.03)
    assert better_plan(load, plan, gaps=False, first=report_of(150)) is None
    longer = better_plan(load, plan, gaps=False, first=report_of(20))
    assert longer is not None
    assert 3 * longer.pass_s == pytest.approx(1, rel=0.03)
    longest = better_plan(load, plan, gaps=False, first=report_of(1))
    assert longest is not None
    assert 3 * longest.pass_s == pytest.approx(5, rel=0.01)
    assert better_plan(load, longest, gaps=False, first=report_of(50)) is None


def test_a_pass_for_a_precision_is_as_long_as_a_request() -> None:
    """Of a thousand requests in flight, many are answered in a time shorter than each takes."""
    load = LoadVariant(concurrency=1000, stop_precision=0.02, stop_max_s=60.0)
    first = report_of(300, latency_us=330_000.0)
    longer = better_plan(load, perf_analyzer.first_plan(load), gaps=False, first=first)
    assert longer is not None
    assert longer.pass_s == pytest.approx(0.33, rel=0.03)


def test_a_report_plays_a_file_as_a_whole() -> None:
    plan = plan_of(**REPLAYED, measurement_interval_ms=8000)
    assert (3 * plan.pass_s, plan.reports_per_window) == (pytest.approx(8, rel=0.001), 1)
    precise = LoadVariant(
        **REPLAYED, measurement_interval_ms=8000, stop_precision=0.02, stop_max_s=60.0
    )
    plan = perf_analyzer.first_plan(precise)
    assert 3 * plan.pass_s == pytest.approx(4, rel=0.001)
    longer = better_plan(precise, plan, gaps=False, first=Observation(40.0, 1000.0, 160, 0.0, 4.0))
    assert longer is None
    longer = better_plan(precise, plan, gaps=False, first=Observation(25.0, 1000.0, 100, 0.0, 4.0))
    assert longer is not None
    assert 3 * longer.pass_s == pytest.approx(8, rel=0.001)


def test_no_pass_is_shorter_than_perf_analyzer_can_measure() -> None:
    assert plan_of(measurement_interval_ms=1).interval_ms == 1


# What the installed version knows

USAGE = printed("unknown_flag", "stderr.txt")
EVERYTHING = words(
    point=point(of=variant(version=1), shapes=(("x", (5,)),), percentile=95),
)


def without(*flags: str) -> frozenset[str]:
    """The flags of a version whose usage text does not speak of some of them."""
    text = USAGE
    for flag in flags:
        text = re.sub(rf"{re.escape(flag)}(?![\w-])", "", text)
    return known_flags(text)


def test_the_installed_version_knows_every_flag_that_is_used() -> None:
    flags = known_flags(USAGE)
    assert unknown_flags(EVERYTHING, flags) == []
    assert unknown_flags(words(protocol="http", asynchronous=False), flags) == []


def test_flags_are_read_out_of_the_usage_text() -> None:
    flags = known_flags(USAGE)
    assert {"-m", "-b", "-v", "-f", "-x", "--async", "--verbose-csv", "--shape"} <= flags
    assert "--nosuch" not in flags
    assert not {flag for flag in flags if "_" in flag}


@pytest.mark.parametrize("flag", ["--verbose-csv", "--percentile", "--async", "-b", "--max-trials"])
def test_a_flag_that_is_needed_and_not_known_is_named(flag: str) -> None:
    assert unknown_flags(EVERYTHING, without(flag)) == [flag]


def test_a_flag_is_not_known_because_a_longer_one_is() -> None:
    flags = known_flags("--input-data-format <x>\n--async-mode\n pre--sync -max")
    assert not {"--input-data", "--async", "--sync", "-m"} & flags


def test_values_are_never_taken_for_flags() -> None:
    chosen = point(of=variant(triton_model("m-b")), shapes=(("--sync", (5,)),))
    assert unknown_flags(words(point=chosen), known_flags(USAGE)) == []


# How long it may take


def test_the_time_allowed_grows_with_windows_and_trials() -> None:
    assert timeout_s(LoadVariant()) == 60 + 4 * 10 * 5
    assert timeout_s(LoadVariant(measurement_interval_ms=9000)) == 60 + 4 * 10 * 9
    assert timeout_s(LoadVariant(max_trials=20)) == 60 + 4 * 20 * 5


def test_a_time_given_in_the_campaign_counts() -> None:
    assert timeout_s(LoadVariant(timeout_s=7.5)) == 7.5


def test_windows_that_had_to_grow_have_the_time_that_they_take() -> None:
    for interval_ms in (1, 300, 9000, 60_000):
        asked = LoadVariant(measurement_interval_ms=interval_ms)
        assert timeout_s(asked) > (3 * asked.max_trials + 1) * interval_ms / 1000


def test_perf_analyzer_has_the_gpus_where_it_puts_tensors_into_their_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def sdk_command(_: Any, words: list[str], access: NodeAccess, *, again: bool) -> Command:
        given.append(access.gpus)
        return Command(words)

    runtime = SimpleNamespace(sdk_command=sdk_command)
    monkeypatch.setattr(measure.container, "runtime_of", lambda _: runtime)
    port = SimpleNamespace(address="127.0.0.1:8001")
    server: Any = SimpleNamespace(grpc_port=port, shm="s", loopback=SimpleNamespace(namespaces=()))
    work: Any = SimpleNamespace(
        site=SimpleNamespace(container=None),
        tool=SimpleNamespace(flags=frozenset()),
        cpus=CpuSets(1),
    )
    for memory in ("none", "system", "cuda"):
        each = point(shared_memory=memory)
        measure._command(each, perf_analyzer.first_plan(each.load), server, work, tmp_path)
    assert given == [False, False, True]
