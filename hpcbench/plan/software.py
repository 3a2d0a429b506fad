"""What serves and measures a campaign at a site, as far as it can be known from this host."""

from collections.abc import Mapping
from dataclasses import dataclass

from hpcbench.config.campaign import Campaign
from hpcbench.config.container import Container, ResolvedContainer
from hpcbench.config.site import Site
from hpcbench.errors import BadInput, NoImage, SiteError, did_you_mean
from hpcbench.runtime import command, images
from hpcbench.runtime.command import Software


@dataclass(frozen=True)
class KnownSoftware:
    """What is known of Triton and perf_analyzer before a job runs.

    Attributes
    ----------
    site
        The site, its images given by digest where these are known.
    digests
        What stands for the software in each point's id, by the name of the server's image; None
        for the usual one.
    backends
        The backends of the server; None where only the server knows.
    not_checked
        What could not be looked at from here, each a line.
    """

    site: Site
    digests: Mapping[str | None, str]
    backends: frozenset[str] | None = None
    not_checked: tuple[str, ...] = ()


def known_software(site: Site, campaign: Campaign, *, anywhere: bool = False) -> KnownSoftware:
    """Find the software of a site.

    Parameters
    ----------
    site
        The site.
    campaign
        What its models ask for.
    anywhere
        Whether to go on where the software cannot be found from this host: then its names stand
        for it.

    Returns
    -------
    KnownSoftware
        From here on a tag cannot change its meaning in the middle of a campaign.

    Raises
    ------
    BadInput
        A model asks for an image that the site does not name.
    SiteError
        The site has no Triton, or nothing could start it. Not with ``anywhere``, unless an image
        was looked at and is none.
    """
    wanted = _wanted_images(site, campaign)
    if not anywhere:
        command.runtime_of(site.container)
    try:
        return _find(site, wanted)
    except NoImage:
        raise  # it was seen from here, and a run would refuse it
    except SiteError as error:
        if not anywhere:
            raise
        names = {image: _names(site.container.with_server_image(image)) for image in wanted}
        return KnownSoftware(site, names, not_checked=(f"Triton: {error.message}",))


def _wanted_images(site: Site, campaign: Campaign) -> list[str | None]:
    wanted = {model.server_image: model.name for model in campaign.models}
    known = dict(site.container.server_images)
    for image, model in wanted.items():
        if image is not None and image not in known:
            raise BadInput(
                f"{campaign.source}: model '{model}': server_image: site '{site.name}' names no "
                f"image '{image}';{did_you_mean(image, known)} it names: "
                f"{', '.join(known) or 'none'}",
                "add it to container.server_images of the site file (runtime: apptainer or "
                "podman-hpc), or leave server_image out",
            )
    return list(wanted)


def _find(site: Site, wanted: list[str | None]) -> KnownSoftware:
    names = [image for image in wanted if image is not None]
    container = images.resolve_images(site.container, names)
    found = {image: _software(container.with_server_image(image)) for image in (None, *wanted)}
    # The digests are part of every point's id: another image measures other points.
    digests = {image: f"{found[image].server_digest} {found[image].sdk_digest}" for image in wanted}
    resolved = site.model_copy(update={"container": container})
    return KnownSoftware(resolved, digests, found[None].backends)


def _software(container: Container) -> Software:
    if isinstance(container, ResolvedContainer):
        return Software(container.server_digest, container.sdk_digest)
    return command.runtime_of(container).find_software(container)


def _names(container: Container) -> str:
    names = container.images if container.has_images else (container.prefix,)
    return f"not known: {' '.join(map(str, names))}"
