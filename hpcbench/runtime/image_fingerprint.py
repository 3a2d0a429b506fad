"""What tells an image from another one at the same path, without reading all of it.

The driver hashes an image once; every node opens what lies at its path then. Built again meanwhile,
or an older copy on that node's own disk, it would be measured under the digest of the other.
"""

import hashlib
import os
import re
import stat
from pathlib import Path

from hpcbench.config.container import DOCKER

UNPACKED = re.compile(r"/\.flat/[0-9a-f]{2}/([0-9a-f]{64})$")
"""Where /cvmfs/unpacked.cern.ch keeps an image: the folder's name is its digest already."""

ENDS_BYTES = 65_536
"""So much of a SIF's beginning, which holds its id and the times of its parts, and of its end,
where squashfs lists its files with their sizes and times."""


def of(image: str) -> str:
    """The seal of a SIF file or a folder; "" for docker://, whose file is called by its digest.

    Copies of a file have the same one, whatever their times; those of a folder where times were
    kept. Raises OSError where there is no such image.
    """
    if image.startswith(DOCKER):
        return ""
    path = Path(image)
    return _of_folder(path) if path.is_dir() else _of_file(path)


def _of_file(path: Path) -> str:
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        total = hashlib.sha256(f"{size}\0".encode() + stream.read(ENDS_BYTES))
        stream.seek(max(0, size - ENDS_BYTES))
        total.update(stream.read(ENDS_BYTES))
    return total.hexdigest()


def _of_folder(path: Path) -> str:
    unpacked = UNPACKED.search(os.path.realpath(path))
    if unpacked:
        return unpacked[1]
    total = hashlib.sha256()
    # All of it would be 100 000 files. What builds an image leaves its date in .singularity.d.
    for folder in (path, *sorted(filter(_is_folder, path.iterdir()))):
        try:
            entries = sorted(folder.iterdir())
        except PermissionError:
            continue  # /root: what a user cannot read, the user's container cannot
        for entry in entries:
            status = entry.lstat()
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            total.update(f"{entry.name}\0{size}\0{status.st_mtime_ns}\0".encode())
    return total.hexdigest()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
