"""The way back: a pandas frame, whoever measured what it holds, becomes a results folder.

A frame is checked whole before anything is written, and every column that is wrong is named.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hpcbench.errors import BadInput, did_you_mean
from hpcbench.records.columns import SCHEMA, Status
from hpcbench.records.folder import Results, write_atomically
from hpcbench.records.frame import KEY_COLUMNS
from hpcbench.records.parquet import REQUIRED
from hpcbench.records.roles import may_become
from hpcbench.records.store import PLAN_SCHEMA, record_files
from hpcbench.records.validity import COMPUTED

MAY_BE_NEGATIVE = (
    "arrivals_seed",
    "energy_j_per_infer_net",
    "foreign_requests",
    "gpu_temperature_max_c",
    "model_version",
)
"""Differences, and numbers that count nothing. All others are 0 or more."""

ABOVE_ZERO = ("batch_size", "concurrency", "request_rate")
"""There is no load of 0."""

JSON_COLUMNS = ("variant", "beside", "shapes")
"""Columns whose text other code takes apart."""


def save_results(frame: pd.DataFrame, path: str | Path) -> None:
    """Write measurements as a results folder that every command reads.

    Parameters
    ----------
    frame
        One row per measurement, with columns of `hpcbench.records.columns.Record`, in any order.
        Levels of the index that have a name are columns, too. A column that is not there is
        missing in every row; ``valid`` and ``invalid_reasons`` are computed anew when the rows are
        read. Those that a `Record` cannot be made without must be there, and have a value in each
        row. Values may have any type that loses
        nothing on the way to the column's own: whole floats as integers, NaN, NA and None as
        missing, tuples, lists or arrays as lists, times with a time zone.
    path
        The folder. It is made; if it is there, it must hold no records.

    Raises
    ------
    BadInput
        Where a column is wrong, with each of them by name, or the folder cannot be written.
        Nothing has been written then.
    TypeError
        Where ``frame`` is no `pandas.DataFrame`.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            f"save_results takes a pandas.DataFrame, not a {type(frame).__name__}; "
            "pandas.DataFrame(rows) makes one of a list of dicts"
        )
    frame = _with_index(frame)
    columns, problems = _arrow_columns(frame)
    problems = [*_name_problems(list(frame.columns)), *problems]
    problems += _out_of_range(columns)
    for check in () if problems else (_missing, _unknown_statuses, _no_json, _repeated):
        problems += check(columns)
    if problems:
        raise BadInput(
            "the frame is no table of results:\n" + "\n".join(f"  {each}" for each in problems),
            "docs/columns.md has all columns with their types and units",
        )
    rows = len(frame)
    arrays = [columns.get(field.name, pa.nulls(rows, field.type)) for field in SCHEMA]
    table = pa.table(arrays, schema=SCHEMA)
    results = Results(Path(path))
    _check_empty(results)
    results.create()
    # hpcbench status counts what a plan names; here all of it has been measured.
    _write(results.plan, table.select(PLAN_SCHEMA.names).replace_schema_metadata(SCHEMA.metadata))
    _write(results.records / "saved.parquet", table)


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with what was made its index as columns, the numbers of rows left out."""
    named = [level for level, name in enumerate(frame.index.names) if name is not None]
    # A name that is there twice is said among all other problems.
    left = frame.reset_index(level=named, allow_duplicates=True) if named else frame
    return left.reset_index(drop=True)


def _write(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    write_atomically(path, sink.getvalue().to_pybytes())


def _check_empty(results: Results) -> None:
    if results.folder.exists() and not results.folder.is_dir():
        raise BadInput(f"{results.folder}: is not a folder", "name one that is not there yet")
    if results.records.is_dir() and record_files(results.folder):
        raise BadInput(
            f"{results.folder}: holds records already",
            "name a folder that is not there yet; hpcbench aggregate joins several",
        )


def _name_problems(names: Sequence[Any]) -> list[str]:
    counts = pd.Series(list(map(str, names)), dtype=object).value_counts(sort=False)
    problems = [f"{name}: is there {count} times" for name, count in counts.items() if count > 1]
    known = {*SCHEMA.names, *COMPUTED}
    for name in counts.index:
        if name not in known:
            guess = did_you_mean(name, SCHEMA.names)
            problems.append(f"{name}: there is no such column{guess and ';' + guess}")
    problems += [f"{name}: every record has it" for name in REQUIRED if name not in counts.index]
    return problems


def _arrow_columns(frame: pd.DataFrame) -> tuple[dict[str, pa.Array], list[str]]:
    """Return the columns with the types of the table, and what is wrong with the others."""
    columns, problems = {}, []
    known, twice = set(SCHEMA.names), frame.columns.duplicated()
    for place, name in enumerate(frame.columns):
        if name not in known or twice[place]:
            continue
        field = SCHEMA.field(name)
        series: pd.Series[Any] = frame.iloc[:, place]
        try:
            columns[name] = _array(series, field.type)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            problems.append(f"{name}: must be {field.type}; {_first_wrong(series, field.type)}")
    return columns, problems


def _array(series: pd.Series, wanted: pa.DataType) -> pa.Array:
    """Return the values as Arrow's; raise where one of them would not stay what it is."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype)
    if pa.types.is_timestamp(wanted):
        # Arrow would take a time without a zone for one in UTC.
        if not series.isna().all() and pd.to_datetime(series.dropna()).dt.tz is None:
            raise ValueError(series.name)
        series = pd.to_datetime(series, utc=True)
    elif pa.types.is_list(wanted):
        # Of lists Arrow checks only the kind: 0.5 would become 0.
        given = pa.Array.from_pandas(series)
        if not may_become(given.type, wanted):
            raise TypeError(given.type)
        return given.cast(wanted)
    elif not pa.types.is_string(wanted):
        # Arrow would make a number of "1", 1.0 of True, and True of 2.
        kind = pd.api.types.infer_dtype(series, skipna=True)
        if kind not in (_BOOLEANS if pa.types.is_boolean(wanted) else _NUMBERS):
            raise TypeError(kind)
    found = pa.Array.from_pandas(series, type=wanted)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


_BOOLEANS = {"boolean", "empty"}
_NUMBERS = {"integer", "floating", "mixed-integer-float", "integer-na", "decimal", "empty"}
"""What pandas calls such values."""


def _first_wrong(series: pd.Series, wanted: pa.DataType) -> str:
    """Return the first row whose value does not fit, halving what is left to look at."""
    low, high = 0, len(series)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _array(series.iloc[low:middle], wanted)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            high = middle
        else:
            low = middle
    value = series.iloc[low]
    return f"row {low} holds {str(value)[:60]!r} ({type(value).__name__})"


def _out_of_range(columns: dict[str, pa.Array]) -> list[str]:
    """Return which numbers cannot have been measured: infinite ones, and those below 0."""
    problems = []
    for name, array in columns.items():
        values = pc.list_flatten(array) if pa.types.is_list(array.type) else array
        if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
            continue
        if name in ABOVE_ZERO:
            allowed, wrong = "above 0", pc.less_equal(values, 0)
        elif name in MAY_BE_NEGATIVE:
            allowed, wrong = "finite", pc.is_inf(values.cast(pa.float64()))
        else:
            allowed, wrong = "0 or more", pc.less(values, 0)
        if pa.types.is_floating(values.type):
            allowed += "" if allowed == "finite" else " and finite"
            wrong = pc.or_(wrong, pc.is_inf(values))
        at = pc.index(wrong, True).as_py()
        if at >= 0:
            row = pc.list_parent_indices(array)[at] if values is not array else at
            problems.append(f"{name}: must be {allowed}; row {row} holds {values[at]}")
    return problems


def _missing(columns: dict[str, pa.Array]) -> list[str]:
    return [
        f"{name}: every record has a value; row {pc.index(columns[name].is_null(), True)} has none"
        for name in REQUIRED
        if columns[name].null_count
    ]


def _unknown_statuses(columns: dict[str, pa.Array]) -> list[str]:
    known = list(map(str, Status))
    unknown = [text for text in pc.unique(columns["status"]).to_pylist() if text not in known]
    return [f"status: {text!r} is none of {', '.join(known)}" for text in unknown]


def _no_json(columns: dict[str, pa.Array]) -> list[str]:
    problems = []
    for name in JSON_COLUMNS:
        texts = pc.unique(columns[name]).to_pylist() if name in columns else []
        wrong = [text for text in texts if text is not None and not _is_object(text)]
        problems += [f"{name}: {text[:60]!r} is no JSON of names and values" for text in wrong[:1]]
    return problems


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _repeated(columns: dict[str, pa.Array]) -> list[str]:
    """Return which rows would supersede each other: only one of them would ever be read."""
    keys = pd.DataFrame(
        {name: columns[name].to_pandas() for name in KEY_COLUMNS if name in columns}
    )
    twice = keys.duplicated().to_numpy().nonzero()[0]
    if not len(twice):
        return []
    # Two missing values are the same, as in what is read.
    numbers = keys.groupby(list(keys), dropna=False, sort=False).ngroup().to_numpy()
    first = (numbers == numbers[twice[0]]).nonzero()[0][0]
    names = ", ".join(KEY_COLUMNS)
    both = f"rows {first} and {twice[0]}"
    return [f"{names}: {both} are one measurement; number its repeats from 0"]
