"""Results as a pandas frame: one row per measurement, however often it was tried."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hpcbench.records import parquet, validity
from hpcbench.records.columns import FINAL, MEASURED, SCHEMA
from hpcbench.records.store import OnDamage, read_table, record_files

KEY_COLUMNS = ("site", "point_id", "pool", "run_id", "repeat")
"""What names a measurement among those of many sites and sessions: pools of two may have one name.
Rows of older versions have no run_id; they count as of one session, which another one may have gone
on with."""

ATTEMPT_COLUMNS = ("ended_at", "placement_id")
"""What separates one attempt at a measurement from the next."""

SORT_COLUMNS = (
    *("model_position", "model_label", "pool", "variant", "batch_size", "concurrency", "repeat"),
    *("site", "point_id", "run_id"),
)
"""The order of a table of results; missing values come last."""


def load_results(
    path: str | Path,
    columns: Sequence[str] | None = None,
    points: Collection[str] | None = None,
    *,
    categories: bool = False,
    on_damage: OnDamage | None = None,
) -> pd.DataFrame:
    """Return the measurements of a results folder or file.

    Where a measurement was made more than once, a measured row counts before a failed one, and a
    later row before an earlier one.

    Parameters
    ----------
    path
        A results folder, or what ``hpcbench aggregate`` made of several.
    columns
        The columns to read; all by default. Fewer columns take less time and memory.
    points
        The point_ids whose rows to read; all by default.
    categories
        Whether strings other than point_id become pandas categories. This takes a fifth of the
        memory.
    on_damage
        Called with each damaged file of a folder, whose rows are left out; by default a damaged
        file is an error.

    Returns
    -------
    pandas.DataFrame
        One row per measurement, in the order of `SORT_COLUMNS`. The columns are those of
        `hpcbench.records.columns.Record`, with their units, and ``valid`` and ``invalid_reasons``,
        which `hpcbench.records.validity` computes from them. Integers, floats, booleans and strings
        have pandas' nullable types, lists are tuples; a missing value is NA or None.

    Raises
    ------
    BadInput
        Where there are no results, a file cannot be read, or there is no such column.
    """
    names = [*SCHEMA.names, *validity.COMPUTED] if columns is None else list(columns)
    stored = _stored_columns(names)
    path = Path(path)
    if not (path.is_file() and parquet.is_merged(*record_files(path))):
        table = read_table(
            path,
            [*stored, *KEY_COLUMNS, "status", *ATTEMPT_COLUMNS, *SORT_COLUMNS],
            points,
            on_damage,
        )
        best = best_attempts(table)
        # What an older version has merged is mostly as it should be, and long to copy.
        if not np.array_equal(best.to_numpy(zero_copy_only=False), np.arange(len(table))):
            table = table.take(best)
        table = _with_computed(table, names)
        table = _in_categories([table]) if categories else table
    elif categories and points is None:
        parquet.check_columns(stored)
        with parquet.open_records(path) as file:
            # The check of statuses and the ids need strings.
            coded = [n for n in stored if _is_coded(SCHEMA.field(n)) and n != "status"]
            tables = file.batches(stored, coded) if file.rows else [file.table(stored)]
            table = _in_categories(_with_computed(each, names) for each in tables)
    else:
        table = _with_computed(read_table(path, stored, points), names)
    lists = [field.name for field in table.schema if pa.types.is_list(field.type)]
    rest = table.drop_columns(lists)
    frame: pd.DataFrame = rest.to_pandas(types_mapper=_PANDAS_TYPES.get)
    for name in lists:
        frame[name] = pd.Series(list(_tuples(table[name])), index=frame.index, dtype=object)
    ordered: pd.DataFrame = frame[table.column_names]
    del table, rest
    # Arrow would keep the memory that was needed only for reading.
    pa.default_memory_pool().release_unused()
    return ordered


def _stored_columns(names: Sequence[str]) -> list[str]:
    """The columns to read for ``names``; those that are computed need others."""
    inputs = validity.INPUTS if set(names) & set(validity.COMPUTED) else ()
    asked = [name for name in names if name not in validity.COMPUTED]
    return list(dict.fromkeys([*asked, *inputs]))


def _with_computed(table: pa.Table, names: Sequence[str]) -> pa.Table:
    if set(names) & set(validity.COMPUTED):
        table = validity.with_verdicts(table)
    return table.select(names)


def _in_categories(tables: Iterable[pa.Table]) -> pa.Table:
    """The tables as one, in which each text but a point_id is held once."""

    def coded(table: pa.Table) -> pa.Table:
        for place, field in enumerate(table.schema):
            if _is_coded(field):
                table = table.set_column(place, field.name, table[field.name].dictionary_encode())
        return table

    return pa.concat_tables(map(coded, tables)).unify_dictionaries()


def _is_coded(field: pa.Field) -> bool:
    return bool(pa.types.is_string(field.type) and field.name != "point_id")


def _tuples(column: pa.ChunkedArray) -> Iterator[tuple[Any, ...] | None]:
    """Each list as a tuple; equal ones are one object as long as they are few."""
    known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for start in range(0, len(column), parquet.BATCH_ROWS):
        lists = column.slice(start, parquet.BATCH_ROWS).combine_chunks()
        distinct, codes = _distinct_lists(lists)
        found = [None if values is None else tuple(values) for values in distinct.to_pylist()]
        if len(known) < _MOST_KNOWN:
            found = [each and known.setdefault(each, each) for each in found]
        yield from found if codes is None else map(found.__getitem__, codes.tolist())


def _distinct_lists(lists: pa.ListArray) -> tuple[pa.ListArray, npt.NDArray[np.int64] | None]:
    """The distinct ones of lists, and which of them each is; all and None where most differ.

    A Python list of each of a million rows takes a second, and most columns have a few.
    """
    values = lists.flatten().dictionary_encode()
    if len(values.dictionary) > _MOST_KNOWN:
        return lists, None
    lengths = pc.fill_null(pc.list_value_length(lists), -1).to_numpy()
    start = np.cumsum(lengths.clip(min=0)) - lengths.clip(min=0)
    # A missing value, of which there are none so far, differs from all others.
    codes = pc.fill_null(values.indices, len(values.dictionary)).to_numpy(zero_copy_only=False)
    keys = lengths.astype(np.int64)
    for place in range(int(lengths.max(initial=0))):
        there = lengths > place
        keys = keys * (len(values.dictionary) + 2)
        keys[there] += codes[start[there] + place] + 1
        keys = np.unique(keys, return_inverse=True)[1]
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return lists.take(pa.array(first)), which


_MOST_KNOWN = 1000


def best_attempts(table: pa.Table) -> pa.Array:
    """Return the rows that count: one for each measurement.

    Parameters
    ----------
    table
        Rows of any number of attempts, with `KEY_COLUMNS`, `ATTEMPT_COLUMNS`, `SORT_COLUMNS` and
        the column status.

    Returns
    -------
    pyarrow.Array
        Positions of rows, in the order of `SORT_COLUMNS`. Of several attempts at a measurement,
        the last measured one; where none was measured, the last. A row of an older version that
        was to be tried again gives way to the row of the session that has tried it.
    """
    measured = pc.is_in(table["status"], pa.array(sorted(MEASURED))).cast(pa.int8())
    ended = pc.fill_null(table["ended_at"].cast(pa.int64()), 0)
    rank = pa.table([measured, ended, table["placement_id"]], names=["1", "2", "3"])
    by_rank = pc.sort_indices(rank, sort_keys=[(name, "ascending") for name in rank.column_names])
    keys = table.select(KEY_COLUMNS).take(by_rank).to_pandas(types_mapper=_PANDAS_TYPES.get)
    final = pc.is_in(table["status"], pa.array(sorted(FINAL))).take(by_rank)
    others = keys.duplicated(keep="last").to_numpy() | _is_retried(keys, final.to_numpy())
    last = by_rank.filter(pa.array(~others))
    order = table.select(SORT_COLUMNS).take(last)
    return last.take(
        pc.sort_indices(order, sort_keys=[(name, "ascending") for name in SORT_COLUMNS])
    )


def _is_retried(keys: pd.DataFrame, final: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which rows without a session were tried again in one.

    The session that went on with them has a name, so that the two do not have the same key.
    """
    old = keys["run_id"].isna().to_numpy() & ~final
    if not old.any():
        return old
    names = [name for name in KEY_COLUMNS if name != "run_id"]
    numbers = keys.groupby(names, dropna=False, sort=False).ngroup().to_numpy()
    tried = np.bincount(numbers[keys["run_id"].notna().to_numpy()], minlength=len(keys)) > 0
    found: npt.NDArray[np.bool_] = old & tried[numbers]
    return found


_PANDAS_TYPES = {
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(),
}
