"""Whole runs from a lock: early, killed, repeated elsewhere, and what is said first."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcbench import load_results
from hpcbench.cli.main import main
from hpcbench.cluster import driver
from hpcbench.plan.lock import Lock
from hpcbench.records.folder import Results
from tests.helpers.real import QUICK, campaign_file, quick_run, site_file
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("leaves_nothing")]


def hpcbench(*words: object) -> list[str]:
    return [sys.executable, "-m", "hpcbench", *map(str, words)]


def order(results: Path) -> list[tuple[str, int]]:
    frame = load_results(results).sort_values("placement_position")
    return list(zip(frame["point_id"], frame["placement_position"], strict=True))


def test_a_lock_repeats_its_session_and_says_first_what_is_different(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    """In the same order, in a session of its own, at its paths or with the models beside it."""
    repository = tmp_path / "repository"
    shutil.copytree(demo_models, repository)
    campaign, site = quick_run(tmp_path, native_prefix, repository)
    driver.run(campaign, site, tmp_path / "first")
    path = Results(tmp_path / "first").campaign_lock
    lock = Lock.load(path)
    assert lock.session.complete
    assert lock.versions.keys() >= {"triton", "perf_analyzer"}
    assert len(lock.nodes) == 1

    repository.rename(tmp_path / "first" / "repository")
    done = subprocess.run(
        hpcbench("run", path, "--results", tmp_path / "second"),
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stderr.splitlines()
    assert said[0].startswith(f"this repeats session {lock.session.run_id} of ")
    assert "nothing is different" in said[0]
    assert said[1].startswith("test on here: 3 measurements")
    assert order(tmp_path / "second") == order(tmp_path / "first")
    again = Lock.load(Results(tmp_path / "second").campaign_lock)
    assert again.session.repeats == lock.session.run_id
    assert set(load_results(tmp_path / "second")["run_id"]) == {again.session.run_id}

    model = tmp_path / "first" / "repository" / "jet_tagger" / "1" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    planned = CliRunner().invoke(main, ["plan", str(path), "--json"])
    found = json.loads(planned.output)["different"]
    assert [each["what"] for each in found] == ["model jet_tagger", "points"]
    text = CliRunner().invoke(main, ["plan", str(path)]).output
    assert text.startswith(f"this repeats session {lock.session.run_id} of ")
    assert "different this time:\n  model jet_tagger: " in text


def test_a_killed_run_leaves_a_lock_that_continues_it(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    slower = {**QUICK, "measurement_interval_ms": 1000}
    words = (
        # Points that are not over while a busy machine finds out that the first one is.
        *("run", campaign_file(tmp_path, demo_models, measurement=slower)),
        *("--site", site_file(tmp_path, native_prefix)),
        *("--results", tmp_path / "results"),
    )
    results = Results(tmp_path / "results")
    run = subprocess.Popen(hpcbench(*words), start_new_session=True)
    assert wait_until(lambda: any(results.records.glob("*-*.parquet")), 240)
    run.kill()
    run.wait()
    lock = Lock.load(results.campaign_lock)
    assert not lock.session.complete
    assert lock.nodes == ()
    again = driver.run(lock.campaign, lock.site, results.folder, lock=lock)
    assert again.counts == {"ok": 3}
    assert 0 < again.measured_now < 3
    ended = Lock.load(results.campaign_lock)
    assert (ended.session.run_id, ended.session.complete) == (lock.session.run_id, True)
    assert len(ended.nodes) == 1
