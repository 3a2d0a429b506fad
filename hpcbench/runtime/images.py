"""What tells an image from another one at the same path, without reading all of it.

The driver hashes an image once; every node opens what lies at its path then. Built again meanwhile,
or an older copy on that node's own disk, it would be measured under the digest of the other.

Images on the driver: what they are, by digest, and their pull into the site's cache, once.
"""

import fcntl
import hashlib
import os
import re
import shutil
import stat
import struct
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcbench.config.container import DOCKER, Container, ResolvedContainer
from hpcbench.errors import SiteError
from hpcbench.runtime import process, registry

UNPACKED = re.compile(r"/\.flat/[0-9a-f]{2}/([0-9a-f]{64})$")
"""Where /cvmfs/unpacked.cern.ch keeps an image: the folder's name is its digest already."""

ENDS_BYTES = 65_536
"""So much of a SIF's beginning, which holds its id and the times of its parts, and of its end,
where squashfs lists its files with their sizes and times."""


def image_fingerprint(image: str) -> str:
    """The fingerprint of a SIF file or a folder; "" for docker://, which names its digest.

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


PULL_TIMEOUT_S = 24 * 3600.0


def find_apptainer() -> str | None:
    """``apptainer``, or ``singularity`` where there is no apptainer."""
    return shutil.which("apptainer") or shutil.which("singularity")


def require_apptainer() -> str:
    """As `find_apptainer`. Raises SiteError where there is neither."""
    tool = find_apptainer()
    if tool is None:
        raise SiteError(
            "neither apptainer nor singularity is in PATH",
            "install Apptainer, load its module (prologue of the pool), or use runtime: native",
        )
    return tool


def resolve_images(container: Container, names: Collection[str] = ()) -> Container:
    """The container with the digests of its images, and of those ``names`` of its others.

    Pulls nothing.

    Raises SiteError where an image is missing or damaged, or its registry does not know it.
    """
    if container.runtime == "native" or isinstance(container, ResolvedContainer):
        return container
    server, sdk = container.images
    named = {name: image for name, image in container.server_images if name in names}
    # Before the digests: what changes while it is hashed, is not known again.
    fingerprints = {image: _fingerprint(image) for image in (server, sdk, *named.values())}
    return ResolvedContainer(
        **container.model_dump(exclude_unset=True, exclude={"server_images"}),
        server_images=named,
        digests=tuple(
            (name, image_digest(image, container.cache)) for name, image in named.items()
        ),
        server_digest=image_digest(server, container.cache),
        sdk_digest=image_digest(sdk, container.cache),
        fingerprints=tuple(fingerprints.items()),
    )


def _fingerprint(image: str) -> str:
    try:
        return image_fingerprint(image)
    except OSError as error:
        raise _unreadable(image, error) from error


def image_digest(image: str, folder: Path) -> str:
    """What stands for an image in every record: a hash of its content, not of its name.

    ``sha256:`` is the registry's digest of a docker:// reference, ``sif:`` and ``sandbox:``
    are hashes of a SIF file and of a folder's files, ``unpacked:`` is the one that CVMFS knows.
    ``folder`` is the site's cache, which also remembers the hashes of files that stay as they
    are. Raises SiteError where there is no such image.
    """
    if image.startswith(DOCKER):
        return registry.resolve_digest(image)
    path = Path(image)
    try:
        if path.is_dir():
            unpacked = UNPACKED.search(os.path.realpath(path))
            if unpacked:
                return f"unpacked:{unpacked[1]}"
            check_sandbox(path)
            entries = repr(list(_entries(path))).encode()
            return f"sandbox:{_remembered(folder, path, hashlib.sha256(entries).hexdigest())}"
        check_sif(path)
        status = path.stat()
        fingerprint = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
        return f"sif:{_remembered(folder, path, fingerprint)}"
    except OSError as error:
        raise _unreadable(image, error) from error


def _unreadable(image: str, error: OSError) -> SiteError:
    return SiteError(
        f"the image {error.filename or image} cannot be read: {error.strerror}",
        "build it (make images), copy it there, or name another one in the site file",
    )


def check_sif(path: Path) -> None:
    """Raises SiteError where a file is no SIF image, or only the beginning of one.

    The header's fields are those of https://github.com/apptainer/sif (pkg/sif/sif.go).
    """
    with path.open("rb") as stream:
        header = stream.read(128)
    if len(header) < 128 or header[32:41] != b"SIF_MAGIC":
        raise SiteError(
            f"{path} is no SIF image",
            "name a SIF file, a sandbox folder or a docker:// reference",
        )
    data_offset, data_size = struct.unpack_from("<qq", header, 112)
    size = path.stat().st_size
    if size < data_offset + data_size:
        raise SiteError(
            f"{path} is damaged: it has {size} bytes of {data_offset + data_size}",
            "copy, pull or build it again",
        )


def check_sandbox(path: Path) -> None:
    """Raises SiteError where a folder holds no root file system."""
    if not any((path / name).is_dir() for name in ("usr", "bin", "opt")):
        raise SiteError(
            f"{path} is a folder, but no unpacked image: there is no usr, bin or opt in it",
            "name a SIF file, a sandbox folder or a docker:// reference",
        )


def _entries(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    """(path, mode, size, time) of all that is in a sandbox, in the order of their names."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted([*folders, *names]):
            path = Path(place) / name
            status = path.lstat()
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            yield str(path.relative_to(folder)), status.st_mode, size, status.st_mtime_ns


def _remembered(folder: Path, path: Path, fingerprint: str) -> str:
    """The hash of an image's content, from a note if the image is as it was then."""
    key = hashlib.sha256(f"{path}\0{fingerprint}".encode()).hexdigest()
    note = folder / "digests" / key
    try:
        known = note.read_text()
        if re.fullmatch(r"[0-9a-f]{64}", known):
            return known
    except OSError:
        pass
    found = _content(path)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        new = note.with_name(f"{key}.{uuid.uuid4().hex[:8]}")
        new.write_text(found)
        new.rename(note)
    except OSError:
        pass  # a folder that cannot be written costs time only
    return found


def _content(path: Path) -> str:
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    total = hashlib.sha256()
    for relative, mode, size, _ in _entries(path):
        total.update(f"{relative}\0{mode}\0{size}\0".encode(errors="surrogateescape"))
        total.update(_of_entry(path / relative, mode))
    return total.hexdigest()


def _of_entry(file: Path, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return os.fsencode(file.readlink())
    if not stat.S_ISREG(mode):
        return b""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except PermissionError:
        return b"unreadable"  # /etc/shadow: what a user cannot read, the user's container cannot


def image_location(image: str, known: str, folder: Path) -> str:
    """Where an image lies, or will lie once it is pulled."""
    return str(folder / f"{known.replace(':', '-')}.sif") if image.startswith(DOCKER) else image


def pull_images(container: Container, tell: Callable[[str], None]) -> None:
    """Brings images of registries into the cache, unless they are there.

    ``tell`` gets the reference of each that has to be pulled. Raises SiteError with what the
    registry or the runtime said.
    """
    if not isinstance(container, ResolvedContainer):
        return
    for image, known in zip(
        container.images, (container.server_digest, container.sdk_digest), strict=True
    ):
        path = Path(image_location(image, known, container.cache))
        if image.startswith(DOCKER) and not path.is_file():
            reference = registry.parse_reference(image).at(known)
            tell(reference)
            try:
                _pull(reference, path)
            except OSError as error:
                raise SiteError(
                    f"container.cache: {error.filename or container.cache}: {error.strerror}",
                    "name a folder that you may write to and that all nodes see",
                ) from error


def _pull(reference: str, path: Path) -> None:
    """Pulls under a temporary name and renames: whoever finds the file finds all of it.

    A second run that wants the same image waits for the first one's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tool = require_apptainer()
    with _alone(path) as alone:
        if path.is_file():
            return
        if alone:
            for left in path.parent.glob(f".pull-{path.stem}-*"):
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=f".pull-{path.stem}-", dir=path.parent, ignore_cleanup_errors=True
        ) as name:
            _pull_into(Path(name), tool, reference, path)


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Waits until nobody else pulls this file; False where the file system cannot tell."""
    with path.with_name(f".lock-{path.stem}").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        except OSError:
            alone = False
        yield alone


def _pull_into(folder: Path, tool: str, reference: str, path: Path) -> None:
    new = folder / "image.sif"
    # Layers of 10 GB do not fit into every /tmp; a user who knows better has said so.
    env = {"APPTAINER_TMPDIR": str(folder), "SINGULARITY_TMPDIR": str(folder), **os.environ}
    done = process.run(
        [tool, "pull", "--disable-cache", str(new), reference],
        folder=folder,
        timeout_s=PULL_TIMEOUT_S,
        env=env,
    )
    if done.returncode or not new.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise SiteError(
            f"{reference} could not be pulled: {' '.join(lines[-2:]) or 'no reason given'}",
            f"try it by hand: {tool} pull {path.name} {reference}",
        )
    check_sif(new)
    new.rename(path)
