"""A placement: its id, its time, and what is left of it."""

from __future__ import annotations

from typing import Any

import pytest

from hpcbench.plan.order import split_placements
from hpcbench.plan.placement import ENGINE_S, SERVER_START_S, STOP_S, SWAP_S
from tests.helpers.builders import (
    co_located_points,
    placed,
    point,
    triton_model,
    variant,
)


def test_a_swap_is_in_the_estimate() -> None:
    points = [point(n, of=variant(instance_count=n)) for n in (1, 2)]
    (both,) = placed(points)
    (one,) = placed(points[:1])
    assert both.estimate_s == 2 * one.estimate_s - SERVER_START_S + SWAP_S


def test_time_for_a_fresh_server_is_kept_before_another_variant_and_only_there() -> None:
    points = [point(n, of=variant(instance_count=1 + n // 2)) for n in range(4)]
    (whole,) = placed(points)
    one_s = points[0].load.longest_s
    assert list(whole.next_s.values()) == [
        one_s + STOP_S,
        one_s + STOP_S + SERVER_START_S,
        one_s + STOP_S,
    ]
    assert whole.keys[-1] not in whole.next_s


def test_of_points_measured_together_one_can_be_left() -> None:
    (whole,) = placed(co_located_points())
    pair = next(each for each in whole.point_groups if len(each) == 2)
    left = whole.without_done({(pair[0].id, "cpu", 0)})
    assert left is not None
    assert (pair[1],) in left.point_groups
    assert left.served == whole.served


def test_models_together_are_first_brought_under_load() -> None:
    alone, *_, pair = placed(co_located_points(1))[0].point_groups
    parts = [placed(list(each))[0] for each in (alone, pair)]
    start_s = SERVER_START_S
    assert parts[1].estimate_s - start_s == 2 * (parts[0].estimate_s - start_s)
    assert parts[1].needs_s(1) > parts[0].needs_s(1)


def test_an_id_is_the_same_each_time_and_stands_for_its_points() -> None:
    points = [point(1), point(2)]
    (whole,) = placed(points)
    (again,) = placed(points, campaign="renamed")
    half = whole.without_done({(points[0].id, "cpu", 0)})
    assert half is not None
    assert whole.id == again.id
    assert whole.id != half.id
    assert len(whole.id) == 12
    assert "-" not in whole.id


def test_what_is_done_can_be_taken_away_later() -> None:
    (placement,) = placed([point(1), point(2), point(3)])
    left = placement.without_done({placement.keys[0], placement.keys[2], ("x", "cpu", 0)})
    assert left is not None
    assert [p.id for p in left.points] == [point(2).id]
    assert left.served == placement.served
    assert placement.without_done(set(placement.keys)) is None


def test_a_placement_carries_what_a_worker_needs() -> None:
    (placement,) = placed(
        [point(shapes=(("x", (5,)),), percentile=95)],
        pool="a100",
    )
    assert placement.campaign == "study"
    assert placement.pool == "a100"
    assert placement.points[0].load.percentile == 95
    assert placement.points[0].shapes == (("x", (5,)),)


def test_the_estimate_is_a_start_and_three_windows_for_each_point() -> None:
    points = [point(1), point(2, measurement_interval_ms=10_000)]
    (placement,) = placed(points)
    assert placement.estimate_s == SERVER_START_S + (3 * 5 + 1) + (3 * 10 + 1)


OWN_TENSORRT = (
    'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }'
)


TENSORRT = '{"name": "tensorrt", "precision_mode": "FP16"}'


@pytest.mark.parametrize(
    ("own", "axes", "builds"),
    [
        ("", {}, False),
        ("", {"accelerator": TENSORRT}, True),
        ("", {"accelerator": '{"name": "openvino"}'}, False),
        (OWN_TENSORRT, {}, True),
        (OWN_TENSORRT, {"accelerator": None}, False),
    ],
)
def test_time_is_kept_for_engines_where_some_are_built(
    own: str, axes: dict[str, Any], builds: bool
) -> None:
    served = variant(triton_model(config=own), **axes)
    (placement,) = placed([point(n, of=served) for n in range(3)])
    measured_s = sum(each.load.longest_s for each in placement.points)
    start_s = SERVER_START_S + (ENGINE_S if builds else 0.0)
    assert placement.needs_s(3) == start_s + measured_s + STOP_S
    assert placement.estimate_s == start_s + sum(p.load.estimate_s for p in placement.points)
    # Each part of it may come to a node without engines.
    limit_s = int(placement.needs_s(2)) + 1
    assert [
        len(part.points) for part in split_placements([placement], jobs=1, walltime_s=limit_s)
    ] == [2, 1]
