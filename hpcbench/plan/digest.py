"""Digests of what a campaign names on disk: what two measurements must have in common."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

_NO_PART = re.compile(
    # What Python, programs that check it, and notebooks keep beside a source,
    r"__pycache__|\.\w+_cache|\.ipynb_checkpoints"
    # version control,
    r"|\.git.*|\.hg.*|\.bzr.*|\.svn|\.jj|CVS|\.dvc|\.dvcignore|\.lfsconfig|\.mailmap"
    # editors (emacs, vim, others), desktops, NFS and FUSE for files that were deleted while open.
    r"|.*~|#.*#|\.#.*|\.~lock\..*#|\..*\.sw[a-p]|\..*\.kate-swp|\.idea|\.vscode|\.editorconfig"
    r"|\.ropeproject|\.DS_Store|\._.*|\.directory|\.cache|Thumbs\.db|desktop\.ini"
    r"|\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+"
)
"""Names of files and folders that change nothing in what Triton serves."""


def hash_id(*parts: str) -> str:
    """Return an id for what these strings define.

    Parameters
    ----------
    *parts
        Strings without line breaks, in an order that matters.

    Returns
    -------
    str
        16 hexadecimal digits of a SHA-256.
    """
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def special_kind(path: Path) -> str | None:
    """Return what a path is that nobody can read to an end, and many wait for without one.

    Parameters
    ----------
    path
        Any path; links are followed.

    Returns
    -------
    str or None
        "a named pipe", "a socket" or "a device"; None for files and folders, and for nothing.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    kinds |= dict.fromkeys((stat.S_IFCHR, stat.S_IFBLK), "a device")
    return kinds.get(stat.S_IFMT(mode))


def content_digest(path: Path) -> str:
    """Return a hash of the names and contents of all files at or below a path.

    Parameters
    ----------
    path
        A file, or a folder; links in it are followed.

    Returns
    -------
    str
        16 hexadecimal digits of a SHA-256.
    """
    total = hashlib.sha256()
    for file in sorted(files_below(path)) if path.is_dir() else [path]:
        total.update(_file_part(file, path))
    return total.hexdigest()[:16]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, also through links, as Triton sees them.

    Parameters
    ----------
    folder
        The folder.

    Yields
    ------
    Path
        Each regular file, by the first path that leads to its folder.
    """
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        # Sorted: of two paths to one folder, it must not be the file system that says which counts.
        folders.sort()
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()  # a link that leads back up would be followed for ever
            continue
        seen.add(real)
        yield from (Path(place) / name for name in names if (Path(place) / name).is_file())


def model_digests(folder: Path) -> tuple[str, ...]:
    """Return a hash of what is served from a model's folder, and those that were made formerly.

    Parameters
    ----------
    folder
        The folder; links in it are followed.

    Returns
    -------
    tuple of str
        The first leaves out caches, and what editors and version control leave behind. The second
        is of all files, the third of all but compiled Python: results of a repository in which
        only that came to lie meanwhile have it. All are the same where there is none of that.
    """
    served, whole, sources = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    for file in sorted(files_below(folder)):
        part = _file_part(file, folder)
        whole.update(part)
        if not _is_compiled(file, folder):
            sources.update(part)
        if _is_served(file, folder):
            served.update(part)
    return tuple(each.hexdigest()[:16] for each in (served, whole, sources))


def _is_compiled(file: Path, folder: Path) -> bool:
    in_cache = "__pycache__" in file.relative_to(folder).parts
    return in_cache or file.suffix in (".pyc", ".pyo")


def _is_served(file: Path, folder: Path) -> bool:
    # A module.pyc beside its module.py is Python's cache. Without a source it is the model.
    is_cache = file.suffix in (".pyc", ".pyo") and file.with_suffix(".py").exists()
    return not is_cache and not any(map(_NO_PART.fullmatch, file.relative_to(folder).parts))


def _file_part(file: Path, folder: Path) -> bytes:
    """What a file adds to the digest of its folder."""
    # The length keeps one file's end apart from the next file's name.
    start = os.fsencode(f"{file.relative_to(folder)}\0{file.stat().st_size}\0")
    with file.open("rb") as stream:
        return start + hashlib.file_digest(stream, "sha256").digest()
