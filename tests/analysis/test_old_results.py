"""Results of an older hpcbench give the same table, figures and recommendations as they did then.

The numbers in tests/data/results_expected were made by hpcbench 0.1.0, which wrote the results. It
judged limits by the mean, knew neither the errors of the best of many nor sizing with headroom, and
took a variant for another configuration also where Triton made the same server of it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpcbench import load_results
from hpcbench.analysis.decide import candidates
from hpcbench.analysis.decide.candidates import RECOMMEND_COLUMNS
from hpcbench.analysis.decide.recommend import recommend_configurations
from hpcbench.analysis.decide.recommend_text import recommendation_json
from hpcbench.analysis.figures.registry import prepare_figures
from hpcbench.analysis.summary import points
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.analysis.summary.points import summarise
from hpcbench.analysis.summary.same_servers import ALSO
from tests.helpers.paths import DATA

RESULTS = {
    "jet_tagger": DATA / "jet_tagger_0.1.0.parquet",
    "results_before": DATA / "results_before",
}
SENTENCES = ("notes", "failing")
"""What they say may be said better. Whether anything fails is compared."""

NEW = ("latency_tails", "capacity_search")
"""Kinds of figures that there were not then."""

CHOSEN = ("drawn",)
"""Which series stand out of many, for which there is another rule since."""

ERRORS = ("low", "high", "as_good")
"""What is made of the errors, which few repeats borrow from others since: the ends of intervals,
and who is as good as the best. What they are now is tested by simulations
(tests/analysis/decide/test_decisions.py)."""

SIZING = ("rate", "servers_low", "gpus_per_server", "clients", "clients_interpolated")
"""What is not made of them. How many servers are needed is: one serves the lower end of its
interval. So are what they cost, and the share of its load that each gets."""

RENAMED = {"figures": "metrics"}
"""Keys that are called otherwise since."""


@pytest.fixture(params=RESULTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def results(name: str) -> Path:
    return RESULTS[name]


@pytest.fixture
def expected(name: str) -> Any:
    return json.loads((DATA / "results_expected" / f"{name}.json").read_text(encoding="utf-8"))


def plain(value: Any) -> Any:
    """A value of a table as JSON has it."""
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(each) for each in value]
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if isinstance(value, np.generic) else value


def digest(column: pd.Series) -> str:
    values = json.dumps([plain(value) for value in column])
    return hashlib.sha256(values.encode()).hexdigest()[:16]


def drawn_ends(data: pd.DataFrame, column: str) -> pd.Series:
    """A column; of two repeats that which had stood in the column of an interval."""
    for interval, span in (("_low", "_min"), ("_high", "_max")):
        named = column.removesuffix(interval) + span
        if column.endswith(interval) and named in data:
            return data[column].fillna(data[named])
    return data[column]


def alike(found: Any, wanted: Any) -> bool:
    """Whether two pieces of JSON are the same but for the last digits of their numbers."""
    if isinstance(wanted, dict):
        # Later versions may add columns and keys; none may go.
        return isinstance(found, dict) and all(
            key in found and (key in ERRORS or alike(found[key], value))
            for key, value in ((RENAMED.get(key, key), value) for key, value in wanted.items())
        )
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(alike, found, wanted))
    if isinstance(wanted, float) and isinstance(found, float):
        return found == pytest.approx(wanted, rel=1e-8)
    return bool(found == wanted)


def test_the_table_is_the_same(results: Path, expected: Any) -> None:
    frame = load_results(results)
    found = {column: [str(frame[column].dtype), digest(frame[column])] for column in frame}
    assert {column: found.get(column) for column in expected["table"]} == expected["table"]


@pytest.fixture
def variants_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variant is a configuration of its own, as it was."""
    for module in (candidates, points):
        monkeypatch.setattr(module, "with_one_name", lambda rows: rows.assign(**{ALSO: None}))


@pytest.mark.usefixtures("variants_apart")
def test_the_figures_are_the_same(results: Path, expected: Any) -> None:
    figures, reasons = prepare_figures(summarise(load_results(results)))
    figures = [figure for figure in figures if figure.kind.name not in NEW]
    assert [figure.name for figure in figures] == list(expected["figures"])
    assert sorted(name for name in reasons if name not in NEW) == expected["not_drawn"]
    for figure in figures:
        for column, values in expected["figures"][figure.name].items():
            found = [plain(value) for value in drawn_ends(figure.data, column)]
            # What is the same in every row stands there once.
            wanted = values * len(found) if len(values) == 1 else values
            if column in CHOSEN and len(values) > 1:
                assert set(found) <= {"colour", "grey", "no"}
                continue
            assert alike(found, wanted), f"{figure.name}: {column}"


@pytest.mark.usefixtures("variants_apart")
def test_the_recommendations_are_the_same(results: Path, expected: Any) -> None:
    frame = load_results(results, RECOMMEND_COLUMNS, categories=True)
    for case in expected["recommendations"]:
        # As it was sized then: to the last client, and without a spare server.
        requirements = Requirements(
            **case["requirements"], limits_by_mean=True, headroom=1.0, spares=0
        )
        found = map(recommendation_json, recommend_configurations(frame, requirements))
        for now, before in zip(found, case["found"], strict=True):
            assert bool(now["failing"]) == bool(before["failing"])
            for key in before.keys() - {*SENTENCES, *ERRORS, "runners_up", "sizing"}:
                assert alike(now[key], before[key]), (case["requirements"], key)
            sizing = before["sizing"]
            assert (now["sizing"] is None) == (sizing is None)
            assert sizing is None or alike(now["sizing"], {key: sizing[key] for key in SIZING})
            assert_same_runners_up(now["runners_up"], before["runners_up"])


def assert_same_runners_up(now: list[Any], before: list[Any]) -> None:
    """Others may be among the few: those that are as good come first. Their values are the same."""
    points = {each["point_id"]: each for each in now}
    both = [each for each in before if each["point_id"] in points]
    assert both or not before
    assert all(alike(points[each["point_id"]], each) for each in both)
