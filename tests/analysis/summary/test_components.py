"""Where spread comes from, on measurements whose components are known."""

import numpy as np
import pytest

from hpcbench.analysis.summary.components import Components, variance_components, window_variance


def simulated(
    repeat: float, node: float, session: float, *, nodes_by_session: bool = False
) -> tuple[Components, float, float]:
    """Twenty configurations on six nodes in thirty sessions, twice on each.

    With the components, the standard deviations that the nodes and sessions really have.
    """
    chance = np.random.default_rng(1)
    configurations, sessions, nodes, again = 20, 30, 6, 2
    grid = np.indices((configurations, sessions, nodes, again)).reshape(4, -1)
    numbers, sessions_of, nodes_of, _ = grid
    if nodes_by_session:
        nodes_of = sessions_of
    of_node = chance.normal(0, node, sessions if nodes_by_session else nodes)
    of_session = chance.normal(0, session, sessions)
    noise = chance.normal(0, repeat, len(numbers))
    values = 100.0 * (1 + numbers) * np.exp(noise + of_node[nodes_of] + of_session[sessions_of])
    found = variance_components(values, numbers, sessions_of, nodes_of, float("nan"))
    return found, float(of_node.std(ddof=1)), float(of_session.std(ddof=1))


def test_each_component_is_found_beside_the_others() -> None:
    found, node, session = simulated(0.02, 0.04, 0.06)
    assert found.repeat == pytest.approx(0.02, rel=0.05)
    assert found.node == pytest.approx(node, rel=0.05)
    assert found.session == pytest.approx(session, rel=0.05)
    assert (found.nodes, found.sessions) == (6, 30)


def test_a_component_that_is_not_there_is_nearly_zero() -> None:
    found, _, _ = simulated(0.02, 0.0, 0.0)
    assert found.repeat == pytest.approx(0.02, rel=0.05)
    assert max(found.node, found.session) < 0.003


def test_nodes_that_change_with_the_session_cannot_be_separated_from_it() -> None:
    found, _, session = simulated(0.02, 0.0, 0.05, nodes_by_session=True)
    assert np.isnan(found.node)
    assert found.session == pytest.approx(session, rel=0.05)
    assert found.together
    assert not simulated(0.02, 0.0, 0.05)[0].together


def test_one_session_says_nothing_of_sessions_and_one_measurement_nothing_at_all() -> None:
    chance = np.random.default_rng(2)
    zeros = np.zeros(200, dtype=int)
    values = np.exp(chance.normal(0, 0.03, 200))
    found = variance_components(values, np.arange(200) // 4, zeros, zeros, float("nan"))
    assert found.repeat == pytest.approx(0.03, rel=0.15)
    assert np.isnan([found.run, found.node, found.session]).all()
    once = variance_components(values, np.arange(200), zeros, zeros, float("nan"))
    assert np.isnan([once.repeat, once.node, once.session]).all()


def test_what_windows_explain_is_no_spread_between_repeats() -> None:
    chance = np.random.default_rng(3)
    windows = 100 * np.exp(chance.normal(0, 0.03, (400, 5)))
    unsaid = np.full(402, np.nan)
    within = window_variance([*map(tuple, windows), None, (1.0,)], unsaid)
    assert np.sqrt(within) == pytest.approx(0.03 / np.sqrt(3), rel=0.05)
    zeros = np.zeros(400, dtype=int)
    values = windows[:, -3:].mean(axis=1) * np.exp(chance.normal(0, 0.02, 400))
    found = variance_components(values, np.arange(400) // 4, zeros, zeros, within)
    assert found.run == pytest.approx(0.03 / np.sqrt(3), rel=0.05)
    assert found.repeat == pytest.approx(0.02, rel=0.15)
    assert np.isnan(window_variance([None], unsaid[:1]))


def test_the_mean_of_more_windows_varies_less() -> None:
    windows = 100 * np.exp(np.random.default_rng(4).normal(0, 0.03, (400, 12)))
    within = window_variance([*map(tuple, windows)], np.tile([6.0, 12.0], 200))
    assert np.sqrt(within) == pytest.approx(0.03 * np.sqrt((1 / 6 + 1 / 12) / 2), rel=0.05)
