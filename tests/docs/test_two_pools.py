"""The script of docs/python.md, on the real Triton."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hpcbench import load_results
from tests.helpers import models
from tests.helpers.paths import CHECKOUT
from tests.helpers.real import BUSY, QUICK

SCRIPT = CHECKOUT / "docs" / "two_pools.py"


def test_the_script_is_short() -> None:
    assert len(SCRIPT.read_text().splitlines()) < 30


@pytest.mark.native
def test_two_models_on_two_pools_end_as_a_figure_and_a_file_to_deploy_for_each(
    tmp_path: Path, native_prefix: Path
) -> None:
    repository = tmp_path / "models"
    models.one_step(repository, "tagger")
    models.one_step(repository, "bare")
    # The smallest repository that works: Triton completes the configuration.
    (repository / "bare" / "config.pbtxt").unlink()
    campaign = {
        "name": "two",
        "model_repository": str(repository),
        "models": [{"name": "tagger"}, {"name": "bare"}],
        "load": {"batch_size": 1, "concurrency": 1},
        "measurement": QUICK,
        "repeats": 2,
    }
    site = {
        "name": "here",
        "container": {"prefix": str(native_prefix)},
        "pools": {"left": {"max_jobs": 1}, "right": {"max_jobs": 1}},
    }
    files = []
    for name, content in {"campaign.yaml": campaign, "site.yaml": site}.items():
        files.append(str(tmp_path / name))
        (tmp_path / name).write_text(yaml.safe_dump(content))
    results = tmp_path / "results"
    done = subprocess.run(
        # A limit that a busy machine keeps, too; and what it holds up counts.
        [sys.executable, str(SCRIPT), *files, str(results), "100000", *BUSY],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    frame = load_results(results)
    assert frame.groupby(["model", "pool"]).size().to_dict() == {
        (model, pool): 2 for model in ("bare", "tagger") for pool in ("left", "right")
    }, done.stderr
    assert (results / "throughput.png").read_bytes().startswith(b"\x89PNG")
    assert done.stdout.count(": batch size 1\n") == 2, frame["invalid_reasons"].tolist()
    (served,) = results.glob("tagger-*.pbtxt")
    assert 'platform: "onnxruntime_onnx"' in served.read_text()
    # Triton completes that of the other one, and so it is deployed without one.
    (bare,) = results.glob("bare-*.pbtxt")
    assert bare.read_text() == ""
