"""Merging sites: each measurement once, in order, whatever the files look like."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcbench.analysis.merge
from hpcbench import load_results
from hpcbench.analysis.merge import MergeSummary, aggregate
from hpcbench.cli.main import main
from hpcbench.records import parquet, store
from hpcbench.records.columns import SCHEMA, Record, Status
from hpcbench.records.folder import Results
from hpcbench.records.frame import SORT_COLUMNS
from hpcbench.records.migrations import Migration
from tests.helpers.builders import NOON, record, refusal


def site(folder: Path, name: str, *records: Record) -> Path:
    """The results folder of a site, with a file for each record."""
    results = Results(folder / name)
    results.create()
    for number, each in enumerate(records):
        store.write_records(results.records / f"{number:012x}.parquet", [each])
    return results.folder


def merge(folder: Path, *sources: Path, **options: Any) -> tuple[pd.DataFrame, MergeSummary]:
    merged = aggregate(sources, folder / "merged.parquet", **options)
    return load_results(folder / "merged.parquet"), merged


# What is kept


def test_sites_are_merged_into_one_sorted_typed_file(tmp_path: Path) -> None:
    numbers = random.Random(1).sample(range(40), 40)
    north = site(tmp_path, "north", *(record(n, site="north") for n in numbers[:25]))
    south = site(tmp_path, "south", *(record(n, site="south") for n in numbers[15:]))
    frame, merged = merge(tmp_path, north, south)
    assert (merged.rows, merged.files, merged.sites) == (50, 50, {"north", "south"})
    assert (merged.superseded, merged.repeated, merged.set_aside) == (0, 0, [])
    both = pd.concat([load_results(north), load_results(south)])
    expected = both.sort_values(list(SORT_COLUMNS), ignore_index=True)
    pd.testing.assert_frame_equal(frame, expected)
    assert pq.read_schema(tmp_path / "merged.parquet").equals(SCHEMA)


def test_pools_of_one_name_at_two_sites_are_two_pools(tmp_path: Path) -> None:
    north = site(tmp_path, "north", record(1, site="north", pool="gpu", gpu_name="A100"))
    south = site(tmp_path, "south", record(1, site="south", pool="gpu", gpu_name="T4"))
    frame, _ = merge(tmp_path, north, south)
    assert sorted(frame["gpu_name"]) == ["A100", "T4"]


def test_the_later_measured_row_counts_and_the_superseded_are_reported(tmp_path: Path) -> None:
    def attempt(hour: int, status: str, throughput: float | None) -> Record:
        return record(
            1,
            placement_id=f"{hour:012x}",
            status=status,
            throughput_infer_per_s=throughput,
            ended_at=NOON + timedelta(hours=hour),
        )

    early = site(tmp_path, "early", attempt(0, "failed", None), attempt(1, "ok", 1.0))
    late = site(tmp_path, "late", attempt(2, "unstable", 2.0), attempt(3, "failed", None))
    frame, merged = merge(tmp_path, early, late)
    assert frame["throughput_infer_per_s"].tolist() == [2.0]
    assert (merged.rows, merged.superseded, merged.repeated) == (1, 3, 0)
    again, _ = merge(tmp_path, late, early)
    pd.testing.assert_frame_equal(again, frame)


def test_what_lies_in_two_places_is_repeated_and_not_superseded(tmp_path: Path) -> None:
    north = site(tmp_path, "north", *(record(n) for n in range(5)))
    first, _ = merge(tmp_path, north)
    second, merged = merge(tmp_path, north, tmp_path / "merged.parquet", north)
    pd.testing.assert_frame_equal(first, second)
    assert (merged.rows, merged.superseded, merged.repeated) == (5, 0, 5)


@st.composite
def attempts(draw: st.DrawFn) -> list[Record]:
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(0, 3),
                st.sampled_from(["north", "south"]),
                st.sampled_from(["cpu", "gpu"]),
                st.integers(0, 1),
                st.sampled_from(sorted(Status)),
                st.integers(0, 3),
            ),
            min_size=1,
            max_size=30,
        )
    )
    return [
        record(
            number,
            site=where,
            pool=pool,
            repeat=repeat,
            status=status,
            placement_id=f"{place:012x}",
            model_position=None if number == 3 else number % 2,
            ended_at=NOON + timedelta(hours=hour),
        )
        for place, (number, where, pool, repeat, status, hour) in enumerate(drawn)
    ]


@settings(max_examples=15)
@given(records=attempts(), shuffled=st.randoms(use_true_random=False))
def test_a_merged_file_says_what_reading_everything_at_once_says(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], shuffled: random.Random
) -> None:
    """However the rows are dealt out: into many parts and ranges, and in any order of the files."""
    folder = tmp_path_factory.mktemp("merge")
    whole = folder / "all.parquet"
    store.write_records(whole, records)
    expected = load_results(whole)
    sources = [folder / f"{n}.parquet" for n in range(3)]
    for number, path in enumerate(sources):
        store.write_records(path, records[number::3])
    shuffled.shuffle(sources)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hpcbench.analysis.merge, "PART_BYTES", 20_000)
        patch.setattr(hpcbench.analysis.merge, "CHUNK_ROWS", 4)
        patch.setattr(hpcbench.analysis.merge, "_SMALL_ROWS", 5)
        patch.setattr(parquet, "BATCH_ROWS", 3)
        frame, merged = merge(folder, *sources)
    pd.testing.assert_frame_equal(frame, expected)
    assert merged.rows + merged.superseded + merged.repeated == len(records)


# What is set aside


def broken(path: Path, how: str) -> None:
    content = path.read_bytes()
    match how:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "rotten":
            middle = len(content) // 4
            path.write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
        case "of a newer version":
            table = pq.read_table(path).replace_schema_metadata({"hpcbench_schema": "99"})
            pq.write_table(table, path)
        case "of another type":
            table = pq.read_table(path)
            place = table.column_names.index("batch_size")
            texts = pa.array([f"{size} jets" for size in table["batch_size"].to_pylist()])
            pq.write_table(table.set_column(place, "batch_size", texts), path)
        case "with a status of its own":
            table = pq.read_table(path)
            place = table.column_names.index("status")
            column = pa.array(["fine"] * table.num_rows)
            pq.write_table(table.set_column(place, "status", column), path)
        case "without a key":
            pq.write_table(pq.read_table(path).drop_columns(["pool"]), path)


SAID = {
    "empty": "is not a whole Parquet file",
    "cut": "is not a whole Parquet file",
    "rotten": "is not a whole Parquet file",
    "of a newer version": "has schema version 99; this hpcbench reads and writes version 3",
    "of another type": "column batch_size is string there; it must be int64",
    "with a status of its own": "column status holds 'fine'; it must be one of ok, unstable",
    "without a key": "these columns are missing, which every record has: pool",
}


@pytest.mark.parametrize("how", SAID)
@pytest.mark.parametrize("rows", [1, 300])
def test_a_file_that_cannot_be_read_is_named_and_the_rest_goes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, rows: int
) -> None:
    monkeypatch.setattr(hpcbench.analysis.merge, "_SMALL_ROWS", 100)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 64)
    north = site(tmp_path, "north", *(record(n) for n in range(3)))
    bad = north / "records" / "bad.parquet"
    store.write_records(bad, [record(100 + n) for n in range(rows)])
    broken(bad, how)
    before = bad.read_bytes()
    ended = CliRunner().invoke(
        main, ["aggregate", str(north), "--out", str(tmp_path / "merged.parquet")]
    )
    assert ended.exit_code == 1
    assert "3 measurements of 1 site from 3 files" in ended.output
    assert "1 file left out of the merged results" in ended.output
    assert f"{bad}: {SAID[how]}" in ended.output
    assert bad.read_bytes() == before
    assert load_results(tmp_path / "merged.parquet")["batch_size"].tolist() == [1, 2, 3]


@settings(max_examples=60)
@given(place=st.floats(0, 1), garbage=st.binary(min_size=1, max_size=40))
def test_whatever_is_overwritten_in_a_file_is_a_message_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: float, garbage: bytes
) -> None:
    folder = tmp_path_factory.mktemp("rotten")
    path = folder / "a.parquet"
    store.write_records(path, [record(n) for n in range(20)])
    content = path.read_bytes()
    start = int(place * len(content))
    path.write_bytes(content[:start] + garbage + content[start + len(garbage) :])
    store.write_records(folder / "b.parquet", [record(50)])
    frame, merged = merge(folder, path, folder / "b.parquet")
    assert len(frame) == (1 if merged.set_aside else 21)
    assert all(str(path) in problem.message for problem in merged.set_aside)


def test_two_sites_that_disagree_on_a_column_are_reported_which_and_how(tmp_path: Path) -> None:
    north = site(tmp_path, "north", record(1, site="north"))
    south = site(tmp_path, "south", record(2, site="south"))
    (bad,) = (south / "records").iterdir()
    broken(bad, "of another type")
    _, merged = merge(tmp_path, north, south)
    assert merged.sites == {"north"}
    (problem,) = merged.set_aside
    assert problem.message == f"{bad}: column batch_size is string there; it must be int64"


def retyped(path: Path, name: str, kind: pa.DataType) -> None:
    table = pq.read_table(path)
    place = table.column_names.index(name)
    pq.write_table(table.set_column(place, name, table[name].cast(kind)), path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("batch_size", pa.int16()),
        ("throughput_infer_per_s", pa.int32()),
        ("ended_at", pa.timestamp("ns", "UTC")),
        ("site", pa.dictionary(pa.int32(), pa.string())),
        ("model", pa.large_string()),
        ("preferred_batch_size", pa.large_list(pa.int32())),
    ],
)
def test_a_column_that_is_only_written_in_another_way_is_read(
    tmp_path: Path, name: str, kind: pa.DataType
) -> None:
    north = site(tmp_path, "north", record(1, preferred_batch_size=(4, 8)))
    before = load_results(north)
    retyped(next((north / "records").iterdir()), name, kind)
    frame, merged = merge(tmp_path, north)
    pd.testing.assert_frame_equal(frame, before)
    assert not merged.set_aside


def test_columns_that_came_later_are_missing_and_those_of_the_future_are_reported(
    tmp_path: Path,
) -> None:
    north = site(tmp_path, "north", record(1, node="n1"), record(2, node="n2"))
    old, new = sorted((north / "records").iterdir())
    pq.write_table(pq.read_table(old).drop_columns(["node", "server_config"]), old)
    table = pq.read_table(new)
    pq.write_table(table.append_column("colour", pa.array(["red"])), new)
    ended = CliRunner().invoke(
        main, ["aggregate", str(north), "--out", str(tmp_path / "merged.parquet")]
    )
    assert ended.exit_code == 0, ended.output
    assert f"column colour left out of 1 file, as {new}" in ended.output
    assert load_results(tmp_path / "merged.parquet")["node"].tolist() == [pd.NA, "n2"]


def test_an_older_schema_version_goes_through_its_migrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if this version had had its latencies in milliseconds, under another name."""

    def to_the_next(table: pa.Table) -> pa.Table:
        place = table.column_names.index("latency_avg_ms")
        in_us = pc.multiply(table["latency_avg_ms"], 1000.0)
        return table.set_column(place, "latency_avg_us", in_us)

    north = site(tmp_path, "north", record(1, latency_avg_us=2.5))
    (path,) = (north / "records").iterdir()
    names = ["latency_avg_ms" if n == "latency_avg_us" else n for n in SCHEMA.names]
    renamed = pq.read_table(path).rename_columns(names)
    pq.write_table(renamed.replace_schema_metadata(SCHEMA.metadata), path)
    monkeypatch.setattr(parquet, "SCHEMA_VERSION", 4)
    assert "has schema version 3; this hpcbench reads and writes version 4" in refusal(
        load_results, north
    )
    step = Migration(("latency_avg_ms",), to_the_next)
    monkeypatch.setitem(parquet.MIGRATIONS, 3, step)
    assert load_results(north)["latency_avg_us"].tolist() == [2500.0]
    assert load_results(north, columns=["latency_avg_us"]).iloc[0, 0] == 2500.0


def damage_column(path: Path, name: str) -> None:
    """Change the last byte of a column, which whoever reads it finds out."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(n) for n in range(group.num_columns)]
    (column,) = (each for each in columns if each.path_in_schema == name)
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start + column.total_compressed_size - 1] ^= 0xFF
    path.write_bytes(content)


def test_of_a_file_of_an_older_version_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    """All other columns of a million rows take several times as long."""
    north = site(tmp_path, "north", record(1, latency_avg_us=2.5, server_config="x" * 99))
    (path,) = (north / "records").iterdir()
    older = {**SCHEMA.metadata, b"hpcbench_schema": b"2"}
    table = pq.read_table(path).drop_columns(["run_id"]).replace_schema_metadata(older)
    pq.write_table(table, path, **store.SMALL_FILE)
    damage_column(path, "server_config")
    assert load_results(north, columns=["latency_avg_us", "run_id"]).iloc[0, 0] == 2.5
    assert "is not a whole Parquet file" in refusal(load_results, north)


@pytest.mark.parametrize("categories", [True, False])
def test_columns_that_hold_nothing_are_not_read(tmp_path: Path, categories: bool) -> None:
    """Arrow takes five times as long for such a column as for another, and most are such."""
    before = merge(tmp_path, site(tmp_path, "north", record(1), record(2, node="n1")))[0]
    path = tmp_path / "merged.parquet"
    damage_column(path, "server_flags")
    after = load_results(path, categories=categories)
    texts = before.select_dtypes("string").columns
    pd.testing.assert_frame_equal(after.astype(dict.fromkeys(texts, "string")), before)
    assert after["server_flags"].isna().all()
    nothing = load_results(path, ["server_flags"], categories=categories)
    assert nothing["server_flags"].isna().tolist() == [True, True]
    damage_column(path, "node")
    assert "is not a whole Parquet file" in refusal(load_results, path)


def test_nothing_to_merge_is_reported(tmp_path: Path) -> None:
    empty = site(tmp_path, "empty")
    message = refusal(merge, tmp_path, empty)
    assert message.startswith("there is nothing to merge: 0 files without a record")
    bad = site(tmp_path, "bad", record(1))
    broken(next((bad / "records").iterdir()), "cut")
    assert "bad/records/000000000000.parquet: is not a whole" in refusal(merge, tmp_path, bad)
    assert "is neither a results folder" in refusal(merge, tmp_path, tmp_path / "none")
    assert not (tmp_path / "merged.parquet").exists()


def test_failures_alone_are_results_too(tmp_path: Path) -> None:
    failed = {"status": Status.FAILED, "throughput_infer_per_s": None}
    north = site(tmp_path, "north", *(record(n, **failed) for n in range(3)))
    frame, merged = merge(tmp_path, north)
    assert frame["status"].tolist() == ["failed"] * 3
    assert merged.rows == 3


# Partitions


def test_a_partitioned_dataset_is_read_like_a_folder(tmp_path: Path) -> None:
    records = [
        record(n, site=["north", "a b/ü"][n % 2], gpu_name=[None, "T4"][n // 2 % 2])
        for n in range(20)
    ]
    north = site(tmp_path, "north", *records)
    out = tmp_path / "dataset"
    ended = CliRunner().invoke(
        main,
        [*("aggregate", str(north), "--out", str(out)), *("--partition", "site,gpu_name,repeat")],
    )
    assert ended.exit_code == 0, ended.output
    pd.testing.assert_frame_equal(load_results(out), load_results(north))
    names = {path.name for path in out.rglob("*") if path.is_dir()}
    assert names >= {"site=north", "gpu_name=T4", "repeat=0"}
    part = load_results(out / "site=north")
    assert set(part["site"]) == {"north"}
    assert len(part) == 10
    frame, _ = merge(tmp_path, out)
    pd.testing.assert_frame_equal(frame, load_results(north))


def test_a_partition_by_what_makes_no_folders_is_refused(tmp_path: Path) -> None:
    north = site(tmp_path, "north", *(record(n) for n in range(3)))
    wanted: dict[str, Callable[[], str]] = {
        "cannot name a folder": lambda: refusal(
            aggregate, [north], tmp_path / "out", ["windows_latency_us"]
        ),
        "did you mean 'gpu_name'?": lambda: refusal(
            aggregate, [north], tmp_path / "out", ["gpu_nam"]
        ),
    }
    for text, message in wanted.items():
        assert text in message()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hpcbench.analysis.merge, "MOST_PARTITIONS", 2)
        message_ = refusal(aggregate, [north], tmp_path / "out", ["point_id"])
    assert message_.startswith("--partition point_id: makes more than 2 folders")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    north = site(tmp_path, "north", record(1))
    assert "already exists" in refusal(aggregate, [north], north, ["site"])
    assert "is a folder" in refusal(aggregate, [north], north)


# Whole or not at all


def test_a_merge_leaves_nothing_beside_its_output(tmp_path: Path) -> None:
    north = site(tmp_path, "north", *(record(n) for n in range(3)))
    aggregate([north], tmp_path / "out" / "merged.parquet")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["merged.parquet"]


def test_an_interrupted_merge_leaves_what_was_there(tmp_path: Path) -> None:
    north = site(tmp_path, "north", record(1))
    out = tmp_path / "out" / "merged.parquet"
    aggregate([north], out)
    before = out.read_bytes()
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from hpcbench.analysis import merge as a\n"
        "written = a._write_file\n"
        "def interrupted(*arguments):\n"
        "    written(*arguments)\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "a._write_file = interrupted\n"
        "a.aggregate([Path(sys.argv[1])], Path(sys.argv[2]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(site(tmp_path, "south", record(2))), str(out)],
        check=False,
        capture_output=True,
    )
    assert ended.returncode == -signal.SIGINT
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["merged.parquet"]


def test_a_place_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    north = site(tmp_path, "north", record(1))
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "merged.parquet", Path("/proc/hpcbench/merged.parquet")):
        message = refusal(aggregate, [north], out)
        assert message.startswith(f"--out {out}: cannot be written: ")


def test_merged_results_are_drawn_and_recommended_from_as_a_folder_is(tmp_path: Path) -> None:
    records = [record(n, latency_avg_us=4000.0 * (n + 1), gpu_name="T4") for n in range(6)]
    north = site(tmp_path, "north", *records)
    merge(tmp_path, north)
    aggregate([north], tmp_path / "dataset", ["site"])
    answers = []
    for path in (north, tmp_path / "merged.parquet", tmp_path / "dataset"):
        ended = CliRunner().invoke(main, ["recommend", str(path), "--json"])
        assert ended.exit_code == 0, ended.output
        answers.append(json.loads(ended.stdout))
    assert answers[0]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("merged", [True, False])
def test_texts_as_categories_are_the_same_texts(tmp_path: Path, merged: bool) -> None:
    """Which is how a million records are read."""
    here = site(tmp_path, "north", *(record(n) for n in range(5)))
    if merged:
        merge(tmp_path, here)
        here = tmp_path / "merged.parquet"
    plain, coded = load_results(here), load_results(here, categories=True)
    texts = plain.select_dtypes("string").columns.drop("point_id")
    assert all(isinstance(coded[name].dtype, pd.CategoricalDtype) for name in texts)
    pd.testing.assert_frame_equal(coded.astype(dict.fromkeys(texts, "string")), plain)
