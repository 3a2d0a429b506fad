"""What `plan` and `run` are given: a campaign with a site, or a lock, which holds both."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcbench.cli import completions

if TYPE_CHECKING:
    from hpcbench.config.campaign import Campaign
    from hpcbench.config.site import Site
    from hpcbench.plan.lock import Lock
    from hpcbench.plan.lock_differences import Difference
    from hpcbench.plan.plan import Plan

CAMPAIGN = click.argument("campaign", type=click.Path(path_type=Path))
_SITE = "Name of a site profile, or the path of a site file."
SITE = click.option(
    "--site",
    default="local",
    show_default=True,
    shell_complete=completions.sites,
    help=_SITE,
)
SITE_OR_THAT_OF_A_LOCK = click.option(
    "--site",
    show_default="local, or that of a lock",
    shell_complete=completions.sites,
    help=_SITE,
)

SERVER_IMAGE = click.option(
    "--server-image",
    metavar="IMAGE",
    help="Triton's image, instead of that of the site: a SIF file, an unpacked folder or "
    "docker://...",
)
SDK_IMAGE = click.option(
    "--sdk-image", metavar="IMAGE", help="The image with perf_analyzer, likewise."
)


@dataclass(frozen=True)
class Inputs:
    """What a command was given.

    Attributes
    ----------
    path
        The campaign file, or the lock.
    site
        Where to measure.
    pools
        The pools to use; empty for all.
    lock
        The lock; None for a campaign file.
    """

    path: Path
    site: "Site"
    pools: tuple[str, ...]
    lock: "Lock | None"

    @property
    def campaign(self) -> "Campaign":
        """What to measure. Read late: a local run has something to start before."""
        from hpcbench.config.campaign import Campaign

        return self.lock.campaign if self.lock else Campaign.load(self.path)

    @property
    def only(self) -> AbstractSet[str] | None:
        """The point_ids to measure; None for all."""
        return frozenset(self.lock.only) or None if self.lock else None

    def differences(self, todo: "Plan") -> "list[Difference]":
        """Return what is different from the lock.

        Parameters
        ----------
        todo
            The plan of these inputs.

        Returns
        -------
        list of Difference
            Empty also without a lock.
        """
        if self.lock is None:
            return []
        from hpcbench.cluster.lock_file import differences_before

        return differences_before(self.lock, todo)


def read_inputs(
    path: Path,
    site: str | None,
    pools: tuple[str, ...],
    images: tuple[str | None, str | None] = (None, None),
) -> Inputs:
    """Read the site, and the lock if it is one.

    Parameters
    ----------
    path
        A campaign file, or a lock.
    site
        What --site says; None where it was not given.
    pools
        What --pool says.
    images
        What --server-image and --sdk-image say.

    Returns
    -------
    Inputs
        With the site and the pools of the lock where no other site was given.

    Raises
    ------
    BadInput
        Where one of them cannot be used.
    """
    given = _as_written(path, site, pools)
    return replace(given, site=with_images(given.site, *images))


def with_images(site: "Site", server_image: str | None, sdk_image: str | None) -> "Site":
    """Return a site with the images of --server-image and --sdk-image.

    Parameters
    ----------
    site
        The site as its file has it.
    server_image, sdk_image
        What the options say; None where they were not given.

    Returns
    -------
    Site
        A copy.
    """
    container = site.container.with_images(server_image, sdk_image)
    return site.model_copy(update={"container": container})


def _as_written(path: Path, site: str | None, pools: tuple[str, ...]) -> Inputs:
    from hpcbench.config.site import Site

    lock = _read_lock(path)
    if lock is None:
        return Inputs(path, Site.load(site or "local"), pools, None)
    if site is not None:
        return Inputs(path, Site.load(site), pools, lock)
    lock.check_site(path)
    return Inputs(path, lock.site, pools or lock.pools, lock)


def _read_lock(path: Path) -> "Lock | None":
    # By its text: a campaign file, which comes more often, must not wait for the import.
    try:
        with path.open(encoding="utf-8") as lines:
            if not any(line.startswith("hpcbench_lock:") for line in lines):
                return None
    except (OSError, UnicodeDecodeError):
        return None  # whoever reads the campaign says why that fails
    from hpcbench.plan.lock import Lock

    return Lock.load(path)
