"""One Parquet file of records: read as a table of today's columns, or refused with the reason.

A file says with which version of the columns it was written. An older one is migrated step by
step, a newer one is refused. Within a version, columns may only be added: null where a file lacks
them.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hpcbench.errors import BadInput, DamagedFile, did_you_mean
from hpcbench.records.columns import SCHEMA, SCHEMA_VERSION, Record, Status
from hpcbench.records.metadata import check_size, columns_without_value
from hpcbench.records.migrations import MIGRATIONS
from hpcbench.records.roles import may_become

BATCH_ROWS = 16_384
"""How many rows of a large file are in memory at once."""

MERGED = {b"hpcbench_merged": b"2"}
"""Metadata of a file that holds each measurement once, and in order. What was merged by another
rule for which attempt counts has another number."""

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""A missing value in the name of a folder, as Hive, Arrow, Spark and DuckDB write it."""

_NAMES = frozenset(SCHEMA.names)
REQUIRED = tuple(entry.name for entry in fields(Record) if entry.default is MISSING)
"""The columns that have a value in every row."""


def check_columns(names: Iterable[str]) -> None:
    """Check that these are columns of the table.

    Parameters
    ----------
    names
        Names that a user gave.

    Raises
    ------
    BadInput
        For a name that is not a column, with the nearest that is.
    """
    for name in names:
        if name not in _NAMES:
            guess = did_you_mean(name, SCHEMA.names)
            raise BadInput(
                f"there is no column '{name}'{guess and ';' + guess}",
                "hpcbench/records/columns.py lists all columns",
            )


@dataclass(frozen=True)
class RecordFile:
    """A Parquet file of records, open for reading. Whatever is wrong with it raises BadInput.

    Attributes
    ----------
    path
        The file.
    parquet
        Arrow's reader of it.
    schema
        The columns that it has.
    version
        The version of the columns that it was written with.
    """

    path: Path
    parquet: pq.ParquetFile
    schema: pa.Schema
    version: int

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self.parquet.metadata.num_rows)

    @property
    def unknown_columns(self) -> list[str]:
        """Columns that a newer hpcbench of this schema version has added; they are not read."""
        names = self.schema.names if self.version == SCHEMA_VERSION else []
        return [name for name in names if name not in _NAMES]

    def check(self) -> None:
        """Check the columns without reading the rows.

        Raises
        ------
        BadInput
            Where a column is missing or has another type.
        """
        _conformed(self.schema.empty_table(), SCHEMA.names, self.path)

    def table(self, columns: Sequence[str] = tuple(SCHEMA.names)) -> pa.Table:
        """Return all rows.

        Parameters
        ----------
        columns
            The columns to read; all by default.

        Returns
        -------
        pyarrow.Table
            With the types of today.
        """
        # For a few rows, starting threads takes longer than reading.
        threads = self.rows > BATCH_ROWS
        table = self.parquet.read(columns=self._stored(columns), use_threads=threads)
        return _conformed(_migrated(table, self.version), columns, self.path)

    def batches(
        self, columns: Sequence[str] = tuple(SCHEMA.names), coded: Sequence[str] = ()
    ) -> Iterator[pa.Table]:
        """Return all rows in pieces, so that a large file need not fit into memory.

        Parameters
        ----------
        columns
            The columns to read; all by default.
        coded
            Those of them that may come as Arrow's dictionaries, as they are stored: it takes half
            the time. They do where they are strings in the file.

        Yields
        ------
        pyarrow.Table
            At most `BATCH_ROWS` rows.
        """
        strings = {field.name for field in self.schema if field.type == pa.string()}
        strings -= {*self._migrated_columns, *self._without_value}
        texts = [name for name in coded if name in strings]
        names = [name for name in columns if name not in texts]
        again = _open(self.path, self.parquet.metadata, texts) if texts else None
        with again or nullcontext(self.parquet) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=self._stored(columns)):
                table = pa.Table.from_batches([batch])
                found = _conformed(_migrated(table, self.version), names, self.path)
                for name in texts:
                    found = found.append_column(name, table[name])
                yield found.select(columns)

    @property
    def _migrated_columns(self) -> list[str]:
        steps = range(self.version, SCHEMA_VERSION)
        return [name for step in steps for name in MIGRATIONS[step].reads]

    def _stored(self, names: Sequence[str]) -> list[str]:
        """The columns to read for ``names``."""
        known = set(self.schema.names) - self._without_value
        found = [n for n in dict.fromkeys([*names, *self._migrated_columns]) if n in known]
        # Of no column at all, Arrow does not tell how many rows there are.
        return found or self.schema.names[:1]

    @cached_property
    def _without_value(self) -> frozenset[str]:
        return columns_without_value(self.parquet.metadata) - {*REQUIRED}


def _open(
    path: Path, metadata: pq.FileMetaData | None = None, coded: Sequence[str] = ()
) -> pq.ParquetFile:
    return pq.ParquetFile(
        path, metadata=metadata, read_dictionary=coded, page_checksum_verification=True
    )


@contextmanager
def open_records(path: Path) -> Iterator[RecordFile]:
    """Open a file of records.

    Parameters
    ----------
    path
        The file.

    Yields
    ------
    RecordFile
        The file, while the block lasts.

    Raises
    ------
    BadInput
        Where it cannot be read. The message names it.
    FileNotFoundError
        Where it is not there: a run at work merges files while others read them.
    """
    try:
        with _open(path) as parquet:
            schema = parquet.schema_arrow
            check_size(path, parquet.metadata)
            yield RecordFile(path, parquet, schema, _version(path, schema.metadata or {}))
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise BadInput(f"{path}: may not be read", "ask whoever owns it to let you") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(
            f"{path}: is not a whole Parquet file: {error}",
            "move it elsewhere; the next run measures again what it held",
            path,
        ) from error


def check_file(path: Path) -> None:
    """Check the version and the columns of a file.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    BadInput
        Where it cannot be read.
    """
    with open_records(path) as file:
        file.check()


def is_merged(path: Path) -> bool:
    """Return whether a file holds each measurement once, in the order of a table of results.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    bool
        True for what ``hpcbench aggregate`` wrote.
    """
    with open_records(path) as file:
        return MERGED.items() <= (file.schema.metadata or {}).items()


def read_file(
    path: Path, columns: Sequence[str] | None = None, points: Collection[str] | None = None
) -> pa.Table:
    """Return rows of one file.

    Parameters
    ----------
    path
        The file.
    columns
        The columns to read; all by default.
    points
        The point_ids whose rows to read; all by default.

    Returns
    -------
    pyarrow.Table
        With the types of today.

    Raises
    ------
    BadInput
        Where the file cannot be read.
    """
    names = SCHEMA.names if columns is None else list(dict.fromkeys(columns))
    with open_records(path) as file:
        if points is None:
            return file.table(names)
        ids = pa.array(points, pa.string())
        found = (
            table.filter(pc.is_in(table["point_id"], ids)).select(names)
            for table in file.batches(list(dict.fromkeys([*names, "point_id"])))
        )
        return pa.concat_tables([_today(tuple(names)).empty_table(), *found])


@cache
def _today(names: tuple[str, ...]) -> pa.Schema:
    return pa.schema([SCHEMA.field(name) for name in names], metadata=SCHEMA.metadata)


def _version(path: Path, metadata: dict[bytes, bytes]) -> int:
    text = metadata.get(b"hpcbench_schema", b"none").decode(errors="replace")
    reads = (
        f"{path}: has schema version {text}; this hpcbench reads and writes "
        f"version {SCHEMA_VERSION}"
    )
    if not text.isdecimal():
        raise BadInput(reads, "name files that hpcbench has written")
    version = int(text)
    if version > SCHEMA_VERSION:
        hint = "read it with a newer hpcbench; for a new run, give --results another folder"
        raise BadInput(reads, hint)
    if any(step not in MIGRATIONS for step in range(version, SCHEMA_VERSION)):
        hint = "read it with the hpcbench that wrote it, and give --results another folder"
        raise BadInput(f"{reads} and cannot convert the older one", hint)
    return version


def _migrated(table: pa.Table, version: int) -> pa.Table:
    for step in range(version, SCHEMA_VERSION):
        table = MIGRATIONS[step].migrate(table)
    return table


def _conformed(table: pa.Table, names: Sequence[str], path: Path) -> pa.Table:
    """The columns ``names`` with their types of today, whether the file has them or not."""
    wanted = _today(tuple(names))
    if "status" in names and "status" in table.column_names:
        _check_statuses(table["status"], path)
    if table.schema.equals(wanted):
        return table.replace_schema_metadata(wanted.metadata)
    given = _partition(path)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    if missing := [n for n in names if n in REQUIRED and n not in columns and n not in given]:
        raise BadInput(
            f"{path}: these columns are missing, which every record has: {', '.join(missing)}",
            "name files that hpcbench has written",
        )
    arrays = [
        _cast(columns[field.name], field, path)
        if field.name in columns
        else _repeated(given.get(field.name), field, path, table.num_rows)
        for field in wanted
    ]
    return pa.table(arrays, schema=wanted)


def _check_statuses(column: pa.ChunkedArray, path: Path) -> None:
    found = pc.unique(column).to_pylist()
    if unknown := [status for status in found if status not in _STATUSES]:
        raise BadInput(
            f"{path}: column status holds {unknown[0]!r}; it must be one of {', '.join(_STATUSES)}",
            "another program has written or changed this file; use the one that hpcbench wrote",
        )


_STATUSES = tuple(map(str, Status))


def _cast(column: pa.ChunkedArray, field: pa.Field, path: Path) -> pa.ChunkedArray:
    """``column`` as the field's type, where nothing is lost by that."""
    if column.type == field.type:
        return column
    problem = f"{path}: column {field.name} is {column.type} there; it must be {field.type}"
    hint = "another program has written or changed this file; use the one that hpcbench wrote"
    if not may_become(column.type, field.type):
        raise BadInput(problem, hint)
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid as error:
        raise BadInput(f"{problem}, and does not fit: {error}", hint) from error


def _repeated(text: str | None, field: pa.Field, path: Path, count: int) -> pa.Array:
    """A column that the file has not: the value in the name of its folder, or none."""
    if text is None:
        # Not pa.scalar, which imports pandas.
        return pa.nulls(count, field.type)
    try:
        return pa.repeat(pa.scalar(text, pa.string()).cast(field.type), count)
    except pa.ArrowInvalid as error:
        raise BadInput(
            f"{path}: the folder {field.name}={text} must name a value of type {field.type}",
            "give the folder the name back that hpcbench aggregate gave it",
        ) from error


def _partition(path: Path) -> dict[str, str | None]:
    """What the names of the folders say about the rows: ``.../site=cern/pool=gpu/0.parquet``."""
    pairs = (part.partition("=") for part in path.absolute().parts[:-1])
    return {
        name: None if text == NULL_PARTITION else unquote(text)
        for name, equals, text in pairs
        if equals and name in _NAMES
    }
