"""Where the links of a model may lead: whoever made them must not choose what a container sees.

A container gets what a model's links lead to. In a repository of somebody else's, one of them may
lead to the keys of whoever measures it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from hpcbench.config.container import Container
from hpcbench.errors import BadInput


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
