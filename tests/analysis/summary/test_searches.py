"""What tables, figures and decisions make of searches for a capacity, and of their steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hpcbench.analysis.decide.changes import Verdict
from hpcbench.analysis.decide.check import check_results
from hpcbench.analysis.decide.compare import compare_results
from hpcbench.analysis.decide.recommend import Recommendation, recommend_configurations
from hpcbench.analysis.figures.registry import FIGURES
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.analysis.summary.points import summarise
from hpcbench.cli.main import main
from hpcbench.records.columns import Record, Status
from tests.helpers.measurements import loaded, measured, repeats, write

LIMIT_MS = 20.0


def searched(capacity: float, repeat: int = 0, **changes: Any) -> list[Record]:
    """A search with three steps, one of which was too much for the server."""
    batch = changes.get("batch_size", 8)
    rate = capacity / batch
    asked: dict[str, Any] = {
        "concurrency": None,
        "request_distribution": "poisson",
        "capacity_max_latency_p99_ms": LIMIT_MS,
        "capacity_within": 0.05,
        "repeat": repeat,
    } | changes
    point = f"search{asked['capacity_max_latency_p99_ms']:g}{changes}"
    steps: list[dict[str, Any]] = [
        {"request_rate": rate, "send_request_rate": rate},
        {
            "request_rate": 3 * rate,
            "send_request_rate": 1.5 * rate,
            "overloaded": True,
            "status": Status.UNSTABLE,
        },
        {"request_rate": 1.04 * rate, "send_request_rate": 1.04 * rate, "latency_p99_us": 21_000.0},
    ]
    rows = [
        measured(
            batch * step["send_request_rate"],
            17.0,
            **asked | {"part_of": point, "capacity_step": number} | step,
            point_id=f"{point}/{number}",
        )
        for number, step in enumerate(steps)
    ]
    # What comes back varies with the arrivals.
    its = {"send_request_rate": 1.01 * rate, "capacity_infer_per_s": capacity}
    end = measured(1.01 * capacity, 19.7 - 0.1 * repeat, **asked | its, point_id=point)
    return [*rows, end]


CLOSED = [
    record
    for concurrency in (4, 16)
    for record in repeats([1600, 1604, 1598], 2.0 * concurrency, concurrency=concurrency)
]


def advice(*records: Record, **wanted: Any) -> Recommendation:
    (found,) = recommend_configurations(loaded(records), Requirements(rate=10_000, **wanted))
    return found


def test_a_search_sizes_servers_with_the_rate_that_it_found() -> None:
    three = [row for repeat in range(3) for row in searched(1200 + repeat, repeat)]
    sizing = advice(*CLOSED, *three, max_latency_p99_ms=LIMIT_MS).sizing
    assert sizing is not None
    # The lower end of the interval, and of the rate, not of what came back. Its p99 is so near the
    # limit that its interval is not below.
    assert sizing.measured_rate
    assert sizing.capacity == pytest.approx(1201, rel=0.01)
    assert sizing.share is None
    # One repeat will do, and a limit above its own, and none.
    for limit in (LIMIT_MS, 30.0, None):
        sizing = advice(*CLOSED, *searched(1200), max_latency_p99_ms=limit).sizing
        assert sizing is not None
        assert (sizing.measured_rate, sizing.capacity) == (True, pytest.approx(1200, rel=0.05))


def test_a_search_for_a_higher_limit_says_nothing_of_a_lower_one() -> None:
    sizing = advice(*CLOSED, *searched(1200), max_latency_p99_ms=LIMIT_MS - 1).sizing
    assert sizing is not None
    assert not sizing.measured_rate


def test_a_search_without_an_answer_sizes_nothing() -> None:
    *steps, end = searched(1200)
    without = replace(
        end, capacity_infer_per_s=None, status=Status.UNSTABLE, latency_p99_us=21_000.0
    )
    sizing = advice(*CLOSED, *steps, without, max_latency_p99_ms=LIMIT_MS).sizing
    assert sizing is not None
    assert not sizing.measured_rate


def test_a_search_is_one_measurement_of_one_configuration() -> None:
    frame = loaded([*CLOSED, *searched(1200), *searched(1230, 1)])
    points = summarise(frame)
    assert len(points) == 3
    (search,) = points[points["concurrency"].isna()].to_dict("records")
    assert (search["measured"], search["status"]) == (2, Status.OK)
    # A search has steps that are too much for the server: nothing is wrong with that.
    found = check_results(frame)
    assert (found.invalid, found.valid) == (0, 8)


def test_the_steps_of_each_search_stand_with_its_point_in_the_order_of_time() -> None:
    points = summarise(loaded([*CLOSED, *searched(1230, 1), *searched(1200)]))
    (steps,) = points["search_steps"].dropna()
    assert [(step.repeat, step.number, step.answer) for step in steps] == [
        (repeat, number, number == 3) for repeat in (0, 1) for number in range(4)
    ]
    first = [(step.rate_infer_per_s, step.p99_ms, step.overloaded) for step in steps[:4]]
    assert first == [
        (pytest.approx(1200), 17.0, False),
        (pytest.approx(3600), 17.0, True),
        (pytest.approx(1248), 21.0, False),
        (pytest.approx(1200), pytest.approx(19.7), False),
    ]
    *_, last = steps
    assert last.rate_infer_per_s == pytest.approx(1230)


def test_searches_without_their_steps_have_an_answer_and_closed_loops_have_nothing() -> None:
    *_, end = searched(1200)
    points = summarise(loaded([*CLOSED, end]))
    ((step,),) = points["search_steps"].dropna()
    assert (step.number, step.answer) == (0, True)
    assert summarise(loaded(CLOSED))["search_steps"].isna().all()


def test_a_capacity_that_is_lost_is_worse_and_the_latency_at_it_is_no_metric() -> None:
    a, b = (
        loaded(
            [
                *CLOSED,
                *(
                    row
                    for repeat in range(3)
                    for row in searched(capacity * (1 + repeat / 100), repeat)
                ),
            ]
        )
        for capacity in (1200, 900)
    )
    b.loc[b["capacity_infer_per_s"].notna(), "latency_p99_us"] = 12_000.0
    found = compare_results(a, b, 0.05)
    assert len(found.a_table) == 3
    verdicts = {
        found.rows["metric"][place]: found.rows["verdict"][place]
        for place, row in enumerate(found.rows["a"])
        if found.a_table["concurrency"].isna()[row]
    }
    assert verdicts == {"throughput_infer_per_s": Verdict.WORSE}


def test_searches_are_drawn_and_reported_and_recommended(tmp_path: Path) -> None:
    variants = [
        row
        for count in (1, 2)
        for batch in (8, 16)
        for repeat in range(2)
        for row in searched(
            600.0 * count * batch,
            repeat,
            batch_size=batch,
            variant=f'{{"instance_count": {count}}}',
        )
    ]
    for name, records in (("searches", variants), ("both", [*CLOSED, *variants])):
        results = write(tmp_path / name, records)
        out = tmp_path / f"{name}-out"
        # How searches are drawn in every other figure, the tests of the figures ask.
        drawn = ["--figure", "capacity_search", "--figure", "throughput_latency_vs_batch"]
        report = ["report", results, "--out", out.with_suffix(".html")]
        for command in (
            *([report] if name == "both" else []),
            ["plot", results, "--out", out, *drawn],
            ["recommend", results, "--rate", "10000", "--max-latency-p99-ms", "20"],
            ["check", results],
            ["compare", results, results],
        ):
            done = CliRunner().invoke(main, [str(word) for word in command])
            assert done.exit_code == 0, (command, done.output)
            if command[0] == "plot":
                assert (out / "capacity_search.png").is_file()
            if command[0] == "report":
                page = out.with_suffix(".html").read_text(encoding="utf-8")
                assert FIGURES["capacity_search"].description in page
            if command[0] == "compare":
                assert "p99 limit 20 ms" in " ".join(done.output.split())
            if command[0] == "recommend":
                assert "measured, with requests that came at random" in done.output
