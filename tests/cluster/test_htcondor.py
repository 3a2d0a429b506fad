"""HTCondor's answers, as the real commands printed them, and the environment of its jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbench.cluster.batch import Job, JobState, ThisJob
from hpcbench.cluster.htcondor import SYSTEM
from tests.helpers.paths import DATA

Program = Callable[[str, str], None]


def test_jobs_come_with_their_reasons(program: Program) -> None:
    program("condor_q", f"cat {DATA}/batch/condor_q.json")
    assert SYSTEM.jobs("hpcbench-1") == {
        "1.0": Job("1.0", JobState.RUNNING, "", "c1"),
        "1.2": Job("1.2", JobState.WAITING),
        "3.0": Job("3.0", JobState.WAITING, "no match found"),
    }


def test_an_empty_queue_is_no_error(program: Program) -> None:
    program("condor_q", "true")
    assert SYSTEM.jobs("hpcbench-1") == {}


def test_only_the_runs_own_jobs_are_asked_for_and_cancelled(
    programs: Path, program: Program
) -> None:
    for name in ("condor_q", "condor_rm"):
        program(name, f'for word; do echo "$word"; done > {programs}/{name}.said')
    SYSTEM.jobs("hpcbench-1")
    SYSTEM.cancel("hpcbench-1")
    for name in ("condor_q", "condor_rm"):
        assert 'HpcbenchRun == "hpcbench-1"' in (programs / f"{name}.said").read_text().splitlines()
    SYSTEM.cancel("hpcbench-1", ["7.0", "8.0"])
    assert (programs / "condor_rm.said").read_text().split() == ["7.0", "8.0"]


def test_cancelling_what_is_gone_is_no_error(program: Program) -> None:
    words = "Couldn't find/remove all jobs matching constraint"
    program("condor_rm", f'echo "{words}" >&2; exit 1')
    SYSTEM.cancel("hpcbench-1")


def test_it_is_asked_whether_a_node_is_left_that_was_not_excluded(
    programs: Path, program: Program
) -> None:
    program("condor_status", f'for w; do echo "$w"; done >{programs}/said; echo c3')
    assert SYSTEM.has_other_nodes(["c1", "c2"], gpus=True)
    asked = (programs / "said").read_text().splitlines()
    assert asked[-1] == 'Machine =!= "c1" && Machine =!= "c2" && TotalGPUs > 0'
    program("condor_status", "true")
    assert not SYSTEM.has_other_nodes(["c1"], gpus=False)
    program("condor_status", "exit 1")
    assert SYSTEM.has_other_nodes(["c1"], gpus=False), "nobody knows"


def test_a_job_knows_its_id_and_its_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("_CONDOR_JOB_AD", "_CONDOR_MACHINE_AD"):
        monkeypatch.delenv(name, raising=False)
    assert SYSTEM.this_job() is None
    machine = tmp_path / ".machine.ad"
    machine.write_text('Cpus = 8\nMachine = "b7g33n2222.cern.ch"\nMyType = "Machine"\n')
    monkeypatch.setenv("_CONDOR_MACHINE_AD", str(machine))
    assert SYSTEM.this_job() == ThisJob(None, "b7g33n2222.cern.ch")
    job = tmp_path / ".job.ad"
    job.write_text("ClusterId = 17\nProcId = 3\n")
    monkeypatch.setenv("_CONDOR_JOB_AD", str(job))
    assert SYSTEM.this_job() == ThisJob("17.3", "b7g33n2222.cern.ch")
    # Inherited from a job of another node, where the driver was.
    job.unlink()
    machine.unlink()
    assert SYSTEM.this_job() is None
