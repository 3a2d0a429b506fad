"""Rows dealt out over files come back: all of them, together where they belong together."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcbench.analysis import shuffle
from hpcbench.analysis.shuffle import Shuffle

ORDER = ("a", "b")
ROWS = st.lists(
    st.tuples(st.none() | st.integers(0, 3), st.none() | st.text(max_size=2)), min_size=1
)


def rows(pairs: list[tuple[int | None, str | None]]) -> pa.Table:
    return pa.table(
        [[a for a, _ in pairs], [b for _, b in pairs]],
        schema=pa.schema([("a", pa.int64()), ("b", pa.string())]),
    )


@pytest.mark.parametrize("kind", ["int64", "uint64"])
def test_rows_come_back_from_the_part_they_were_dealt_to_in_their_order(
    tmp_path: Path, kind: str
) -> None:
    table = rows([(number, str(number)) for number in range(100)])
    numbers = np.array([random.Random(1).randrange(5) for _ in range(100)], dtype=kind)
    with Shuffle(tmp_path / "parts", 7, table.schema) as parts:
        parts.add(table.slice(0, 60), numbers[:60])
        parts.add(table.slice(60), numbers[60:])
    for number in range(7):
        assert parts.read_part(number).equals(table.filter(pa.array(numbers == number)))


def test_a_slice_is_stored_without_what_it_was_cut_from(tmp_path: Path) -> None:
    table = rows([(1, "x" * 1000)] * 1000)
    with Shuffle(tmp_path / "parts", 1, table.schema) as parts:
        parts.add(table.slice(10, 1), np.array([0]))
    assert sum(path.stat().st_size for path in (tmp_path / "parts").iterdir()) < 5000


@given(pairs=ROWS, sampled=ROWS, parts=st.integers(1, 6))
def test_ranges_one_after_the_other_are_the_whole_in_order(
    pairs: list[tuple[int | None, str | None]],
    sampled: list[tuple[int | None, str | None]],
    parts: int,
) -> None:
    table = rows(pairs)
    cuts = shuffle.range_limits(rows(sampled), ORDER, parts)
    assert cuts.num_rows < parts
    numbers = shuffle.range_numbers(table, cuts, ORDER)
    pieces = [
        shuffle.sort_rows(table.filter(pa.array(numbers == number)), ORDER)
        for number in range(cuts.num_rows + 1)
    ]
    joined = pa.concat_tables(pieces)
    assert joined.to_pylist() == shuffle.sort_rows(table, ORDER).to_pylist()


def test_ranges_cut_by_a_sample_are_about_equal() -> None:
    table = rows([(n, "x") for n in random.Random(1).sample(range(10_000), 10_000)])
    cuts = shuffle.range_limits(table.slice(0, 500), ORDER, 8)
    counts = np.bincount(shuffle.range_numbers(table, cuts, ORDER))
    assert len(counts) == 8
    assert counts.max() < 2 * 10_000 / 8


def test_equal_texts_have_equal_hashes_and_others_spread() -> None:
    texts = pa.chunked_array([[f"{number:016x}" for number in range(1000)] * 2 + [None]])
    hashes = shuffle.hash_strings(texts)
    assert (hashes[:1000] == hashes[1000:2000]).all()
    assert np.bincount((hashes[:1000] % 4).astype(int)).min() > 150


@given(sizes=st.lists(st.integers(0, 50)))
def test_chunks_hold_the_same_rows_and_at_least_so_many(sizes: list[int]) -> None:
    tables = [rows([(size, str(n)) for n in range(size)]) for size in sizes]
    chunks = list(shuffle.regroup_rows(tables, 40))
    assert [row for chunk in chunks for row in chunk.to_pylist()] == [
        row for table in tables for row in table.to_pylist()
    ]
    assert all(chunk.num_rows >= 40 for chunk in chunks[:-1])
    assert all(chunk.num_rows for chunk in chunks)


def test_no_more_than_a_few_results_are_made_ahead() -> None:
    made: list[int] = []
    lock = threading.Lock()

    def make(number: int) -> int:
        with lock:
            made.append(number)
        return number

    with ThreadPoolExecutor(2) as pool:
        results = shuffle.map_ahead(pool, make, range(100))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        assert len(made) <= 3 + 2 * shuffle.thread_count()
        assert list(results) == list(range(3, 100))
