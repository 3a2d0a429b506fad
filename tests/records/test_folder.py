"""The results folder: what somebody else has put there is neither followed nor believed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpcbench.errors import BadInput
from hpcbench.records.folder import Results, lock_folder
from tests.helpers.stranger import BECOME, let_in, needs_root
from tests.helpers.waiting import wait_until


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A results folder as a colleague would hand it over."""
    results = Results(tmp_path / "results")
    results.create()
    return results


@pytest.mark.parametrize(
    "name",
    [".lock", "jobs.jsonl", "records/a-b-0.parquet", "logs/driver.log", "logs/job-17.log"],
)
def test_a_link_in_a_results_folder_is_refused_and_named(
    results: Results, tmp_path: Path, name: str
) -> None:
    (results.folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match=f"{name}: is a link to") as caught:
        results.create()
    assert "remove it" in caught.value.hint


@pytest.mark.parametrize("name", ["records", "logs", ".keys"])
def test_a_folder_in_it_may_be_no_link_either(results: Results, tmp_path: Path, name: str) -> None:
    path = results.folder / name
    if path.exists():
        path.rmdir()
    path.symlink_to(tmp_path)
    with pytest.raises(BadInput, match=f"{name}: is a link to"):
        results.create()


def test_a_lock_that_is_a_link_does_not_empty_what_it_leads_to(
    results: Results, tmp_path: Path
) -> None:
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("five years")
    results.lock.symlink_to(thesis)
    with pytest.raises(BadInput, match="is a link"), lock_folder(results):
        pass
    assert thesis.read_text() == "five years"


@needs_root
def test_a_stranger_cannot_hold_the_lock_of_a_folder_that_everybody_can_read(
    results: Results, tmp_path: Path
) -> None:
    with lock_folder(results):
        pass
    let_in(tmp_path)
    hold = [*BECOME, "flock", "--nonblock", str(results.lock), "sleep", "600"]
    with subprocess.Popen(hold, stderr=subprocess.PIPE, text=True) as stranger:
        try:
            assert wait_until(lambda: stranger.poll() is not None)
            assert stranger.stderr is not None
            assert "Permission denied" in stranger.stderr.read()
        finally:
            stranger.kill()
    with lock_folder(results):
        pass


def test_the_results_folder_itself_may_be_a_link(results: Results, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(results.folder)
    Results(tmp_path / "link").create()
