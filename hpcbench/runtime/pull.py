"""Pulls of images from registries into the cache of a site, once for all nodes."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcbench.config.container import DOCKER, Container, ResolvedContainer
from hpcbench.errors import SiteError
from hpcbench.runtime import images, registry
from hpcbench.runtime.command import ImageRuntime, image_runtime_of
from hpcbench.runtime.ownership import check_cached
from hpcbench.runtime.process import lock_until_closed

_UNFINISHED = ".pull-"


def pull_images(container: Container, notify: Callable[[str], None]) -> None:
    """Bring the images of registries into the cache, unless they are there.

    Parameters
    ----------
    container
        The section of the site file, with its digests.
    notify
        Called with the reference of each image that has to be pulled.

    Raises
    ------
    SiteError
        With what the registry or the runtime said.
    """
    runtime = image_runtime_of(container)
    if runtime is None or not isinstance(container, ResolvedContainer):
        return
    if "$" in str(container.cache) and any(i.startswith(DOCKER) for i in container.images):
        raise SiteError(
            f"container.cache: {container.cache}: a variable in it is not set on this host",
            "set it, or name a folder that all nodes see in a copy of the site file",
        )
    digests = container.server_digest, container.sdk_digest
    for image, digest in zip(container.images, digests, strict=True):
        path = Path(images.image_location(image, digest, container))
        if not image.startswith(DOCKER):
            continue
        check_cached(path)
        if not path.exists():
            reference = registry.parse_reference(image).at(digest)
            notify(reference)
            try:
                _pull(runtime, reference, path)
            except OSError as error:
                raise SiteError(
                    f"container.cache: {error.filename or container.cache}: {error.strerror}",
                    "name a folder that you may write to and that all nodes see",
                ) from error


def unfinished_bytes(container: Container) -> int:
    """Return how much the pulls under way have written so far.

    Parameters
    ----------
    container
        The section of the site file.

    Returns
    -------
    int
        Bytes of layers and of the image made of them, in the cache.
    """
    total = 0
    for folder in container.cache.glob(f"{_UNFINISHED}*"):
        for path in folder.rglob("*"):
            try:
                total += path.lstat().st_size
            except OSError:
                continue  # a layer that was unpacked meanwhile
    return total


def _pull(runtime: ImageRuntime, reference: str, path: Path) -> None:
    """Pull under a temporary name and rename: whoever finds the image finds all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _pull_lock(path) as locked:
        # Another run may have pulled it while this one waited for the lock.
        if path.exists():
            return
        if locked:
            # What a killed run began. Without a lock it could be another run's that is at work.
            for unfinished in path.parent.glob(f"{_UNFINISHED}{path.stem}-*"):
                shutil.rmtree(unfinished, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=f"{_UNFINISHED}{path.stem}-", dir=path.parent, ignore_cleanup_errors=True
        ) as folder:
            new = Path(folder) / f"image{path.suffix}"
            runtime.pull(reference, new)
            new.rename(path)


@contextmanager
def _pull_lock(path: Path) -> Iterator[bool]:
    """Wait until nobody else pulls this image; False where the file system has no locks."""
    with path.with_name(f".lock-{path.stem}").open("w") as file:
        yield lock_until_closed(file)
