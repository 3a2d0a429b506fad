"""The batch systems' answers, as the real ones printed them, and what goes wrong with asking."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbench.cluster import batch
from hpcbench.cluster.batch import Job, JobState
from hpcbench.errors import SiteError
from tests.helpers.paths import DATA

PRINTED = DATA / "batch"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first in PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_slurms_jobs_are_told_with_their_reasons(programs: Path) -> None:
    program(programs, "squeue", f"cat {PRINTED}/squeue.txt")
    found = batch.jobs("slurm", "hpcbench-1")
    assert found == {
        "4": Job("4", JobState.WAITING, "ReqNodeNotAvail, May be reserved for other job"),
        "3": Job("3", JobState.WAITING, "Resources"),
        "2": Job("2", JobState.ENDED, "CANCELLED"),
        "1": Job("1", JobState.RUNNING, "", "n1"),
        "7": Job("7", JobState.ENDED, "FAILED (NonZeroExitCode)", "n2"),
    }
    assert sorted(batch.active(found)) == ["1", "3", "4"]


def test_htcondors_jobs_are_told_with_their_reasons(programs: Path) -> None:
    program(programs, "condor_q", f"cat {PRINTED}/condor_q.json")
    assert batch.jobs("htcondor", "hpcbench-1") == {
        "1.0": Job("1.0", JobState.RUNNING, "", "c1"),
        "1.2": Job("1.2", JobState.WAITING),
        "3.0": Job("3.0", JobState.WAITING, "no match found"),
    }


def test_an_empty_queue_is_no_error(programs: Path) -> None:
    program(programs, "squeue", "true")
    program(programs, "condor_q", "true")
    assert batch.jobs("slurm", "hpcbench-1") == {}
    assert batch.jobs("htcondor", "hpcbench-1") == {}


def test_only_the_runs_own_jobs_are_asked_for_and_cancelled(programs: Path) -> None:
    for name in ("squeue", "scancel", "condor_q", "condor_rm"):
        program(programs, name, f'for word; do echo "$word"; done > {programs}/{name}.said')
    batch.jobs("slurm", "hpcbench-1")
    batch.cancel("slurm", "hpcbench-1")
    batch.jobs("htcondor", "hpcbench-1")
    batch.cancel("htcondor", "hpcbench-1")
    for name in ("squeue", "scancel"):
        assert "--name=hpcbench-1" in (programs / f"{name}.said").read_text().splitlines()
    for name in ("condor_q", "condor_rm"):
        assert 'HpcbenchRun == "hpcbench-1"' in (programs / f"{name}.said").read_text().splitlines()
    batch.cancel("slurm", "hpcbench-1", ["7", "8"])
    assert (programs / "scancel.said").read_text().split() == ["7", "8"]


@pytest.mark.parametrize(
    ("system", "name", "words"),
    [
        (
            "slurm",
            "scancel",
            "scancel: error: Kill job error on job id 7: Invalid job id specified",
        ),
        ("htcondor", "condor_rm", "Couldn't find/remove all jobs matching constraint"),
    ],
)
def test_cancelling_what_is_gone_is_no_error(
    programs: Path, system: batch.BatchSystem, name: str, words: str
) -> None:
    program(programs, name, f'echo "{words}" >&2; exit 1')
    batch.cancel(system, "hpcbench-1")


def test_a_batch_system_that_is_down_is_told_in_its_own_words(programs: Path) -> None:
    words = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    program(programs, "squeue", f'echo "{words}" >&2; exit 1')
    with pytest.raises(SiteError, match="Unable to contact slurm controller"):
        batch.jobs("slurm", "hpcbench-1")


def test_a_command_that_is_not_there_is_told_with_what_to_do(programs: Path) -> None:
    with pytest.raises(SiteError, match="squeue") as caught:
        batch.jobs("slurm", "hpcbench-1")
    assert "where the batch system's commands are" in str(caught.value)


def test_a_command_that_hangs_is_given_up(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "COMMAND_TIMEOUT_S", 0.5)
    program(programs, "squeue", "sleep 60")
    with pytest.raises(SiteError, match="no answer within"):
        batch.jobs("slurm", "hpcbench-1")


def test_htcondor_is_asked_whether_a_node_is_left_that_was_not_excluded(programs: Path) -> None:
    program(programs, "condor_status", f'for w; do echo "$w"; done >{programs}/said; echo c3')
    assert batch.has_other_nodes("htcondor", ["c1", "c2"], gpus=True)
    asked = (programs / "said").read_text().splitlines()
    assert asked[-1] == 'Machine =!= "c1" && Machine =!= "c2" && TotalGPUs > 0'
    program(programs, "condor_status", "true")
    assert not batch.has_other_nodes("htcondor", ["c1"], gpus=False)
    program(programs, "condor_status", "exit 1")
    assert batch.has_other_nodes("htcondor", ["c1"], gpus=False), "nobody knows"
