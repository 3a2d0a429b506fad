"""Keep one program from outliving the process that started it.

Run as ``python -I -S supervisor.py [OPTION VALUE]... -- COMMAND...`` with a pipe as standard
input. The starter holds the other end: when it writes STOP there, or dies by any signal at all,
the read here ends, and the program is stopped with everything it started. INTERRUPT is passed on as
SIGINT, and nothing else happens.

A second process, the guard, covers the case that starter and supervisor are killed at the same
time: it waits for the death of both, then kills what is left. Apptainer's containers would stay
otherwise, because they do not die with their parent.

``--grace SECONDS`` is the time between SIGTERM and SIGKILL. ``--remove GLOB`` is deleted once the
program is gone, ``--orphaned GLOB`` only if the starter has died. In ``--sweep FOLDER`` is deleted
then what processes of this user have left that were killed. The program enters the namespaces that
are open as the files ``--namespace FILE``, in this order.

Standard library only, and few imports: one of these starts before every measurement.
"""

import contextlib
import ctypes
import fcntl
import glob
import os
import select
import shutil
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
STOP = b"stop"
INTERRUPT = b"interrupt"
MARK = "HPCBENCH_PROGRAM"
"""A variable in the environment of a program and of all that it starts: they are found by it."""
GUARD = "hpcbench-guard"
"""The guard's name in lists of processes."""
FOLDER_PREFIX = f"hpcbench-tmp-{os.uname().nodename.partition('.')[0]}-"
"""Of folders that are locked while their process lives; other hosts may not see the lock."""
ENVIRONMENTS = "/tmp/python_env_*"  # of Triton's Python backend, whatever TMPDIR says
HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# What was read from the pipe, if anything: STOP, or b"" where the starter died.
_pipe_data: list[bytes] = []
_started_at = time.time()


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
    options, command = _parse(arguments)
    remove, orphaned, sweep = (options[name] for name in ("remove", "orphaned", "sweep"))
    libc = ctypes.CDLL(None, use_errno=True)
    # Orphans of the program are handed to this process rather than to init, so they can be found.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _start_guard(remove + orphaned, sweep)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in HANDLED:
        signal.signal(number, lambda *_: None)
    # A child that is stopped before it is the program must not lose the signal to our handlers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    child = os.fork()
    if child == 0:
        _enter([int(file) for file in options["namespace"]], libc)
        _exec_program(command, libc, before)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        code = _wait(child, wake_read)
        if code is None:
            code = _stop(child, float(options["grace"][-1]))
    finally:
        _kill_descendants()
        _clean_up(remove + (orphaned if _starter_died() else []), sweep)
    return code


def _starter_died() -> bool:
    """Whether the other end of the pipe was closed without a STOP."""
    if not _pipe_data and select.select([0], [], [], 0)[0]:
        _pipe_data.append(os.read(0, 512))
    return bool(_pipe_data) and STOP not in _pipe_data[0]


def _parse(arguments: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The values of each option, and the command."""
    names = ("remove", "orphaned", "sweep", "namespace")
    options: dict[str, list[str]] = {"grace": ["5"], **{name: [] for name in names}}
    end = arguments.index("--")
    for option, value in zip(arguments[:end:2], arguments[1:end:2], strict=True):
        if option[2:] not in options:
            raise SystemExit(f"supervisor: unknown option {option}")
        options[option[2:]].append(value)
    return options, arguments[end + 1 :]


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


def _start_guard(patterns: list[str], sweep: list[str]) -> None:
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
    _clean_up(patterns, sweep)
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
        environments = {pid: _read(f"/proc/{pid}/environ") for pid in _pids() if pid != own}
        if not _kill([pid for pid, text in environments.items() if wanted in text.split(b"\0")]):
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
    return (
        _own(pid)
        and _name(pid).startswith((b"squashfuse", b"fuse-overlayfs"))
        and b"/mnt/session/" in _read(f"/proc/{pid}/cmdline")
    )


def _own(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}").st_uid == os.getuid()
    return False


def _is_apptainer(pid: int) -> bool:
    # The title of the process that waits for a container is "Apptainer runtime parent".
    title = _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ")
    return _name(pid).startswith(b"starter") or title.partition(b" ")[2].startswith(
        b"runtime parent"
    )


def _name(pid: int) -> bytes:
    return _read(f"/proc/{pid}/comm").strip()


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""


def _parent(pid: int) -> int:
    """The parent's id; 0 where the process is gone."""
    after_name = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(after_name[1]) if after_name else 0


def _kill(pids: list[int]) -> bool:
    """Send SIGKILL to each; return whether there was any."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _wait(child: int, wake: int) -> int | None:
    """The child's exit code, or None once it is to be stopped."""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            numbers = os.read(wake, 512)
            if (code := _reap(child)) is not None:
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
            if (code := _reap(child)) is not None:
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
    # Children of what is killed come to this process, so there may be new ones each time.
    for _ in range(100):
        if not _kill([pid for pid in _pids() if _parent(pid) == os.getpid()]):
            return
        time.sleep(0.01)
        _reap(-1)


def _clean_up(patterns: list[str], sweep: list[str]) -> None:
    for pattern in patterns:
        delete(pattern)
    for folder in sweep:
        remove_abandoned(folder)


def delete(pattern: str) -> None:
    """Delete files and folders, if they are there.

    Parameters
    ----------
    pattern
        A path with wildcards.
    """
    for path in glob.glob(pattern):
        if os.path.isdir(path) and not os.path.islink(path):
            _delete_folder(path)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _delete_folder(path: str) -> None:
    # Images have folders in which not even their owner may write.
    for place, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            os.chmod(place, 0o700)
    shutil.rmtree(path, ignore_errors=True)


def remove_abandoned(parent: str) -> None:
    """Delete what processes of this user on this host have left that were killed.

    Parameters
    ----------
    parent
        The folder with temporary folders.
    """
    for path in glob.glob(os.path.join(glob.escape(parent), f"{FOLDER_PREFIX}*")):
        # Where its process lives, or this file system has no locks, it stays.
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            stack.callback(os.close, folder)
            if os.fstat(folder).st_uid == os.getuid():
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _delete_folder(path)
    _remove_environments()


def _remove_environments() -> None:
    """Delete the empty folders that Triton's Python backend has left."""
    servers = [_started(pid) for pid in _pids() if _name(pid) == b"tritonserver" and _own(pid)]
    for path in glob.glob(ENVIRONMENTS):
        # It may be gone meanwhile, or have an environment in it.
        with contextlib.suppress(OSError):
            found = os.lstat(path)
            made = found.st_mtime
            # A server that cannot be seen from here may own one that is neither so young nor old.
            known = made > _started_at - 1 or made < time.time() - 3600
            if known and found.st_uid == os.getuid() and made < min(servers, default=1e99):
                os.rmdir(path)


def _started(pid: int) -> float:
    """When a process started, in seconds since the epoch; now, where it is gone."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + int(fields[19]) / os.sysconf("SC_CLK_TCK") if fields else time.time()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
