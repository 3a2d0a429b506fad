"""The latest session against all earlier ones, and the comparison as tests for CI."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner

from hpcbench.analysis.decide.compare import COMPARE_COLUMNS
from hpcbench.analysis.decide.history import HISTORY_COLUMNS, session_trends, split_history
from hpcbench.analysis.figures.session_trend import draw_session_trend
from hpcbench.analysis.summary.limits import THROUGHPUT
from hpcbench.cli.main import main
from hpcbench.records.frame import load_results
from tests.helpers.builders import refusal
from tests.helpers.measurements import failed, measured, repeats, write

NIGHTS = 8


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A folder per night; in the last, batch 1 is slower by 30 %, and the driver is new."""
    chance = np.random.default_rng(1)
    made = []
    for night in range(NIGHTS):
        last = night == NIGHTS - 1
        shared = np.exp(0.05 * chance.normal())
        ended = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=night)
        records = [
            record
            for batch in (1, 2, 4, 8, 16, 32)
            for record in repeats(
                1000
                * batch
                * shared
                * (0.7 if last and batch == 1 else 1)
                * np.exp(0.01 * chance.normal(size=2)),
                batch_size=batch,
                ended_at=ended,
                gpu_driver="560" if last else "550",
            )
        ]
        made.append(write(tmp_path / f"night{night}", records))
    return made


def run(*words: Any) -> Any:
    return CliRunner().invoke(main, ["compare", *map(str, words)])


def test_the_latest_session_is_compared_with_all_earlier_ones(folders: list[Path]) -> None:
    # In whatever order they are named.
    done = run("--against-history", *folders[::-1])
    assert done.exit_code == 1
    assert "A: 7 earlier sessions" in done.output
    assert f"sessions: {NIGHTS - 1} of A, 1 of B" in done.output.replace("\n", " ")
    assert "1 worse" in done.output
    assert "gpu driver: 550 -> 560" in done.output
    assert run("--against-history", *folders[:-1]).exit_code == 0


def test_one_session_has_no_history(folders: list[Path]) -> None:
    done = run("--against-history", folders[0])
    assert done.exit_code == 2
    assert "there is only one session" in done.output


def test_two_results_are_compared_and_not_three(folders: list[Path]) -> None:
    done = run(*folders[:3])
    assert done.exit_code == 2
    assert "3 results to compare" in done.output


def history(folders: list[Path]) -> Any:
    columns = [*COMPARE_COLUMNS, *HISTORY_COLUMNS]
    return split_history([(f, load_results(f, columns, categories=True)) for f in folders])


def test_the_trend_has_each_session_and_the_band_of_the_earlier_ones(folders: list[Path]) -> None:
    trend = session_trends(history(folders))[THROUGHPUT]
    assert trend.groupby("configuration").size().tolist() == [NIGHTS] * 6
    last = trend[trend["session"] == NIGHTS - 1].set_index("batch_size")
    assert last["beyond"].idxmax() == 1
    assert last.loc[1, "mean"] < last.loc[1, "low"]
    others = last.drop(index=1)
    assert ((others["mean"] > others["low"]) & (others["mean"] < others["high"])).all()


def test_a_row_that_is_not_valid_is_no_part_of_the_trend(folders: list[Path]) -> None:
    split = history(folders)
    bad = (split.earlier["batch_size"] == 8) & (split.earlier["run_id"] == split.names[2])
    reasons = split.earlier["invalid_reasons"].astype("string").mask(bad, "STRANGER")
    wild = split.earlier["throughput_infer_per_s"].mask(bad, 1.0)
    earlier = split.earlier.assign(invalid_reasons=reasons, throughput_infer_per_s=wild)
    trend = session_trends(replace(split, earlier=earlier))[THROUGHPUT]
    assert 2 not in trend.loc[trend["batch_size"] == 8, "session"].tolist()
    assert (trend.groupby("configuration").size() == NIGHTS).sum() == 5


def test_the_figure_has_a_row_for_each_configuration(folders: list[Path], tmp_path: Path) -> None:
    figure = draw_session_trend(history(folders))
    assert len(figure.get_axes()) >= 18
    titles = [ax.get_title(loc="right") for ax in figure.get_axes()]
    assert any("batch size 1" in title for title in titles)
    out = tmp_path / "trend.png"
    assert run("--against-history", *folders, "--out", out).exit_code == 1
    assert out.stat().st_size > 10_000


def test_two_sessions_of_one_run_are_distinguished_by_their_id(folders: list[Path]) -> None:
    frames = [(f, load_results(f, [*COMPARE_COLUMNS, *HISTORY_COLUMNS])) for f in folders[:2]]
    named = [(Path("all"), frame.assign(run_id=f"r{n}")) for n, (_, frame) in enumerate(frames)]
    assert split_history(named).names == ("r0", "r1")
    assert "only one session" in refusal(split_history, named[:1])


def test_what_is_worse_is_a_test_that_failed(folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "junit.xml"
    done = run("--against-history", *folders, "--junit", out)
    assert done.exit_code == 1
    suite = ET.parse(out).getroot()
    (failure,) = [case for case in suite if case.find("failure") is not None]
    assert failure.get("name", "").startswith("throughput: Tagger, batch size 1")
    assert (suite.get("tests"), suite.get("failures")) == (str(len(suite)), "1")
    assert int(suite.get("skipped", "")) == sum(c.find("skipped") is not None for c in suite)


def test_what_is_no_longer_measured_is_a_test_that_failed(tmp_path: Path) -> None:
    good = write(tmp_path / "a", repeats([1000, 1001]))
    bad = write(tmp_path / "b", [failed("the \x1b[31mserver died")])
    out = tmp_path / "junit.xml"
    assert run(good, bad, "--junit", out).exit_code == 1
    (case,) = ET.parse(out).getroot()
    assert case.find("failure").get("message") == "worse: no longer measured"


def test_what_may_have_failed_by_chance_is_a_test_that_is_skipped(tmp_path: Path) -> None:
    records = [measured(1000.0, concurrency=c) for c in range(1, 13)]
    good = write(tmp_path / "a", records)
    bad = write(tmp_path / "b", [*records[1:], failed("the server died", concurrency=1)])
    out = tmp_path / "junit.xml"
    assert run(good, bad, "--junit", out).exit_code == 0
    (case,) = [case for case in ET.parse(out).getroot() if "outcome: " in case.get("name", "")]
    message = case.find("skipped").get("message")
    assert message == "cannot tell whether by chance: no longer measured"
