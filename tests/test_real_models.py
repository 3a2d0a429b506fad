"""The real ParticleNet of CMS, from its repository to the figure, as the documentation scans it."""

from pathlib import Path

import pytest
import yaml

from analysis import figures
from hpcbench import Campaign, Site, load_results, run
from tests.conftest import CHECKOUT
from tests.real import site_file

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("leaves_nothing")]


def scan(folder: Path, models: Path, names: list[str]) -> Path:
    """The campaign of the documentation for some of its models, with short windows."""
    content = yaml.safe_load((CHECKOUT / "jobs" / "particlenet.yaml").read_text())
    content["model_repository"] = str(models)
    content["models"] = [model for model in content["models"] if model["name"] in names]
    # The largest batch takes about half a second per request on two cores.
    content["measurement"] |= {"measurement_interval_ms": 1200, "max_trials": 4}
    content["load"]["batch_size"] = [1, 8, 64]
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_particlenet_is_scanned_with_its_own_configuration(
    tmp_path: Path, native_prefix: Path, shared_models: Path
) -> None:
    campaign = Campaign.load(scan(tmp_path, shared_models, ["particlenet_AK4"]))
    site = Site.load(site_file(tmp_path, native_prefix))
    summary = run(campaign, site, tmp_path / "results")
    frame = load_results(tmp_path / "results")
    assert summary.exit_code == 0, list(frame["reason"])
    assert list(frame["batch_size"]) == [1, 8, 64]
    assert set(frame["status"]) <= {"ok", "unstable"}
    assert set(frame["platform"]) == {"onnxruntime_onnx"}
    assert set(frame["max_batch_size"]) == {500}
    assert set(frame["preferred_batch_size"]) == {(200,)}
    for column in ("throughput_infer_per_s", "latency_p95_us", "server_compute_infer_us"):
        assert frame[column].notna().all()
        assert (frame[column] > 0).all()


def test_the_figure_compares_onnx_with_pytorch(
    tmp_path: Path, native_prefix: Path, shared_models: Path
) -> None:
    if not (native_prefix / ".parts" / "pytorch").exists():
        pytest.skip("the native prefix has no torch: make native WITH=pytorch")
    both = ["particlenet_AK4", "particlenet_AK4_PT"]
    campaign = Campaign.load(scan(tmp_path, shared_models, both))
    site = Site.load(site_file(tmp_path, native_prefix))
    summary = run(campaign, site, tmp_path / "results")
    frame = load_results(tmp_path / "results")
    assert summary.exit_code == 0, list(frame["reason"])
    assert len(frame) == 6
    drawn = figures.draw_all(frame, tmp_path / "figures").files
    assert {path.suffix for path in drawn} == {".png", ".pdf", ".csv"}
    assert all(path.stat().st_size > 1000 for path in drawn if path.suffix != ".csv")
