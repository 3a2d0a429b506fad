"""What a user wants to see of results: points by their values, series by their legend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from hpcbench.analysis.summary.choice import WANTED, Choice, chosen_points
from hpcbench.analysis.summary.points import summarise
from hpcbench.cli.main import main
from hpcbench.errors import BadInput
from tests.helpers.measurements import failed, loaded, measured, server, write

FP16 = '{"name": "tensorrt", "precision_mode": "FP16"}'
RECORDS = [
    measured(variant=server(instance_count="base"), instance_count=2),
    measured(variant=server(instance_count=1), instance_count=1, concurrency=8),
    measured(variant=server(accelerator=FP16), accelerator=FP16, protocol="http"),
    failed(variant=server(preferred_batch_size=[4, 8]), batch_size=16),
]


@pytest.fixture(scope="module")
def points() -> pd.DataFrame:
    return summarise(loaded(RECORDS))


def found(points: pd.DataFrame, **where: str) -> list[Any]:
    choice = Choice([(name, values.split(",")) for name, values in where.items()])
    return chosen_points(points, choice)["variant"].tolist()


def test_points_are_chosen_by_a_server_axis_as_it_was_asked_for_or_loaded(
    points: pd.DataFrame,
) -> None:
    assert found(points, instance_count="2") == [RECORDS[0].variant]
    assert set(found(points, instance_count="1,2")) == {each.variant for each in RECORDS[:2]}
    assert RECORDS[0].variant in found(points, instance_count="base")
    assert found(points, accelerator="tensorrt fp16") == [RECORDS[2].variant]
    assert found(points, preferred_batch_size="4/8") == [RECORDS[3].variant]


def test_points_are_chosen_by_a_column_and_by_several_at_once(points: pd.DataFrame) -> None:
    assert found(points, concurrency="8") == [RECORDS[1].variant]
    assert found(points, protocol="HTTP") == [RECORDS[2].variant]
    assert found(points, protocol="grpc", concurrency="8") == [RECORDS[1].variant]


def test_what_is_no_column_and_what_no_point_has_is_refused(points: pd.DataFrame) -> None:
    with pytest.raises(BadInput, match="did you mean 'concurrency'"):
        found(points, concurency="8")
    with pytest.raises(BadInput, match=r"concurrency=3: no result has it\n  -> there are 4, 8"):
        found(points, concurrency="3")


def test_series_are_named_as_the_legend_names_them(points: pd.DataFrame) -> None:
    def wanted(*names: str) -> list[Any]:
        named = chosen_points(points, Choice(series=names))
        return named.loc[named[WANTED], "variant"].tolist()

    assert wanted("1 instance, concurrency 8") == [RECORDS[1].variant]
    assert wanted("tensorRT fp16", "dynamic batching 4/8") == [each.variant for each in RECORDS[2:]]
    with pytest.raises(BadInput, match="did you mean '2 instances'"):
        wanted("2 instance")


def test_the_command_draws_what_is_wanted_only(tmp_path: Path) -> None:
    folder = write(tmp_path / "results", RECORDS)
    words = ["plot", str(folder), "--out", str(tmp_path / "out"), "--figure", "pareto_front"]
    done = CliRunner().invoke(main, [*words, "--where", "concurrency=8"])
    assert done.exit_code == 0, done.output
    numbers = pd.read_csv(tmp_path / "out" / "pareto_front.csv")
    assert numbers["concurrency"].tolist() == [8]
    assert CliRunner().invoke(main, [*words, "--where", "concurrency"]).exit_code == 2
    assert CliRunner().invoke(main, [*words, "--series", "no such"]).exit_code == 2
