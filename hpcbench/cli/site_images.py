"""Pulls the images of a site before a run needs them, with progress."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.status import Status

from hpcbench.cli.console import SafeConsole, print_folded
from hpcbench.cli.inputs import with_images
from hpcbench.cli.point_text import duration
from hpcbench.config.campaign import Campaign
from hpcbench.config.container import Container, ResolvedContainer
from hpcbench.config.site import Site
from hpcbench.errors import BadInput
from hpcbench.runtime import command, images, pull

_EVERY_S = 1.0


def pull_for(
    name_or_path: str, campaign: Path | None, given: tuple[str | None, str | None]
) -> None:
    """Pull what the jobs of a site need, and print where each image is.

    Parameters
    ----------
    name_or_path
        The site.
    campaign
        A campaign file, for the images that its models ask for by name; None for the usual ones.
    given
        What --server-image and --sdk-image say.

    Raises
    ------
    BadInput
        The site has no images.
    SiteError
        With what the registry or the runtime said.
    """
    site = with_images(Site.load(name_or_path), *given)
    if not site.container.has_images:
        raise BadInput(
            f"site '{site.name}': runtime: {site.container.runtime} has no images",
            "its programs are installed by: hpcbench native",
        )
    command.runtime_of(site.container)
    wanted = _named(site, campaign)
    container = images.resolve_images(site.container, wanted)
    console = SafeConsole(stderr=True)
    for name in (None, *wanted):
        _pull(container.with_server_image(name), console)
    for line in _places(container, wanted):
        print_folded(SafeConsole(), line)


def _named(site: Site, campaign: Path | None) -> list[str]:
    if campaign is None:
        return []
    wanted = [model.server_image for model in Campaign.load(campaign).models]
    known = dict(site.container.server_images)
    names = [name for name in dict.fromkeys(wanted) if name is not None]
    for name in names:
        if name not in known:
            raise BadInput(
                f"{campaign}: server_image: site '{site.name}' names no image '{name}'; it names: "
                f"{', '.join(known) or 'none'}",
                "add it to container.server_images of the site file",
            )
    return names


def _pull(container: Container, console: Console) -> None:
    def notify(reference: str) -> None:
        print_folded(console, f"pulling {reference} into {container.cache}")

    with _watched(container, console):
        pull.pull_images(container, notify)


@contextmanager
def _watched(container: Container, console: Console) -> Iterator[None]:
    """Show on a terminal how much has been written, while the block lasts."""
    if not console.is_terminal:
        yield
        return
    over = threading.Event()
    with console.status("asking the registry") as status:
        watch = threading.Thread(target=_show, args=(container, status, over), daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()


def _show(container: Container, status: Status, over: threading.Event) -> None:
    started = time.monotonic()
    while not over.wait(_EVERY_S):
        written = pull.unfinished_bytes(container) / 1e9
        status.update(f"{written:.2f} GB written, {duration(time.monotonic() - started)}")


def _places(container: Container, names: list[str]) -> Iterator[str]:
    assert isinstance(container, ResolvedContainer)
    server, sdk = container.images
    yield f"{server}: {images.image_location(server, container.server_digest, container)}"
    yield f"{sdk}: {images.image_location(sdk, container.sdk_digest, container)}"
    digests, named = dict(container.digests), dict(container.server_images)
    for name in names:
        where = images.image_location(named[name], digests[name], container)
        yield f"{named[name]}: {where}"
