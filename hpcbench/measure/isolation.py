"""Which loopback the server and its clients get: one of their own, or the node's."""

import logging
import platform
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache

from hpcbench.config.container import Container
from hpcbench.errors import ServerFailed, UnusableNode
from hpcbench.runtime import process
from hpcbench.runtime.command import (
    NodeAccess,
    image_runtime_of,
    runtime_of,
    scratch_folder,
)
from hpcbench.runtime.loopback import NODE, Loopback, NoLoopback, own_loopback
from hpcbench.runtime.temporary import temporary_folder

log = logging.getLogger(__name__)

_TIMEOUT_S = 120.0


@contextmanager
def loopback_for(container: Container, *, gpus: bool) -> Iterator[Loopback]:
    """Provide the loopback for a server and its clients.

    Parameters
    ----------
    container
        How the programs run, and which loopback was asked for.
    gpus
        Whether the server gets GPUs.

    Yields
    ------
    Loopback
        One that is gone with the block, or the node's.

    Raises
    ------
    UnusableNode
        Where one of their own is required and this node does not allow it.
    """
    with ExitStack() as stack:
        loopback = NODE
        if _may_have_its_own(container, gpus):
            try:
                loopback = stack.enter_context(own_loopback())
            except NoLoopback as error:
                # It warns in the log, once per process.
                shared_loopback_reason(container, gpus=gpus)
                _refuse_if_required(container, str(error))
        yield loopback


def _may_have_its_own(container: Container, gpus: bool) -> bool:
    # Without an image, a loopback that is made is the whole trial: it is not made twice.
    if image_runtime_of(container) is None and _obstacle_before(container) is None:
        return True
    return shared_loopback_reason(container, gpus=gpus) is None


def _obstacle_before(container: Container) -> str | None:
    """Why none is tried; None where one is."""
    if container.network_isolation == "off":
        return "network_isolation: off"
    if container.network_isolation == "auto":
        return runtime_of(container).isolation_obstacle(container)
    return None


# Cached: it starts a container, and a worker starts many servers.
@cache
def shared_loopback_reason(container: Container, *, gpus: bool) -> str | None:
    """Return why the server and its clients are on the node's loopback, once per process.

    Parameters
    ----------
    container
        How the programs run, and which loopback was asked for.
    gpus
        Whether the server gets GPUs.

    Returns
    -------
    str or None
        None where they have one of their own.

    Raises
    ------
    UnusableNode
        Where one of their own is required and this node does not allow it.
    """
    if container.network_isolation == "off":
        return "network_isolation: off"
    reason = _obstacle_before(container) or _obstacle(container, gpus)
    if reason is not None:
        _refuse_if_required(container, reason)
        log.warning("%s: other users reach Triton's ports: %s", platform.node(), reason)
    return reason


def in_words(container: Container, *, gpus: bool) -> str:
    """Return on which loopback Triton listens here, for a person.

    Parameters
    ----------
    container
        How the programs run, and which loopback was asked for.
    gpus
        Whether the server gets GPUs.

    Returns
    -------
    str
        A clause.
    """
    reason = shared_loopback_reason(container, gpus=gpus)
    return f"other users reach its ports ({reason})" if reason else "on a loopback of its own"


_NO_NETWORK = re.compile(
    r"Network is unreachable|Temporary failure in name resolution|Name or service not known"
)


@contextmanager
def network_explained(loopback: Loopback) -> Iterator[None]:
    """Say why a model failed that needs the network and has a loopback only.

    Parameters
    ----------
    loopback
        Where the server runs that is started in the block.

    Yields
    ------
    None
        Once.

    Raises
    ------
    ServerFailed
        That of the block, perhaps with a hint.
    """
    try:
        yield
    except ServerFailed as error:
        if not loopback.namespaces or not _NO_NETWORK.search(f"{error.message}{error.log_tail}"):
            raise
        hint = "this model needs the network: say network_isolation: off in the site file"
        message = f"{error.message}; {hint}"
        raise ServerFailed(message, error.log_tail, error.not_applicable) from error


def _refuse_if_required(container: Container, reason: str) -> None:
    if container.network_isolation == "required":
        raise UnusableNode(
            f"{platform.node()}: network_isolation: required, and this node does not allow it: "
            f"{reason}",
            "its administrators can allow it (sysctl user.max_user_namespaces and "
            "user.max_net_namespaces; on Ubuntu kernel.apparmor_restrict_unprivileged_userns); or "
            "say network_isolation: auto in the site file, and ask for whole nodes",
        )


def _obstacle(container: Container, gpus: bool) -> str | None:
    """Why no server can have a loopback of its own on this node; None where one can."""
    runtime = image_runtime_of(container)
    try:
        with own_loopback() as own:
            if runtime is None:
                return None
            with temporary_folder(scratch_folder(container)) as folder:
                # Where a container starts, one more user namespace within ours is allowed, too.
                access = NodeAccess(folder=folder, gpus=gpus)
                command = runtime.image_command(container, "server", ["true"], access)
                command = replace(command, namespaces=own.namespaces)
                done = process.run(command, folder=access.folder, timeout_s=_TIMEOUT_S)
    except NoLoopback as error:
        return str(error)
    if done.returncode == 0:
        return None
    return f"no container starts in a user namespace: {runtime.explain_failure(done.stderr)[0]}"
