"""What production takes is made of the rows: each number is computed again here."""

from __future__ import annotations

import ast
import json
import math
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from hpcbench import load_results, save_results
from hpcbench.analysis.decide.production import numbers_for_production
from hpcbench.analysis.decide.recommend import recommend_on_all_servers
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.cli.main import main
from hpcbench.errors import BadInput
from tests.helpers import measurements
from tests.helpers.paths import CHECKOUT, DATA

MEASURED = DATA / "jet_tagger_0.1.0.parquet"
REAL_MODELS = CHECKOUT / "docs" / "results" / "cms_models.parquet"
TARGETS = ("triton", "supersonic", "cmssw", "kubernetes")
ASKED = ("--max-latency-p99-ms", "20", "--rate", "50000", "--limits-by-mean")
IMAGE = "nvcr.io/nvidia/tritonserver"
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The tutorial's rows, as if they were measured in a container, with memory and CPUs."""
    frame = load_results(MEASURED)
    frame["server_image"] = f"docker://{IMAGE}:24.10-py3"
    frame["server_image_digest"] = DIGEST
    frame["server_memory_max_bytes"] = range(400_000_000, 400_000_000 + len(frame))
    frame["server_cpu_s"], frame["cpu_sampled_s"] = 9.0, 6.0
    folder = tmp_path_factory.mktemp("measured") / "results"
    save_results(frame, folder)
    return folder, load_results(folder)


def deployed(results: Path, out: Path, *more: str) -> list[dict[str, Any]]:
    ended = CliRunner().invoke(main, ["recommend", str(results), "--out", str(out), *more])
    assert ended.exit_code == 0, ended.output
    found: list[dict[str, Any]] = json.loads((out / "recommendation.json").read_text())
    return found


@pytest.fixture(scope="module")
def written(
    measured: tuple[Path, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], dict[str, Path]]:
    """Everything that can be asked for: the folder, the first recommendation and its files."""
    out = tmp_path_factory.mktemp("production") / "out"
    first = deployed(measured[0], out, *ASKED, *(f"--for={name}" for name in TARGETS))[0]
    return out, first, {Path(name).parts[0]: out / name for name in first["files"]}


def server_rows(measured: tuple[Path, pd.DataFrame], first: dict[str, Any]) -> pd.DataFrame:
    """The valid rows of the recommended server and batch size."""
    frame = measured[1]
    best = frame[frame["point_id"] == first["recommended"]["point_id"]].iloc[0]
    same = frame["valid"].fillna(value=False)
    for name in ("model", "model_label", "variant", "batch_size", "shapes"):
        same &= frame[name] == best[name]
    return frame[same]


def test_the_numbers_are_those_of_the_rows(measured, written) -> None:
    first = written[1]
    found, rows = first["production"], server_rows(measured, first)
    means = rows.groupby("concurrency")["latency_p99_us"].mean() / 1000
    loaded = rows[rows["concurrency"] == means[means <= 20].index.max()]
    queue = loaded["server_queue_us"] * loaded["success_count"] / loaded["execution_count"] / 1000
    assert found["concurrency"] == loaded["concurrency"].iloc[0]
    assert found["queue_ms_per_execution"] == pytest.approx(queue.mean())
    assert found["server_load_threshold"] == max(1, round(queue.mean()))
    starts = rows.drop_duplicates(["placement_id", "server_ready_s"])["server_ready_s"].dropna()
    assert found["ready_median_s"] == pytest.approx(starts.median())
    assert found["ready_starts"] == len(starts) < len(rows)
    longest = rows["server_ready_s"].max()
    assert found["startup_failures"] == max(3, math.ceil(2 * longest / 10))
    memory = rows["server_memory_max_bytes"].max()
    assert found["memory_mib"] == math.ceil(1.5 * memory / 2**20 / 256) * 256
    assert found["cpus"] == 2
    chosen = rows[rows["point_id"] == first["recommended"]["point_id"]]
    assert found["latency_p99_ms"] == pytest.approx(chosen["latency_p99_us"].max() / 1000)
    assert found["timeout_s"] == max(1, math.ceil(chosen["latency_p99_us"].max() / 1e5))
    assert (found["rows"], found["servers"]) == (len(chosen), first["sizing"]["servers"])


SUPERSONIC = {
    "serverLoadThreshold": int,
    "triton.replicas": int,
    "triton.image": str,
    "triton.command": list,
    "triton.args": list,
    "triton.resources.limits.cpu": int,
    "triton.resources.limits.memory": str,
    "triton.resources.requests.cpu": int,
    "triton.resources.requests.memory": str,
    "triton.modelRepository.enabled": bool,
    "triton.modelRepository.mountPath": str,
    "triton.readinessProbe.initialDelaySeconds": int,
    "triton.startupProbe.periodSeconds": int,
    "triton.startupProbe.failureThreshold": int,
    "keda.minReplicaCount": int,
    "keda.maxReplicaCount": int,
}
"""From values.schema.json of SuperSONIC's chart 0.3.1, whatever of it hpcbench can know."""


def leaves(values: dict[str, Any], above: str = "") -> dict[str, type]:
    found = {}
    for name, value in values.items():
        whole = f"{above}{name}"
        found |= leaves(value, f"{whole}.") if isinstance(value, dict) else {whole: type(value)}
    return found


def test_values_of_supersonic_have_the_types_of_its_schema(written) -> None:
    text = written[2]["supersonic"].read_text()
    assert leaves(yaml.safe_load(text)) == SUPERSONIC
    # What only the cluster knows.
    assert "# Add triton.modelRepository.storageType" in text
    assert "keda.enabled: true" in text
    numbers, values = written[1]["production"], yaml.safe_load(written[2]["supersonic"].read_text())
    servers = numbers["servers"] + numbers["spares"]
    assert values["serverLoadThreshold"] == numbers["server_load_threshold"]
    assert values["keda"]["maxReplicaCount"] == values["triton"]["replicas"] == servers
    assert values["triton"]["image"] == f"{IMAGE}:24.10-py3@{DIGEST}"
    limits = values["triton"]["resources"]["limits"]
    assert limits == values["triton"]["resources"]["requests"]
    assert type(limits["cpu"]) is int
    assert int(limits["memory"].removesuffix("M")) * 10**6 >= numbers["memory_mib"] * 2**20
    assert values["triton"]["startupProbe"]["failureThreshold"] == numbers["startup_failures"]
    (script,) = values["triton"]["args"]
    assert script.startswith("/opt/tritonserver/bin/tritonserver ")
    assert "--model-repository=/models" in script


TRITON_CLIENT = {
    "mode": "cms.string",
    "modelName": "cms.string",
    "modelVersion": "cms.string",
    "modelConfigPath": "cms.FileInPath",
    "preferredServer": "cms.untracked.string",
    "timeout": "cms.untracked.uint32",
    "timeoutUnit": "cms.untracked.string",
    "useSharedMemory": "cms.untracked.bool",
    "compression": "cms.untracked.string",
    "outputs": "cms.untracked.vstring",
}
"""What TritonClient::fillPSetDescription takes in all of CMSSW; others are refused."""

WITHOUT_DEFAULT = {"modelName", "modelConfigPath", "timeout"}

TRITON_SERVER = {
    "name": "cms.untracked.string",
    "address": "cms.untracked.string",
    "port": "cms.untracked.uint32",
}
"""What TritonService::fillDescriptions wants of each of its servers."""


def psets(text: str) -> dict[str, dict[str, ast.Call]]:
    """The parameters of each PSet that a configuration assigns."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            assert ast.unparse(node.value.func) == "cms.PSet"
            calls = {str(each.arg): each.value for each in node.value.keywords}
            found[ast.unparse(node.targets[0])] = calls
    return found


def types_of(pset: dict[str, ast.Call]) -> dict[str, str]:
    return {name: ast.unparse(call.func) for name, call in pset.items()}


def test_a_pset_has_the_parameters_of_triton_client_and_service(written) -> None:
    text = written[2]["cmssw"].read_text()
    found = psets(text)
    assert types_of(found["Client"]).items() <= TRITON_CLIENT.items()
    assert found["Client"].keys() >= WITHOUT_DEFAULT
    assert types_of(found["Server"]) == TRITON_SERVER
    client = {name: ast.unparse(call) for name, call in found["Client"].items()}
    assert client["timeout"] == f"cms.untracked.uint32({written[1]['production']['timeout_s']})"
    assert client["modelName"] == f"cms.string('{written[1]['model']}')"
    assert client["mode"] == "cms.string('Async')"
    assert client["modelVersion"] == "cms.string('')"
    # cmsTriton takes the base port, that of HTTP; gRPC's is the next one.
    assert "cmsTriton -P 8000 " in text
    assert ast.unparse(found["Server"]["port"]) == "cms.untracked.uint32(8001)"


def test_a_client_waits_also_where_no_latency_is_known(tmp_path: Path) -> None:
    frame = load_results(MEASURED)
    frame["latency_p99_us"] = float("nan")
    save_results(frame, tmp_path / "results")
    first = deployed(tmp_path / "results", tmp_path / "out", "--for=cmssw")[0]
    client = psets((tmp_path / "out" / first["files"][-1]).read_text())["Client"]
    assert first["production"]["timeout_s"] is None
    assert ast.unparse(client["timeout"]) == "cms.untracked.uint32(30)"


def test_manifests_are_a_deployment_and_its_service(written) -> None:
    text = written[2]["kubernetes"].read_text()
    deployment, service = yaml.safe_load_all(text)
    assert (deployment["kind"], service["kind"]) == ("Deployment", "Service")
    pod = deployment["spec"]["template"]
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert labels == pod["metadata"]["labels"] == service["spec"]["selector"]
    (container,) = pod["spec"]["containers"]
    named = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == named
    # Triton may take as long for what it has begun; Kubernetes would kill it after 30 s.
    assert "--exit-timeout-secs=60" in container["args"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > 60
    assert container["startupProbe"]["httpGet"]["port"] in named
    assert container["resources"]["limits"]["memory"].endswith("Mi")
    (volume,) = pod["spec"]["volumes"]
    assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"]]


def test_each_file_says_from_which_rows_it_comes_and_what_was_not_measured(written) -> None:
    assert set(written[2]) == set(TARGETS)
    for path in written[2].values():
        text = path.read_text()
        assert f"# From {written[1]['production']['rows']} measurements" in text
        first = written[1]["recommended"]
        assert f"point_id {first['point_id']}" in text
        assert f"model {written[1]['model']}, version chosen by its version_policy" in text
        assert f"Clients: batch size {first['configuration']['batch_size']}, " in text
        assert "# Not known: in which sessions" in text
        assert "network and proxy between clients and servers were not measured" in text
    assert "exec tritonserver --model-repository=/models" in written[2]["triton"].read_text()


def test_what_was_not_measured_is_left_to_the_chart(tmp_path: Path) -> None:
    """The tutorial's own rows: no container, no memory, no rate asked for."""
    first = deployed(MEASURED, tmp_path / "out", "--for=supersonic", "--for=kubernetes")[0]
    texts = {Path(name).parts[0]: (tmp_path / "out" / name).read_text() for name in first["files"]}
    values = yaml.safe_load(texts["supersonic"])
    assert not {"image", "resources", "replicas"} & set(values["triton"])
    assert "keda" not in values
    assert "# Not known: the memory of the server" in texts["supersonic"]
    assert "Triton was 2.51.0: choose that one" in texts["kubernetes"]


def test_the_same_point_on_two_gpus_has_the_numbers_of_each(tmp_path: Path) -> None:
    rows = [
        measurements.measured(1000 / ms, ms, gpu_name=gpu, pool=gpu, point_id="a")
        for gpu, ms in (("A100", 2.0), ("T4", 5.0))
    ]
    save_results(measurements.loaded(rows), tmp_path / "results")
    found = deployed(tmp_path / "results", tmp_path / "out", "--for=triton")
    assert [each["production"]["rows"] for each in found] == [1, 1]
    assert [each["production"]["latency_p99_ms"] for each in found] == [2.0, 5.0]


def test_an_earlier_folder_is_replaced_with_all_its_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    deployed(MEASURED, out, *(f"--for={name}" for name in TARGETS))
    deployed(MEASURED, out)
    assert not any((out / name).exists() for name in TARGETS)


def test_without_a_folder_nothing_can_be_written() -> None:
    ended = CliRunner().invoke(main, ["recommend", str(MEASURED), "--for", "cmssw"])
    assert ended.exit_code == 2
    assert "--for: needs a folder" in ended.output


@pytest.fixture(scope="module")
def real_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The real models: of some, all rows are marked as not settled, and are used all the same."""
    out = tmp_path_factory.mktemp("real") / "out"
    targets = [f"--for={name}" for name in TARGETS]
    return out, deployed(REAL_MODELS, out, "--rate", "5000", *targets)


def test_all_rows_that_are_recommended_count(real_models) -> None:
    out, found = real_models
    frame = load_results(REAL_MODELS)
    assert {each["model_label"] for each in found} == set(frame["model_label"])
    for each in found:
        numbers, best = each["production"], each["recommended"]
        rows = frame[frame["point_id"] == best["point_id"]]
        assert (numbers["rows"], numbers["sessions"]) == (best["measured"], 3)
        assert numbers["run_ids"] == sorted(rows["run_id"])
        assert numbers["memory_max_bytes"] >= rows["server_memory_max_bytes"].max()
        queue = rows["server_queue_us"] * rows["success_count"] / rows["execution_count"] / 1000
        assert numbers["queue_ms_per_execution"] == pytest.approx(queue.mean())
        for text in [(out / name).read_text() for name in each["files"]]:
            assert "# From 3 measurements of the recommended configuration in 3 sessions" in text
            assert all(run in text for run in rows["run_id"])
            assert "Not known: how long" not in text


def test_a_threshold_that_the_chart_makes_higher_than_all_measured_is_said(real_models) -> None:
    out, found = real_models
    noted = {}
    for each in found:
        (name,) = [name for name in each["files"] if name.startswith("supersonic")]
        numbers = each["production"]
        is_higher = numbers["server_load_threshold"] > numbers["queue_ms_high"]
        noted[is_higher] = (
            "serverLoadThreshold 1: the chart takes whole" in (out / name).read_text()
        )
    assert noted == {True: True, False: False}


def test_rows_taken_in_by_accept_count(tmp_path: Path) -> None:
    taken = {"server_cpu_wait_s": 30.0, "client_cpu_wait_s": 30.0, "other_cpu_s": 60.0}
    used = {"server_cpu_s": 9.0, "client_cpu_s": 9.0, "cpu_sampled_s": 10.0}
    record = measurements.measured(1000, server_ready_s=7.0, **taken, **used)
    results = measurements.write(tmp_path / "results", [record])
    assert "DISTURBED" in load_results(results)["invalid_reasons"].iloc[0]
    (first,) = deployed(results, tmp_path / "out", "--for=triton", "--accept=DISTURBED")
    assert (first["production"]["rows"], first["production"]["ready_max_s"]) == (1, 7.0)


def test_rows_of_other_files_of_a_model_do_not_count(tmp_path: Path) -> None:
    files = {"d1": 20.0, "d2": 500.0}
    rows = [
        measurements.measured(1000, model_digest=digest, server_ready_s=ready_s, point_id=digest)
        for digest, ready_s in files.items()
    ]
    results = measurements.write(tmp_path / "results", rows)
    found = deployed(results, tmp_path / "out", "--for=kubernetes")
    ready = {one["recommended"]["point_id"]: one["production"]["ready_max_s"] for one in found}
    assert ready == files


def test_a_recommendation_whose_rows_are_gone_is_refused() -> None:
    frame = measurements.loaded([measurements.measured(1000)])
    advice = recommend_on_all_servers(frame, Requirements())
    with pytest.raises(BadInput, match="none of its measurements is found"):
        numbers_for_production(advice, frame[:0])


def test_one_start_of_several_measurements_is_one(tmp_path: Path) -> None:
    rows = [
        measurements.measured(
            900 + c + ready_s,
            concurrency=c,
            run_id=run,
            placement_id=f"{run}p",
            server_ready_s=ready_s,
        )
        for run, ready_s in (("r1", 3.0), ("r2", 5.0))
        for c in (1, 2, 4)
    ]
    results = measurements.write(tmp_path / "results", rows)
    (first,) = deployed(results, tmp_path / "out", "--for=triton")
    assert first["production"]["server_rows"] == 6
    assert first["production"]["ready_starts"] == 2


def test_published_numbers_have_their_source_and_may_lack_a_load_and_an_image(
    tmp_path: Path,
) -> None:
    published = {"source": "A paper, table 3", "triton_version": None, "run_id": None}
    rows = [
        measurements.measured(900, concurrency=8, **published),
        measurements.measured(700, concurrency=None, **published),
    ]
    results = measurements.write(tmp_path / "results", rows)
    (first,) = deployed(results, tmp_path / "out", "--for=kubernetes", "--rate=2000")
    text = (tmp_path / "out" / first["files"][-1]).read_text()
    assert "# Published in A paper, table 3\n" in text
    assert "# Not known: the image and the version of Triton; choose one" in text
    assert first["sizing"]["clients"] == 8


def test_a_slice_of_a_gpu_is_not_passed_off_as_a_whole_one(tmp_path: Path) -> None:
    record = measurements.measured(
        1000,
        gpu_name=f"{measurements.A100} MIG 1g.5gb",
        gpu_mig_profile="1g.5gb",
        server_memory_max_bytes=1000 * 2**20,
        server_cpu_s=9.0,
        cpu_sampled_s=6.0,
    )
    results = measurements.write(tmp_path / "results", [record])
    (first,) = deployed(results, tmp_path / "out", "--for=kubernetes")
    text = (tmp_path / "out" / first["files"][-1]).read_text()
    assert "nvidia.com/gpu: 1\n" in text
    assert "# Measured on a MIG slice, 1g.5gb, not on a whole GPU" in text
    assert "times that, rounded up to a multiple of 256 MiB: 1536 MiB" in text


def test_a_label_of_several_lines_stays_a_comment(tmp_path: Path) -> None:
    label = "tagger\n# evil\nimport os"
    results = measurements.write(
        tmp_path / "results", [measurements.measured(1000, model_label=label)]
    )
    (first,) = deployed(results, tmp_path / "out", *(f"--for={name}" for name in TARGETS))
    for name in (*first["files"], "README.md"):
        assert not {"import os", "# evil"} & set((tmp_path / "out" / name).read_text().splitlines())


def test_a_name_that_is_no_folder_costs_only_its_own_files(tmp_path: Path) -> None:
    rows = [measurements.measured(1000, model=name) for name in ("tagger", "Tägger/1")]
    results = measurements.write(tmp_path / "results", rows)
    out = tmp_path / "out"
    ended = CliRunner().invoke(
        main, ["recommend", str(results), "--out", str(out), "--for", "triton"]
    )
    assert ended.exit_code == 0, ended.output
    assert "no files: the model's name 'Tägger/1' cannot be the name of a folder" in ended.output
    assert "the model's name 'Tägger/1'" in (out / "README.md").read_text()
    listed = json.loads((out / "recommendation.json").read_text())
    assert {one["model"]: len(one["files"]) for one in listed} == {"tagger": 1, "Tägger/1": 0}


def test_what_is_deployed_has_the_flags_of_what_was_measured(tmp_path: Path) -> None:
    flags = ["--backend-config=onnxruntime,enable-global-threadpool=1", "--rate-limit=$(id)"]
    frame = load_results(MEASURED)
    frame["server_flags"] = json.dumps(flags)
    save_results(frame, tmp_path / "results")
    out = tmp_path / "out"
    wanted = ("triton", "supersonic", "kubernetes")
    first = deployed(tmp_path / "results", out, *(f"--for={name}" for name in wanted))[0]
    texts = {Path(name).parts[0]: (out / name).read_text() for name in first["files"]}
    assert shlex.split(texts["triton"].splitlines()[-1])[-3:-1] == flags
    (script,) = yaml.safe_load(texts["supersonic"])["triton"]["args"]
    assert shlex.split(script.replace("\\\n", " "))[-2:] == flags
    deployment, _ = yaml.safe_load_all(texts["kubernetes"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == flags
