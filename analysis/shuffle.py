"""Deals tables that do not fit the memory out over files: by a hash, or by ranges of an order."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

CHUNK_ROWS = 32_768

Integers = np.ndarray[Any, np.dtype[Any]]
A = TypeVar("A")
B = TypeVar("B")

_SPILLED = pa.ipc.IpcWriteOptions(compression="lz4")


class Shuffle:
    """Deals rows out over files in a new folder, one file for each part."""

    def __init__(self, folder: Path, parts: int, schema: pa.Schema) -> None:
        folder.mkdir()
        self._paths = [folder / str(number) for number in range(parts)]
        self._schema = schema
        self._open = contextlib.ExitStack()
        self._writers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def deal(self, table: pa.Table, numbers: Integers) -> None:
        """Adds each row to the part of its number."""
        if (numbers[1:] < numbers[:-1]).any():
            table = table.take(np.argsort(numbers, kind="stable"))
        start = 0
        for number, count in zip(*np.unique(numbers, return_counts=True), strict=True):
            self._writer(int(number)).write_table(table.slice(start, count))
            start += count

    def _writer(self, number: int) -> Any:
        if number not in self._writers:
            stream = self._open.enter_context(pa.OSFile(str(self._paths[number]), "wb"))
            writer = pa.ipc.new_stream(stream, self._schema, options=_SPILLED)
            self._writers[number] = self._open.enter_context(writer)
        return self._writers[number]

    def part(self, number: int) -> pa.Table:
        """All rows of a part, in the order in which they came, once everything is dealt out."""
        if number not in self._writers:
            return self._schema.empty_table()
        with pa.OSFile(str(self._paths[number])) as stream, pa.ipc.open_stream(stream) as reader:
            return reader.read_all()


def hashes(column: pa.ChunkedArray) -> Integers:
    """Numbers that are equal where the texts are."""
    texts = pc.fill_null(column, "").to_numpy()
    found: Integers = pd.util.hash_array(texts, categorize=False)
    return found


def limits(sample: pa.Table, order: Sequence[str], parts: int) -> pa.Table:
    """Rows that cut what the sample stands for into at most so many ranges of about equal size."""
    places = np.linspace(0, sample.num_rows, parts, endpoint=False)[1:].astype(int)
    return in_order(sample, order).take(np.unique(places))


def ranges(table: pa.Table, cuts: pa.Table, order: Sequence[str]) -> Integers:
    """The range of each row: how many of the rows of ``cuts`` do not come after it."""
    places = _places(pa.concat_tables([cuts, table.select(order)]), order).to_numpy()
    found = np.empty(len(places), dtype=np.int64)
    found[places] = np.cumsum(places < cuts.num_rows)
    return found[cuts.num_rows :]


def in_order(table: pa.Table, order: Sequence[str]) -> pa.Table:
    """The rows sorted by these columns; what is missing comes last."""
    return table.take(_places(table, order))


def _places(table: pa.Table, order: Sequence[str]) -> pa.Array:
    return pc.sort_indices(table, sort_keys=[(name, "ascending") for name in order])


def chunks(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about CHUNK_ROWS."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        if rows >= CHUNK_ROWS:
            yield pa.concat_tables(waiting)
            waiting, rows = [], 0
    if rows:
        yield pa.concat_tables(waiting)


def ahead(pool: ThreadPoolExecutor, function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """What `map` gives, of which the next few are already being made, and no more than a few."""
    remaining = iter(items)
    pending = deque(pool.submit(function, item) for item in islice(remaining, 2 * threads()))
    while pending:
        done = pending.popleft().result()
        pending.extend(pool.submit(function, item) for item in islice(remaining, 1))
        yield done


def threads() -> int:
    """As many as help, without more tables in memory than they are worth."""
    return min(4, int(pa.cpu_count()))
