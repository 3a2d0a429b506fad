"""What must hold of a results folder, whatever has died. Shares no code with hpcbench.

It reads the Parquet files as anybody would, and knows their columns from the reference alone.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Key = tuple[str | None, str, str, int]
"""run_id, point_id, pool, repeat: what names a measurement."""

Row = dict[str, Any]
MEASURED = frozenset({"ok", "unstable"})
FINAL = MEASURED | {"not_applicable"}
NEEDS_A_REASON = frozenset({"failed", "timeout", "unstable", "not_applicable"})
STATUSES = MEASURED | NEEDS_A_REASON


def key_of(row: Row) -> Key:
    """What names a row's measurement."""
    return row["run_id"], row["point_id"], row["pool"], row["repeat"]


def digest(row: Row) -> str:
    """All that a row says, in a few digits."""
    text = json.dumps({name: str(value) for name, value in sorted(row.items())})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_rows(path: Path) -> list[Row]:
    """The rows of one file that are points of the campaign, and no parts of others."""
    # A file, not a dataset: a name such as a=b.parquet is no partition.
    rows = pq.ParquetFile(path).read().to_pylist()
    return [row for row in rows if row["part_of"] is None]


def record_files(folder: Path) -> list[Path]:
    """The files that hold rows, as their names say."""
    return [path for path in (folder / "records").glob("*.parquet") if path.name[0] != "."]


def all_rows(folder: Path) -> list[Row]:
    """All rows of a results folder at rest."""
    return [row for path in record_files(folder) for row in read_rows(path)]


def best(rows: Iterable[Row]) -> Row:
    """The row that stands for a measurement: the last measured one, else the last."""
    return max(rows, key=lambda row: (row["status"] in MEASURED, str(row["ended_at"])))


def planned(folder: Path) -> list[tuple[str, str, int]]:
    """What the newest run set out to measure."""
    rows = pq.ParquetFile(folder / "plan.parquet").read().to_pylist()
    return [(row["point_id"], row["pool"], row["repeat"]) for row in rows]


def session(folder: Path) -> str:
    """The run_id of the newest session."""
    return str(json.loads((folder / "session.json").read_text())["run_id"])


def right_exit_code(folder: Path) -> int:
    """0 where each planned point has a row and the one that stands for it did not fail, else 1."""
    by_key = _by_key(all_rows(folder))
    run_id = session(folder)
    for point, pool, repeat in planned(folder):
        rows = by_key.get((run_id, point, pool, repeat))
        if not rows or best(rows)["status"] not in FINAL:
            return 1
    return 0


def problems(
    folder: Path, points: int, durable: Mapping[Key, str], *, complete: bool = True
) -> list[str]:
    """What is wrong with a results folder at rest.

    Parameters
    ----------
    folder
        The results folder.
    points
        How many measurements the campaign has.
    durable
        For each measured row that was once seen in the folder, its `digest`.
    complete
        Whether the last run ended with 0.

    Returns
    -------
    list of str
        Empty where all is well.
    """
    rows = all_rows(folder)
    by_key = _by_key(rows)
    wanted = {(session(folder), *each) for each in planned(folder)}
    found = [f"{len(wanted)} points are planned, and not {points}"] * (len(wanted) != points)
    found += [f"{key}: no row" for key in sorted(wanted - by_key.keys()) if complete]
    found += [f"{key}: a row that nobody planned" for key in by_key.keys() - wanted]
    for key, its in by_key.items():
        measured = [row for row in its if row["status"] in MEASURED]
        if len(measured) > 1:
            found.append(f"{key}: {len(measured)} measured rows")
        if complete and best(its)["status"] not in FINAL:
            found.append(f"{key}: {best(its)['status']} after a run that ended with 0")
        twice = [each for each, count in Counter(map(digest, its)).items() if count > 1]
        found += [f"{key}: the same row twice"] * bool(twice)
    there = {digest(row) for row in rows}
    found += [f"{key}: a durable row is lost" for key, its in durable.items() if its not in there]
    found += [f"{key_of(row)}: {problem}" for row in rows for problem in _row_problems(row)]
    return found + folder_problems(folder)


def _by_key(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    found: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        found[key_of(row)].append(row)
    return found


def _row_problems(row: Row) -> list[str]:
    found = [f"status {row['status']!r}"] * (row["status"] not in STATUSES)
    if row["status"] in NEEDS_A_REASON and not row["reason"]:
        found.append(f"{row['status']} without a reason")
    if row["status"] in MEASURED and not row["throughput_infer_per_s"]:
        found.append("measured, and without a throughput")
    return found


def folder_problems(folder: Path) -> list[str]:
    """What a run that has ended may not leave in its results folder."""
    names = {
        "keys": [folder / ".keys"],
        "a file half written": [*folder.rglob(".*.tmp"), *folder.rglob(".probe-*")],
        "a damaged file": [*folder.rglob("*.damaged")],
        "a point's own file": [*(folder / "records").glob("*-*.parquet")],
        "the state of a run": [folder / "run.json"],
    }
    return [
        f"left: {what}: {path.name}"
        for what, paths in names.items()
        for path in paths
        if path.exists()
    ]
