"""Where the links in a user's files and folders lead: a container must show that, too."""

import os
from collections.abc import Iterable
from pathlib import Path


def shows(paths: Iterable[Path]) -> tuple[tuple[Path, Path], ...]:
    """(path, path as links name it) of files and folders, and of whatever links in them lead to.

    A container that has these at the second paths, reads what is read outside.
    """
    found: dict[Path, Path] = {}
    waiting = [(path, path) for path in paths]
    while waiting:
        path, named = waiting.pop()
        if named in found or not found.keys().isdisjoint(named.parents):
            continue
        real = Path(os.path.realpath(path))
        found[named] = real
        for place, folders, names in os.walk(real):
            for name in (*folders, *names):
                entry = Path(place) / name
                if entry.is_symlink() and entry.exists():
                    beside = named / entry.parent.relative_to(real)
                    waiting.append((entry, Path(os.path.normpath(beside / entry.readlink()))))
    return tuple((real, named) for named, real in found.items())
