"""The checks that `hpcbench doctor` makes on the host that it runs on.

A check returns what was found. It raises SiteError where that is wrong, with a hint on what to do.
"""

import contextlib
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from distributed.utils import get_ip

from hpcbench.cluster import batch, submission
from hpcbench.cluster.batch import BatchSystem
from hpcbench.config.container import Container
from hpcbench.config.site import Network, Site
from hpcbench.doctor import worker_checks
from hpcbench.doctor.findings import NotChecked
from hpcbench.errors import SiteError
from hpcbench.runtime import command, images

HostCheck = tuple[str, Sequence[str], Callable[[], str]]
"""A check: its name, the names of those that it needs, and the function that makes it."""

FREE_BYTES = 1e9
"""A results folder with less space is too small for a campaign."""


def checks_of_host(site: Site, pools: int, own: Path) -> list[HostCheck]:
    """Return the checks of this host in their order.

    Parameters
    ----------
    site
        The site.
    pools
        How many pools are used at the same time; each needs a port.
    own
        An empty folder in the folder for results.

    Returns
    -------
    list of HostCheck
        The checks, none of which has been made.
    """
    container = site.container
    checks: list[HostCheck] = [
        ("software here", (), lambda: _software(container)),
        ("perf_analyzer here", ("software here", "images"), lambda: _perf_analyzer(container, own)),
        ("results folder", (), lambda: _free_space(own.parent)),
    ]
    if container.has_images:
        checks.insert(1, ("images", ("software here",), lambda: _pull_images(container)))
    if site.scheduler == "local":
        return checks
    system = batch.system(site.scheduler)
    return [
        ("batch commands", (), lambda: _commands(site, system)),
        ("batch system", ("batch commands",), lambda: _answer(system)),
        ("network interface", (), lambda: _interface(site.network)),
        ("ports", ("network interface",), lambda: _ports(site.network, pools)),
        *checks,
    ]


def _commands(site: Site, system: BatchSystem) -> str:
    """The commands that submit, watch and cancel jobs."""
    missing = [name for name in system.commands if not shutil.which(name)]
    if missing:
        raise SiteError(
            f"not found: {', '.join(missing)}",
            "run hpcbench on a login node, or load the module that brings these commands",
        )
    # A class of the site's own may be misspelt, or its module be missing.
    if site.cluster_class:
        submission.cluster_class(site)
    return f"{', '.join(system.commands)}: {system.version()}"


def _answer(system: BatchSystem) -> str:
    """Whether the daemons answer: the commands may be installed without them."""
    asked = time.monotonic()
    system.jobs("hpcbench-doctor")
    return f"{system.commands[1]} answers in {time.monotonic() - asked:.1f} s"


def _interface(network: Network) -> str:
    """The address at which workers must reach this host."""
    name = network.interface
    if name is None:
        return f"none named: {get_ip()}, by which this host reaches others"
    addresses = _ipv4()
    if name not in addresses:
        there = ", ".join(f"{key} ({value})" for key, value in addresses.items())
        raise SiteError(
            f"{name} has no IPv4 address here; with one: {there or 'none'}",
            "correct network.interface in the site file: one that login and GPU nodes share",
        )
    only = " (this host only)" if addresses[name].startswith("127.") else ""
    return f"{name} is {addresses[name]}{only}"


def _ipv4() -> dict[str, str]:
    """The first IPv4 address of each interface that has one."""
    return {
        name: entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in reversed(entries)  # the first one of an interface comes last, and stays
        if entry.family == socket.AF_INET
    }


def _ports(network: Network, schedulers: int) -> str:
    """Whether enough ports of the site are free: the Dask scheduler of each pool takes one."""
    if not network.listening:
        return "any: the site file names no range"
    address = _ipv4()[network.interface] if network.interface else ""
    taken = [port for port in network.port_range if not _free(address, port)]
    total = len(network.port_range)
    key = "scheduler_ports" if network.scheduler_ports else "ports"
    if total - len(taken) < schedulers:
        raise SiteError(
            f"{total - len(taken)} of {network.listening} free, {schedulers} wanted",
            f"end what listens there, or widen network.{key} in the site file",
        )
    return f"{total - len(taken)} of {total} free in {network.listening}"


def _free(address: str, port: int) -> bool:
    with socket.socket() as entry:
        # As Dask does: a port that a connection has just left counts as free.
        entry.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            entry.bind((address, port))
            return True
    return False


def _software(container: Container) -> str:
    return command.runtime_of(container).find_software(container).server_digest


def _pull_images(container: Container) -> str:
    """Images of a registry are pulled to where the nodes find them."""
    pulled: list[str] = []
    images.pull_images(container, pulled.append)
    return f"pulled {', '.join(pulled)}" if pulled else "both are there"


def _perf_analyzer(container: Container, folder: Path) -> str:
    """Whether it starts. The scratch folder of the nodes may not exist on this host."""
    if not command.runtime_of(container).is_installed():
        raise NotChecked(f"{container.runtime} is not installed on this host")
    return worker_checks.start_perf_analyzer(container.model_copy(update={"scratch": str(folder)}))


def _free_space(folder: Path) -> str:
    found = f"{folder}: {worker_checks.free_space(folder)}"
    if shutil.disk_usage(folder).free < FREE_BYTES:
        raise SiteError(found, "free some space, or give --results a folder on another disk")
    return found
