"""A pool's jobs, with Dask's real cluster and scheduler, where the batch system or Dask fails."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed.comm import CommClosedError
from distributed.core import Status

from hpcbench.cluster import ledger, tls
from hpcbench.cluster.batch import Job, JobState
from hpcbench.cluster.batch_workers import STARTUP_BACKOFF_S, batch_workers
from hpcbench.cluster.job_limits import SubmittedJob
from hpcbench.cluster.submission import Submission
from hpcbench.errors import Interrupted, SiteError
from hpcbench.records.folder import Results
from tests.helpers.builders import batch_site
from tests.helpers.waiting import wait_until

UNREACHABLE = (
    "sbatch: error: Batch job submission failed: "
    "Unable to contact slurm controller (connect failure)"
)


@pytest.fixture
def pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., contextlib.AbstractContextManager[Any]]]:
    """A pool of up to four jobs, at a Slurm that cannot be reached."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "scancel"):
        (programs / name).write_text(f"#!/bin/sh\necho '{UNREACHABLE}' >&2\nexit 1\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    where = Results(tmp_path / "results")
    where.create()
    run = ledger.begin(where, "slurm")
    watcher: Any = SimpleNamespace(answer=None)
    with tls.make_keys(where.keys) as made:

        def started(**network: Any) -> contextlib.AbstractContextManager[Any]:
            site = batch_site(pool={"max_jobs": 4}, network={"interface": "lo", **network})
            submission = Submission(site, where, run, None, made)
            return batch_workers("gpu", submission, watcher)

        yield started


# Tornado leaves the socket to the collector for which there was no port.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestPorts:
    """Two runs of one user share the ports that a site lets through."""

    @pytest.fixture(autouse=True)
    def collected(self) -> Iterator[None]:
        yield
        gc.collect()

    def test_a_scheduler_takes_the_first_port_that_is_free(self, pool: Any) -> None:
        with listening(4) as first, pool(ports=f"{first}:{first + 9}") as workers:
            assert first + 4 <= workers.cluster.scheduler.port <= first + 9

    def test_where_none_is_free_the_message_says_so_and_no_thread_is_left(self, pool: Any) -> None:
        before = threading.active_count()
        with (
            listening(2) as first,
            pytest.raises(SiteError, match=f"all ports of {first}:{first + 1} are in use"),
            pool(ports=f"{first}:{first + 1}"),
        ):
            pass
        assert wait_until(lambda: threading.active_count() <= before)


@contextlib.contextmanager
def listening(count: int) -> Iterator[int]:
    """The first of so many ports in a row on which somebody listens."""
    for first in range(31000, 60000, 20):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    entry = stack.enter_context(contextlib.closing(socket.socket()))
                    entry.bind(("127.0.0.1", port))
                    entry.listen()
            except OSError:
                continue
            yield first
            return
    raise AssertionError("no port is free")


class TestAtTheEnd:
    def test_a_connection_that_breaks_does_not_hide_why_the_run_ends(
        self, pool: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def cancelled() -> None:
            with pool() as workers:
                _break_connections(workers)
                raise Interrupted("ended by hpcbench cancel")

        with pytest.raises(Interrupted, match="by hpcbench cancel"):
            cancelled()
        assert "remote method 'retire_workers'" in caplog.text

    def test_a_connection_that_breaks_does_not_make_a_run_fail_that_has_measured_all(
        self, pool: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pool() as workers:
            _break_connections(workers)
        assert "remote method 'retire_workers'" in caplog.text
        # Else Dask would try again, for ten seconds, when the interpreter ends.
        assert workers.cluster.status is Status.closed
        assert workers.cluster.scheduler.status is Status.closed

    def test_a_client_that_fails_to_close_does_not_hide_it_either(
        self, pool: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pool() as workers:
            close = workers.client.close

            def fails() -> None:
                # Dask asks again when the client is collected; by then it is closed.
                was_open = workers.client.status != "closed"
                close()
                if was_open:
                    raise CommClosedError("in <TLS (closed) ConnectionPool>: Stream is closed")

            monkeypatch.setattr(workers.client, "close", fails)
        assert "Stream is closed" in caplog.text
        assert workers.cluster.status is Status.closed


def _break_connections(workers: Any) -> None:
    """Dask retires a job's worker as it closes: from now on the scheduler hangs up at that."""
    workers.scale(1)
    assert wait_until(lambda: workers.cluster.workers)

    async def hang_up(comm: Any = None, **_: Any) -> None:
        comm.abort()

    workers.cluster.scheduler.handlers["retire_workers"] = hang_up


def test_a_worker_that_was_given_a_task_is_not_sent_away_as_idle(pool: Any) -> None:
    """Dask takes it for idle until the task has reached it, and nobody knows which one takes a
    task that no worker has begun."""
    with pool() as workers:
        two = frozenset({"w-1", "w-2"})
        workers.workers = SimpleNamespace(names=two, ever=two, idle=["w-1", "w-2"])
        workers.scale(1, None)
        assert not workers.leaving
        workers.scale(1, {"w-1"})
        assert list(workers.leaving) == ["w-2"]


def test_jobs_that_are_refused_together_count_as_one_refusal(pool: Any) -> None:
    with pool() as workers:
        workers.scale(4)
        assert wait_until(lambda: len(workers.gate._refused) == 4)
        (note,) = workers.scale(4)
        assert UNREACHABLE in note
        workers.gate.refuse("one that was slower", UNREACHABLE)
        assert workers.scale(4) == []
        assert workers.refusals == 1


def test_a_job_that_is_held_while_it_works_is_reported_and_does_not_end_the_run(pool: Any) -> None:
    with pool() as workers:
        for number in range(4):
            name, now = f"w-{number}", time.monotonic()
            workers.workers = SimpleNamespace(names=frozenset(), ever={name}, idle=[])
            workers.submitted[name] = SubmittedJob(name, str(number), now - 1)
            held = Job(str(number), JobState.HELD, "via condor_hold (by user ann)")
            workers.watcher.answer = now, {str(number): held}
            notes = workers.scale(0)
            assert notes == [f"pool gpu: job {number} was held: via condor_hold (by user ann)"]
            assert name not in workers.submitted


def test_jobs_that_die_delay_the_next_more_and_more_and_their_node_gets_none(pool: Any) -> None:
    with pool() as workers:
        workers.workers = SimpleNamespace(names=frozenset({"w"}), ever={"w"}, idle=[])

        def dies(number: int) -> list[str]:
            before = time.monotonic()
            workers.submitted[f"dead-{number}"] = SubmittedJob(
                f"dead-{number}", str(number), before - 1
            )
            log = workers.submission.results.logs / f"job-{number}.log"
            log.write_text("set -e\npython: not found\n")
            ended = Job(str(number), JobState.ENDED, "FAILED (NonZeroExitCode)", "n1")
            workers.watcher.answer = before, {str(number): ended}
            notes = list(workers.scale(1))
            assert before + number * STARTUP_BACKOFF_S <= workers.not_before
            assert workers.not_before <= time.monotonic() + number * STARTUP_BACKOFF_S
            return notes

        assert dies(1) == [
            "pool gpu: job 1 died before it connected: FAILED (NonZeroExitCode)",
            "    python: not found",
        ]
        assert not workers.excluded
        assert "node n1" in dies(2)[-1]
        options = workers.cluster.new_spec["options"]
        assert "--exclude=n1" in options["job_extra_directives"]
        dies(3)
        assert workers.excluded == ["n1"]
