"""Another user of the node, who plants files. Only root can act as one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

UID = 61234
"""Of nobody who has an account."""

BECOME = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--"]

TRY_SERVERS = r"""
set +e; exec 2>/dev/null
for pid in $(pgrep -x tritonserver); do
    for port in $(tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n 's/^--[a-z]*-port=//p'); do
        echo tried
        bash -c "exec 3<>/dev/tcp/127.0.0.1/$port" && echo "reached $port"
        bash -c "exec 3<>/dev/tcp/::1/$port" && echo "reached $port"
        ss -Hltn | grep -w "$port"
    done
    nsenter --net="/proc/$pid/ns/net" true && echo "entered the network of $pid"
    nsenter --target "$pid" --user --net --preserve-credentials true && echo "entered $pid"
    unshare --user --map-root-user nsenter --net="/proc/$pid/ns/net" true && echo "entered as root"
done
true
"""
"""Tries to reach each Triton of this machine, and says so for each of its ports."""

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")


def as_stranger(script: str, *arguments: str | Path, folder: Path | None = None) -> str:
    """Run a shell script as the stranger; what it prints."""
    if folder is not None:
        let_in(folder)
    done = subprocess.run(
        [*BECOME, "sh", "-euc", script, "sh", *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.stdout


def let_in(folder: Path) -> None:
    """Let everybody pass to a folder and write there, as in /tmp."""
    for above in folder.parents:
        # Folders of pytest are for one user; those above them are everybody's already.
        if above.stat().st_uid == os.getuid() and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)
    folder.chmod(0o1777)
