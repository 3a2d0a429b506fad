"""What a Dask worker runs, without Dask and Triton: who measures what, and what is left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpcbench.cluster import worker
from hpcbench.config.site import Site
from hpcbench.plan.placement import Placement
from hpcbench.records import store
from hpcbench.records.columns import Record, Status
from hpcbench.records.folder import Results
from tests.helpers.builders import placed, point, record, write_prefix, write_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """This computer."""
    write_prefix(tmp_path)
    return Site.load(write_site(tmp_path))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the points that were measured, all of which go well."""
    numbers: list[int] = []

    def measure(placement: Placement, *_: Any) -> Iterator[Record]:
        for each in placement.points:
            numbers.append(int(each.id, 16))
            yield record(
                int(each.id, 16), placement_id=placement.id, pool=placement.pool, status=Status.OK
            )

    monkeypatch.setattr("hpcbench.measure.measure.measure", measure)
    nobody = SimpleNamespace(name="0", log_event=lambda *_: None)
    monkeypatch.setattr(worker, "get_worker", lambda: nobody)
    return numbers


def test_a_placement_that_was_given_away_twice_is_measured_once(
    results: Results, site: Site, measured: list[int]
) -> None:
    """Dask takes a worker for dead, and gives its task to another one, when it is only slow."""
    results.create()
    (placement,) = placed([point(number) for number in range(3)])
    for _ in range(2):
        worker.run_placement(placement, site, str(results.folder))
    assert measured == [0, 1, 2]
    assert store.read_table(results.folder).num_rows == 3


def test_whatever_the_umask_is_no_record_can_be_changed_by_everybody(
    results: Results, site: Site, measured: list[int]
) -> None:
    results.create()
    (placement,) = placed([point(0)])
    before = os.umask(0)
    try:
        worker.run_placement(placement, site, str(results.folder))
        assert os.umask(0) == 0, "the umask of the process is as it was"
    finally:
        os.umask(before)
    (path,) = results.records.iterdir()
    assert path.stat().st_mode & 0o777 == 0o664


def test_workers_of_one_computer_have_cpus_of_their_own_where_server_and_client_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPU 0 and 4 are threads of one core, as are 1 and 5, 2 and 6, 3 and 7."""
    monkeypatch.setattr(worker.node.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(worker.node, "_core", lambda cpu: (0, cpu % 4))
    given: list[list[int]] = []
    monkeypatch.setattr(
        worker.node.os, "sched_setaffinity", lambda _, cpus: given.append(sorted(cpus))
    )
    write_prefix(tmp_path)
    pools = {
        "two": {"max_jobs": 2, "cpus": {"server": 1, "client": 1}},
        "all": {"max_jobs": 1, "cpus": 8},
        "one": {"max_jobs": 2, "cpus": {"server": 2, "client": 1}},
    }
    site = Site.load(write_site(tmp_path, pools=pools))

    def own(pool: str, name: str) -> list[int] | None:
        given.clear()
        (placement,) = placed([point(0)], pool=pool)
        with worker._own_devices(placement, site, name):
            found = given[0] if given else None
        assert given[1:] == ([list(range(8))] if found else []), "they are given back"
        return found

    assert own("two", "0") == [0, 4]
    assert own("two", "1") == [1, 5]
    assert own("all", "0") is None
    assert own("one", "0") == [2, 3, 6]
    # Too few for all.
    assert own("one", "1") is None
    alone = {"one": pools["one"] | {"max_jobs": 1}, "all": pools["all"]}
    site = Site.load(write_site(tmp_path, pools=alone))
    assert own("one", "0") is None


def test_points_that_another_worker_has_recorded_are_left_out(
    results: Results, site: Site, measured: list[int]
) -> None:
    results.create()
    (placement,) = placed([point(number) for number in range(3)])
    store.write_point(results, record(1, placement_id=placement.id))
    worker.run_placement(placement, site, str(results.folder))
    assert measured == [0, 2]
