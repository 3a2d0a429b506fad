"""Locks on the GPUs of a node: no two placements are measured on one GPU.

Batch systems give each job GPUs of its own, if they are set up to. Where they are not, or where a
site lets them give a GPU to several jobs, two workers would measure each other.

A lock is the name of a Unix socket without a file. Linux gives it to one process at a time, and
takes it back however that one ends; jobs with a /tmp of their own see it, too.
"""

import logging
import os
import platform
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from hpcbench.errors import UnusableNode
from hpcbench.measure import device
from hpcbench.measure.visible_gpus import VISIBLE, gpu_handles, gpu_uuid, visible_handles

log = logging.getLogger(__name__)

_BACKLOG = 8
_TIMEOUT_S = 1.0


class GpuInUse(Exception):
    """Another process of this user measures on a GPU.

    Parameters
    ----------
    pid
        The process.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(f"process {pid} measures on it")
        self.pid = pid


@contextmanager
def locked_gpus(uuids: Sequence[str]) -> Iterator[None]:
    """Keep this user's other processes on this node from measuring on some GPUs.

    Parameters
    ----------
    uuids
        The UUIDs of GPUs or MIG instances.

    Yields
    ------
    None
        They are locked until the block is left.

    Raises
    ------
    GpuInUse
        Where one of them is locked.
    """
    with ExitStack() as stack:
        for uuid in dict.fromkeys(uuids):
            stack.enter_context(_locked(uuid))
        yield


@contextmanager
def _locked(uuid: str) -> Iterator[None]:
    address = f"\0hpcbench-{uuid}"
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(address)
            # Whoever finds the name taken asks who has it.
            lock.listen(_BACKLOG)
        except OSError:
            pid, uid = _holder(address)
            if uid == os.getuid():
                raise GpuInUse(pid) from None
            # Any user can take any name. If that stopped us, it would be a way to stop us. Whether
            # somebody computes on the GPU meanwhile is counted, in gpu_other_processes.
            log.warning("GPU %s: its lock is held by process %d of user %d", uuid, pid, uid)
        yield


def _holder(address: str) -> tuple[int, int]:
    """Process and user that have a lock; (0, -1) where they do not answer."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(_TIMEOUT_S)
        try:
            asking.connect(address)
            ids = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return 0, -1
    pid, uid, _ = struct.unpack("3i", ids)
    return pid, uid


@contextmanager
def gpus_of_job(count: int) -> Iterator[None]:
    """Lock the GPUs that the batch system gave to this job, as long as the block lasts.

    Parameters
    ----------
    count
        How many GPUs the pool promises.

    Yields
    ------
    None
        Once.

    Raises
    ------
    UnusableNode
        Where another worker was given one of them, too.
    """
    uuids = [gpu_uuid(handle) for handle in gpu_handles()] if count else []
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_gpus(uuids))
        except GpuInUse as error:
            raise UnusableNode(
                f"{platform.node()}: GPU {', '.join(uuids)}: {error}: two jobs were given the same "
                "GPU",
                "have the batch system give each job GPUs of its own (gpus_per_job, directives); "
                "where it divides GPUs among jobs on purpose, set max_jobs: 1",
            ) from error
        yield


@contextmanager
def gpus_of_computer(gpu: str | None, count: int) -> Iterator[None]:
    """Choose GPUs of this computer that no other worker has, as long as the block lasts.

    For local workers, which no batch system gives GPUs of their own. A computer without GPUs is
    left as it is.

    Parameters
    ----------
    gpu
        The name that they must have; None for any.
    count
        How many a worker gets.

    Yields
    ------
    None
        Meanwhile CUDA_VISIBLE_DEVICES names them.

    Raises
    ------
    UnusableNode
        Where too few are left.
    """
    handles = visible_handles() if count else ()
    fitting = [each for each in handles if gpu is None or device.gpu_name(each) == gpu]
    # Where none has this name, what is there is to be compared with what was promised.
    candidates = [gpu_uuid(handle) for handle in fitting or handles]
    with ExitStack() as stack:
        own: list[str] = []
        for uuid in candidates:
            if len(own) < count and _is_free(uuid, stack):
                own.append(uuid)
        if handles and len(own) < count:
            raise UnusableNode(
                f"{platform.node()}: {len(own)} of {len(candidates)} GPUs are too few for one more "
                f"worker with {count} GPUs: other workers measure on the rest",
                "lower max_jobs or gpus_per_job in the site file, or choose one pool by --pool",
            )
        if own:
            stack.enter_context(_visible(own))
        yield


def _is_free(uuid: str, stack: ExitStack) -> bool:
    try:
        stack.enter_context(_locked(uuid))
    except GpuInUse:
        return False
    return True


@contextmanager
def _visible(uuids: Sequence[str]) -> Iterator[None]:
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ",".join(uuids)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = before
