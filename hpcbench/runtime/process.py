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
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hpcbench.errors import Interrupted
from hpcbench.runtime import supervisor
from hpcbench.runtime.affinity import on_cpus

log = logging.getLogger(__name__)

GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL, unless a caller asks for others."""

MARK = supervisor.MARK
# A container's processes get the mark by the other two. They need it: Apptainer forgets that it is
# to die with its parent, and the environment that it was started with, when it changes its user
# namespace.
_MARKS = (MARK, f"APPTAINERENV_{MARK}", f"SINGULARITYENV_{MARK}")

_live: set["RunningProgram"] = set()
_stopped = threading.Event()


@dataclass(frozen=True)
class Command:
    """A command line and what belongs to it.

    Attributes
    ----------
    argv
        The program and its arguments.
    env
        Added to this process's environment.
    remove
        Paths, with wildcards, to delete once the program has ended.
    cpus
        The CPUs that it may use, with all that it starts; empty for those of this process.
    sweep
        Folders in which to delete what killed processes have left, once the program has ended.
    namespaces
        Open files of the namespaces that it enters; none for those of this process.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    remove: Sequence[str] = ()
    cpus: Sequence[int] = ()
    sweep: Sequence[str] = ()
    namespaces: Sequence[int] = ()


@dataclass(frozen=True)
class FinishedProgram:
    """How a program ended.

    Attributes
    ----------
    returncode
        Its exit code; 128 + signal where a signal ended it.
    stdout, stderr
        What it printed.
    seconds
        How long it ran.
    timed_out
        Whether it was killed because its time was over.
    """

    returncode: int
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool


def stop_all() -> None:
    """Stop every program of this process, and let it start no other: Interrupted instead."""
    _stopped.set()
    # A copy: another thread may leave its `with` block meanwhile.
    for program in list(_live):
        program.release()


def running_pids() -> list[int]:
    """Return the processes from which the programs of this process descend.

    Returns
    -------
    list of int
        The process ids of their supervisors.
    """
    return [program.pid for program in list(_live)]


def _check_not_stopped() -> None:
    if _stopped.is_set():
        raise Interrupted("the run was interrupted")


class RunningProgram:
    """A program that runs beside this one.

    Parameters
    ----------
    popen
        Its supervisor.
    """

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen

    @property
    def pid(self) -> int:
        """The process id of its supervisor, from which all its processes descend."""
        return self._popen.pid

    def poll(self) -> int | None:
        """Return whether the program has ended.

        Returns
        -------
        int or None
            The exit code; None while the program runs.

        Raises
        ------
        Interrupted
            Where `stop_all` ended the program.
        """
        code = self._popen.poll()
        _check_not_stopped()
        return code

    def wait(self, timeout_s: float | None) -> int | None:
        """Wait for the end of the program.

        Parameters
        ----------
        timeout_s
            How long at most, in seconds; None for ever.

        Returns
        -------
        int or None
            The exit code; None if the program still runs.

        Raises
        ------
        Interrupted
            Where `stop_all` ended the program.
        """
        try:
            code = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        _check_not_stopped()
        return code

    def interrupt(self) -> None:
        """Send the program a SIGINT. Do not wait for what it does then."""
        self._order(supervisor.INTERRUPT)

    def release(self) -> None:
        """Ask the supervisor to stop the program. Do not wait for it."""
        self._order(supervisor.STOP)

    def _order(self, order: bytes) -> None:
        if self._popen.stdin is not None and not self._popen.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._popen.stdin.write(order)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop the program and whatever it started; return when all of it is gone.

        Parameters
        ----------
        grace_s
            Seconds between SIGTERM and SIGKILL.
        """
        self.release()
        try:
            # The supervisor needs a little longer than the program that it stops.
            self._popen.wait(grace_s + 10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


@contextmanager
def running(
    command: Command,
    *,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    cwd: Path | None = None,
    grace_s: float = GRACE_S,
    orphaned: Sequence[str] = (),
) -> Iterator[RunningProgram]:
    """Run a program while the ``with`` block lasts; stop it when the block is left.

    Parameters
    ----------
    command
        The program.
    stdout, stderr
        Where its output goes: open files, or constants of `subprocess`.
    cwd
        Its working folder; this process's by default.
    grace_s
        Seconds between SIGTERM and SIGKILL.
    orphaned
        Paths, with wildcards, to delete only where this process has died and cannot do it itself.

    Yields
    ------
    RunningProgram
        The program.

    Raises
    ------
    Interrupted
        Where `stop_all` was called before.
    """
    _check_not_stopped()
    log.debug("starting: %s", shlex.join(command.argv))
    mark = uuid.uuid4().hex
    options = [word for path in command.remove for word in ("--remove", path)]
    options += [word for path in orphaned for word in ("--orphaned", path)]
    options += [word for path in command.sweep for word in ("--sweep", path)]
    options += [word for file in command.namespaces for word in ("--namespace", str(file))]
    with on_cpus(command.cpus):
        popen = subprocess.Popen(
            [
                # Isolated and without site-packages: it starts sooner, and imports nothing of a
                # user's.
                *(sys.executable, "-I", "-S", supervisor.__file__),
                *("--grace", str(grace_s), *options, "--", *command.argv),
            ],
            stdin=subprocess.PIPE,
            bufsize=0,
            pass_fds=command.namespaces,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env={**_undisturbed(os.environ), **command.env, **dict.fromkeys(_MARKS, mark)},
            # Ctrl-C in a terminal goes to this process alone, which then stops programs in order.
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
            # The supervisor was killed: nobody else would end what its program has started.
            supervisor.kill_marked(mark)
            for pattern in command.remove:
                supervisor.delete(pattern)
            for folder in command.sweep:
                supervisor.remove_abandoned(folder)
        if popen.stdin is not None:
            # Not earlier: the guard of a killed supervisor takes it for the death of this process.
            popen.stdin.close()


def run(command: Command, *, folder: Path, timeout_s: float) -> FinishedProgram:
    """Run a program to its end, or kill it when its time is over.

    Parameters
    ----------
    command
        The program.
    folder
        Its working folder. Output goes to files there, so that the output of a hung or huge
        program is neither lost nor held in memory. If this process dies, the folder is deleted.
    timeout_s
        How long it may run, in seconds.

    Returns
    -------
    FinishedProgram
        How it ended. One that could not be started has the code 127.

    Raises
    ------
    Interrupted
        Where `stop_all` ended the program, or was called before.
    """
    paths = folder / "stdout.txt", folder / "stderr.txt"
    started = time.monotonic()
    with (
        paths[0].open("wb") as stdout,
        paths[1].open("wb") as stderr,
        running(
            command,
            stdout=stdout,
            stderr=stderr,
            cwd=folder,
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


def _undisturbed(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what would change a measurement unnoticed.

    All that is started here talks to the loopback, which no proxy reaches. Variables of Apptainer
    and Podman can bind folders and set variables in every container.
    """
    proxies = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
    runtimes = ("APPTAINER", "SINGULARITY", "PODMANHPC", "CONTAINERS_", "CONTAINER_")
    return {
        name: value
        for name, value in environment.items()
        if name.lower() not in proxies and not name.startswith(runtimes)
    }


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
        # Not lockf: POSIX drops such a lock when this process closes any descriptor of the file.
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True
