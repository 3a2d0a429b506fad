"""The commands that read results, as functions."""

from __future__ import annotations

from pathlib import Path

import pytest

import hpcbench
from hpcbench.errors import BadInput
from tests.helpers.paths import DATA

RESULTS = DATA / "jet_tagger_0.1.0.parquet"


@pytest.fixture(scope="module")
def frame():
    return hpcbench.load_results(RESULTS)


def test_a_recommendation_has_the_file_that_it_is_deployed_with(frame) -> None:
    (advice,) = hpcbench.recommend(frame, max_latency_p99_ms=20)
    assert advice.best is not None
    assert advice.best["latency_p99_ms"] <= 20
    measured = frame[frame["point_id"] == advice.best["point_id"]]
    # These results are of before there was a deploy_config.
    assert advice.config_pbtxt in set(measured["server_config"])


def test_recommendations_show_what_the_command_prints(frame) -> None:
    found = hpcbench.recommend(frame)
    assert str(found).startswith(found[0].title)
    assert "recommended" in str(found)
    assert "recommended" in found._repr_html_()


def test_a_limit_that_nothing_keeps_leaves_no_file(frame) -> None:
    (advice,) = hpcbench.recommend(frame, max_latency_p99_ms=1e-6)
    assert (advice.best, advice.config_pbtxt) == (None, None)


def test_a_limit_with_another_name_is_refused_with_the_nearest_right_one(frame) -> None:
    with pytest.raises(BadInput, match="did you mean 'max_latency_p99_ms'"):
        hpcbench.recommend(frame, max_latency_p99=20)


def test_a_comparison_of_results_with_themselves_shows_no_change(frame) -> None:
    found = hpcbench.compare(frame, frame)
    assert set(found.rows["verdict"]) <= {"same", "inconclusive"}
    assert "B / A" in str(found)
    assert "B / A" in found._repr_html_()


def test_a_notebook_shows_a_figure_with_what_was_changed_in_it(frame) -> None:
    found = hpcbench.figures(frame, "pareto_front")
    (shown,) = found.values()
    before = shown._repr_png_()
    assert before.startswith(b"\x89PNG")
    shown.figure.axes[0].set_title("mine")
    assert shown._repr_png_() != before
    assert found._repr_html_().count("<figure>") == 1


def test_figures_of_nothing_and_of_another_name_are_refused(frame) -> None:
    with pytest.raises(BadInput, match="no results to draw"):
        hpcbench.figures(frame.iloc[:0])
    with pytest.raises(BadInput, match="choose one of"):
        hpcbench.figures(frame, "pareto")


@pytest.mark.usefixtures("few_figures")
def test_a_report_is_written_to_a_file(frame, tmp_path: Path) -> None:
    out = hpcbench.report(frame, str(tmp_path / "report.html"))
    assert out.read_text().startswith("<!doctype html>")
