"""What fails more often, no longer settles or is not valid, and what is paired with what."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hpcbench.analysis.decide.compare import COMPARE_COLUMNS, compare_results
from hpcbench.analysis.decide.compare_summary import comparison_summary
from hpcbench.analysis.decide.compare_text import comparison_markdown
from hpcbench.analysis.decide.outcomes import goes_wrong_more_often
from hpcbench.records.columns import Record, Status
from tests.analysis.decide.test_compare import NAMES, compared, scan, summary_lines
from tests.helpers.builders import refusal
from tests.helpers.measurements import failed, loaded, measured, repeats


def test_a_server_that_dies_in_two_of_three_repeats_is_worse() -> None:
    died = [
        record
        for batch in (1, 8)
        for record in (
            measured(1000.0 * batch, 5.0 * batch, batch_size=batch, repeat=0),
            failed("the server died", batch_size=batch, repeat=1),
            failed("the server died", batch_size=batch, repeat=2),
        )
    ]
    found = compared([r for r in scan() if r.batch_size in (1, 8)], died)
    assert found.is_worse
    assert len(found.failing) == 2
    text = "\n".join(summary_lines(found))
    assert "A 6 tried, 6 measured, 6 settled; B 6 tried, 2 measured, 2 settled" in text
    assert "fails more often: Tagger, batch size 1" in text
    assert "3 tried, 3 measured, 3 settled in A, 3 tried, 1 measured, 1 settled in B" in text
    assert not compared(died, scan()).is_worse
    assert "| 3/3/3 -> 3/1/1 |" in comparison_markdown(found, NAMES)


@pytest.mark.parametrize("configurations", [1, 2])
def test_of_one_or_two_configurations_a_server_that_mostly_dies_is_worse(
    configurations: int,
) -> None:
    """There is no rate of others to hold it against, and three of three had been measured."""
    found = compared(some_failed(set(), configurations), some_failed({1, 2}, configurations))
    assert found.is_worse
    assert len(found.failing) == 1
    (line,) = [x for x in summary_lines(found) if x.startswith("fails more often: Tagger")]
    assert line.endswith("3 tried, 1 measured, 1 settled in B: the server died")


@pytest.mark.parametrize("configurations", [1, 2])
def test_of_one_or_two_configurations_one_failure_is_named_and_inconclusive(
    configurations: int,
) -> None:
    found = compared(some_failed(set(), configurations), some_failed({1}, configurations))
    assert not found.is_worse
    (line,) = [x for x in summary_lines(found) if "by chance" in x]
    assert line.startswith("cannot tell whether by chance: Tagger")
    assert line.endswith("3 tried, 2 measured, 2 settled in B: the server died")


def test_tables_count_repeats_once_where_both_sides_have_as_many() -> None:
    table = comparison_markdown(compared(scan(), scan(0.9)), NAMES)
    assert "| verdict | tried/measured/settled |" in table
    assert table.count("| 3/3/3 |") == 9


def test_what_no_longer_settles_is_worse() -> None:
    unstable = scan(status=Status.UNSTABLE, reason="no three windows agreed")
    found = compared(scan(), unstable)
    assert (found.is_worse, len(found.unsettled), len(found.failing)) == (True, 3, 0)
    assert any(line.startswith("no longer settles: Tagger") for line in summary_lines(found))
    assert not compared(unstable, scan()).is_worse


def some_failed(numbers: set[int], configurations: int = 100) -> list[Record]:
    """Three repeats of each configuration, of which those with these numbers failed."""
    return [
        failed("the server died", concurrency=1 + n // 3, repeat=n % 3)
        if n in numbers
        else measured(1000 + n % 3, concurrency=1 + n // 3, repeat=n % 3)
        for n in range(3 * configurations)
    ]


def test_as_many_sporadic_failures_as_before_are_no_alarm() -> None:
    found = compared(some_failed({0, 100, 200}), some_failed({50, 150, 250, 298}))
    assert not found.is_worse
    assert len(found.by_chance) == 4
    (line,) = [
        x for x in summary_lines(found) if x.startswith("failed or did not settle more often in B")
    ]
    assert line.endswith("by chance as far as one can tell: 4 configurations")


def test_a_configuration_of_which_all_repeats_fail_is_worse_among_sporadic_failures() -> None:
    found = compared(some_failed({0, 100, 200}), some_failed({50, 150, 297, 298, 299}))
    assert found.is_worse
    assert found.a_table["concurrency"].iloc[found.lost["a"]].tolist() == [100]
    assert (len(found.failing), len(found.by_chance)) == (0, 2)


def test_a_clear_rise_of_failures_is_worse_though_each_fails_once() -> None:
    found = compared(some_failed({0, 100, 200}), some_failed(set(range(0, 60, 4))))
    assert found.is_worse
    assert len(found.failing) > 10


def test_a_small_rise_of_very_many_is_no_alarm() -> None:
    """A test alone finds it: 5.0 % of 600,000 in A, 5.2 % in B."""
    chance = np.random.default_rng(1)
    tried = np.full(200_000, 3.0)
    wrong = tuple(chance.binomial(3, rate, 200_000).astype(float) for rate in (0.050, 0.052))
    assert not goes_wrong_more_often((tried, tried), wrong).any()
    wrong = wrong[0], chance.binomial(3, 0.08, 200_000).astype(float)
    assert goes_wrong_more_often((tried, tried), wrong).sum() > 10_000


def once(*dead: int, configurations: int = 100) -> list[Record]:
    """Each configuration measured once, but for those that failed."""
    return [
        failed("the server died", concurrency=c) if c in dead else measured(concurrency=c)
        for c in range(1, configurations + 1)
    ]


def test_of_many_tried_once_a_failure_is_named_and_inconclusive() -> None:
    """A failure of 0.2 % of measurements would be one in every sixth comparison."""
    found = compared(once(), once(7))
    assert not found.is_worse
    assert found.a_table["concurrency"].iloc[found.perhaps_lost["a"]].tolist() == [7]
    text = "\n".join(summary_lines(found))
    assert "cannot tell whether by chance: Tagger, batch size 8, concurrency 7, base: " in text
    assert "1 tried, 0 measured, 0 settled in B: the server died" in text
    assert "of those that are tried once some may fail by chance: measure each twice" in text
    assert not compared(once(3, 4), once(7, 8)).is_worse


def test_of_many_tried_once_five_failures_are_worse_and_so_are_all() -> None:
    assert compared(once(), once(1, 2, 3, 4, 5)).is_worse
    assert compared(once(configurations=3), once(1, 2, 3, configurations=3)).is_worse


def test_after_ten_sessions_without_a_failure_one_is_worse() -> None:
    before = [replace(r, run_id=f"a{n}") for n in range(10) for r in once()]
    found = compared(before, once(7))
    assert found.is_worse
    assert found.a_table["concurrency"].iloc[found.lost["a"]].tolist() == [7]
    assert not compared(before[:300], once(7)).is_worse


@pytest.mark.parametrize(
    ("tried", "rates"),
    [((1, 1), (0.0005, 0.002, 0.01)), ((2, 2), (0.002, 0.01, 0.05)), ((10, 1), (0.0005, 0.002))],
)
def test_failures_at_one_rate_on_both_sides_are_no_alarm(
    tried: tuple[int, int], rates: Sequence[float]
) -> None:
    chance = np.random.default_rng(1)
    for configurations in (10, 100, 400):
        times = tuple(np.full(configurations, float(n)) for n in tried)
        for rate in rates:
            alarms = [
                goes_wrong_more_often(
                    (times[0], times[1]),
                    (
                        chance.binomial(tried[0], rate, configurations).astype(float),
                        chance.binomial(tried[1], rate, configurations).astype(float),
                    ),
                ).any()
                for _ in range(200)
            ]
            assert np.mean(alarms) <= 0.075, "0.05, and twice its error"


def test_one_repeat_of_three_that_did_not_settle_is_no_alarm() -> None:
    one = [*repeats([1000, 1001, 1002])]
    now = [*one[:2], measured(1002, repeat=2, status=Status.UNSTABLE)]
    assert not compared(one, now).is_worse


def doubted(records: list[Record], reasons: list[str | None]) -> pd.DataFrame:
    frame = loaded(records)[list(COMPARE_COLUMNS)]
    return frame.assign(invalid_reasons=pd.array(reasons, dtype="string"))


def test_measurements_that_are_not_valid_are_left_out_counted_and_named() -> None:
    good = loaded(repeats([1000, 1001, 1002]))[list(COMPARE_COLUMNS)]
    bad = doubted(repeats([1000, 500, 1002]), [None, "STRANGER", "UNSETTLED"])
    found = compare_results(good, bad, 0.05)
    assert not found.is_worse
    assert found.invalid == ({}, {"STRANGER": 1})
    assert "left out of B, because not valid: 1 (STRANGER)" in comparison_summary(found, NAMES)
    assert found.b_table["repeats"].tolist() == [2]


@pytest.mark.parametrize("rule", ["FAILURES", "LITTLE, OVERLOADED"])
@pytest.mark.parametrize("repeats_failing", [2, 3])
def test_a_server_whose_requests_fail_or_that_falls_behind_is_worse(
    rule: str, repeats_failing: int
) -> None:
    records = [r for c in (1, 2, 3) for r in repeats([1000, 1001, 1002], concurrency=c)]
    good = loaded(records)[list(COMPARE_COLUMNS)]
    bad = doubted(records, [*[None] * 6, *[rule] * repeats_failing, *[None] * 3][:9])
    found = compare_results(good, bad, 0.05)
    assert found.is_worse
    assert (len(found.failing), len(found.lost)) == ((0, 1) if repeats_failing == 3 else (1, 0))
    assert found.invalid == ({}, {rule: repeats_failing})
    assert not compare_results(bad, good, 0.05).is_worse


def test_measurements_without_throughput_are_counted_and_named() -> None:
    good = [*repeats([1000, 1001]), *repeats([1000, 1001], concurrency=8)]
    lacking = [
        *good[:3],
        *(measured(concurrency=8, repeat=1, throughput_infer_per_s=None, latency_avg_us=1e3),),
    ]
    (line,) = [x for x in summary_lines(compared(good, lacking)) if "without throughput" in x]
    assert ": 1 of B: (Tagger" in line
    assert "concurrency 8" in line
    assert not any("without throughput" in x for x in summary_lines(compared(good, good)))


def test_markdown_shows_what_controls_a_terminal_as_the_terminal_does() -> None:
    records = repeats([1000, 1001], model_label="bad\x1b[31m|label\x07")
    text = comparison_markdown(compared(records, records), ("a\x1b]0;owned\x07", "b"))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "bad\\x1b[31m\\|label\\x07" in text


def test_results_without_any_valid_measurement_are_refused_with_the_reason() -> None:
    good = loaded([measured(1000)])[list(COMPARE_COLUMNS)]
    bad = doubted([measured(1000)], ["STRANGER"])
    assert "none of the 1 measurements is valid: STRANGER" in refusal(
        compare_results, good, bad, 0.05
    )


def test_no_configuration_is_compared_twice() -> None:
    """Two of A are as much like the one of B: they differ in what B has a third value of."""
    a = [
        *repeats([100, 101], gpu_driver="550"),
        *repeats([200, 202], gpu_driver="555", point_id="x"),
    ]
    found = compared(a, repeats([100, 101], gpu_driver="560"))
    assert (found.pairs, len(found.only_a), len(found.only_b)) == (1, 1, 0)
    two = [
        *repeats([100, 101], gpu_driver="560"),
        *repeats([200, 202], gpu_driver="565", point_id="x"),
    ]
    found = compared(a, two)
    assert (found.pairs, len(found.only_a), len(found.only_b)) == (2, 0, 0)
