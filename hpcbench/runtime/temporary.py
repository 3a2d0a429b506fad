"""Temporary folders that are deleted also where their process is killed.

A process holds a lock on each of its folders. What lies there without a lock, of this user and this
host, is what a killed process has left: whoever ends a Triton on the node deletes it, and so do
the next driver and the next job (`hpcbench.runtime.supervisor.remove_abandoned`).
"""

import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcbench.runtime import supervisor
from hpcbench.runtime.process import lock_until_closed


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder that only this user can enter, for as long as the block lasts.

    Parameters
    ----------
    parent
        Where; by default the system's folder for temporary files.

    Yields
    ------
    Path
        The folder. It is deleted with all that is in it.
    """
    folder, lock = _locked_folder(parent)
    try:
        yield folder
    finally:
        supervisor.delete(glob.escape(str(folder)))
        os.close(lock)


def _locked_folder(parent: Path | None) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=supervisor.FOLDER_PREFIX, dir=parent))
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        lock_until_closed(lock)
        # Between its making and its lock, somebody may have taken it for abandoned.
        if folder.exists():
            return folder, lock
        os.close(lock)


def sweep(*parents: Path) -> None:
    """Delete what killed processes have left in folders, and in the system's temporary one.

    Parameters
    ----------
    *parents
        Folders that may have temporary folders.
    """
    for parent in {*map(str, parents), tempfile.gettempdir()}:
        supervisor.remove_abandoned(parent)
