"""A batch system that hpcbench does not know: its module and one entry are enough for a run."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import yaml

from hpcbench import Campaign, Site, load_results
from hpcbench.cluster import batch, driver, ledger
from hpcbench.config.site import SYSTEMS, SystemEntry
from hpcbench.records.folder import Results
from tests.cluster import folder_queue
from tests.helpers.builders import refusal
from tests.helpers.paths import CHECKOUT
from tests.helpers.real import QUICK, UNHURRIED

DEMO = CHECKOUT / "jobs" / "demo" / "campaign.yaml"


@pytest.fixture(autouse=True)
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = SystemEntry(
        module=folder_queue.__name__,
        pool_keys=("walltime",),
        check_directives=lambda _: None,
        asked_gpus=lambda _: {},
        carries_files=False,
    )
    monkeypatch.setitem(SYSTEMS, "folder", entry)
    for name, value in folder_queue.install(tmp_path / "batch").items():
        monkeypatch.setenv(name, value)
    # The jobs find its module as they find hpcbench.
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))


def third_site(folder: Path, prefix: Path, **pool: object) -> Site:
    content = {
        "name": "third",
        "scheduler": "folder",
        "network": {"interface": "lo"},
        "container": {"runtime": "native", "prefix": str(prefix), "scratch": str(folder)},
        "pools": {"cpu": {"max_jobs": 2, "walltime": "00:10:00", **pool}},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(content))
    return Site.load(folder / "site.yaml")


def test_its_site_file_is_validated(tmp_path: Path) -> None:
    assert third_site(tmp_path, tmp_path).scheduler == "folder"
    message = refusal(third_site, tmp_path, tmp_path, partition="gpu")
    assert "pools.cpu.partition: means nothing where scheduler is folder" in message


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_it_runs_the_grid_of_the_demo(
    tmp_path: Path, native_prefix: Path, demo_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    content = yaml.safe_load(DEMO.read_text())
    content["measurement"] |= QUICK
    content |= {"model_repository": str(demo_models), "server": UNHURRIED}
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(content))
    campaign = Campaign.load(tmp_path / "campaign.yaml")
    where = Results(tmp_path / "results")
    summary = driver.run(campaign, third_site(tmp_path, native_prefix), where.folder)
    assert summary.exit_code == 0, summary
    frame = load_results(where.folder)
    assert sorted(frame["batch_size"]) == content["load"]["batch_size"]
    assert set(frame["status"]) <= {"ok", "unstable"}

    (run,) = [line["run"] for line in ledger._lines(where.ledger) if "scheduler" in line]
    jobs = folder_queue.SYSTEM.jobs(run)
    assert set(frame["job_id"]) <= jobs.keys()
    assert not batch.active(jobs)
    assert ledger.unfinished(where) == []
    assert list(temporary.iterdir()) == [], "Dask's workspace is left, or a folder of our own"
