"""Imported records join a results folder, and its plan."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcbench.plan.digest import hash_id
from hpcbench.records import parquet, store
from hpcbench.records.columns import Record, names_with
from hpcbench.records.folder import Results, lock_folder
from hpcbench.records.roles import Role

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


_ALWAYS = (
    *("model", "model_label", "batch_size", "concurrency", "request_rate", "percentile"),
    *("instance_count", "instance_kind", "max_batch_size"),
)
_SOMETIMES = names_with(
    *(Role.MODEL, Role.SERVER, Role.LOAD, Role.CALL, Role.WINDOW, Role.RESOLVED)
)


def point_id(record: Record, more: Sequence[Any] = ()) -> str:
    """Return the id of an imported point.

    Parameters
    ----------
    record
        The record.
    more
        What else tells it from others of its origin.

    Returns
    -------
    str
        A hash of everything but metrics, the place of the measurement, and the session.
    """
    others: dict[str, Any] = {
        name: getattr(record, name)
        for name in _SOMETIMES
        if name not in _ALWAYS and getattr(record, name) is not None
    }
    identity = ["csv", *(getattr(record, name) for name in _ALWAYS)]
    return full_hash(*identity, *([others] if others else []), *more)


def full_hash(*identity: object) -> str:
    """Return an id for what these values define.

    Parameters
    ----------
    *identity
        Whatever JSON can hold.

    Returns
    -------
    str
        A hash.
    """
    return hash_id(json.dumps(identity))


def short_hash(*identity: object) -> str:
    """Return the id of a placement.

    Parameters
    ----------
    *identity
        Whatever JSON can hold.

    Returns
    -------
    str
        Twelve digits.
    """
    return full_hash(*identity)[:12]
