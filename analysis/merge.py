"""Merge the records of any number of sites into one file, each measurement once, in order.

Memory stays bounded however many records there are, by two shuffles over the disk. First the rows
are distributed by a hash of point_id, so that all attempts at one measurement meet in one part,
where the rule of `hpcbench.load_results` decides which counts. What is left is distributed again,
by ranges of the final order whose limits come from a sample; each range is sorted and written. In
memory are never more than a few chunks of CHUNK_ROWS rows, or a few parts.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from hpcbench.analysis.shuffle import (
    Shuffle,
    hash_strings,
    map_ahead,
    range_limits,
    range_numbers,
    regroup_rows,
    sort_rows,
    thread_count,
)
from hpcbench.errors import BadInput
from hpcbench.records import parquet
from hpcbench.records.columns import SCHEMA
from hpcbench.records.frame import ATTEMPT_COLUMNS, KEY_COLUMNS, SORT_COLUMNS, best_attempts
from hpcbench.records.store import record_files

CHUNK_ROWS = 32_768
"""How many rows with all columns are worth a step of their own: about 20 MB."""

PART_BYTES = 16 * 2**20
"""The size of a part in the source files: about twice as many rows as a chunk has."""

MOST_PARTS = 256
"""Each part has an open file, and processes may often have 1024."""

MOST_PARTITIONS = 1000
"""Folders of a dataset; with more, each holds too little to be worth a file."""

_SMALL_ROWS = 4096
"""A file of at most so many rows is read once, larger ones twice: to check, and to merge."""

_SAMPLE_EVERY = 64
"""One row of so many is drawn for the limits of the ranges."""

_MERGED = SCHEMA.with_metadata({**SCHEMA.metadata, **parquet.MERGED})


@dataclass
class MergeSummary:
    """What a merge did.

    Attributes
    ----------
    rows
        Measurements in the result.
    files
        Files that were read.
    superseded
        Rows left out because another attempt at the same measurement counts.
    repeated
        Rows left out because they were there more than once.
    sites
        The sites in the result.
    set_aside
        For each file that was left out, what is wrong with it.
    unknown_columns
        Files by the name of a column that was left out, because it came with a newer hpcbench.
    """

    rows: int = 0
    files: int = 0
    superseded: int = 0
    repeated: int = 0
    sites: set[str] = field(default_factory=set)
    set_aside: list[BadInput] = field(default_factory=list)
    unknown_columns: dict[str, list[Path]] = field(default_factory=dict)


def aggregate(sources: Sequence[Path], out: Path, partition: Sequence[str] = ()) -> MergeSummary:
    """Merge results folders, files and datasets.

    Parameters
    ----------
    sources
        Results folders, Parquet files, or datasets that were made with ``partition``.
    out
        One Parquet file, which is replaced; with ``partition`` a new folder. It appears whole or
        not at all.
    partition
        Columns; the result has a level of folders for each of them.

    Returns
    -------
    MergeSummary
        A measurement is named by (site, point_id, pool, repeat). A file that is damaged, whose
        schema version cannot be migrated, or that has a column of another type, is set aside whole.

    Raises
    ------
    BadInput
        Nothing is left, or ``out`` cannot be written.
    """
    _check_partition(partition)
    files = list(dict.fromkeys(f for path in sources for f in record_files(path)))
    if partition and out.exists():
        raise BadInput(f"--out {out}: already exists", "delete it, or name another folder")
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
    merged = MergeSummary()
    try:
        with ThreadPoolExecutor(thread_count()) as pool:
            tables = _merged_tables(files, work, partition, merged, pool)
            if partition:
                _write_dataset(tables, work / "out", partition)
            else:
                _write_file(tables, work / "out")
        (work / "out").rename(out)
    except OSError as error:
        raise BadInput(
            f"--out {out}: cannot be written: {error}",
            "a merge needs several times the size of its input as free space beside the output",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return merged


def _merged_tables(
    files: Sequence[Path],
    work: Path,
    partition: Sequence[str],
    merged: MergeSummary,
    pool: ThreadPoolExecutor,
) -> Iterator[pa.Table]:
    """Return tables with all measurements, each once, in order; fill ``merged`` meanwhile."""
    order = tuple(dict.fromkeys([*partition, *SORT_COLUMNS]))
    parts = min(MOST_PARTS, 1 + sum(path.stat().st_size for path in files) // PART_BYTES)
    random = np.random.default_rng(0)
    samples, rows = [], 0
    with Shuffle(work / "by_key", parts, SCHEMA) as by_key:
        for chunk in regroup_rows(_readable(files, pool, merged), CHUNK_ROWS):
            rows += chunk.num_rows
            by_key.add(chunk, hash_strings(chunk["point_id"]) % parts)
            some = random.integers(chunk.num_rows, size=-(-chunk.num_rows // _SAMPLE_EVERY))
            samples.append(chunk.select(order).take(some))
    if not rows:
        raise _nothing_to_merge(files, merged)
    cuts = range_limits(pa.concat_tables(samples), order, min(MOST_PARTS, 1 + rows // CHUNK_ROWS))
    ranges = range(cuts.num_rows + 1)
    folders: set[tuple[Any, ...]] = set()
    with Shuffle(work / "by_order", len(ranges), SCHEMA) as by_order:
        chosen = map_ahead(pool, lambda n: _choose_attempts(by_key.read_part(n)), range(parts))
        for part in chosen:
            merged.rows += part.table.num_rows
            merged.superseded += part.superseded
            merged.repeated += part.repeated
            merged.sites |= set(part.table["site"].unique().to_pylist())
            if partition:
                groups = part.table.group_by(list(partition)).aggregate([]).to_pylist()
                folders |= {tuple(group.values()) for group in groups}
                _check_folders(len(folders), partition)
            by_order.add(part.table, range_numbers(part.table, cuts, order))
    shutil.rmtree(work / "by_key")
    return map_ahead(pool, lambda number: sort_rows(by_order.read_part(number), order), ranges)


def _readable(
    files: Sequence[Path], pool: ThreadPoolExecutor, merged: MergeSummary
) -> Iterator[pa.Table]:
    """Yield the rows of every file that can be read to its end; note what is wrong with others."""
    for path, read in zip(files, map_ahead(pool, _read, files), strict=True):
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
    """Return the rows (None: too many to hold) and unknown columns, or what is wrong."""
    try:
        with parquet.open_records(path) as file:
            if file.rows <= _SMALL_ROWS:
                return file.table(), file.unknown_columns
            # A damaged page shows only when it is read, and no row of such a file may be merged.
            for _ in file.batches():
                pass
            return None, file.unknown_columns
    except BadInput as error:
        return error


@dataclass(frozen=True)
class _Part:
    """The rows that count, and how many others there were."""

    table: pa.Table
    superseded: int
    repeated: int


def _choose_attempts(table: pa.Table) -> _Part:
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
        # Durable before it is renamed: after a crash there is the old file or the whole new one.
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
                f"--partition {name}: holds {kind}, which cannot name a folder",
                "name columns of strings or whole numbers, such as site, gpu_name or model",
            )


def _check_folders(count: int, partition: Sequence[str]) -> None:
    if count > MOST_PARTITIONS:
        raise BadInput(
            f"--partition {','.join(partition)}: makes more than {MOST_PARTITIONS} folders",
            "name columns with fewer values, such as site, gpu_name or model",
        )


def _nothing_to_merge(files: Sequence[Path], merged: MergeSummary) -> BadInput:
    if not merged.set_aside:
        return BadInput(
            f"there is nothing to merge: {len(files)} files without a record",
            "name the folders that were given to hpcbench run as --results",
        )
    first, *others = merged.set_aside
    more = f"\nand {len(others)} more files that cannot be used" if others else ""
    return BadInput(f"there is nothing to merge: {first.message}{more}", first.hint)
