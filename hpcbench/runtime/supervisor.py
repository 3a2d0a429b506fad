"""Keep one program from outliving the process that started it.

Run as ``python -I -S supervisor.py [OPTION VALUE]... -- COMMAND...`` with a pipe as standard
input. The starter holds the other end: when it writes STOP there, or dies by any signal at all,
the read here ends, and the program is stopped with everything it started. INTERRUPT is passed on as
SIGINT, and nothing else happens.

A second process, the guard, covers the case that starter and supervisor are killed at the same
time: it waits for the death of both, then kills what is left. Apptainer's containers would stay
otherwise, because they do not die with their parent.

``--grace SECONDS`` is the time between SIGTERM and SIGKILL. ``--remove GLOB`` is deleted once the
program is gone, ``--orphaned GLOB`` only if the starter has died. The program enters the namespaces
that are open as the files ``--namespace FILE``, in this order.

Standard library only, and few imports: one of these starts before every measurement. It exits
with the program's own code, or 128 plus the signal that ended it.
"""

import ctypes
import glob
import os
import select
import shutil
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STOP = b"stop"
INTERRUPT = b"interrupt"
MARK = "HPCBENCH_PROGRAM"
"""A variable in the environment of a program and of all that it starts: they are found by it."""
GUARD = "hpcbench-guard"
"""The guard's name in lists of processes."""
HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# What was read from the pipe, if anything: STOP, or b"" where the starter died.
_pipe_data: list[bytes] = []


def main(arguments: list[str]) -> int:
    """Run a program to its end, or stop it when the starter asks or dies.

    Parameters
    ----------
    arguments
        The command line without the program's own name.

    Returns
    -------
    int
        The program's exit code, or 128 plus the signal that ended it.
    """
    grace_s, remove, orphaned, namespaces, command = _parse(arguments)
    libc = ctypes.CDLL(None, use_errno=True)
    # Orphans of the program are handed to this process rather than to init, so they can be found.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _start_guard(remove + orphaned)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in HANDLED:
        signal.signal(number, lambda *_: None)
    # A child that is stopped before it is the program must not lose the signal to our handlers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    child = os.fork()
    if child == 0:
        _enter(namespaces, libc)
        _exec_program(command, libc, before)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        code = _wait(child, wake_read)
        if code is None:
            code = _stop(child, grace_s)
    finally:
        _kill_descendants()
        for pattern in remove + (orphaned if _starter_died() else []):
            delete(pattern)
    return code


def _starter_died() -> bool:
    """Whether the other end of the pipe was closed without a STOP."""
    if not _pipe_data and select.select([0], [], [], 0)[0]:
        _pipe_data.append(os.read(0, 512))
    return bool(_pipe_data) and STOP not in _pipe_data[0]


def _parse(arguments: list[str]) -> tuple[float, list[str], list[str], list[int], list[str]]:
    grace_s = 5.0
    remove: list[str] = []
    orphaned: list[str] = []
    namespaces: list[int] = []
    position = 0
    while arguments[position] != "--":
        option, value = arguments[position : position + 2]
        if option == "--grace":
            grace_s = float(value)
        elif option == "--remove":
            remove.append(value)
        elif option == "--orphaned":
            orphaned.append(value)
        elif option == "--namespace":
            namespaces.append(int(value))
        else:
            raise SystemExit(f"supervisor: unknown option {option}")
        position += 2
    return grace_s, remove, orphaned, namespaces, arguments[position + 1 :]


def _enter(namespaces: list[int], libc: ctypes.CDLL) -> None:
    """Enter namespaces, before there is any other thread: a user namespace takes one only."""
    for file in namespaces:
        if libc.setns(file, 0):
            os.write(2, f"cannot enter a namespace: {os.strerror(ctypes.get_errno())}\n".encode())
            os._exit(127)
        os.close(file)


def _exec_program(command: list[str], libc: ctypes.CDLL, mask: set[int | signal.Signals]) -> None:
    parent = os.getppid()
    # A group of its own: one killpg reaches the program and what it starts in the usual way.
    os.setsid()
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # A parent that died before the line above sends no signal any more.
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    # Python ignores these two, and an ignored signal stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _start_guard(patterns: list[str]) -> None:
    """Start the guard. It is a child like any other, and killed last if this process lives."""
    # Nobody writes into this pipe. Only this process holds the writing end, so the guard's read
    # ends when this process is dead.
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(read_end)
        return
    os.close(write_end)
    os.setsid()
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)
    _rename_process(GUARD)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.read(read_end, 1)
    # While the starter lives, it does the work itself, and kills this process as one of the marked.
    while os.read(0, 512):
        pass
    kill_marked(os.environ[MARK])
    for pattern in patterns:
        delete(pattern)
    # An image server becomes an orphan a little after its container has died.
    for pause_s in (0.0, 0.2, 0.8, 3.0):
        time.sleep(pause_s)
        if not kill_orphaned_image_servers():
            break
    os._exit(0)


def _rename_process(name: str) -> None:
    """Write over the command line, where ps reads it."""
    with open("/proc/self/stat") as stat:
        # A program's name, in parentheses, may itself have spaces and parentheses.
        fields = stat.read().rpartition(")")[2].split()
    # arg_start and arg_end: fields 48 and 49 of proc(5), in which the state, first here, is third.
    start, end = int(fields[45]), int(fields[46])
    ctypes.memmove(start, name.encode().ljust(end - start, b"\0")[: end - start], end - start)


def kill_marked(mark: str) -> None:
    """Kill the processes of a program, again until there are no new ones.

    Parameters
    ----------
    mark
        The value of `MARK` in their environment.
    """
    wanted = f"{MARK}={mark}".encode()
    own = os.getpid()
    for _ in range(100):
        if not _kill([pid for pid in _pids() if pid != own and wanted in _environment(pid)]):
            return
        time.sleep(0.05)


def kill_orphaned_image_servers() -> bool:
    """Kill the programs of this user that serve an image (squashfuse) to no container.

    Apptainer starts one for each image, in another process group. It outlives a container whose
    parent was killed, and nothing in its environment says whose it was. But one that is no longer
    a child of Apptainer serves nobody.

    Returns
    -------
    bool
        Whether this user has programs that serve images, orphaned or not.
    """
    serving = [pid for pid in _pids() if _serves_an_image(pid)]
    _kill([pid for pid in serving if not _is_apptainer(_parent(pid))])
    return bool(serving)


def _serves_an_image(pid: int) -> bool:
    try:
        own = os.stat(f"/proc/{pid}").st_uid == os.getuid()
    except OSError:
        return False
    return (
        own
        and _name(pid).startswith((b"squashfuse", b"fuse-overlayfs"))
        and b"/mnt/session/" in _read(f"/proc/{pid}/cmdline")
    )


def _is_apptainer(pid: int) -> bool:
    # The title of the process that waits for a container is "Apptainer runtime parent".
    title = _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ")
    return _name(pid).startswith(b"starter") or title.partition(b" ")[2].startswith(
        b"runtime parent"
    )


def _name(pid: int) -> bytes:
    return _read(f"/proc/{pid}/comm").strip()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    """The parent's id; 0 where the process is gone."""
    after_name = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(after_name[1]) if after_name else 0


def _kill(pids: list[int]) -> bool:
    """Send SIGKILL to each; return whether there was any."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    return bool(pids)


def _environment(pid: int) -> list[bytes]:
    return _read(f"/proc/{pid}/environ").split(b"\0")


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _wait(child: int, wake: int) -> int | None:
    """The child's exit code, or None once it is to be stopped."""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            numbers = os.read(wake, 512)
            code = _reap(child)
            if code is not None:
                return code
            if any(number != signal.SIGCHLD for number in numbers):
                return None
        if 0 in ready:
            data = os.read(0, 512)
            if INTERRUPT in data:
                _signal_group(child, signal.SIGINT)
            # Both may have been written before this read.
            if not data or STOP in data:
                _pipe_data.append(data)
                return None


def _reap(child: int) -> int | None:
    """Collects every child that has ended; the code of ``child`` if it was among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else 128 - ended  # as a shell reports a signal


def _stop(child: int, grace_s: float) -> int:
    for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        _signal_group(child, number)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            code = _reap(child)
            if code is not None:
                return code
            time.sleep(0.01)
    return 128 + signal.SIGKILL


def _signal_group(child: int, number: signal.Signals) -> None:
    try:
        os.killpg(child, number)
    except ProcessLookupError:
        # It has no group of its own yet.
        os.kill(child, number)


def _kill_descendants() -> None:
    """Kill what the program left behind, whatever group or session it has moved to."""
    own = os.getpid()
    # Children of what is killed come to this process, so there may be new ones each time.
    for _ in range(100):
        if not _kill(_children(own)):
            return
        time.sleep(0.01)
        _reap(-1)


def _children(parent: int) -> list[int]:
    return [pid for pid in _pids() if _parent(pid) == parent]


def delete(pattern: str) -> None:
    """Delete files and folders, if they are there.

    Parameters
    ----------
    pattern
        A path with wildcards.
    """
    for path in glob.glob(pattern):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            try:
                os.unlink(path)
            except OSError:
                pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
