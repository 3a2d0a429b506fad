"""A short form of the truth table: each promise, with fewer trials than `make bench-decisions`."""

from pathlib import Path

import pytest

from tests.benchmarks.decisions import CASES, Case, simulate

TRIALS = 4


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_promised_of_decisions_holds_in_a_short_simulation(case: Case) -> None:
    (found,) = simulate([case], TRIALS)
    # Of so few trials one may be wrong.
    slack = 1.5 / TRIALS
    assert case.least - slack <= found.share <= case.most + slack


DOCUMENT = Path(__file__).parents[3] / "docs" / "decisions.md"


def test_each_case_has_a_row_of_its_own_in_the_document_and_keeps_its_promise() -> None:
    prefixes = tuple({f"| {case.name.partition(':')[0]}: " for case in CASES})
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith(prefixes)]
    by_name = {case.name: case for case in CASES}
    assert sorted(name for name, *_ in rows) == sorted(by_name)
    for name, promised, share, trials in rows:
        case = by_name[name]
        assert (promised, int(trials)) == (case.promised, case.trials)
        assert case.least <= float(share) <= case.most
