"""A second session adds repeats; a run that continues one replaces and repeats nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hpcbench import load_results
from hpcbench.analysis.merge import aggregate
from hpcbench.errors import BadInput
from hpcbench.records import store
from hpcbench.records.columns import SCHEMA, Status
from hpcbench.records.folder import Results
from hpcbench.records.session import open_session, read_session
from tests.helpers.builders import NOON, record


@pytest.fixture
def results(tmp_path: Path) -> Results:
    found = Results(tmp_path / "results")
    found.create()
    return found


def test_a_run_continues_the_session_of_the_folder(results: Results) -> None:
    assert read_session(results) is None
    first = open_session(results, new=False)
    assert open_session(results, new=False) == first == read_session(results)


def test_a_new_session_has_a_name_and_a_seed_of_its_own(results: Results) -> None:
    first = open_session(results, new=False)
    second = open_session(results, new=True)
    assert second.run_id != first.run_id
    assert second.seed != first.seed
    assert read_session(results) == second


@pytest.mark.parametrize("text", ["", '{"x": 1', "[]", "{}", '{"started_at": "never"}', "\xff"])
def test_a_file_that_describes_no_session_is_named(results: Results, text: str) -> None:
    results.session.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=re.escape(str(results.session))):
        read_session(results)


def test_a_new_session_measures_again_and_adds_its_rows(results: Results) -> None:
    first = open_session(results, new=False)
    store.write_point(results, record(1, run_id=first.run_id, placement_id="aaaaaaaaaaaa"))
    assert store.finished_keys(results) == {record(1).key}
    second = open_session(results, new=True)
    assert store.finished_keys(results) == set()
    again = record(1, run_id=second.run_id, placement_id="bbbbbbbbbbbb")
    store.write_point(results, again)
    assert store.finished_keys(results) == {record(1).key}
    assert set(load_results(results.folder)["run_id"]) == {first.run_id, second.run_id}


def test_a_failed_attempt_of_a_session_is_replaced_within_it(results: Results) -> None:
    first = open_session(results, new=False).run_id
    failed = record(1, run_id=first, status=Status.FAILED, placement_id="bbbbbbbbbbbb")
    for each in (failed, record(1, run_id=first)):
        store.write_point(results, each)
    assert load_results(results.folder)["status"].tolist() == ["ok"]


def test_rows_of_older_versions_belong_to_the_first_session(results: Results) -> None:
    store.write_point(results, record(1))
    open_session(results, new=False)
    assert store.finished_keys(results) == {record(1).key}
    open_session(results, new=True)
    assert store.finished_keys(results) == set()


def test_what_failed_in_an_older_version_and_was_tried_again_is_one_measurement_for_all_readers(
    results: Results, tmp_path: Path
) -> None:
    """Its row names no session, the other one does."""
    for number in (1, 2):
        store.write_point(results, record(number, status=Status.FAILED))
    store.write_point(results, record(3))
    session = open_session(results, new=False)
    again = record(1, run_id=session.run_id, placement_id="bbbbbbbbbbbb", ended_at=NOON)
    store.write_point(results, again)
    aggregate([results.folder], tmp_path / "all.parquet")
    expected = {record(n).point_id: status for n, status in ((1, "ok"), (2, "failed"), (3, "ok"))}
    for source in (results.folder, tmp_path / "all.parquet"):
        frame = load_results(source)
        assert dict(zip(frame["point_id"], frame["status"], strict=True)) == expected
        assert len(frame) == 3
    statuses = store.read_statuses(results)
    assert {point: str(status) for (point, _, _), (status, _) in statuses.items()} == expected


def test_what_was_measured_in_an_older_version_and_again_stands_twice(results: Results) -> None:
    store.write_point(results, record(1))
    second = open_session(results, new=True)
    store.write_point(results, record(1, run_id=second.run_id, placement_id="bbbbbbbbbbbb"))
    assert len(load_results(results.folder)) == 2


def test_of_two_attempts_that_ended_at_once_all_readers_take_the_same(results: Results) -> None:
    session = open_session(results, new=False).run_id
    for placement, reason in (("bbbbbbbbbbbb", "late"), ("aaaaaaaaaaaa", "early")):
        failed = record(1, run_id=session, status=Status.FAILED, reason=reason)
        store.write_point(results, replace(failed, placement_id=placement))
    ((_, reason),) = store.read_statuses(results).values()
    assert load_results(results.folder)["reason"].tolist() == [reason] == ["late"]


def test_a_file_of_version_2_is_read_without_sessions(results: Results) -> None:
    path = store.write_point(results, record(1))
    table = pq.read_table(path).drop_columns(["run_id", "placement_position", "session_s"])
    pq.write_table(table.replace_schema_metadata({"hpcbench_schema": "2"}), path)
    frame = load_results(results.folder)
    assert len(frame) == 1
    assert frame["run_id"].isna().all()
    assert set(SCHEMA.names) <= set(frame.columns)
