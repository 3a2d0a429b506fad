"""What all configurations share from one session to the next is the night, or a change of all."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from hpcbench.analysis.decide.changes import Verdict
from hpcbench.analysis.decide.compare import Comparison, compare_results
from hpcbench.analysis.decide.compare_components import components_of_results, print_components
from hpcbench.analysis.decide.compare_summary import comparison_summary
from hpcbench.analysis.decide.compare_text import comparison_json
from hpcbench.cli.main import main
from hpcbench.records.columns import Record
from tests.analysis.decide.test_compare import NAMES, compared, summary_lines
from tests.benchmarks.synthetic import Night, results
from tests.helpers.measurements import loaded, measured, repeats, write

THREE = Night(configurations=40, repeats=3, sessions=3, night_sd=0.08)


def nights(night: Night, slow: float = 1.0, everything: float = 1.0, seed: int = 1) -> Comparison:
    """A comparison in which one configuration changed by ``slow``, and all by ``everything``."""
    chance = np.random.default_rng(seed)
    a = results(replace(night, gradient=1.0), chance)
    b = results(replace(night, name="b", slow=slow), chance)
    changed = {
        "throughput_infer_per_s": b["throughput_infer_per_s"] * everything,
        "latency_p50_us": b["latency_p50_us"] / everything,
        "latency_p99_us": b["latency_p99_us"] / everything,
    }
    return compare_results(a, b.assign(**changed), 0.05)


def test_a_shift_that_nights_explain_is_taken_off_and_named() -> None:
    found = nights(THREE)
    assert not found.is_worse
    assert len(found.shifts) == 3
    for shift in found.shifts:
        assert shift.taken_off
        assert shift.low < 1 < shift.high
        assert 0.03 < shift.night_std < 0.16
    # Without the night, what is left is the noise of the repeats.
    assert np.log(found.rows["ratio"]).abs().max() < 0.06
    assert "sessions: 3 of A, 3 of B; their spread is in the errors" in summary_lines(found)


def test_what_changed_by_itself_is_found_below_the_night() -> None:
    found = nights(THREE, slow=0.8)
    worse = found.rows[found.rows["verdict"] == Verdict.WORSE]
    assert found.a_table["concurrency"].iloc[worse["a"]].unique().tolist() == [1]
    assert worse["ratio"].iloc[0] in (pytest.approx(0.8, rel=0.05), pytest.approx(1.25, rel=0.05))


def test_a_change_of_all_that_nights_do_not_explain_makes_all_worse() -> None:
    found = nights(replace(THREE, night_sd=0.02), everything=0.6)
    shift = found.shifts[0]
    assert (shift.verdict, shift.taken_off) == (Verdict.WORSE, False)
    assert found.is_worse
    assert found.count(Verdict.WORSE) == len(found.rows)


@pytest.mark.parametrize("everything", [1.0, 1.03])
def test_where_half_changed_the_night_is_not_known_and_what_got_worse_is_found(
    everything: float,
) -> None:
    """The median is between both halves: taken for the night, it would hide the slow one."""
    found = nights(Night(share=0.5), slow=0.91, everything=everything)
    shift = found.shifts[0]
    assert (shift.verdict, shift.taken_off) == (Verdict.INCONCLUSIVE, True)
    assert [group.configurations for group in shift.groups] == [50, 50]
    low, high = (group.ratio for group in shift.groups)
    assert low == pytest.approx(0.91 * everything, rel=0.01)
    assert high == pytest.approx(everything, rel=0.01)
    assert shift.ratio == pytest.approx(everything, rel=0.01)
    worse = found.rows[found.rows["verdict"] == Verdict.WORSE]
    assert set(found.a_table["concurrency"].iloc[worse["a"]]) <= set(range(1, 51))
    assert len(worse) > 30
    assert found.count(Verdict.BETTER) == 0
    (line,) = [x for x in summary_lines(found) if x.startswith("throughput: cannot tell")]
    assert "what is the night and what changed: of the 100 configurations of cern/a100 50" in line
    text = json.dumps(comparison_json(found, NAMES), allow_nan=False)
    assert json.loads(text)["shifts"][0]["groups"][0]["configurations"] == 50


@pytest.mark.parametrize(("configurations", "changed"), [(6, 3), (8, 4)])
@pytest.mark.parametrize(("slow", "sessions"), [(0.5, 3), (0.85, 3), (0.85, 1)])
def test_of_few_of_which_half_changed_none_is_better_or_the_same_and_what_got_worse_is_found(
    configurations: int, changed: int, slow: float, sessions: int
) -> None:
    night = Night(configurations=configurations, repeats=3, sessions=sessions)
    night_sd = 0.05 if sessions > 1 else 0.0
    night = replace(night, share=changed / configurations, night_sd=night_sd)
    found = nights(night, slow=slow)
    (shift, *_) = found.shifts
    assert (shift.verdict, len(shift.groups)) == (Verdict.INCONCLUSIVE, 2)
    assert found.is_worse
    assert found.count(Verdict.BETTER) == found.count(Verdict.SAME) == 0
    worse = found.rows[found.rows["verdict"] == Verdict.WORSE]
    assert found.a_table["concurrency"].iloc[worse["a"]].max() <= changed
    assert any(
        "of so few, none is called better or the same" in line for line in summary_lines(found)
    )
    assert not any("would find one of" in line for line in summary_lines(found))


@pytest.mark.parametrize(("configurations", "changed"), [(6, 4), (9, 6), (30, 20), (30, 24)])
def test_what_most_did_may_be_the_night_and_is_not_called_the_same(
    configurations: int, changed: int
) -> None:
    """The night that moved most hides what they did, and makes the others look better."""
    share = changed / configurations
    night = Night(configurations, sessions=3, night_sd=0.05, share=share)
    for seed in range(2):
        found = nights(night, slow=0.9, seed=seed)
        (shift, *_) = found.shifts
        assert [group.configurations for group in shift.groups] == pytest.approx(
            [changed, configurations - changed], abs=configurations // 10
        )
        low, high = (group.ratio for group in shift.groups)
        assert low / high == pytest.approx(0.9, rel=0.03)
        assert (shift.verdict, shift.from_larger) == (Verdict.INCONCLUSIVE, True)
        moved = found.a_table["concurrency"].iloc[found.rows["a"]].to_numpy(int) <= changed
        verdict = found.rows["verdict"].to_numpy()
        assert not (moved & (verdict == Verdict.SAME)).any()
        assert found.count(Verdict.BETTER) == 0
        (line,) = [x for x in summary_lines(found) if x.startswith("throughput: cannot tell")]
        apart = f"{high / low - 1:.1%} apart; judged as if the night were that of the larger"
        assert apart in line
        assert "if it was that of the smaller, the larger got worse: none is called" in line
        assert not any("would find one of" in x for x in summary_lines(found))
        json.dumps(comparison_json(found, NAMES), allow_nan=False)


def test_a_third_that_got_worse_is_found_and_that_it_may_be_the_night_is_said() -> None:
    found = nights(Night(30, sessions=3, night_sd=0.05, share=1 / 3), slow=0.9, seed=2)
    worse = found.rows[found.rows["verdict"] == Verdict.WORSE]
    assert len(worse) > 15
    assert found.a_table["concurrency"].iloc[worse["a"]].max() <= 10
    assert found.count(Verdict.SAME) > 20
    (line,) = [x for x in summary_lines(found) if x.startswith("throughput: cannot tell")]
    assert line.endswith("if it was that of the smaller, the larger got better")


def test_a_third_that_got_better_than_a_night_can_make_it_is_better() -> None:
    found = nights(Night(30, sessions=3, night_sd=0.02, share=1 / 3), slow=1.4)
    assert not any(shift.groups for shift in found.shifts)
    better = found.rows[found.rows["verdict"] == Verdict.BETTER]
    assert found.a_table["concurrency"].iloc[better["a"]].max() <= 10
    assert len(better) == 30
    assert found.count(Verdict.WORSE) == 0


def in_sessions(which: Sequence[int], effects: Sequence[float], name: str, slow: float = 1) -> list:
    """Three repeats of each configuration, in the session that ``which`` names."""
    chance = np.random.default_rng(len(name) + len(which))
    return [
        record
        for c, session in enumerate(which, 1)
        for record in repeats(
            1000 * c * effects[session] * (slow if c == 7 else 1) * chance.normal(1, 0.02, 3),
            concurrency=c,
            run_id=f"{name}{session}",
            latency_p99_us=None,
            latency_p50_us=None,
            latency_avg_us=None,
        )
    ]


def test_sessions_that_share_no_configuration_are_nights_of_their_own() -> None:
    """Nothing changed but the nights: that was an alarm beside 'cannot tell what is the night'."""
    which = [0] * 20 + [1] * 20
    found = compared(
        in_sessions(which, (1.0, 1.0), "a"), in_sessions(which, (0.9, 1.03), "b", slow=0.75)
    )
    (shift,) = found.shifts
    assert (shift.verdict, shift.sessions) == (Verdict.INCONCLUSIVE, (2, 2))
    assert not shift.groups
    low, high = (block.ratio for block in shift.blocks)
    assert (low, high) == (pytest.approx(0.9, rel=0.01), pytest.approx(1.03, rel=0.01))
    assert shift.night_std == pytest.approx(0.068, rel=0.2)
    worse = found.rows[found.rows["verdict"] == Verdict.WORSE]
    assert found.a_table["concurrency"].iloc[worse["a"]].tolist() == [7]
    assert found.count(Verdict.BETTER) == 0
    (line,) = [x for x in summary_lines(found) if x.startswith("throughput: the 40")]
    assert "each was taken off its own: 20 moved by -1" in line


def test_a_night_of_few_configurations_makes_none_of_them_worse() -> None:
    which = [0] * 30 + [1] * 3
    night = (0.85, 1.0)
    found = compared(in_sessions(which, (1.0, 1.0), "a"), in_sessions(which, night[::-1], "b"))
    assert not found.is_worse
    apart = found.a_table["concurrency"].iloc[found.rows["a"]].to_numpy(int) > 30
    assert set(found.rows["verdict"][apart]) == {Verdict.INCONCLUSIVE}
    assert (found.rows["verdict"][~apart] == Verdict.SAME).mean() > 0.5
    assert found.count(Verdict.BETTER) == 0


def test_each_configuration_in_a_session_of_its_own_is_compared_by_how_nights_differ() -> None:
    chance = np.random.default_rng(5)
    a, b = (
        in_sessions(range(40), np.exp(0.06 * chance.normal(size=40)), name) for name in ("a", "bb")
    )
    found = compared(a, b)
    assert not found.is_worse
    halved = in_sessions(range(40), np.exp(0.06 * chance.normal(size=40)), "b", slow=0.4)
    worse = compared(a, halved).rows
    worse = worse[worse["verdict"] == Verdict.WORSE]
    assert found.a_table["concurrency"].iloc[worse["a"]].tolist() == [7]


def test_where_half_got_better_the_others_are_not_worse_with_one_session_each() -> None:
    """The night is taken to be no more than the tolerance, as where all moved together."""
    found = nights(Night(share=0.5), slow=1.12)
    assert not found.is_worse
    assert len(found.shifts[0].groups) == 2
    assert found.shifts[0].ratio == pytest.approx(1.05)


def test_of_a_gradient_the_slow_end_is_worse_and_the_fast_end_no_better() -> None:
    found = nights(Night(gradient=0.8))
    place = found.a_table["concurrency"].to_numpy(float)
    worse = found.rows[found.rows["verdict"] == Verdict.WORSE]
    assert place[worse["a"]].mean() > 70
    assert found.count(Verdict.BETTER) == 0


def test_most_that_did_not_change_are_agreed_on_the_night() -> None:
    found = nights(Night(share=0.3), slow=0.8)
    assert not any(shift.groups for shift in found.shifts)
    worse = found.rows[found.rows["verdict"] == Verdict.WORSE]
    assert set(found.a_table["concurrency"].iloc[worse["a"]]) == set(range(1, 31))


def test_with_one_session_each_a_change_of_all_is_worse_and_may_be_the_night() -> None:
    found = nights(replace(THREE, sessions=1, night_sd=0.0), everything=0.8)
    assert found.is_worse
    assert found.shifts[0].verdict == Verdict.WORSE
    assert np.isnan(found.shifts[0].night_std)
    assert any("a difference of nights cannot be excluded" in line for line in summary_lines(found))


def test_one_session_is_compared_with_many_by_how_much_those_differ() -> None:
    chance = np.random.default_rng(3)
    a = results(replace(THREE, sessions=20), chance)
    same = results(replace(THREE, sessions=1, name="b"), chance)
    found = compare_results(a, same, 0.05)
    assert not found.is_worse
    assert found.shifts[0].night_std == pytest.approx(0.08, rel=0.4)
    assert any("sessions: 20 of A, 1 of B" in line for line in comparison_summary(found, NAMES))
    halved = same.assign(throughput_infer_per_s=same["throughput_infer_per_s"] / 2)
    assert compare_results(a, halved, 0.05).is_worse


def test_of_few_configurations_each_is_compared_with_the_spread_between_its_sessions() -> None:
    """Three cannot tell a night from a change; their repeats within a night are no proof."""
    alarms = [
        nights(replace(THREE, configurations=3, repeats=10), seed=seed).is_worse
        for seed in range(20)
    ]
    assert sum(alarms) <= 2


def two_sides(
    again: Sequence[int], cv: float, seed: int, slow: float = 1.0, run: str = "a2", night: float = 1
) -> Comparison:
    """Thirty configurations three times a side; of A, ``again`` in a second session, too."""
    chance = np.random.default_rng(seed)

    def session(name: str, which: Sequence[int], scale: float, its: float = 1.0) -> list[Record]:
        return [
            record
            for c in which
            for record in repeats(
                1000 * c * its * (scale if c == 7 else 1) * np.exp(cv * chance.normal(size=3)),
                concurrency=c,
                run_id=name,
                latency_p99_us=None,
                latency_p50_us=None,
                latency_avg_us=None,
            )
        ]

    whole = range(1, 31)
    a, b = session("a1", whole, 1.0), session("b1", whole, slow)
    return compared([*a, *session(run, again, 1.0, night)], b)


@pytest.mark.parametrize("again", [[1], [1, 2, 3], range(1, 11)])
def test_a_session_of_few_configurations_says_nothing_of_the_spread_of_the_others(
    again: Sequence[int],
) -> None:
    """One measured in two sessions had made the spread of all: its intervals held nothing."""
    covered = []
    for seed in range(12):
        found = two_sides(again, 0.06, seed)
        assert not found.is_worse
        covered += [*((found.rows["low"] <= 1) & (found.rows["high"] >= 1))]
    assert np.mean(covered) >= 0.9


def test_a_session_of_one_configuration_hides_no_change_and_is_named() -> None:
    found = two_sides([1], 0.02, 1, slow=0.75, night=1.3)
    assert found.a_table["concurrency"].iloc[
        found.rows["a"][found.rows["verdict"] == Verdict.WORSE]
    ].tolist() == [7]
    assert (found.sessions, found.comparable) == ((2, 1), (1, 1))
    (line,) = [x for x in summary_lines(found) if x.startswith("sessions:")]
    assert line.startswith("sessions: 2 of A, 1 of B, which measured too few of the same")
    assert "a difference of nights cannot be excluded" in line


def test_what_the_configurations_of_two_sessions_share_is_taken_off_all() -> None:
    """Ten of thirty were measured in another night, too: no reason to call them changed."""
    found = two_sides(range(1, 11), 0.02, 1, night=1.3)
    assert found.comparable == (2, 1)
    assert not found.is_worse
    assert not found.shifts[0].groups
    assert found.shifts[0].night_std > 0.1


def test_sessions_that_are_not_known_are_named() -> None:
    found = compared(repeats([1, 1.01]), repeats([1, 1.01]))
    assert found.sessions == (None, None)
    assert any("sessions: not known" in line for line in summary_lines(found))


def test_one_node_against_another_is_named() -> None:
    found = compared(repeats([1, 1.01], node="n1"), repeats([1, 1.01], node="n2"))
    assert "nodes: n1 -> n2; a difference of nodes cannot be excluded" in summary_lines(found)


def test_two_places_have_each_a_shift_of_their_own() -> None:
    def both(first: float, second: float) -> list:
        chance = np.random.default_rng(4)
        return [
            record
            for pool, scale in (("x", first), ("y", second))
            for c in range(1, 9)
            for record in repeats(
                1000 * scale * chance.normal(1, 0.01, 3), pool=pool, concurrency=c
            )
        ]

    found = compared(both(1, 1), both(0.99, 0.7))
    shifts = {s.place: s for s in found.shifts if s.metric == "throughput_infer_per_s"}
    assert {place: s.verdict for place, s in shifts.items()} == {
        "cern/x": Verdict.SAME,
        "cern/y": Verdict.WORSE,
    }
    throughput = found.rows[found.rows["metric"] == "throughput_infer_per_s"]
    assert (throughput["verdict"] == Verdict.WORSE).sum() == 8


def test_one_session_at_each_of_two_places_leaves_the_repeats_what_they_are() -> None:
    def both(scale: float) -> list:
        chance = np.random.default_rng(5)
        return [
            record
            for pool, its in (("x", 1.0), ("y", scale))
            for c in (1, 2)
            for record in repeats(
                1000 * its * chance.normal(1, 0.01, 3), 5.0 / its, pool=pool, concurrency=c
            )
        ]

    found = compared(both(1), both(0.7))
    worse = found.rows[found.rows["verdict"] == Verdict.WORSE]
    assert found.a_table["pool"].iloc[worse["a"]].unique().tolist() == ["y"]
    assert len(worse) == 6


def test_the_command_prints_where_the_spread_comes_from(tmp_path: Path) -> None:
    windows = {"windows_throughput_infer_per_s": (990.0, 1000.0, 1010.0)}
    records = [
        record
        for c in range(1, 5)
        for record in repeats([900, 1000, 1100], concurrency=c, node="n1", **windows)
    ]
    # It is not valid, and says nothing of the spread: by Little's law it cannot be.
    wrong = measured(10_000, concurrency=1, repeat=3, node="n2", latency_avg_us=8e6)
    a, b = write(tmp_path / "a", [*records, wrong]), write(tmp_path / "b", records)
    done = CliRunner().invoke(main, ["compare", str(a), str(b), "--components"])
    assert done.exit_code == 0
    row = next(line for line in done.output.splitlines() if line.startswith("A ") and "thr" in line)
    # Windows vary by 1 %, their mean by 0.6 %; repeats by 10 %; there is one node and one session.
    assert row.split() == ["A", "throughput", "0.6%", "10.0%", "-", "of", "1", "-", "of", "1"]
    assert "cannot be told apart" not in done.output
    printed = CliRunner().invoke(main, ["compare", str(a), str(b), "--components", "--json"])
    found = json.loads(printed.output, parse_constant=pytest.fail)["components"]["B"][0]
    assert (found["metric"], found["node"], found["sessions"]) == ("throughput", None, 1)


def test_nodes_that_changed_with_the_session_are_said_to_be_one_with_it() -> None:
    records = [
        record
        for c in range(1, 5)
        for night in range(3)
        for record in repeats(
            [1000 + 50 * night, 1010 + 50 * night],
            concurrency=c,
            node=f"n{night}",
            run_id=f"r{night}",
        )
    ]
    rows = components_of_results(loaded(records))
    assert all(row["together"] and row["node"] is None for row in rows)
    stream = io.StringIO()
    print_components({"A": rows}, Console(file=stream, width=200))
    assert "A: nodes and sessions changed together and cannot be told apart" in stream.getvalue()
    json.dumps(rows, allow_nan=False)
