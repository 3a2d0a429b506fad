"""Which references a plan refuses, and that they change no point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcbench import Campaign, Site, plan
from tests.helpers.builders import refusal, workplace, write_campaign, write_site

METRIC = {"throughput_infer_per_s": [100, -0.1, None]}
GPU_POOL = {"pools": {"t4": {"gpus_per_job": 1, "gpu": "Tesla T4"}}}


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Path:
    workplace(tmp_path)
    return tmp_path


def planned(folder: Path, *references: Any, site: dict[str, Any] | None = None) -> Any:
    changes = {"references": list(references)} if references else {}
    path = write_campaign(folder, load={"batch_size": [1, 2], "concurrency": [4]}, **changes)
    return plan(Campaign.load(path), Site.load(write_site(folder, **(site or {}))))


def test_a_reference_is_no_part_of_a_point(place: Path) -> None:
    before = planned(place)
    after = planned(place, {"points": {"model": "tagger", "batch_size": 2}, "expect": METRIC})
    assert [point.id for point in after.grid.points] == [point.id for point in before.grid.points]
    assert after.placements == before.placements


@pytest.mark.parametrize(
    ("reference", "site", "words"),
    [
        (
            {"expect": {"throughput_infer_s": [100, -0.1, None]}},
            None,
            (
                "references[0].expect.throughput_infer_s: there is no such metric; did you mean "
                "'throughput_infer_per_s'? the columns whose role is metric: docs/columns.md"
            ),
        ),
        (
            {"points": {"model": "tager"}, "expect": METRIC},
            None,
            (
                "references[0].points: there is no model 'tager'; did you mean 'tagger'? the "
                "models: tagger"
            ),
        ),
        (
            {"gpu": "Tesla T5", "expect": METRIC},
            GPU_POOL,
            (
                "references[0].gpu: no pool has a 'Tesla T5'; did you mean 'Tesla T4'? GPUs of "
                "site 'here': Tesla T4"
            ),
        ),
        (
            {"points": {"batch_size": [8, 16]}, "expect": METRIC},
            None,
            (
                "references[0].points: no point of a model that has its server alone is one of "
                "these; write the values as on the axes, and only of axes that have an effect"
            ),
        ),
    ],
)
def test_what_no_result_could_be_compared_with_is_refused(
    place: Path, reference: Any, site: Any, words: str
) -> None:
    assert refusal(planned, place, reference, site=site) == f"{place}/campaign.yaml: {words}"


def test_all_mistakes_are_said_at_once(place: Path) -> None:
    wrong = {"gpu": "T5", "points": {"batch_size": 8}, "expect": {"speed": [1, 0, None]}}
    message = refusal(planned, place, wrong, site=GPU_POOL)
    assert len(message.splitlines()) == 3


def test_the_gpu_of_another_site_may_be_named(place: Path) -> None:
    """One campaign is run at several sites."""
    other = {"gpu": ["Tesla T4", "NVIDIA A100-SXM4-80GB"], "expect": METRIC}
    assert planned(place, other, site=GPU_POOL).grid.points


def test_where_a_pool_does_not_say_its_gpu_only_its_node_can(place: Path) -> None:
    unnamed = {"pools": {"any": {"gpus_per_job": 1}}}
    assert planned(place, {"gpu": "Tesla T5", "expect": METRIC}, site=unnamed).grid.points


@pytest.mark.parametrize(
    ("points", "server"),
    [
        ({"instance_count": 2}, {"instance_count": [1, 2]}),
        ({"instance_count": "base"}, {}),
        ({"preferred_batch_size": [[4, 8]]}, {"preferred_batch_size": [None, [4, 8]]}),
        ({"preferred_batch_size": None}, {"preferred_batch_size": [None, [4, 8]]}),
        (
            {"accelerator": {"name": "openvino"}},
            {"accelerator": [None, {"name": "openvino"}]},
        ),
        ({"concurrency": 4, "protocol": "grpc", "version": None, "stop": "windows"}, {}),
        ({"async": True}, {}),
    ],
)
def test_points_are_named_by_any_axis(
    place: Path, points: dict[str, Any], server: dict[str, Any]
) -> None:
    path = (
        write_campaign(place, server=server, references=[{"points": points, "expect": METRIC}])
        if server
        else write_campaign(
            place, load={"concurrency": [4]}, references=[{"points": points, "expect": METRIC}]
        )
    )
    assert plan(Campaign.load(path), Site.load(write_site(place))).grid.points
