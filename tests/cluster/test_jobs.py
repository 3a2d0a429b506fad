"""Which workers of a run are connected, and that none of its jobs is left at its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbench.cluster import batch, jobs, ledger
from hpcbench.errors import Interrupted
from hpcbench.records.folder import Results

# The end of a run


UNREACHABLE = 'echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1'


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "GOODBYE_S", 0.0)


def test_a_run_of_which_nothing_is_left_is_over(
    queue: Path,
    results: Results,
) -> None:
    with jobs.watch_jobs(results, ledger.begin(results, "slurm")):
        assert not queue.exists()
    assert queue.exists()
    assert ledger.unfinished(results) == []


def test_a_run_is_not_over_where_the_batch_system_does_not_say_so(
    program: Callable[[str, str], None],
    results: Results,
) -> None:
    """The next command in this folder looks again."""
    program("squeue", UNREACHABLE)
    program("scancel", UNREACHABLE)
    run = ledger.begin(results, "slurm")
    with jobs.watch_jobs(results, run):
        pass
    assert ledger.unfinished(results) == [run]


def test_jobs_are_cancelled_also_where_a_signal_comes_while_they_are_waited_for(
    queue: Path,
    results: Results,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = batch.wait_for_end
    signals = iter([Interrupted("stopped by SIGINT")])

    def interrupted(*arguments: object) -> list[str]:
        for signal in signals:
            raise signal
        return asked(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(batch, "wait_for_end", interrupted)
    with (
        pytest.raises(Interrupted, match="SIGINT"),
        jobs.watch_jobs(results, ledger.begin(results, "slurm")),
    ):
        pass
    assert queue.exists()
    assert ledger.unfinished(results) == []
