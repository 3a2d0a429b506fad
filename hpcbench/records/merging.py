"""Merges the files of points, and what a killed run left; moves aside what is damaged."""

import contextlib
import uuid
from pathlib import Path

from hpcbench.errors import DamagedFile
from hpcbench.records import parquet
from hpcbench.records.columns import Record
from hpcbench.records.folder import Results
from hpcbench.records.store import merged_file, record_files, write_records


def merge_points(results: Results, placement_id: str) -> None:
    """Merge the files of a placement's points into one, then delete them.

    Parameters
    ----------
    results
        The results folder.
    placement_id
        The placement.
    """
    parts = sorted(results.records.glob(f"{placement_id}-*.parquet"))
    if parts:
        _merge(results, placement_id, parts)


def _merge(results: Results, placement_id: str, parts: list[Path]) -> list[DamagedFile]:
    """Merge into one file; what is damaged is moved aside and returned."""
    whole = merged_file(results, placement_id)
    tables, damaged = [], []
    for path in ([whole] if whole.exists() else []) + parts:
        try:
            tables.append(parquet.read_file(path))
        except DamagedFile as error:
            damaged.append(error)
            move_aside(error)
    # A merge that was killed between renaming and deleting left its parts behind. Then each of
    # their rows is here twice.
    rows = {str(row): row for table in tables for row in table.to_pylist()}
    if rows:
        write_records(whole, [Record(**row) for row in rows.values()])
    for path in parts:
        path.unlink(missing_ok=True)
    return damaged


def recover_records(results: Results) -> list[DamagedFile]:
    """Finish what a killed run left undone: merge points, delete half-written files.

    Parameters
    ----------
    results
        The results folder.

    Returns
    -------
    list of DamagedFile
        What is wrong with the files that were moved aside because they are damaged.

    Raises
    ------
    BadInput
        Where a file is of another version or another program. No record has been touched then.
    """
    for folder in (results.folder, results.records):
        for path in (*folder.glob(".*.tmp"), *folder.glob(".probe-*")):
            path.unlink(missing_ok=True)
    damaged: list[DamagedFile] = []
    for path in record_files(results.folder):
        try:
            parquet.check_file(path)
        except DamagedFile as error:
            damaged.append(error)
    for each in damaged:
        move_aside(each)
    parts: dict[str, list[Path]] = {}
    for path in sorted(results.records.glob("*-*.parquet")):
        parts.setdefault(path.stem.split("-")[0], []).append(path)
    for placement_id, its in parts.items():
        damaged += _merge(results, placement_id, its)
    return damaged


def move_aside(damaged: DamagedFile) -> None:
    """Give a damaged file a name by which no command reads it any more; it is never deleted.

    Parameters
    ----------
    damaged
        What is wrong with it.
    """
    path = damaged.path
    name = f"{path.name}.damaged"
    if path.with_name(name).exists():
        name = f"{path.name}.{uuid.uuid4().hex}.damaged"
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_name(name))
