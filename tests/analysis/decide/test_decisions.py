"""A short form of the truth table: each promise, with fewer trials than `make bench-decisions`."""

import pytest

from tests.benchmarks.decisions import CASES, Case, simulate

TRIALS = 4


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_promised_of_decisions_holds_in_a_short_simulation(case: Case) -> None:
    (found,) = simulate([case], TRIALS)
    # Of so few trials one may be wrong.
    slack = 1.5 / TRIALS
    assert case.least - slack <= found.share <= case.most + slack
