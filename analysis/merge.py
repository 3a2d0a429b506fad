"""Deals tables that do not fit the memory out over files: by a hash, or by ranges of an order.

Merges the records of any number of sites into one file, each measurement once, in order.

Memory stays bounded however much there is, by two shuffles over the disk. First the rows are dealt
out by a hash of point_id, so that all attempts at one measurement meet in one part, where the same
rule as in `hpcbench.records.load_results` decides which counts. What is left is dealt out
again, by
ranges of the final order whose limits come from a sample; each range is sorted by itself and
written. In memory are never more than a few pieces of CHUNK_ROWS rows or a few parts, and there
are as many parts as it takes to keep them that small, up to MOST_PARTS.
"""

import contextlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from hpcbench.errors import BadInput
from hpcbench.records import parquet
from hpcbench.records.columns import SCHEMA
from hpcbench.records.frame import ATTEMPT_COLUMNS, KEY_COLUMNS, SORT_COLUMNS, best_attempts
from hpcbench.records.store import record_files

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


def range_numbers(table: pa.Table, cuts: pa.Table, order: Sequence[str]) -> Integers:
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


PART_BYTES = 16 * 2**20
"""Of a part, in the files that it comes from: about twice as many rows as a chunk has."""

MOST_PARTS = 256
MOST_PARTITIONS = 1000
_SMALL = 4096
_SAMPLED = 64
_MERGED = SCHEMA.with_metadata({**SCHEMA.metadata, **parquet.MERGED})


@dataclass
class Merged:
    """What a merge did. ``set_aside`` says of each file that was left out what is wrong with it.

    ``superseded`` rows lost to another attempt at the same measurement, ``repeated`` ones were
    there twice. ``unknown_columns`` are left out: they came with a newer hpcbench.
    """

    rows: int = 0
    files: int = 0
    superseded: int = 0
    repeated: int = 0
    sites: set[str] = field(default_factory=set)
    set_aside: list[BadInput] = field(default_factory=list)
    unknown_columns: dict[str, list[Path]] = field(default_factory=dict)


def aggregate(sources: Sequence[Path], out: Path, partition: Sequence[str] = ()) -> Merged:
    """Merges results folders, files and datasets into ``out``, and says what became of the rows.

    ``out`` is one Parquet file, or with ``partition`` a folder with a level of folders for each of
    these columns. It appears whole or not at all; a file is replaced, a folder is not.

    A measurement is named by (site, point_id, pool, repeat). A file that is damaged, that has
    another schema version that cannot be migrated, or a column of another type, is set aside as a
    whole and the rest goes through. Raises BadInput where nothing is left, or ``out`` cannot be
    written.
    """
    _check_partition(partition)
    files = list(dict.fromkeys(f for path in sources for f in record_files(path)))
    if partition and out.exists():
        raise BadInput(f"--out {out}: is there already", "delete it, or name another folder")
    if not partition and out.is_dir():
        raise BadInput(f"--out {out}: is a folder", "name a file, or give --partition")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    except OSError as error:
        raise BadInput(
            f"--out {out}: cannot be written: {error.strerror}",
            "name a place in which you may create files",
        ) from error
    merged = Merged()
    try:
        with ThreadPoolExecutor(threads()) as pool:
            tables = _in_order(files, work, partition, merged, pool)
            if partition:
                _write_dataset(tables, work / "out", partition)
            else:
                _write_file(tables, work / "out")
        (work / "out").rename(out)
    except OSError as error:
        raise BadInput(
            f"--out {out}: cannot be written: {error}",
            "while it works, the merge needs several times the space of its input beside it",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return merged


def _in_order(
    files: Sequence[Path],
    work: Path,
    partition: Sequence[str],
    merged: Merged,
    pool: ThreadPoolExecutor,
) -> Iterator[pa.Table]:
    """Fills ``merged``; the tables it gives hold all measurements, each once, in order."""
    order = tuple(dict.fromkeys([*partition, *SORT_COLUMNS]))
    parts = min(MOST_PARTS, 1 + sum(path.stat().st_size for path in files) // PART_BYTES)
    chance = np.random.default_rng(0)
    samples, rows = [], 0
    with Shuffle(work / "by_key", parts, SCHEMA) as by_key:
        for chunk in chunks(_readable(files, pool, merged)):
            rows += chunk.num_rows
            by_key.deal(chunk, hashes(chunk["point_id"]) % parts)
            some = chance.integers(chunk.num_rows, size=-(-chunk.num_rows // _SAMPLED))
            samples.append(chunk.select(order).take(some))
    if not rows:
        raise _nothing(files, merged)
    cuts = limits(pa.concat_tables(samples), order, min(MOST_PARTS, 1 + rows // CHUNK_ROWS))
    ranges = range(cuts.num_rows + 1)
    folders: set[tuple[Any, ...]] = set()
    with Shuffle(work / "by_order", len(ranges), SCHEMA) as by_order:
        for part in ahead(pool, lambda number: _decide(by_key.part(number)), range(parts)):
            merged.rows += part.table.num_rows
            merged.superseded += part.superseded
            merged.repeated += part.repeated
            merged.sites |= set(part.table["site"].unique().to_pylist())
            if partition:
                groups = part.table.group_by(list(partition)).aggregate([]).to_pylist()
                folders |= {tuple(group.values()) for group in groups}
                _check_folders(len(folders), partition)
            by_order.deal(part.table, range_numbers(part.table, cuts, order))
    shutil.rmtree(work / "by_key")
    return ahead(pool, lambda number: in_order(by_order.part(number), order), ranges)


def _readable(
    files: Sequence[Path], pool: ThreadPoolExecutor, merged: Merged
) -> Iterator[pa.Table]:
    """The rows of every file that can be read to its end; notes what is wrong with the others."""
    for path, read in zip(files, ahead(pool, _read, files), strict=True):
        if isinstance(read, BadInput):
            merged.set_aside.append(read)
            continue
        merged.files += 1
        small, unknown = read
        for name in unknown:
            merged.unknown_columns.setdefault(name, []).append(path)
        if small is not None:
            yield small
        else:
            with parquet.open_records(path) as file:
                yield from file.batches()


def _read(path: Path) -> tuple[pa.Table | None, list[str]] | BadInput:
    """(all rows, None where they are many; columns that are not known), or what is wrong."""
    try:
        with parquet.open_records(path) as file:
            if file.rows <= _SMALL:
                return file.table(), file.unknown_columns
            for _ in file.batches():
                pass
            return None, file.unknown_columns
    except BadInput as error:
        return error


@dataclass(frozen=True)
class _Part:
    """The rows that count among those of some points, and how many others there were."""

    table: pa.Table
    superseded: int
    repeated: int


def _decide(table: pa.Table) -> _Part:
    measurements = table.group_by([*KEY_COLUMNS, *ATTEMPT_COLUMNS]).aggregate([]).num_rows
    counting = table.take(best_attempts(table))
    return _Part(
        counting,
        superseded=measurements - counting.num_rows,
        repeated=table.num_rows - measurements,
    )


def _write_file(tables: Iterable[pa.Table], path: Path) -> None:
    with path.open("wb") as stream:
        options = {"compression": "zstd", "write_page_checksum": True}
        with pq.ParquetWriter(stream, _MERGED, **options) as writer:
            for table in tables:
                if table.num_rows:
                    writer.write_table(table.replace_schema_metadata(_MERGED.metadata))
        stream.flush()
        os.fsync(stream.fileno())


def _write_dataset(tables: Iterable[pa.Table], folder: Path, partition: Sequence[str]) -> None:
    kind = ds.ParquetFileFormat()
    batches = (
        batch
        for table in tables
        for batch in table.replace_schema_metadata(_MERGED.metadata).to_batches()
    )
    ds.write_dataset(
        pa.RecordBatchReader.from_batches(_MERGED, batches),
        folder,
        format=kind,
        partitioning=ds.partitioning(
            pa.schema([_MERGED.field(name) for name in partition]), flavor="hive"
        ),
        file_options=kind.make_write_options(compression="zstd", write_page_checksum=True),
        max_rows_per_group=CHUNK_ROWS,
        max_partitions=MOST_PARTITIONS,
        max_open_files=16,
        use_threads=False,
    )


def _check_partition(partition: Sequence[str]) -> None:
    parquet.check_columns(partition)
    for name in partition:
        kind = SCHEMA.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            raise BadInput(
                f"--partition {name}: holds {kind}, which makes no folder's name",
                "name columns of texts or whole numbers, such as site, gpu_name or model",
            )


def _check_folders(count: int, partition: Sequence[str]) -> None:
    if count > MOST_PARTITIONS:
        raise BadInput(
            f"--partition {','.join(partition)}: makes more than {MOST_PARTITIONS} folders",
            "name columns with fewer values, such as site, gpu_name or model",
        )


def _nothing(files: Sequence[Path], merged: Merged) -> BadInput:
    if not merged.set_aside:
        return BadInput(
            f"there is nothing to merge: {len(files)} files, no record",
            "name the folders that were given to hpcbench run as --results",
        )
    first, *others = merged.set_aside
    more = f"\nand {len(others)} more files that cannot be used" if others else ""
    return BadInput(f"there is nothing to merge: {first.message}{more}", first.hint)
