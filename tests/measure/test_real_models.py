"""Real models of CMS, from their repository to the records and figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from hpcbench import Campaign, Site, load_results, run
from hpcbench.analysis.figures.save import save_figures
from hpcbench.exchange.event_columns import read_events
from hpcbench.exchange.input_layout import InputOptions
from hpcbench.exchange.make_input import write_input
from hpcbench.plan.model import read_model
from tests.helpers.backend_server import versions
from tests.helpers.measurements import loaded
from tests.helpers.paths import CHECKOUT
from tests.helpers.real import PARTICLENET_SHAPES, QUICK, measured, site_file
from tests.helpers.tensorflow_models import as_configured

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("leaves_nothing")]


def scan(folder: Path, models: Path, names: list[str]) -> Path:
    """The campaign of the documentation for some of its models, with short windows."""
    content = yaml.safe_load((CHECKOUT / "jobs" / "particlenet.yaml").read_text())
    content["model_repository"] = str(models)
    content["models"] = [model for model in content["models"] if model["name"] in names]
    content["measurement"] |= {"measurement_interval_ms": 500, "max_trials": 4}
    content["load"]["batch_size"] = [1, 2, 4]
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def has_torch(prefix: Path) -> bool:
    return (prefix / ".parts" / "pytorch").exists()


@pytest.fixture(scope="module")
def particlenet(
    tmp_path_factory: pytest.TempPathFactory, native_prefix: Path, shared_models: Path
) -> pd.DataFrame:
    """ParticleNet as it was scanned in ONNX, and in PyTorch where the prefix can serve that."""
    folder = tmp_path_factory.mktemp("particlenet")
    names = ["particlenet_AK4", *(["particlenet_AK4_PT"] if has_torch(native_prefix) else [])]
    campaign = Campaign.load(scan(folder, shared_models, names))
    summary = run(campaign, Site.load(site_file(folder, native_prefix)), folder / "results")
    frame = load_results(folder / "results")
    assert summary.exit_code == 0, list(frame["reason"])
    return frame


def test_particlenet_is_scanned_with_its_own_configuration(particlenet: pd.DataFrame) -> None:
    frame = particlenet[particlenet["model"] == "particlenet_AK4"]
    assert list(frame["batch_size"]) == [1, 2, 4]
    assert set(frame["status"]) <= {"ok", "unstable"}
    assert set(frame["platform"]) == {"onnxruntime_onnx"}
    assert set(frame["max_batch_size"]) == {500}
    assert set(frame["preferred_batch_size"]) == {(200,)}
    for column in ("throughput_infer_per_s", "latency_p95_us", "server_compute_infer_us"):
        assert frame[column].notna().all()
        assert (frame[column] > 0).all()


def test_the_figure_compares_onnx_with_pytorch(
    tmp_path: Path, native_prefix: Path, particlenet: pd.DataFrame
) -> None:
    if not has_torch(native_prefix):
        pytest.skip("the native prefix has no torch: make native WITH=pytorch")
    assert len(particlenet) == 6
    names = ["throughput_latency_vs_batch"]
    # Whether rows of a busy machine may be believed is another question.
    frame = particlenet.assign(invalid_reasons=pd.NA)
    drawn = save_figures(frame, tmp_path / "figures", names=names).files
    assert {path.suffix for path in drawn} == {".png", ".pdf", ".csv"}
    assert all(path.stat().st_size > 1000 for path in drawn if path.suffix != ".csv")


def jets(folder: Path) -> tuple[Path, dict[str, tuple[str, ...]]]:
    """A Parquet file of 30 jets with lists of any length, and which columns make which input."""
    random = np.random.default_rng(5)
    columns: dict[str, list[np.ndarray]] = {}
    mapping = {}
    for prefix, most in (("pf", 80), ("sv", 7)):
        counts = random.integers(0, most, 30)
        for name in (n for n in PARTICLENET_SHAPES if n.startswith(prefix)):
            mapping[name] = tuple(f"{name}_{i}" for i in range(PARTICLENET_SHAPES[name][0]))
            for column in mapping[name]:
                columns[column] = [random.normal(size=c).astype(np.float32) for c in counts]
    pq.write_table(pa.table(columns), folder / "jets.parquet")
    return folder / "jets.parquet", mapping


def test_particlenet_is_measured_on_events_of_a_file_and_of_a_folder(
    tmp_path: Path, native_prefix: Path, shared_models: Path
) -> None:
    events, mapping = jets(tmp_path)
    options = InputOptions(columns=mapping, shapes=PARTICLENET_SHAPES, pad=0, truncate=True)
    write_input(
        read_model(shared_models, "particlenet_AK4"),
        read_events(events),
        tmp_path / "jets.json",
        options,
    )
    (tmp_path / "jet").mkdir()
    for name, shape in PARTICLENET_SHAPES.items():
        (tmp_path / "jet" / name).write_bytes(np.ones(shape, np.float32).tobytes())
    content = yaml.safe_load(scan(tmp_path, shared_models, ["particlenet_AK4"]).read_text())
    content["measurement"] |= QUICK | {"input_data": ["jets.json", "jet"]}
    content["load"]["batch_size"] = [1, 4]
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(content))
    campaign = Campaign.load(tmp_path / "campaign.yaml")
    site = Site.load(site_file(tmp_path, native_prefix))
    frame = loaded(measured(campaign, site, tmp_path / "logs"))
    assert set(frame["status"]) <= {"ok", "unstable"}, list(frame["reason"])
    assert sorted(zip(frame["input_data"], frame["batch_size"], strict=True)) == sorted(
        (str(tmp_path / name), size) for name in ("jets.json", "jet") for size in (1, 4)
    )
    assert frame["input_data_digest"].nunique() == 2
    assert (frame["throughput_infer_per_s"] > 0).all()


def needs_tensorflow(prefix: Path) -> None:
    if "tensorflow" not in versions(prefix):
        pytest.skip("the native prefix has no TensorFlow: make native WITH=tensorflow")


def tensorflow_campaign(folder: Path, repository: Path, models: list[Any]) -> Campaign:
    """Random numbers are no indices of categories, which these models look up.

    A few requests a second leave TensorFlow's threads time to sleep.
    """
    content = {
        "name": "tensorflow",
        "model_repository": str(repository),
        "models": models,
        "load": {"batch_size": [1, 4], "request_rate": 4},
        "measurement": {**QUICK, "measurement_interval_ms": 1200, "input_data": "zero"},
    }
    (folder / "campaign.yaml").write_text(yaml.safe_dump(content))
    return Campaign.load(folder / "campaign.yaml")


def test_both_versions_of_deepmet_are_scanned_with_its_own_configuration(
    tmp_path: Path, native_prefix: Path, shared_models: Path
) -> None:
    needs_tensorflow(native_prefix)
    tunes = [
        {"name": "deepmet", "version": 1, "label": "resolution tune"},
        {"name": "deepmet", "version": 2, "label": "response tune"},
    ]
    campaign = tensorflow_campaign(tmp_path, shared_models, models=tunes)
    site = Site.load(site_file(tmp_path, native_prefix))
    frame = loaded(measured(campaign, site, tmp_path / "logs"))
    assert set(frame["status"]) <= {"ok", "unstable"}, list(frame["reason"])
    assert sorted(zip(frame["model_label"], frame["batch_size"], strict=True)) == [
        ("resolution tune", 1),
        ("resolution tune", 4),
        ("response tune", 1),
        ("response tune", 4),
    ]
    assert set(frame["platform"]) == {"tensorflow_graphdef"}
    assert set(frame["max_batch_size"]) == {100}
    assert set(frame["preferred_batch_size"]) == {(8, 16)}
    assert (frame["server_compute_infer_us"] > 0).all()


def test_a_graph_with_the_configuration_of_deeptau_is_scanned(
    tmp_path: Path, native_prefix: Path, shared_models: Path
) -> None:
    needs_tensorflow(native_prefix)
    config = shared_models.parent / "model_configs" / "deeptau_nosplit" / "config.pbtxt"
    as_configured(native_prefix, config, tmp_path / "models")
    campaign = tensorflow_campaign(
        tmp_path, tmp_path / "models", models=[{"name": "deeptau_nosplit"}]
    )
    site = Site.load(site_file(tmp_path, native_prefix))
    frame = loaded(measured(campaign, site, tmp_path / "logs"))
    assert set(frame["status"]) <= {"ok", "unstable"}, list(frame["reason"])
    assert set(frame["max_batch_size"]) == {1000}
    assert (frame["throughput_infer_per_s"] > 0).all()
