"""The ledger of batch jobs: what a killed driver leaves, the next one finds and ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbench.cluster import batch, ledger
from hpcbench.errors import SiteError
from hpcbench.records import store
from hpcbench.records.folder import Results
from tests.helpers.stranger import as_stranger, needs_root

Program = Callable[[str, str], None]


def test_a_run_is_unfinished_from_before_its_first_job_until_it_says_otherwise(
    results: Results,
) -> None:
    assert ledger.unfinished(results) == []
    run = ledger.begin(results, "slurm")
    assert ledger.unfinished(results) == [run]
    ledger.add_job(results, run, "a100", "17")
    assert ledger.unfinished(results) == [run]
    ledger.finish(results, run)
    assert ledger.unfinished(results) == []
    assert ledger.job_ids(results, run) == ["17"]


def test_each_run_has_a_name_of_its_own(results: Results) -> None:
    first, second = ledger.begin(results, "slurm"), ledger.begin(results, "htcondor")
    assert first.name != second.name
    ledger.finish(results, first)
    (left,) = ledger.unfinished(results)
    assert (left.name, left.scheduler) == (second.name, "htcondor")


def test_a_line_that_was_cut_off_does_no_harm(results: Results) -> None:
    run = ledger.begin(results, "slurm")
    with results.ledger.open("a") as stream:
        stream.write('{"run": "hpcb')
    assert ledger.unfinished(results) == [run]
    ledger.add_job(results, run, "a100", "18")
    assert ledger.job_ids(results, run) == ["18"]


# Orphaned jobs


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = batch.wait_for_end
    monkeypatch.setattr(batch, "wait_for_end", lambda system, run: asked(system, run, 0.0))


@pytest.mark.usefixtures("queue")
def test_a_killed_runs_jobs_are_cancelled_and_it_is_over(
    results: Results,
) -> None:
    run = ledger.begin(results, "slurm")
    messages: list[str] = []
    assert ledger.cancel_orphaned_jobs(results, messages.append) == [run]
    assert messages == ["cancelling jobs of an earlier run: 7"]
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
    messages: list[str] = []
    with pytest.raises(SiteError, match="still has jobs of this run"):
        ledger.cancel_run(results, messages.append)
    assert messages[-1] == f"jobs 7.0 of {run.name} are cancelled, and still in the queue"
    assert ledger.unfinished(results) == [run]


def test_a_run_that_was_sent_from_another_queue_is_reported(
    program: Program,
    results: Results,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program("condor_q", "true")
    monkeypatch.setattr(ledger.socket, "gethostname", lambda: "login07")
    run = ledger.begin(results, "htcondor")
    monkeypatch.setattr(ledger.socket, "gethostname", lambda: "login08")
    messages: list[str] = []
    ledger.cancel_orphaned_jobs(results, messages.append)
    assert messages[0].startswith(
        f"jobs of {run.name} were submitted on login07, whose queue this host may not"
    )


@pytest.mark.usefixtures("queue")
def test_cancel_is_left_for_a_driver_whose_lock_cannot_be_seen_from_here(
    results: Results,
) -> None:
    ledger.begin(results, "slurm")
    store.write_plan(results, [])
    ledger.cancel_run(results, lambda _: None)
    assert results.cancel.exists()


@pytest.mark.usefixtures("programs")
def test_cancel_where_nothing_runs_leaves_no_trace(
    results: Results,
) -> None:
    store.write_plan(results, [])
    ledger.cancel_run(results, lambda _: None)
    assert not results.cancel.exists()


# A ledger from elsewhere


@pytest.fixture
def cancelled(programs: Path, program: Program) -> Path:
    """What scancel and condor_rm were called with."""
    calls = programs / "calls"
    for name in ("squeue", "scancel", "condor_rm"):
        program(name, f'echo "{name} $*" >> {calls}; echo "7|RUNNING|n1|None"')
    program(
        "condor_q",
        f"""echo condor_q >> {calls}; echo '[{{"ClusterId": 7, "ProcId": 0, "JobStatus": 2}}]'""",
    )
    calls.touch()
    return calls


@pytest.mark.parametrize(
    "planted",
    [
        '{"run": "production-reco", "scheduler": "slurm", "host": "login1"}',
        '{"run": "x\\" || TRUE || HpcbenchRun == \\"y", "scheduler": "htcondor", "host": "login1"}',
        '{"run": "hpcbench-0123abcd\\n", "scheduler": "slurm", "host": "login1"}',
        '{"run": "hpcbench-0123abcd", "scheduler": "os", "host": "login1"}',
        '{"run": "hpcbench-0123abcd", "scheduler": "slurm"}',
        '{"run": ["hpcbench-0123abcd"], "scheduler": {}, "host": 1}',
        '["run", "scheduler", "host"]',
        "17",
        "[" * 100_000,
    ],
)
def test_a_ledger_that_names_anything_but_a_run_of_hpcbench_cancels_nothing(
    results: Results, cancelled: Path, planted: str
) -> None:
    results.ledger.write_text(planted + "\n")
    store.write_plan(results, [])
    ledger.cancel_run(results, lambda _: None)
    assert cancelled.read_text() == ""


def test_bytes_that_are_no_text_do_not_hide_the_other_lines(results: Results) -> None:
    run = ledger.begin(results, "slurm")
    results.ledger.write_bytes(results.ledger.read_bytes() + b"\xff\xfe{\n")
    assert ledger.unfinished(results) == [run]


@needs_root
def test_the_ledger_of_another_user_cancels_nothing_and_is_kept(
    results: Results, cancelled: Path
) -> None:
    line = '{"run": "hpcbench-0123abcd", "scheduler": "slurm", "host": "login1"}'
    as_stranger('echo "$1" > "$2"', line, results.ledger, folder=results.folder)
    store.write_plan(results, [])
    ledger.cancel_run(results, lambda _: None)
    assert cancelled.read_text() == ""
    run = ledger.begin(results, "slurm")
    assert ledger.unfinished(results) == [run]
    (kept,) = results.folder.glob("jobs-of-others-*.jsonl")
    assert kept.read_text().strip() == line


def test_a_ledger_that_is_a_link_is_not_written_through(results: Results, tmp_path: Path) -> None:
    private = tmp_path / "profile"
    private.write_text("mine")
    results.ledger.symlink_to(private)
    ledger.begin(results, "slurm")
    assert private.read_text() == "mine"
    assert not results.ledger.is_symlink()
