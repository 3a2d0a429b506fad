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
    monkeypatch.setattr(worker.device, "take_gpus", lambda *_: None)
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


def test_points_that_another_worker_has_recorded_are_left_out(
    results: Results, site: Site, measured: list[int]
) -> None:
    results.create()
    (placement,) = placed([point(number) for number in range(3)])
    store.write_point(results, record(1, placement_id=placement.id))
    worker.run_placement(placement, site, str(results.folder))
    assert measured == [0, 2]
