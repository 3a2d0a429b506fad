"""Placements: each measurement that is left is in exactly one of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hpcbench.grid import Point
from hpcbench.placement import SERVER_START_S, Placement, place, spread
from tests.builders import point, triton_model, variant

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
    }
    return place(points, **(settings | changes))


grids = st.lists(st.sampled_from(VARIANTS), max_size=12).map(
    lambda chosen: [point(number, of=each) for number, each in enumerate(chosen)]
)


@settings(deadline=None, max_examples=100)
@given(points=grids, repeats=st.integers(1, 4), data=st.data())
def test_every_measurement_that_is_left_is_placed_exactly_once_and_no_other(
    points: list[Point], repeats: int, data: st.DataObject
) -> None:
    everything = [(p.id, "cpu", repeat) for p in points for repeat in range(repeats)]
    done = set(data.draw(st.lists(st.sampled_from(everything)))) if everything else set()
    foreign = {(key[0], "another pool", key[2]) for key in everything}
    placements = placed(points, repeats=repeats)
    left = [placement.without(done | foreign) for placement in placements]
    found = Counter(key for placement in left if placement for key in placement.keys)
    assert found == Counter(set(everything) - done)


@settings(deadline=None, max_examples=100)
@given(points=grids, repeats=st.integers(1, 3))
def test_the_longest_come_first_and_none_is_empty(points: list[Point], repeats: int) -> None:
    placements = placed(points, repeats=repeats)
    lengths = [len(placement.points) for placement in placements]
    assert lengths == sorted(lengths, reverse=True)
    assert 0 not in lengths
    estimates = [placement.estimate_s for placement in placements]
    assert estimates == sorted(estimates, reverse=True)


@settings(deadline=None, max_examples=100)
@given(points=grids, repeats=st.integers(1, 3))
def test_points_of_one_server_variant_share_a_placement(points: list[Point], repeats: int) -> None:
    """One Triton launch for each variant and repeat; its points keep their order."""
    placements = placed(points, repeats=repeats)
    launches = [(placement.variant, placement.repeat) for placement in placements]
    assert len(launches) == len(set(launches))
    for placement in placements:
        assert list(placement.points) == [p for p in points if p.variant == placement.variant]


@settings(deadline=None, max_examples=50)
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
    half = whole.without({(points[0].id, "cpu", 0)})
    assert half is not None
    assert whole.id == again.id
    assert whole.id != half.id
    assert len(whole.id) == 12
    assert "-" not in whole.id


def test_what_is_done_can_be_taken_away_later() -> None:
    (placement,) = placed([point(1), point(2), point(3)])
    left = placement.without({placement.keys[0], placement.keys[2], ("x", "cpu", 0)})
    assert left is not None
    assert [p.id for p in left.points] == [point(2).id]
    assert left.variant == placement.variant
    assert placement.without(set(placement.keys)) is None


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


@settings(deadline=None, max_examples=200)
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
    parts = spread(placements, jobs=jobs, walltime_s=walltime_s)
    assert Counter(key for part in parts for key in part.keys) == Counter(
        key for placement in placements for key in placement.keys
    )
    assert len(parts) >= len(placements)
    for part in parts:
        fits = walltime_s is None or part.needs_s(len(part.points)) <= walltime_s
        assert fits or len(part.points) == 1
        assert len({p.variant for p in part.points}) == 1


def test_one_long_placement_is_shared_among_idle_jobs_but_not_beyond_what_a_start_costs() -> None:
    (whole,) = placed([point(n) for n in range(16)])
    assert len(spread([whole], jobs=1, walltime_s=None)) == 1
    assert [len(p.points) for p in spread([whole], jobs=2, walltime_s=None)] == [8, 8]
    many = spread([whole], jobs=100, walltime_s=None)
    assert 2 < len(many) <= 16
    assert all(part.estimate_s >= 2 * SERVER_START_S for part in many)


def test_a_placement_that_outlasts_a_job_is_cut_where_the_job_ends() -> None:
    (whole,) = placed([point(n) for n in range(10)])
    limit_s = int(whole.needs_s(4)) + 1
    parts = spread([whole], jobs=1, walltime_s=limit_s)
    assert [len(p.points) for p in parts] == [4, 4, 2]
