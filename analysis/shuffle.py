"""Group and sort tables that do not fit into memory, over files.

Rows are distributed over parts: by a hash, so that equal keys meet in one part, or by ranges of an
order, so that sorted parts, one after the other, are the whole in order.
"""

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

Integers = np.ndarray[Any, np.dtype[Any]]
A = TypeVar("A")
B = TypeVar("B")

_SPILL_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


class Shuffle:
    """Distribute rows over files in a new folder, one file for each part.

    Parameters
    ----------
    folder
        Is created. Its owner deletes it.
    parts
        How many parts there are.
    schema
        Of all tables.
    """

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

    def add(self, table: pa.Table, numbers: Integers) -> None:
        """Add each row to a part.

        Parameters
        ----------
        table
            n rows.
        numbers
            Shape (n,), the number of each row's part, from 0.
        """
        if (numbers[1:] < numbers[:-1]).any():
            table = table.take(np.argsort(numbers, kind="stable"))
        start = 0
        for number, count in zip(*np.unique(numbers, return_counts=True), strict=True):
            self._writer(int(number)).write_table(table.slice(start, count))
            start += count

    def _writer(self, number: int) -> Any:
        if number not in self._writers:
            stream = self._open.enter_context(pa.OSFile(str(self._paths[number]), "wb"))
            writer = pa.ipc.new_stream(stream, self._schema, options=_SPILL_OPTIONS)
            self._writers[number] = self._open.enter_context(writer)
        return self._writers[number]

    def read_part(self, number: int) -> pa.Table:
        """Return all rows of a part, in the order in which they were added.

        Parameters
        ----------
        number
            Of the part, from 0. Every row must have been added, and the context left.

        Returns
        -------
        pyarrow.Table
            Without rows where the part has none.
        """
        if number not in self._writers:
            return self._schema.empty_table()
        with pa.OSFile(str(self._paths[number])) as stream, pa.ipc.open_stream(stream) as reader:
            return reader.read_all()


def hash_strings(column: pa.ChunkedArray) -> Integers:
    """Return a hash of each string.

    Parameters
    ----------
    column
        n strings; a missing one counts as "".

    Returns
    -------
    numpy.ndarray
        Shape (n,), uint64: the same in every process.
    """
    texts = pc.fill_null(column, "").to_numpy()
    found: Integers = pd.util.hash_array(texts, categorize=False)
    return found


def range_limits(sample: pa.Table, order: Sequence[str], parts: int) -> pa.Table:
    """Return rows that cut an order into ranges of about equal size.

    Parameters
    ----------
    sample
        Rows drawn at random from what is to be cut.
    order
        The columns to sort by.
    parts
        At most so many ranges.

    Returns
    -------
    pyarrow.Table
        Rows of the sample, sorted: one less than there are ranges.
    """
    places = np.linspace(0, sample.num_rows, parts, endpoint=False)[1:].astype(int)
    return sort_rows(sample, order).take(np.unique(places))


def range_numbers(table: pa.Table, cuts: pa.Table, order: Sequence[str]) -> Integers:
    """Return the range of each row: how many rows of ``cuts`` do not come after it.

    Parameters
    ----------
    table
        n rows.
    cuts
        From `range_limits`.
    order
        The columns to sort by.

    Returns
    -------
    numpy.ndarray
        Shape (n,), from 0.
    """
    # Sorted together, cuts first: sorting is stable, so a row equal to a cut comes after it.
    places = _sorted_positions(pa.concat_tables([cuts, table.select(order)]), order).to_numpy()
    found = np.empty(len(places), dtype=np.int64)
    found[places] = np.cumsum(places < cuts.num_rows)
    return found[cuts.num_rows :]


def sort_rows(table: pa.Table, order: Sequence[str]) -> pa.Table:
    """Return the rows sorted.

    Parameters
    ----------
    table
        Any rows.
    order
        The columns to sort by. Missing values come last.

    Returns
    -------
    pyarrow.Table
        The same rows.
    """
    return table.take(_sorted_positions(table, order))


def _sorted_positions(table: pa.Table, order: Sequence[str]) -> pa.Array:
    return pc.sort_indices(table, sort_keys=[(name, "ascending") for name in order])


def regroup_rows(tables: Iterable[pa.Table], at_least: int) -> Iterator[pa.Table]:
    """Yield the same rows in larger tables.

    Parameters
    ----------
    tables
        Tables of any size, of one schema.
    at_least
        How many rows each table has at least; the last one may have less.

    Yields
    ------
    pyarrow.Table
        Never without rows.
    """
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        if rows >= at_least:
            yield pa.concat_tables(waiting)
            waiting, rows = [], 0
    if rows:
        yield pa.concat_tables(waiting)


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[A], B], items: Iterable[A]
) -> Iterator[B]:
    """Yield what `map` does, while the next few results are being made.

    `ThreadPoolExecutor.map` would start on all items at once, and hold every result in memory.

    Parameters
    ----------
    pool
        The threads to use.
    function
        Applied to each item.
    items
        In this order come the results.

    Yields
    ------
    B
        The result of each item.
    """
    remaining = iter(items)
    pending = deque(pool.submit(function, item) for item in islice(remaining, 2 * thread_count()))
    while pending:
        done = pending.popleft().result()
        pending.extend(pool.submit(function, item) for item in islice(remaining, 1))
        yield done


def thread_count() -> int:
    """Return how many threads to use.

    Returns
    -------
    int
        At most 4: each thread holds a table in memory.
    """
    return min(4, int(pa.cpu_count()))
