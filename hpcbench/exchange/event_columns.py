"""Columns of real events, from Parquet, NumPy or Awkward: one row per event, read in batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hpcbench.errors import BadInput, did_you_mean

BATCH_EVENTS = 256
"""Number of events that are in memory at a time."""


@dataclass(frozen=True)
class ListColumn:
    """One column of some events, with its nested lists flattened.

    Attributes
    ----------
    lengths
        Lengths of the lists, one array per level, the outermost level first.
    flat
        The values of the innermost lists, one after the other.
    """

    lengths: tuple[Any, ...]
    flat: pa.Array


@dataclass(frozen=True)
class Events:
    """The columns of a file of events.

    Attributes
    ----------
    source
        Where the events come from, for messages.
    table
        The events.
    types
        The type of each column. Fields of records are columns with names such as ``jet.pt``.
    """

    source: str
    table: pa.Table | pq.ParquetFile
    types: Mapping[str, pa.DataType]

    @property
    def rows(self) -> int:
        """Number of events."""
        is_file = isinstance(self.table, pq.ParquetFile)
        return int(self.table.metadata.num_rows if is_file else self.table.num_rows)

    def check(self, names: Sequence[str], wanted_by: str) -> None:
        """Refuse names of columns that are not there.

        Parameters
        ----------
        names
            Names of columns.
        wanted_by
            What the columns are for, for the message.

        Raises
        ------
        BadInput
            A column is not there.
        """
        for name in names:
            if name not in self.types:
                present = ", ".join(
                    f"{known} ({type_text(kind)})" for known, kind in self.types.items()
                )
                raise BadInput(
                    f"{self.source}: there is no column '{name}' for {wanted_by};"
                    f"{did_you_mean(name, self.types)} it has: {present or 'none'}",
                    "--map says which columns make which input",
                )

    def batches(self, names: Sequence[str], events: int) -> Iterator[dict[str, pa.Array]]:
        """Yield the first events of some columns, a batch at a time.

        Parameters
        ----------
        names
            Names of columns.
        events
            Number of events.

        Yields
        ------
        dict of str to pyarrow.Array
            Top-level columns by the names above; `list_column` takes them apart.
        """
        tops = list(dict.fromkeys(self._top(name) for name in names))
        left = events
        for batch in self._record_batches(tops):
            part = batch.slice(0, left)
            left -= part.num_rows
            if part.num_rows:
                yield {name: part.column(self._top(name)) for name in names}
            if not left:
                return

    def _record_batches(self, tops: list[str]) -> Iterator[pa.RecordBatch]:
        if isinstance(self.table, pq.ParquetFile):
            try:
                yield from self.table.iter_batches(batch_size=BATCH_EVENTS, columns=tops)
            except (OSError, ValueError, pa.ArrowException) as error:
                raise BadInput(f"{self.source}: is not a whole Parquet file: {error}") from error
        else:
            yield from self.table.select(tops).to_batches(max_chunksize=BATCH_EVENTS)

    def _top(self, name: str) -> str:
        is_file = isinstance(self.table, pq.ParquetFile)
        known: list[str] = (self.table.schema_arrow if is_file else self.table.schema).names
        return max((n for n in known if name == n or name.startswith(f"{n}.")), key=len)

    def list_column(self, name: str, array: pa.Array) -> ListColumn:
        """Return a column of a batch with its nested lists flattened.

        Parameters
        ----------
        name
            Name of the column.
        array
            Its top-level column in the batch.

        Returns
        -------
        ListColumn
            Lengths and values.

        Raises
        ------
        BadInput
            A value or a list is missing.
        """
        fields = name[len(self._top(name)) + 1 :].split(".") if name != self._top(name) else []
        lengths = []
        while True:
            if array.null_count:
                raise BadInput(
                    f"{self.source}: column '{name}' has missing values (null)",
                    "fill them, or leave those events out",
                )
            if pa.types.is_struct(array.type):
                array = array.field(fields.pop(0))
            elif _is_list(array.type):
                lengths.append(pc.list_value_length(array).to_numpy(zero_copy_only=False))
                array = array.flatten()
            else:
                return ListColumn(tuple(lengths), array)


def list_depth(kind: pa.DataType) -> int:
    """Return how deep the lists of a column are nested.

    Parameters
    ----------
    kind
        Type of the column.

    Returns
    -------
    int
        0 for a column of plain values.
    """
    return 1 + list_depth(kind.value_type) if _is_list(kind) else 0


def type_text(kind: pa.DataType) -> str:
    """Return a type as messages name it.

    Parameters
    ----------
    kind
        Type of a column.

    Returns
    -------
    str
        Such as "lists of float".
    """
    return f"lists of {type_text(kind.value_type)}" if _is_list(kind) else str(kind)


def innermost_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values in the innermost lists.

    Parameters
    ----------
    kind
        Type of a column.

    Returns
    -------
    pyarrow.DataType
        A type that is no list.
    """
    return innermost_type(kind.value_type) if _is_list(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def read_events(path: Path) -> Events:
    """Open a file of events.

    Parameters
    ----------
    path
        A .parquet, .npz or .npy file.

    Returns
    -------
    Events
        Its columns. The values are read later, batch by batch.

    Raises
    ------
    BadInput
        The file cannot be read, or is none of these.
    """
    readers = {".parquet": _parquet, ".pq": _parquet, ".npz": _numpy, ".npy": _numpy}
    if path.suffix not in readers:
        raise BadInput(
            f"{path}: allowed are files of events that end in {', '.join(readers)}",
            "Awkward arrays: ak.to_parquet(array, 'events.parquet'); ROOT files: "
            "ak.to_parquet(uproot.open(file)[tree].arrays(names), 'events.parquet')",
        )
    try:
        return readers[path.suffix](path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    except BadInput:
        raise
    except Exception as error:  # NumPy reads headers as Python, and fails like Python
        raise BadInput(f"{path}: is not a {path.suffix} file of events: {error}") from error


def _parquet(path: Path) -> Events:
    file = pq.ParquetFile(path)
    return Events(str(path), file, _types(file.schema_arrow))


def _numpy(path: Path) -> Events:
    if path.suffix == ".npy":
        array = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("it is an archive")
        return events_from_arrays({path.stem: array}, str(path))
    # NumPy leaves a file open that it has opened itself, and that is no archive.
    with path.open("rb") as stream:
        loaded = np.load(stream, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("it is no archive")
        return events_from_arrays(dict(loaded), str(path))


def events_from_arrays(columns: Mapping[str, Any], source: str = "columns") -> Events:
    """Return events that are in memory.

    Parameters
    ----------
    columns
        Arrays of NumPy, Awkward, pandas or Arrow by their names, each with one row per event.
    source
        Where they come from, for messages.

    Returns
    -------
    Events
        Their columns.

    Raises
    ------
    BadInput
        The columns have different lengths, or an array has no dimension for events.
    """
    arrays = {name: _arrow(values) for name, values in columns.items()}
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        numbers = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise BadInput(f"{source}: the columns have different numbers of events: {numbers}")
    table = pa.table(arrays)
    return Events(source, table, _types(table.schema))


def _arrow(values: Any) -> pa.Array:
    # Awkward is imported by whoever made such an array, and need not be installed otherwise.
    if type(values).__module__.startswith("awkward"):
        import awkward

        return awkward.to_arrow(values, extensionarray=False)
    if not isinstance(values, np.ndarray):
        return pa.array(values)
    if values.ndim == 0:
        raise BadInput("an array has no dimension for events: its shape is []")
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        if size == 0:
            raise BadInput(f"an array of shape {list(values.shape)} holds no values")
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return {
        f"{field.name}{inner}": kind
        for field in schema
        for inner, kind in _leaves(field.type).items()
    }


def _leaves(kind: pa.DataType) -> dict[str, pa.DataType]:
    """Return the columns in one type: lists of records become one column of lists per field."""
    if pa.types.is_struct(kind):
        return {
            f".{field.name}{inner}": leaf
            for field in kind
            for inner, leaf in _leaves(field.type).items()
        }
    if _is_list(kind):
        return {inner: pa.list_(leaf) for inner, leaf in _leaves(kind.value_type).items()}
    return {"": kind}
