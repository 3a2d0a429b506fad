"""What got worse or better between two sets of results, and which of it is more than noise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console
from scipy import stats

from hpcbench.analysis.decide import compare_text
from hpcbench.analysis.decide.changes import Verdict
from hpcbench.analysis.decide.compare import COMPARE_COLUMNS, Comparison, compare_results
from hpcbench.analysis.decide.compare_summary import comparison_summary
from hpcbench.analysis.figures.results_comparison import draw_results_comparison
from hpcbench.cli.compare import write_comparison
from hpcbench.cli.main import main
from hpcbench.records.columns import Record
from tests.helpers.builders import refusal
from tests.helpers.measurements import A100, T4, failed, loaded, measured, repeats, server, write

TWO = server(instance_count=2)
NAMES = ("last month", "today")


def compared(a: list[Record], b: list[Record], tolerance: float = 0.05) -> Comparison:
    return compare_results(
        loaded(a)[list(COMPARE_COLUMNS)], loaded(b)[list(COMPARE_COLUMNS)], tolerance
    )


def summary_lines(found: Comparison) -> list[str]:
    return comparison_summary(found, NAMES)


def verdicts(found: Comparison) -> dict[str, str]:
    """The verdict of each metric, where there is one pair."""
    return dict(zip(found.rows["metric"], found.rows["verdict"], strict=True))


def scan(scale: float = 1.0, **changes: Any) -> list[Record]:
    """Three batch sizes, three repeats each, 1 % apart."""
    return [
        record
        for batch in (1, 8, 64)
        for record in repeats(
            [scale * batch * t for t in (990, 1000, 1010)],
            5.0 * batch / scale,
            batch_size=batch,
            **changes,
        )
    ]


def test_the_same_results_are_the_same() -> None:
    found = compared(scan(), scan())
    assert not found.is_worse
    assert found.rows["ratio"].tolist() == [1.0] * 9
    assert set(found.rows["verdict"]) == {Verdict.SAME}
    assert (found.pairs, len(found.only_a), len(found.only_b)) == (3, 0, 0)


def test_what_is_slower_beyond_tolerance_and_noise_is_worse() -> None:
    found = compared(scan(), scan(0.8))
    assert found.is_worse
    assert set(found.rows["verdict"]) == {Verdict.WORSE}
    assert compared(scan(0.8), scan()).count(Verdict.BETTER) == len(found.rows)
    assert not compared(scan(0.8), scan()).is_worse


def test_a_change_within_the_tolerance_is_let_pass() -> None:
    assert not compared(scan(), scan(0.8), tolerance=0.3).is_worse


def test_a_ratio_has_the_interval_of_its_verdict() -> None:
    was, now = [990.0, 1000.0, 1010.0], [780.0, 800.0, 835.0]
    found = compared(repeats(was), repeats(now)).rows.set_index("metric")
    row = found.loc["throughput_infer_per_s"]
    of = [np.std(x, ddof=1) / np.mean(x) for x in (was, now)]
    error = np.sqrt((of[0] ** 2 + of[1] ** 2) / 2 * 2 / 3)
    # A twentieth of alarms for three metrics, by a test of the pooled spread.
    half = stats.t.ppf(1 - 0.05 / 3, 4) * error
    assert row["ratio"] == pytest.approx(np.mean(now) / 1000)
    assert row["low"] == pytest.approx(row["ratio"] * np.exp(-half))
    assert row["high"] == pytest.approx(row["ratio"] * np.exp(half))
    excess = np.log(1000 / np.mean(now) / 1.05)
    assert row["p"] == pytest.approx(stats.t.sf(excess / error, 4))


def test_a_large_change_within_the_noise_raises_no_alarm() -> None:
    found = compared(repeats([600, 1000, 1400]), repeats([400, 700, 1000]))
    assert verdicts(found)["throughput_infer_per_s"] == Verdict.INCONCLUSIVE
    assert not found.is_worse
    row = found.rows.set_index("metric").loc["throughput_infer_per_s"]
    # What these repeats could have found is more than what they saw, and more repeats find 10 %.
    assert row["detectable"] < row["ratio"] < 1
    assert row["repeats"] > 100
    (line,) = [x for x in comparison_summary(found, NAMES) if x.startswith("inconclusive")]
    assert (
        f"{row['repeats']:.0f} repeats a side would find one of twice the tolerance, 10.0%" in line
    )


def test_without_any_repeat_or_neighbour_all_is_inconclusive() -> None:
    found = compared([measured(1000, 5.0)], [measured(500, 5.0)])
    row = found.rows.set_index("metric").loc["throughput_infer_per_s"]
    assert (row["verdict"], row["once"]) == (Verdict.INCONCLUSIVE, True)
    assert np.isnan(row[["low", "high", "p", "detectable"]].to_numpy(float)).all()
    assert any("measure at least one configuration twice" in x for x in summary_lines(found))


def test_what_was_measured_once_is_compared_with_the_spread_of_its_neighbours() -> None:
    chance = np.random.default_rng(6)

    def night(slow: int = 0) -> list[Record]:
        return [
            measured(1000 * c * (0.6 if c == slow else 1) * chance.normal(1, 0.02), concurrency=c)
            for c in range(1, 41)
        ]

    assert not compared(night(), night()).is_worse
    found = compared(night(), night(7))
    worse = found.rows[found.rows["verdict"] == Verdict.WORSE]
    assert found.a_table["concurrency"].iloc[worse["a"]].tolist() == [7]
    assert any("spread is that of their neighbours" in line for line in summary_lines(found))


def test_of_40_configurations_measured_twice_one_that_is_halved_is_worse() -> None:
    """The interval that is shown lies beyond the tolerance where the verdict says so."""
    chance = np.random.default_rng(7)

    def night(slow: int = 0) -> list[Record]:
        return [
            record
            for c in range(1, 41)
            for record in repeats(
                1000 * (0.5 if c == slow else 1) * chance.normal(1, 0.02, 2), concurrency=c
            )
        ]

    found = compared(night(), night(17))
    row = found.rows.iloc[0]
    assert (row["verdict"], found.count(Verdict.WORSE)) == (Verdict.WORSE, 1)
    assert row["high"] < 1 / 1.05
    undecided = found.rows[found.rows["verdict"] == Verdict.INCONCLUSIVE]
    assert ((undecided["high"] > 1 / 1.05) & (undecided["low"] < 1.05)).all()
    same = found.rows[found.rows["verdict"] == Verdict.SAME]
    assert ((same["low"] >= 1 / 1.05) & (same["high"] <= 1.05)).all()


def test_whole_microseconds_are_no_proof_of_a_change() -> None:
    was = repeats([1000, 1001], 0.424, latency_p50_us=212.0)
    now = repeats([1000, 1001], 0.446, latency_p50_us=223.0)
    found = compared(was, now).rows.set_index("metric").loc["latency_p50_ms"]
    assert found["ratio"] == pytest.approx(223 / 212)
    assert (found["verdict"], found["p"] > 0.05) == (Verdict.INCONCLUSIVE, True)


def test_a_percentile_of_few_requests_is_compared_by_its_spread() -> None:
    was = repeats([1000, 1001, 1002], 4.0, request_count=640)
    now = repeats([1000, 1001, 1002], 40.0, request_count=640)
    found = compared(was, now)
    assert found.is_worse
    assert verdicts(found)["latency_p99_ms"] == Verdict.WORSE
    assert any("percentiles of few requests: 1" in line for line in summary_lines(found))


def test_what_changed_most_comes_first() -> None:
    was = [*repeats([100, 101], batch_size=1), *repeats([100, 101], batch_size=2)]
    now = [*repeats([90, 91], batch_size=1), *repeats([200, 202], batch_size=2)]
    found = compared(was, now)
    size = np.abs(np.log(found.rows["ratio"]))
    assert (size.diff().dropna() <= 0).all()
    assert found.rows["ratio"].iloc[0] == pytest.approx(2)


def test_hundreds_of_unchanged_configurations_raise_no_alarm() -> None:
    chance = np.random.default_rng(3)

    def night() -> list[Record]:
        return [
            record
            for concurrency in range(1, 301)
            for record in repeats(chance.normal(1000, 60, 3), concurrency=concurrency)
        ]

    found = compared(night(), night(), tolerance=0.0)
    assert len(found.rows) == 900
    assert found.count(Verdict.WORSE) == 0


def test_one_that_is_worse_is_found_among_many_that_are_not() -> None:
    chance = np.random.default_rng(4)

    def night(slow: int) -> list[Record]:
        return [
            record
            for c in range(1, 101)
            for record in repeats(chance.normal(700 if c == slow else 1000, 10, 4), concurrency=c)
        ]

    found = compared(night(0), night(42))
    worse = found.rows[found.rows["verdict"] == Verdict.WORSE]
    assert found.a_table["concurrency"].iloc[worse["a"]].tolist() == [42]


@pytest.mark.parametrize(
    "changes",
    [
        {"site": "fnal"},
        {"pool": "other", "gpu_name": T4},
        {"gpu_driver": "560.1"},
        {"triton_version": "2.60.0", "server_image_digest": "sha256:2"},
        {"model_label": "Another name"},
        {"measurement_interval_ms": 9000, "percentile": 99},
        {"model_digest": "d2"},
    ],
)
def test_what_is_meant_to_differ_does_not_part_what_is_compared(changes: dict[str, Any]) -> None:
    found = compared(scan(), scan(**changes))
    assert (found.pairs, len(found.only_a), len(found.only_b)) == (3, 0, 0)
    assert set(found.differing) == set(changes)


def test_what_differs_is_shown_with_both_values() -> None:
    found = compared(scan(), scan(gpu_name=T4, gpu_driver=None))
    assert found.differing == {"gpu_name": [(A100, T4)], "gpu_driver": [("550.54", None)]}
    assert f"gpu name: {A100} -> {T4}" in comparison_summary(found, NAMES)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"variant": TWO},
        {"batch_size": 99},
        {"concurrency": None, "request_rate": 125.0},
        {"protocol": "http"},
        {"shapes": '{"x": [3]}'},
        {"input_data": "zero"},
    ],
)
def test_unlike_work_is_never_compared(changes: dict[str, Any]) -> None:
    a, b = [measured(1000)], [measured(1000, **changes)]
    assert "no configuration of A has a counterpart in B" in refusal(compared, a, b)
    found = compared([*scan(), *a], [*scan(), *b])
    assert {len(found.only_a), len(found.only_b)} <= {0, 1}
    assert found.pairs == 3


def test_of_several_gpus_each_is_compared_with_its_own() -> None:
    t4 = {"pool": "t4", "gpu_name": T4}
    found = compared([*scan(), *scan(0.1, **t4)], [*scan(0.1, **t4), *scan()])
    assert set(found.rows["ratio"].round(9)) == {1.0}
    assert found.pairs == 6
    assert found.differing == {}


def test_a_gpu_that_only_one_side_has_takes_no_other_ones_place() -> None:
    found = compared([*scan(), *scan(0.1, pool="t4", gpu_name=T4)], scan(site="fnal"))
    assert (found.pairs, len(found.only_a), len(found.only_b)) == (3, 3, 0)
    assert set(found.rows["ratio"].round(9)) == {1.0}


def test_imported_results_are_matched_by_what_the_server_had() -> None:
    def imported(throughput: float, instances: int) -> list[Record]:
        changes = {"variant": None, "instance_count": instances, "point_id": f"i{instances}"}
        return repeats([throughput, throughput + 1], **changes)

    found = compared([*imported(10, 1), *imported(20, 2)], [*imported(20, 2), *imported(10, 1)])
    assert (found.pairs, set(found.rows["ratio"])) == (2, {1.0})


def test_what_cannot_be_measured_any_more_is_worse_and_has_its_reason() -> None:
    found = compared([*scan(), *repeats([5], batch_size=128)], [*scan(), failed(batch_size=128)])
    assert found.is_worse
    assert found.count(Verdict.WORSE) == 0
    (line,) = [s for s in comparison_summary(found, NAMES) if "no longer measured" in s]
    assert "batch size 128" in line
    assert line.endswith(": out of memory")
    back = compared([*scan(), failed(batch_size=128)], [*scan(), *repeats([5], batch_size=128)])
    assert (back.is_worse, len(back.gained)) == (False, 1)


def test_results_in_which_all_failed_are_worse_than_any() -> None:
    found = compared([measured(1)], [failed()])
    assert (found.is_worse, found.pairs, len(found.lost)) == (True, 0, 1)
    assert "nothing was measured" in refusal(compared, [failed()], [failed()])


def test_missing_percentiles_leave_the_throughput_to_compare() -> None:
    nan = {"latency_p50_us": float("nan"), "latency_p99_us": None}
    found = compared(scan(**nan), scan(0.5))
    assert set(found.rows["metric"]) == {"throughput_infer_per_s"}


def test_measurements_without_any_figure_have_nothing_to_compare_and_no_traceback(
    tmp_path: Path,
) -> None:
    nothing = [measured(None, latency_p50_us=None, latency_p99_us=None)]
    found = compared(nothing, nothing)
    assert (len(found.rows), found.is_worse, found.pairs) == (0, False, 1)
    for suffix in compare_text.OUTPUT_FORMATS:
        write_comparison(found, NAMES, tmp_path / f"x{suffix}")
    compare_text.print_comparison(found, NAMES, Console(quiet=True))


def test_what_a_client_did_not_use_is_as_good_as_not_known_yet() -> None:
    """A column that came with a later version is missing in the results of an earlier one."""
    before, after = (loaded([measured(1000, input_data=data)]) for data in (None, "none"))
    assert (
        compare_results(before[list(COMPARE_COLUMNS)], after[list(COMPARE_COLUMNS)], 0.05).pairs
        == 1
    )
    other = loaded([measured(1000, input_data="zero")])[list(COMPARE_COLUMNS)]
    assert "counterpart" in refusal(compare_results, before[list(COMPARE_COLUMNS)], other, 0.05)


def test_a_server_that_answers_nothing_any_more_is_worse() -> None:
    found = compared([measured(1000)], [measured(0.0, 0.0)])
    assert len(found.lost) == 1
    assert found.is_worse


def test_results_of_other_work_are_refused_with_their_first_difference() -> None:
    message = refusal(compared, [measured(model="tagger")], [measured(model="other")])
    assert "model is tagger in A, other in B" in message


def test_empty_results_are_reported_with_their_side() -> None:
    assert "A holds no results" in refusal(compared, [], scan())
    assert "B holds no results" in refusal(compared, scan(), [])


def run(*words: Any) -> Any:
    return CliRunner().invoke(main, ["compare", *map(str, words)])


@pytest.fixture
def nights(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "a", scan()), write(tmp_path / "b", scan(0.8, gpu_driver="560.1"))


def test_the_command_ends_with_1_where_something_got_worse(nights: tuple[Path, Path]) -> None:
    a, b = nights
    done = run(a, b)
    assert done.exit_code == 1
    assert "gpu driver: 550.54 -> 560.1" in done.output
    assert "9 worse" in done.output
    assert run(b, a).exit_code == run(a, a).exit_code == 0
    assert run(a, b, "--tolerance", 0.5).exit_code == 0


def test_the_command_prints_json_that_any_reader_takes(nights: tuple[Path, Path]) -> None:
    done = run(*nights, "--json")
    found = json.loads(done.output, parse_constant=pytest.fail)
    assert (found["is_worse"], found["configurations_in_both"]) == (True, 3)
    row = next(r for r in found["rows"] if r["metric"] == "throughput_infer_per_s")
    assert row["ratio"] == pytest.approx(0.8)
    assert row["low"] < 0.8 < row["high"]
    assert row["b"]["mean"] == pytest.approx(0.8 * row["a"]["mean"])


def test_the_comparison_is_written_as_what_the_suffix_says(
    nights: tuple[Path, Path], tmp_path: Path
) -> None:
    for suffix in compare_text.OUTPUT_FORMATS:
        out = tmp_path / "new" / f"night{suffix}"
        assert run(*nights, "--out", out).exit_code == 1
        assert out.stat().st_size > 1000
    lines = (tmp_path / "new" / "night.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("| batch size")]
    assert len(table) == 9
    assert all(line.count("|") == 8 for line in table)
    assert json.loads((tmp_path / "new" / "night.json").read_text())["counts"]["worse"] == 9


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--out", "night.txt"], "take .md, .json, .png, .pdf"),
        (["--tolerance", "5"], "not in the range"),
        (["--tolerance", "-0.1"], "not in the range"),
        (["--tolerance", "nan"], "is not a number"),
    ],
)
def test_bad_options_end_with_2_and_what_is_allowed(
    nights: tuple[Path, Path], words: list[str], expected: str
) -> None:
    done = run(*nights, *words)
    assert done.exit_code == 2
    assert expected in done.output


def test_results_that_are_not_there_end_with_2(nights: tuple[Path, Path], tmp_path: Path) -> None:
    assert run(nights[0], tmp_path / "none").exit_code == 2


def test_the_terminal_shows_all_that_got_worse_before_what_merely_changed() -> None:
    was = [*repeats([1000, 1001, 1002], batch_size=999)]
    now = [*repeats([900, 901, 902], batch_size=999)]
    for c in range(1, 31):
        was += repeats([1000, 1001], concurrency=c)
        now += repeats([2000, 2001], concurrency=c)
    text = Console(width=200, record=True, quiet=True)
    found = compared(was, now)
    assert len(compare_text.most_changed(found, 20)) == 20
    assert (compare_text.most_changed(found, 20)["verdict"] == Verdict.WORSE).sum() == 1
    compare_text.print_comparison(found, NAMES, text)


def test_the_figure_has_a_panel_per_figure_and_a_row_per_configuration() -> None:
    figure = draw_results_comparison(compared(scan(), scan(0.8)), NAMES)
    panels = figure.get_axes()
    assert [p.get_xlabel() for p in panels] == [
        "Throughput\n(right is better)",
        "p50 latency\n(left is better)",
        "p99 latency\n(left is better)",
    ]
    assert len(panels[0].get_yticks()) == 3
    ratios = [
        x for line in panels[0].get_lines() if line.get_marker() == "v" for x in line.get_xdata()
    ]
    assert ratios == pytest.approx([0.8, 0.8, 0.8])
    for panel, ratio in zip(panels, (0.8, 1.25, 1.25), strict=True):
        low, high = panel.get_xlim()
        assert low < min(ratio, 1) < max(ratio, 1) < high


def test_the_figure_of_what_was_measured_once_is_hollow() -> None:
    figure = draw_results_comparison(compared([measured(100)], [measured(50)]), NAMES)
    marks = [line for line in figure.get_axes()[0].get_lines() if line.get_marker() == "s"]
    assert [mark.get_markerfacecolor() for mark in marks] == ["white"]
