import re
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from hpcbench.analysis.figures import axis_scales
from hpcbench.analysis.figures.registry import FIGURES
from hpcbench.analysis.summary.choice import Choice, chosen_points
from hpcbench.analysis.summary.number_format import plain_number
from hpcbench.analysis.summary.points import summarise
from hpcbench.records.columns import Record
from tests.helpers.builders_scan import BATCHES, Load, record, scan, through_parquet, variant

BATCH_SCAN = FIGURES["throughput_latency_vs_batch"]

LONG = (
    "ParticleNet AK4 regression, ONNX Runtime, simplified graph",
    "ParticleNet AK4 regression, TorchScript traced on CUDA 12",
    "DeepTau no-split TensorFlow graph with frozen weights",
    "DeepMET response-tune TensorFlow v2, UL2018",
    "Higgs interaction network $p_T$ & Σ%, ONNX opset 17",
)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return lambda records: through_parquet(records, tmp_path / "results")


CASES: dict[str, list[Record]] = {
    "one model, one repeat": scan(),
    "two models, three repeats": [
        *scan("PN-AK4 ONNX", 3),
        *scan("DeepTau", 3, scale=0.15)[:-3],
        *(record("DeepTau", 128, repeat, "failed") for repeat in range(3)),
    ],
    "two models close to each other": [*scan("A", 2), *scan("B", 2, scale=1.04)],
    "five models with long labels": [
        r
        for rank, label in enumerate(LONG)
        for r in [*scan(label, 3, scale=1.7**rank), record(label, 256, status="timeout")]
    ],
    "eight series": [
        r
        for count in (1, 2)
        for accelerator in (None, '{"name": "tensorrt", "precision_mode": "FP16"}')
        for concurrency in (4, 16)
        for r in scan(
            scale=count * concurrency * (2 if accelerator else 1),
            repeats=2,
            variant=variant(instance_count=count, accelerator=accelerator),
            concurrency=concurrency,
        )
    ],
    "one point": [record(batch=16)],
    "two GPUs": [
        *scan(repeats=3),
        *scan(repeats=3, scale=0.2, pool="t4", gpu_name="Tesla T4"),
    ],
    "many batch sizes": [record(batch=b) for b in (*range(1, 33), 48, 64, 96, 128, 1000)],
    "no latency": scan(percentile=None, latency_avg_us=None),
    "a label too long for a line and an endless campaign": scan("W" * 200, campaign="w" * 200),
    "values over many decades": [
        record(label, batch, throughput_infer_per_s=10.0**power * batch)
        for power, label in enumerate("abcdefg", start=-2)
        for batch in BATCHES
    ],
}


@pytest.fixture(params=CASES, scope="module")
def figure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Figure:
    folder = tmp_path_factory.mktemp("results")
    return drawn(through_parquet(CASES[request.param], folder))


def drawn(frame: pd.DataFrame) -> Figure:
    figure = BATCH_SCAN.plot(summarise(frame))
    figure.draw_without_rendering()
    return figure


def bands(ax: Axes) -> list[PolyCollection]:
    return [found for found in ax.collections if isinstance(found, PolyCollection)]


def marks(ax: Axes, kind: str) -> list[Any]:
    return [line for line in ax.lines if line.get_gid() == kind]


def visible_texts(figure: Figure) -> list[Text]:
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and not is_hidden_tick(text, figure)
    ]


def is_hidden_tick(text: Text, figure: Figure) -> bool:
    """Labels that shared axes leave undrawn, and those of ticks out of view."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            if any(text in (tick.label1, tick.label2) for tick in ticks):
                return text not in tick_labels(ax)
    return False


def tick_labels(ax: Axes) -> list[Text]:
    labels = []
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        labels += [
            tick.label1
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            if low <= tick.get_loc() <= high
            and tick.label1.get_visible()
            and tick.label1.get_text()
        ]
    return labels


def overlap(one: Bbox, other: Bbox) -> bool:
    shared = Bbox.intersection(one, other)
    return shared is not None and shared.width > 0.5 and shared.height > 0.5


def test_every_text_lies_inside_the_figure(figure):
    """No label is cut off."""
    for text in visible_texts(figure):
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text


def test_no_two_texts_overlap(figure):
    """Tick labels, axis labels, legend, header and notes keep clear of each other."""
    for one, other in combinations(visible_texts(figure), 2):
        assert not overlap(one.get_window_extent(), other.get_window_extent()), (one, other)


def test_the_legend_covers_no_panel(figure):
    """So that it can cover no point."""
    (legend,) = figure.legends
    for ax in figure.axes:
        assert not overlap(legend.get_window_extent(), ax.get_window_extent())


def test_every_point_lies_inside_its_panel(figure):
    """Limits follow the values."""
    for ax in figure.axes:
        for line in [*marks(ax, "settled"), *marks(ax, "hollow")]:
            inside = ax.bbox.padded(1)
            assert all(inside.contains(*xy) for xy in ax.transData.transform(line.get_xydata()))


def test_both_axes_are_logarithmic_and_labelled_with_units(figure):
    """Throughput left, latency right."""
    throughput, latency = figure.axes[:2]
    for ax in (throughput, latency):
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert throughput.get_ylabel() == "Throughput [infer/s]"
    assert latency.get_ylabel() in ("p95 latency [ms]", "Mean latency [ms]")
    assert figure.axes[-1].get_xlabel() == "Batch size [inferences per request]"


def test_panels_keep_their_shape_whatever_stands_around_them(figure):
    """Long legends and notes make the figure taller, not the panels smaller."""
    for ax in figure.axes[:2]:
        box = ax.get_window_extent()
        assert box.width > 0.38 * figure.bbox.width
        assert 5 * figure.dpi < box.height < 8 * figure.dpi


def test_ticks_stand_at_the_batch_sizes_measured(load):
    """As plain numbers, and nothing between them."""
    figure = drawn(load(scan()))
    for ax in figure.axes:
        assert [label.get_text() for label in ax.get_xticklabels()] == [str(b) for b in BATCHES]
        assert list(ax.get_xticks(minor=True)) == []


def test_crowded_batch_sizes_keep_their_ticks_and_thin_their_labels(load):
    """Powers of two are the last to go."""
    sizes = range(1, 65)
    ax = drawn(load(record(batch=size) for size in sizes)).axes[0]
    labelled = [int(label.get_text()) for label in ax.get_xticklabels()]
    assert {1, 2, 4, 8, 16, 32, 64} <= set(labelled) < set(sizes)
    assert sorted([*labelled, *ax.get_xticks(minor=True)]) == list(sizes)


def test_unstable_points_are_hollow_with_the_marker_of_their_series(load):
    """Settled ones are filled."""
    ax = drawn(load([*scan()[:-1], record(batch=128, status="unstable")])).axes[0]
    (hollow,), (settled,) = marks(ax, "hollow"), marks(ax, "settled")
    assert list(hollow.get_xdata()) == [128]
    assert 128 not in settled.get_xdata()
    assert hollow.get_markerfacecolor() == "white"
    assert settled.get_markerfacecolor() == settled.get_color() == hollow.get_color()
    assert settled.get_marker() == hollow.get_marker()


def test_failed_points_leave_the_line_and_get_a_cross_below_it(load):
    """Where no point of a line can be."""
    figure = drawn(load([*scan()[:-1], record(batch=128, status="failed")]))
    for ax in figure.axes:
        (line,), (cross,) = marks(ax, "line"), marks(ax, "absent")
        assert 128 not in line.get_xdata()
        assert list(cross.get_xdata()) == [128]
        lowest = ax.transAxes.inverted().transform(ax.transData.transform(line.get_xydata()))
        assert cross.get_ydata()[0] < lowest[:, 1].min()
    assert "128 (failed)" in figure.get_supxlabel()


def test_series_differ_in_colour_and_in_marker(load):
    """In case one of the two cannot be seen."""
    ax = drawn(load(CASES["eight series"])).axes[0]
    lines = marks(ax, "settled")
    assert len({line.get_color() for line in lines}) == len(lines) == 8
    assert len({line.get_marker() for line in lines}) == 8


def test_several_series_stand_over_their_ratio_to_the_first(load):
    """Which is 1 throughout."""
    figure = drawn(load(CASES["two models, three repeats"]))
    assert len(figure.axes) == 4
    for ax in figure.axes[2:]:
        first, second = marks(ax, "line")
        assert first.get_ydata() == pytest.approx(1)
        assert not np.isclose(second.get_ydata(), 1).any()


def test_a_single_series_has_no_ratio_panel(load):
    """It would show a line at 1."""
    assert len(drawn(load(scan())).axes) == 2


def test_repeats_have_a_band_and_the_figure_says_of_what_kind(load):
    """Its edges are the interval; a point measured once has none, and that is said too."""
    frame = load(scan(repeats=3))
    ((_, numbers),) = BATCH_SCAN.prepare(summarise(frame))
    repeated, once = drawn(frame), drawn(load(scan()))
    (band,) = bands(repeated.axes[0])
    edges = {(x, round(y, 3)) for x, y in band.get_paths()[0].vertices}
    for end in ("_low", "_high"):
        limits = numbers[f"throughput_infer_per_s{end}"].round(3)
        assert set(zip(numbers["x"], limits, strict=True)) <= edges
    assert "mean of 3 repeats. Bands and bars: 95% interval" in repeated.get_supxlabel()
    assert bands(once.axes[0]) == []
    assert "Each point was measured once." in once.get_supxlabel()


def test_a_repeated_point_among_others_has_a_bar(load):
    """A band needs two neighbours."""
    ax = drawn(load([*scan(), *scan()[3:4], record(batch=8, repeat=1, point_id="x")])).axes[0]
    (bars,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert [segment[0][0] for segment in bars.get_segments() if len(segment)] == [8]


def test_the_legend_of_the_figure_has_device_and_series(load):
    """As text as it was given, dollar signs and all."""
    figure = drawn(load(CASES["five models with long labels"]))
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "A100-SXM4-40GB"
    assert {text.get_text() for text in legend.get_texts()} == set(LONG)


def test_drawing_leaves_the_global_settings_of_matplotlib_alone(load):
    """A notebook keeps its own style."""
    before = dict(mpl.rcParams)
    drawn(load(scan()))
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("values", [[5.0], [0.9, 1.1], [1, 1000], [3e-4, 7e6], [], [np.nan, 0]])
def test_a_value_axis_has_two_to_eight_ticks_in_plain_numbers(values):
    """Whatever it spans."""
    ax = Figure().subplots()
    axis_scales.set_log_y_axis(ax, values)
    low, high = ax.get_ylim()
    ticks = [tick for tick in ax.get_yticks() if low <= tick <= high]
    assert 2 <= len(ticks) <= 8
    assert all(one < other for one, other in pairwise(ticks))
    assert not any("e" in plain_number(tick) for tick in ticks)


def test_of_more_series_than_a_reader_can_separate_the_best_stand_out(load):
    """The others are grey, and the figure says by what rule."""
    records = [
        record(
            batch=batch,
            throughput_infer_per_s=100.0 * delay,
            measurement_interval_ms=1000 * delay,
            shapes=f'{{"x": [{delay}]}}',
        )
        for delay in range(1, 20)
        for batch in (1, 4)
    ]
    points = summarise(load(records))
    ((_, numbers),) = BATCH_SCAN.prepare(points)
    coloured = numbers.loc[numbers["drawn"] == "colour", "measurement_interval_ms"].unique()
    assert (coloured // 1000).tolist() == [1, 13, 14, 15, 16, 17, 18, 19]
    figure = BATCH_SCAN.plot(points)
    assert len(marks(figure.axes[0], "line")) == 8
    assert len(marks(figure.axes[0], "grey")) == 11
    assert (
        "8 of 19 configurations are in colour: the first, and those with the highest"
        in figure.get_supxlabel()
    )


def test_series_that_differ_in_the_load_only_are_spread_over_it(load):
    """The highest throughput would hide the smallest loads."""
    records = [record(concurrency=c, throughput_infer_per_s=10.0 * c) for c in range(1, 22)]
    ((_, numbers),) = BATCH_SCAN.prepare(summarise(load(records)))
    coloured = numbers.loc[numbers["drawn"] == "colour", "concurrency"].tolist()
    assert coloured[0] == 1
    assert coloured[-1] == 21
    assert len(coloured) == 8


def servers_and_loads(load):
    """Four servers under four loads; each is fastest under another one."""
    records = [
        record(
            batch=batch,
            concurrency=concurrency,
            variant=variant(instance_count=count),
            instance_count=count,
            throughput_infer_per_s=100.0 * batch * (count + (concurrency == 2**count)),
        )
        for count in (1, 2, 3, 4)
        for concurrency in (2, 4, 8, 16)
        for batch in (1, 4)
    ]
    return summarise(load(records))


def coloured(points):
    ((_, numbers),) = BATCH_SCAN.prepare(points)
    shown = numbers[numbers["drawn"] == "colour"].drop_duplicates("series")
    return [*zip(shown["instance_count"], shown["concurrency"], strict=True)]


def test_of_many_servers_and_loads_each_server_stands_out_where_it_is_fastest(load):
    """And the figure says how to see the others, as hpcbench plot takes it."""
    points = servers_and_loads(load)
    assert coloured(points) == [(1, 2), (2, 4), (3, 8), (4, 16)]
    text = BATCH_SCAN.plot(points).get_supxlabel().replace("\n", " ")
    assert "4 of 16 configurations are in colour: the first, and of each server the one" in text
    found = re.search(r"--where (\S+) draws these alone, --series '(.*?)' colours these", text)
    (name, value), series = found[1].split("="), found[2]
    assert set(chosen_points(points, Choice([(name, [value])]))[name]) == {int(value)}
    assert len(coloured(chosen_points(points, Choice(series=[series])))) > 1


def test_the_series_that_a_user_names_stand_out_beside_the_first(load):
    points = servers_and_loads(load)
    named = chosen_points(points, Choice(series=["3 Instances, concurrency 2", "concurrency 16"]))
    assert coloured(named) == [(1, 2), (1, 16), (2, 16), (3, 2), (3, 16), (4, 16)]
    assert "those that --series names" in BATCH_SCAN.plot(named).get_supxlabel().replace("\n", " ")
