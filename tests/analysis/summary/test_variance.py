"""Variance that is borrowed: checked on samples whose truth is known, and on limma's formulas."""

import numpy as np
import pytest
from scipy import stats

from hpcbench.analysis.summary.statistics import Sample
from hpcbench.analysis.summary.variance import (
    log_ratio,
    moderated_spread,
    paired_log_ratio,
    pooled_error,
)

Chance = np.random.Generator


def sample(values: np.ndarray) -> Sample:
    """Rows of repeats, summarised."""
    n = values.shape[1]
    std = values.std(axis=1, ddof=1) if n > 1 else np.full(len(values), np.nan)
    return Sample(np.full(len(values), float(n)), values.mean(axis=1), std)


def night(
    chance: Chance, configurations: int, repeats: int, spread: float | np.ndarray = 0.02
) -> Sample:
    noise = chance.normal(0, 1, (configurations, repeats)) * np.reshape(spread, (-1, 1))
    return sample(1000 * np.exp(noise))


def test_two_repeats_of_many_configurations_know_the_spread_as_well_as_all_together() -> None:
    found = moderated_spread(night(np.random.default_rng(1), 200, 2))
    assert np.median(found.std) == pytest.approx(0.02, rel=0.2)
    # Alone, each would have one degree of freedom.
    assert found.freedom.min() > 8


def test_variances_that_differ_are_shrunk_as_much_as_the_prior_says() -> None:
    chance = np.random.default_rng(2)
    truth = 0.02 * np.sqrt(4 / chance.chisquare(4, 3000))
    table = night(chance, 3000, 3, truth)
    found = moderated_spread(table)
    # The prior that the truth was drawn from has 4 degrees of freedom, two repeats more have 2.
    assert found.freedom == pytest.approx(6, abs=0.8)
    own = table.std / table.mean
    expected = np.sqrt((4 * 0.02**2 + 2 * own**2) / 6)
    assert found.std == pytest.approx(expected, rel=0.1)


def test_the_spread_follows_the_level_of_the_metric() -> None:
    chance = np.random.default_rng(3)
    level = np.exp(chance.uniform(0, 6, 400))
    spread = 0.005 * np.exp(level.argsort().argsort() / 400 * 2)
    values = level[:, None] * np.exp(chance.normal(0, 1, (400, 3)) * spread[:, None])
    found = moderated_spread(sample(values)).std
    assert np.median(np.abs(np.log(found / spread))) < 0.15


def test_what_was_measured_once_takes_the_spread_of_its_neighbours() -> None:
    chance = np.random.default_rng(4)
    many = night(chance, 60, 3)
    one = Sample(np.append(many.n, 1.0), np.append(many.mean, 1000), np.append(many.std, np.nan))
    found = moderated_spread(one)
    assert found.std[-1] == pytest.approx(0.02, rel=0.2)
    assert found.freedom[-1] > 20


def test_without_any_repeat_nothing_is_known() -> None:
    found = moderated_spread(sample(np.array([[1000.0], [900.0]])))
    assert np.isnan(found.std).all()
    assert (found.freedom == 0).all()


def test_with_two_configurations_each_keeps_its_own_variance() -> None:
    table = sample(np.array([[100.0, 101.0], [100.0, 110.0]]))
    found = moderated_spread(table)
    assert found.std == pytest.approx(table.std / table.mean)
    assert found.freedom.tolist() == [1, 1]


def test_values_in_whole_steps_have_the_variance_of_rounding() -> None:
    table = sample(np.full((1, 2), 212.0))
    assert moderated_spread(table, 1 / 212).std == pytest.approx(1 / 212 / np.sqrt(12))


def test_missing_means_stay_missing_and_disturb_no_other() -> None:
    table = night(np.random.default_rng(5), 20, 3)
    lacking = Sample(
        np.append(table.n, [0.0, 3.0]),
        np.append(table.mean, [np.nan, -1.0]),
        np.append(table.std, [np.nan, 1.0]),
    )
    found = moderated_spread(lacking)
    assert found.std[:20] == pytest.approx(moderated_spread(table).std)
    assert np.isnan(found.std[20:]).all()


def test_one_configuration_has_the_pooled_test_of_student() -> None:
    a, b = np.array([[990.0, 1000, 1012]]), np.array([[780.0, 800, 830]])
    found = paired_log_ratio(sample(b), sample(a))
    of = [x.std(ddof=1) / x.mean() for x in (a, b)]
    error = np.sqrt((of[0] ** 2 + of[1] ** 2) / 2 * 2 / 3)
    assert (found.error[0], found.freedom[0]) == (pytest.approx(error), 4)
    low, high = found.interval()
    half = stats.t.ppf(0.975, 4) * error
    assert np.log([low[0], high[0]]) == pytest.approx(found.value[0] + np.array([-half, half]))
    assert found.p_above(0.75)[0] == pytest.approx(
        stats.t.sf((found.value[0] - np.log(0.75)) / error, 4)
    )
    assert found.inverse().p_above(1)[0] == pytest.approx(1 - found.p_above(1)[0])


@pytest.mark.parametrize("repeats", [2, 3, 5])
@pytest.mark.parametrize("alike", [True, False])
def test_intervals_of_ratios_hold_the_truth_in_95_of_100(repeats: int, alike: bool) -> None:
    chance = np.random.default_rng(6)
    holds = []
    for _ in range(40):
        spread = np.full(100, 0.02) if alike else 0.02 * np.sqrt(4 / chance.chisquare(4, 100))
        a, b = (night(chance, 100, repeats, spread) for _ in range(2))
        low, high = paired_log_ratio(a, b).interval()
        holds.append((low <= 1) & (high >= 1))
    assert 0.93 < np.mean(holds) < 0.97


def test_a_side_that_is_noisier_than_the_other_is_taken_as_such() -> None:
    chance = np.random.default_rng(7)
    holds = []
    for _ in range(40):
        a, b = night(chance, 100, 10, 0.01), night(chance, 100, 3, 0.05)
        low, high = paired_log_ratio(a, b).interval()
        holds.append((low <= 1) & (high >= 1))
    assert 0.93 < np.mean(holds) < 0.97


def test_spreads_that_were_estimated_apart_have_satterthwaites_degrees_of_freedom() -> None:
    a, b = sample(np.array([[100.0, 101, 103]])), sample(np.array([[80.0, 84]]))
    found = log_ratio(a, b, moderated_spread(a), moderated_spread(b))
    of_a, of_b = (float(x.std[0] ** 2 / x.mean[0] ** 2 / x.n[0]) for x in (a, b))
    assert found.error[0] == pytest.approx(np.sqrt(of_a + of_b))
    assert found.freedom[0] == pytest.approx((of_a + of_b) ** 2 / (of_a**2 / 2 + of_b**2))


def test_the_error_that_most_estimates_show_hardly_counts_those_with_an_effect() -> None:
    chance = np.random.default_rng(8)
    values = chance.normal(0, 0.03, 300)
    values[:15] += 1
    error, freedom = pooled_error(values)
    assert error == pytest.approx(0.03, rel=0.15)
    assert freedom == 100
    assert np.isnan(pooled_error(np.array([0.1, 0.2]))[0])


def test_the_prior_of_equal_variances_is_certain_only_as_far_as_the_data_are() -> None:
    """Variances as regular as chance allows: all are one, known with all degrees of freedom."""
    n, d = 50, 2
    quantiles = stats.chi2.ppf((np.arange(n) + 0.5) / n, d) / d
    values = Sample(np.full(n, 3.0), np.full(n, 100.0), 2 * np.sqrt(quantiles))
    found = moderated_spread(values)
    assert found.freedom == pytest.approx(n * d)
    assert found.std == pytest.approx(0.02 * np.sqrt(quantiles.mean()), rel=1e-3)
