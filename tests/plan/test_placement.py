"""Placements: each measurement that is left is in exactly one of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcbench.config.server_axes import SCHEDULING_AXES
from hpcbench.plan.model import is_swappable
from hpcbench.plan.order import make_placements, split_placements
from hpcbench.plan.placement import ENGINE_S, SERVER_START_S, STOP_S, SWAP_S, Placement
from hpcbench.plan.point import Point, ServerVariant
from tests.helpers.builders import campaign, expanded, parsed, point, triton_model, variant

VARIANTS = [
    variant(),
    variant(instance_count=2),
    variant(preferred_batch_size=None, max_queue_delay_us=None),
    variant(label="Another"),
    variant(triton_model("other")),
]


def placed(points: list[Point], **changes: Any) -> list[Placement]:
    settings: dict[str, Any] = {
        "campaign": "study",
        "pool": "cpu",
        "repeats": 1,
        "fresh_servers": False,
    }
    return make_placements(points, **(settings | changes))


grids = st.lists(st.sampled_from(VARIANTS), max_size=12).map(
    lambda chosen: [point(number, of=each) for number, each in enumerate(chosen)]
)


@settings(max_examples=100)
@given(points=grids, repeats=st.integers(1, 4), data=st.data())
def test_every_measurement_that_is_left_is_placed_exactly_once_and_no_other(
    points: list[Point], repeats: int, data: st.DataObject
) -> None:
    everything = [(p.id, "cpu", repeat) for p in points for repeat in range(repeats)]
    done = set(data.draw(st.lists(st.sampled_from(everything)))) if everything else set()
    foreign = {(key[0], "another pool", key[2]) for key in everything}
    placements = placed(points, repeats=repeats)
    left = [placement.without_done(done | foreign) for placement in placements]
    found = Counter(key for placement in left if placement for key in placement.keys)
    assert found == Counter(set(everything) - done)


@settings(max_examples=100)
@given(points=grids, repeats=st.integers(1, 3))
def test_the_longest_come_first_and_none_is_empty(points: list[Point], repeats: int) -> None:
    placements = placed(points, repeats=repeats)
    lengths = [len(placement.points) for placement in placements]
    assert lengths == sorted(lengths, reverse=True)
    assert 0 not in lengths
    estimates = [placement.estimate_s for placement in placements]
    assert estimates == sorted(estimates, reverse=True)


def family(one: ServerVariant) -> ServerVariant:
    """The variant without what may change while its server stays."""
    kept = tuple((axis, value) for axis, value in one.changes if axis not in SCHEDULING_AXES)
    return replace(one, changes=kept)


@settings(max_examples=100)
@given(points=grids, repeats=st.integers(1, 3))
def test_variants_that_differ_in_scheduling_only_share_a_placement(
    points: list[Point], repeats: int
) -> None:
    """One launch for each family and repeat; each variant is in one piece, its points in order."""
    placements = placed(points, repeats=repeats)
    launches = [(family(p.points[0].variant), p.repeat) for p in placements]
    assert len(launches) == len(set(launches))
    for placement in placements:
        assert len({family(p.variant) for p in placement.points}) == 1
        assert len(placement.served) == len(set(placement.served))
        for (one,) in placement.served:
            found = [p for p in placement.points if p.variant == one]
            assert found == [p for p in points if p.variant == one]


@settings(max_examples=100)
@given(points=grids, repeats=st.integers(1, 3))
def test_with_fresh_servers_each_variant_has_a_placement_of_its_own(
    points: list[Point], repeats: int
) -> None:
    placements = placed(points, repeats=repeats, fresh_servers=True)
    assert len(placements) == repeats * len({point.variant for point in points})
    assert all(len(placement.served) == 1 for placement in placements)


def test_another_variant_is_the_fresh_one_with_every_repeat() -> None:
    points = [point(n, of=variant(instance_count=n)) for n in (1, 2, 3)]
    placements = sorted(placed(points, repeats=4), key=lambda placement: placement.repeat)
    first = [placement.points[0].variant.axes["instance_count"] for placement in placements]
    assert first == [1, 2, 3, 1]


@pytest.mark.parametrize(
    "unlike",
    [
        variant(max_batch_size=8),
        variant(version=2),
        variant(triton_model(digest="d2")),
        variant(accelerator='{"name": "openvino"}'),
    ],
    ids=["another axis", "another version", "other files", "an accelerator"],
)
def test_what_differs_in_more_than_scheduling_has_another_server(unlike: ServerVariant) -> None:
    assert len(placed([point(1), point(2, of=unlike)])) == 2


@pytest.mark.parametrize(
    "config",
    [
        "ensemble_scheduling { step { model_name: 'a' model_version: 1 } }",
        "optimization { execution_accelerators { gpu_execution_accelerator { name: 'any' } } }",
    ],
)
def test_what_triton_may_crash_on_when_it_unloads_it_has_a_fresh_server_always(config: str) -> None:
    model = replace(triton_model(), swappable=is_swappable(parsed(config)))
    points = [point(n, of=variant(model, instance_count=n)) for n in (1, 2)]
    assert len(placed(points)) == 2


def test_a_swap_is_in_the_estimate() -> None:
    points = [point(n, of=variant(instance_count=n)) for n in (1, 2)]
    (both,) = placed(points)
    (one,) = placed(points[:1])
    assert both.estimate_s == 2 * one.estimate_s - SERVER_START_S + SWAP_S


def test_idle_jobs_take_whole_variants_where_they_can() -> None:
    points = [point(n, of=variant(instance_count=n // 5)) for n in range(5, 20)]
    (whole,) = placed(points)
    parts = split_placements([whole], jobs=2, walltime_s=None)
    assert sorted(len(p.points) for p in parts) == [5, 10]
    assert all(len({p.variant for p in part.points}) * 5 == len(part.points) for part in parts)


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


def shared(loads: int = 2) -> list[Point]:
    """The points of two models on one server, each with so many loads."""
    names = ("one", "two")
    study = campaign(
        models=[{"name": name} for name in names],
        load={"batch_size": list(range(1, loads + 1))},
        together=[{name: {} for name in names}],
    )
    return [point for point in expanded(study).points if point.co_located]


def test_points_that_are_measured_together_stay_together() -> None:
    (whole,) = placed(shared(4))
    assert {len(each) for each in whole.point_groups} == {1, 2}
    pairs = [each for each in whole.point_groups if len(each) == 2]
    assert len(pairs) == 16
    assert all(one.together_id == other.together_id for one, other in pairs)
    limit_s = int(whole.needs_s(3)) + 1
    for parts in (
        split_placements([whole], jobs=1, walltime_s=limit_s),
        split_placements([whole], jobs=7, walltime_s=None),
    ):
        assert len(parts) > 2
        kept = [each for part in parts for each in part.point_groups]
        assert sorted(kept, key=str) == sorted(whole.point_groups, key=str)


def test_of_points_measured_together_one_can_be_left() -> None:
    (whole,) = placed(shared())
    pair = next(each for each in whole.point_groups if len(each) == 2)
    left = whole.without_done({(pair[0].id, "cpu", 0)})
    assert left is not None
    assert (pair[1],) in left.point_groups
    assert left.served == whole.served


def test_models_together_are_first_brought_under_load() -> None:
    alone, *_, pair = placed(shared(1))[0].point_groups
    parts = [placed(list(each))[0] for each in (alone, pair)]
    start_s = SERVER_START_S
    assert parts[1].estimate_s - start_s == 2 * (parts[0].estimate_s - start_s)
    assert parts[1].needs_s(1) > parts[0].needs_s(1)


@settings(max_examples=50)
@given(points=grids, repeats=st.integers(1, 3))
def test_placements_have_ids_of_their_own(points: list[Point], repeats: int) -> None:
    placements = placed(points, repeats=repeats) + placed(points, repeats=repeats, pool="gpu")
    assert len({placement.id for placement in placements}) == len(placements)


def test_repeats_are_launches_of_their_own() -> None:
    placements = placed([point()], repeats=3)
    assert [placement.repeat for placement in placements] == [0, 1, 2]


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
    assert placement.estimate_s == SERVER_START_S + (3 * 6 + 1) + (3 * 12 + 1)


def test_no_points_are_no_placements() -> None:
    assert placed([]) == []


@settings(max_examples=200)
@given(
    points=grids,
    repeats=st.integers(1, 3),
    jobs=st.integers(1, 40),
    walltime_s=st.none() | st.integers(100, 4000),
)
def test_spreading_loses_no_point_and_fits_each_placement_into_a_job(
    points: list[Point], repeats: int, jobs: int, walltime_s: int | None
) -> None:
    placements = placed(points, repeats=repeats)
    parts = split_placements(placements, jobs=jobs, walltime_s=walltime_s)
    assert Counter(key for part in parts for key in part.keys) == Counter(
        key for placement in placements for key in placement.keys
    )
    assert len(parts) >= len(placements)
    for part in parts:
        fits = walltime_s is None or part.needs_s(len(part.points)) <= walltime_s
        assert fits or len(part.points) == 1
        assert len({family(p.variant) for p in part.points}) == 1


def test_one_long_placement_is_shared_among_idle_jobs_but_not_beyond_what_a_start_costs() -> None:
    (whole,) = placed([point(n) for n in range(16)])
    assert len(split_placements([whole], jobs=1, walltime_s=None)) == 1
    assert [len(p.points) for p in split_placements([whole], jobs=2, walltime_s=None)] == [8, 8]
    many = split_placements([whole], jobs=100, walltime_s=None)
    assert 2 < len(many) <= 16
    assert all(part.estimate_s >= 2 * SERVER_START_S for part in many)


def test_a_placement_that_outlasts_a_job_is_cut_where_the_job_ends() -> None:
    (whole,) = placed([point(n) for n in range(10)])
    limit_s = int(whole.needs_s(4)) + 1
    parts = split_placements([whole], jobs=1, walltime_s=limit_s)
    assert [len(p.points) for p in parts] == [4, 4, 2]


def test_a_model_beside_an_ensemble_is_not_swapped_under_it() -> None:
    config = "ensemble_scheduling { step { model_name: 'a' model_version: 1 } }"
    ensemble = variant(replace(triton_model("chain"), swappable=is_swappable(parsed(config))))
    points = [
        replace(point(n, of=variant(instance_count=n)), co_located=(ensemble,)) for n in (1, 2)
    ]
    assert len(placed(points)) == 2


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
