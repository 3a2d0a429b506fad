"""What Triton completes of models without config.pbtxt is known before a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hpcbench.cli.main import main
from tests.helpers.real import SHAPES, campaign_file, site_file

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("leaves_nothing")]


@pytest.fixture
def bare(tmp_path: Path, demo_models: Path) -> Path:
    """The demo's model without its config.pbtxt."""
    (tmp_path / "models" / "bare" / "1").mkdir(parents=True)
    source = demo_models / "jet_tagger" / "1" / "model.onnx"
    shutil.copy(source, tmp_path / "models" / "bare" / "1" / "model.onnx")
    return tmp_path / "models"


def planned(folder: Path, prefix: Path, models: Path, *options: str, batch: int) -> Result:
    asked = [{"name": "bare", "shapes": SHAPES}]
    load = {"batch_size": [1, batch], "concurrency": 1}
    campaign = campaign_file(folder, models, models=asked, load=load)
    words = ["plan", str(campaign), "--site", str(site_file(folder, prefix)), *options]
    return CliRunner().invoke(main, words)


def test_a_plan_says_what_triton_completes_and_what_that_cannot_take(
    tmp_path: Path, native_prefix: Path, bare: Path
) -> None:
    """Triton gives a model that it completes a small batch limit, which a scan soon exceeds."""
    done = planned(tmp_path, native_prefix, bare, "--json", batch=2)
    assert done.exit_code == 0, done.output
    assert "asking Triton to complete bare" in done.stderr
    completed = json.loads(done.stdout)["completed"]["bare"]
    limit = completed["max_batch_size"]
    assert limit > 1
    assert {name: len(dims) for name, dims in completed["inputs"].items()} == {
        name: len(dims) for name, dims in SHAPES.items()
    }
    refused = planned(tmp_path, native_prefix, bare, batch=limit + 1)
    assert refused.exit_code == 2
    assert f"load.batch_size: {limit + 1} is over max_batch_size {limit}" in refused.stderr


def test_a_plan_says_why_triton_does_not_load_a_model(
    tmp_path: Path, native_prefix: Path, bare: Path
) -> None:
    (bare / "bare" / "1" / "model.onnx").write_bytes(b"no network")
    refused = planned(tmp_path, native_prefix, bare, batch=2)
    assert refused.exit_code == 2
    assert "Triton does not load bare: " in refused.stderr
