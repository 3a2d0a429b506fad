"""The time left beside the bar begins with the plan, and comes to what points really take."""

from __future__ import annotations

import pytest

from hpcbench.cli.time_left import TimeLeft, time_left_s

PLANNED = {"estimate_s": 1000.0, "points": 100}


def left(done: int, took_s: float, since_s: float = 0.0) -> float:
    return time_left_s(**PLANNED, done=done, took_s=took_s, since_s=since_s)


def test_before_the_first_point_it_is_what_the_plan_says() -> None:
    assert left(0, 0.0) == 1000


def test_a_plan_that_is_right_is_followed() -> None:
    assert left(51, 500.0) == pytest.approx(490)


def test_points_that_take_twice_as_long_correct_the_plan_the_more_of_them_there_are() -> None:
    """Which did not settle, or have fewer workers than the plan counted on."""
    right = [(100 - done) * 20.0 for done in (2, 11, 51, 91)]
    found = [left(done, (done - 1) * 20.0) for done in (2, 11, 51, 91)]
    errors = [1 - said / true for said, true in zip(found, right, strict=True)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.5
    assert errors[-1] < 0.06


def test_it_falls_from_second_to_second() -> None:
    assert left(51, 500.0, since_s=7.0) == pytest.approx(483)


def test_it_is_never_nothing_while_a_point_is_missing() -> None:
    assert left(99, 980.0, since_s=600.0) == pytest.approx(10)
    assert left(100, 990.0) == 0


def test_a_plan_without_time_does_not_divide_by_nothing() -> None:
    assert time_left_s(0.0, 10, 5, 8.0, 0.0) >= 0


def test_the_column_counts_from_the_first_point_on_whatever_a_queue_took() -> None:
    clock = iter([5000.0, 5010.0, 5020.0, 5025.0, *[5090.0] * 8]).__next__
    column = TimeLeft(clock)
    column.start(100.0, 10)
    assert column.render(None).plain == "0:01:40 left"  # type: ignore[arg-type]
    for _ in range(3):
        column.advance()
    assert column.render(None).plain == "0:01:05 left"  # type: ignore[arg-type]
    for _ in range(7):
        column.advance()
    assert column.render(None).plain == ""  # type: ignore[arg-type]
