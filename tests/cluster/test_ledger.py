"""The ledger of batch jobs: what a killed driver leaves, the next one finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbench.cluster import ledger
from hpcbench.records.folder import Results


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path)


def test_a_run_is_unfinished_from_before_its_first_job_until_it_says_otherwise(
    results: Results,
) -> None:
    assert ledger.unfinished(results) == []
    run = ledger.begin(results, "slurm")
    assert ledger.unfinished(results) == [run]
    ledger.add(results, run, "a100", "17")
    assert ledger.unfinished(results) == [run]
    ledger.finish(results, run)
    assert ledger.unfinished(results) == []
    assert ledger.job_ids(results, run) == ["17"]


def test_each_run_has_a_name_of_its_own(results: Results) -> None:
    first, second = ledger.begin(results, "slurm"), ledger.begin(results, "htcondor")
    assert first.name != second.name
    ledger.finish(results, first)
    (left,) = ledger.unfinished(results)
    assert (left.name, left.scheduler) == (second.name, "htcondor")


def test_a_line_that_was_cut_off_does_no_harm(results: Results) -> None:
    run = ledger.begin(results, "slurm")
    with results.ledger.open("a") as stream:
        stream.write('{"run": "hpcb')
    assert ledger.unfinished(results) == [run]
    ledger.add(results, run, "a100", "18")
    assert ledger.job_ids(results, run) == ["18"]
