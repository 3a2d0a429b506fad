"""Whether a job has the GPUs that its pool promises; runs on the node."""

from collections.abc import Mapping
from typing import Any

from hpcbench.config.site import Pool
from hpcbench.errors import SiteError
from hpcbench.measure import device

_NO_GPU = ("", "-1", "NoDevFiles", "none")
"""What CUDA_VISIBLE_DEVICES says where a job has no GPU."""


def check_gpus(pool: Pool) -> str:
    """Compare the GPUs of this process with what its pool promises.

    Parameters
    ----------
    pool
        The pool.

    Returns
    -------
    str
        The GPUs, in words.

    Raises
    ------
    SiteError
        Where they are others, more or fewer.
    """
    return compare_gpus(pool, device.gpu_columns())


def compare_gpus(pool: Pool, found: Mapping[str, Any]) -> str:
    """Compare what was found with what a pool promises.

    Parameters
    ----------
    pool
        The pool.
    found
        Columns of `hpcbench.measure.device.gpu_columns`.

    Returns
    -------
    str
        The GPUs, in words.

    Raises
    ------
    SiteError
        Where they are others, more or fewer.
    """
    wanted, visible, count = pool.gpus_per_job, found["cuda_visible_devices"], found["gpu_count"]
    name = found.get("gpu_name")
    given = [word for word in (visible or "").split(",") if word.strip() not in _NO_GPU]
    text = f"{count} x {name}" if count else "none that NVML can name"
    text += f"; CUDA_VISIBLE_DEVICES={visible}" if visible else "; CUDA_VISIBLE_DEVICES is not set"
    problem = None
    if count < wanted and " MIG " in (name or ""):
        problem = (
            "a program of CUDA's uses one MIG instance only: gpus_per_job: 1, and as many jobs as "
            "there are instances"
        )
    elif pool.gpu is not None and (count < wanted or name != pool.gpu):
        problem = (
            "correct gpu, or what the pool asks for (gpus_per_job, constraint, requirements, "
            "directives), in the site file"
        )
    elif (count or len(given)) < wanted:
        problem = "the job was given no GPU: look at gpus_per_job and directives of the pool"
    elif count > wanted and not given:
        problem = (
            "the job sees GPUs that may be another job's: let the batch system set "
            "CUDA_VISIBLE_DEVICES, or ask for whole nodes"
        )
    elif count > wanted:
        problem = "correct gpus_per_job, or the directives that ask for GPUs: Triton uses all"
    if problem:
        promised = f"{wanted} x {pool.gpu}" if pool.gpu else f"{wanted}"
        raise SiteError(f"{promised} promised, found {text}", problem)
    if found.get("gpu_persistence_mode") is False:
        text += "; persistence mode is off: the first server on an idle GPU waits for the driver"
    return text
