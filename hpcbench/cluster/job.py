"""What a batch job runs: ``python -m hpcbench.cluster.job``, a Dask worker with one thread.

The arguments are those of ``dask worker``. The job learns here how long it may last and which
GPUs are its own.
"""

import logging
import os
import sys
import time

import dask
import psutil
from distributed.cli.dask_worker import main

from hpcbench.cluster import batch, tls
from hpcbench.cluster.batch import ThisJob
from hpcbench.cluster.dask_settings import SETTINGS
from hpcbench.errors import cause_chain
from hpcbench.measure import device, node


def deadline(job: ThisJob | None) -> float | None:
    """When this job ends, in seconds since the epoch: by the batch system, else by the profile."""
    if job and job.ends_at:
        return job.ends_at
    walltime_s = os.environ.get(batch.WALLTIME)
    if not walltime_s:
        return None
    # The shell of the job script is as old as the job.
    shell = psutil.Process(os.getppid())
    return min(shell.create_time(), time.time()) + float(walltime_s)


# Here, because the process that measures imports this module without running it.
tls.survive_closed_connections()

if __name__ == "__main__":
    job = batch.this_job()
    os.environ.update(batch.job_variables(job))
    ends = deadline(job)
    if ends is not None:
        os.environ[node.DEADLINE] = str(ends)
    device.name_gpus_by_uuid()
    dask.config.set(SETTINGS)
    # Else Dask tells of each connection, and the last lines of the log, which are shown where a
    # job dies, are those.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    try:
        main()
    except (RuntimeError, ValueError, OSError) as error:
        # Dask's first word of it is only that something failed to start.
        words = "; ".join(f"{type(each).__name__}: {each}" for each in cause_chain(error))
        sys.exit(f"the worker failed: {words}")
    except SystemExit as end:
        if isinstance(end.__context__, TimeoutError):
            sys.exit(f"the worker failed: timed out before it was connected to {sys.argv[1]}")
        raise
