"""Plans: what a run would do, and everything that stops one before anything starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpcbench import Campaign, Site, plan
from hpcbench.errors import SiteError
from hpcbench.planning import Plan, plan_rows
from hpcbench.store import PLAN, Results, write_point
from tests.builders import (
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


def test_a_plan_tells_time_and_gpu_time(planned: Planner) -> None:
    """Two jobs share the pool cpu; each job of the pool gpu holds two GPUs."""
    found = planned(site=TWO_POOLS, repeats=2)
    each = found.placements["cpu"][0].estimate_s
    assert found.estimate_s == 2 * each
    assert found.gpu_s == 2 * 2 * each


def test_one_pool_may_be_chosen(planned: Planner) -> None:
    found = planned(site=TWO_POOLS, pools=["gpu"])
    assert list(found.placements) == ["gpu"]
    assert found.measurements == 1


def test_an_unknown_pool_is_told_the_nearest_and_all(planned: Planner) -> None:
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
    assert [placement.repeat for placement in again.placements["cpu"]] == [1, 0]
    assert [len(placement.points) for placement in again.placements["cpu"]] == [3, 2]
    assert again.measurements == first.measurements


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
    assert {tuple(row) for row in rows} == {tuple(PLAN.names)}
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


def test_a_data_file_that_is_not_there_is_told_with_the_file_and_the_key(
    planned: Planner, tmp_path: Path
) -> None:
    message = refusal(planned, measurement={"input_data": "jets.json"})
    assert message.startswith(
        f"{tmp_path}/campaign.yaml: measurement.input_data: {tmp_path}/jets.json cannot be read: "
        "No such file"
    )
    assert "allowed: random, zero, or the path of a data file" in message


@pytest.mark.parametrize("content", ["", "root:x:0:0:root", "[]", "3", '{"date": []}'])
def test_a_data_file_that_perf_analyzer_could_not_read_is_refused(
    planned: Planner, tmp_path: Path, content: str
) -> None:
    (tmp_path / "jets.json").write_text(content)
    message = refusal(planned, measurement={"input_data": "jets.json"})
    assert "measurement.input_data: " in message
    assert "JSON" in message or "no list 'data'" in message


def test_a_missing_model_is_told_with_file_key_and_nearest(
    planned: Planner, tmp_path: Path
) -> None:
    message = refusal(planned, models=[{"name": "taggr"}])
    assert message == (
        f"{tmp_path}/campaign.yaml: models: there is no model 'taggr' in {tmp_path}/models; "
        "did you mean 'tagger'? it holds: tagger"
    )


def test_all_missing_models_are_told_at_once(planned: Planner) -> None:
    message = refusal(planned, models=[{"name": "taggr"}, {"name": "tagger"}, {"name": "deepmet"}])
    assert "'taggr'" in message
    assert "'deepmet'" in message


def test_a_missing_repository_is_told_with_file_and_key(planned: Planner, tmp_path: Path) -> None:
    message = refusal(planned, model_repository="modells")
    assert message == (
        f"{tmp_path}/campaign.yaml: model_repository: {tmp_path}/modells is not a folder"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"load": {"batch_size": [512]}}, "load.batch_size: 512 is over its max_batch_size"),
        ({"models": [{"name": "jets"}]}, "shapes: input 'pf' has dims [16, -1]; say how long"),
        ({"models": [{"name": "tagger", "version": 2}]}, "version: 2 is not there; it has: 1"),
        ({"models": [{"name": "tagger", "shapes": {"X": [16]}}]}, "it has no input 'X'"),
        ({"server": {"preferred_batch_size": [[999]]}}, "server.preferred_batch_size: [999]"),
    ],
)
def test_what_a_model_cannot_take_is_told_with_the_file(
    planned: Planner, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    write_model(tmp_path / "models", "jets", inputs={"pf": (16, -1)})
    message = refusal(planned, **changes)
    assert message.startswith(f"{tmp_path}/campaign.yaml: model '")
    assert words in message


@pytest.mark.parametrize("manifest", [None, "", "{", "{}", "[]"])
def test_a_site_without_complete_software_is_told_what_to_install(
    tmp_path: Path, manifest: str | None
) -> None:
    study, site = workplace(tmp_path)
    path = tmp_path / ".native" / "manifest.json"
    path.unlink() if manifest is None else path.write_text(manifest)
    with pytest.raises(SiteError, match=r"no complete Triton and perf_analyzer") as caught:
        plan(Campaign.load(study), Site.load(site))
    assert str(tmp_path / ".native") in str(caught.value)
    assert "make native" in caught.value.hint
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
