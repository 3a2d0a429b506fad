"""How Dask is set in every process of hpcbench: schedulers, workers and the processes over them."""

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
    # Jobs of lost workers are judged by what the batch system says, never by Dask alone.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}
