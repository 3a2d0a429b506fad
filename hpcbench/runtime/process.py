"""Start other programs and stop them with all that they started; locks that end with a process.

Every program runs under `supervisor.py`, which sees by the closing of a pipe that this process
has died, even by SIGKILL, and then ends the program. No other module of hpcbench starts a program.
"""

import contextlib
import fcntl
import glob
import logging
import os
import shlex
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hpcbench.errors import Interrupted
from hpcbench.runtime import supervisor

log = logging.getLogger(__name__)

GRACE_S = 5.0
MARK = supervisor.MARK
MARKS = (MARK, f"APPTAINERENV_{MARK}", f"SINGULARITYENV_{MARK}")
"""A container's processes get it by these. They must: Apptainer forgets that it is to die with its
parent when it changes its user namespace, and the environment that it was started with."""

_live: set["RunningProgram"] = set()
_stopped = threading.Event()


def stop_all() -> None:
    """Ends every program of this process, and lets it start no other: Interrupted instead."""
    _stopped.set()
    for program in list(_live):
        program.release()


def _check_not_stopped() -> None:
    if _stopped.is_set():
        raise Interrupted("the run was interrupted")


@dataclass(frozen=True)
class FinishedProgram:
    """How a program ended. ``returncode`` is 128 + signal where a signal ended it."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool


class RunningProgram:
    """A program that runs beside this one."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen

    def poll(self) -> int | None:
        """The exit code, or None while the program runs."""
        code = self._popen.poll()
        _check_not_stopped()
        return code

    def wait(self, timeout_s: float | None) -> int | None:
        """The exit code, or None if the program still runs after ``timeout_s`` seconds.

        Raises Interrupted where `stop_all` ended the program meanwhile.
        """
        try:
            code = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        _check_not_stopped()
        return code

    def release(self) -> None:
        """Lets the supervisor know that the program is to end; does not wait for it."""
        if self._popen.stdin is not None and not self._popen.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._popen.stdin.write(supervisor.STOP)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Ends the program and whatever it started; returns when all of it is gone."""
        self.release()
        try:
            self._popen.wait(grace_s + 10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


@contextmanager
def running(
    argv: Sequence[str],
    *,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    grace_s: float = GRACE_S,
    remove: Sequence[str] = (),
    orphaned: Sequence[str] = (),
) -> Iterator[RunningProgram]:
    """The program while the ``with`` block lasts; it is stopped when the block is left.

    ``env`` is added to this process's environment. ``remove`` are paths, with wildcards, that
    are deleted once the program is gone; ``orphaned`` those that are deleted only where this
    process has died meanwhile and can no longer do it.
    """
    _check_not_stopped()
    log.debug("starting: %s", shlex.join(argv))
    mark = uuid.uuid4().hex
    options = [word for path in remove for word in ("--remove", path)]
    options += [word for path in orphaned for word in ("--orphaned", path)]
    popen = subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", supervisor.__file__),
            *("--grace", str(grace_s), *options, "--", *argv),
        ],
        stdin=subprocess.PIPE,
        bufsize=0,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        env={**_undisturbed(os.environ), **(env or {}), **dict.fromkeys(MARKS, mark)},
        start_new_session=True,
    )
    program = RunningProgram(popen)
    _live.add(program)
    try:
        yield program
    finally:
        program.stop(grace_s)
        _live.discard(program)
        if popen.returncode < 0:
            _do_the_supervisors_work(mark, remove)
        if popen.stdin is not None:
            # Not before: to the guard of a supervisor that was killed it means that we are, too.
            popen.stdin.close()


def lock_until_closed(file: int | IO[Any], *, wait: bool = True, shared: bool = False) -> bool:
    """Lock an open file or folder among processes, until it is closed or this process ends.

    Parameters
    ----------
    file
        A file, or the descriptor of a file or folder.
    wait
        Whether to wait for a process that holds the lock.
    shared
        Whether other processes may hold a shared lock at the same time.

    Returns
    -------
    bool
        False where the file system has no locks: some shared ones are mounted without.

    Raises
    ------
    BlockingIOError
        Where another process holds the lock and ``wait`` is false.
    """
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _undisturbed(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what would change a measurement behind its back.

    All that is started here talks to the loopback, which no proxy reaches; and variables of
    Apptainer can bind folders and set variables in every container.
    """
    proxies = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
    runtimes = ("APPTAINER", "SINGULARITY")
    return {
        name: value
        for name, value in environment.items()
        if name.lower() not in proxies and not name.startswith(runtimes)
    }


def _do_the_supervisors_work(mark: str, remove: Sequence[str]) -> None:
    """Ends and deletes what a killed supervisor could not: its program's own children."""
    supervisor.kill_marked(mark)
    for pattern in remove:
        supervisor.delete(pattern)


def run(
    argv: Sequence[str],
    *,
    folder: Path,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
) -> FinishedProgram:
    """Runs a program in ``folder`` to its end, or kills it after ``timeout_s`` seconds.

    ``env`` is added to this process's environment.

    What it prints goes to files there, so that the text of a hung or huge program is neither
    lost nor held in memory while it runs. The folder is deleted if this process dies meanwhile.
    """
    paths = folder / "stdout.txt", folder / "stderr.txt"
    started = time.monotonic()
    with (
        paths[0].open("wb") as stdout,
        paths[1].open("wb") as stderr,
        running(
            argv,
            stdout=stdout,
            stderr=stderr,
            cwd=folder,
            env=env,
            grace_s=0.5,
            orphaned=[glob.escape(str(folder))],
        ) as program,
    ):
        code = program.wait(timeout_s)
        seconds = time.monotonic() - started
        timed_out = code is None
        if timed_out:
            program.stop(grace_s=0.5)
            code = program.wait(None)
    texts = [path.read_text(errors="replace") for path in paths]
    return FinishedProgram(
        returncode=code if code is not None else -1,
        stdout=texts[0],
        stderr=texts[1],
        seconds=seconds,
        timed_out=timed_out,
    )
