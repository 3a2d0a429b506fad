"""Results on the disk: whole or not at all, merged without loss, and readable whatever happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcbench
from hpcbench.cli.main import main
from hpcbench.records import merging, store
from hpcbench.records.columns import FINAL, SCHEMA, SCHEMA_VERSION, Record, Status
from hpcbench.records.folder import Results, is_folder_locked, lock_folder, write_atomically
from hpcbench.records.validity import COMPUTED
from tests.helpers.builders import NOON, record, refusal


@pytest.fixture
def results(tmp_path: Path) -> Results:
    found = Results(tmp_path / "results")
    found.create()
    return found


@contextmanager
def somebody_else() -> Iterator[None]:
    """For a while not root, who may write everywhere."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())


def files(results: Results) -> list[str]:
    return sorted(path.name for path in results.records.iterdir())


# Writing and merging


def test_a_point_is_durable_in_a_file_of_its_own(results: Results) -> None:
    path = store.write_point(results, record(1))
    assert files(results) == [path.name]
    assert pq.read_table(path).num_rows == 1


def test_a_placements_points_end_in_one_file(results: Results) -> None:
    for number in range(5):
        store.write_point(results, record(number))
    store.write_point(results, record(9, placement_id="bbbbbbbbbbbb"))
    merging.merge_points(results, "aaaaaaaaaaaa")
    assert files(results)[0] == "aaaaaaaaaaaa.parquet"
    assert len(files(results)) == 2
    assert len(hpcbench.load_results(results.folder)) == 6


def test_repeats_and_points_do_not_overwrite_each_other(results: Results) -> None:
    for number in range(3):
        for repeat in range(2):
            store.write_point(results, record(number, repeat=repeat))
    assert len(files(results)) == 6


def test_a_second_merge_adds_to_the_first(results: Results) -> None:
    for number in range(2):
        store.write_point(results, record(number))
        merging.merge_points(results, "aaaaaaaaaaaa")
    assert files(results) == ["aaaaaaaaaaaa.parquet"]
    assert len(hpcbench.load_results(results.folder)) == 2


def test_merging_nothing_changes_nothing(results: Results) -> None:
    merging.merge_points(results, "aaaaaaaaaaaa")
    merging.recover_records(results)
    assert files(results) == []


def test_a_killed_runs_points_are_merged_and_its_half_written_files_deleted(
    results: Results,
) -> None:
    store.write_point(results, record(1))
    store.write_point(results, record(2, placement_id="bbbbbbbbbbbb"))
    half = results.records / ".aaaaaaaaaaaa-1-0.parquet.123.tmp"
    half.write_bytes(b"PAR1 half of it")
    assert len(hpcbench.load_results(results.folder)) == 2
    merging.recover_records(results)
    assert files(results) == ["aaaaaaaaaaaa.parquet", "bbbbbbbbbbbb.parquet"]
    assert len(hpcbench.load_results(results.folder)) == 2


def test_a_merge_that_was_killed_before_it_deleted_the_parts_loses_and_doubles_nothing(
    results: Results, tmp_path: Path
) -> None:
    parts = [store.write_point(results, record(number)) for number in range(3)]
    kept = [shutil.copy(part, tmp_path) for part in parts]
    merging.merge_points(results, "aaaaaaaaaaaa")
    for part in kept:
        shutil.copy(part, results.records)
    before = hpcbench.load_results(results.folder)
    merging.recover_records(results)
    pd.testing.assert_frame_equal(hpcbench.load_results(results.folder), before)
    assert len(before) == 3
    assert files(results) == ["aaaaaaaaaaaa.parquet"]


@pytest.mark.parametrize("moment", ["os.fsync", "Path.rename"])
def test_a_process_killed_while_it_writes_leaves_what_was_there(
    tmp_path: Path, moment: str
) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"whole")
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from hpcbench.records.folder import write_atomically\n"
        f"{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]), b'new')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert ended.returncode == -9
    assert path.read_bytes() == b"whole"


def test_a_write_replaces_the_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"a long first content")
    write_atomically(path, b"short")
    assert path.read_bytes() == b"short"
    assert list(tmp_path.iterdir()) == [path]


# Reading


def test_results_are_typed_and_what_is_missing_is_missing(results: Results) -> None:
    store.write_point(
        results,
        record(
            1,
            preferred_batch_size=(4, 8),
            windows_latency_us=(1.5, 2.0),
            dynamic_batching=True,
            started_at=NOON,
        ),
    )
    store.write_point(results, record(2, throughput_infer_per_s=None))
    frame = hpcbench.load_results(results.folder)
    assert list(frame.columns) == [*SCHEMA.names, *COMPUTED]
    assert frame["batch_size"].tolist() == [2, 3]
    assert str(frame["batch_size"].dtype) == "Int64"
    assert frame["preferred_batch_size"].tolist() == [(4, 8), None]
    assert frame["windows_latency_us"].tolist() == [(1.5, 2.0), None]
    assert frame["dynamic_batching"].tolist() == [True, pd.NA]
    assert frame["started_at"][0] == NOON
    assert pd.isna(frame["started_at"][1])
    assert pd.isna(frame["throughput_infer_per_s"][1])
    assert pd.isna(frame["gpu_count"]).all()
    assert pd.isna(frame["reason"]).all()


def test_lists_come_back_as_they_were_and_equal_ones_are_kept_once(results: Results) -> None:
    few = [(4, 8), None, (8, 4), (), (4,), (4, 8, 16), (8,), (4, 8)] * 50
    # Of these no two are equal, and there are too many to look for it.
    many = [(n + 0.25, n + 0.5, n + 0.75) for n in range(len(few))]
    records = [
        record(n, preferred_batch_size=short, windows_latency_us=long)
        for n, (short, long) in enumerate(zip(few, many, strict=True))
    ]
    store.write_records(results.records / "all.parquet", records)
    frame = hpcbench.load_results(results.folder).sort_values("batch_size")
    assert frame["preferred_batch_size"].tolist() == few
    assert frame["windows_latency_us"].tolist() == many
    assert len({id(each) for each in frame["preferred_batch_size"] if each}) == 5


def test_columns_that_are_asked_for_are_read_alone_and_say_the_same(results: Results) -> None:
    for number in (3, 1, 2):
        store.write_point(results, record(number, preferred_batch_size=(4, 8)))
        merging.recover_records(results)
        store.write_point(results, record(number, ended_at=NOON, status=Status.FAILED))
        merging.recover_records(results)
    whole = hpcbench.load_results(results.folder)
    for names in (
        ["throughput_infer_per_s", "batch_size"],
        ["preferred_batch_size"],
        ["status", "point_id", "ended_at"],
    ):
        some = hpcbench.load_results(results.folder, columns=names)
        assert list(some.columns) == names
        pd.testing.assert_frame_equal(some, whole[names])
    assert len(whole) == 3


def test_points_that_are_asked_for_are_read_alone(results: Results) -> None:
    for number in range(4):
        for repeat in range(2):
            store.write_point(results, record(number, repeat=repeat))
    wanted = {record(1).point_id, record(3).point_id}
    some = hpcbench.load_results(results.folder, columns=["batch_size"], points=wanted)
    assert some["batch_size"].tolist() == [2, 2, 4, 4]
    assert len(hpcbench.load_results(results.folder, points=[])) == 0


def test_a_column_that_there_is_not_is_reported_with_the_nearest(results: Results) -> None:
    message = refusal(hpcbench.load_results, results.folder, columns=["latency_p99"])
    assert message.startswith("there is no column 'latency_p99'; did you mean 'latency_p99_us'?")


def test_an_empty_folder_is_an_empty_table_with_all_columns(results: Results) -> None:
    frame = hpcbench.load_results(results.folder)
    assert len(frame) == 0
    assert list(frame.columns) == [*SCHEMA.names, *COMPUTED]


def test_one_parquet_file_can_be_read_like_a_folder(results: Results) -> None:
    path = store.write_point(results, record(1))
    pd.testing.assert_frame_equal(
        hpcbench.load_results(path), hpcbench.load_results(path.parents[1])
    )


MEASURED_AND_NOT = [Status.FAILED, Status.TIMEOUT, Status.OK, Status.UNSTABLE]


def written(records: list[Record], order: random.Random) -> pd.DataFrame:
    """The table of records that were written, merged and written again in some order."""
    with tempfile.TemporaryDirectory() as folder:
        results = Results(Path(folder))
        results.create()
        shuffled = records[:]
        order.shuffle(shuffled)
        for entry in shuffled:
            # Attempts at a point belong to different runs: merged before the next one.
            name = f"{entry.placement_id}-{entry.point_id}-{entry.repeat}.parquet"
            if (results.records / name).exists():
                merging.merge_points(results, entry.placement_id)
            store.write_point(results, entry)
            match order.randrange(4):
                case 0:
                    merging.merge_points(results, entry.placement_id)
                case 1:
                    merging.recover_records(results)
                case _:
                    pass
        return hpcbench.load_results(folder)


@st.composite
def attempts(draw: st.DrawFn) -> list[Record]:
    """Records of a few points, some of them measured several times, at different moments."""
    chosen = draw(
        st.lists(
            st.tuples(
                st.integers(0, 2),
                st.sampled_from(["cpu", "gpu"]),
                st.integers(0, 1),
                st.sampled_from(MEASURED_AND_NOT),
                st.sampled_from(["aaaaaaaaaaaa", "bbbbbbbbbbbb"]),
            ),
            min_size=1,
            max_size=6,
        )
    )
    return [
        record(
            number,
            pool=pool,
            repeat=repeat,
            status=status,
            placement_id=placement,
            throughput_infer_per_s=float(position),
            ended_at=NOON + timedelta(seconds=position / 2),
        )
        for position, (number, pool, repeat, status, placement) in enumerate(chosen)
    ]


@settings(max_examples=12)
@given(records=attempts(), seeds=st.lists(st.integers(0, 99), min_size=2, max_size=2))
def test_the_table_depends_on_what_was_written_and_not_on_its_order(
    records: list[Record], seeds: list[int]
) -> None:
    first, second = (written(records, random.Random(seed)) for seed in seeds)
    pd.testing.assert_frame_equal(first, second)
    keys = list(zip(first["point_id"], first["pool"], first["repeat"], strict=True))
    assert len(keys) == len(set(keys))
    assert set(keys) == {entry.key for entry in records}


@settings(max_examples=12)
@given(records=attempts(), seed=st.integers(0, 99))
def test_measured_beats_failed_and_later_beats_earlier(records: list[Record], seed: int) -> None:
    frame = written(records, random.Random(seed))
    for row in frame.itertuples():
        key = (row.point_id, row.pool, row.repeat)
        of_key = [entry for entry in records if entry.key == key]
        measured = [entry for entry in of_key if entry.status in ("ok", "unstable")]
        best = (measured or of_key)[-1]
        assert (row.status, row.throughput_infer_per_s) == (
            best.status,
            best.throughput_infer_per_s,
        )


def test_points_that_differ_in_their_id_alone_stand_in_one_order(tmp_path: Path) -> None:
    """Two lengths of one input, say: equal in everything by which the table is sorted."""
    frames = []
    for name, numbers in (("a", (1, 2)), ("b", (2, 1))):
        results = Results(tmp_path / name)
        results.create()
        for number in numbers:
            store.write_point(results, record(number, batch_size=1))
            merging.recover_records(results)
        frames.append(hpcbench.load_results(results.folder))
    pd.testing.assert_frame_equal(frames[0], frames[1])


# What is done


def test_what_is_done_is_measured_or_can_never_be(results: Results) -> None:
    for number, status in enumerate(Status):
        store.write_point(results, record(number, status=status))
    done = store.finished_keys(results)
    assert done == {record(number).key for number, status in enumerate(Status) if status in FINAL}
    assert len(done) == 3


def test_of_a_placement_nothing_is_measured_again_that_another_worker_has_finished(
    results: Results,
) -> None:
    for number, status in enumerate((Status.OK, Status.FAILED, Status.UNSTABLE)):
        store.write_point(results, record(number, status=status))
    merging.merge_points(results, "aaaaaaaaaaaa")
    store.write_point(results, record(3, status=Status.FAILED))
    left = store.recorded_keys(results, "aaaaaaaaaaaa")
    assert left == {record(number).key for number in (0, 2, 3)}, "1 failed in an earlier run"


@settings(max_examples=12)
@given(records=attempts(), seed=st.integers(0, 99))
def test_what_is_left_is_a_set_difference(records: list[Record], seed: int) -> None:
    """A point that was measured once is done, however often it failed before or after."""
    with tempfile.TemporaryDirectory() as folder:
        results = Results(Path(folder))
        results.create()
        for position, entry in enumerate(random.Random(seed).sample(records, len(records))):
            store.write_point(results, replace(entry, placement_id=f"{position:012x}"))
        wanted = {entry.key for entry in records} | {("another", "cpu", 0)}
        left = wanted - store.finished_keys(results)
    assert left == wanted - {e.key for e in records if e.status in ("ok", "unstable")}


def test_statuses_and_table_agree_on_every_measurement(results: Results) -> None:
    for number, (first, second) in enumerate(
        (a, b) for a in MEASURED_AND_NOT for b in MEASURED_AND_NOT
    ):
        for attempt, status in enumerate((first, second)):
            store.write_point(
                results,
                record(
                    number,
                    status=status,
                    reason=f"attempt {attempt}",
                    placement_id=f"{attempt}aaaaaaaaaaa",
                    ended_at=NOON + timedelta(seconds=attempt),
                ),
            )
    frame = hpcbench.load_results(results.folder)
    table = {
        (row.point_id, row.pool, row.repeat): (row.status, row.reason) for row in frame.itertuples()
    }
    assert store.read_statuses(results) == table
    assert len(table) == 16


def test_a_folder_that_does_not_exist_has_nothing_done(tmp_path: Path) -> None:
    assert store.finished_keys(Results(tmp_path / "none")) == set()


# Files that are not what they should be


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    match how:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "text":
            path.write_text("point_id,status\n")
        case "zeros inside":
            path.write_bytes(content[:4] + bytes(2000) + content[2004:])


@pytest.mark.parametrize("how", ["empty", "cut", "text", "zeros inside"])
@pytest.mark.parametrize(
    "reader", [hpcbench.load_results, lambda f: store.finished_keys(Results(f))]
)
def test_a_damaged_file_is_named(results: Results, how: str, reader: object) -> None:
    store.write_point(results, record(1))
    path = store.write_point(results, record(2))
    spoil(path, how)
    message = refusal(reader, results.folder)
    assert message.startswith(f"{path}: is not a whole Parquet file")
    assert "measures again" in message


@pytest.mark.parametrize("how", ["empty", "cut", "text", "zeros inside"])
def test_a_run_moves_a_damaged_file_aside_and_merges_the_others(results: Results, how: str) -> None:
    store.write_point(results, record(1))
    path = store.write_point(results, record(2))
    spoil(path, how)
    content = path.read_bytes()
    (found,) = merging.recover_records(results)
    assert found.path == path
    assert files(results) == [f"{path.name}.damaged", "aaaaaaaaaaaa.parquet"]
    assert path.with_name(f"{path.name}.damaged").read_bytes() == content
    assert store.finished_keys(results) == {record(1).key}
    assert merging.recover_records(results) == []


def test_a_second_damaged_file_of_one_name_does_not_replace_the_first(results: Results) -> None:
    for content in (b"first", b"second"):
        path = store.write_point(results, record(1))
        path.write_bytes(content)
        merging.recover_records(results)
    kept = {path.read_bytes() for path in results.records.glob("*.damaged")}
    assert kept == {b"first", b"second"}


@pytest.mark.parametrize("command", ["status", "report", "plot", "recommend", "compare"])
@pytest.mark.usefixtures("few_figures")
def test_every_command_that_reads_leaves_a_damaged_file_out_names_it_and_ends_with_1(
    results: Results, tmp_path: Path, command: str
) -> None:
    store.write_point(results, record(1))
    path = store.write_point(results, record(2))
    store.write_plan(results, [])
    spoil(path, "cut")
    content = path.read_bytes()
    folder = str(results.folder)
    more = {
        "compare": [folder],
        "report": ["--out", str(tmp_path / "report.html")],
        "plot": ["--out", str(tmp_path / "figures"), "--figure", "status_map"],
    }
    done = CliRunner().invoke(main, [command, folder, *more.get(command, [])])
    assert done.exit_code == 1, done.output
    assert f"left out: {path}: is not a whole Parquet file" in done.stderr
    assert done.stderr.count("left out") == 1
    assert path.read_bytes() == content


def test_where_all_files_are_damaged_there_is_nothing_to_show(results: Results) -> None:
    path = store.write_point(results, record(1))
    spoil(path, "cut")
    assert CliRunner().invoke(main, ["recommend", str(results.folder)]).exit_code == 2


def test_a_small_file_that_would_fill_the_memory_is_refused(results: Results) -> None:
    path = store.write_point(results, record(1))
    bomb = pa.concat_tables([pq.read_table(path)] * 20).combine_chunks()
    bomb = bomb.take(pa.array(np.zeros(200_000, dtype=np.int64)))
    pq.write_table(bomb, path, compression="zstd")
    assert path.stat().st_size < 200_000
    message = refusal(hpcbench.load_results, results.folder)
    assert "is said to hold 200000 rows" in message


def write_other_version(path: Path) -> None:
    """A file as a later hpcbench could write it: another version, a column more and one less."""
    table = pq.read_table(path)
    table = table.drop_columns(["node"]).append_column("new", pa.array(["x"] * table.num_rows))
    pq.write_table(table.replace_schema_metadata({"hpcbench_schema": "99"}), path)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"instance_count": "base", "accelerator": None}, {"accelerator": None}),
        ({"instance_count": 2, "preferred_batch_size": "base"}, {"instance_count": 2}),
        (
            {"preferred_batch_size": None, "max_queue_delay_us": None},
            {"preferred_batch_size": None},
        ),
    ],
)
def test_variants_of_version_1_are_read_as_what_they_change(
    results: Results, written: dict[str, object], read: dict[str, object]
) -> None:
    path = store.write_point(results, record(1, variant=json.dumps(written)))
    metadata = {b"hpcbench_schema": b"1"}
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    assert json.loads(hpcbench.load_results(path)["variant"].item()) == read


@pytest.mark.parametrize(
    "reader", [hpcbench.load_results, lambda f: store.finished_keys(Results(f))]
)
def test_another_schema_version_is_refused_with_both_versions(
    results: Results, reader: object
) -> None:
    path = store.write_point(results, record(1))
    write_other_version(path)
    message = refusal(reader, results.folder)
    assert message.startswith(f"{path}: has schema version 99; this hpcbench reads and writes")
    assert f"version {SCHEMA_VERSION}" in message
    assert "give --results another folder" in message


def test_a_merge_that_was_killed_before_it_deleted_its_parts_doubles_no_row(
    tmp_path: Path,
) -> None:
    results = Results(tmp_path)
    results.create()
    records = [record(batch_size=size, point_id=f"{size:016x}") for size in (1, 2)]
    for each in records:
        store.write_point(results, each)
    parts = {path: path.read_bytes() for path in results.records.iterdir()}
    merging.recover_records(results)
    for path, content in parts.items():
        path.write_bytes(content)
    merging.recover_records(results)
    assert len(store.read_table(tmp_path)) == 2


def test_points_of_another_schema_version_are_never_merged_into_this_one(
    results: Results,
) -> None:
    """They would lose the columns that this version does not know, and be called by its number."""
    path = store.write_point(results, record(1))
    write_other_version(path)
    content = path.read_bytes()
    assert "has schema version 99" in refusal(merging.recover_records, results)
    assert path.read_bytes() == content


def test_a_parquet_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    assert "has schema version none" in refusal(hpcbench.load_results, path)


def test_a_folder_without_results_is_reported(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        message = refusal(hpcbench.load_results, path)
        assert message.startswith(f"{path}: is neither a results folder nor a Parquet file")


def test_a_plan_of_another_version_is_refused(results: Results) -> None:
    store.write_plan(results, [])
    table = pq.read_table(results.plan)
    pq.write_table(table.replace_schema_metadata({"hpcbench_schema": "99"}), results.plan)
    assert "has schema version 99" in refusal(store.read_plan, results)


def test_a_plan_comes_back_as_it_was_written(results: Results) -> None:
    rows = [
        {
            **dict.fromkeys(store.PLAN_SCHEMA.names),
            "point_id": "a",
            "pool": "cpu",
            "repeat": 0,
            "model_label": "Tagger",
            "variant": "{}",
            "batch_size": 4,
            "request_rate": 50.0,
        }
    ]
    store.write_plan(results, rows)
    assert store.read_plan(results) == rows
    store.write_plan(results, [])
    assert store.read_plan(results) == []


def test_a_folder_in_which_nothing_ran_has_no_plan(results: Results) -> None:
    assert "no run has been started in this folder" in refusal(store.read_plan, results)


def test_what_is_no_folder_has_no_plan(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").touch()
    assert "there is no such folder" in refusal(store.read_plan, Results(tmp_path / "none"))
    assert "is a file, not a" in refusal(store.read_plan, Results(tmp_path / "site.yaml"))


# Folders


def test_a_folder_is_made_with_its_parents_and_may_be_there_already(tmp_path: Path) -> None:
    results = Results(tmp_path / "a" / "b")
    results.create()
    store.write_point(results, record(1))
    results.create()
    assert len(files(results)) == 1


def test_a_place_where_no_folder_can_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "results", Path("/proc/hpcbench")):
        message = refusal(Results(folder).create)
        assert message.startswith(f"--results {folder}: cannot be written: ")
        assert "name a folder in which you may create files" in message


def test_a_folder_that_belongs_to_somebody_else_is_reported() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        with somebody_else():
            message = refusal(Results(folder / "results").create)
        assert message.startswith(f"--results {folder}/results: cannot be written: Permission")


def test_results_that_may_only_be_read_are_reported() -> None:
    with tempfile.TemporaryDirectory() as name:
        results = Results(Path(name))
        results.create()
        for path in (results.records, results.folder):
            path.chmod(0o555)
        with somebody_else():
            message = refusal(results.create)
        results.folder.chmod(0o755)
        results.records.chmod(0o755)
        assert "cannot be written: Permission denied" in message


# One run at a time


def test_a_second_run_is_refused_with_the_name_of_who_is_at_work(results: Results) -> None:
    assert not is_folder_locked(results)
    with lock_folder(results):
        assert is_folder_locked(results)
        message = refusal(lock_folder(results).__enter__)
        assert message.startswith(f"--results {results.folder}: another run is using it: ")
        assert f"process {os.getpid()} on " in message
        assert "name another folder" in message
    assert not is_folder_locked(results)
    with lock_folder(results):
        pass


def test_asking_does_not_take_the_lock(results: Results) -> None:
    with lock_folder(results):
        pass
    is_folder_locked(results)
    with lock_folder(results):
        assert is_folder_locked(results)


def test_a_killed_run_holds_no_lock(results: Results) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from hpcbench.records.folder import Results, lock_folder\n"
        "with lock_folder(Results(Path(sys.argv[1]))):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(results.folder)], check=False)
    assert ended.returncode == -9
    assert not is_folder_locked(results)
    with lock_folder(results):
        pass


def test_files_that_a_run_joins_while_they_are_read_are_found_in_the_joined_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = Results(tmp_path)
    results.create()
    for number in range(3):
        store.write_point(results, record(point_id=f"p{number}"))
    listed = store.record_files
    joined: list[str] = []

    def listing(path: Path) -> list[Path]:
        found = listed(path)
        if not joined:
            joined.append(found[0].stem.split("-")[0])
            merging.merge_points(results, joined[0])
        return found

    monkeypatch.setattr(store, "record_files", listing)
    assert sorted(hpcbench.load_results(tmp_path)["point_id"]) == ["p0", "p1", "p2"]
