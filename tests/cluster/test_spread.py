"""Which node a repeat is measured on: another one than before, where that costs nothing."""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpcbench.cluster import pool_tasks
from hpcbench.cluster.pool_tasks import PoolTasks, Task
from hpcbench.cluster.spread import (
    WAIT_S,
    FreeWorker,
    NodesOfPoints,
    choose_placement,
    earlier_nodes,
    node_key,
)
from hpcbench.plan.placement import Placement
from hpcbench.records.columns import Status
from hpcbench.records.folder import Results
from hpcbench.records.store import write_point
from tests.helpers.builders import point, record


def placement(number: int, repeat: int) -> Placement:
    return Placement(campaign="study", pool="gpu", repeat=repeat, points=(point(number),))


def measured(*where: tuple[int, str]) -> NodesOfPoints:
    found = NodesOfPoints()
    for number, node in where:
        found.add(placement(number, 0), node)
    return found


def free(*workers: str, free_s: float = 0.0) -> list[FreeWorker]:
    """Workers whose names begin with that of their node: a1, a2, b1."""
    return [FreeWorker(name, name[0], free_s) for name in workers]


def chosen(
    waiting: list[Placement],
    workers: list[FreeWorker],
    before: NodesOfPoints,
    *,
    nodes: str = "ab",
    soon: str = "",
) -> tuple[int, str] | None:
    return choose_placement(waiting, workers, before, nodes=set(nodes), free_soon=set(soon))


def test_a_repeat_goes_to_a_node_that_has_not_measured_it() -> None:
    waiting = [placement(1, 1)]
    assert chosen(waiting, free("a1", "b1"), measured((1, "a"))) == (0, "b1")
    assert chosen(waiting, free("a1", "b1"), measured((1, "b"))) == (0, "a1")


@pytest.mark.parametrize("begun", [False, True])
def test_a_repeat_whose_worker_went_is_taken_back(
    begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(pool_tasks.time, "monotonic", lambda: clock)
    workers = SimpleNamespace(live=2, nodes={"a1": "a", "b1": "b"})
    pool = PoolTasks("gpu", workers, deque(), measured=measured((1, "a")))
    pool.waiting.append(Task(placement(1, 1)))
    task = pool.next_task()
    assert task is not None
    assert task.worker == "b1"
    pool.in_flight["future"] = task
    assert pool.busy == {"b1"}
    if begun:
        pool.begin(task.placement.id, "b1", "b")
    clock += 60
    assert pool.without_worker() == []
    workers.nodes = {"a1": "a"}
    assert pool.without_worker() == [], "the word of its death, or of another, may be on its way"
    clock += 60
    assert pool.without_worker() == ["future"]
    pool.begin(task.placement.id, "a1", "a")
    assert pool.without_worker() == [], "another worker has taken it"


def test_who_has_a_first_repeat_is_known_when_it_has_begun() -> None:
    pool = PoolTasks("gpu", SimpleNamespace(live=2, nodes={"a1": "a", "b1": "b"}), deque())
    pool.in_flight["future"] = Task(placement(1, 0))
    assert pool.busy is None
    pool.begin(placement(1, 0).id, "a1", "a")
    assert pool.busy == {"a1"}


def test_two_workers_of_one_node_are_one_node() -> None:
    waiting = [placement(1, 1)]
    assert chosen(waiting, free("a1", "a2", "b1"), measured((1, "a"))) == (0, "b1")


def test_where_it_was_measured_everywhere_it_goes_to_where_it_was_least() -> None:
    before = measured((1, "a"), (1, "b"), (1, "a"))
    assert chosen([placement(1, 3)], free("a1", "b1"), before) == (0, "b1")


def test_another_one_of_the_repeat_takes_its_turn_rather_than_a_gpu_wait() -> None:
    waiting = [placement(1, 1), placement(2, 1)]
    assert chosen(waiting, free("a1"), measured((1, "a"), (2, "b"))) == (1, "a1")


def test_one_of_the_next_repeat_may_and_none_of_a_later_one() -> None:
    before = measured((1, "a"), (2, "b"))
    assert chosen([placement(1, 1), placement(2, 2)], free("a1"), before) == (1, "a1")
    assert chosen([placement(1, 1), placement(2, 3)], free("a1"), before) == (0, "a1")


def test_a_worker_waits_where_a_better_node_is_free_soon_but_not_for_long() -> None:
    waiting, before = [placement(1, 1)], measured((1, "a"))
    assert chosen(waiting, free("a1"), before, soon="b") is None
    assert chosen(waiting, free("a1", free_s=WAIT_S), before, soon="b") == (0, "a1")
    assert chosen(waiting, free("a1"), before, soon="a") == (0, "a1")
    assert chosen(waiting, free("a1"), before) == (0, "a1")


def test_where_there_is_one_node_nothing_waits() -> None:
    waiting, before = [placement(1, 1)], measured((1, "a"))
    assert chosen(waiting, free("a1"), before, nodes="a", soon="a") == (0, "a1")


def test_a_node_that_is_not_known_yet_is_taken_for_another_one() -> None:
    workers = [*free("a1"), FreeWorker("new", "", 0.0)]
    found = choose_placement(
        [placement(1, 1)], workers, measured((1, "a")), nodes={"a", ""}, free_soon=set()
    )
    assert found == (0, "new")


@pytest.mark.parametrize("name", ["nid001", "nid001.site.example"])
def test_a_node_has_one_name(name: str) -> None:
    assert node_key(name) == "nid001"


def test_a_run_that_goes_on_knows_where_its_session_has_measured(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.create()
    for number, (run_id, node, pool, status) in enumerate(
        [
            ("now", "n1.site", "cpu", Status.OK),
            ("now", "n1.site", "cpu", Status.UNSTABLE),
            ("now", "n2.site", "cpu", Status.FAILED),
            ("now", "n3.site", "other", Status.OK),
            ("before", "n4.site", "cpu", Status.OK),
        ]
    ):
        row = record(1, repeat=number, run_id=run_id, node=node, pool=pool, status=status)
        write_point(results, row)
    found = earlier_nodes(results, "cpu", "now")
    assert found.counts == Counter({(record(1).point_id, "n1"): 2})


# A whole run, by the clock of a simulation


def simulated(nodes: str, workers_per_node: int, *, spread: bool, seed: int) -> tuple[float, float]:
    """(share of points whose repeats are on as many nodes as can be, time that it all took)."""
    chance = random.Random(seed)
    node_of = {f"{node}{n}": node for node in nodes for n in range(workers_per_node)}
    times = {number: chance.uniform(30.0, 600.0) for number in range(12)}
    waiting = deque(placement(n, repeat) for repeat in range(3) for n in sorted(times))
    history: dict[int, list[str]] = {n: [] for n in times}
    seen, now = NodesOfPoints(), 0.0
    free_since = dict.fromkeys(node_of, 0.0)
    busy: list[tuple[float, str]] = []
    while waiting or busy:
        while waiting and free_since:
            workers = [FreeWorker(n, node_of[n], now - at) for n, at in free_since.items()]
            soon = {node_of[name] for end, name in busy if end - now < WAIT_S}
            found: tuple[int, str] | None = (0, chance.choice(workers).name)
            if spread and waiting[0].repeat:
                found = choose_placement(waiting, workers, seen, nodes=set(nodes), free_soon=soon)
            if found is None:
                break
            place, name = found
            task = waiting[place]
            del waiting[place]
            del free_since[name]
            seen.add(task, node_of[name])
            number = int(task.points[0].id, 16)
            history[number].append(node_of[name])
            heapq.heappush(busy, (now + times[number] * chance.uniform(0.8, 1.2), name))
        if not busy:
            now += 1.0
            continue
        now, name = heapq.heappop(busy)
        free_since[name] = now
    best = sum(len(set(its)) == min(3, len(nodes)) for its in history.values())
    return best / len(history), now


@pytest.mark.parametrize(("nodes", "workers_per_node"), [("ab", 1), ("abcd", 1), ("abc", 4)])
def test_repeats_are_on_different_nodes_and_the_run_takes_no_longer(
    nodes: str, workers_per_node: int
) -> None:
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for seed in range(10):
        for spread, runs in found.items():
            runs.append(simulated(nodes, workers_per_node, spread=spread, seed=seed))
    changed = {spread: sum(share for share, _ in runs) / 10 for spread, runs in found.items()}
    took = {spread: sum(time for _, time in runs) for spread, runs in found.items()}
    assert changed[True] > 0.9, changed
    assert changed[False] < changed[True] - 0.05, changed
    assert took[True] < 1.03 * took[False]
