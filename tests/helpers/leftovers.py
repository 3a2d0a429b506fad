"""What hpcbench started or wrote on this machine, and must be gone when a test ends."""

import contextlib
import os
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


def traces() -> set[str]:
    """Return the temporary folders and shared memory of hpcbench on this machine."""
    folders = Path("/tmp"), Path("/dev/shm")
    return {str(path) for folder in folders for path in folder.glob("hpcbench-*")}
