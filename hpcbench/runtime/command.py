"""What a runtime turns into command lines: a program, its arguments, and what it sees of the node.

Each runtime is one module that implements the Protocol `Runtime`, or `ImageRuntime` where its
programs come in images; `hpcbench.config.container.RUNTIMES` names them all.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol

from hpcbench.config.container import RUNTIMES, Container
from hpcbench.runtime.process import Command

SAFE = "letters, digits and . _ / + , @ % = -"
SAFE_PATH = re.compile(r"[A-Za-z0-9._/+,@%=-]+")
"""Triton starts its Python stubs through a shell, without quotes."""

SHARED_MEMORY = Path("/dev/shm")

Image = Literal["server", "sdk"]
"""Triton's image, or the one with perf_analyzer."""


@dataclass(frozen=True)
class Software:
    """What serves and measures.

    Attributes
    ----------
    server_digest
        Stands for the image, or the prefix, that Triton comes from.
    sdk_digest
        Stands for the one that perf_analyzer comes from.
    backends
        The names of Triton's backends; None where only the image knows them.
    """

    server_digest: str
    sdk_digest: str
    backends: frozenset[str] | None = None


AGAIN = ("/bin/sh", "-c", 'trap exit INT; while :; do "$@" || exit; done', "sh")
"""A command that runs the one whose words follow over and over, until it fails or a SIGINT comes.

Within a container this takes no time, while another container would. Without the trap, a SIGINT
would end the shell at once, before the program has ended in order.
"""


@dataclass(frozen=True, kw_only=True)
class NodeAccess:
    """What a program gets of the node, besides its image.

    Attributes
    ----------
    folder
        The working folder, on the scratch disk. The program may write it, and sees it at its own
        path; what a container calls /tmp lies in it.
    mounts
        Pairs (path, path in the container) of files and folders to read.
    writable
        Further folders to write, each at its own path.
    shm_prefix
        What the names of its files in the node's shared memory begin with, and no other's do.
    gpus
        Whether a container gets the GPUs that this process was given.
    env
        Added to the environment.
    cpus
        The CPUs that it may use; empty for all those of this process.
    """

    folder: Path
    mounts: tuple[tuple[Path, Path], ...] = ()
    writable: tuple[Path, ...] = ()
    shm_prefix: str = ""
    gpus: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    cpus: tuple[int, ...] = ()


class Runtime(Protocol):
    """Where Triton and perf_analyzer run: bare, or in containers of one kind.

    The programs run in the foreground, as children of this process. They are not started as
    instances or services that somebody else owns: so they belong to the batch job that started
    them, and end with it.
    """

    def is_installed(self) -> bool:
        """Return whether this host has what starts a program.

        Returns
        -------
        bool
            False where, for example, Apptainer is not in PATH.
        """

    def find_software(self, container: Container) -> Software:
        """Return what stands for the programs.

        Parameters
        ----------
        container
            The section of the site file.

        Returns
        -------
        Software
            Its digests go into every record.

        Raises
        ------
        SiteError
            Where a program is missing or incomplete.
        """

    def server_command(
        self, container: Container, arguments: list[str], access: NodeAccess
    ) -> Command:
        """Return the command that starts Triton; make the folders that it needs.

        Parameters
        ----------
        container
            The section of the site file.
        arguments
            Those of tritonserver.
        access
            What it gets of the node.

        Returns
        -------
        Command
            For `hpcbench.runtime.process`.
        """

    def sdk_command(
        self,
        container: Container,
        arguments: list[str],
        access: NodeAccess,
        *,
        again: bool = False,
    ) -> Command:
        """Return the command that starts perf_analyzer; make the folders that it needs.

        Parameters
        ----------
        container
            The section of the site file.
        arguments
            Those of perf_analyzer.
        access
            What it gets of the node.
        again
            Whether to start it again whenever it ends without an error.

        Returns
        -------
        Command
            For `hpcbench.runtime.process`.
        """

    def exclusive_shared_memory(self) -> AbstractContextManager[None]:
        """Wait for, and then hold, what perf_analyzer's segments of shared memory need.

        perf_analyzer names its segments after the inputs and outputs of the model. Two of them
        that see the same /dev/shm would therefore use the same segments.

        Returns
        -------
        context manager
            Nothing else of hpcbench on this node has those segments while the block lasts.
        """

    def isolation_obstacle(self, container: Container) -> str | None:
        """Return why its programs start otherwise in a user namespace that exists already.

        Parameters
        ----------
        container
            The section of the site file, with its digests.

        Returns
        -------
        str or None
            A clause; None where they start in the same way.
        """

    def kill_orphans(self) -> None:
        """Kill what ended containers of this user have left running on this node."""


class ImageRuntime(Runtime, Protocol):
    """A runtime whose programs come in images."""

    def check_node(self, container: Container) -> None:
        """Raise what is wrong on this node, before anything is started.

        Parameters
        ----------
        container
            The section of the site file, with its digests.

        Raises
        ------
        SiteError
            Where the runtime, an image or the source of a bind is not there.
        """

    def image_name(self, container: Container, image: Image) -> str:
        """Return an image as one would name it on the command line.

        Parameters
        ----------
        container
            The section of the site file, with its digests.
        image
            Which of the two.

        Returns
        -------
        str
            The path of a file or folder.
        """

    def by_hand(self, container: Container, image: Image, words: list[str]) -> str:
        """Return how a person would run a command in an image.

        Parameters
        ----------
        container
            The section of the site file, with its digests.
        image
            Which of the two.
        words
            The command and its arguments.

        Returns
        -------
        str
            For a shell.
        """

    def image_command(
        self, container: Container, image: Image, words: list[str], access: NodeAccess
    ) -> Command:
        """Return a command line that runs any command in an image; make the folders it needs.

        Parameters
        ----------
        container
            The section of the site file, with its digests.
        image
            Which of the two.
        words
            The command and its arguments.
        access
            What it gets of the node.

        Returns
        -------
        Command
            For `hpcbench.runtime.process`.
        """

    def explain_failure(self, stderr: str) -> tuple[str, str]:
        """Return why a container did not start, and what to do about it.

        Parameters
        ----------
        stderr
            What the runtime printed.

        Returns
        -------
        tuple of str
            The sentence in which it gives up; a hint, or "" where the cause is not known.
        """

    def pull(self, reference: str, target: Path) -> None:
        """Bring an image from its registry.

        Parameters
        ----------
        reference
            docker://..., with a digest.
        target
            The file or folder to make, in a folder of its own that the caller deletes.

        Raises
        ------
        SiteError
            With what the registry or the runtime said.
        """


def runtime_of(container: Container) -> Runtime:
    """Return the runtime that a site file asks for.

    Parameters
    ----------
    container
        The section of the site file.

    Returns
    -------
    Runtime
        What the runtime's module calls ``RUNTIME``.
    """
    found: Runtime = import_module(RUNTIMES[container.runtime].module).RUNTIME
    return found


def image_runtime_of(container: Container) -> ImageRuntime | None:
    """Return the runtime that a site file asks for, if it runs images.

    Parameters
    ----------
    container
        The section of the site file.

    Returns
    -------
    ImageRuntime or None
        None where the programs run bare.
    """
    if not container.has_images:
        return None
    found: ImageRuntime = import_module(RUNTIMES[container.runtime].module).RUNTIME
    return found


def scratch_folder(container: Container) -> Path:
    """Return the folder on the node's own disk for what a placement needs.

    Parameters
    ----------
    container
        The section of the site file.

    Returns
    -------
    Path
        ``container.scratch`` with the variables of this node: some of them are set only there.
    """
    return Path(os.path.expandvars(container.scratch))


def linked_paths(paths: Iterable[Path]) -> tuple[tuple[Path, Path], ...]:
    """Return files and folders, and whatever the links in them lead to.

    A model repository is often made of links. A container that mounts only the repository would
    see links to nowhere.

    Parameters
    ----------
    paths
        Files and folders of a user.

    Returns
    -------
    tuple of pairs
        (path without links, path by which a link or the user names it). A container that mounts
        the first at the second reads what is read outside.
    """
    found: dict[Path, Path] = {}
    waiting = [(path, path) for path in paths]
    while waiting:
        path, named = waiting.pop()
        # A mount has all that is below it; this also ends links that go round in circles.
        if named in found or not found.keys().isdisjoint(named.parents):
            continue
        real = Path(os.path.realpath(path))
        found[named] = real
        for place, folders, names in os.walk(real):
            for name in (*folders, *names):
                entry = Path(place) / name
                if entry.is_symlink() and entry.exists():
                    # As the container resolves it: from where it has the folder of the link.
                    beside = named / entry.parent.relative_to(real)
                    waiting.append((entry, Path(os.path.normpath(beside / entry.readlink()))))
    return tuple((real, named) for named, real in found.items())
