"""The runtime without containers: programs of a prefix that ``hpcbench native`` has filled."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil

from hpcbench.config.container import Container
from hpcbench.errors import SiteError, UnusableNode
from hpcbench.runtime.command import (
    AGAIN,
    SAFE,
    SAFE_PATH,
    SHARED_MEMORY,
    NodeAccess,
    Runtime,
    Software,
)
from hpcbench.runtime.process import Command, lock_until_closed


def read_manifest(prefix: Path) -> Mapping[str, Mapping[str, str]]:
    """Return what the installer wrote about a prefix that it finished.

    Parameters
    ----------
    prefix
        The folder of the installation.

    Returns
    -------
    mapping
        Its sections; ``versions`` maps programs and backends to their versions.

    Raises
    ------
    OSError, ValueError
        Where there is no such file, or it is no JSON.
    """
    content: Mapping[str, Mapping[str, str]] = json.loads((prefix / "manifest.json").read_text())
    return content


FOREIGN_LOCK_S = 600.0
"""Seconds that another user may hold the lock of the node's shared memory."""

OWN_LOCK_S = 3600.0
"""Seconds that this user's other workers on the node may hold it, one after the other."""

LOCK_POLL_S = 0.1

STUB_TIMEOUT_S = 600
"""Seconds in which a model of the Python backend has begun to load."""


class _Native:
    """The programs of a prefix; see `Runtime` for what each method is for."""

    def is_installed(self) -> bool:
        return True

    def find_software(self, container: Container) -> Software:
        return _installed(_prefix(container))

    def server_command(
        self, container: Container, arguments: list[str], access: NodeAccess
    ) -> Command:
        prefix = _prefix(container)
        shm = access.shm_prefix
        options = [
            f"--backend-config={name},shm-region-prefix-name={shm}"
            for name in sorted(_backends(prefix))
        ]
        # How long a server may take to start is limited elsewhere. Half a minute, the default, is
        # too short to read TensorFlow for the first time from a disk that others use.
        options.append(f"--backend-config=python,stub-timeout-seconds={STUB_TIMEOUT_S}")
        program = str(prefix / "bin" / "tritonserver")
        return Command([program, *options, *arguments], access.env, (f"{SHARED_MEMORY}/{shm}*",))

    def sdk_command(
        self,
        container: Container,
        arguments: list[str],
        access: NodeAccess,  # noqa: ARG002 - perf_analyzer runs as this user and sees all
        *,
        again: bool = False,
    ) -> Command:
        program = str(_prefix(container) / "bin" / "perf_analyzer")
        return Command([*(AGAIN if again else ()), program, *arguments])

    @contextmanager
    def exclusive_shared_memory(self) -> Iterator[None]:
        # The folder itself is locked: every user has it, and no lock file is left behind.
        folder = os.open(SHARED_MEMORY, os.O_RDONLY)
        try:
            _wait_for_lock(folder)
            yield
        finally:
            os.close(folder)

    def isolation_obstacle(self, container: Container) -> str | None:  # noqa: ARG002
        return None

    def kill_orphans(self) -> None:
        """Nothing is left: the supervisor ends whatever a program has started."""


def _wait_for_lock(folder: int) -> None:
    started = time.monotonic()
    while True:
        try:
            lock_until_closed(folder, wait=False)
        except BlockingIOError:
            waited_s = time.monotonic() - started
            holder = _lock_holder(folder)
            ours = holder is None or holder.uids().real == os.getuid()
            if waited_s > (OWN_LOCK_S if ours else FOREIGN_LOCK_S):
                who = f"process {holder.pid} of {holder.username()}" if holder else "a process"
                raise UnusableNode(
                    f"{SHARED_MEMORY}: {who} has held its lock for {waited_s:.0f} s",
                    "end it, ask its owner to, or use another node; without shared_memory: system "
                    "no lock is needed",
                ) from None
            time.sleep(LOCK_POLL_S)
        else:
            return


def _lock_holder(folder: int) -> psutil.Process | None:
    """The process that holds the lock of an open folder; None where this node does not say."""
    inode = os.fstat(folder).st_ino
    try:
        lines = Path("/proc/locks").read_text().splitlines()
        # As in "1: FLOCK  ADVISORY  WRITE 1234 00:1a:1 0 EOF".
        words = (line.split() for line in lines if " FLOCK " in line and "->" not in line)
        pids = [int(w[4]) for w in words if w[5].rpartition(":")[2] == str(inode)]
        return psutil.Process(pids[0]) if pids else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


def _prefix(container: Container) -> Path:
    assert container.prefix is not None
    return container.prefix


# A placement asks for it again and again, and a prefix does not change while a run lasts.
@cache
def _installed(prefix: Path) -> Software:
    # Checked first, because the hints below are commands that people copy into a shell.
    if not SAFE_PATH.fullmatch(str(prefix)):
        raise SiteError(
            f"container.prefix: {prefix} has characters that Triton cannot take; allowed: {SAFE}",
            "install it into a folder with a plainer name",
        )
    try:
        digest = f"native:{read_manifest(prefix)['digest']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _absent(prefix, error) from error
    for needed in ("bin/tritonserver", "bin/perf_analyzer", "python/bin/python3"):
        if not os.access(prefix / needed, os.X_OK):
            raise _incomplete(prefix, f"{needed} is missing, or may not be executed")
    if not (prefix / "backends" / "python").is_dir():
        raise _incomplete(prefix, "backends/python is missing")
    backends = _backends(prefix) - _without_libraries(prefix)
    return Software(server_digest=digest, sdk_digest=digest, backends=backends)


_LIBRARIES = {"pytorch": "torch", "tensorflow": "tensorflow"}
"""What a backend's folder alone cannot serve without; only some prefixes have it."""


def _without_libraries(prefix: Path) -> frozenset[str]:
    versions = read_manifest(prefix).get("versions", {})
    return frozenset(name for name, library in _LIBRARIES.items() if library not in versions)


def _backends(prefix: Path) -> frozenset[str]:
    return frozenset(path.name for path in (prefix / "backends").iterdir())


def _absent(prefix: Path, error: Exception) -> SiteError:
    """For a folder that is no installation, and perhaps somebody's own: it is not to be deleted."""
    what = "no manifest.json of a finished installation"
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        what = f"{error.filename}: {error.strerror}"
    elif not prefix.exists():
        what = "there is no such folder"
    return SiteError(
        f"{_LACKING} {prefix}: {what}",
        f"install them: hpcbench native {prefix}; or correct container.prefix in the site file",
    )


def _incomplete(prefix: Path, what: str) -> SiteError:
    return SiteError(
        f"{_LACKING} {prefix}: {what}",
        f"install them: rm -r {prefix}; hpcbench native {prefix}",
    )


_LACKING = "there is no complete Triton and perf_analyzer in"

RUNTIME: Runtime = _Native()
