"""Each measurement that is left is in exactly one placement, and in its order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcbench.config.server_axes import SCHEDULING_AXES
from hpcbench.plan.model import is_swappable
from hpcbench.plan.order import in_drawn_order, split_placements
from hpcbench.plan.placement import SERVER_START_S
from hpcbench.plan.point import Point, ServerVariant
from tests.helpers.builders import (
    co_located_points,
    parsed,
    placed,
    point,
    triton_model,
    variant,
)

VARIANTS = [
    variant(),
    variant(instance_count=2),
    variant(preferred_batch_size=None, max_queue_delay_us=None),
    variant(label="Another"),
    variant(triton_model("other")),
]


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
def test_the_longest_of_each_repeat_come_first_and_none_is_empty(
    points: list[Point], repeats: int
) -> None:
    placements = placed(points, repeats=repeats)
    assert all(placement.points for placement in placements)
    order = [(placement.repeat, -placement.estimate_s) for placement in placements]
    assert order == sorted(order)


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


def test_idle_jobs_take_whole_variants_where_they_can() -> None:
    points = [point(n, of=variant(instance_count=n // 5)) for n in range(5, 20)]
    (whole,) = placed(points)
    parts = split_placements([whole], jobs=2, walltime_s=None)
    assert sorted(len(p.points) for p in parts) == [5, 10]
    assert all(len({p.variant for p in part.points}) * 5 == len(part.points) for part in parts)


def test_points_that_are_measured_together_stay_together() -> None:
    (whole,) = placed(co_located_points(4))
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


@settings(max_examples=50)
@given(points=grids, repeats=st.integers(1, 3))
def test_placements_have_ids_of_their_own(points: list[Point], repeats: int) -> None:
    placements = placed(points, repeats=repeats) + placed(points, repeats=repeats, pool="gpu")
    assert len({placement.id for placement in placements}) == len(placements)


def test_repeats_are_launches_of_their_own() -> None:
    placements = placed([point()], repeats=3)
    assert [placement.repeat for placement in placements] == [0, 1, 2]


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


def test_points_have_an_order_that_is_drawn_from_the_seed() -> None:
    (placement,) = placed([point(number, batch_size=number + 1) for number in range(20)])
    orders = [in_drawn_order(placement, seed).points for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != placement.points
    assert set(orders[0]) == set(placement.points)


def test_each_repeat_has_an_order_of_its_own() -> None:
    points = [point(number, batch_size=number + 1) for number in range(20)]
    first, second = placed(points, repeats=2)
    assert in_drawn_order(first, 1).points != in_drawn_order(second, 1).points


def test_repeats_are_interleaved_however_long_variants_take() -> None:
    short = [point(number, of=variant(instance_count=1)) for number in range(2)]
    long = [point(10 + number, of=variant(instance_count=2)) for number in range(9)]
    found = placed([*short, *long], repeats=3, fresh_servers=True)
    assert [placement.repeat for placement in found] == [0, 0, 1, 1, 2, 2]
    assert [len(placement.points) for placement in found] == [9, 2] * 3
    spread = split_placements(found, jobs=1, walltime_s=None)
    assert [placement.repeat for placement in spread] == [0, 0, 1, 1, 2, 2]
