"""The front of throughput and p99, and which of its members are sure."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hpcbench.analysis.figures.pareto_front import draw_pareto_front, prepare_pareto_front
from hpcbench.analysis.figures.registry import FIGURES
from hpcbench.analysis.summary.points import summarise
from tests.helpers.measurements import loaded, measured, repeats


def front_of(records: list) -> pd.DataFrame:
    ((_, data),) = prepare_pareto_front(summarise(loaded(records)))
    return data.set_index("concurrency")


def noisy(throughput: float, p99_ms: float, concurrency: int, spread: float) -> list:
    return [
        measured(
            throughput * (1 + spread * way),
            p99_ms * (1 - spread * way / 2),
            repeat=repeat,
            concurrency=concurrency,
        )
        for repeat, way in enumerate((-1, 0, 1))
    ]


def test_a_member_is_sure_where_no_other_may_beat_it_in_both() -> None:
    records = [
        *noisy(1000, 2.0, 1, 0.005),
        *noisy(2000, 4.0, 2, 0.005),
        # These two cannot be told apart: each may beat the other.
        *noisy(3000, 8.00, 3, 0.005),
        *noisy(3002, 8.01, 4, 0.005),
        *noisy(1500, 9.0, 5, 0.005),
    ]
    data = front_of(records)
    assert data["on_front"].to_dict() == {1: True, 2: True, 3: True, 4: True, 5: False}
    assert data["front_sure"].to_dict() == {1: True, 2: True, 3: False, 4: False, 5: False}
    figure = FIGURES["pareto_front"].plot(summarise(loaded(records)))
    (rings,) = (line for line in figure.axes[0].lines if line.get_gid() == "sure")
    assert sorted(rings.get_xdata()) == [1000, 2000]
    assert any("Ringed: on the front with 95%" in text.get_text() for text in figure.texts)
    assert draw_pareto_front.__doc__


def test_points_on_the_front_name_their_server_where_there_are_several() -> None:
    two, four = ({"variant": f'{{"instance_count": {count}}}'} for count in (2, 4))
    records = [
        measured(1000, 2.0, concurrency=1, **two),
        measured(2000, 4.0, concurrency=2, **four),
        measured(3000, 8.0, concurrency=4, **two),
    ]
    figure = FIGURES["pareto_front"].plot(summarise(loaded(records)))
    labels = [
        text.get_text()
        for text in figure.axes[0].texts
        if "\N{MULTIPLICATION SIGN}" in text.get_text()
    ]
    assert sorted(label.partition("\N{MULTIPLICATION SIGN}")[2] for label in labels) == [
        "1 A",
        "2 B",
        "4 A",
    ]
    assert any("A: 2 instances; B: 4 instances." in text.get_text() for text in figure.texts)


def test_what_was_measured_once_is_surely_on_no_front() -> None:
    data = front_of([measured(1000, 2.0, concurrency=1), measured(2000, 4.0, concurrency=2)])
    assert data["on_front"].all()
    assert not data["front_sure"].any()


def test_sure_members_among_many_are_those_that_comparing_all_pairs_finds() -> None:
    from hpcbench.analysis.decide.choice import level_for_all, sure_end
    from hpcbench.analysis.figures.panels import THROUGHPUT
    from hpcbench.analysis.summary.statistics import Sample
    from hpcbench.analysis.summary.variance import moderated_spread

    chance = np.random.default_rng(1)
    records = [
        record
        for c in range(1, 41)
        for record in noisy(*np.exp(chance.uniform(0, 2, 2)), c, float(chance.uniform(0, 0.05)))
    ]
    data = front_of(records)
    points = summarise(loaded(records))
    level = (1 + level_for_all(0.95, 2 * len(points))) / 2
    ends = {}
    for metric in (THROUGHPUT, "latency_p99_ms"):
        sample = Sample.from_table(points, metric)
        spread = moderated_spread(sample)
        ends[metric] = [sure_end(sample, spread, level, upper=upper) for upper in (False, True)]
    (least, most), (best, worst) = ends.values()
    alone = [
        not any(most[j] >= least[i] and best[j] <= worst[i] for j in range(len(points)) if j != i)
        for i in range(len(points))
    ]
    expected = pd.Series(alone, index=points["concurrency"]).reindex(data.index)
    assert data["front_sure"].tolist() == (expected & data["on_front"]).tolist()
    assert 0 < data["front_sure"].sum() < data["on_front"].sum()


def test_the_repeat_with_the_fewest_requests_decides_over_the_triangle() -> None:
    records = [
        measured(1000, 2.0, repeat=0, request_count=10_000),
        measured(1001, 2.0, repeat=1, request_count=500),
    ]
    assert front_of(records)["few_requests"].all()


def behind(rate: float, sent: float) -> list:
    return repeats(
        [8 * sent] * 3,
        6.5,
        concurrency=None,
        request_rate=rate,
        send_request_rate=sent,
        delayed_requests_percent=0.0 if sent >= rate else 99.7,
    )


def test_what_fell_behind_is_on_no_front_and_drawn_at_the_rate_that_was_sent() -> None:
    records = [*behind(100.0, 100.0), *behind(400.0, 400.0), *behind(5000.0, 640.0)]
    points = summarise(loaded(records))
    ((_, data),) = FIGURES["throughput_latency_vs_rate"].prepare(points)
    assert data["x"].tolist() == [100, 400, 640]
    assert data["behind"].tolist() == [False, False, True]
    figure = FIGURES["throughput_latency_vs_rate"].plot(points)
    assert any("Asked for 5000 requests/s, fewer were sent" in t.get_text() for t in figure.texts)
    ((_, front),) = prepare_pareto_front(points)
    # Its throughput is the highest, at the same p99.
    assert front.loc[front["on_front"], "request_rate"].tolist() == [400]
