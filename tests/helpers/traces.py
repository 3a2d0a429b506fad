"""What hpcbench started and wrote on this machine, and must be gone when a test ends."""

import contextlib
import os
import time
import uuid
from pathlib import Path

import psutil

MARK = "HPCBENCH_TEST_SESSION"
PROGRAMS = (
    "tritonserver",
    "triton_python_backend_stub",
    "perf_analyzer",
    "supervisor.py",
    "hpcbench-guard",
    "namespaces.py",
)


def mark_session() -> None:
    """Set a variable that all programs of these tests inherit, and no others have."""
    os.environ[MARK] = uuid.uuid4().hex


def programs_running() -> list[str]:
    """Return command lines of what hpcbench started in these tests and that still runs."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if {Path(word).name for word in words[:4]} & set(PROGRAMS):
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == os.environ[MARK]:
                    found.append(" ".join(words)[:200])
    return found


def own_program(name: str, *words: str) -> psutil.Process:
    """Wait for a program that this process started, with these words first in its command line.

    Only its own descendants: other tests may run the same programs at the same time.
    """
    while True:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.name() == name and process.cmdline()[1 : len(words) + 1] == list(words):
                    return process
        time.sleep(0.02)


def traces() -> set[str]:
    """Return the temporary folders and shared memory of hpcbench that nobody holds.

    Other tests run at the same time: what is locked is theirs, and goes with its process. So are
    the files of tests/box.
    """
    folders = Path("/tmp"), Path("/dev/shm")
    locked = _locked_files()
    return {
        str(path)
        for folder in folders
        for path in folder.glob("hpcbench-*")
        if _file_id(path) not in locked and not path.name.startswith("hpcbench-box-")
    }


def _locked_files() -> set[str]:
    # Not by trying to lock them: whoever makes one at that moment would find it locked.
    lines = Path("/proc/locks").read_text().splitlines()
    return {word for line in lines for word in line.split() if word.count(":") == 2}


def _file_id(path: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError):
        its = path.stat()
        return f"{os.major(its.st_dev):02x}:{os.minor(its.st_dev):02x}:{its.st_ino}"
    return None
