"""Whole runs through Dask: complete, resumed after any death, and leaving nothing behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from click.testing import CliRunner

from hpcbench import load_results
from hpcbench.analysis.decide.recommend import recommend_configurations
from hpcbench.analysis.figures.save import save_figures
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.cli.main import main
from hpcbench.cluster import driver
from hpcbench.cluster.events import Event, PointMeasured
from hpcbench.cluster.stopping import ENDING, WAITING
from hpcbench.errors import BadInput
from hpcbench.records import store
from hpcbench.records.columns import Status
from hpcbench.records.folder import Results, lock_folder
from tests.helpers import models
from tests.helpers.paths import CHECKOUT
from tests.helpers.real import QUICK, campaign_file, quick_run, site_file
from tests.helpers.traces import programs_running
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("leaves_nothing")]


def hpcbench(*words: object) -> list[str]:
    return [sys.executable, "-m", "hpcbench", *map(str, words)]


def started(folder: Path, prefix: Path, models: Path, **changes: Any) -> "subprocess.Popen[str]":
    """A run as a user starts it, in a session of its own."""
    return subprocess.Popen(
        hpcbench(
            *("run", campaign_file(folder, models, **changes)),
            *("--site", site_file(folder, prefix)),
            *("--results", folder / "results"),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def point_files(results: Path) -> list[Path]:
    return list((results / "records").glob("*-*.parquet"))


def test_a_run_gives_each_point_and_repeat_once(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    campaign, site = quick_run(tmp_path, native_prefix, demo_models, repeats=2)
    heard: list[Event] = []
    summary = driver.run(campaign, site, tmp_path / "results", listener=heard.append)
    frame = load_results(tmp_path / "results")
    assert sorted(zip(frame["batch_size"], frame["repeat"], strict=True)) == [
        (batch, repeat) for batch in (1, 2, 4) for repeat in (0, 1)
    ]
    assert set(frame["status"]) == {"ok"}
    assert (summary.counts, summary.missing, summary.exit_code) == ({"ok": 6}, 0, 0)
    assert sum(isinstance(event, PointMeasured) for event in heard) == 6
    files = list((tmp_path / "results" / "records").iterdir())
    assert len(files) == 2, "one file per placement remains"
    assert frame["placement_id"].nunique() == 2, "a repeat is measured on a server of its own"


def test_a_second_run_measures_nothing_again(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    """Nor does one with the files that the first has resolved, which repeat it from anywhere."""
    server = {"instance_count": 1, "preferred_batch_size": [None]}
    campaign, site = quick_run(
        tmp_path, native_prefix, demo_models, load={"batch_size": [1, 2]}, server=server
    )
    driver.run(campaign, site, tmp_path / "results")
    before = load_results(tmp_path / "results")
    again = driver.run(
        driver.Campaign.load(tmp_path / "results" / "campaign.yaml"),
        driver.Site.load(tmp_path / "results" / "site.yaml"),
        tmp_path / "results",
    )
    assert (again.measured_now, again.counts) == (0, {"ok": 2})
    assert load_results(tmp_path / "results").equals(before)
    wider, _ = quick_run(
        tmp_path, native_prefix, demo_models, load={"batch_size": [1, 2, 8]}, server=server
    )
    added = driver.run(wider, site, tmp_path / "results")
    assert added.measured_now == 1
    after = load_results(tmp_path / "results")
    assert list(after["batch_size"]) == [1, 2, 8]
    assert after.head(2).equals(before)


def test_a_second_run_keeps_what_never_applies_and_the_models_of_an_ensemble(
    tmp_path: Path, native_prefix: Path
) -> None:
    repository = tmp_path / "repository"
    models.ensemble(repository)
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        repository,
        models=[
            {"name": "chain", "label": "Chain"},
            {"name": "shift", "server": {"accelerator": [None, {"name": "tensorrt"}]}},
        ],
        load={"batch_size": 2},
    )
    results = tmp_path / "results"
    first = driver.run(campaign, site, results)
    assert first.counts == {"ok": 2, "not_applicable": 1}
    before = load_results(results)
    rows = dict(zip(before["model_label"], before["status"], strict=True))
    assert rows["Chain / scale"] == rows["Chain / shift"] == "ok"
    assert len(before) == 5
    again = driver.run(campaign, site, results)
    assert (again.counts, again.measured_now, again.exit_code) == (first.counts, 0, 0)
    after = load_results(results)
    assert after["ended_at"].tolist() == before["ended_at"].tolist()
    # What an ensemble called, or shared its server, is nobody's best. Whether metrics of so short a
    # run on a busy machine may be believed is another question.
    after = after.assign(invalid_reasons=pd.NA)
    advice = recommend_configurations(after, Requirements())
    assert [(one.identity["model_label"], one.base is not None) for one in advice] == [
        ("Chain", True),
        ("shift", True),
    ]
    saved = save_figures(after, tmp_path / "figures", names=["device_comparison"])
    assert "one kind of device" in saved.not_drawn["device_comparison"]


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_is_answered_at_once_and_waits_for_the_point_under_way_unless_it_comes_twice(
    tmp_path: Path, native_prefix: Path, demo_models: Path, times: int
) -> None:
    changes = {
        "load": {"batch_size": list(range(1, 17)), "concurrency": 2},
        "measurement": {**QUICK, "measurement_interval_ms": 2000},
    }
    results = tmp_path / "results"
    lines: list[str] = []
    with started(tmp_path, native_prefix, demo_models, **changes) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "infer/s" in line and not any("stopping" in each for each in lines):
                before = len(load_results(results))
                process.send_signal(signal.SIGINT)
            if line.rstrip() == WAITING and times == 2:
                process.send_signal(signal.SIGINT)
            lines.append(line)
    output = "".join(lines)
    assert process.wait(240) == 130, output
    assert f"{WAITING}\n" in output
    assert (ENDING in output) == (times == 2)
    assert "Traceback" not in output
    assert output.endswith("run the same command again: it goes on where this one stopped\n")
    measured = load_results(results)
    assert len(measured) == before + (times == 1)
    assert measured["status"].isin(["ok", "unstable"]).all()


# SIGINT and SIGTERM end a run in the box, where there are jobs to cancel.
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_run_killed_while_it_measures_goes_on_where_it_stopped(
    tmp_path: Path, native_prefix: Path, demo_models: Path, number: signal.Signals
) -> None:
    changes = {
        "load": {"batch_size": [1, 2, 4, 8], "concurrency": 2},
        "measurement": {**QUICK, "measurement_interval_ms": 500},
    }
    results = tmp_path / "results"
    run = started(tmp_path, native_prefix, demo_models, **changes)
    assert wait_until(lambda: len(point_files(results)) >= 2, 240), run.communicate()[0]
    assert wait_until(_measuring)
    run.send_signal(number)
    output = run.communicate(timeout=500)[0]
    if number == signal.SIGKILL:
        assert run.returncode == -signal.SIGKILL
        assert wait_until(lambda: not programs_running())
    else:
        assert run.returncode == 130
        assert number.name in output
        assert "goes on where" in output
        assert not programs_running(), "its programs outlived the run"
    first = load_results(results)
    # On a busy machine the signal may come when the third one is over.
    assert 2 <= len(first) < 4
    assert set(first["status"]) <= {"ok", "unstable"}

    again = started(tmp_path, native_prefix, demo_models, **changes)
    output = again.communicate(timeout=500)[0]
    assert again.returncode == 0, output
    whole = load_results(results)
    assert list(whole["batch_size"]) == [1, 2, 4, 8]
    kept = whole[whole["batch_size"].isin(first["batch_size"])].reset_index(drop=True)
    assert kept.equals(first), "what was measured is measured again"
    assert len(store.read_table(results)) == 4, "a point was measured twice"
    assert not [path for path in (results / "records").iterdir() if "-" in path.name]


def test_a_killed_worker_is_replaced_and_loses_no_point(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    results = tmp_path / "results"
    run = started(tmp_path, native_prefix, demo_models)
    assert wait_until(lambda: len(point_files(results)) >= 1, 240), run.communicate()[0]
    _kill_worker(run.pid)
    output = run.communicate(timeout=500)[0]
    assert run.returncode == 0, output
    assert "worker lost" in output
    frame = load_results(results)
    assert list(frame["batch_size"]) == [1, 2, 4]
    assert len(store.read_table(results)) == 3


def test_a_placement_that_kills_its_worker_twice_ends_as_failed_records(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    results = tmp_path / "results"
    run = started(
        tmp_path,
        native_prefix,
        demo_models,
        measurement={**QUICK, "measurement_interval_ms": 3000},
    )
    for _ in range(2):
        assert wait_until(_measuring, 240)
        _kill_worker(run.pid)
        assert wait_until(lambda: not _measuring())
    output = run.communicate(timeout=500)[0]
    assert run.returncode == 1, output
    frame = load_results(results)
    assert set(frame["status"]) == {"failed"}
    assert len(frame) == 3
    assert frame["reason"].str.contains("worker died 2 times").all()


def _measuring() -> bool:
    return any("perf_analyzer -m" in words for words in programs_running())


def _kill_worker(driver_pid: int) -> None:
    """SIGKILL for the one worker process of a run, as an out-of-memory killer does it."""
    children = psutil.Process(driver_pid).children()
    (server,) = [p for p in children if "multiprocessing.forkserver" in " ".join(p.cmdline())]
    (worker,) = server.children()
    os.kill(worker.pid, signal.SIGKILL)


def test_status_says_what_is_running_and_what_is_missing(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    results = tmp_path / "results"
    slow = {**QUICK, "measurement_interval_ms": 20_000}
    run = started(tmp_path, native_prefix, demo_models, measurement=slow)
    assert wait_until(_measuring, 240), run.communicate()[0]
    done = subprocess.run(
        hpcbench("status", results, "--json"), capture_output=True, text=True, check=True
    )
    during = json.loads(done.stdout)
    assert during["active"] is True
    assert during["counts"] == {"running": 3}
    run.terminate()
    run.communicate(timeout=500)
    done = subprocess.run(
        hpcbench("status", results, "--json"), capture_output=True, text=True, check=True
    )
    after = json.loads(done.stdout)
    assert after["active"] is False
    assert after["counts"] == {"missing": 3}


def test_two_runs_do_not_share_a_results_folder(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    campaign, site = quick_run(tmp_path, native_prefix, demo_models)
    results = Results(tmp_path / "results")
    results.create()
    with lock_folder(results), pytest.raises(BadInput, match="another run is using it"):
        driver.run(campaign, site, results.folder)


def test_two_workers_share_the_work_and_no_port(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    load = {"batch_size": [1, 2], "concurrency": 2}
    campaign, _ = quick_run(tmp_path, native_prefix, demo_models, repeats=4, load=load)
    site = driver.Site.load(site_file(tmp_path, native_prefix, max_jobs=2))
    summary = driver.run(campaign, site, tmp_path / "results")
    frame = load_results(tmp_path / "results")
    assert summary.counts == {"ok": 8}
    spans = frame.groupby("placement_id").agg({"started_at": "min", "ended_at": "max"})
    spans = spans.sort_values("started_at")
    assert (spans["started_at"].iloc[1:].to_numpy() < spans["ended_at"].iloc[:-1].to_numpy()).any()


def test_failed_points_give_exit_code_1_and_are_tried_again_by_the_next_run(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    changes = {"measurement": {**QUICK, "timeout_s": 0.2}, "load": {"batch_size": [1]}}
    run = started(tmp_path, native_prefix, demo_models, **changes)
    output = run.communicate(timeout=500)[0]
    assert run.returncode == 1, output
    assert "hpcbench status" in output
    assert list(load_results(tmp_path / "results")["status"]) == [Status.TIMEOUT]
    changes["measurement"] = QUICK
    again = started(tmp_path, native_prefix, demo_models, **changes)
    output = again.communicate(timeout=500)[0]
    assert again.returncode == 0, output
    frame = load_results(tmp_path / "results")
    assert list(frame["status"]) == [Status.OK], "the measured row supersedes the failed one"


def test_the_readmes_python_is_a_script_that_runs(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    """New worker processes must not run the user's script once more."""
    text = (CHECKOUT / "README.md").read_text()
    (snippet,) = [block for block in text.split("```") if block.startswith("python\n")]
    snippet = snippet.removeprefix("python\n")
    assert 'Site.load("local")' in snippet
    site = site_file(tmp_path, native_prefix)
    snippet = snippet.replace('Site.load("local")', f'Site.load("{site}")')
    changes = {"load": {"batch_size": [1]}, "name": "my-scan"}
    campaign_file(tmp_path, demo_models, **changes).rename(tmp_path / "my-scan.yaml")
    (tmp_path / "script.py").write_text(snippet)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1 points") == 1
    assert len(load_results(tmp_path / "results" / "mine")) == 1


def test_a_full_disk_ends_the_run_with_one_message(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    disk = tmp_path / "results"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "none", str(disk)], check=True)
    try:
        run = started(tmp_path, native_prefix, demo_models)
        output = run.communicate(timeout=500)[0]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert run.returncode == 3, output
    assert "No space left" in output
    assert "run the same command again" in output
    assert "Traceback" not in output


def test_a_run_ends_with_its_references_and_measures_nothing_again_where_one_changes(
    tmp_path: Path, native_prefix: Path, demo_models: Path, as_if_alone: None
) -> None:
    site, results = site_file(tmp_path, native_prefix), tmp_path / "results"
    for expected, code, words in ((1.0, 0, "3 met"), (1e9, 1, "3 not met")):
        reference = {"expect": {"throughput_infer_per_s": [expected, -0.5, None]}}
        campaign = campaign_file(tmp_path, demo_models, references=[reference])
        run = ["run", str(campaign), "--site", str(site), "--results", str(results)]
        done = CliRunner().invoke(main, run)
        assert done.exit_code == code, done.output
        assert f"references: {words}" in done.output
    assert len(load_results(results)) == 3
