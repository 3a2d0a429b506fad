"""A pool of the site as a Dask cluster of one-thread workers."""

import logging
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Client, LocalCluster
from distributed.security import Security

from hpcbench.site import Pool

SETTINGS = {
    # A worker that died in a task must not take others down by trying the same task.
    "distributed.scheduler.allowed-failures": 0,
    # 1.1, the default, parks a second placement on a busy worker.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.work-stealing": False,
    # Whoever may open a page of the scheduler could read every task.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.log-length": 0,
    "distributed.comm.timeouts.connect": "60s",
}


@contextmanager
def cluster_client(pool: Pool) -> Iterator[Client]:
    """A client of a cluster of ``pool.max_jobs`` worker processes on this computer.

    All connections are encrypted with keys that live in memory only: on a login node the
    loopback is shared with everyone who is logged in. Both are gone when the block is left.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(SETTINGS), _blank_main():
        cluster = LocalCluster(
            n_workers=pool.max_jobs,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tls",
            security=Security.temporary(),
            # None would mean the default port, on every interface.
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            memory_limit=0,
        )
        with cluster, Client(cluster) as connected:
            yield connected


@contextmanager
def _blank_main() -> Iterator[None]:
    """Hides the user's script from new worker processes, which would else run it once more.

    Tasks name functions of hpcbench only, so that workers need nothing of the script.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
