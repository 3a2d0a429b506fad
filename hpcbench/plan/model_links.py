"""What a model reads outside of its folder: where its links lead, and its sources look.

A container gets what a model's links lead to. In a repository of somebody else's, one of them may
lead to the keys of whoever measures it: whoever made them must not choose what a container sees.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from hpcbench.config.container import Container
from hpcbench.errors import BadInput
from hpcbench.plan.digest import files_below

LARGEST_SOURCE = 2**20
"""Bytes. What is larger is hardly a source that people wrote."""

_UPWARDS = re.compile(
    rb"\.\./\.\.|[\"']\.\.[\"'].*[\"']\.\.[\"']|pardir|parents\[|(\.parent\b.*){3}|(dirname\(.*){3}"
)
"""From a version folder, two folders up is the repository."""


def bound_folders(container: Container) -> tuple[Path, ...]:
    """Return the folders outside of a model repository to which links of its models may lead.

    Parameters
    ----------
    container
        The section of the site file.

    Returns
    -------
    tuple of Path
        The ``binds``, as paths of this host.
    """
    return tuple(outside for outside, _ in container.bound_paths)


def check_links(repository: Path, folder: Path, bound: Sequence[Path]) -> None:
    """Check that no link of a model leads out of the repository, except to a bound folder.

    Parameters
    ----------
    repository
        The model repository. It may be a link itself: the user has named it.
    folder
        The model's folder in it.
    bound
        The folders of `bound_folders`.

    Raises
    ------
    BadInput
        With the first such link.
    """
    allowed = tuple(Path(os.path.realpath(path)) for path in (repository, *bound))
    waiting, seen = [folder], set()
    while waiting:
        path = waiting.pop()
        real = Path(os.path.realpath(path))
        if not any(real == each or each in real.parents for each in allowed):
            if not real.exists():
                continue
            raise BadInput(
                f"models: {path} leads to {real}, outside of the model repository",
                f"a container would see it. If that is meant, add {real} or a folder above it to "
                "container.binds in the site file; else remove the link",
            )
        if real in seen:
            continue
        seen.add(real)
        for place, folders, names in os.walk(real):
            entries = (Path(place) / name for name in (*folders, *names))
            waiting += [entry for entry in entries if entry.is_symlink()]


def checked_neighbours(repository: Path, folder: Path, bound: Sequence[Path]) -> list[Path]:
    """Check the links of a model, and those of what lies beside it and is read by its sources.

    Parameters
    ----------
    repository
        The model repository.
    folder
        The model's folder in it.
    bound
        The folders of `bound_folders`.

    Returns
    -------
    list of Path
        The `neighbours` of the model.

    Raises
    ------
    BadInput
        With the first link that leads out of the repository, except to a bound folder.
    """
    check_links(repository, folder, bound)  # first: the neighbours are in what links lead to
    beside = neighbours(folder)
    for path in beside:
        check_links(repository, path, bound)
    return beside


def neighbours(folder: Path) -> list[Path]:
    """Return what lies beside a model and is read by its sources.

    Parameters
    ----------
    folder
        The model's folder.

    Returns
    -------
    list of Path
        Files and folders of the repository whose names stand in Python sources of the model, where
        one of these looks two folders up.
    """
    sources = [
        path.read_bytes()
        for path in files_below(folder)
        if path.suffix == ".py" and path.stat().st_size <= LARGEST_SOURCE
    ]
    if not any(map(_UPWARDS.search, sources)):
        return []
    words = {word for source in sources for word in re.findall(rb"[\w.-]+", source)}
    # As in "from common.layers import x".
    words |= {part for word in words for part in word.split(b".")}
    real = Path(os.path.realpath(folder))
    return [
        path
        for path in sorted(real.parent.iterdir())
        if path != real and os.fsencode(path.name.removesuffix(".py")) in words
    ]
