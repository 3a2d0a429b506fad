"""What tells that repeats are not what intervals take them for, on samples whose truth is known."""

import numpy as np
import pytest

from hpcbench.analysis.summary.assumptions import Repeats, check_repeats


def checked(values: np.ndarray) -> Repeats:
    return check_repeats(values.ravel(), np.repeat(np.arange(len(values)), values.shape[1]))


@pytest.mark.parametrize("repeats", [3, 5, 10])
def test_normal_independent_repeats_are_warned_of_once_in_a_hundred(repeats: int) -> None:
    chance = np.random.default_rng(1)
    found = [checked(np.exp(chance.normal(0, 0.02, (50, repeats)))) for _ in range(300)]
    assert np.mean([each.p_normal < 0.01 for each in found]) < 0.04
    assert np.mean([each.p_independent < 0.01 for each in found]) < 0.04


def test_spreads_that_differ_are_nothing_to_warn_of() -> None:
    chance = np.random.default_rng(2)
    spread = np.exp(chance.normal(-4, 1, (50, 1)))
    found = [checked(np.exp(spread * chance.normal(0, 1, (50, 5)))) for _ in range(100)]
    assert np.mean([bool(each.warnings) for each in found]) < 0.1


def test_repeats_that_take_twice_as_long_are_named() -> None:
    chance = np.random.default_rng(3)
    values = np.exp(chance.normal(0, 0.02, (50, 5))) * np.where(chance.random((50, 5)) < 0.1, 2, 1)
    (warning,) = checked(values).warnings
    assert "not normal" in warning


def test_repeats_that_drift_are_named() -> None:
    chance = np.random.default_rng(4)
    drift = 1 + 0.03 * np.arange(5)
    found = checked(drift * np.exp(chance.normal(0, 0.01, (50, 5))))
    assert any("not independent" in warning for warning in found.warnings)


def test_the_order_of_configurations_does_not_matter_and_missing_values_count_for_nothing() -> None:
    chance = np.random.default_rng(5)
    values = np.exp(chance.normal(0, 0.02, (20, 4)))
    numbers = np.repeat(np.arange(20), 4)
    found = check_repeats(values.ravel(), numbers)
    turned = check_repeats(values.T.ravel(), np.tile(np.arange(20), 4))
    assert turned.p_normal == pytest.approx(found.p_normal)
    more = check_repeats(np.append(values.ravel(), [np.nan, -1]), np.append(numbers, [0, 1]))
    assert more.p_independent == pytest.approx(found.p_independent)


def test_few_configurations_say_nothing() -> None:
    found = checked(np.exp(np.random.default_rng(6).normal(0, 1, (9, 5))))
    assert np.isnan([found.p_normal, found.p_independent]).all()
    assert found.warnings == ()
    assert np.isnan(check_repeats(np.array([]), np.array([], dtype=int)).p_normal)
