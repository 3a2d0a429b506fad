"""What goes wrong with a batch system's commands, and where its name may stand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbench.cluster import batch
from hpcbench.config.site import SYSTEMS
from hpcbench.errors import SiteError
from hpcbench.measure import node
from tests.helpers.paths import CHECKOUT

Program = Callable[[str, str], None]


def test_a_batch_system_is_named_in_its_own_module_and_the_site_file_only() -> None:
    package = CHECKOUT / "hpcbench"
    named = re.compile("slurm|sbatch|squeue|sacct|condor", re.IGNORECASE)
    # The links to folders beside it are not entered.
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.suffix != ".pyc"
        and (named.search(path.name) or (path.is_file() and named.search(path.read_text())))
    }
    assert found == {"config/site.py", "cluster/slurm.py", "cluster/htcondor.py"}


def test_a_system_that_is_down_is_reported_in_its_own_words(program: Program) -> None:
    words = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    program("squeue", f'echo "{words}" >&2; exit 1')
    with pytest.raises(SiteError, match="Unable to contact slurm controller"):
        batch.system("slurm").jobs("hpcbench-1")


@pytest.mark.usefixtures("programs")
def test_a_command_that_is_not_there_is_reported_with_what_to_do() -> None:
    with pytest.raises(SiteError, match="squeue") as caught:
        batch.system("slurm").jobs("hpcbench-1")
    assert "where the batch system's commands are" in str(caught.value)


def test_a_command_that_hangs_is_given_up(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "COMMAND_TIMEOUT_S", 0.5)
    program("squeue", "sleep 60")
    with pytest.raises(SiteError, match="no answer within"):
        batch.system("slurm").jobs("hpcbench-1")


@pytest.fixture
def in_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that has the variables of two batch systems."""
    ad = tmp_path / ".job.ad"
    ad.write_text("ClusterId = 17\nProcId = 3\n")
    monkeypatch.setenv("_CONDOR_JOB_AD", str(ad))
    monkeypatch.delenv("_CONDOR_MACHINE_AD", raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.delenv(batch.MODULE, raising=False)


@pytest.mark.usefixtures("in_a_job")
def test_a_job_is_asked_of_its_own_system_and_others_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = batch.this_job()
    assert found is not None
    assert found.id == "17.3", "Slurm's variables are handed on to jobs that are submitted in a job"
    monkeypatch.setenv(batch.MODULE, SYSTEMS["slurm"].module)
    found = batch.this_job()
    assert found is not None
    assert found.id == "4711"


def test_a_job_that_is_not_known_hides_the_one_around_it() -> None:
    assert batch.job_variables(None) == {node.JOB_ID: "", node.NODE_NAME: ""}
    job = batch.ThisJob("7", None)
    assert batch.job_variables(job) == {node.JOB_ID: "7", node.NODE_NAME: ""}
