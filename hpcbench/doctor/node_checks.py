"""What `hpcbench doctor` looks at from within a job, each check a function that a worker runs.

A check returns what was found, as text, and raises SiteError with what to do about it otherwise.
"""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from distributed import get_worker

from hpcbench.cluster.worker import TOPIC
from hpcbench.config.container import Container
from hpcbench.config.site import Pool
from hpcbench.errors import ServerFailed, SiteError
from hpcbench.measure import node, preflight
from hpcbench.measure import server as triton
from hpcbench.measure.tool import check_scratch, sdk_tool
from hpcbench.runtime import command

FROM_DRIVER, FROM_NODE = "from-driver", "from-node"
"""Files by which driver and node see whether they share a folder."""


NOT_SHARED = (
    "give --results a folder that every node sees, or say shared_filesystem: false in the site "
    "file where the batch system carries files"
)


def arrival() -> tuple[str, float]:
    """The node's name, and the seconds since this job's first Python process was started."""
    first = psutil.Process(os.getppid())
    return str(node.facts()["node"]), time.time() - first.create_time()


def shared_folder(folder: str, word: str) -> str:
    """Reads the driver's file, and leaves one for it."""
    where = Path(folder)
    try:
        seen = (where / FROM_DRIVER).read_text()
        (where / FROM_NODE).write_text(word)
    except OSError as error:
        raise SiteError(
            f"{node.facts()['node']}: {error.filename}: {error.strerror}", NOT_SHARED
        ) from error
    if seen != word:
        raise SiteError(
            f"{node.facts()['node']}: another {where / FROM_DRIVER} is seen", NOT_SHARED
        )
    return "seen"


def send(word: str) -> str:
    """Sends ``word`` on the way that records take where no file system is shared."""
    get_worker().log_event(TOPIC, {"kind": "doctor", "word": word})
    return "sent"


def gpus(pool: Pool) -> str:
    """The GPUs that this job was given, where they are those that the pool promises."""
    return as_promised(pool, node.facts())


def as_promised(pool: Pool, found: Mapping[str, Any]) -> str:
    """As `gpus`, for the node's facts ``found``."""
    wanted, visible, count = pool.gpus_per_job, found["cuda_visible_devices"], found["gpu_count"]
    words = (visible or "").split(",")
    given = [word for word in words if word.strip() not in ("", "-1", "NoDevFiles", "none")]
    told = f"{count} x {found.get('gpu_name')}" if count else "none that NVML can name"
    told += f"; CUDA_VISIBLE_DEVICES={visible}" if visible else "; CUDA_VISIBLE_DEVICES is not set"
    if pool.gpu is not None and (count < wanted or found.get("gpu_name") != pool.gpu):
        raise SiteError(
            f"{wanted} x {pool.gpu} promised, found {told}",
            "correct gpu, or what the pool asks for (gpus_per_job, constraint, requirements, "
            "directives), in the site file",
        )
    if (count or len(given)) < wanted:
        raise SiteError(
            f"{wanted} promised, found {told}",
            "the job was given no GPU: look at gpus_per_job and directives of the pool",
        )
    if count > wanted and not given:
        raise SiteError(
            f"{wanted} promised, found {told}",
            "the job sees GPUs that may be another job's: let the batch system set "
            "CUDA_VISIBLE_DEVICES, or ask for whole nodes",
        )
    return told


def scratch(container: Container) -> str:
    """The node's own disk."""
    where = command.scratch(container)
    check_scratch(where)
    with TemporaryDirectory(prefix="hpcbench-", dir=where) as own:
        (Path(own) / "probe").write_bytes(bytes(2**20))
    return f"{where}: {gigabytes(where)} free"


def gigabytes(folder: Path) -> str:
    """Free space as text."""
    return f"{shutil.disk_usage(folder).free / 1e9:.1f} GB"


def software(container: Container, *, gpus: bool) -> str:
    """What the container section names, as a digest, where it can be used on this node."""
    try:
        digest = command.software(container).server_digest
    except SiteError as error:
        raise SiteError(f"{node.facts()['node']}: {error.message}", error.hint) from error
    preflight.check(container, gpus=gpus)
    preflight.check_same(container)
    return digest


def perf_analyzer(container: Container) -> str:
    """The version of the program, which runs."""
    return f"version {sdk_tool(container).version}"


def server(container: Container, cpus: int | None, *, gpus: bool) -> str:
    """Triton, without a model: its version and how long it takes to be ready."""
    with TemporaryDirectory(prefix="hpcbench-", dir=command.scratch(container)) as own:
        log = Path(own) / "server.log"
        try:
            version, ready_s = triton.trial(
                container, log_path=log, cpus=node.cpus(cpus), gpus=gpus
            )
        except ServerFailed as error:
            tail = "".join(f"\n    {line}" for line in error.log_tail.splitlines()[-8:])
            raise SiteError(
                f"{node.facts()['node']}: {error.message}{tail}",
                "install it again on a system like that of the nodes, or load what it lacks in "
                "the pool's prologue",
            ) from error
    return f"version {version}, ready after {ready_s:.1f} s"
