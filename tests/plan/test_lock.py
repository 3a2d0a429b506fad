"""The lock of a session: what it holds, what it refuses, and what it says is different."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpcbench import Campaign, Site, plan
from hpcbench.cluster.lock_file import differences_before, make_lock, write_lock
from hpcbench.config.container import ResolvedContainer
from hpcbench.plan.lock import Lock
from hpcbench.plan.lock_differences import differences, differences_text
from hpcbench.plan.plan import Plan
from hpcbench.records.folder import Results
from hpcbench.records.session import Repeated, Session, open_session
from hpcbench.records.store import write_point
from tests.helpers.builders import (
    NOON,
    record,
    refusal,
    workplace,
    write_campaign,
    write_prefix,
    write_site,
)

SESSION = Session("20261123T120000-abcdef", 7, NOON, adopts=False)
ROW = {
    "node": "n1",
    "pool": "gpu",
    "gpu_name": "NVIDIA A100",
    "gpu_driver": "550.54",
    "triton_version": "2.51.0",
    "backend_versions": '{"onnxruntime": "1.20", "python": null}',
}


def planned(folder: Path, *, site: dict[str, Any] | None = None, **changes: Any) -> Plan:
    study = Campaign.load(write_campaign(folder, **changes))
    return plan(study, Site.load(write_site(folder, **(site or {}))))


def locked(folder: Path, *rows: dict[str, Any], **changes: Any) -> Lock:
    return make_lock(planned(folder, **changes), SESSION, rows, only=(), complete=True)


def written(folder: Path, **changes: Any) -> Path:
    """The lock in a results folder of its own."""
    results = Results(folder / "results")
    results.create()
    session = open_session(results, new=True)
    write_lock(planned(folder, **changes), session, results, only=(), complete=False)
    return results.campaign_lock


def test_a_lock_has_all_that_a_repetition_needs(tmp_path: Path) -> None:
    workplace(tmp_path)
    (tmp_path / "events.json").write_text('{"data": []}')
    inputs = {"input_data": "events.json"}
    lock = locked(tmp_path, ROW, ROW | {"node": "n2"}, measurement=inputs)
    todo = planned(tmp_path, measurement=inputs)
    assert (lock.session.run_id, lock.session.seed) == (SESSION.run_id, 7)
    assert lock.models == {"tagger": todo.grid.points[0].variant.model.digest}
    assert list(lock.inputs) == [str(tmp_path / "events.json")]
    assert lock.images == {"prefix": "native:0123456789abcdef"}
    assert lock.versions.keys() >= {"hpcbench", "python", "triton"}
    assert lock.backends == {"onnxruntime": "1.20"}
    assert lock.packages.keys() >= {"dask", "distributed", "numpy", "scipy", "pyarrow"}
    assert [node.name for node in lock.nodes] == ["n1", "n2"]
    assert lock.nodes[0].gpu_driver == "550.54"
    assert (lock.campaign, lock.site) == (todo.campaign, todo.site)


def test_a_lock_is_read_as_it_was_written(tmp_path: Path) -> None:
    workplace(tmp_path)
    path = written(tmp_path, load={"batch_size": [1, 2]}, exclude=[{"batch_size": 2}])
    lock = Lock.load(path)
    todo = plan(lock.campaign, lock.site)
    assert [p.id for p in todo.grid.points] == [
        p.id
        for p in planned(
            tmp_path, load={"batch_size": [1, 2]}, exclude=[{"batch_size": 2}]
        ).grid.points
    ]
    assert lock.campaign.source == str(path)


def test_the_file_says_what_it_is_and_how_it_is_run(tmp_path: Path) -> None:
    workplace(tmp_path)
    first, *lines = written(tmp_path).read_text().splitlines()
    assert first.startswith("# The lock of session 2")
    comment = [line for line in lines if line.startswith("#")]
    assert "#     hpcbench run campaign.lock.yaml --results FOLDER" in comment


def test_the_nodes_are_those_of_the_session(tmp_path: Path) -> None:
    workplace(tmp_path)
    results = Results(tmp_path / "results")
    results.create()
    session = open_session(results, new=True)
    for run_id, node in ((session.run_id, "n1"), ("another", "n2")):
        write_point(results, record(1, run_id=run_id, node=node, placement_id=node * 6))
    lock = write_lock(planned(tmp_path), session, results, only=(), complete=True)
    assert [node.name for node in lock.nodes] == ["n1"]


def test_a_tag_that_moves_changes_nothing_in_a_lock(tmp_path: Path) -> None:
    workplace(tmp_path)
    todo = planned(tmp_path)
    image = "docker://registry.example/triton:26.07"
    container = ResolvedContainer(
        runtime="apptainer",
        server_image=image,
        sdk_image=f"{image}-sdk",
        server_images={"old": f"{image}-old"},
        server_digest=f"sha256:{'a' * 64}",
        sdk_digest=f"sha256:{'b' * 64}",
        digests=(("old", f"sha256:{'c' * 64}"),),
    )
    site = todo.site.model_copy(update={"container": container})
    lock = make_lock(
        Plan(todo.campaign, site, todo.grid, todo.placements), SESSION, [], only=(), complete=True
    )
    assert lock.site.container.server_image == f"{image}@sha256:{'a' * 64}"
    assert lock.site.container.sdk_image == f"{image}-sdk@sha256:{'b' * 64}"
    assert dict(lock.site.container.server_images) == {"old": f"{image}-old@sha256:{'c' * 64}"}
    assert lock.images == {
        "server_image": f"sha256:{'a' * 64}",
        "sdk_image": f"sha256:{'b' * 64}",
        "old": f"sha256:{'c' * 64}",
    }


def test_secrets_of_the_site_are_not_in_it_and_it_says_so(tmp_path: Path) -> None:
    workplace(tmp_path)
    pools = {"gpu": {"prologue": ["module load x", "export NGC_API_KEY=s3cr3t"]}}
    path = written(tmp_path, site={"scheduler": "slurm", "pools": pools})
    assert "s3cr3t" not in path.read_text()
    message = refusal(Lock.load(path).check_site, path)
    assert "site 'here': the lock does not hold a secret in pools.gpu.prologue" in message
    assert "--site FILE" in message


# A lock that cannot be used


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("repeats: 1", "repeats: 2"),
        ("- 1\n", "- 2\n"),
        ("python: ", "python: 9"),
        ("digest: sha256:", "digest: sha256:0"),
    ],
)
def test_an_edited_lock_is_one_message(tmp_path: Path, old: str, new: str) -> None:
    workplace(tmp_path)
    path = written(tmp_path, repeats=1, load={"batch_size": [1]})
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    message = refusal(Lock.load, path)
    assert re.match(rf"{path}:\d+: digest: the lock has been edited", message)
    assert message.count("\n") == 0
    assert "edit campaign.yaml and site.yaml" in message


def test_other_comments_and_another_order_of_keys_are_no_edit(tmp_path: Path) -> None:
    workplace(tmp_path)
    path = written(tmp_path)
    data = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(data, sort_keys=True, default_flow_style=True))
    assert Lock.load(path).models


@pytest.mark.parametrize("text", ["hpcbench_lock: 1", "hpcbench_lock: 2\nx: y", "hpcbench_lock: ["])
def test_what_is_no_lock_of_this_version_is_one_message(tmp_path: Path, text: str) -> None:
    path = tmp_path / "campaign.lock.yaml"
    path.write_text(text)
    message = refusal(Lock.load, path)
    assert message.startswith(f"{path}:")
    assert "\n" not in message


# Somebody else's paths


def moved(tmp_path: Path) -> tuple[Path, Path]:
    """A lock that a colleague has sent; and the place where its models and inputs are now."""
    workplace(tmp_path / "theirs")
    (tmp_path / "theirs" / "events.json").write_text('{"data": []}')
    path = written(tmp_path / "theirs", measurement={"input_data": "events.json"})
    (tmp_path / "mine").mkdir()
    lock = shutil.copy(path, tmp_path / "mine" / "renamed.yaml")
    (tmp_path / "theirs").rename(tmp_path / "gone")
    return Path(lock), tmp_path / "gone"


def test_all_paths_that_are_not_here_are_named_at_once(tmp_path: Path) -> None:
    lock, _ = moved(tmp_path)
    message = refusal(Lock.load, lock)
    assert f"{lock}: not on this machine:" in message
    assert f"model_repository: {tmp_path}/theirs/models" in message
    assert f"the input events.json: {tmp_path}/theirs/events.json" in message
    assert "copy or link them to where the lock lies" in message


def test_a_missing_prefix_is_named_with_what_to_do(tmp_path: Path) -> None:
    lock, gone = moved(tmp_path)
    for name in ("models", "events.json"):
        (lock.parent / name).symlink_to(gone / name)
    message = refusal(Lock.load(lock).check_site, lock)
    assert f"container.prefix: {tmp_path}/theirs/.native" in message
    assert "--site" in message


def test_models_and_inputs_beside_the_lock_are_taken_and_are_the_same_points(
    tmp_path: Path,
) -> None:
    lock, gone = moved(tmp_path)
    (lock.parent / "theirs").mkdir()
    (lock.parent / "theirs" / "models").symlink_to(gone / "models")
    (lock.parent / "events.json").symlink_to(gone / "events.json")
    read = Lock.load(lock)
    assert read.campaign.model_repository == gone / "models"
    site = Site.load(write_site(gone))
    found = [each.what for each in differences_before(read, plan(read.campaign, site))]
    assert "points" not in found
    assert not {"model tagger", "input events.json"} & set(found)


# What is different


def said(before: Lock, now: Lock) -> list[str]:
    return [str(each) for each in differences(before, now)]


def test_the_same_again_is_not_different(tmp_path: Path) -> None:
    workplace(tmp_path)
    lock = locked(tmp_path, ROW)
    assert differences(lock, lock) == []
    assert "nothing is different" in differences_text(lock, [])


def test_a_model_that_has_changed_is_named_with_both_digests(tmp_path: Path) -> None:
    workplace(tmp_path)
    before = locked(tmp_path)
    (tmp_path / "models" / "tagger" / "1" / "model.onnx").write_bytes(b"another")
    now = locked(tmp_path)
    assert said(before, now) == [
        f"model tagger: {before.models['tagger']} -> {now.models['tagger']}",
        "points: 1 -> 1, with other ids",
    ]
    text = differences_text(before, differences(before, now))
    assert text.startswith(
        "this repeats session 20261123T120000-abcdef of 2026-11-23; different this time:\n  model"
    )


def test_another_prefix_is_a_difference(tmp_path: Path) -> None:
    workplace(tmp_path)
    before = locked(tmp_path)
    write_prefix(tmp_path / "other", digest="new")
    now = locked(tmp_path, site={"container": {"prefix": "other/.native"}})
    assert "image prefix: native:0123456789abcdef -> native:new" in said(before, now)
    assert any(text.startswith("site: container.prefix: ") for text in said(before, now))


def test_an_input_that_has_changed_is_a_difference(tmp_path: Path) -> None:
    workplace(tmp_path)
    found = []
    for content in ('{"data": []}', '{"data": [1]}'):
        (tmp_path / "events.json").write_text(content)
        found.append(locked(tmp_path, measurement={"input_data": "events.json"}))
    assert said(*found)[0].startswith("input events.json: ")


def test_versions_drivers_and_nodes_are_compared_when_they_are_known(tmp_path: Path) -> None:
    workplace(tmp_path)
    before = locked(tmp_path, ROW, ROW | {"node": "n2"})
    assert said(before, locked(tmp_path)) == []
    now = locked(tmp_path, ROW | {"gpu_driver": "560.28", "triton_version": "2.60.0"})
    assert said(before, now) == [
        "triton: 2.51.0 -> 2.60.0",
        "GPU driver: 550.54 -> 560.28",
        "nodes: n1, n2 -> n1",
    ]


def test_another_python_and_another_site_are_differences(tmp_path: Path) -> None:
    workplace(tmp_path)
    before = locked(tmp_path)
    older = before.model_copy(update={"versions": before.versions | {"python": "3.1.0"}})
    now = locked(tmp_path, site={"name": "elsewhere", "pools": {"gpu": {"gpus_per_job": 1}}})
    assert f"python: 3.1.0 -> {before.versions['python']}" in said(older, now)
    assert said(before, now) == ["site: here -> elsewhere", "pools: cpu -> gpu"]


def test_a_wider_grid_is_a_difference(tmp_path: Path) -> None:
    workplace(tmp_path)
    before = locked(tmp_path)
    assert said(before, locked(tmp_path, load={"batch_size": [1, 2]})) == [
        "points: 1 -> 2, with other ids"
    ]


# The session that repeats another one


THEIRS = Repeated("20261101T000000-000000", 12345, complete=True)


def test_a_repetition_is_a_session_of_its_own_in_the_same_order(tmp_path: Path) -> None:
    results = Results(tmp_path)
    mine = open_session(results, new=False)
    again = open_session(results, new=False, repeated=THEIRS)
    assert again.run_id not in (mine.run_id, THEIRS.run_id)
    assert (again.seed, again.repeats, again.adopts) == (12345, THEIRS.run_id, False)


def test_an_interrupted_repetition_is_continued_by_the_same_command(tmp_path: Path) -> None:
    results = Results(tmp_path)
    first = open_session(results, new=False, repeated=THEIRS)
    assert open_session(results, new=False, repeated=THEIRS) == first
    assert open_session(results, new=True, repeated=THEIRS) != first


def test_a_lock_in_its_own_folder_continues_what_was_killed_and_repeats_what_was_complete(
    tmp_path: Path,
) -> None:
    results = Results(tmp_path)
    mine = open_session(results, new=False)
    killed = Repeated(mine.run_id, mine.seed, complete=False)
    assert open_session(results, new=False, repeated=killed) == mine
    again = open_session(results, new=False, repeated=Repeated(mine.run_id, mine.seed, True))
    assert again.run_id != mine.run_id
    assert again.repeats == mine.run_id
