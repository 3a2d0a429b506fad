"""How long a plan takes: by the backend, and by what earlier measurements took."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcbench import Campaign, Site
from hpcbench.plan.pace import with_paces
from hpcbench.plan.placement import SERVER_END_S, SERVER_START_S, Pace, server_start_s
from hpcbench.plan.plan import plan
from tests.helpers.builders import (
    campaign,
    expanded,
    placed,
    triton_model,
    variant,
    write_campaign,
    write_model,
    write_prefix,
    write_site,
)
from tests.helpers.measurements import measured, write


def row(point_id: str, **changes: Any) -> dict[str, Any]:
    known = {"perf_analyzer_s": 6.0, "server_ready_s": 40.0, "server_fresh": True, "pool": "cpu"}
    return {"point_id": point_id, **known, **changes}


def test_a_backend_with_large_libraries_takes_longer_to_start() -> None:
    onnx, script, graph = (
        triton_model(config=f'backend: "{name}"')
        for name in ("onnxruntime", "python", "tensorflow")
    )
    starts = [server_start_s([variant(model)]) for model in (onnx, script, graph)]
    assert starts[0] == SERVER_START_S
    assert starts == sorted(set(starts))
    ensemble = replace(triton_model(config='platform: "ensemble"'), composing=(onnx, graph))
    assert server_start_s([variant(ensemble)]) == starts[2]
    assert server_start_s(iter([variant(script), variant(graph)])) == starts[2]


def test_a_model_is_expected_to_take_what_it_took() -> None:
    points = expanded(campaign(load={"batch_size": [1, 2, 4]})).points
    waiting = {"cpu": placed(list(points[1:])), "gpu": placed(list(points), pool="gpu")}
    rows = [row(points[0].id), row(points[0].id, server_ready_s=60.0, server_fresh=False)]
    (paced,), (unknown,) = (with_paces(waiting, points, rows)[pool] for pool in ("cpu", "gpu"))
    factor = 6.0 / points[0].load.estimate_s
    assert paced.pace == Pace(40.0, pytest.approx(factor))
    assert paced.estimate_s == pytest.approx(40.0 + SERVER_END_S + 2 * 6.0)
    assert unknown.pace is None, "another pool has other nodes"
    assert unknown == waiting["gpu"][0]
    # A job must have the time that was reserved before: what is expected may not come.
    assert paced.needs_s(1) == waiting["cpu"][0].needs_s(1)
    assert paced.id == waiting["cpu"][0].id


@pytest.mark.parametrize(
    "rows",
    [[], [row("unknown")], [row("x", perf_analyzer_s=None)], [row("x", server_ready_s=None)]],
)
def test_where_nothing_was_measured_the_estimate_stays(rows: list[dict[str, Any]]) -> None:
    points = expanded(campaign()).points
    mine = [{**each, "point_id": each["point_id"].replace("x", points[0].id)} for each in rows]
    waiting = placed(list(points))
    assert with_paces({"cpu": waiting}, points, mine) == {"cpu": tuple(waiting)}


def test_a_plan_knows_what_earlier_runs_in_its_results_folder_took(tmp_path: Path) -> None:
    write_model(tmp_path / "models")
    write_prefix(tmp_path)
    study = Campaign.load(write_campaign(tmp_path, load={"batch_size": [1, 2]}))
    site = Site.load(write_site(tmp_path))
    first, _ = plan(study, site).grid.points
    took = measured(
        point_id=first.id, pool="cpu", perf_analyzer_s=2.0, server_ready_s=90.0, server_fresh=True
    )
    write(tmp_path / "results", [took])
    rest = plan(study, site, results=tmp_path / "results")
    assert [len(each.points) for each in rest.placements["cpu"]] == [1]
    assert rest.estimate_s == pytest.approx(90.0 + SERVER_END_S + 2.0)
    assert plan(study, site, results=tmp_path / "none").estimate_s == plan(study, site).estimate_s
