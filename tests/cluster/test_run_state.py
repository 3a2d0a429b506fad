"""What others see of a run, and the signals that end it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from hpcbench.cluster import run_state
from hpcbench.cluster.run_state import PoolJobs
from hpcbench.errors import BadInput
from hpcbench.records.columns import Key
from hpcbench.records.folder import Results
from tests.helpers.builders import batch_site

POINTS: list[Key] = [("aa", "gpu", 0), ("bb", "gpu", 0)]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path)


def test_the_state_is_written_where_something_has_changed_only(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_state, "SHARE", 1.0)
    state = run_state.StateFile(results)
    state.write(lambda: POINTS, {"gpu": PoolJobs(1)})
    written = json.loads(results.state.read_text())
    assert written["running"] == [list(key) for key in POINTS]
    assert written["jobs"]["gpu"]["running"] == 1
    results.state.unlink()
    state.write(lambda: POINTS, {"gpu": PoolJobs(1)})
    assert not results.state.exists()
    state.write(lambda: POINTS[:1], {"gpu": PoolJobs(1)})
    assert json.loads(results.state.read_text())["running"] == [list(POINTS[0])]


def test_the_state_is_not_even_asked_for_while_it_would_cost_too_much(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_state, "SHARE", 1e-6)
    asked: list[int] = []

    def running() -> list[Key]:
        asked.append(1)
        return POINTS

    state = run_state.StateFile(results)
    for _ in range(100):
        state.write(running, {})
    assert len(asked) == 1


@pytest.mark.parametrize("given", ["--wait", "-A", "phy --wait", "phy\n#SBATCH --wait", ".", "é"])
@pytest.mark.parametrize("scheduler", ["slurm", "htcondor"])
def test_an_account_that_would_be_more_than_a_name_does_not_reach_a_job_script(
    given: str, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = batch_site(scheduler)
    monkeypatch.delenv(run_state.ACCOUNT, raising=False)
    with pytest.raises(BadInput, match="allowed are letters"):
        run_state.charged_account(given, site)
    monkeypatch.setenv(run_state.ACCOUNT, given)
    with pytest.raises(BadInput, match="allowed are letters"):
        run_state.charged_account(None, site)
    assert run_state.charged_account("phy-1@x", site) == "phy-1@x"


def test_the_drivers_log_is_put_aside_when_it_is_long_and_two_are_kept(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_state, "DRIVER_LOG_BYTES", 2000)
    results.create()
    with run_state.log_file(results):
        for number in range(200):
            logging.getLogger("hpcbench").warning("line %d", number)
    logs = {path.name: path.read_text() for path in results.logs.iterdir()}
    assert logs.keys() == {"driver.log", "driver.log.1"}
    assert sum(map(len, logs.values())) < 5000
    assert "line 199" in logs["driver.log"]
