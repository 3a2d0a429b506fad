"""Ending what a killed driver left, with a batch system that lets go of it, or does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbench.cluster import batch, ledger
from hpcbench.errors import SiteError
from hpcbench.records import store
from hpcbench.records.store import Results
from tests.cluster.test_batch import program, programs  # noqa: F401 - a fixture
from tests.cluster.test_watch import queue, results  # noqa: F401 - a fixture


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = batch.wait_for_end
    monkeypatch.setattr(batch, "wait_for_end", lambda system, run: asked(system, run, 0.0))


def test_a_killed_runs_jobs_are_cancelled_and_it_is_over(
    programs: Path,  # noqa: F811
    results: Results,  # noqa: F811
) -> None:
    queue(programs)
    run = ledger.begin(results, "slurm")
    told: list[str] = []
    assert ledger.end_earlier_runs(results, told.append) == [run]
    assert told == ["cancelling jobs of an earlier run: 7"]
    assert ledger.unfinished(results) == []


def test_a_run_whose_cancelled_jobs_stay_is_not_over_and_cancel_says_so(
    programs: Path,  # noqa: F811
    results: Results,  # noqa: F811
) -> None:
    """HTCondor keeps jobs of a dead node for long."""
    program(programs, "condor_q", """echo '[{"ClusterId": 7, "ProcId": 0, "JobStatus": 3}]'""")
    program(programs, "condor_rm", "true")
    run = ledger.begin(results, "htcondor")
    store.write_plan(results, [])
    told: list[str] = []
    with pytest.raises(SiteError, match="not let go of all jobs"):
        ledger.cancel(results, told.append)
    assert told[-1] == f"jobs 7.0 of {run.name} are cancelled, and still in the queue"
    assert ledger.unfinished(results) == [run]


def test_a_run_that_was_sent_from_another_queue_is_told(
    programs: Path,  # noqa: F811
    results: Results,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program(programs, "condor_q", "true")
    monkeypatch.setattr(ledger.socket, "gethostname", lambda: "login07")
    run = ledger.begin(results, "htcondor")
    monkeypatch.undo()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    told: list[str] = []
    ledger.end_earlier_runs(results, told.append)
    assert told[0].startswith(f"jobs of {run.name} were sent from login07, whose queue is perhaps")


def test_cancel_is_left_for_a_driver_whose_lock_cannot_be_seen_from_here(
    programs: Path,  # noqa: F811
    results: Results,  # noqa: F811
) -> None:
    queue(programs)
    ledger.begin(results, "slurm")
    store.write_plan(results, [])
    ledger.cancel(results, lambda _: None)
    assert results.cancel.exists()


def test_cancel_where_nothing_runs_leaves_no_trace(
    programs: Path,  # noqa: F811
    results: Results,  # noqa: F811
) -> None:
    store.write_plan(results, [])
    ledger.cancel(results, lambda _: None)
    assert not results.cancel.exists()
