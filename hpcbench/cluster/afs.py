"""AFS, where modes of files mean nothing: each folder has a list of who may do what in it."""

import getpass
from pathlib import Path

from hpcbench.cluster.batch import command_output
from hpcbench.errors import SiteError

ADMINISTRATORS = "system:administrators"
"""The group of those who run the cell; they may read everything anyway."""

_HINT = (
    "name a results folder on another file system, or one of AFS whose list you may change with "
    "fs setacl"
)


def is_on_afs(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Return whether a folder lies on AFS.

    Parameters
    ----------
    folder
        The folder, which exists.
    mounts
        The kernel's list of what is mounted where.

    Returns
    -------
    bool
        By the file system that is mounted nearest above it.
    """
    path, found = folder.resolve(), {}
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        # "ID PARENT DEVICE ROOT MOUNTED-AT OPTIONS ... - TYPE SOURCE OPTIONS", see proc(5).
        words, _, kind = line.partition(" - ")
        found[Path(words.split()[4])] = kind.split()[0]
    return next((found[each] for each in (path, *path.parents) if each in found), "") == "afs"


def keep_private(folder: Path) -> None:
    """Let nobody but this user, and who runs AFS, do anything in a folder.

    Parameters
    ----------
    folder
        A folder on AFS; what it holds, and will hold, has the same list.

    Raises
    ------
    SiteError
        Where AFS does not do it, or somebody else is still on the list.
    """
    user = getpass.getuser()
    try:
        command_output(["fs", "setacl", "-dir", str(folder), "-acl", user, "all", "-clear"])
        listed = command_output(["fs", "listacl", "-path", str(folder)])
    except SiteError as error:
        raise SiteError(
            f"{folder}: is on AFS, and cannot be kept from others: {error.message}", _HINT
        ) from error
    allowed = _who_may(listed)
    others = sorted(allowed - {user, ADMINISTRATORS})
    if others or user not in allowed:
        raise SiteError(
            f"{folder}: is on AFS, where {', '.join(others) or 'nobody'} may read it", _HINT
        )


def _who_may(listed: str) -> set[str]:
    """Read the users and groups of "Normal rights" from what ``fs listacl`` printed."""
    normal = listed.partition("Normal rights:")[2].partition("Negative rights:")[0]
    return {line.split()[0] for line in normal.splitlines() if line.strip()}
