"""Images on the driver and the nodes: their digests and their fingerprints.

A digest stands for an image in every record. Reading all of an image takes minutes, so the driver
does it once; nodes compare the fingerprint, which reads a little of it. Otherwise an image that was
built again meanwhile, or an older copy on a node's own disk, would be measured under the digest of
the other.
"""

import hashlib
import os
import re
import stat
import struct
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

from hpcbench.config.container import DOCKER, RUNTIMES, Container, ResolvedContainer
from hpcbench.errors import NoImage, SiteError
from hpcbench.runtime import registry

_UNPACKED = re.compile(r"/\.flat/[0-9a-f]{2}/([0-9a-f]{64})$")
"""Where /cvmfs/unpacked.cern.ch keeps an image: the folder's name is its digest already."""

# The beginning of a SIF holds its id and the times of its parts. At its end squashfs lists its
# files with their sizes and times.
_ENDS_BYTES = 65_536


def image_fingerprint(image: str) -> str:
    """Return what tells an image from another one at the same path.

    Parameters
    ----------
    image
        A SIF file, a folder, or a docker:// reference.

    Returns
    -------
    str
        A hash in hexadecimal digits. Copies of a file have the same one, whatever their times;
        copies of a folder, where the times were kept. "" for docker://: the file that it was
        pulled into is named by its digest, so it cannot be mistaken.

    Raises
    ------
    OSError
        Where there is no such image.
    """
    if image.startswith(DOCKER):
        return ""
    path = Path(image)
    return _of_folder(path) if path.is_dir() else _of_file(path)


def _of_file(path: Path) -> str:
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        total = hashlib.sha256(f"{size}\0".encode() + stream.read(_ENDS_BYTES))
        stream.seek(max(0, size - _ENDS_BYTES))
        total.update(stream.read(_ENDS_BYTES))
    return total.hexdigest()


def _of_folder(path: Path) -> str:
    unpacked = _UNPACKED.search(os.path.realpath(path))
    if unpacked:
        return unpacked[1]
    total = hashlib.sha256()
    # A whole image has 100,000 files, so only the top two levels are read. Whatever builds an image
    # leaves its date there, in .singularity.d.
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


def resolve_images(container: Container, names: Collection[str] = ()) -> Container:
    """Return a container section with the digests and fingerprints of its images. Pull nothing.

    Parameters
    ----------
    container
        The section of the site file.
    names
        The keys of ``server_images`` that the campaign asks for; others are left out.

    Returns
    -------
    Container
        A `ResolvedContainer`; the section itself where there are no images, or it was resolved
        before.

    Raises
    ------
    SiteError
        Where an image is missing or damaged, or its registry does not know it.
    """
    if not container.has_images or isinstance(container, ResolvedContainer):
        return container
    server, sdk = container.images
    named = {name: image for name, image in container.server_images if name in names}
    # Taken before the digests: an image that changes while it is hashed must not match later.
    fingerprints = {image: _fingerprint(image) for image in (server, sdk, *named.values())}
    return ResolvedContainer(
        **container.model_dump(exclude={"server_images"}),
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
    """Return what stands for an image in every record: a hash of its content, not of its name.

    Parameters
    ----------
    image
        A SIF file, a folder, or a docker:// reference.
    folder
        The site's cache. It also remembers the hashes of files that have not changed since.

    Returns
    -------
    str
        ``sha256:`` with the registry's digest of a reference; ``sif:`` or ``sandbox:`` with the
        hash of a SIF file or of a folder's files; ``unpacked:`` with the digest that CVMFS knows.

    Raises
    ------
    SiteError
        Where there is no such image.
    """
    if image.startswith(DOCKER):
        return registry.resolve_digest(image)
    path = Path(image)
    try:
        if path.is_dir():
            unpacked = _UNPACKED.search(os.path.realpath(path))
            if unpacked:
                return f"unpacked:{unpacked[1]}"
            _check_sandbox(path)
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
    """Raise NoImage where a file is no SIF image, or only the beginning of one.

    The header's fields are those of https://github.com/apptainer/sif (pkg/sif/sif.go).

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    NoImage
        With what to do about it.
    """
    with path.open("rb") as stream:
        header = stream.read(128)
    if len(header) < 128 or header[32:41] != b"SIF_MAGIC":
        raise NoImage(
            f"{path} is no SIF image",
            "name a SIF file, a sandbox folder or a docker:// reference",
        )
    data_offset, data_size = struct.unpack_from("<qq", header, 112)
    size = path.stat().st_size
    if size < data_offset + data_size:
        raise NoImage(
            f"{path} is damaged: it has {size} bytes of {data_offset + data_size}",
            "copy, pull or build it again",
        )


def _check_sandbox(path: Path) -> None:
    """Raise NoImage where a folder holds no root file system."""
    if not any((path / name).is_dir() for name in ("usr", "bin", "opt")):
        raise NoImage(
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
    if "$" in str(folder):
        return found  # a variable that is not set here would make a folder of its name
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        new = note.with_name(f"{key}.{uuid.uuid4().hex[:8]}")
        new.write_text(found)
        new.rename(note)
    except OSError:
        pass  # without the note the image is only hashed again
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


def image_location(image: str, digest: str, container: Container) -> str:
    """Return where an image is, or will be once it is pulled.

    Parameters
    ----------
    image
        A SIF file, a folder, or a docker:// reference.
    digest
        Its digest, as `image_digest` gives it.
    container
        The section of the site file: its cache, and the runtime.

    Returns
    -------
    str
        The image itself, or for a reference what the runtime makes of it in the cache.
    """
    if not image.startswith(DOCKER):
        return image
    return str(container.cache / f"{digest.replace(':', '-')}{RUNTIMES[container.runtime].pulled}")


def location_of(container: Container, image: Literal["server", "sdk"]) -> str:
    """Return where one of the two images is on this node.

    Parameters
    ----------
    container
        The section of the site file, with its digests.
    image
        Triton's image, or the one with perf_analyzer.

    Returns
    -------
    str
        The path of a file or folder.
    """
    assert isinstance(container, ResolvedContainer)
    name, digest = {
        "server": (container.images[0], container.server_digest),
        "sdk": (container.images[1], container.sdk_digest),
    }[image]
    return image_location(name, digest, container)


def check_readable(path: str) -> None:
    """Raise SiteError where an image cannot be read on this node.

    Parameters
    ----------
    path
        A file or folder, as `image_location` gives it.

    Raises
    ------
    SiteError
        With what to do about it.
    """
    if not os.access(path, os.R_OK):
        raise unreadable_on_node(path)


def unreadable_on_node(path: str) -> SiteError:
    """Return the error for an image that cannot be read on this node.

    Parameters
    ----------
    path
        The image.

    Returns
    -------
    SiteError
        With what to do about it.
    """
    return SiteError(
        f"the image {path} cannot be read on this node",
        "put it into a folder that all nodes see; or name its docker:// reference in the site "
        "file, with a cache that all nodes see",
    )
