"""Two drivers and one folder on a file system without locks, as some shared ones are mounted."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcbench.errors import BadInput, Interrupted
from hpcbench.records import lease
from hpcbench.records.folder import Results, is_folder_locked, lock_folder
from tests.helpers.waiting import wait_until

HOLD = """
import errno, fcntl, sys, time
from pathlib import Path
def flock(*_): raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
from hpcbench.records.folder import Results, lock_folder
with lock_folder(Results(Path(sys.argv[1]))):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A results folder that can be written."""
    results = Results(tmp_path / "results")
    results.create()
    return results


@pytest.fixture(autouse=True)
def _no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What NFS says where no lockd answers, in this process."""

    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.fixture
def other_driver(results: Results) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder."""
    command = [sys.executable, "-c", HOLD, str(results.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_driver_is_refused_with_the_name_of_who_is_at_work(
    results: Results, other_driver: subprocess.Popen[str]
) -> None:
    assert is_folder_locked(results)
    with pytest.raises(BadInput, match=rf"process {other_driver.pid} on .*, seen \d+ s ago"):
        lock_folder(results).__enter__()
    assert other_driver.poll() is None


def test_a_driver_that_was_killed_on_this_host_is_followed_at_once(
    results: Results, other_driver: subprocess.Popen[str]
) -> None:
    other_driver.kill()
    other_driver.wait()
    assert not is_folder_locked(results)
    with lock_folder(results):
        assert is_folder_locked(results)
    assert not results.lease.exists()


def _of_another_host(results: Results, age_s: float) -> None:
    content = json.loads(results.lease.read_text())
    results.lease.write_text(json.dumps({**content, "host": "login07"}))
    seen_at = time.time() - age_s
    os.utime(results.lease, (seen_at, seen_at))


def test_a_driver_on_another_host_is_believed_until_it_was_not_seen_for_minutes(
    results: Results, other_driver: subprocess.Popen[str]
) -> None:
    # Stopped, it cannot renew.
    other_driver.send_signal(signal.SIGSTOP)
    _of_another_host(results, lease.STALE_S - 30)
    with pytest.raises(BadInput, match=r"on login07, seen 1.. s ago"):
        lock_folder(results).__enter__()
    _of_another_host(results, lease.STALE_S + 30)
    assert not is_folder_locked(results)
    with lock_folder(results):
        assert is_folder_locked(results)


def test_a_driver_that_was_stopped_for_long_ends_where_another_one_took_its_place(
    results: Results,
) -> None:
    lease.check_lease(results.lease)
    with lock_folder(results):
        lease.check_lease(results.lease)
        content = json.loads(results.lease.read_text())
        taken = json.dumps({**content, "token": "another"})
        results.lease.write_text(taken)
        with pytest.raises(Interrupted, match="another run has taken over"):
            lease.check_lease(results.lease)
    # It is the other one's.
    assert results.lease.read_text() == taken


def test_a_lease_is_renewed(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.02)
    with lock_folder(results):
        os.utime(results.lease, (0, 0))
        assert wait_until(lambda: results.lease.stat().st_mtime > 0)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1, "process": "x"}'])
def test_a_lease_that_cannot_be_read_blocks_only_while_it_is_young(
    results: Results, content: str
) -> None:
    results.lease.write_text(content)
    with pytest.raises(BadInput, match="another run is using it"):
        lock_folder(results).__enter__()
    os.utime(results.lease, (0, 0))
    with lock_folder(results):
        pass


def test_of_many_that_follow_a_dead_driver_one_wins(results: Results) -> None:
    results.lease.write_text("{}")
    os.utime(results.lease, (0, 0))
    command = [sys.executable, "-c", HOLD, str(results.folder)]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    drivers: list[Any] = [subprocess.Popen(command, **quiet) for _ in range(4)]
    try:
        assert wait_until(lambda: sum(driver.poll() is None for driver in drivers) == 1, 200)
        (winner,) = (driver for driver in drivers if driver.poll() is None)
        assert winner.stdout.readline() == "locked\n"
    finally:
        for driver in drivers:
            driver.kill()
            driver.communicate()
