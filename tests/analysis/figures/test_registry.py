import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from hpcbench.analysis.figures import registry
from hpcbench.analysis.figures.device_comparison import (
    draw_device_comparison,
    prepare_device_comparison,
)
from hpcbench.analysis.figures.pareto_front import prepare_pareto_front
from hpcbench.analysis.figures.registry import FIGURES, PreparedFigure, prepare_figures
from hpcbench.analysis.figures.save import csv_table, save_figures
from hpcbench.analysis.figures.styles import COLOURS, STYLES
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.points import STAGES, row_dicts, summarise
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import BATCH_SIZE
from hpcbench.errors import BadInput
from tests.helpers.builders_results import results
from tests.helpers.builders_scan import record, through_parquet, with_everything, with_searches

NAMES = list(FIGURES)
T, L, P99 = "throughput_infer_per_s", "latency_ms", "latency_p99_ms"


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two models on two GPUs, everything scanned, with failures and unstable points."""
    whole = with_everything(
        results(
            tmp_path_factory.mktemp("results"),
            models=2,
            gpus=2,
            batch_sizes=(1, 64),
            concurrencies=(1, 4),
            batching=(None,),
            seed=2,
        )
    )
    rated = whole[whole["concurrency"] == 4].assign(concurrency=pd.NA)
    slow, fast = (rated.assign(request_rate=rate) for rate in (50.0, 200.0))
    one = (whole["gpu_count"] == 1) & whole["accelerator"].isna()
    searched = with_searches(whole[one & (whole["model_position"] == 0)], limit_ms=20.0)
    searched = searched[searched["capacity_max_latency_p99_ms"].notna()].assign(
        model="searched", model_label="Searched", model_position=9
    )
    return pd.concat([whole, slow, fast.assign(**{T: fast[T] * 1.1}), searched], ignore_index=True)


@pytest.fixture(scope="module")
def points(frame: pd.DataFrame) -> pd.DataFrame:
    return summarise(frame)


@pytest.fixture(scope="module")
def unsettled(frame: pd.DataFrame) -> pd.DataFrame:
    """The points if no measurement had settled."""
    ok = frame["status"] == "ok"
    return summarise(frame.assign(status=frame["status"].mask(ok, "unstable")))


@pytest.fixture(scope="module")
def prepared(points: pd.DataFrame) -> list[PreparedFigure]:
    found, reasons = prepare_figures(points)
    assert reasons == {}
    return found


@pytest.fixture(scope="module")
def drawn(prepared: list[PreparedFigure]) -> dict[str, tuple[pd.DataFrame, Figure]]:
    """The data and the figure of the first of each kind."""
    first = {one.kind.name: one for one in reversed(prepared)}
    return {name: (one.data, one.draw()) for name, one in first.items()}


def marks(ax: Axes, *kinds: str) -> set[tuple[float, float]]:
    return {
        (round(float(x), 4), round(float(y), 4))
        for line in ax.lines
        if line.get_gid() in kinds
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


def places(data: pd.DataFrame, x: str, y: str) -> set[tuple[float, float]]:
    there = data[(data["drawn"] == "colour") & (data[x] > 0) & (data[y] > 0)]
    return {(round(a, 4), round(b, 4)) for a, b in zip(there[x], there[y], strict=True)}


# --- how a figure is added -----------------------------------------------------------------------


FOLDER = Path(registry.__file__).parent
MODULES = [path.stem for path in FOLDER.glob("*.py") if "\ndef prepare_" in path.read_text()]


@pytest.mark.parametrize("module", sorted({*MODULES} - {"registry"}))
def test_a_module_of_a_figure_prepares_and_draws_it_and_is_registered(module):
    """The first two steps; the tests of the documentation ask for the others."""
    text = (FOLDER / f"{module}.py").read_text()
    for step in ("prepare", "draw"):
        assert f"\ndef {step}_{module}(" in text, f"{module}.py has no {step}_{module}"
    kinds = [kind for kind in FIGURES.values() if f"prepare_{module}" in str(kind.prepare)]
    assert kinds, f"enter {module} in _KINDS of registry.py"
    for kind in kinds:
        assert f"draw_{module}" in str(kind.draw_in_style)
        assert kind.description[0].islower()
        assert not kind.description.endswith(".")


# --- what is drawn is what the table says --------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("throughput_latency_vs")])
def test_a_scan_draws_its_numbers(drawn, name):
    """Both panels, and both ratios."""
    data, figure = drawn[name]
    for ax, quantity in zip(figure.axes, (T, L, f"{T}_ratio", f"{L}_ratio"), strict=True):
        assert marks(ax, "settled", "hollow") == places(data, "x", quantity)


def test_a_curve_draws_its_numbers(drawn):
    data, figure = drawn["latency_vs_throughput"]
    assert marks(figure.axes[0], "settled", "hollow") == places(data, T, L)


def test_a_search_draws_its_steps_its_limit_and_its_answer(drawn):
    data, figure = drawn["capacity_search"]
    (ax,) = figure.axes
    kept, late = data["keeps_limit"], data["overloaded"]
    assert kept.any()
    assert (~kept & ~late).any()
    shown = data.assign(y=data[P99].clip(upper=10 * 20.0))
    for kind, rows in (
        ("settled", shown[~late]),
        ("overloaded", shown[late].assign(y=200.0)),
    ):
        assert marks(ax, kind) == places(rows, "rate_infer_per_s", "y"), kind
    limits = [line.get_ydata()[0] for line in ax.lines if line.get_gid() == "limit"]
    assert limits == [20.0]
    answers = {line.get_xdata()[0] for line in ax.lines if line.get_gid() == "answer"}
    ends = data[data["is_answer"] & (data["drawn"] == "colour")]
    assert answers == set(ends["rate_infer_per_s"])
    # The answer is the highest rate that kept the limit.
    for _, steps in data.groupby(["series", "repeat"]):
        (answer,) = steps.loc[steps["is_answer"], "rate_infer_per_s"]
        assert answer == steps.loc[steps["keeps_limit"], "rate_infer_per_s"].max()


def test_a_heat_map_draws_its_numbers(drawn):
    """Rows are y, columns are x; the frame is around the highest."""
    data, figure = drawn["heat_map"]
    for ax, quantity in zip(figure.axes, (T, L), strict=False):
        (mesh,) = [found for found in ax.collections if isinstance(found, QuadMesh)]
        wide = data.pivot_table(index="y", columns="x", values=quantity)
        assert np.allclose(mesh.get_array().filled(np.nan), wide.to_numpy(), equal_nan=True)
    (frame,) = [patch for patch in figure.axes[0].patches if patch.get_gid() == "best"]
    best = data.loc[data[T].idxmax()]
    column, row = (sorted(data[n].unique()).index(best[n]) for n in ("x", "y"))
    assert frame.get_xy() == pytest.approx((column + 0.03, row + 0.03))


def test_a_breakdown_stacks_its_stages_up_to_the_mean_latency(drawn):
    """In the order in which a request passes them; shares add up to 100 %."""
    data, figure = drawn["latency_breakdown"]
    shown = data[(data["drawn"] == "colour")]
    columns = shown["series"].nunique()
    # Whole compute times, in files of old, exclude their three parts.
    stages = [stage for stage in STAGES if stage != "server_compute_ms"]
    for column, (_, part) in enumerate(shown.groupby("series")):
        upper, lower = figure.axes[column], figure.axes[columns + column]
        for stage in stages:
            heights = [bar.get_height() for bar in upper.patches if bar.get_gid() == stage]
            assert heights == pytest.approx(part[stage].fillna(0).tolist()), stage
        order = list(dict.fromkeys(bar.get_gid() for bar in upper.patches))
        assert order[:7] == stages
        shares = pd.Series([bar.get_height() for bar in lower.patches])
        places = [round(bar.get_x() + 0.4) for bar in lower.patches]
        measured = (part["measured"] > 0).to_numpy()
        assert shares.groupby(places).sum()[measured].to_numpy() == pytest.approx(100)


def test_a_comparison_draws_its_numbers(drawn):
    """Throughput, ratio and inferences per joule."""
    data, figure = drawn["device_comparison"]
    for ax, quantity in zip(figure.axes, (T, f"{T}_ratio", "infer_per_j"), strict=True):
        found = sorted(x for x, _ in marks(ax, "settled", "hollow"))
        there = data.loc[data["drawn"] == "colour", quantity]
        assert found == pytest.approx(sorted(there[there > 0].round(4)))


def test_a_comparison_takes_the_best_settled_point_of_each_device(points, drawn):
    data, _ = drawn["device_comparison"]
    ok = points[points["status"] == "ok"]
    best = ok.groupby(["model_label", "pool"])[T].max()
    assert data.set_index(["model_label", "pool"])[T].to_dict() == best.to_dict()


def test_a_comparison_says_from_how_many_points_each_device_has_its_best(frame):
    """The best of more is higher by chance, so that the fewer of one device are told."""
    scan = frame[frame["model_label"] == frame["model_label"].iloc[0]]

    def counts(of):
        own = summarise(of)
        return own[own[T] > 0].groupby(["gpu_name", "gpu_count"], observed=True).size().tolist()

    text = notes_of_comparison(scan)
    each = re.search(r"chosen from (.+) points: the best of more is higher by chance", text)[1]
    found = [int(number) for number in re.findall(r"(\d+) \(", each)]
    assert (sorted(found), len(set(found))) == (sorted(counts(scan)), 2)
    same = scan[scan["accelerator"].isna()]
    (count,) = set(counts(same))
    assert f"chosen from {count} points." in notes_of_comparison(same)


def notes_of_comparison(frame):
    ((_, data), *_) = prepare_device_comparison(summarise(frame))
    figure = draw_device_comparison(data, STYLES["cms"])
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


@pytest.mark.parametrize("find", [prepare_device_comparison, prepare_pareto_front])
def test_what_shared_its_server_or_was_called_by_an_ensemble_is_the_best_of_nothing(frame, find):
    beside = '[{"model_label": "other", "variant": {}, "load": null}]'
    faster = frame.assign(**{T: 10 * frame[T]}, point_id=frame["point_id"] + "x")
    called = faster.assign(part_of=frame["point_id"], model_label=frame["model_label"] + " / part")
    whole = pd.concat([frame, faster.assign(beside=beside), called], ignore_index=True)
    own, found = (find(summarise(each)) for each in (frame, whole))
    assert [name for name, _ in found] == [name for name, _ in own]
    for (_, data), (_, expected) in zip(found, own, strict=True):
        assert data[T].tolist() == expected[T].tolist()
    with pytest.raises(DoesNotApply, match="shared a server"):
        find(summarise(called))


def test_an_ensemble_beside_other_models_on_a_processor_makes_no_second_device(frame):
    here = {"site": "here", "pool": "cpu", "gpu_name": None, "gpu_count": 0}
    cpu = here | {"cpu_name": "CPU", "cpu_count": 4}
    ensemble = frame["model_label"] == frame["model_label"].iloc[0]
    one = frame.assign(**cpu, instance_kind=np.where(ensemble, None, "KIND_CPU"))
    with pytest.raises(DoesNotApply, match="one kind of device"):
        prepare_device_comparison(summarise(one))


def test_inferences_per_joule_are_throughput_over_mean_power(frame, points):
    row = points[points["measured"] == 3].iloc[0]
    names = ("model_label", "pool", "variant", "batch_size", "concurrency", "request_rate")
    same = frame
    for name in names:
        value = row[name]
        same = same[same[name].isna() if value is None else (same[name] == value).fillna(False)]
    power = same["gpu_power_avg_w"] * same["gpu_count"]
    assert row["infer_per_j"] == pytest.approx((same[T] / power).mean())


def test_a_front_holds_what_nothing_beats(drawn):
    """And every other point is beaten by one of the front, in both."""
    data, figure = drawn["pareto_front"]
    for _, part in data.groupby("series"):
        front, behind = part[part["on_front"]], part[~part["on_front"]]
        for values, expected in ((front, 0), (behind, 1)):
            for row in row_dicts(values):
                better = (part[T] >= row[T]) & (part[P99] <= row[P99])
                better &= (part[T] > row[T]) | (part[P99] < row[P99])
                assert min(better.sum(), 1) == expected
    front = data[data["on_front"]]
    assert marks(figure.axes[0], "settled", "hollow") == places(front, T, P99)
    assert marks(figure.axes[0], "behind") == places(data[~data["on_front"]], T, P99)


def test_a_p99_of_too_few_requests_is_marked_on_the_front(frame):
    """662 are needed."""
    points = summarise(frame.assign(request_count=600))
    _, data = FIGURES["pareto_front"].prepare(points)[0]
    assert data["few_requests"].all()
    figure = FIGURES["pareto_front"].draw(data, "cms")
    assert marks(figure.axes[0], "few") == places(data[data["on_front"]], T, P99)
    assert "fewer than 662 requests" in figure.get_supxlabel()


def test_instances_have_throughput_left_and_utilisation_right(drawn):
    data, figure = drawn["throughput_utilisation_vs_instances"]
    left, right = figure.axes
    assert marks(left, "settled", "hollow") == places(data, "x", T)
    assert marks(right, "settled", "hollow") == places(data, "x", "gpu_utilization_percent")
    assert right.get_ylabel() == "GPU utilisation [%]"


def test_two_gpus_at_1_8_times_the_throughput_are_90_percent_efficient(drawn):
    """Of the ideal line, which is dotted."""
    data, figure = drawn["gpu_scaling"]
    two = data[data["x"] == 2]
    assert len(two)
    assert two["efficiency"].to_numpy() == pytest.approx(90)
    assert marks(figure.axes[1], "settled", "hollow") == places(data, "x", "efficiency")
    ideal = {y for x, y in marks(figure.axes[0], "ideal") if x == 2}
    assert ideal == {round(value, 4) for value in two.loc[two["drawn"] == "colour", T] / 0.9}


def test_precisions_stand_at_their_difference(drawn):
    """And are called by their name."""
    data, figure = drawn["precision_accuracy"]
    assert set(data["precision"]) == {"as given", "FP16"}
    assert marks(figure.axes[0], "settled", "hollow") == places(
        data.round({"output_rms_difference": 4}), "output_rms_difference", T
    ) | {(0.0, y) for x, y in places(data, "output_rms_difference", T) if x == 0}
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {"as given", "FP16"} <= texts


def test_the_status_map_has_a_cell_for_every_point(points):
    """Of the configurations in which something went wrong."""
    points = points[points["model_label"] == "ParticleNet AK8 mass"]
    ((_, data),) = FIGURES["status_map"].prepare(points)
    figure = FIGURES["status_map"].draw(data, "plain")
    cells = pd.Series([patch.get_gid() for patch in figure.axes[0].patches])
    assert cells.value_counts().to_dict() == data["state"].value_counts().to_dict()
    wrong = points[(points["status"] != "ok") | (points["lacking"] != "")]
    shown = data[data["state"] != "ok"]
    assert len(shown) == len(wrong)
    assert "failed: the server answered: CUDA out of memory" in figure.get_supxlabel()


# --- what holds for every figure -----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_axis_has_a_label_with_its_unit(drawn, name):
    _, figure = drawn[name]
    labels = [
        axis.get_label_text()
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        if axis.get_label_text()
    ]
    assert labels
    for label in labels:
        assert label == "Ratio to first" or re.search(r"\[.+\]$", label), label


@pytest.mark.parametrize("name", NAMES)
def test_every_text_of_every_figure_lies_inside_it(drawn, name):
    _, figure = drawn[name]
    figure.draw_without_rendering()
    outside = [
        text.get_text()
        for text in figure.findobj(mpl.text.Text)
        if text.get_visible() and text.get_text().strip() and text.get_in_layout()
        for box in [text.get_window_extent()]
        if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1
        if not is_out_of_view(text, figure)
    ]
    assert outside == []


def is_out_of_view(text: mpl.text.Text, figure: Figure) -> bool:
    """Labels of ticks beyond the limits, or that shared axes leave undrawn."""
    return any(
        text in (tick.label1, tick.label2)
        and not (tick.label1.get_visible() and low <= tick.get_loc() <= high)
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        for low, high in [sorted(axis.get_view_interval())]
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    )


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in ("status_map", "heat_map", "latency_breakdown")]
)
def test_points_that_did_not_settle_are_hollow(unsettled, name):
    """All of them here, so that no mark is filled."""
    _, data = FIGURES[name].prepare(unsettled)[0]
    lines = [line for ax in FIGURES[name].draw(data, "cms").axes for line in ax.lines]
    assert [line for line in lines if line.get_gid() == "settled"] == []
    hollow = [line for line in lines if line.get_gid() == "hollow"]
    assert hollow
    assert all(line.get_markerfacecolor() == "white" for line in hollow)


@pytest.mark.parametrize("name", ["status_map", "heat_map", "latency_breakdown"])
def test_cells_and_bars_that_did_not_settle_have_a_ring(unsettled, name):
    _, data = FIGURES[name].prepare(unsettled)[0]
    axes = FIGURES[name].draw(data, "cms").axes
    shown = ((data["measured"] > 0) & (data["drawn"] == "colour")).sum()
    rings = [line for ax in axes for line in ax.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in rings) >= shown


EDGES: dict[str, Callable[[pd.DataFrame, Path], pd.DataFrame]] = {
    "empty": lambda frame, _: frame.iloc[:0],
    "one point": lambda _, folder: through_parquet([record(batch=16)], folder),
    "all failed": lambda frame, _: without_figures(frame, "failed"),
    "all failed early": lambda frame, _: without_figures(frame, "failed").assign(
        gpu_name=None, gpu_count=pd.NA, cpu_name=None, instance_kind=None
    ),
    "only NaN": lambda frame, _: without_figures(frame, None),
    "NaN here and there": lambda frame, _: frame.assign(
        **{T: frame[T].mask(frame.index % 3 == 0), "latency_p99_us": np.nan}
    ),
    "no variant": lambda frame, _: frame[frame["concurrency"].isna()].assign(variant=None),
}


def without_figures(frame: pd.DataFrame, status: str | None) -> pd.DataFrame:
    floats = [name for name in frame if frame[name].dtype == "float64"]
    nothing = frame.assign(**dict.fromkeys(floats, np.nan))
    return nothing if status is None else nothing.assign(status=status, reason="out of memory")


@pytest.mark.parametrize("edge", EDGES)
def test_what_cannot_be_drawn_is_said_in_a_word(frame, tmp_path, edge):
    """Never a traceback; what is drawn is drawn whole."""
    small = frame[frame["model_label"] == frame["model_label"].iloc[0]]
    found, reasons = prepare_figures(summarise(EDGES[edge](small, tmp_path)))
    assert {prepared.kind.name for prepared in found} | set(reasons) == set(NAMES)
    assert all(reason and reason[0].islower() for reason in reasons.values())
    # One of each kind; the others differ in their data only.
    for prepared in {prepared.kind.name: prepared for prepared in found}.values():
        assert prepared.draw().axes
        csv_table(prepared.data)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_of_nothing_says_that_it_does_not_apply(frame, name):
    points = summarise(frame.iloc[:0])
    with pytest.raises(DoesNotApply):
        FIGURES[name].plot(points)


def test_where_all_failed_the_map_says_why(frame, tmp_path):
    """And the others say that nothing has metrics."""
    saved = save_figures(without_figures(frame, "failed"), tmp_path)
    assert [path.name for path in saved.files] == [f"status_map.{s}" for s in ("png", "pdf", "csv")]
    assert saved.not_drawn["throughput_latency_vs_batch"] == "no measurement has metrics"


def test_every_figure_has_its_data_beside_it(frame, tmp_path):
    """As CSV, equal to what was drawn."""
    small = frame[frame["model_label"] == "ParticleNet AK4"]
    names = ["pareto_front", "gpu_scaling"]
    saved = save_figures(small, tmp_path, names=names)
    assert [path.name for path in saved.files] == [
        f"{name}.{suffix}" for name in names for suffix in ("png", "pdf", "csv")
    ]
    found, _ = prepare_figures(summarise(small), names)
    for prepared in found:
        data = pd.read_csv(tmp_path / f"{prepared.name}.csv")
        assert data[T].to_numpy() == pytest.approx(prepared.data[T].to_numpy())


def test_the_load_along_a_line_is_no_part_of_its_name(tmp_path):
    """Also where lines begin at different loads."""
    records = [record("A", 4), record("A", 8), record("B", 1), record("B", 8)]
    points = summarise(through_parquet(records, tmp_path))
    ((_, data),) = FIGURES["throughput_latency_vs_batch"].prepare(points)
    assert csv_table(data)["legend"].tolist() == ["A", "A", "B", "B"]


def test_the_csv_of_every_figure_has_series_and_device_in_words(prepared):
    """So that a CSV can be read alone."""
    assert {one.kind.name for one in prepared} == set(NAMES)
    for one in prepared:
        data = csv_table(one.data)
        assert {"legend", "device", "status", "batch_size"} <= set(data)
        assert set(data["device"]) <= {"A100-SXM4-40GB", "Tesla T4", *DOUBLE}


DOUBLE = ("2 \N{MULTIPLICATION SIGN} A100-SXM4-40GB", "2 \N{MULTIPLICATION SIGN} Tesla T4")


@pytest.mark.parametrize("style", STYLES)
def test_every_style_draws_and_leaves_the_global_settings_alone(points, style):
    before = dict(mpl.rcParams)
    _, data = FIGURES["pareto_front"].prepare(points)[0]
    figure = FIGURES["pareto_front"].draw(data, style)
    assert dict(mpl.rcParams) == before
    families = set(figure.axes[0].yaxis.label.get_fontfamily())
    assert families & {"TeX Gyre Heros", "TeX Gyre Termes", "DejaVu Sans"}


def test_an_unknown_style_or_figure_is_reported_with_those_that_there_are(frame, tmp_path):
    with pytest.raises(BadInput, match=r"'alice'[\s\S]*cms, atlas, lhcb, plain"):
        save_figures(frame, tmp_path, style="alice")
    with pytest.raises(BadInput, match=r"'pie'[\s\S]*heat_map"):
        save_figures(frame, tmp_path, names=["pie"])


def test_several_figures_in_one_call_are_refused_with_their_names(points):
    """From a notebook a function gives one Figure."""
    with pytest.raises(DoesNotApply, match="ParticleNet AK4, ParticleNet AK8 mass"):
        FIGURES["pareto_front"].plot(points)
    one = points[points["model_label"] == "ParticleNet AK4"]
    assert isinstance(FIGURES["pareto_front"].plot(one), Figure)


def test_colours_differ_in_lightness_too(drawn):
    """So that a colour-blind reader, or a printer without colour, tells neighbours apart."""
    lightness = [
        0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(mpl.colors.to_rgb, COLOURS[:4])
    ]
    gaps = [abs(a - b) for a, b in pairwise(lightness)]
    assert min(gaps) > 0.03


def test_two_hundred_configurations_stay_readable(tmp_path):
    """Eight in colour, the others grey, and a legend of eight."""
    frame = results(
        tmp_path,
        models=1,
        gpus=4,
        concurrencies=(1, 2, 4, 8, 16),
        batch_sizes=(1, 8, 64),
        instances=(1, 2),
        batching=(None, (4, 8), (8, 16), (16, 32), (32, 64)),
        repeats=1,
        troubles=False,
    )
    points = summarise(frame)
    assert series.series_along(points, BATCH_SIZE)["series"].nunique() == 200
    figure = FIGURES["throughput_latency_vs_batch"].plot(points)
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 8
    assert "8 of 200 configurations" in figure.get_supxlabel()
    devices = {text.get_text().split(",")[0] for text in legend.get_texts()}
    assert len(devices) == 4
