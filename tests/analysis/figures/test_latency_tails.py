"""Median and p99 along the load, and how high the p99 may be."""

from __future__ import annotations

import pytest

from hpcbench.analysis.figures.latency_tails import prepare_latency_tails
from hpcbench.analysis.figures.registry import FIGURES
from hpcbench.analysis.summary.points import summarise
from hpcbench.analysis.summary.series import DoesNotApply
from tests.helpers.measurements import loaded, measured

SCAN = [
    measured(100.0 * concurrency, p99, repeat=repeat, concurrency=concurrency)
    for concurrency in (1, 2, 4)
    for repeat, p99 in enumerate((2.0 * concurrency, 2.2 * concurrency, 2.4 * concurrency))
]


def test_the_bound_of_the_p99_is_the_end_of_its_interval_where_nothing_knows_a_better_one() -> None:
    ((_, data),) = prepare_latency_tails(summarise(loaded(SCAN)))
    assert data["x"].tolist() == [1, 2, 4]
    assert data["latency_p50_ms"].tolist() == pytest.approx([1.1, 2.2, 4.4])
    assert data["latency_p99_bound_ms"].tolist() == data["latency_p99_ms_high"].tolist()
    assert set(data["load"]) == {"concurrency"}


def test_the_p50_is_dashed_below_the_p99_and_the_bound_shaded_above() -> None:
    figure = FIGURES["latency_tails"].plot(summarise(loaded(SCAN)))
    (ax,) = figure.axes
    (p50,) = (line for line in ax.lines if line.get_gid() == "p50")
    (p99,) = (line for line in ax.lines if line.get_gid() == "line")
    assert p50.get_linestyle() == "--"
    assert (p50.get_ydata() < p99.get_ydata()).all()
    (shade,) = (each for each in ax.collections if each.get_gid() == "bound")
    top = shade.get_paths()[0].get_extents().y1
    assert top > p99.get_ydata().max()


def test_one_load_has_no_tail_that_grows() -> None:
    with pytest.raises(DoesNotApply, match="under two loads"):
        prepare_latency_tails(summarise(loaded(SCAN[:3])))
