"""Where the links in a user's files and folders lead: a container must show that, too.

Turns (program, arguments) into a command line for the site's runtime.

Apptainer runs as a child in the foreground, never as an instance: so the program belongs to the
job that started it, and ends with it.
"""

import contextlib
import csv
import fcntl
import io
import json
import os
import re
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

from hpcbench.config.container import Container, ResolvedContainer
from hpcbench.errors import SiteError
from hpcbench.runtime import images


def linked_paths(paths: Iterable[Path]) -> tuple[tuple[Path, Path], ...]:
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


SAFE = "letters, digits and . _ / + , @ % = -"
SAFE_PATH = re.compile(r"[A-Za-z0-9._/+,@%=-]+")
"""Triton starts its Python stubs through a shell, without quotes."""

SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Software:
    """What serves and measures: digests that stand for images, and the versions in them."""

    server_digest: str
    sdk_digest: str


def find_software(container: Container) -> Software:
    """What the container holds. Raises SiteError where it is missing or incomplete."""
    if container.runtime == "native":
        return _native(_prefix(container))
    resolved = images.resolve_images(container)
    assert isinstance(resolved, ResolvedContainer)
    return Software(resolved.server_digest, resolved.sdk_digest)


def _prefix(container: Container) -> Path:
    assert container.prefix is not None
    return container.prefix


@cache
def _native(prefix: Path) -> Software:
    # First, because what follows tells commands to be copied into a shell.
    if not SAFE_PATH.fullmatch(str(prefix)):
        raise SiteError(
            f"container.prefix: {prefix} has characters that Triton cannot take; allowed: {SAFE}",
            "install it into a folder with a plainer name",
        )
    try:
        digest = f"native:{read_manifest(prefix)['digest']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _absent(prefix, error) from error
    for needed in ("bin/tritonserver", "bin/perf_analyzer", "python/bin/python3"):
        if not os.access(prefix / needed, os.X_OK):
            raise _incomplete(prefix, f"{needed} is not there, or may not be executed")
    if not (prefix / "backends" / "python").is_dir():
        raise _incomplete(prefix, "backends/python is not there")
    return Software(server_digest=digest, sdk_digest=digest)


def read_manifest(prefix: Path) -> Mapping[str, Mapping[str, str]]:
    """What containers/native.py wrote about a prefix that it finished."""
    content: Mapping[str, Mapping[str, str]] = json.loads((prefix / "manifest.json").read_text())
    return content


def _absent(prefix: Path, error: Exception) -> SiteError:
    """What is told of a folder that is not an installation, and perhaps somebody's own."""
    what = "no manifest.json of a finished installation"
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        what = f"{error.filename}: {error.strerror}"
    elif not prefix.exists():
        what = "there is no such folder"
    return SiteError(
        f"{_LACKING} {prefix}: {what}",
        f"install them: hpcbench native {prefix}; or correct container.prefix in the site file",
    )


def _incomplete(prefix: Path, what: str) -> SiteError:
    return SiteError(
        f"{_LACKING} {prefix}: {what}",
        f"install them: rm -r {prefix}; hpcbench native {prefix}",
    )


_LACKING = "there is no complete Triton and perf_analyzer in"


def scratch_folder(container: Container) -> Path:
    """The node's folder for what a placement needs: a variable in it is set only there."""
    return Path(os.path.expandvars(container.scratch))


@dataclass(frozen=True, kw_only=True)
class NodeAccess:
    """What a program gets of the node, besides its image.

    ``folder`` is on the scratch disk and the program's to write, at its own path: it is the
    working folder, and what is /tmp inside lies in it. ``mounts`` are (path, path inside) to
    read, ``writable`` are further folders to write, at their own paths. ``shm_prefix`` is its
    part of the node's shared memory, a name that begins like no other.
    """

    folder: Path
    mounts: tuple[tuple[Path, Path], ...] = ()
    writable: tuple[Path, ...] = ()
    shm_prefix: str = ""
    gpus: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mount:
    """A path of the node, and where it is inside."""

    source: Path
    destination: Path
    read_only: bool = False

    @property
    def option_value(self) -> str:
        """The value of --mount, which takes any path, where --bind stops at colons and commas."""
        text = io.StringIO()
        words = ["type=bind", f"source={self.source}", f"destination={self.destination}"]
        csv.writer(text, lineterminator="").writerow(words + ["ro"] * self.read_only)
        return text.getvalue()


@dataclass(frozen=True)
class Command:
    """A command line, what it needs in its environment, and what to delete after it."""

    argv: list[str]
    env: Mapping[str, str]
    remove: list[str]


def server_command(container: Container, arguments: list[str], access: NodeAccess) -> Command:
    """The command of tritonserver; makes the folders that it needs."""
    if container.runtime == "native":
        prefix = _prefix(container)
        backends = sorted(path.name for path in (prefix / "backends").iterdir())
        named = [
            f"--backend-config={b},shm-region-prefix-name={access.shm_prefix}" for b in backends
        ]
        program = str(prefix / "bin" / "tritonserver")
        return Command(
            [program, *named, *arguments], access.env, [f"{SHARED_MEMORY}/{access.shm_prefix}*"]
        )
    return image_command(container, 0, ["tritonserver", *arguments], access)


def sdk_command(container: Container, arguments: list[str], access: NodeAccess) -> Command:
    """The command of perf_analyzer; makes the folders that it needs."""
    if container.runtime == "native":
        return Command([str(_prefix(container) / "bin" / "perf_analyzer"), *arguments], {}, [])
    return image_command(container, 1, ["perf_analyzer", *arguments], access)


@contextmanager
def exclusive_shared_memory(container: Container) -> Iterator[None]:
    """Waits for, and then holds, what perf_analyzer's segments of shared memory need.

    They are called by the names of the model's inputs and outputs, so that those of two of them on
    one node would be the same segments. A container has shared memory of its own, with its server.
    """
    if container.runtime != "native":
        yield
        return
    # The folder itself: it is there for every user, and no file is left behind.
    folder = os.open(SHARED_MEMORY, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def image_path(container: Container, position: int) -> str:
    """The file or folder of the server's (0) or the SDK's (1) image."""
    assert isinstance(container, ResolvedContainer)
    digests = container.server_digest, container.sdk_digest
    return images.image_location(container.images[position], digests[position], container.cache)


def image_command(
    container: Container, position: int, words: list[str], access: NodeAccess
) -> Command:
    """Any command in the server's (0) or the SDK's (1) image; makes the folders that it needs."""
    tool = images.require_apptainer()
    own = access.folder / ".tmp"
    own.mkdir(exist_ok=True)
    mounts = [
        Mount(path, within, read_only=True)
        for path, within in (*bind_mounts(container), *access.mounts)
    ]
    mounts += [
        Mount(own, Path("/tmp")),
        Mount(own, Path("/var/tmp")),
        Mount(access.folder, access.folder),
        *(Mount(folder, folder) for folder in access.writable),
    ]
    remove = []
    if access.shm_prefix:
        # Shared memory on a disk would cost throughput, and Apptainer's own is for one container.
        memory = SHARED_MEMORY / f"{access.shm_prefix}shm"
        memory.mkdir(mode=0o700, exist_ok=True)
        # What is called /dev/... outside, Apptainer shows at the same place only, or not at all.
        link = access.folder / f".{memory.name}"
        if not link.is_symlink():
            link.symlink_to(memory)
        mounts.append(Mount(link, SHARED_MEMORY))
        remove.append(str(memory))
    # What is mounted later covers what was there: so a folder comes before those within it.
    mounts.sort(key=lambda entry: len(entry.destination.parts))
    argv = [
        *(tool, "--quiet", "exec"),
        # No file, process, variable or memory of the user's session reaches a measurement.
        "--containall",
        *(["--nv"] if access.gpus else []),
        *(word for entry in mounts for word in ("--mount", entry.option_value)),
        *("--pwd", str(access.folder)),
        image_path(container, position),
        *words,
    ]
    # By --env, "0,1" would be cut at its comma.
    prefix = f"{Path(tool).name.upper()}ENV_"
    env = {f"{prefix}{name}": value for name, value in {**_cuda(), **access.env}.items()}
    # Where images cannot be mounted, they are unpacked at each start: on the scratch disk, then.
    env[f"{Path(tool).name.upper()}_TMPDIR"] = str(access.folder)
    return Command(argv, env, remove)


def bind_mounts(container: Container) -> list[tuple[Path, Path]]:
    """(path of the node, path inside) of each bind that the site file asks for."""
    pairs = (text.partition(":") for text in container.binds)
    return [(Path(outside), Path(inside or outside)) for outside, _, inside in pairs]


def _cuda() -> dict[str, str]:
    """Which GPUs the batch system gave, and where CUDA may keep what it compiles.

    TensorRT keeps its engines in the working folder, which is on the scratch disk anyway.
    """
    env = {"CUDA_CACHE_PATH": "/tmp/cuda"}
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        # A batch system may say CUDA0, which the CUDA library does not understand.
        env["CUDA_VISIBLE_DEVICES"] = re.sub(r"\bCUDA(?=\d)", "", given)
    return env


def kill_orphans(container: Container) -> None:
    """Ends this user's image servers on this node whose container is gone.

    Apptainer serves an image by a process of its own (squashfuse), in another process group. It
    outlives a container whose process above was killed, and nothing in its environment tells
    whose it was; but one that is nobody's child any more serves nobody.
    """
    if container.runtime == "native":
        return
    for process in psutil.process_iter(["name", "cmdline", "uids"]):
        with contextlib.suppress(psutil.Error):
            if (
                (process.info["name"] or "").startswith(("squashfuse", "fuse-overlayfs"))
                and "/mnt/session/" in " ".join(process.info["cmdline"] or [])
                and process.info["uids"].real == os.getuid()
                and not _is_a_runtime(process.parent())
            ):
                process.send_signal(signal.SIGKILL)


def _is_a_runtime(process: psutil.Process | None) -> bool:
    if process is None:
        return False
    title = " ".join(process.cmdline())
    return (
        process.name().startswith("starter") or re.match(r"\w+ runtime parent", title) is not None
    )
