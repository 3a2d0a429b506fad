"""Slurm's answers, as the real commands printed them, and the environment of its jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbench.cluster import batch
from hpcbench.cluster.batch import Job, JobState, ThisJob
from hpcbench.cluster.slurm import NEVER_STARTS, SYSTEM, excluded_nodes
from tests.helpers.paths import DATA

Program = Callable[[str, str], None]


def test_jobs_come_with_their_reasons(program: Program) -> None:
    program("squeue", f"cat {DATA}/batch/squeue.txt")
    found = SYSTEM.jobs("hpcbench-1")
    assert found == {
        "4": Job("4", JobState.WAITING, "ReqNodeNotAvail, May be reserved for other job"),
        "3": Job("3", JobState.WAITING, "Resources"),
        "2": Job("2", JobState.ENDED, "CANCELLED"),
        "1": Job("1", JobState.RUNNING, "", "n1"),
        "7": Job("7", JobState.ENDED, "FAILED (NonZeroExitCode)", "n2"),
    }
    assert sorted(batch.active(found)) == ["1", "3", "4"]


@pytest.mark.parametrize("reason", sorted(NEVER_STARTS))
def test_a_job_that_would_wait_for_ever_is_reported(program: Program, reason: str) -> None:
    program("squeue", f"echo '7|PENDING||{reason}'; echo '8|FAILED|n1|{reason}'")
    assert SYSTEM.jobs("hpcbench-1") == {
        "7": Job("7", JobState.WAITING, reason, never_starts=True),
        "8": Job("8", JobState.ENDED, f"FAILED ({reason})", "n1"),
    }


def test_an_empty_queue_is_no_error(program: Program) -> None:
    program("squeue", "true")
    assert SYSTEM.jobs("hpcbench-1") == {}


def test_only_the_runs_own_jobs_are_asked_for_and_cancelled(
    programs: Path, program: Program
) -> None:
    for name in ("squeue", "scancel"):
        program(name, f'for word; do echo "$word"; done > {programs}/{name}.said')
    SYSTEM.jobs("hpcbench-1")
    SYSTEM.cancel("hpcbench-1")
    for name in ("squeue", "scancel"):
        assert "--name=hpcbench-1" in (programs / f"{name}.said").read_text().splitlines()
    SYSTEM.cancel("hpcbench-1", ["7", "8"])
    assert (programs / "scancel.said").read_text().split() == ["7", "8"]


def test_cancelling_what_is_gone_is_no_error(program: Program) -> None:
    words = "scancel: error: Kill job error on job id 7: Invalid job id specified"
    program("scancel", f'echo "{words}" >&2; exit 1')
    SYSTEM.cancel("hpcbench-1")


def test_what_would_override_the_job_script_does_not_reach_sbatch() -> None:
    given = {"PATH": "/bin", "SLURM_CONF": "/c", "SLURM_JOB_ID": "1", "SBATCH_PARTITION": "evil"}
    assert SYSTEM.submission_environment(given) == {"PATH": "/bin", "SLURM_CONF": "/c"}


def test_a_job_knows_its_id_its_node_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURMD_NODENAME", "SLURM_JOB_END_TIME"):
        monkeypatch.delenv(name, raising=False)
    assert SYSTEM.this_job() is None
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    assert SYSTEM.this_job() == ThisJob("4711", None, None)
    monkeypatch.setenv("SLURMD_NODENAME", "nid001234")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1790000000")
    assert SYSTEM.this_job() == ThisJob("4711", "nid001234", 1790000000.0)


@pytest.mark.parametrize(
    ("option", "nodes"),
    [
        ("--exclude=n1,n[3-4]", "n1,n[3-4]"),
        ("--exclude n1", "n1"),
        ("-x n1", "n1"),
        ("-xn1", "n1"),
        ("--exclusive", None),
        ("--exclusive=user", None),
    ],
)
def test_nodes_to_stay_away_from_are_found_however_they_are_written(
    option: str, nodes: str | None
) -> None:
    assert excluded_nodes(option) == nodes
