"""Runs a command with the CPUs that other tests leave: ``python tests/in_background.py COMMAND``.

What is measured beside it must find the CPUs that it asks for. A nice value does not see to that:
where Linux groups processes by session (sched_autogroup), it counts within a session only, and each
server and each client is one of its own. A group of the CPU controller does, for root.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

MOUNTS = Path("/sys/fs/cgroup")
NAME = "hpcbench-tests"
NICE = 5
WEIGHT, SHARES = "25", "256"
"""A quarter of what each session has by default, in version 2 and in version 1 of cgroups."""


def join_group(mounts: Path = MOUNTS) -> Path | None:
    """Put this process into a group of low weight; None where this user may not."""
    with contextlib.suppress(OSError):
        if (mounts / "cgroup.controllers").exists():
            (mounts / "cgroup.subtree_control").write_text("+cpu")
            group, file, value = mounts / NAME, "cpu.weight", WEIGHT
        else:
            group, file, value = mounts / "cpu" / NAME, "cpu.shares", SHARES
        group.mkdir(exist_ok=True)
        (group / file).write_text(value)
        (group / "cgroup.procs").write_text(str(os.getpid()))
        return group
    return None


def main() -> int:
    """Run the command; its exit code is this program's."""
    group = join_group()
    if group is None:
        os.nice(NICE)
    try:
        return subprocess.run(sys.argv[1:], check=False).returncode
    finally:
        if group is not None:
            # Others may be in it still: then the last one removes it.
            with contextlib.suppress(OSError):
                (group.parent / "cgroup.procs").write_text(str(os.getpid()))
                group.rmdir()


if __name__ == "__main__":
    raise SystemExit(main())
