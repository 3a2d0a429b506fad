"""Times of arrival that a load sends again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcbench.errors import BadInput
from hpcbench.plan.arrivals import Intervals, intervals_between, named_intervals, read_intervals
from tests.helpers.builders import campaign


def parquet(folder: Path, **columns: Any) -> Path:
    path = folder / "arrivals.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def read(path: Path) -> Intervals:
    return read_intervals(path, "campaign: load.request_intervals")


def test_a_file_of_perf_analyzer_has_microseconds_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1000\n0\n2000\n\n")
    found = read(path)
    assert found.microseconds == (1000, 0, 2000)
    assert (found.seconds, found.rate) == (0.003, 1000)


def test_a_byte_order_mark_is_no_part_of_the_first_number(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1000\n002000\n", encoding="utf-8-sig")
    assert read(path).microseconds == (1000, 2000)


def test_a_parquet_file_has_one_column_of_times_in_any_order(tmp_path: Path) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    times = [start + timedelta(milliseconds=ms) for ms in (5, 0, 5, 105)]
    assert read(parquet(tmp_path, at=times)).microseconds == (5000, 0, 100_000)
    assert read(parquet(tmp_path, at=[7, 5, 8])).microseconds == (2_000_000, 1_000_000)
    assert read(parquet(tmp_path, at=[0.5, 0.75])).microseconds == (250_000,)


def test_the_same_arrivals_are_the_same_load_whatever_file_they_stand_in(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("250000\n250000\n500000")
    other = parquet(tmp_path, at=[1.0, 1.25, 1.5, 2.0])
    assert read(text).columns == read(other).columns
    text.write_text("250000\n250001\n500000")
    assert read(text).columns != read(other).columns


@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=50).filter(lambda v: len(set(v)) > 1))
def test_rounding_does_not_add_up(times: list[int]) -> None:
    found = intervals_between(times)
    assert sum(found.microseconds) == max(times) - min(times)
    assert found.rate * found.seconds == pytest.approx(len(times) - 1)


def test_a_window_ends_in_the_longest_gap() -> None:
    assert Intervals((10, 500, 20, 30)).text.split() == ["20", "30", "10", "500"]


def test_no_third_of_a_window_is_without_a_request() -> None:
    even = Intervals((100_000,) * 30)
    assert even.window_s == even.seconds == 3
    burst = Intervals((*[0] * 29, 3_000_000))
    assert burst.window_s == 12
    assert burst.window_s / 3 > 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no two different times"),
        ("0\n0\n", "has no two different times"),
        ("10\n1.5\n", "has '1.5' on line 2, which is no such number"),
        ("10\n-5\n", "has '-5' on line 2"),
        ("time\n10\n", "has 'time' on line 1"),
        (f"10\n{'9' * 400}\n", "has a number of 400 digits on line 2"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(BadInput) as refused:
        read(path)
    assert refused.value.message.startswith(f"campaign: load.request_intervals: {path} {reason}")
    assert "hpcbench make-input --arrivals" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"a": [1], "b": [2]}, "has 2 columns: a, b"),
        ({"a": ["1", "2"]}, "holds values of type string, neither timestamps nor seconds"),
        ({"a": [1.0, None]}, "lacks 1 of its 2 times"),
        ({"a": [1.0, float("inf")]}, "holds a time that is no number"),
        ({"a": [1.0]}, "has no two different times"),
    ],
)
def test_a_parquet_file_that_holds_something_else_is_refused(
    tmp_path: Path, columns: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadInput, match=reason):
        read(parquet(tmp_path, **columns))


def test_what_is_no_parquet_file_or_not_there_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "a.parquet"
    broken.write_text("no")
    for path in (broken, tmp_path / "missing.txt", tmp_path):
        with pytest.raises(BadInput, match=str(path)):
            read(path)


def test_every_part_of_a_campaign_may_name_a_file(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.txt" for number in range(4)]
    for number, path in enumerate(paths, start=1):
        path.write_text(f"{number}000")
    loads = [{"request_intervals": str(path)} for path in paths]
    study = campaign(
        models=[{"name": "a", "load": loads[1]}, {"name": "b"}],
        load=loads[0],
        variants={"x": loads[2]},
        together=[{"a": {"load": loads[3]}, "b": {}}],
    )
    found = named_intervals(study)
    assert {path: each.microseconds for path, each in found.items()} == {
        str(path): (number * 1000,) for number, path in enumerate(paths, start=1)
    }
