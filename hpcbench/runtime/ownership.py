"""Whose files these are: what another user of the node may have put there is not trusted.

The sticky bit of /tmp keeps others from removing what is there, not from making it first; a folder
that came from somebody else may hold links to whatever its reader can write.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hpcbench.errors import BadInput, SiteError, UnusableNode


def private_folder(path: Path) -> Path:
    """Make a folder that only this user can enter, or check that there is one.

    Parameters
    ----------
    path
        The folder. Those above it exist, or are made in the usual way.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    UnusableNode
        Where something else has its name: a link, or what belongs to another user or can be
        changed by one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if (
            not stat.S_ISDIR(found.st_mode)
            or found.st_uid != os.getuid()
            or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        ):
            raise UnusableNode(
                f"{path}: is not a folder of this user's that nobody else can change "
                f"({stat.filemode(found.st_mode)}, user {found.st_uid})",
                "somebody else may have put it there: remove it, or name another scratch folder "
                "in the site file",
            ) from None
    return path


def open_no_link(path: Path, mode: str) -> IO[str]:
    """Open a file for writing, unless its name is a link.

    Parameters
    ----------
    path
        The file; it is made where there is none.
    mode
        ``a`` or ``a+``; what is in the file stays there.

    Returns
    -------
    file
        The file, to be closed.

    Raises
    ------
    BadInput
        Where it is a link.
    """
    flags = os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    flags |= os.O_RDWR if "+" in mode else os.O_WRONLY
    try:
        return os.fdopen(os.open(path, flags, 0o666), mode, encoding="utf-8")
    except OSError as error:
        if path.is_symlink():
            raise link_refused(path) from error
        raise


def is_own(path: Path) -> bool:
    """Return whether a file is this user's, and no link.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    bool
        False also where there is none.
    """
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and _is_mine(found.st_uid, path.parent)


def _is_mine(uid: int, folder: Path) -> bool:
    if uid == os.getuid():
        return True
    # AFS has numbers of its own for users, and NFS may show every owner as nobody.
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return uid == os.fstat(probe.fileno()).st_uid
    except OSError:
        return False


@contextmanager
def others_cannot_write() -> Iterator[None]:
    """Let no file or folder be made that everybody can change, whatever the user's umask is.

    Yields
    ------
    None
        The umask before comes back when the block is left.
    """
    before = os.umask(0o022)
    os.umask(before | 0o002)
    try:
        yield
    finally:
        os.umask(before)


def check_cached(path: Path) -> None:
    """Refuse an image that somebody else may have put into a cache under a digest's name.

    Whoever owns the cache is trusted: they could replace whatever is in it.

    Parameters
    ----------
    path
        The file or folder, which need not exist.

    Raises
    ------
    SiteError
        Where it is a link, can be changed by everybody, or belongs to somebody who owns neither
        the cache nor this process.
    """
    try:
        folder, found = path.parent.stat(), path.lstat()
    except FileNotFoundError:
        return
    trusted = {0, os.getuid(), folder.st_uid}
    real = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
    if real and found.st_uid in trusted and not found.st_mode & stat.S_IWOTH:
        return
    raise SiteError(
        f"container.cache: {path} belongs to user {found.st_uid} ({stat.filemode(found.st_mode)}), "
        "who owns neither the cache nor this run, or can be changed by everybody",
        "remove it, or name a cache in which only you, or people whom you trust, can write",
    )


def link_refused(path: Path) -> BadInput:
    """Return the error for a link in a folder whose files hpcbench writes.

    Parameters
    ----------
    path
        The link.

    Returns
    -------
    BadInput
        What to raise.
    """
    return BadInput(
        f"{path}: is a link to {str(path.readlink())!r}; hpcbench writes through no link in a "
        "results folder",
        "remove it; to keep results elsewhere, let --results name that folder",
    )
