"""The processes of a campaign in the box, seen from the machine outside."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from tests.soak.workplace import USER

_JOB = "hpcbench.cluster.start_worker"


def _is_worker(words: Sequence[str], parent: Sequence[str]) -> bool:
    """The process that measures: a child of the fork server, or of a job's watching process."""
    forked = "multiprocessing.forkserver" in " ".join(words[:4])
    if forked:
        return "multiprocessing.forkserver" in " ".join(parent[:4])
    return "spawn_main" in " ".join(words[:4]) and _JOB in parent


def _is_nanny(words: Sequence[str], parent: Sequence[str]) -> bool:
    """What watches a worker: the fork server, or a job's first Python."""
    if "multiprocessing.forkserver" in " ".join(words[:4]):
        return "run" in parent
    return _JOB in words[:6]


def _named(name: str) -> Callable[[Sequence[str], Sequence[str]], bool]:
    return lambda words, _: name in {Path(word).name for word in words[:4]}


KINDS: dict[str, Callable[[Sequence[str], Sequence[str]], bool]] = {
    "worker": _is_worker,
    "nanny": _is_nanny,
    "supervisor": _named("supervisor.py"),
    "guard": lambda words, _: words[0].startswith("hpcbench-guard"),
    "driver": lambda words, _: len(words) > 2 and Path(words[1]).name == "hpcbench",
    "Triton": lambda words, _: Path(words[0]).name == "tritonserver",
    "perf_analyzer": lambda words, _: "perf_analyzer" in {Path(word).name for word in words[:3]},
}


def in_box(first: int) -> list[psutil.Process]:
    """All processes of the box; ``first`` is its first one."""
    # A command of `box exec` is no descendant of it, and what runs on a node has another namespace.
    world = _namespace(first)
    found = {p.pid: p for p in psutil.process_iter() if _namespace(p.pid) == world}
    found |= {p.pid: p for p in psutil.Process(first).children(recursive=True)}
    return list(found.values())


def on_login(process: psutil.Process, first: int) -> bool:
    """Whether a process runs on the login node, where the driver is."""
    return _namespace(process.pid) == _namespace(first)


def number_inside(pid: int) -> int:
    """The number that the login node gives a process."""
    return int(_numbers(pid)[1]) if len(_numbers(pid)) > 1 else -1


def depth(pid: int) -> int:
    """How many namespaces a process has a number in."""
    return len(_numbers(pid))


def _numbers(pid: int) -> list[str]:
    """The numbers of a process: this machine's, the login node's, and that of its own node."""
    with contextlib.suppress(OSError, IndexError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(line for line in lines if line.startswith("NSpid:")).split()[1:]
    return []


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return f"none of {pid}"


def of_user(first: int) -> list[psutil.Process]:
    """The processes of the box's user."""
    found = []
    for process in in_box(first):
        with contextlib.suppress(psutil.Error):
            if process.uids().real == USER and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def of_kind(first: int, kind: str) -> list[psutil.Process]:
    """Those of one kind, the oldest first."""
    its = of_user(first)
    words = {}
    for process in its:
        with contextlib.suppress(psutil.Error):
            words[process.pid] = process.cmdline()
    found = []
    for process in its:
        with contextlib.suppress(psutil.Error):
            own = words.get(process.pid)
            if own and KINDS[kind](own, words.get(process.ppid(), ())):
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


def files_of_user(first: int) -> set[str]:
    """Files in /tmp and /dev/shm of all nodes of the box that are its user's."""
    roots = [first]
    for process in in_box(first):
        with contextlib.suppress(psutil.Error):
            if process.name() in ("slurmd", "condor_startd"):
                roots.append(process.pid)
    found = set()
    for pid in roots:
        for name in ("tmp", "dev/shm"):
            folder = Path(f"/proc/{pid}/root/{name}")
            with contextlib.suppress(OSError):
                device = folder.stat().st_dev
                for path in folder.iterdir():
                    with contextlib.suppress(OSError):
                        if path.lstat().st_uid == USER:
                            found.add(f"{device}:/{name}/{path.name}")
    return found


def mounts(first: int) -> list[str]:
    """What is mounted in the box."""
    text = Path(f"/proc/{first}/mountinfo").read_text()
    return sorted(line.split()[4] for line in text.splitlines())


def memory_bytes(pid: int) -> int:
    """The resident memory of a process; 0 where it is gone."""
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def signal_safely(process: psutil.Process, number: int) -> bool:
    """Send a signal; whether the process was there."""
    try:
        # psutil compares the time of birth: never another process of the same number.
        process.send_signal(number)
    except (psutil.Error, OSError):
        return False
    return True
