"""The files that perf_analyzer takes: real events as its input, arrivals from a log as its load.

Columns are compared with the inputs in the model's config.pbtxt. Lists are filled or cut to the
model's shape only where the user asks for it.
"""

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from hpcbench.errors import BadInput, did_you_mean
from hpcbench.exchange import input_layout
from hpcbench.exchange.event_columns import Events, ListColumn
from hpcbench.exchange.input_layout import NUMPY_TYPES, InputOptions, Layout
from hpcbench.plan.arrivals import Intervals, intervals_between, microseconds
from hpcbench.plan.model import TritonModel


@dataclass(frozen=True)
class WrittenInput:
    """What was written.

    Attributes
    ----------
    events
        Number of events.
    bytes
        Size of the file.
    layouts
        How each input was made.
    changed
        One sentence for each input in which lists were filled or cut.
    """

    events: int
    bytes: int
    layouts: tuple[Layout, ...]
    changed: tuple[str, ...]


def write_input(
    model: TritonModel, events: Events, out: Path, options: InputOptions | None = None
) -> WrittenInput:
    """Write events as input for a model.

    Parameters
    ----------
    model
        The model.
    events
        The events.
    out
        The JSON file; it is replaced only once the new one is whole.
    options
        How the inputs are made; by default all events, one column per input.

    Returns
    -------
    WrittenInput
        What was written, and what was changed in it.

    Raises
    ------
    BadInput
        Columns and inputs do not fit, or the file cannot be written.
    """
    options = options or InputOptions()
    count = min(events.rows, events.rows if options.events is None else options.events)
    if not count:
        raise BadInput(f"{events.source}: has no events")
    layouts, changed = input_layout.plan_layouts(model, events, options, count)
    with whole_file(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        _write(file, layouts, events, count, options)
    return WrittenInput(count, out.stat().st_size, layouts, changed)


def _write(
    file: TextIO, layouts: Sequence[Layout], events: Events, count: int, options: InputOptions
) -> None:
    names = list(dict.fromkeys(column for layout in layouts for column in layout.columns))
    before = '{"data": [\n'
    for batch in events.batches(names, count):
        inputs = {layout.name: _tensors(layout, events, batch, options) for layout in layouts}
        for tensors in zip(*inputs.values(), strict=True):
            entry = {name: _json(t) for name, t in zip(inputs, tensors, strict=True)}
            file.write(before + json.dumps(entry))
            before = ",\n"
    file.write("\n]}\n")


def _tensors(
    layout: Layout, events: Events, batch: Mapping[str, pa.Array], options: InputOptions
) -> Iterator[Any]:
    """Yield one array for each event of the batch."""
    if not layout.is_one_shape:
        total = len(batch[layout.columns[0]])
        for row in range(total):
            one = {name: batch[name].slice(row, 1) for name in layout.columns}
            _check_rectangle(layout, events, one)
            yield _filled(layout, events, one, options)[0]
    else:
        yield from _filled(layout, events, batch, options)


def _check_rectangle(layout: Layout, events: Events, one: Mapping[str, pa.Array]) -> None:
    name = layout.columns[0]
    for lengths in events.list_column(name, one[name]).lengths:
        if lengths.min() != lengths.max():
            raise BadInput(
                f"{events.source}: column '{name}' has an event whose lists differ in length: "
                f"{lengths.min()} to {lengths.max()}",
                "--pad 0 fills them with zeros",
            )


def _filled(
    layout: Layout, events: Events, batch: Mapping[str, pa.Array], options: InputOptions
) -> Any:
    parts = []
    for name in layout.columns:
        values = events.list_column(name, batch[name])
        flat = _converted(values.flat, layout.data_type, f"{events.source}: column '{name}'")
        parts.append(pad_lists(values, flat, layout.sizes, _fill(layout, options.pad)))
    return parts[0] if layout.axis is None else np.stack(parts, axis=layout.axis + 1)


def _fill(layout: Layout, pad: float | None) -> Any:
    """Return the value that fills lists, as the input's type."""
    kind = np.dtype(NUMPY_TYPES[layout.data_type])
    if kind.kind == "O":
        return ""
    with np.errstate(all="ignore"):
        fill = np.array(pad or 0.0).astype(kind)
    if kind.kind != "f" and float(fill) != (pad or 0.0):
        raise BadInput(
            f"--pad {pad:g}: input '{layout.name}' is {layout.data_type[5:]}, which has no such "
            "number"
        )
    return fill


def pad_lists(values: ListColumn, flat: Any, sizes: Sequence[int | None], fill: Any) -> Any:
    """Return nested lists as one array, filled and cut at the end of each list.

    Parameters
    ----------
    values
        The lists, whose lengths are used.
    flat
        NumPy array of their values, in the type of the result.
    sizes
        Length of the lists at each level, the outermost first; None for that of the longest.
    fill
        Value that fills lists that are too short.

    Returns
    -------
    numpy.ndarray
        Of shape (events, one dimension per level).
    """
    # From the innermost level outwards: what was made of a level are the elements of the next.
    array = flat
    for lengths, size in zip(reversed(values.lengths), reversed(sizes), strict=True):
        width = int(lengths.max()) if size is None else size
        padded = np.full((len(lengths), width, *array.shape[1:]), fill, dtype=array.dtype)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = within < width
        padded[rows[kept], within[kept]] = array[kept]
        array = padded
    return array


def _converted(flat: pa.Array, data_type: str, where: str) -> Any:
    """Return values in the input's type; refuse those that do not fit."""
    wanted = np.dtype(NUMPY_TYPES[data_type])
    found = flat.to_numpy(zero_copy_only=False)
    if wanted.kind == "O":
        return np.array([_text(value, where) for value in found], dtype=object)
    with np.errstate(all="ignore"):
        converted = found.astype(wanted)
    fits = (
        np.isfinite(converted) == np.isfinite(found) if wanted.kind == "f" else converted == found
    )
    if not fits.all():
        raise BadInput(f"{where} holds {found[~fits][0]}, which {data_type[5:]} cannot hold")
    return converted


def _text(value: str | bytes, where: str) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} holds bytes that are not UTF-8, and JSON holds text") from error


def _json(array: Any) -> dict[str, Any]:
    """Return a tensor as perf_analyzer reads it; base64 is short and keeps every bit."""
    shape = list(array.shape)
    if array.dtype.kind == "O":
        return {"content": array.ravel().tolist(), "shape": shape}
    # perf_analyzer copies the bytes as they are, and Triton expects little-endian values.
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    return {"b64": base64.b64encode(data).decode(), "shape": shape}


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """Yield where to write what takes the place of a file, unless that fails.

    Parameters
    ----------
    out
        The file, which need not exist.

    Yields
    ------
    Path
        A name beside it, which is gone afterwards.

    Raises
    ------
    BadInput
        It cannot be written.
    """
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(out)
    except OSError as error:
        raise BadInput(f"{out}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_intervals(
    source: Path, column: str, out: Path, *, events: int | None = None
) -> Intervals:
    """Write the times between arrivals as perf_analyzer reads them.

    Parameters
    ----------
    source
        A CSV file with a header, or a Parquet file.
    column
        Its column with the times: timestamps, or numbers of seconds, in any order.
    out
        The file; it is replaced only once the new one is whole.
    events
        How many arrivals to use, from the earliest on; None for all.

    Returns
    -------
    Intervals
        What was written.

    Raises
    ------
    BadInput
        The file or the column is not there, holds something else, or cannot be written.
    """
    times = _column(source, column)
    try:
        found = intervals_between(sorted(microseconds(times))[:events])
    except ValueError as error:
        raise BadInput(f"{source}: column '{column}' {error}") from error
    with whole_file(out) as temporary:
        temporary.write_text("".join(f"{each}\n" for each in found.microseconds))
    return found


def _column(source: Path, column: str) -> pa.ChunkedArray:
    try:
        if source.suffix in (".parquet", ".pq"):
            known = pq.read_schema(source).names
            table = pq.read_table(source, columns=[column]) if column in known else None
        else:
            whole = pyarrow.csv.read_csv(source)
            known = whole.column_names
            table = whole.select([column]) if column in known else None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise BadInput(
            f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}",
            "--arrivals takes CSV files with a header, and Parquet files",
        ) from error
    if table is None:
        raise BadInput(
            f"{source}: there is no column '{column}';{did_you_mean(column, known)} it has: "
            f"{', '.join(known)}"
        )
    return table.column(0)
