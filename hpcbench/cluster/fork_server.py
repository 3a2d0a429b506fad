"""The process that local workers are forked from.

A new Python needs about a second of CPU time to import what a worker needs. multiprocessing's fork
server does that once, beside the driver, which imports and plans meanwhile; a worker that is forked
from it starts and ends within a tenth of a second. This module does not import Dask, so that the
command line can start the server before it imports anything that takes long.
"""

import contextlib
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import tempfile
import threading
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import forkserver

import psutil

from hpcbench.runtime.temporary import temporary_folder

_PRELOADED = ["hpcbench.cluster.preloaded"]
"""Not ``__main__``, which is there by default: a user's script would run once more."""

_LONGEST_FOLDER = 70
"""In it come two more names, and a socket's path has at most 107 characters."""

_SAFE_PATH = "PYTHONSAFEPATH"


def start_fork_server() -> None:
    """Start the server, unless it is running; does not wait until it has imported anything."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOADED)
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may change what a signal does.
        _ensure_running()
        return
    # Ctrl-C in a terminal reaches the server and the workers, too. The driver is to stop them in
    # order; the server would print a traceback. What is ignored stays ignored in a new program.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _ensure_running() -> None:
    # It is started by "python -c", which looks for modules in the working folder first. That may be
    # anybody's: PYTHONSAFEPATH keeps it out.
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def delete_sockets_of_killed() -> None:
    """Let multiprocessing keep its sockets where they are deleted if this process is killed.

    The folder is there until this process ends: for a command, not for a user's program.
    """
    stack = ExitStack()
    folder = stack.enter_context(temporary_folder())
    # After multiprocessing's own, of -100, which wants to find its folder there.
    multiprocessing.util.Finalize(None, stack.close, exitpriority=-200)
    if len(str(folder)) > _LONGEST_FOLDER:
        return
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        multiprocessing.util.get_temp_dir()
    finally:
        tempfile.tempdir = before


@contextmanager
def hidden_main_module() -> Iterator[None]:
    """Hide the user's script from new worker processes, which would else run it once more.

    Python's multiprocessing imports the main module in each process that it spawns. Tasks name
    functions of hpcbench only, so that workers need nothing of the script.

    Yields
    ------
    None
        The script is back when the block is left.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def fork_server() -> Iterator[None]:
    """Run the server while the block lasts; start it before the block if that saves time.

    Yields
    ------
    None
        Workers can be forked now.
    """
    start_fork_server()
    try:
        yield
    finally:
        _stop_fork_server()


def _stop_fork_server() -> None:
    """End the server, so that workers of a later run have the environment variables of that time.

    All workers have ended by now. The server is killed, because an orderly end of a Python that
    has imported this much takes longer than a worker's.
    """
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any("multiprocessing.forkserver" in word for word in child.cmdline()):
                child.kill()
                # Dead, and not collected: Python does that before it starts the next one.
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
