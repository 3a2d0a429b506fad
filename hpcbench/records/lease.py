"""The lease of a results folder: the lock of a run where the file system has no locks.

Some shared file systems are mounted without ``flock``. There, a run keeps a file that only one can
create, and renews its time. A run that has died renews it no more, and another one takes its place.
"""

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from hpcbench.errors import BadInput, Interrupted

RENEW_S = 20.0
"""Seconds between two renewals."""

STALE_S = 180.0
"""Seconds without a renewal after which the run is taken for dead. NFS may show times that are a
minute old."""


@contextmanager
def hold_lease(path: Path) -> Iterator[None]:
    """Hold the lease of a folder while the block lasts.

    Parameters
    ----------
    path
        The file of the lease.

    Yields
    ------
    None
        While a thread renews it.

    Raises
    ------
    BadInput
        Where another run holds it.
    """
    _take(path)
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(path, stop), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if _read(path).get("token") == _TOKEN:
            path.unlink(missing_ok=True)


def lease_holder(path: Path) -> str | None:
    """Return who holds a lease.

    Parameters
    ----------
    path
        The file of the lease.

    Returns
    -------
    str or None
        As in "process 17 on login3, seen 12 s ago"; None where nobody does.
    """
    try:
        with path.open("rb") as stream:
            # Opened first: only then does NFS ask the server for the time.
            renewed_at = os.fstat(stream.fileno()).st_mtime
    except OSError:
        return None
    age_s = _now(path.parent) - renewed_at
    holder = _read(path)
    if age_s > STALE_S or _is_dead(holder):
        return None
    who = f"process {holder.get('process')} on {holder.get('host')}"
    return f"{who}, seen {max(0.0, age_s):.0f} s ago"


def check_lease(path: Path) -> None:
    """Check that no other run has taken the place of this one while it was stopped.

    Parameters
    ----------
    path
        The file of the lease; it need not exist.

    Raises
    ------
    Interrupted
        Where another run holds the lease now.
    """
    if path.exists() and _read(path).get("token") not in (_TOKEN, None):
        raise Interrupted(
            f"{path.parent}: another run has taken over, because this one was not seen for "
            f"{STALE_S:.0f} s; what was measured is kept"
        )


_TOKEN = uuid.uuid4().hex
"""What tells this process's lease from others, on whatever host."""


def _take(path: Path) -> None:
    me = {"host": socket.gethostname(), "process": os.getpid(), "token": _TOKEN}
    text = json.dumps({**me, "started": psutil.Process().create_time()})
    while not _create(path, text):
        before = _read(path)
        if holder := lease_holder(path):
            raise BadInput(
                f"--results {path.parent}: another run is using it: {holder}",
                "wait for it, end it, or name another folder; if it was killed on another host, "
                f"{STALE_S / 60:.0f} minutes are enough",
            )
        aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)
            if _read(aside) != before:
                # Another run was quicker, and this is its lease.
                with contextlib.suppress(FileExistsError):
                    os.link(aside, path)
            aside.unlink(missing_ok=True)


def _create(path: Path, text: str) -> bool:
    # Complete before it has its name: others read it at once.
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    new.write_text(text)
    try:
        os.link(new, path)
    except FileExistsError:
        return False
    except OSError:
        # A file system without links.
        try:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(number, "w") as stream:
            stream.write(text)
    finally:
        new.unlink(missing_ok=True)
    return True


def _renew(path: Path, stop: threading.Event) -> None:
    while not stop.wait(RENEW_S):
        # A server that does not answer for a while may do so at the next turn.
        with contextlib.suppress(OSError):
            if _read(path).get("token") == _TOKEN:
                os.utime(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_dead(holder: dict[str, Any]) -> bool:
    """Return whether it is known, because it was on this host, that a holder has ended."""
    if holder.get("host") != socket.gethostname():
        return False
    try:
        started = psutil.Process(int(holder["process"])).create_time()
        return abs(started - float(holder["started"])) > 1.0
    except psutil.NoSuchProcess:
        return True
    except (KeyError, TypeError, ValueError, psutil.Error):
        return False


def _now(folder: Path) -> float:
    """Return the time by the clock of the file system, which may be another one's."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".probe-", dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()
