"""The check of a soak finds whatever may be wrong with a folder, and nothing where all is well."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbench.records.folder import Results
from hpcbench.records.session import open_session
from hpcbench.records.store import PLAN_SCHEMA, write_plan, write_records
from tests.helpers.builders import record
from tests.soak import invariants
from tests.soak.durable import Durable

POINTS = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four measured points in two placements."""
    results = Results(tmp_path)
    results.create()
    run_id = open_session(results, new=True).run_id
    rows = [record(n, run_id=run_id, placement_id=f"{n % 2}" * 12) for n in range(POINTS)]
    for placement in ("0" * 12, "1" * 12):
        its = [row for row in rows if row.placement_id == placement]
        write_records(results.records / f"{placement}.parquet", its)
    names = PLAN_SCHEMA.names
    write_plan(results, [{n: getattr(row, n) for n in names if hasattr(row, n)} for row in rows])
    return tmp_path


def seen(folder: Path) -> dict[invariants.Key, str]:
    watched = Durable(folder)
    watched.look()
    assert not watched.unreadable
    return watched.measured


def more(folder: Path, number: int, **changes: Any) -> None:
    """One row more, in a file of its own."""
    run_id = invariants.session(folder)
    changes = {"run_id": run_id, "placement_id": "2" * 12} | changes
    write_records(folder / "records" / ("2" * 12 + ".parquet"), [record(number, **changes)])


def lose_a_file(folder: Path) -> None:
    (folder / "records" / ("0" * 12 + ".parquet")).unlink()


def measure_twice(folder: Path) -> None:
    more(folder, 1)


def write_twice(folder: Path) -> None:
    source = folder / "records" / ("0" * 12 + ".parquet")
    (folder / "records" / "another.parquet").write_bytes(source.read_bytes())


def fail_without_a_reason(folder: Path) -> None:
    more(folder, 1, status="failed")


def measure_what_nobody_planned(folder: Path) -> None:
    more(folder, 77)


def plan_one_less(folder: Path) -> None:
    results = Results(folder)
    write_plan(results, [{"point_id": f"{0:016x}", "pool": "cpu", "repeat": 0}])


def measure_no_throughput(folder: Path) -> None:
    more(folder, 1, throughput_infer_per_s=None)


def invent_a_status(folder: Path) -> None:
    more(folder, 1, status="fine")


def another_session(folder: Path) -> None:
    (folder / "session.json").write_text(json.dumps({"run_id": "another"}))


def leave_unmerged(folder: Path) -> None:
    (folder / "records" / ("0" * 12 + ".parquet")).rename(folder / "records" / "0-1-0.parquet")


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (lose_a_file, "no row"),
    (lose_a_file, "a durable row is lost"),
    (measure_twice, "2 measured rows"),
    (write_twice, "the same row twice"),
    (fail_without_a_reason, "failed without a reason"),
    (measure_what_nobody_planned, "a row that nobody planned"),
    (plan_one_less, "1 points are planned, and not 4"),
    (measure_no_throughput, "without a throughput"),
    (invent_a_status, "status 'fine'"),
    (another_session, "no row"),
    (lambda folder: (folder / ".keys").mkdir(), "left: keys"),
    (lambda folder: (folder / "run.json").write_text("{}"), "left: the state of a run"),
    (lambda folder: (folder / "records/.a.tmp").write_text(""), "left: a file half written"),
    (lambda folder: (folder / "records/a.parquet.damaged").write_text(""), "left: a damaged file"),
    (leave_unmerged, "left: a point's own file"),
]


def test_nothing_is_wrong_with_a_folder_in_order(folder: Path) -> None:
    assert invariants.problems(folder, POINTS, seen(folder)) == []
    assert invariants.right_exit_code(folder) == 0


@pytest.mark.parametrize(("damage", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_what_is_wrong_is_found(folder: Path, damage: Callable[[Path], None], words: str) -> None:
    before = seen(folder)
    damage(folder)
    assert any(words in each for each in invariants.problems(folder, POINTS, before))


def test_a_failed_point_that_was_measured_later_is_in_order(folder: Path) -> None:
    more(folder, 1, status="failed", reason="the server died", throughput_infer_per_s=None)
    assert invariants.problems(folder, POINTS, seen(folder)) == []
    assert invariants.right_exit_code(folder) == 0


def test_a_point_that_failed_last_or_is_missing_asks_for_exit_code_1(folder: Path) -> None:
    lose_a_file(folder)
    assert invariants.right_exit_code(folder) == 1
    for_good = invariants.problems(folder, POINTS, seen(folder), complete=False)
    assert for_good == []


def test_a_file_that_cannot_be_read_is_seen_while_the_campaign_runs(folder: Path) -> None:
    (folder / "records" / "torn.parquet").write_bytes(b"PAR1 and no more")
    watched = Durable(folder)
    watched.look()
    assert [each.partition(":")[0] for each in watched.unreadable] == ["torn.parquet"]
