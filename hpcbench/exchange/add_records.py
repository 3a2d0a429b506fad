"""Imported records join a results folder, and its plan."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcbench.records import parquet, store
from hpcbench.records.columns import Record
from hpcbench.records.folder import Results, lock_folder

_NOT_COMPARED = {"ended_at", "hpcbench_version"}


def add_records(records: Sequence[Record], results: Path) -> None:
    """Add imported records to a results folder.

    Parameters
    ----------
    records
        The records.
    results
        The results folder; it is made where it is not there.
    """
    where = Results(results)
    where.create()
    with lock_folder(where):
        for placement_id in dict.fromkeys(record.placement_id for record in records):
            path = where.records / f"{placement_id}.parquet"
            rows = parquet.read_file(path).to_pylist() if path.exists() else []
            rows += [
                {**vars(record), "status": str(record.status)}
                for record in records
                if record.placement_id == placement_id
            ]
            # A file that says the same as before is no second attempt, even if it was copied
            # in the meantime and has a new date.
            attempts: dict[str, Any] = {}
            for row in rows:
                content = {name: row[name] for name in row if name not in _NOT_COMPARED}
                attempts.setdefault(str(content), row)
            store.write_records(path, [Record(**row) for row in attempts.values()])
        _add_to_plan(where, records)


def _add_to_plan(where: Results, records: Sequence[Record]) -> None:
    """Name the measurements in the plan, so that hpcbench status counts them."""
    planned = store.read_plan(where) if where.plan.is_file() else []
    names = store.PLAN_SCHEMA.names
    rows = {tuple(row[name] for name in ("point_id", "pool", "repeat")): row for row in planned}
    rows |= {each.key: {name: getattr(each, name) for name in names} for each in records}
    store.write_plan(where, list(rows.values()))
