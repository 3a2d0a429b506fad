"""Writes, reads and merges results: Parquet files under a results folder.

Files appear whole or not at all: each is written under a hidden name, flushed to the disk and
renamed. A point is durable in a file of its own as soon as it ends; when its placement ends,
these are merged into one, so that shared file systems are not filled with small files.
"""

import contextlib
import fcntl
import logging
import os
import socket
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hpcbench.config.load_axes import LOAD_COLUMNS
from hpcbench.errors import BadInput
from hpcbench.records import parquet
from hpcbench.records.columns import FINAL, MEASURED, SCHEMA, Key, Record

log = logging.getLogger(__name__)

READ_ATTEMPTS = 10
"""How often a folder is listed anew where a run at work joins files meanwhile."""


@dataclass(frozen=True)
class Results:
    """The only place that knows the names inside a results folder."""

    folder: Path

    @property
    def records(self) -> Path:
        return self.folder / "records"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def campaign(self) -> Path:
        return self.folder / "campaign.yaml"

    @property
    def site(self) -> Path:
        return self.folder / "site.yaml"

    @property
    def plan(self) -> Path:
        return self.folder / "plan.parquet"

    @property
    def state(self) -> Path:
        return self.folder / "run.json"

    @property
    def ledger(self) -> Path:
        return self.folder / "jobs.jsonl"

    @property
    def keys(self) -> Path:
        return self.folder / ".keys"

    @property
    def cancel(self) -> Path:
        return self.folder / ".cancel"

    def create(self) -> None:
        """Makes the folder. Raises BadInput where that, or writing into it, is not possible."""
        try:
            for path in (self.records, self.logs):
                path.mkdir(parents=True, exist_ok=True)
            for path in (self.folder, self.records, self.logs):
                probe = path / f".probe-{uuid.uuid4().hex}"
                probe.write_bytes(b"")
                probe.unlink()
        except OSError as error:
            raise BadInput(
                f"--results {self.folder}: cannot be written: {error.strerror}",
                "name a folder in which you may create files",
            ) from error


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """``path`` holds ``content`` after this, or what it held before, whatever happens.

    Where it is not to be ``durable``, only a crash of the machine may leave neither.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        if durable:
            os.fsync(stream.fileno())
    temporary.rename(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_records(path: Path, records: Sequence[Record]) -> None:
    """One Parquet file with these records, in their order."""
    columns = {name: [getattr(record, name) for record in records] for name in SCHEMA.names}
    _write_table(path, pa.table(columns, schema=SCHEMA))


SMALL_FILE: dict[str, Any] = {
    "compression": "snappy",
    "use_dictionary": False,
    "write_statistics": False,
    "write_page_checksum": True,
}
"""How a file of a few hundred rows is written: as small as with zstd, and read twice as fast."""


def _write_table(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **SMALL_FILE)
    write_atomically(path, sink.getvalue().to_pybytes())


def write_point(results: Results, record: Record) -> Path:
    """Makes one record durable in a file of its own."""
    name = f"{record.placement_id}-{record.point_id}-{record.repeat}.parquet"
    write_records(results.records / name, [record])
    return results.records / name


def recorded_keys(results: Results, placement_id: str) -> set[Key]:
    """The points of a placement that were recorded since the run began, however they ended.

    Older ones lie in merged files by then.
    """
    names = ("point_id", "pool", "repeat")
    parts = results.records.glob(f"{placement_id}-*.parquet")
    return {
        (row["point_id"], row["pool"], row["repeat"])
        for path in parts
        for row in parquet.read_file(path, names).to_pylist()
    }


def merge_points(results: Results, placement_id: str) -> None:
    """Joins the files of a placement's points into one, then deletes them."""
    parts = sorted(results.records.glob(f"{placement_id}-*.parquet"))
    if parts:
        _merge(results, placement_id, parts)


def _merge(results: Results, placement_id: str, parts: list[Path]) -> None:
    whole = results.records / f"{placement_id}.parquet"
    tables = [parquet.read_file(path) for path in ([whole] if whole.exists() else []) + parts]
    # Killed between the renaming and the deleting, the last merge left its parts behind.
    rows = {str(row): row for table in tables for row in table.to_pylist()}
    write_records(whole, [Record(**row) for row in rows.values()])
    for path in parts:
        path.unlink(missing_ok=True)


def recover_records(results: Results) -> None:
    """Does what a killed run left undone: merges points, deletes half-written files.

    Raises BadInput, before any record is touched, where a file is not one of this schema.
    """
    for folder in (results.folder, results.records):
        for path in (*folder.glob(".*.tmp"), *folder.glob(".probe-*")):
            path.unlink(missing_ok=True)
    for path in record_files(results.folder):
        parquet.check_file(path)
    parts: dict[str, list[Path]] = {}
    for path in sorted(results.records.glob("*-*.parquet")):
        parts.setdefault(path.stem.split("-")[0], []).append(path)
    for placement_id, its in parts.items():
        _merge(results, placement_id, its)


def record_files(path: Path) -> list[Path]:
    """The Parquet files of a results folder or of a partitioned dataset, or the one file named."""
    if path.is_file():
        return [path]
    records = Results(path).records
    if records.is_dir():
        return sorted(p for p in records.glob("*.parquet") if not p.name.startswith("."))
    files = sorted(p for p in path.rglob("*.parquet") if "=" in p.absolute().parent.name)
    if not files:
        raise BadInput(
            f"{path}: is neither a results folder nor a Parquet file, nor a dataset that "
            "hpcbench aggregate has partitioned",
            "name the folder that was given to hpcbench run as --results",
        )
    return files


def read_table(
    path: Path, columns: Sequence[str] | None = None, points: Collection[str] | None = None
) -> pa.Table:
    """All rows under ``path``, also superseded ones. Raises BadInput for a file it can't read.

    Of these ``columns`` only, and of the points with these ids only, where they are given.
    """
    names = SCHEMA.names if columns is None else list(dict.fromkeys(columns))
    parquet.check_columns(names)
    tables = _read_all(path, names, points)
    empty = pa.schema([SCHEMA.field(name) for name in names], SCHEMA.metadata).empty_table()
    return pa.concat_tables([empty, *tables])


def _read_all(path: Path, names: Sequence[str], points: Collection[str] | None) -> list[pa.Table]:
    """The tables of all files; those that a run at work has joined meanwhile are listed anew."""
    for _ in range(READ_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            return [parquet.read_file(file, names, points) for file in record_files(path)]
    raise BadInput(
        f"{path}: its files vanish while they are read", "read it when no run is at work"
    )


def load_results(
    path: str | Path,
    columns: Sequence[str] | None = None,
    points: Collection[str] | None = None,
    *,
    categories: bool = False,
) -> pd.DataFrame:
    """One row per measurement: columns as in `hpcbench.records.columns`, typed, missing is NA or
    None.

    ``path`` is a results folder, or what ``hpcbench aggregate`` made of several. With ``columns``
    only these are read, with ``points`` only the rows of these point_ids; both save time and
    memory. Where a measurement was made more than once, a measured row comes before a failed one,
    then the later before the earlier. With ``categories`` texts other than point_id are pandas
    categories, which takes a fifth of the memory. Raises BadInput if ``path`` holds no results.
    """
    names = SCHEMA.names if columns is None else list(columns)
    path = Path(path)
    if not (path.is_file() and parquet.is_merged(path)):
        table = read_table(
            path, [*names, *KEY_COLUMNS, "status", *ATTEMPT_COLUMNS, *SORT_COLUMNS], points
        )
        table = table.select(names).take(best_attempts(table))
        table = _in_categories([table]) if categories else table
    elif categories and points is None:
        parquet.check_columns(names)
        with parquet.open_records(path) as file:
            table = _in_categories(file.batches(names)) if file.rows else file.table(names)
    else:
        table = read_table(path, names, points)
    lists = [field.name for field in table.schema if pa.types.is_list(field.type)]
    rest = table.drop_columns(lists)
    frame: pd.DataFrame = rest.to_pandas(types_mapper=_PANDAS_TYPES.get)
    for name in lists:
        frame[name] = pd.Series(list(_tuples(table[name])), index=frame.index, dtype=object)
    ordered: pd.DataFrame = frame[table.column_names]
    del table, rest
    # What was only needed for reading would else be kept for later.
    pa.default_memory_pool().release_unused()
    return ordered


def _in_categories(tables: Iterable[pa.Table]) -> pa.Table:
    """The tables as one, in which each text but a point_id is held once."""

    def coded(table: pa.Table) -> pa.Table:
        for place, field in enumerate(table.schema):
            if pa.types.is_string(field.type) and field.name != "point_id":
                table = table.set_column(place, field.name, table[field.name].dictionary_encode())
        return table

    return pa.concat_tables(map(coded, tables)).unify_dictionaries()


def _tuples(column: pa.ChunkedArray) -> Iterator[tuple[Any, ...] | None]:
    """Each list as a tuple; equal ones are one object as long as they are few."""
    known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for start in range(0, len(column), parquet.BATCH_ROWS):
        for values in column.slice(start, parquet.BATCH_ROWS).to_pylist():
            if values is None:
                yield None
                continue
            found = tuple(values)
            yield known.setdefault(found, found) if len(known) < _MOST_KNOWN else found


_MOST_KNOWN = 1000


KEY_COLUMNS = ("site", "point_id", "pool", "repeat")
"""What names a measurement among those of many sites: pools of two may have one name."""

ATTEMPT_COLUMNS = ("ended_at", "placement_id")
"""What tells one attempt at a measurement from the next."""

SORT_COLUMNS = (
    *("model_position", "model_label", "pool", "variant", "batch_size", "concurrency", "repeat"),
    *("site", "point_id"),
)
"""The order of a table of results; what is missing comes last."""


def best_attempts(table: pa.Table) -> pa.Array:
    """The positions of the rows that count in a table that has at least these columns, in ORDER."""
    measured = pc.is_in(table["status"], pa.array(sorted(MEASURED))).cast(pa.int8())
    ended = pc.fill_null(table["ended_at"].cast(pa.int64()), 0)
    rank = pa.table([measured, ended, table["placement_id"]], names=["1", "2", "3"])
    by_rank = pc.sort_indices(rank, sort_keys=[(name, "ascending") for name in rank.column_names])
    keys = table.select(KEY_COLUMNS).take(by_rank).to_pandas(types_mapper=_PANDAS_TYPES.get)
    last = by_rank.filter(pa.array(~keys.duplicated(keep="last").to_numpy()))
    order = table.select(SORT_COLUMNS).take(last)
    return last.take(
        pc.sort_indices(order, sort_keys=[(name, "ascending") for name in SORT_COLUMNS])
    )


_PANDAS_TYPES = {
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(),
}


PLAN_SCHEMA = pa.schema(
    [
        SCHEMA.field(name)
        for name in (
            *("point_id", "pool", "repeat", "together_id", "model_label", "model_version"),
            *("variant", "variant_name", "beside", "shapes_name", *LOAD_COLUMNS),
        )
    ],
    metadata=SCHEMA.metadata,
)
"""What a run sets out to measure; with it, what is missing can be told without the models."""


def write_plan(results: Results, rows: list[dict[str, Any]]) -> None:
    """Replaces the plan by these rows, with the columns of PLAN."""
    _write_table(results.plan, pa.Table.from_pylist(rows, schema=PLAN_SCHEMA))


def read_plan(results: Results) -> list[dict[str, Any]]:
    """What the newest run set out to measure. Raises BadInput where none has been started."""
    if not results.plan.is_file():
        raise BadInput(
            f"{results.folder}: no run has been started in this folder",
            "name the folder that was given to hpcbench run as --results",
        )
    rows: list[dict[str, Any]] = parquet.read_file(results.plan, PLAN_SCHEMA.names).to_pylist()
    return rows


def read_statuses(results: Results) -> dict[Key, tuple[str, str | None]]:
    """(status, reason) of every measurement there is, read without the other columns."""
    if not results.records.is_dir():
        return {}
    names = ("point_id", "pool", "repeat", "status", "reason", "ended_at")
    rows: Iterable[dict[str, Any]] = read_table(results.folder, names).to_pylist()
    found: dict[Key, tuple[str, str | None]] = {}
    for row in sorted(rows, key=lambda r: (r["status"] in MEASURED, str(r["ended_at"] or ""))):
        found[row["point_id"], row["pool"], row["repeat"]] = row["status"], row["reason"]
    return found


def finished_keys(results: Results) -> set[Key]:
    """The measurements that need not be made again: measured, or never possible."""
    return {key for key, (status, _) in read_statuses(results).items() if status in FINAL}


@contextmanager
def lock_folder(results: Results) -> Iterator[None]:
    """Keeps a second run out of the folder while the block lasts, and after a crash no longer."""
    with (results.folder / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise BadInput(
                f"--results {results.folder}: another run is at work in it: {stream.read()}",
                "wait for it, end it, or name another folder",
            ) from error
        except OSError as error:
            # Some shared file systems are mounted without locks.
            log.warning("%s cannot be locked: %s", results.folder, error.strerror)
        stream.seek(0)
        stream.truncate()
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
        yield


def is_folder_locked(results: Results) -> bool:
    """Whether a run is at work in the folder now."""
    try:
        with (results.folder / ".lock").open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
