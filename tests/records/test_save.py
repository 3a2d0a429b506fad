"""A frame becomes a results folder, whole and unchanged, or is refused with every wrong column."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hpcbench import load_results, save_results
from hpcbench.cli.main import main
from hpcbench.records.columns import SCHEMA
from tests.helpers.builders import record, refusal
from tests.helpers.builders_results import write_results
from tests.helpers.paths import DATA


def measurements(**columns: Any) -> pd.DataFrame:
    """Six measurements of three points, as somebody would write them down."""
    rows = {
        "point_id": ["a", "a", "b", "b", "c", "c"],
        "campaign": "mine",
        "site": "lab",
        "pool": "gpu",
        "repeat": [0, 1] * 3,
        "placement_id": "p",
        "status": "ok",
        "model": "tagger",
        "model_label": "Tagger",
        "batch_size": [1, 1, 2, 2, 4, 4],
        "concurrency": 4,
        "throughput_infer_per_s": [100.0, 101.0, 190.0, 195.0, 350.0, 352.5],
        "latency_p99_us": [48000.0, 48500.0, 50000.0, 49500.0, 52000.0, 52500.0],
        "request_count": 5000,
    }
    return pd.DataFrame(rows | columns)


@pytest.mark.parametrize("categories", [False, True])
@pytest.mark.parametrize("source", [DATA / "jet_tagger_0.1.0.parquet", DATA / "results_before"])
def test_what_was_read_is_the_same_after_it_was_written_and_read_again(
    source: Path, categories: bool, tmp_path: Path
) -> None:
    save_results(load_results(source, categories=categories), tmp_path / "again")
    pd.testing.assert_frame_equal(load_results(tmp_path / "again"), load_results(source))


def test_every_type_survives_with_its_missing_values(tmp_path: Path) -> None:
    frame = load_results(write_results(tmp_path / "results.parquet", models=2, gpus=2, repeats=2))
    frame["gpus"] = [(0, 1), None] * (len(frame) // 2)
    frame["windows_throughput_infer_per_s"] = [None, (1.5, 2.5, 3.5)] * (len(frame) // 2)
    shuffled = frame.sample(frac=1, random_state=1)[frame.columns[::-1]]
    save_results(shuffled, tmp_path / "again")
    pd.testing.assert_frame_equal(load_results(tmp_path / "again"), frame)


@pytest.mark.usefixtures("few_figures")
def test_the_commands_read_what_somebody_else_measured(tmp_path: Path) -> None:
    save_results(measurements(), tmp_path / "mine")
    save_results(measurements(), tmp_path / "yours")
    folder, other = str(tmp_path / "mine"), str(tmp_path / "yours")
    for words in (
        ("status", folder),
        ("recommend", folder),
        ("compare", folder, other),
        ("report", folder, "--out", str(tmp_path / "report.html")),
        ("plot", folder, "--out", str(tmp_path / "figures"), "--figure", "pareto_front"),
        ("aggregate", folder, "--out", str(tmp_path / "all.parquet")),
    ):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, (words, done.output)
    assert "6 ok" in CliRunner().invoke(main, ("status", folder)).output


def test_plain_values_of_python_and_numpy_get_the_types_of_the_table(tmp_path: Path) -> None:
    frame = measurements(
        batch_size=np.array([1, 1, 2, 2, np.nan, np.nan]),
        request_rate=[1, 2, 3, 4, 5, None],
        gpus=[[0], (0, 1), np.array([2, 3]), None, None, None],
        asynchronous=[True, False, None, None, True, True],
        ended_at=pd.Timestamp("2026-11-02T08:00+01:00"),
        windows_latency_us=[(1.0, 2.0)] * 6,
    )
    save_results(frame, tmp_path / "mine")
    table = pq.read_table(tmp_path / "mine" / "records" / "saved.parquet")
    assert table.schema.equals(SCHEMA)
    assert table["batch_size"].to_pylist() == [1, 1, 2, 2, None, None]
    assert table["request_rate"].to_pylist() == [1.0, 2.0, 3.0, 4.0, 5.0, None]
    assert table["gpus"].to_pylist() == [[0], [0, 1], [2, 3], None, None, None]
    assert table["asynchronous"].to_pylist() == [True, False, None, None, True, True]
    assert table["ended_at"].to_pylist()[0].hour == 7
    assert table["log_tail"].null_count == 6


def test_a_frame_of_records_is_a_table_of_results(tmp_path: Path) -> None:
    rows = pd.DataFrame([asdict(record(number)) for number in range(4)])
    save_results(rows, tmp_path / "mine")
    assert load_results(tmp_path / "mine")["batch_size"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"batchsize": 1}, ("batchsize: there is no such column; did you mean 'batch_size'?",)),
        ({"batch_size": [1, 1, 2, 2, 2.5, 4]}, ("batch_size: must be int64; row 4 holds '2.5'",)),
        ({"batch_size": "4"}, ("batch_size: must be int64; row 0 holds '4' (str)",)),
        ({"latency_p99_us": [1, 2, 3, 4, 5, "slow"]}, ("latency_p99_us: must be double; row 5",)),
        ({"latency_p99_us": True}, ("latency_p99_us: must be double; row 0 holds 'True'",)),
        ({"asynchronous": 2}, ("asynchronous: must be bool; row 0 holds '2'",)),
        ({"model": [1, 2, 3, 4, 5, 6]}, ("model: must be string; row 0 holds '1'",)),
        ({"gpus": 0}, ("gpus: must be list<item: int64>; row 0 holds '0'",)),
        ({"gpus": [(0,), (0.5,), None, None, None, None]}, ("gpus: must be list", "row 1 holds")),
        ({"ended_at": datetime(2026, 1, 1)}, ("ended_at: must be timestamp[us, tz=UTC]; row 0",)),  # noqa: DTZ001
        ({"batch_size": [1, 1, 2, 2, -8, 4]}, ("batch_size: must be above 0; row 4 holds -8",)),
        ({"concurrency": 0}, ("concurrency: must be above 0; row 0 holds 0",)),
        (
            {"throughput_infer_per_s": np.inf, "latency_p99_us": [1.0, 2.0, 3.0, -4.0, 5.0, 6.0]},
            (
                "throughput_infer_per_s: must be 0 or more and finite; row 0 holds inf",
                "latency_p99_us: must be 0 or more and finite; row 3 holds -4.0",
            ),
        ),
        (
            {"windows_latency_us": [None, (1.0,), (), (2.0, np.inf), (3.0,), (4.0,)]},
            ("windows_latency_us: must be 0 or more and finite; row 3 holds inf",),
        ),
        ({"energy_j_per_infer_net": -np.inf}, ("energy_j_per_infer_net: must be finite; row 0",)),
        ({"status": "done"}, ("status: 'done' is none of ok, unstable, failed",)),
        ({"variant": "instance_count=2"}, ("variant: 'instance_count=2' is no JSON of names",)),
        ({"shapes": "[1, 2]"}, ("shapes: '[1, 2]' is no JSON of names and values",)),
        (
            {"site": ["lab", None, "lab", "lab", "lab", "lab"]},
            ("site: every record has a value; row 1 has none",),
        ),
        (
            {"repeat": [0, 1, 0, 0, 0, 1]},
            ("site, point_id, pool, run_id, repeat: rows 2 and 3 are one measurement",),
        ),
        (
            {"repeat": [0, 1, 0, 0, 0, 1], "run_id": None},
            ("site, point_id, pool, run_id, repeat: rows 2 and 3 are one measurement",),
        ),
        (
            {"speed": 1, "request_count": "many", "repeat": 0.5},
            ("speed: there is no such column", "request_count: must be", "repeat: must be"),
        ),
    ],
)
def test_each_wrong_column_is_named_and_nothing_is_written(
    columns: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    said = refusal(save_results, measurements(**columns), tmp_path / "mine")
    assert [each for each in words if each not in said] == [], said
    assert not (tmp_path / "mine").exists()


def test_levels_of_the_index_that_have_a_name_are_columns(tmp_path: Path) -> None:
    """As pandas leaves them after groupby and set_index: they must not be lost."""
    frame = measurements()
    save_results(frame, tmp_path / "plain")
    for name, levels in (("one", ["concurrency"]), ("two", ["batch_size", "concurrency"])):
        save_results(frame.set_index(levels), tmp_path / name)
        found = load_results(tmp_path / name)
        pd.testing.assert_frame_equal(found, load_results(tmp_path / "plain"))
    numbered = frame.set_index("batch_size", append=True)
    save_results(numbered, tmp_path / "numbered")
    assert load_results(tmp_path / "numbered")["batch_size"].tolist() == [1, 1, 2, 2, 4, 4]
    said = refusal(save_results, frame.rename_axis("speed"), tmp_path / "mine")
    assert "speed: there is no such column" in said
    both = frame.set_index("batch_size", drop=False)
    assert "batch_size: is there 2 times" in refusal(save_results, both, tmp_path / "mine")


def test_what_is_below_0_by_its_meaning_is_taken(tmp_path: Path) -> None:
    save_results(measurements(energy_j_per_infer_net=-0.5), tmp_path / "mine")
    assert load_results(tmp_path / "mine")["energy_j_per_infer_net"].tolist() == [-0.5] * 6


@pytest.mark.parametrize("given", [[{"status": "ok"}], {"status": ["ok"]}, None])
def test_what_is_no_frame_is_refused_with_what_would_be_one(given: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"takes a pandas\.DataFrame, not a .*; pandas\.DataFrame"):
        save_results(given, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_columns_that_are_not_there_or_there_twice_are_named(tmp_path: Path) -> None:
    frame = measurements().drop(columns=["site", "status"])
    twice = pd.concat([frame, frame[["repeat"]]], axis=1)
    said = refusal(save_results, twice, tmp_path / "mine")
    for words in ("site: every record has it", "status: every record has it", "repeat: is there 2"):
        assert words in said


def test_records_that_are_there_are_not_mixed_with_others(tmp_path: Path) -> None:
    save_results(measurements(), tmp_path / "mine")
    assert "holds records already" in refusal(save_results, measurements(), tmp_path / "mine")
    (tmp_path / "file").touch()
    assert "is not a folder" in refusal(save_results, measurements(), tmp_path / "file")
    assert len(load_results(tmp_path / "mine")) == 6


def test_a_frame_without_rows_is_a_folder_without_measurements(tmp_path: Path) -> None:
    save_results(measurements().iloc[:0], tmp_path / "mine")
    assert len(load_results(tmp_path / "mine")) == 0
