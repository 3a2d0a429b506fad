"""A second session adds repeats; a run that continues one replaces and repeats nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hpcbench import load_results
from hpcbench.errors import BadInput
from hpcbench.records import store
from hpcbench.records.columns import SCHEMA, Status
from hpcbench.records.folder import Results
from hpcbench.records.session import open_session, read_session
from tests.helpers.builders import record


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


def test_a_file_of_version_2_is_read_without_sessions(results: Results) -> None:
    path = store.write_point(results, record(1))
    table = pq.read_table(path).drop_columns(["run_id", "placement_position", "session_s"])
    pq.write_table(table.replace_schema_metadata({"hpcbench_schema": "2"}), path)
    frame = load_results(results.folder)
    assert len(frame) == 1
    assert frame["run_id"].isna().all()
    assert set(SCHEMA.names) <= set(frame.columns)
