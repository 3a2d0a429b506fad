"""The namespaces of the box: made, found again, entered, ended."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from paths import (
    CHECKOUT,
    HERE,
    NATIVE,
    RESULTS,
    STRANGER,
    STRANGER_ID,
    USER,
    USER_ID,
    BoxError,
    Places,
    tail,
)

NAMESPACES = ("mnt", "uts", "ipc", "net", "pid")
PATH = "/opt/venv/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
INSIDE = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root"}
UNSHARE = ["unshare", "--kill-child", "--fork", "--pid", "--mount", "--uts", "--ipc"]
UNSHARE += ["--propagation", "private"]
# A build ends with the command that wanted it, however that ends: the next one begins alone.
BUILDING = ["setpriv", "--pdeathsig", "KILL", "--", *UNSHARE]


def init_command(places: Places, binds: Path, command: list[str]) -> list[str]:
    """What makes the root folder the world of ``command``."""
    folders = [places.root, CHECKOUT, RESULTS, NATIVE, places.home, places.logs, binds]
    return ["sh", str(HERE / "inside" / "init.sh"), *map(str, folders), *command]


@contextlib.contextmanager
def built_in(places: Places, binds: list[Path]) -> Iterator[list[str]]:
    """A command's beginning that runs it in the root folder, with this machine's network."""
    with tempfile.NamedTemporaryFile("w", prefix="hpcbench-box-", encoding="utf-8") as file:
        file.write("".join(f"{path}\n" for path in binds))
        file.flush()
        yield [*BUILDING, *init_command(places, Path(file.name), [])]


def _started_at(pid: int) -> str | None:
    """The clock tick at which a process began: with its number it names one process for good."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def first_process(places: Places) -> int | None:
    """The first process of the box, or None where none runs."""
    try:
        known = json.loads(places.running.read_text())
        pid, started = int(known["pid"]), str(known["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if _started_at(pid) == started else None


def _child_of(pid: int) -> int | None:
    command = ["ps", "-o", "pid=", "--ppid", str(pid)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(found.stdout.split()[0]) if found.stdout.strip() else None


def begin(places: Places) -> None:
    """Starts the empty box: its namespaces, its folders, and the process that holds them."""
    log = places.logs / "box-init.log"
    binds = places.home / "binds"
    binds.write_text("")
    command = [*UNSHARE, "--net"]
    command += init_command(places, binds, ["tini", "-g", "--", "sleep", "infinity"])
    with log.open("wb") as output:
        holder = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={"PATH": os.environ["PATH"]},
            cwd="/",
        )
    for _ in range(1200):
        child = _child_of(holder.pid)
        started = _started_at(child) if child else None
        if started is not None:
            # Known before it is complete: whatever comes now, `down` can end it.
            places.running.write_text(json.dumps({"pid": child, "started": started}))
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text().strip() == "tini":
                    return
        if holder.poll() is not None:
            break
        time.sleep(0.05)
    end(places)
    raise BoxError(
        "this machine does not let the box make its own world (it takes a real root, with the "
        f"right to mount); {log} ends with:\n{tail(log)}"
    )


def end(places: Places) -> bool:
    """Kills the first process of the box, and with it all others; whether one was there."""
    pid = first_process(places)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        # It is gone only when every process of its namespace is.
        deadline = time.monotonic() + 120
        while first_process(places) is not None:
            if time.monotonic() > deadline:
                raise BoxError(f"process {pid}, the box's first, is still there after a kill -9")
            time.sleep(0.02)
    places.running.unlink(missing_ok=True)
    return pid is not None


def require(places: Places) -> int:
    """The first process of the box that runs."""
    pid = first_process(places)
    if pid is None:
        raise BoxError("the box is not running; start it: tests/box/box up")
    return pid


def environment(name: str = USER) -> dict[str, str]:
    """What a user's command inside finds: a login's own, and what names this project's things."""
    home = "/root" if name == "root" else f"/home/{name}"
    env = {key: os.environ[key] for key in ("TERM", "COLUMNS", "LINES") if key in os.environ}
    env |= {key: value for key, value in os.environ.items() if key.startswith("HPCBENCH_")}
    env.pop("HPCBENCH_BOX", None)
    return env | {
        "HOME": home,
        "USER": name,
        "LOGNAME": name,
        "SHELL": "/bin/bash",
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HPCBENCH_NATIVE": "/opt/native",
        # The checkout cannot be written inside.
        "PYTHONPYCACHEPREFIX": f"{home}/.cache/python",
    }


def _enter(pid: int) -> None:
    """Moves this process into the box's namespaces; its children will be processes of the box."""
    libc = ctypes.CDLL(None, use_errno=True)
    # All are opened first: behind the first step, /proc is another one.
    files = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in NAMESPACES]
    for name, file in zip(NAMESPACES, files, strict=True):
        if libc.setns(file, 0):
            raise BoxError(f"cannot enter the box ({name}): {os.strerror(ctypes.get_errno())}")
        os.close(file)


def run(pid: int, command: list[str], name: str = USER) -> int:
    """Runs a command in the box as one of its users, in the project's folder; gives its exit code.

    Input and output are the caller's own. The command gets this process's signals, and does not
    outlive it.
    """
    env = environment(name)
    number = str({"root": 0, USER: USER_ID, STRANGER: STRANGER_ID}[name])
    become = ["--reuid", number, "--regid", number]
    become.append("--clear-groups" if name == "root" else "--init-groups")
    _enter(pid)
    os.chdir(CHECKOUT)
    words = ["setpriv", *become, "--pdeathsig", "KILL", "--", *command]
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in caught}
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, _frame: object) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    # A terminal's Ctrl-C reaches the command by itself: it is in the same process group.
    for number in caught:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, forward)
    if os.isatty(0):
        signal.signal(signal.SIGINT, lambda *_: None)
    child = subprocess.Popen(words, env=env, executable="/usr/bin/setpriv")
    for number in early:
        child.send_signal(number)
    code = child.wait()
    return 128 - code if code < 0 else code


def inside_command(pid: int, command: list[str]) -> list[str]:
    """A command line that runs one of the box's own commands as root."""
    enter = ["nsenter", "--target", str(pid), "--mount", "--uts", "--ipc", "--net", "--pid"]
    return [*enter, "--", *command]


def inside(pid: int, command: list[str], timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a command of the box's own as root; gives what it printed."""
    return subprocess.run(
        inside_command(pid, command),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=INSIDE,
    )
