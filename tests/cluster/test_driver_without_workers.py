"""Runs that need no worker: every point is recorded already, or applies nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbench import load_results
from hpcbench.cluster import driver
from hpcbench.cluster.events import Event, PointMeasured
from hpcbench.config.campaign import Campaign
from hpcbench.config.site import Site
from hpcbench.errors import BadInput
from hpcbench.records.columns import Status
from hpcbench.records.folder import Results
from tests.helpers.builders import campaign, write_model, write_prefix, write_site


@pytest.fixture
def nowhere(tmp_path: Path) -> tuple[Campaign, Site]:
    """A campaign of 200 points for TensorRT, on a site whose pool has no GPU."""
    write_model(tmp_path / "models")
    write_prefix(tmp_path)
    study = campaign(
        model_repository=str(tmp_path / "models"),
        server={"accelerator": {"name": "tensorrt"}, "instance_count": list(range(1, 21))},
        load={"batch_size": list(range(1, 11))},
    )
    return study, Site.load(write_site(tmp_path))


def test_points_that_apply_nowhere_are_recorded_in_one_file(
    nowhere: tuple[Campaign, Site], tmp_path: Path
) -> None:
    """Each file costs a shared file system tens of milliseconds, before the first job."""
    events: list[Event] = []
    summary = driver.run(*nowhere, tmp_path / "results", listener=events.append)
    assert dict(summary.counts) == {Status.NOT_APPLICABLE: 200}
    assert summary.exit_code == 0
    assert sum(isinstance(event, PointMeasured) for event in events) == 200
    records = Results(tmp_path / "results").records
    assert [path.name for path in records.iterdir()] == ["inapplicable.parquet"]
    assert driver.run(*nowhere, tmp_path / "results").measured_now == 0
    assert len(load_results(tmp_path / "results")) == 200


def test_a_run_moves_a_damaged_file_aside_records_its_points_again_and_ends_with_1(
    nowhere: tuple[Campaign, Site], tmp_path: Path
) -> None:
    results = Results(tmp_path / "results")
    driver.run(*nowhere, results.folder)
    (path,) = results.records.iterdir()
    content = path.read_bytes()[:-100]
    path.write_bytes(content)
    notes: list[str] = []
    listener = lambda event: notes.append(getattr(event, "text", ""))  # noqa: E731
    summary = driver.run(*nowhere, results.folder, listener=listener)
    assert (summary.damaged, summary.exit_code, summary.missing) == (1, 1, 0)
    assert any(text.startswith(f"moved aside, as {path.name}.damaged: ") for text in notes)
    assert path.with_name(f"{path.name}.damaged").read_bytes() == content
    assert len(load_results(results.folder)) == 200
    assert driver.run(*nowhere, results.folder).exit_code == 0


def test_a_run_in_a_folder_with_a_link_is_refused_before_it_writes(
    nowhere: tuple[Campaign, Site], tmp_path: Path
) -> None:
    results = Results(tmp_path / "results")
    driver.run(*nowhere, results.folder)
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("five years")
    (results.logs / "driver.log").unlink()
    (results.logs / "driver.log").symlink_to(thesis)
    with pytest.raises(BadInput, match="is a link to"):
        driver.run(*nowhere, results.folder)
    assert thesis.read_text() == "five years"
