"""The records and the plan in a results folder: written, merged and read as Parquet files.

A point is durable in a file of its own as soon as it ends. When its placement ends, these
files are merged into one, so that a shared file system is not filled with small files.
"""

import contextlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from hpcbench.errors import BadInput, DamagedFile
from hpcbench.records import parquet
from hpcbench.records.columns import FINAL, MEASURED, SCHEMA, Key, Record, names_with
from hpcbench.records.folder import Results, folders_of_campaign, write_atomically
from hpcbench.records.roles import Role
from hpcbench.records.session import read_session

# A run at work merges files while others read them. The folder is then listed again.
_READ_ATTEMPTS = 10


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write one Parquet file.

    Parameters
    ----------
    path
        The file.
    records
        Its rows, in this order.
    """
    columns = {name: [getattr(record, name) for record in records] for name in SCHEMA.names}
    _write_table(path, pa.table(columns, schema=SCHEMA))


SMALL_FILE: dict[str, Any] = {
    "compression": "snappy",
    "use_dictionary": False,
    "write_statistics": False,
    "write_page_checksum": True,
}
"""How a file of a few hundred rows is written. It is as small as with zstd, and reads in half the
time."""


def _write_table(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **SMALL_FILE)
    write_atomically(path, sink.getvalue().to_pybytes())


def write_point(results: Results, record: Record) -> Path:
    """Make one record durable in a file of its own.

    Parameters
    ----------
    results
        The results folder.
    record
        What was measured.

    Returns
    -------
    Path
        The file.
    """
    name = f"{record.placement_id}-{record.point_id}-{record.repeat}.parquet"
    write_records(results.records / name, [record])
    return results.records / name


def recorded_keys(results: Results, placement_id: str) -> set[Key]:
    """Return the points of a placement that this run need not measure any more.

    Parameters
    ----------
    results
        The results folder.
    placement_id
        The placement.

    Returns
    -------
    set of Key
        Those in files of their own, however they ended: earlier runs' were merged when this one
        began. Of the merged ones those that are final: another worker may have had this placement.
    """
    found = finished_keys_of(results, placement_id)
    for path in results.records.glob(f"{placement_id}-*.parquet"):
        # One that is damaged holds nothing; the merge moves it aside.
        with contextlib.suppress(DamagedFile):
            found |= {_key(row) for row in parquet.read_file(path, _KEY).to_pylist()}
    return found


def finished_keys_of(results: Results, placement_id: str) -> set[Key]:
    """Return the points of a placement whose merged records are final.

    Parameters
    ----------
    results
        The results folder.
    placement_id
        The placement.

    Returns
    -------
    set of Key
        Empty where nothing of it was merged yet.
    """
    whole = merged_file(results, placement_id)
    if not whole.exists():
        return set()
    rows = parquet.read_file(whole, (*_KEY, "status")).to_pylist()
    return {_key(row) for row in rows if row["status"] in FINAL}


_KEY = ("point_id", "pool", "repeat")


def _key(row: dict[str, Any]) -> Key:
    return row["point_id"], row["pool"], row["repeat"]


def merged_file(results: Results, placement_id: str) -> Path:
    """Return the file of a placement's points once they are merged.

    Parameters
    ----------
    results
        The results folder.
    placement_id
        The placement.

    Returns
    -------
    Path
        The file, whether it is there or not.
    """
    return results.records / f"{placement_id}.parquet"


def record_files(path: Path) -> list[Path]:
    """Return the files of records.

    Parameters
    ----------
    path
        A results folder, a partitioned dataset, or one file.

    Returns
    -------
    list of Path
        The Parquet files, sorted; the file itself where one was named.

    Raises
    ------
    BadInput
        Where it is none of these.
    """
    if path.is_file() and _is_parquet(path):
        return [path]
    records = Results(path).records
    if records.is_dir():
        return sorted(p for p in records.glob("*.parquet") if not p.name.startswith("."))
    files = sorted(p for p in path.rglob("*.parquet") if "=" in p.absolute().parent.name)
    if not files:
        what = "is neither a results folder nor a Parquet file, nor a dataset that "
        what, found = f"{what}hpcbench aggregate has partitioned", []
        if path.suffix in (".yaml", ".yml") and path.is_file():
            what, found = "is a campaign or a site file, and no results", folders_of_campaign(path)
        name = f"results of this campaign are in {' and '.join(map(str, found))}"
        raise BadInput(
            f"{path}: {what}",
            name if found else "name the folder that hpcbench run was given as --results",
        )
    return files


def _is_parquet(path: Path) -> bool:
    """Whether it is such a file by its name, damaged or not, or by its first bytes."""
    if path.suffix == ".parquet":
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return True  # whoever reads it says why that fails


OnDamage = Callable[[DamagedFile], object]
"""Called with each damaged file, whose rows are then left out."""


def read_table(
    path: Path,
    columns: Sequence[str] | None = None,
    points: Collection[str] | None = None,
    on_damage: OnDamage | None = None,
) -> pa.Table:
    """Return all rows of a results folder or file, superseded ones included.

    Parameters
    ----------
    path
        A results folder, a partitioned dataset, or one file.
    columns
        The columns to read; all by default.
    points
        The point_ids whose rows to read; all by default.
    on_damage
        Called with each damaged file; by default a damaged file is an error.

    Returns
    -------
    pyarrow.Table
        The rows, in the order of the files.

    Raises
    ------
    BadInput
        Where a file cannot be read, all are damaged, or there is no such column.
    """
    names = SCHEMA.names if columns is None else list(dict.fromkeys(columns))
    parquet.check_columns(names)
    tables = _read_all(path, names, points, on_damage)
    schema = pa.schema([SCHEMA.field(name) for name in names], SCHEMA.metadata)
    # Not schema.empty_table(), which imports pandas, and with it half of the time of a command.
    empty = pa.Table.from_batches([], schema)
    return pa.concat_tables([empty, *tables])


def _read_all(
    path: Path,
    names: Sequence[str],
    points: Collection[str] | None,
    on_damage: OnDamage | None,
) -> list[pa.Table]:
    for _ in range(_READ_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            return _read_files(record_files(path), names, points, on_damage)
    raise BadInput(
        f"{path}: its files disappear while they are read", "read it when no run is using it"
    )


def _read_files(
    files: Sequence[Path],
    names: Sequence[str],
    points: Collection[str] | None,
    on_damage: OnDamage | None,
) -> list[pa.Table]:
    tables, damaged = [], []
    for file in files:
        try:
            tables.append(parquet.read_file(file, names, points))
        except DamagedFile as error:
            if on_damage is None:
                raise
            damaged.append(error)
    if damaged and not tables:
        raise damaged[0]
    for each in damaged:
        assert on_damage is not None
        on_damage(each)
    return tables


ASKED_COLUMNS = names_with(Role.LOAD, Role.CALL, Role.WINDOW)
"""What a point asks of perf_analyzer."""

PLAN_SCHEMA = pa.schema(
    [
        SCHEMA.field(name)
        for name in (
            *("point_id", "pool", "repeat", "together_id", "model_label", "model_version"),
            *("model_digest", "variant", "server_flags", *ASKED_COLUMNS, "input_data_digest"),
            *("request_intervals", "request_intervals_s"),
        )
    ],
    metadata=SCHEMA.metadata,
)
"""The columns of a plan. They are enough to say what is missing without reading the models."""

_EMPTY_PLAN = pa.Table.from_batches([], PLAN_SCHEMA)


def write_plan(results: Results, rows: list[dict[str, Any]]) -> None:
    """Replace the plan.

    Parameters
    ----------
    results
        The results folder.
    rows
        One mapping per measurement, with the columns of `PLAN_SCHEMA`.
    """
    # Through JSON: to build a table from Python's values, pyarrow imports pandas, and the workers
    # would start 0.3 s later.
    lines = io.BytesIO("\n".join(map(json.dumps, rows)).encode())
    options = pyarrow.json.ParseOptions(explicit_schema=PLAN_SCHEMA)
    table = pyarrow.json.read_json(lines, parse_options=options) if rows else _EMPTY_PLAN
    _write_table(results.plan, table.replace_schema_metadata(PLAN_SCHEMA.metadata))


def read_plan(results: Results) -> list[dict[str, Any]]:
    """Return what the newest run set out to measure.

    Parameters
    ----------
    results
        The results folder.

    Returns
    -------
    list of dict
        One mapping per measurement, with the columns of `PLAN_SCHEMA`.

    Raises
    ------
    BadInput
        Where no run has been started in the folder.
    """
    if not results.plan.is_file():
        problem = "there is no such folder"
        if results.folder.exists():
            problem = "is a file, not a results folder"
        if results.folder.is_dir():
            problem = "no run has been started in this folder"
        raise BadInput(
            f"{results.folder}: {problem}",
            "name the folder that was given to hpcbench run as --results",
        )
    rows: list[dict[str, Any]] = parquet.read_file(results.plan, PLAN_SCHEMA.names).to_pylist()
    return rows


def read_statuses(
    results: Results, on_damage: OnDamage | None = None
) -> dict[Key, tuple[str, str | None]]:
    """Return how each measurement of the newest session ended.

    Parameters
    ----------
    results
        The results folder.
    on_damage
        Called with each damaged file; by default a damaged file is an error.

    Returns
    -------
    dict
        (status, reason) by key. Of several attempts, the last measured one; where none was
        measured, the last.
    """
    if not results.records.is_dir():
        return {}
    session = read_session(results)
    names = (*_KEY, "status", "reason", "ended_at", "placement_id", "run_id")
    table = read_table(results.folder, names, on_damage=on_damage)
    # As numbers: to make Python's datetimes of them, pyarrow imports pandas.
    ended = table["ended_at"].cast(pa.int64())
    table = table.set_column(names.index("ended_at"), "ended_at", ended)
    rows: Iterable[dict[str, Any]] = table.to_pylist()
    if session is not None:
        rows = [row for row in rows if session.has(row["run_id"])]
    found: dict[Key, tuple[str, str | None]] = {}
    # Which attempt counts, `hpcbench.records.frame.best_attempts` says in the same way.
    for row in sorted(
        rows, key=lambda r: (r["status"] in MEASURED, r["ended_at"] or 0, r["placement_id"])
    ):
        found[_key(row)] = row["status"], row["reason"]
    return found


def finished_keys(results: Results, on_damage: OnDamage | None = None) -> set[Key]:
    """Return the measurements that a run need not make again.

    Parameters
    ----------
    results
        The results folder.
    on_damage
        Called with each damaged file; by default a damaged file is an error.

    Returns
    -------
    set of Key
        Those whose status is in `hpcbench.records.columns.FINAL`.
    """
    return {
        key for key, (status, _) in read_statuses(results, on_damage).items() if status in FINAL
    }
