"""What a batch job runs: ``python -m hpcbench.cluster.start_worker``, a Dask worker.

The arguments are those of ``dask worker``. The job learns here how long it may last and which
GPUs are its own. Each job loads this module twice, in the process that watches and in the one that
measures: it imports nothing that only one of them needs.
"""

import logging
import os
import sys
import time

import dask
import psutil

from hpcbench.cluster import batch, dask_config, dask_internals
from hpcbench.cluster.batch import ThisJob
from hpcbench.errors import cause_chain
from hpcbench.measure import node, visible_gpus
from hpcbench.runtime.temporary import sweep, temporary_folder


def _time_left_s(job: ThisJob | None) -> float:
    """Return how long this job may still run; infinite where nothing ends it."""
    # Not every batch system tells a job when it will end. The shell of the job script is as old as
    # the job.
    age_s = max(0.0, time.time() - psutil.Process(os.getppid()).create_time())
    left_s = float(os.environ.get(batch.WALLTIME) or "inf") - age_s
    by_batch_s = job.ends_at - time.time() if job and job.ends_at else float("inf")
    # A job that has just begun has not ended: the clock of this node is wrong.
    return min(by_batch_s, left_s) if by_batch_s > 0 else left_s


def _main() -> None:
    job = batch.this_job()
    os.environ.update(batch.job_variables(job))
    # By a clock that nobody sets: the node's may be set while the job runs.
    os.environ[node.DEADLINE] = str(time.monotonic() + _time_left_s(job))
    visible_gpus.name_gpus_by_uuid()
    dask.config.set(dask_config.settings())
    # Else Dask logs each connection. Where a job dies, the last lines of its log are shown: they
    # must be the error.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    # What jobs that were killed have left on this node.
    sweep()
    try:
        with temporary_folder() as workspace:
            # Dask's own, in /tmp, stays there.
            dask.config.set({"temporary-directory": str(workspace)})
            # Not the program "dask worker", whose function this is: hpcbench's settings come first.
            # Imported here: it takes long, and the process that measures does not need it.
            from distributed.cli.dask_worker import main

            main()
    except (RuntimeError, ValueError, OSError) as error:
        # The outermost of Dask's errors says only that something failed to start.
        chain = "; ".join(f"{type(each).__name__}: {each}" for each in cause_chain(error))
        sys.exit(f"the worker failed: {chain}")
    except SystemExit as end:
        if isinstance(end.__context__, TimeoutError):
            sys.exit(f"the worker failed: timed out before it was connected to {sys.argv[1]}")
        raise


# The process that measures is spawned: there, this module is imported under another name.
dask_internals.survive_closed_connections()

if __name__ == "__main__":
    _main()
