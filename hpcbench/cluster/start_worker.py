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


def _deadline(job: ThisJob | None) -> float | None:
    """Return when this job ends, in seconds since the epoch; None where nothing ends it."""
    if job and job.ends_at:
        return job.ends_at
    # Not every batch system tells a job when it will end.
    walltime_s = os.environ.get(batch.WALLTIME)
    if not walltime_s:
        return None
    # The shell of the job script is as old as the job.
    shell = psutil.Process(os.getppid())
    return min(shell.create_time(), time.time()) + float(walltime_s)


def _main() -> None:
    job = batch.this_job()
    os.environ.update(batch.job_variables(job))
    deadline = _deadline(job)
    if deadline is not None:
        os.environ[node.DEADLINE] = str(deadline)
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
