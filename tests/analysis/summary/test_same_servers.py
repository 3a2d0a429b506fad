"""What Triton made the same server of is one configuration, whatever the campaign called it."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from hpcbench.analysis.decide.changes import Verdict
from hpcbench.analysis.decide.compare import compare_results
from hpcbench.analysis.decide.compare_text import comparison_json, comparison_markdown
from hpcbench.analysis.decide.recommend import recommend_configurations
from hpcbench.analysis.figures.captions import repeats_note
from hpcbench.analysis.figures.registry import FIGURES
from hpcbench.analysis.report.page_data import report_points
from hpcbench.analysis.summary.configuration import normalised
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.analysis.summary.points import summarise
from hpcbench.analysis.summary.same_servers import ALSO, with_one_name
from hpcbench.analysis.summary.series import DoesNotApply
from tests.helpers.measurements import failed, loaded, repeats, server

BASE, TWO = server(instance_count="base"), server(instance_count=2)


def both(**changes):
    """The base, where Triton chose two instances, and two that were asked for."""
    base = repeats([1000.0, 1010.0, 1020.0], variant=BASE, instance_count=2, own_config=True)
    two = repeats([1080.0, 1085.0, 1090.0], variant=TWO, instance_count=2, **changes)
    return [*base, *(each for each in two)]


def test_the_base_and_what_triton_chose_for_it_are_one_configuration_with_both_names() -> None:
    points = summarise(loaded(both(own_config=False)))
    assert points["measured"].tolist() == [6]
    assert json.loads(points["variant"][0]) == {"instance_count": 2}
    assert points[ALSO].tolist() == ["default instances"]
    assert report_points(loaded(both(own_config=False))).table["measured"].tolist() == [6]


@pytest.mark.parametrize("known", [True, False])
def test_no_gain_is_reported_between_them(known: bool) -> None:
    """Old records do not say which server had the model's own configuration."""
    slower = repeats([500.0, 505.0, 510.0], variant=server(instance_count=1), instance_count=1)
    frame = loaded([*both(own_config=False), *slower])
    if not known:
        frame["own_config"] = pd.array([None] * len(frame), dtype="boolean")
    (advice,) = recommend_configurations(frame, Requirements())
    assert advice.configurations == 2
    assert advice.base is not None
    assert advice.best is not None
    assert advice.base.row["position"] == advice.best["position"]


def test_they_are_one_also_where_each_was_measured_under_another_load() -> None:
    base = repeats([1000.0, 1010.0], variant=BASE, instance_count=2, batch_size=1)
    two = repeats([2000.0, 2010.0], variant=TWO, instance_count=2, batch_size=2)
    points = summarise(loaded([*base, *two]))
    assert set(points["variant"]) == {TWO}
    ((_, data),) = FIGURES["throughput_latency_vs_batch"].prepare(points)
    assert set(data["series"]) == {0}
    assert "One configuration: 2 instances (the same as default instances)." in repeats_note(data)


@pytest.mark.parametrize("name", ["throughput_utilisation_vs_instances", "heat_map"])
def test_a_figure_that_is_missing_because_they_are_one_says_so(name: str) -> None:
    with pytest.raises(DoesNotApply, match=r"default instances\)") as refused:
        FIGURES[name].prepare(summarise(loaded(both(own_config=False))))
    assert "One configuration: 2 instances (the same as" in refused.value.message


def test_other_servers_stay_apart() -> None:
    """What told another value, differs in what no server tells, or told nothing."""
    rows = [
        *repeats([1000.0], variant=BASE, instance_count=1),
        *repeats([1000.0], variant=TWO, instance_count=2),
        *repeats([1000.0], variant=server(instance_count=2, warmup=True), instance_count=2),
        failed(variant=server(instance_count=3)),
    ]
    frame = normalised(loaded(rows))
    found = with_one_name(frame)
    assert found["variant"].tolist() == frame["variant"].tolist()
    assert found[ALSO].isna().all()


def test_what_differs_in_another_axis_as_the_server_reports_it_stays_apart() -> None:
    batching = {"dynamic_batching": True, "preferred_batch_size": (4, 8)}
    other = server(instance_count=2, preferred_batch_size=[4, 8])
    frame = normalised(loaded([*both(), *repeats([900.0], variant=other, **batching)]))
    found = with_one_name(frame)
    assert set(found["variant"]) == {TWO, other}


def compared(a, b):
    return compare_results(loaded(a), loaded(b), tolerance=0.05)


def test_compare_takes_them_for_one_configuration_with_both_names() -> None:
    found = compared(both(), both())
    assert found.pairs == 1
    assert found.a_table["measured"].tolist() == found.b_table["measured"].tolist() == [6]
    assert "2 instances (the same as default instances)" in comparison_markdown(found, ("a", "b"))
    rows = comparison_json(found, ("a", "b"))["rows"]
    assert {(row["variant"], row["also"]) for row in rows} == {(TWO, "default instances")}


def test_compare_pairs_what_is_one_server_under_another_name_in_each_of_the_two() -> None:
    """Also on other hardware, and where the axis is not named at all."""
    for name in (BASE, server()):
        was = repeats([1000.0, 1010.0, 1020.0], variant=name, instance_count=2)
        now = repeats([500.0, 505.0, 510.0], variant=TWO, instance_count=2, gpu_name="Tesla T4")
        found = compared(was, now)
        assert found.pairs == 1
        assert found.is_worse


def test_compare_keeps_apart_what_triton_made_another_server_of_in_one_of_the_two() -> None:
    """So that the base is compared with the base: its change is what is looked for."""
    now = [
        *repeats([500.0, 505.0, 510.0], variant=BASE, instance_count=1),
        *repeats([1080.0, 1085.0, 1090.0], variant=TWO, instance_count=2),
    ]
    found = compared(both(), now)
    assert found.pairs == 2
    worse = found.rows[found.rows["verdict"] == Verdict.WORSE]
    assert {found.a_table["variant"][a] for a in worse["a"]} == {BASE}


def test_compare_keeps_apart_what_one_of_the_two_knows_nothing_of() -> None:
    """A base that no longer starts is not hidden behind two instances that do."""
    dead = [failed(variant=BASE, repeat=repeat) for repeat in range(5)]
    was = [
        *repeats([1000.0] * 5, variant=BASE, instance_count=2),
        *repeats([1000.0] * 5, variant=TWO, instance_count=2),
    ]
    now = [*dead, *repeats([1000.0] * 5, variant=TWO, instance_count=2)]
    found = compared(was, now)
    assert [found.a_table["variant"][a] for a in found.lost["a"]] == [BASE]


def test_a_repeat_that_failed_has_the_name_of_the_others_of_its_variant() -> None:
    some = [*both(), failed(variant=BASE, repeat=3)]
    found = compared(some, some)
    assert found.pairs == 1
    assert found.b_table["repeats"].tolist() == [7]
