"""Ending what a killed driver left, with a batch system that lets go of it, or does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hpcbench.cluster import batch, ledger
from hpcbench.errors import SiteError
from hpcbench.records import store
from hpcbench.records.folder import Results

Program = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = batch.wait_for_end
    monkeypatch.setattr(batch, "wait_for_end", lambda system, run: asked(system, run, 0.0))


@pytest.mark.usefixtures("queue")
def test_a_killed_runs_jobs_are_cancelled_and_it_is_over(
    results: Results,
) -> None:
    run = ledger.begin(results, "slurm")
    told: list[str] = []
    assert ledger.end_earlier_runs(results, told.append) == [run]
    assert told == ["cancelling jobs of an earlier run: 7"]
    assert ledger.unfinished(results) == []


def test_a_run_whose_cancelled_jobs_stay_is_not_over_and_cancel_says_so(
    program: Program,
    results: Results,
) -> None:
    """HTCondor keeps jobs of a dead node for long."""
    program("condor_q", """echo '[{"ClusterId": 7, "ProcId": 0, "JobStatus": 3}]'""")
    program("condor_rm", "true")
    run = ledger.begin(results, "htcondor")
    store.write_plan(results, [])
    told: list[str] = []
    with pytest.raises(SiteError, match="not let go of all jobs"):
        ledger.cancel(results, told.append)
    assert told[-1] == f"jobs 7.0 of {run.name} are cancelled, and still in the queue"
    assert ledger.unfinished(results) == [run]


def test_a_run_that_was_sent_from_another_queue_is_told(
    program: Program,
    results: Results,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program("condor_q", "true")
    monkeypatch.setattr(ledger.socket, "gethostname", lambda: "login07")
    run = ledger.begin(results, "htcondor")
    monkeypatch.setattr(ledger.socket, "gethostname", lambda: "login08")
    told: list[str] = []
    ledger.end_earlier_runs(results, told.append)
    assert told[0].startswith(f"jobs of {run.name} were sent from login07, whose queue is perhaps")


@pytest.mark.usefixtures("queue")
def test_cancel_is_left_for_a_driver_whose_lock_cannot_be_seen_from_here(
    results: Results,
) -> None:
    ledger.begin(results, "slurm")
    store.write_plan(results, [])
    ledger.cancel(results, lambda _: None)
    assert results.cancel.exists()


@pytest.mark.usefixtures("programs")
def test_cancel_where_nothing_runs_leaves_no_trace(
    results: Results,
) -> None:
    store.write_plan(results, [])
    ledger.cancel(results, lambda _: None)
    assert not results.cancel.exists()
