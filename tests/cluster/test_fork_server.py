"""The process that local workers are forked from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from multiprocessing import Pipe, forkserver, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest

from hpcbench.cluster.fork_server import fork_server, hidden_main_module, start_fork_server
from hpcbench.runtime.temporary import sweep
from tests.helpers.waiting import wait_until


def _describe(answer: Connection) -> None:
    """Say what a forked process has: its parent, whether a worker is imported, SIGINT's handler."""
    imported = "hpcbench.cluster.worker" in sys.modules
    answer.send((os.getppid(), imported, signal.getsignal(signal.SIGINT) is signal.SIG_IGN))


def _forked() -> tuple[int, bool, bool]:
    ours, theirs = Pipe()
    process = get_context("forkserver").Process(target=_describe, args=(theirs,))
    process.start()
    answer: tuple[int, bool, bool] = ours.recv()
    process.join()
    return answer


def _server() -> int:
    """The server's process id, as Python keeps it."""
    number: int = forkserver._forkserver._forkserver_pid
    return number


def test_a_forked_process_has_imported_what_a_worker_needs() -> None:
    with fork_server():
        parent, imported, _ = _forked()
        assert (parent, imported) == (_server(), True)


def test_it_is_started_once_and_gone_when_the_block_is_left() -> None:
    start_fork_server()
    server = _server()
    with fork_server():
        assert _server() == server
    # Python collects it when it starts the next one.
    assert psutil.Process(server).status() == psutil.STATUS_ZOMBIE
    with fork_server():
        assert _server() != server


def test_ctrl_c_ends_neither_the_server_nor_what_it_forks() -> None:
    """The driver is to stop them in order."""
    before = signal.getsignal(signal.SIGINT)
    with fork_server():
        os.kill(_server(), signal.SIGINT)
        parent, _, ignores = _forked()
        assert (parent, ignores) == (_server(), True)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_in_another_thread_can_start_it_too() -> None:
    started: list[int] = []

    def run() -> None:
        with fork_server():
            started.append(_server())

    thread = threading.Thread(target=run)
    thread.start()
    assert wait_until(lambda: bool(started))
    thread.join()


def test_a_new_process_finds_no_main_module_to_run_again() -> None:
    script = sys.modules["__main__"]
    with hidden_main_module():
        spec = sys.modules["__main__"]
        assert spec is not script
        assert getattr(spec, "__file__", None) is None, "multiprocessing would run it"
    assert sys.modules["__main__"] is script


def test_a_module_in_the_working_folder_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    for name in ("selectors", "multiprocessing", "psutil"):
        (tmp_path / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write(__name__)")
    monkeypatch.chdir(tmp_path)
    before = os.environ.copy()
    with fork_server():
        _forked()
    assert not ran.exists()
    assert os.environ == before


STARTS_ONE = """
import sys, time
from hpcbench.cluster import fork_server
fork_server.delete_sockets_of_killed()
fork_server.start_fork_server()
print("started", flush=True)
time.sleep(300 if sys.argv[1] == "killed" else 0)
"""


@pytest.mark.parametrize("end", ["killed", "orderly"])
def test_its_sockets_are_deleted_also_after_a_killed_driver(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        program = subprocess.Popen(
            [sys.executable, "-c", STARTS_ONE, end],
            env=os.environ | {"TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert program.stdout is not None
        assert program.stdout.readline() == "started\n"
        if end == "killed":
            assert list(Path(folder).glob("*/pymp-*/listener-*"))
            program.kill()
            program.communicate(timeout=240)
            monkeypatch.setattr(tempfile, "tempdir", folder)
            sweep()
        else:
            assert program.communicate(timeout=240) == ("", "")
        assert list(Path(folder).iterdir()) == []
