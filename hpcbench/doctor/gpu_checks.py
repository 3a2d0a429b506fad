"""Whether a job has the GPUs that its pool promises; runs on the node."""

from collections.abc import Mapping
from typing import Any

from hpcbench.config.site import Pool
from hpcbench.errors import SiteError
from hpcbench.measure import device


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
    visible, count = found["cuda_visible_devices"], found["gpu_count"]
    text = f"{count} x {found.get('gpu_name')}" if count else "none that NVML can name"
    text += f"; CUDA_VISIBLE_DEVICES={visible}" if visible else "; CUDA_VISIBLE_DEVICES is not set"
    mismatch = device.gpu_mismatch(pool.gpu, pool.gpus_per_job, found)
    if mismatch:
        raise SiteError(f"{mismatch.problem}: {text}", mismatch.hint)
    # A run goes on without a name to compare: the server says what it has. Here it can be mended.
    if (count or len(device.given_gpus(visible))) < pool.gpus_per_job:
        raise SiteError(
            f"{pool.gpus_per_job} x GPU promised, found {text}",
            "the job was given no GPU: look at gpus_per_job and directives of the pool",
        )
    if found.get("gpu_persistence_mode") is False:
        text += "; persistence mode is off: the first server on an idle GPU waits for the driver"
    return text
