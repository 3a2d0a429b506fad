"""The box for tests: started once for all of them, and down afterwards."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.helpers.waiting import wait_until

BOX = Path(__file__).resolve().parent / "box"


class Box:
    """The cluster on this machine, by its own commands."""

    def do(self, *words: str, timeout_s: float = 600) -> None:
        """One of `tests/box/box`'s commands, which must work."""
        done = subprocess.run(
            [BOX, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"box {' '.join(words)}: {done.stdout}{done.stderr}"

    def exec(
        self, *words: str, root: bool = False, stdin: str = "", timeout_s: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside."""
        return self._exec(["--root"] if root else [], words, stdin, timeout_s)

    def stranger_said(self, *words: str) -> str:
        """What a command inside printed that another ordinary user ran; it must work."""
        done = self._exec(["--stranger"], words, "", 120)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def _exec(
        self, user: list[str], words: Sequence[str], stdin: str, timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BOX, "exec", *user, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def said(self, *words: str, root: bool = False, stdin: str = "") -> str:
        """What a command inside printed; it must work."""
        done = self.exec(*words, root=root, stdin=stdin)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()


def in_time(condition: Callable[[], object], timeout_s: float) -> bool:
    """As `wait_until`, for what is seen by commands in the box.

    Each costs a process or two, whose CPU is taken from what is measured meanwhile.
    """
    return wait_until(condition, timeout_s, every_s=0.4)


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    """The box, up; tests call their folders in its user's home SOMETHING-PID-SOMETHING."""
    if os.geteuid() != 0:
        pytest.skip("the box with Slurm and HTCondor needs root")
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        pytest.skip("the box with Slurm and HTCondor needs Debian or Ubuntu")
    cluster = Box()
    cluster.do("up")
    yield cluster
    cluster.said("sh", "-c", f"rm -rf /home/physicist/*-{os.getpid()}-*", root=True)
    cluster.do("down")
