"""How Dask is used in every process of hpcbench: its configuration, and clients that close."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dask
from distributed import Client, SpecCluster

from hpcbench.cluster.dask_internals import drop_workers, survive_closed_connections

log = logging.getLogger(__name__)

SETTINGS: dict[str, Any] = {
    # A worker that died in a task must not take others down by trying the same task.
    "distributed.scheduler.allowed-failures": 0,
    # 1.1, the default, parks a second placement on a busy worker.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.work-stealing": False,
    # A driver that was stopped for minutes would take every worker for dead when it goes on. The
    # batch system says whether a job has ended, and TCP whether a node has.
    "distributed.scheduler.worker-ttl": None,
    # Whoever may open a page of the scheduler could read every task.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # Triton, not the worker, takes the memory: Dask would pause or kill the wrong process.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.log-length": 0,
    "distributed.comm.timeouts.connect": "60s",
    # What becomes of the job of a lost worker is for the batch system to say, never for Dask.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}
"""What differs from Dask's defaults in every process of hpcbench: schedulers, workers, drivers."""


@contextmanager
def dask_settings() -> Iterator[None]:
    """Set Dask in this process as hpcbench needs it.

    Yields
    ------
    None
        The settings before come back when the block is left.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    survive_closed_connections()
    with dask.config.set(settings()):
        yield


def settings() -> dict[str, Any]:
    """Return Dask's whole configuration, whatever files and variables of the user's say.

    Returns
    -------
    dict of str to object
        `SETTINGS`, and Dask's defaults for all else, by the full name of each setting.
    """
    shipped = dask.config.merge(*dask.config.defaults)
    return dict(_leaves("distributed", shipped["distributed"])) | SETTINGS


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}", part)
    else:
        yield name, value


@contextmanager
def connected_client(cluster: SpecCluster) -> Iterator[Client]:
    """Connect a client to a cluster, and close both.

    Where Dask fails at closing, it is logged and no more: a broken connection must not replace
    the reason for which a run ends, nor make a run fail that has measured all.

    Parameters
    ----------
    cluster
        A cluster that was started in this process.

    Yields
    ------
    Client
        It sends work to the cluster.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(_close, cluster)
        client = Client(cluster)
        stack.callback(_close, client)
        yield client


def _close(part: Any) -> None:
    try:
        part.close()
    except Exception as error:  # noqa: BLE001 - Dask's connections fail in many ways
        log.warning("Dask closed with an error: %s", error)
        if isinstance(part, SpecCluster):
            # It stopped in the middle, and would try again when the interpreter ends.
            with contextlib.suppress(Exception):
                part.sync(drop_workers, part)
                part.close()
