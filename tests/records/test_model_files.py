"""After a model was corrected, its folder holds the results of both."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hpcbench import load_results
from hpcbench.analysis.decide.confirm import points_to_confirm
from hpcbench.cli.main import main
from hpcbench.records.columns import Record, Status
from hpcbench.records.folder import Results
from hpcbench.records.model_files import count_earlier, current_digests, is_earlier, mark_earlier
from hpcbench.records.store import PLAN_SCHEMA, write_plan, write_point
from tests.helpers.measurements import repeats, write

OLD, NEW = "0123456789abcdef", "fedcba9876543210"
MAY, JUNE = (datetime(2026, month, 3, 12, tzinfo=UTC) for month in (5, 6))


def of_file(digest: str | None, day: datetime, throughput: float, **changes: Any) -> list[Record]:
    times = {"started_at": day, "ended_at": day}
    name = f"{changes.get('model_label', '')}{str(digest)[:4]}"
    load = {"model_digest": digest, "point_id": name, "latency_avg_us": 4e6 / throughput}
    rates = [throughput, throughput * 1.01]
    return repeats(rates, concurrency=4, batch_size=1, **load, **times, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The earlier file is the faster one, and the plan of the newest run knows only the new one."""
    new = of_file(NEW, JUNE, 400.0)
    others = of_file(OLD, MAY, 900.0, model_label="Other")
    results = write(tmp_path / "results", [*of_file(OLD, MAY, 800.0), *new, *others])
    plan([each for each in new if each.repeat == 0], results)
    return results


def plan(records: list[Record], results: Path) -> None:
    rows = [{name: getattr(each, name) for name in PLAN_SCHEMA.names} for each in records]
    write_plan(Results(results), rows)


def invoke(*words: Any) -> Result:
    return CliRunner().invoke(main, list(map(str, words)))


def test_the_newest_plan_says_which_files_are_the_present_ones(folder: Path) -> None:
    frame = load_results(folder)
    current = current_digests(folder)
    assert current == {frame["model_label"][frame["model_digest"] == NEW].iloc[0]: {NEW}}
    earlier = frame[is_earlier(frame, current)]
    assert set(earlier["model_digest"]) == {OLD}
    # What the newest run did not measure is of no earlier file of anything.
    assert "Other" not in set(earlier["model_label"])
    assert count_earlier(Results(folder)) == len(earlier) == 2


def test_what_failed_and_was_measured_then_is_one_measurement_of_an_earlier_file(
    folder: Path,
) -> None:
    tried = replace(of_file(OLD, MAY, 800.0)[0], status=Status.FAILED, placement_id="bbbbbbbbbbbb")
    write_point(Results(folder), tried)
    assert count_earlier(Results(folder)) == 2


def test_a_plan_that_knows_no_digest_makes_nothing_earlier(folder: Path) -> None:
    """Of an older version of hpcbench, or of results that were imported."""
    plan(of_file(NEW, JUNE, 400.0) + of_file(None, JUNE, 400.0), folder)
    assert current_digests(folder) == {}
    assert count_earlier(Results(folder)) == 0


def test_a_file_of_results_has_no_plan(folder: Path) -> None:
    (file,) = (folder / "records").iterdir()
    assert current_digests(file) == {}


def test_earlier_files_are_named_by_the_day_and_the_beginning_of_the_digest(folder: Path) -> None:
    frame = load_results(folder)
    marked = mark_earlier(frame, is_earlier(frame, current_digests(folder)))
    (label,) = set(frame["model_label"]) - {"Other"}
    assert set(marked["model_label"]) == {
        *(label, "Other"),
        f"{label} (earlier file: 2026-05-03, 0123456)",
    }


SAID = "2 measurements of earlier model files are left out; --all of recommend, plot and report"


@pytest.mark.usefixtures("few_figures")
def test_commands_speak_of_the_present_files_and_say_what_they_leave_out(
    folder: Path, tmp_path: Path
) -> None:
    for words in (["recommend"], ["report", "--out", tmp_path / "r.html"], ["status"]):
        result = invoke(words[0], folder, *words[1:])
        assert SAID in result.output, words
    text = invoke("recommend", folder).stdout
    assert "402" in text
    assert "804" not in text
    compared = invoke("compare", folder, folder)
    assert compared.exit_code == 0
    assert compared.stderr.count(SAID) == 2


@pytest.mark.usefixtures("few_figures")
def test_all_brings_earlier_files_in_with_a_title_of_their_own(
    folder: Path, tmp_path: Path
) -> None:
    result = invoke("recommend", folder, "--all")
    assert SAID not in result.output
    titles = [line for line in result.stdout.splitlines() if " measurements tried" in line]
    assert len(titles) == len(set(titles)) == 3
    assert sum("(earlier file: 2026-05-03, 0123456)" in title for title in titles) == 1
    out = tmp_path / "r.html"
    assert invoke("report", folder, "--out", out, "--all").exit_code == 0
    assert "(earlier file: 2026-05-03, 0123456)" in out.read_text()


def test_only_what_is_recommended_of_the_present_files_is_confirmed(folder: Path) -> None:
    assert points_to_confirm(folder) == {"fedc", "Other0123"}
