"""Plans: what a run would do, and everything that stops one before anything starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from hpcbench import Campaign, Site, load_results, plan, run
from hpcbench.cli.main import main
from hpcbench.errors import SiteError
from hpcbench.plan import plan as planning
from hpcbench.plan.digest import content_digest
from hpcbench.plan.initial_record import plan_rows
from hpcbench.plan.plan import Plan
from hpcbench.records.folder import Results
from hpcbench.records.store import PLAN_SCHEMA, write_point
from hpcbench.runtime import command, images
from tests.helpers.builders import (
    record,
    refusal,
    workplace,
    write_campaign,
    write_model,
    write_prefix,
    write_site,
)

Planner = Callable[..., Plan]


@pytest.fixture
def planned(tmp_path: Path) -> Planner:
    """Plans the campaign of a folder in which everything is there, with changes to it."""
    workplace(tmp_path)

    def make(*, site: dict[str, Any] | None = None, **changes: Any) -> Plan:
        options = {key: changes.pop(key) for key in ("pools", "results") if key in changes}
        study = Campaign.load(write_campaign(tmp_path, **changes))
        return plan(study, Site.load(write_site(tmp_path, **(site or {}))), **options)

    return make


TWO_POOLS = {"pools": {"cpu": {"max_jobs": 2}, "gpu": {"gpus_per_job": 2}}}


def test_a_plan_counts_points_repeats_and_pools(planned: Planner) -> None:
    found = planned(site=TWO_POOLS, load={"batch_size": [1, 2, 4]}, repeats=2)
    assert len(found.grid.points) == 3
    assert found.measurements == 3 * 2 * 2
    assert found.done == 0
    assert {name: len(waiting) for name, waiting in found.placements.items()} == {
        "cpu": 2,
        "gpu": 2,
    }


def test_a_plan_says_time_and_the_gpu_hours_of_each_pool_that_has_gpus(planned: Planner) -> None:
    """Two jobs share the pool cpu; each job of the pool gpu holds two GPUs."""
    found = planned(site=TWO_POOLS, repeats=2)
    each = found.placements["cpu"][0].estimate_s
    assert found.estimate_s == 2 * each
    assert found.gpu_hours == {"gpu": pytest.approx(2 * 2 * each / 3600)}


def test_one_pool_may_be_chosen(planned: Planner) -> None:
    found = planned(site=TWO_POOLS, pools=["gpu"])
    assert list(found.placements) == ["gpu"]
    assert found.measurements == 1


def test_an_unknown_pool_is_answered_with_the_nearest_and_all(planned: Planner) -> None:
    message = refusal(planned, site=TWO_POOLS, pools=["gpuu"])
    assert message == (
        "--pool gpuu: site 'here' has no such pool; did you mean 'gpu'? its pools: cpu, gpu"
    )


def test_what_the_results_hold_is_not_planned_again(planned: Planner, tmp_path: Path) -> None:
    first = planned(load={"batch_size": [1, 2, 4]}, repeats=2)
    results = Results(tmp_path / "results")
    results.create()
    measured = first.placements["cpu"][0].points[0]
    for number, status in enumerate(("ok", "failed")):
        write_point(results, record(point_id=measured.id, repeat=number, status=status))
    again = planned(load={"batch_size": [1, 2, 4]}, repeats=2, results=results.folder)
    assert again.done == 1
    assert [placement.repeat for placement in again.placements["cpu"]] == [0, 1]
    assert [len(placement.points) for placement in again.placements["cpu"]] == [2, 3]
    assert again.measurements == first.measurements


def test_results_of_a_digest_of_all_files_still_count(planned: Planner, tmp_path: Path) -> None:
    """Caches in the repository were part of it; what is left goes on under the ids of that."""
    load = {"load": {"batch_size": [1, 2, 4]}}
    clean = planned(**load)
    folder = tmp_path / "models" / "tagger"
    (folder / "1" / "__pycache__").mkdir()
    (folder / "1" / "__pycache__" / "model.pyc").write_bytes(b"compiled")
    now = planned(**load)
    assert [p.id for p in now.grid.points] == [p.id for p in clean.grid.points]
    formerly = [now.former[point.id][0] for point in now.grid.points]
    assert {point.variant.model.digest for point in formerly} == {content_digest(folder)}
    results = Results(tmp_path / "results")
    results.create()
    write_point(results, record(point_id=formerly[1].id))
    left = planned(**load, results=results.folder)
    assert left.done == 1
    assert [p.id for p in left.placements["cpu"][0].points] == [formerly[0].id, formerly[2].id]
    assert [row["point_id"] for row in plan_rows(left)] == [point.id for point in formerly]
    # What was measured under its id of now stays under it.
    write_point(results, record(point_id=clean.grid.points[0].id, placement_id="bbbbbbbbbbbb"))
    left = planned(**load, results=results.folder)
    assert left.done == 2
    assert [p.id for p in left.placements["cpu"][0].points] == [formerly[2].id]


def test_results_still_count_where_compiled_modules_came_to_other_files(
    planned: Planner, tmp_path: Path
) -> None:
    """An earlier Triton compiled modules in the repository, after the first digest was made."""
    folder = tmp_path / "models" / "tagger"
    (folder / "1" / "model.py").write_text("pass")
    (folder / ".gitignore").write_text("*.pyc")
    before = content_digest(folder)
    (folder / "1" / "__pycache__").mkdir()
    (folder / "1" / "__pycache__" / "model.pyc").write_bytes(b"compiled")
    now = planned(load={"batch_size": [1, 2]})
    first, second = (now.former[point.id] for point in now.grid.points)
    digests = [each.variant.model.digest for each in first]
    assert digests == [content_digest(folder), before]
    results = Results(tmp_path / "results")
    results.create()
    write_point(results, record(point_id=first[1].id))
    left = planned(load={"batch_size": [1, 2]}, results=results.folder)
    assert left.done == 1
    assert [p.id for p in left.placements["cpu"][0].points] == [second[1].id]


def test_points_of_a_digest_of_all_files_can_be_confirmed(tmp_path: Path) -> None:
    study, where = workplace(tmp_path)
    (tmp_path / "models" / "tagger" / "config.pbtxt~").write_text("older")
    now = plan(Campaign.load(study), Site.load(where))
    ((former,),) = now.former.values()
    again = planning.plan(Campaign.load(study), Site.load(where), only={former.id})
    assert [point.id for point in again.grid.points] == [former.id]


def test_results_that_do_not_exist_yet_are_no_results(planned: Planner, tmp_path: Path) -> None:
    assert planned(results=tmp_path / "later").done == 0
    assert not (tmp_path / "later").exists()


def test_planning_starts_and_writes_nothing(planned: Planner, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    planned()
    assert set(tmp_path.rglob("*")) - set(before) == set()


def test_the_rows_of_a_plan_name_every_measurement(planned: Planner) -> None:
    rows = plan_rows(planned(site=TWO_POOLS, load={"batch_size": [1, 2]}, repeats=2))
    assert len(rows) == 8
    assert len({(row["point_id"], row["pool"], row["repeat"]) for row in rows}) == 8
    assert {frozenset(row) for row in rows} == {frozenset(PLAN_SCHEMA.names)}
    assert json.loads(rows[0]["variant"]) == {}
    assert [row["batch_size"] for row in rows[:2]] == [1, 2]


def test_points_depend_on_the_software_that_is_installed(tmp_path: Path) -> None:
    found = []
    for name in ("old", "new"):
        workplace(tmp_path / name)
        write_prefix(tmp_path / name / "other", digest=name)
        site = write_site(tmp_path / name, container={"prefix": "other/.native"})
        study = Campaign.load(tmp_path / name / "campaign.yaml")
        found.append(plan(study, Site.load(site)).grid.points[0].id)
    assert found[0] != found[1]


def test_equal_models_in_two_places_are_equal_points(tmp_path: Path) -> None:
    found = []
    for name in ("here", "there"):
        study, site = workplace(tmp_path / name)
        found.append(plan(Campaign.load(study), Site.load(site)).grid.points[0].id)
    assert found[0] == found[1]


def test_a_data_file_counts_by_its_content(planned: Planner, tmp_path: Path) -> None:
    found = []
    for name, content in (
        ("a.json", '{"data": []}'),
        ("b.json", '{"data": []}'),
        ("c.json", '{"data": [1]}'),
    ):
        (tmp_path / name).write_text(content)
        todo = planned(measurement={"input_data": name})
        assert todo.placements["cpu"][0].points[0].load.input_data_digest is not None
        found.append(todo.grid.points[0].id)
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_a_folder_of_inputs_that_does_not_fit_the_model_is_refused(
    planned: Planner, tmp_path: Path
) -> None:
    (tmp_path / "inputs").mkdir()
    message = refusal(planned, measurement={"input_data": "inputs"})
    assert message.startswith(
        f"{tmp_path}/campaign.yaml: measurement.input_data: {tmp_path}/inputs has no file "
    )


def test_a_data_file_that_is_not_there_is_reported_with_the_file_and_the_key(
    planned: Planner, tmp_path: Path
) -> None:
    message = refusal(planned, measurement={"input_data": "jets.json"})
    assert message.startswith(
        f"{tmp_path}/campaign.yaml: measurement.input_data: {tmp_path}/jets.json cannot be read: "
        "No such file"
    )
    assert "allowed: random, zero, or the path of a JSON file or folder" in message


@pytest.mark.parametrize("content", ["", "root:x:0:0:root", "[]", "3", '{"date": []}'])
def test_a_data_file_that_perf_analyzer_could_not_read_is_refused(
    planned: Planner, tmp_path: Path, content: str
) -> None:
    (tmp_path / "jets.json").write_text(content)
    message = refusal(planned, measurement={"input_data": "jets.json"})
    assert "measurement.input_data: " in message
    assert "JSON" in message or "no list 'data'" in message


def test_a_missing_model_is_reported_with_file_key_and_nearest(
    planned: Planner, tmp_path: Path
) -> None:
    message = refusal(planned, models=[{"name": "taggr"}])
    assert message == (
        f"{tmp_path}/campaign.yaml: models: there is no model 'taggr' in {tmp_path}/models; "
        "did you mean 'tagger'? it holds: tagger"
    )


def test_all_missing_models_are_reported_at_once(planned: Planner) -> None:
    message = refusal(planned, models=[{"name": "taggr"}, {"name": "tagger"}, {"name": "deepmet"}])
    assert "'taggr'" in message
    assert "'deepmet'" in message


def test_a_missing_repository_is_reported_with_file_and_key(
    planned: Planner, tmp_path: Path
) -> None:
    message = refusal(planned, model_repository="modells")
    assert message == (
        f"{tmp_path}/campaign.yaml: model_repository: {tmp_path}/modells is not a folder"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"load": {"batch_size": [512]}}, "load.batch_size: 512 is over max_batch_size"),
        ({"models": [{"name": "jets"}]}, "shapes: input 'pf' has dims [16, -1]; say how long"),
        ({"models": [{"name": "tagger", "version": 2}]}, "version: 2 is not there; it has: 1"),
        ({"models": [{"name": "tagger", "shapes": {"X": [16]}}]}, "it has no input 'X'"),
        ({"server": {"preferred_batch_size": [[999]]}}, "server.preferred_batch_size: [999]"),
    ],
)
def test_what_a_model_cannot_take_is_reported_with_the_file(
    planned: Planner, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    write_model(tmp_path / "models", "jets", inputs={"pf": (16, -1)})
    message = refusal(planned, **changes)
    assert message.startswith(f"{tmp_path}/campaign.yaml: model '")
    assert words in message


@pytest.mark.parametrize("manifest", [None, "", "{", "{}", "[]"])
def test_for_a_site_without_complete_software_the_message_says_what_to_install(
    tmp_path: Path, manifest: str | None
) -> None:
    study, site = workplace(tmp_path)
    path = tmp_path / ".native" / "manifest.json"
    path.unlink() if manifest is None else path.write_text(manifest)
    with pytest.raises(SiteError, match=r"no complete Triton and perf_analyzer") as caught:
        plan(Campaign.load(study), Site.load(site))
    assert str(tmp_path / ".native") in str(caught.value)
    assert "hpcbench native" in caught.value.hint
    assert caught.value.exit_code == 3


def test_a_real_repository_is_planned_with_the_scan_of_the_seed(
    planned: Planner, tmp_path: Path, shared_models: Path
) -> None:
    shapes = {
        "pf_points": [2, 50],
        "pf_features": [20, 50],
        "pf_mask": [1, 50],
        "sv_points": [2, 4],
        "sv_features": [11, 4],
        "sv_mask": [1, 4],
    }
    found = planned(
        model_repository=str(shared_models),
        models=[{"name": "particlenet_AK4", "shapes": shapes}],
        load={"batch_size": [1, 4, 8, 16, 32, 64, 128], "concurrency": 4},
    )
    assert found.measurements == 7
    message = refusal(
        planned, model_repository=str(shared_models), models=[{"name": "particlenet_AK4"}]
    )
    assert len(message.splitlines()) == 6
    assert all(f"shapes: input '{name}' has dims" in message for name in shapes)
    written = yaml.safe_load((tmp_path / "campaign.yaml").read_text())
    assert written["model_repository"] == str(shared_models)


def test_an_image_that_the_site_does_not_name_is_reported_with_those_that_it_does(
    planned: Planner,
) -> None:
    message = refusal(planned, models=[{"name": "tagger", "server_image": "25.02"}])
    assert "model 'tagger': server_image: site 'here' names no image '25.02'" in message
    assert "it names: none" in message


ACCELERATORS = [
    None,
    {"name": "tensorrt", "precision_mode": "FP32"},
    {"name": "tensorrt", "precision_mode": "FP16"},
]


def inapplicable(found: Plan) -> set[tuple[str, str, str, str]]:
    """(pool, model, accelerator, reason) of what a plan leaves out."""
    return {
        (
            each.placement.pool,
            each.placement.points[0].variant.model.name,
            str(each.placement.points[0].variant.axes["accelerator"]),
            each.reason,
        )
        for each in found.inapplicable
    }


def test_points_that_a_pool_cannot_measure_stay_in_its_plan_with_the_reason(
    planned: Planner,
) -> None:
    pools = {"pools": {"cpu": {}, "gpu": {"gpus_per_job": 1}}}
    found = planned(site=pools, server={"accelerator": ACCELERATORS}, repeats=2)
    why = "tensorrt: the native runtime serves on CPUs without accelerators"
    assert {(pool, reason) for pool, _, _, reason in inapplicable(found)} == {
        ("cpu", why),
        ("gpu", why),
    }
    assert found.measurements == 3 * 2 * 2
    assert sum(len(p.points) for waiting in found.placements.values() for p in waiting) == 2 * 2
    assert len(plan_rows(found)) == 12
    assert found.done == 0


def test_tensorrt_on_real_models_is_planned_where_it_applies(
    tmp_path: Path, shared_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX with a GPU takes it, TorchScript nowhere, and a pool without GPUs not at all."""
    monkeypatch.setattr(images, "resolve_images", lambda container, _: container)
    software = command.Software("s", "p")
    runtime = SimpleNamespace(find_software=lambda _: software)
    monkeypatch.setattr(command, "runtime_of", lambda _: runtime)
    shapes = {"pf_points": [2, 50], "pf_features": [20, 50], "pf_mask": [1, 50]}
    shapes |= {"sv_points": [2, 4], "sv_features": [11, 4], "sv_mask": [1, 4]}
    numbered = {f"{name}__{i}": dims for i, (name, dims) in enumerate(shapes.items())}
    models = [
        {"name": "particlenet_AK4", "shapes": shapes},
        {"name": "particlenet_AK4_PT", "shapes": numbered},
    ]
    named = {"server_image": "/images/server.sif", "sdk_image": "/images/sdk.sif"}
    site = write_site(
        tmp_path,
        container={"runtime": "apptainer", **named},
        pools={"cpu": {}, "a100": {"gpus_per_job": 1}},
    )
    study = write_campaign(
        tmp_path,
        model_repository=str(shared_models),
        models=models,
        server={"accelerator": ACCELERATORS},
        load={"batch_size": [1, 8]},
    )
    found = plan(Campaign.load(study), Site.load(site))
    fp32, fp16 = (f'{{"name": "tensorrt", "precision_mode": "{p}"}}' for p in ("FP32", "FP16"))
    applies = {
        (pool, p.points[0].variant.model.name, p.points[0].variant.axes["accelerator"])
        for pool, waiting in found.placements.items()
        for p in waiting
    }
    assert applies == {
        *((pool, name, None) for pool in ("cpu", "a100") for name in (m["name"] for m in models)),
        *(("a100", "particlenet_AK4", accelerator) for accelerator in (fp32, fp16)),
    }
    no_gpu = "tensorrt needs a GPU, and the jobs of this pool have none"
    torch = "tensorrt: only the onnxruntime and tensorflow backends have it, not pytorch"
    assert inapplicable(found) == {
        (pool, name, accelerator, reason)
        for pool, name, reason in (
            ("cpu", "particlenet_AK4", no_gpu),
            ("cpu", "particlenet_AK4_PT", torch),
            ("a100", "particlenet_AK4_PT", torch),
        )
        for accelerator in (fp32, fp16)
    }
    text = CliRunner().invoke(main, ["plan", str(study), "--site", str(site)]).output
    assert "not applicable, 12 measurements:" in text
    assert " ".join(torch.split()) in " ".join(text.split())


def test_a_run_writes_down_what_does_not_apply_and_starts_nothing_for_it(tmp_path: Path) -> None:
    """The prefix of this site is empty: a worker would fail in it."""
    workplace(tmp_path)
    study = Campaign.load(
        write_campaign(tmp_path, server={"accelerator": ACCELERATORS[1:]}, repeats=2)
    )
    site = Site.load(write_site(tmp_path))
    for measured in (4, 0):
        summary = run(study, site, tmp_path / "results")
        assert (summary.exit_code, summary.missing, summary.measured_now) == (0, 0, measured)
        assert dict(summary.counts) == {"not_applicable": 4}
    frame = load_results(tmp_path / "results")
    assert list(frame["status"]) == ["not_applicable"] * 4
    assert set(frame["reason"]) == {
        "tensorrt: the native runtime serves on CPUs without accelerators"
    }


def test_a_job_must_have_time_for_its_engines(
    planned: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "resolve_images", lambda container, _: container)
    software = command.Software("s", "p")
    runtime = SimpleNamespace(find_software=lambda _: software)
    monkeypatch.setattr(command, "runtime_of", lambda _: runtime)
    named = {"server_image": "/images/server.sif", "sdk_image": "/images/sdk.sif"}
    server = {"accelerator": [None, {"name": "tensorrt"}]}

    def site(walltime: str) -> dict[str, Any]:
        pool = {"gpus_per_job": 1, "walltime": walltime}
        return {
            "scheduler": "slurm",
            "container": {"runtime": "apptainer", **named},
            "pools": {"gpu": pool},
        }

    found = planned(site=site("00:20:00"), server=server)
    assert [placement.estimate_s > 600 for placement in found.placements["gpu"]] == [True, False]
    message = refusal(planned, site=site("00:10:00"), server=server)
    assert "a job lasts 00:10:00" in message
    assert "with its server, 10 min of it for TensorRT's engines" in message
    planned(site=site("00:10:00"))


GPU_JOBS = {"pools": {"cpu": {}, "a100": {"gpus_per_job": 1}}}


def test_gpus_that_no_server_could_have_are_refused_with_what_to_change(planned: Planner) -> None:
    native = {"container": {"runtime": "native", "prefix": ".native"}, **GPU_JOBS}
    message = refusal(planned, site=native)
    assert "site 'here': the jobs of a100 have GPUs, and runtime: native serves on CPUs" in message
    assert "runtime: apptainer" in message
    assert "container.cpus_only: true" in message
    assert planned(site=native, pools=["cpu"]).placements["cpu"]
    meant = {"container": {**native["container"], "cpus_only": True}, **GPU_JOBS}
    assert planned(site=meant).placements["a100"]


def test_a_gpu_that_no_job_asks_for_is_refused(planned: Planner) -> None:
    message = refusal(planned, site={"pools": {"a": {"gpu": "Tesla T4"}}})
    assert "pool a of site 'here': gpu is Tesla T4, and gpus_per_job is 0" in message
    assert "gpus_per_job: 1, or leave gpu out" in message


IMAGES = {"runtime": "apptainer", "server_image": "docker://a/b:1", "sdk_image": "docker://a/b:2"}


@pytest.mark.parametrize(
    ("scheduler", "promised", "directives", "change"),
    [
        ("slurm", 0, ["--gres=gpu:1"], "gpus_per_job: 1, or correct"),
        ("slurm", 2, ["--exclusive", "--gpus=4"], "gpus_per_job: 4, or correct"),
        ("slurm", 0, ["--gpus-per-task=2"], "gpus_per_job: 1, or correct"),
        ("htcondor", 0, {"request_gpus": 1}, "gpus_per_job: 1, or correct"),
        ("htcondor", 1, {"Request_GPUs": 2}, "gpus_per_job: 2, or correct"),
    ],
)
def test_directives_that_ask_for_other_gpus_than_are_counted_are_refused(
    planned: Planner, scheduler: str, promised: int, directives: Any, change: str
) -> None:
    pool = {"gpus_per_job": promised, "directives": directives}
    container = {"prefix": "x"} if not promised else IMAGES
    site = {"scheduler": scheduler, "container": container, "pools": {"a": pool}}
    message = refusal(planned, site=site)
    assert "pool a of site 'here': the directive " in message
    assert f"gpus_per_job is {promised}" in message
    assert change in message


@pytest.mark.parametrize("mig", ["MIG", "mig"])
def test_several_mig_instances_for_one_server_are_refused(planned: Planner, mig: str) -> None:
    """A program of CUDA's uses one of them."""
    container = {"runtime": "native", "prefix": ".native", "cpus_only": True}
    pool = {"gpu": f"NVIDIA A100-SXM4-40GB {mig} 1g.5gb", "gpus_per_job": 2}
    message = refusal(planned, site={"container": container, "pools": {"slices": pool}})
    assert "pool slices of site 'here': a program of CUDA's uses one MIG instance only" in message
    assert "gpus_per_job: 1, and max_jobs: as many" in message
    one = pool | {"gpus_per_job": 1}
    assert planned(site={"container": container, "pools": {"slices": one}}).gpu_hours["slices"] > 0


@pytest.mark.parametrize(
    ("container", "unchecked"),
    [
        ({"prefix": "nowhere"}, "Triton: "),
        ({"runtime": "apptainer", "server_image": "a.sif", "sdk_image": "b.sif"}, "a.sif cannot"),
    ],
)
def test_a_plan_from_anywhere_does_without_the_software_of_a_cluster(
    planned: Planner, container: dict[str, Any], unchecked: str
) -> None:
    """This computer as a site is here: what is not there is missing, as it is for a run."""
    site = {"scheduler": "slurm", "container": container}
    found = planned(site=site)
    assert len(found.grid.points) == 1
    assert found.placements["cpu"]
    assert [unchecked in line for line in found.not_checked] == [True]
    with pytest.raises(SiteError):
        planned(site={"container": container})
    with pytest.raises(SiteError):
        planning.plan(found.campaign, found.site)


def test_an_image_that_was_seen_and_is_none_is_no_image_that_could_not_be_checked(
    planned: Planner, tmp_path: Path
) -> None:
    (tmp_path / "a.sif").write_text("root:x:0:0\n")
    container = {"runtime": "apptainer", "server_image": "a.sif", "sdk_image": "b.sif"}
    (tmp_path / "b.sif").write_text("")
    with pytest.raises(SiteError, match=r"a\.sif is no SIF image"):
        planned(site={"scheduler": "slurm", "container": container})
    container["server_image"] = "folder"
    (tmp_path / "folder").mkdir()
    with pytest.raises(SiteError, match="no unpacked image"):
        planned(site={"scheduler": "slurm", "container": container})


def test_what_results_hold_is_found_by_ids_so_the_software_has_to_be_there(
    planned: Planner, tmp_path: Path
) -> None:
    site = {"scheduler": "slurm", "container": {"prefix": "nowhere"}}
    with pytest.raises(SiteError):
        planned(site=site, results=tmp_path / "results")


FLAG = "--backend-config=onnxruntime,enable-global-threadpool=1"


def test_flags_of_the_server_are_part_of_a_point_and_none_change_no_id(planned: Planner) -> None:
    plain, named = planned(), planned(server_flags=[FLAG])
    assert planned(server_flags=[]).grid.points == plain.grid.points
    assert named.grid.points[0].id != plain.grid.points[0].id
    assert named.grid.points[0].columns["server_flags"] == json.dumps([FLAG])
    assert plain.grid.points[0].columns["server_flags"] is None


def test_a_model_comes_from_the_repository_that_has_it(planned: Planner, tmp_path: Path) -> None:
    """Where it lies is no part of a point: its files are."""
    before = planned().grid.points[0].id
    (tmp_path / "models").rename(tmp_path / "moved")
    write_model(tmp_path / "models", "other")
    assert planned(model_repositories=["moved"]).grid.points[0].id == before
    message = refusal(planned, model_repositories=["moved"], models=[{"name": "taggr"}])
    assert "no model 'taggr' in " in message
    assert "did you mean 'tagger'? they hold: other, tagger" in message
    write_model(tmp_path / "models", "tagger")
    message = refusal(planned, model_repositories=["moved"])
    assert f"'tagger' is in {tmp_path}/models and in {tmp_path}/moved" in message


def test_every_repository_has_to_be_there(planned: Planner, tmp_path: Path) -> None:
    """Triton gets all of them, also those that have none of the models."""
    message = refusal(planned, model_repositories=["nope"])
    assert f"model_repositories: {tmp_path}/nope is not a folder" in message


def test_an_ensemble_finds_its_models_in_other_repositories(
    planned: Planner, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "ensembles", "both")
    text = (folder / "config.pbtxt").read_text().replace("onnxruntime_onnx", "ensemble")
    step = 'step { model_name: "tagger" input_map { key: "x" value: "x" } '
    step += 'output_map { key: "y" value: "y" } }'
    (folder / "config.pbtxt").write_text(f"{text}ensemble_scheduling {{ {step} }}\n")
    found = planned(model_repositories=["ensembles"], models=[{"name": "both"}])
    assert [part.name for part in found.grid.points[0].variant.model.composing] == ["tagger"]
