"""Columns of real events, from Parquet, NumPy or Awkward: one row per event, read in pieces."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hpcbench.config.yaml_model import did_you_mean
from hpcbench.errors import BadInput

BATCH_EVENTS = 256
"""Events that are in memory at a time."""


@dataclass(frozen=True)
class ListColumn:
    """One column of some events, its lists taken apart.

    ``lengths`` are those of the lists, the outermost level first; ``flat`` is what is in the
    innermost ones, one after the other.
    """

    lengths: tuple[Any, ...]
    flat: pa.Array


@dataclass(frozen=True)
class Events:
    """A file's columns. ``types`` has all of them; fields of records have names like ``jet.pt``."""

    source: str
    table: pa.Table | pq.ParquetFile
    types: Mapping[str, pa.DataType]

    @property
    def rows(self) -> int:
        is_file = isinstance(self.table, pq.ParquetFile)
        return int(self.table.metadata.num_rows if is_file else self.table.num_rows)

    def check(self, names: Sequence[str], wanted_by: str) -> None:
        """Raises BadInput for the first of ``names`` that is not there."""
        for name in names:
            if name not in self.types:
                told = ", ".join(
                    f"{known} ({type_text(kind)})" for known, kind in self.types.items()
                )
                raise BadInput(
                    f"{self.source}: there is no column '{name}' for {wanted_by};"
                    f"{did_you_mean(name, self.types)} it has: {told or 'none'}",
                    "--map says which columns make which input",
                )

    def batches(self, names: Sequence[str], events: int) -> Iterator[dict[str, pa.Array]]:
        """The first ``events`` events of some columns, some events at a time."""
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
            yield from self.table.iter_batches(batch_size=BATCH_EVENTS, columns=tops)
        else:
            yield from self.table.select(tops).to_batches(max_chunksize=BATCH_EVENTS)

    def _top(self, name: str) -> str:
        is_file = isinstance(self.table, pq.ParquetFile)
        known: list[str] = (self.table.schema_arrow if is_file else self.table.schema).names
        return max((n for n in known if name == n or name.startswith(f"{n}.")), key=len)

    def list_column(self, name: str, array: pa.Array) -> ListColumn:
        """The column ``name`` in a piece. Raises BadInput where something is missing in it."""
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
    """How deep the lists of a column are nested."""
    return 1 + list_depth(kind.value_type) if _is_list(kind) else 0


def type_text(kind: pa.DataType) -> str:
    """A type in words."""
    return f"lists of {type_text(kind.value_type)}" if _is_list(kind) else str(kind)


def innermost_type(kind: pa.DataType) -> pa.DataType:
    """What is in the lists."""
    return innermost_type(kind.value_type) if _is_list(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def read_events(path: Path) -> Events:
    """The columns of a .parquet, .npz or .npy file. Raises BadInput where it is not one."""
    readers = {".parquet": _parquet, ".pq": _parquet, ".npz": _numpy, ".npy": _numpy}
    if path.suffix not in readers:
        raise BadInput(
            f"{path}: allowed are files of events with the ending {', '.join(readers)}",
            "Awkward arrays: ak.to_parquet(array, 'events.parquet'); ROOT files: "
            "ak.to_parquet(uproot.open(file)[tree].arrays(names), 'events.parquet')",
        )
    try:
        return readers[path.suffix](path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, pa.ArrowException) as error:
        raise BadInput(f"{path}: is not a {path.suffix} file of events: {error}") from error


def _parquet(path: Path) -> Events:
    file = pq.ParquetFile(path)
    return Events(str(path), file, _types(file.schema_arrow))


def _numpy(path: Path) -> Events:
    loaded = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix == ".npy" else None)
    return events_from_arrays(
        {path.stem: loaded} if path.suffix == ".npy" else dict(loaded), str(path)
    )


def events_from_arrays(columns: Mapping[str, Any], source: str = "columns") -> Events:
    """Columns that are in memory: NumPy, Awkward, pandas or Arrow, all with one row per event."""
    arrays = {name: _arrow(values) for name, values in columns.items()}
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise BadInput(f"{source}: the columns have different numbers of events: {told}")
    table = pa.table(arrays)
    return Events(source, table, _types(table.schema))


def _arrow(values: Any) -> pa.Array:
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
    """The columns in one type: records in lists are lists of their fields."""
    if pa.types.is_struct(kind):
        return {
            f".{field.name}{inner}": leaf
            for field in kind
            for inner, leaf in _leaves(field.type).items()
        }
    if _is_list(kind):
        return {inner: pa.list_(leaf) for inner, leaf in _leaves(kind.value_type).items()}
    return {"": kind}
