"""Whether the jobs of a site can hold what a campaign asks for."""

import re
from collections.abc import Collection, Mapping, Sequence

from hpcbench.config.site import SYSTEMS, Site
from hpcbench.config.values import format_walltime
from hpcbench.errors import BadInput
from hpcbench.plan.placement import ENGINE_S, Placement, builds_engines


def check_gpus(site: Site, pools: Collection[str]) -> None:
    """Refuse to charge GPU hours for servers that cannot have the GPUs.

    Parameters
    ----------
    site
        The site.
    pools
        Names of the pools that are used.

    Raises
    ------
    BadInput
        Where a pool names a GPU that its jobs do not ask for, its directives ask for other GPUs
        than ``gpus_per_job``, the runtime of the site cannot give a server the GPUs of its jobs, or
        a server could use one of them only.
    """
    for name in pools:
        pool = site.pools[name]
        if pool.gpu is not None and not pool.gpus_per_job:
            raise BadInput(
                f"pool {name} of site '{site.name}': gpu is {pool.gpu}, and gpus_per_job is 0: its "
                "servers would get none",
                "gpus_per_job: 1, or leave gpu out to measure CPUs",
            )
        _check_directives(site, name)
    with_gpus = [name for name in pools if site.pools[name].gpus_per_job]
    if with_gpus and site.container.wastes_gpus:
        raise BadInput(
            f"site '{site.name}': the jobs of {', '.join(with_gpus)} have GPUs, and runtime: "
            f"{site.container.runtime} serves on CPUs only",
            "in the site file, name a container runtime and its images (runtime: apptainer "
            "or podman-hpc, server_image, sdk_image); or, to measure these nodes' CPUs, "
            "container.cpus_only: true",
        )
    for name in with_gpus:
        pool = site.pools[name]
        if re.search(r"\bMIG\b", pool.gpu or "", re.IGNORECASE) and pool.gpus_per_job > 1:
            raise BadInput(
                f"pool {name} of site '{site.name}': a program of CUDA's uses one MIG instance "
                f"only, and its jobs ask for {pool.gpus_per_job}",
                "gpus_per_job: 1, and max_jobs: as many as there are instances",
            )


def _check_directives(site: Site, name: str) -> None:
    """Refuse directives that ask for other GPUs than those that are planned and counted."""
    system, pool = SYSTEMS.get(site.scheduler), site.pools[name]
    for directive, number in system.asked_gpus(pool.directives).items() if system else ():
        if number == pool.gpus_per_job or (number is None and pool.gpus_per_job):
            continue
        raise BadInput(
            f"pool {name} of site '{site.name}': the directive {directive} asks for "
            f"{'GPUs' if number is None else number} in each job, and gpus_per_job is "
            f"{pool.gpus_per_job}: plans and records go by that",
            f"gpus_per_job: {number or 1}, or correct the directive",
        )


def check_walltime(site: Site, placements: Mapping[str, Sequence[Placement]]) -> None:
    """Refuse a campaign with a point that could not finish within its job.

    Parameters
    ----------
    site
        The site.
    placements
        What is to be measured, by pool.

    Raises
    ------
    BadInput
        Where a point is longer than a job.
    """
    for name, waiting in placements.items():
        limit_s = site.pools[name].walltime
        if limit_s is None or not waiting:
            continue
        longest = max(waiting, key=lambda placement: placement.needs_s(1))
        if longest.needs_s(1) <= limit_s:
            continue
        builds = any(map(builds_engines, longest.points[0].served))
        engines = f", {ENGINE_S / 60:.0f} min of it for TensorRT's engines" if builds else ""
        raise BadInput(
            f"pool {name} of site '{site.name}': a job lasts {format_walltime(limit_s)}, and a "
            f"point that does not settle takes up to {format_walltime(int(longest.needs_s(1)) + 1)}"
            " with its server"
            f"{engines}",
            "raise the pool's walltime, or lower measurement_interval_ms or max_trials",
        )
