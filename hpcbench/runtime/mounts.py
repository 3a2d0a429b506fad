"""What containers of every runtime see of the node: paths, and the GPUs of the job."""

import csv
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hpcbench.config.container import Container
from hpcbench.errors import SiteError
from hpcbench.runtime.command import NodeAccess


@dataclass(frozen=True)
class Mount:
    """A path of the node, and where a container has it.

    Attributes
    ----------
    source
        The path of the node.
    destination
        The path in the container.
    read_only
        Whether the container may not write it.
    """

    source: Path
    destination: Path
    read_only: bool = False

    @property
    def option_value(self) -> str:
        """The value of --mount, which takes any path; --bind and --volume stop at colons."""
        text = io.StringIO()
        words = ["type=bind", f"source={self.source}", f"destination={self.destination}"]
        csv.writer(text, lineterminator="").writerow(words + ["ro"] * self.read_only)
        return text.getvalue()


def mounts_of(container: Container, access: NodeAccess) -> list[Mount]:
    """Return what a container mounts, and make the folders of the node that it needs for it.

    Parameters
    ----------
    container
        The section of the site file: its binds.
    access
        What the program gets of the node.

    Returns
    -------
    list of Mount
        All but the shared memory.
    """
    temporary = access.folder / ".tmp"
    temporary.mkdir(exist_ok=True)
    return [
        *(
            Mount(source, destination, read_only=True)
            for source, destination in (*container.bound_paths, *access.mounts)
        ),
        Mount(temporary, Path("/tmp")),
        Mount(temporary, Path("/var/tmp")),
        Mount(access.folder, access.folder),
        *(Mount(folder, folder) for folder in access.writable),
    ]


def mount_options(mounts: Iterable[Mount]) -> list[str]:
    """Return the words of a command line that ask for mounts.

    Parameters
    ----------
    mounts
        In any order.

    Returns
    -------
    list of str
        Apptainer and Podman understand them in the same way.
    """
    # A later mount covers what is below it, so a folder comes before those within it.
    in_order = sorted(mounts, key=lambda mount: len(mount.destination.parts))
    return [word for mount in in_order for word in ("--mount", mount.option_value)]


def check_binds(container: Container) -> None:
    """Raise what the site file binds and this node does not have.

    Parameters
    ----------
    container
        The section of the site file.

    Raises
    ------
    SiteError
        With the first such path.
    """
    for source, _ in container.bound_paths:
        if not source.exists():
            raise SiteError(
                f"container.binds: {source} does not exist on this node",
                "remove it from the site file, or ask for nodes that have it",
            )


def cuda_environment() -> dict[str, str]:
    """Return which GPUs the batch system gave, and where CUDA may keep what it compiles.

    TensorRT keeps its engines in the working folder, which is on the scratch disk anyway.

    Returns
    -------
    dict of str to str
        Variables of the container.
    """
    env = {"CUDA_CACHE_PATH": "/tmp/cuda"}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # A batch system may say CUDA0, which the CUDA library does not understand.
        env["CUDA_VISIBLE_DEVICES"] = re.sub(r"\bCUDA(?=\d)", "", visible)
    return env
