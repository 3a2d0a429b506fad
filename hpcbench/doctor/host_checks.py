"""What `hpcbench doctor` looks at on the host that it runs on, each check a function.

A check returns what was found, as text, and raises SiteError with what to do about it otherwise.
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
from hpcbench.doctor.findings import NothingToCheck
from hpcbench.errors import SiteError
from hpcbench.runtime import command, images

Action = Callable[[], str]

FREE_BYTES = 1e9
"""A results folder with less than that is too small for a campaign."""


def listed(site: Site, pools: int, own: Path) -> list[tuple[str, Sequence[str], Action]]:
    """The checks in their order: name, names of those that it needs, and the check itself.

    ``own`` is an empty folder in the one for results; ``pools`` are to be used at the same time.
    """
    container = site.container
    mine: list[tuple[str, Sequence[str], Action]] = [
        ("software here", (), lambda: software(container)),
        ("perf_analyzer here", ("software here", "images"), lambda: perf_analyzer(container, own)),
        ("results folder", (), lambda: free_space(own.parent)),
    ]
    if container.has_images:
        mine.insert(1, ("images", ("software here",), lambda: pulled(container)))
    if site.scheduler == "local":
        return mine
    system = batch.system(site.scheduler)
    return [
        ("batch commands", (), lambda: commands(site, system)),
        ("batch system", ("batch commands",), lambda: answer(system)),
        ("network interface", (), lambda: interface(site.network)),
        ("ports", ("network interface",), lambda: ports(site.network, pools)),
        *mine,
    ]


def commands(site: Site, system: BatchSystem) -> str:
    """The commands by which jobs are submitted, watched and cancelled."""
    lacking = [name for name in system.commands if not shutil.which(name)]
    if lacking:
        raise SiteError(
            f"not found: {', '.join(lacking)}",
            "run hpcbench on a login node, or load the module that brings these commands",
        )
    if site.cluster_class:
        submission.cluster_class(site)
    return f"{', '.join(system.commands)}: {system.version()}"


def answer(system: BatchSystem) -> str:
    """Whether the batch system's daemons are there, too."""
    asked = time.monotonic()
    system.jobs("hpcbench-doctor")
    return f"{system.commands[1]} answers in {time.monotonic() - asked:.1f} s"


def interface(network: Network) -> str:
    """The address at which workers have to reach this host."""
    name = network.interface
    if name is None:
        return f"none named: {get_ip()}, by which this host reaches others"
    addresses = ipv4()
    if name not in addresses:
        there = ", ".join(f"{key} ({value})" for key, value in addresses.items())
        raise SiteError(
            f"{name} has no IPv4 address here; with one: {there or 'none'}",
            "correct network.interface in the site file: one that login and GPU nodes share",
        )
    only = " (this host only)" if addresses[name].startswith("127.") else ""
    return f"{name} is {addresses[name]}{only}"


def ipv4() -> dict[str, str]:
    """The first IPv4 address of each interface that has one."""
    return {
        name: entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in reversed(entries)
        if entry.family == socket.AF_INET
    }


def ports(network: Network, schedulers: int) -> str:
    """Whether the site's ports are free, on which each pool's scheduler listens."""
    if not network.listening:
        return "any: the site file names no range"
    address = ipv4()[network.interface] if network.interface else ""
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
        entry.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            entry.bind((address, port))
            return True
    return False


def software(container: Container) -> str:
    """Triton and perf_analyzer, whose digest goes into the records of a run."""
    return command.runtime_of(container).find_software(container).server_digest


def pulled(container: Container) -> str:
    """Whether the images are where the nodes find them; those of registries are pulled."""
    pulls: list[str] = []
    images.pull_images(container, pulls.append)
    return f"pulled {', '.join(pulls)}" if pulls else "both are there"


def perf_analyzer(container: Container, folder: Path) -> str:
    """Whether what was installed runs, too; the scratch folder of the nodes may not be here."""
    if not command.runtime_of(container).is_installed():
        raise NothingToCheck(f"{container.runtime} is not installed on this host")
    return worker_checks.perf_analyzer(container.model_copy(update={"scratch": str(folder)}))


def free_space(folder: Path) -> str:
    """What is left where results are to be written."""
    found = f"{folder}: {worker_checks.gigabytes(folder)} free"
    if shutil.disk_usage(folder).free < FREE_BYTES:
        raise SiteError(found, "free some space, or give --results a folder on another disk")
    return found
