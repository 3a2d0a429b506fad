"""What `hpcbench doctor` looks at from within a job, each check a function that a worker runs.

A check returns what was found, as text, and raises SiteError with what to do about it otherwise.

A worker that has connected, asked about its node: each check a function.

A check returns what was found, as text, and raises SiteError with what to do about it otherwise.
What runs on the node is in `node_checks`.
"""

import contextlib
import os
import platform
import queue
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from distributed import CancelledError, KilledWorker, get_worker

from hpcbench.cluster.worker import TOPIC
from hpcbench.cluster.workers import Workers
from hpcbench.config.container import Container
from hpcbench.config.site import Pool, Site
from hpcbench.doctor.findings import NothingToCheck
from hpcbench.errors import HpcbenchError, ServerFailed, SiteError
from hpcbench.measure import device, node, preflight
from hpcbench.measure import server as triton
from hpcbench.measure.preflight import check_scratch, installed_perf_analyzer
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
    return platform.node(), time.time() - first.create_time()


def shared_folder(folder: str, word: str) -> str:
    """Reads the driver's file, and leaves one for it."""
    where = Path(folder)
    try:
        seen = (where / FROM_DRIVER).read_text()
        (where / FROM_NODE).write_text(word)
    except OSError as error:
        raise SiteError(
            f"{platform.node()}: {error.filename}: {error.strerror}", NOT_SHARED
        ) from error
    if seen != word:
        raise SiteError(f"{platform.node()}: another {where / FROM_DRIVER} is seen", NOT_SHARED)
    return "seen"


def send(word: str) -> str:
    """Sends ``word`` on the way that records take where no file system is shared."""
    get_worker().log_event(TOPIC, {"kind": "doctor", "word": word})
    return "sent"


def gpus(pool: Pool) -> str:
    """The GPUs that this job was given, where they are those that the pool promises."""
    return as_promised(pool, device.gpu_columns())


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
    where = command.scratch_folder(container)
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
        digest = command.runtime_of(container).find_software(container).server_digest
    except SiteError as error:
        raise SiteError(f"{platform.node()}: {error.message}", error.hint) from error
    preflight.check_images(container, gpus=gpus)
    preflight.check_unchanged(container)
    return digest


def perf_analyzer(container: Container) -> str:
    """The version of the program, which runs."""
    return f"version {installed_perf_analyzer(container).version}"


def server(container: Container, cpus: int | None, *, gpus: bool) -> str:
    """Triton, without a model: its version and how long it takes to be ready."""
    with TemporaryDirectory(prefix="hpcbench-", dir=command.scratch_folder(container)) as own:
        log = Path(own) / "server.log"
        try:
            version, ready_s = triton.start_without_models(
                container, log_path=log, cpus=node.usable_cpus(cpus), gpus=gpus
            )
        except ServerFailed as error:
            tail = "".join(f"\n    {line}" for line in error.log_tail.splitlines()[-8:])
            raise SiteError(
                f"{platform.node()}: {error.message}{tail}",
                "install it again on a system like that of the nodes, or load what it lacks in "
                "the pool's prologue",
            ) from error
    return f"version {version}, ready after {ready_s:.1f} s"


ANSWER_S = 60.0
SERVER_S = 300.0
SHARED_S = 30.0
"""How long what one side wrote or sent may take to be seen on the other."""

CLOCKS_S = 5.0
"""So far apart, workers would misjudge when their jobs end."""


@dataclass(frozen=True)
class Visit:
    """A worker that is connected, and the folder that its job shares with the driver."""

    site: Site
    name: str
    folder: Path
    workers: Workers

    @property
    def pool(self) -> Pool:
        return self.site.pools[self.name]

    def ask(self, function: Callable[..., Any], *arguments: Any, seconds: float = ANSWER_S) -> Any:
        """What the function returns on the node. Raises what it raises; all else as SiteError."""
        if not self.workers.live:
            raise SiteError("the worker is gone", "its job may have been ended: see the pool's QOS")
        future = self.workers.client.submit(
            function, *arguments, key=f"doctor-{uuid.uuid4().hex}", pure=False
        )
        try:
            error = future.exception(timeout=seconds)
        except (TimeoutError, CancelledError) as late:
            raise SiteError(f"no answer from the node within {seconds:.0f} s") from late
        if error is None:
            return future.result()
        if isinstance(error, KilledWorker):
            raise SiteError("the worker died meanwhile", "did the job run out of memory, or time?")
        if isinstance(error, HpcbenchError | OSError):
            raise error
        raise SiteError(
            f"{type(error).__name__}: {error}".partition("\n")[0],
            "is the same hpcbench installed on both sides? See versions",
        )


def connected(visit: Visit) -> str:
    """Both addresses, and how long it took."""
    info = visit.workers.client.scheduler_info()
    told = f"{', '.join(info['workers'])} to {info['address']}"
    if visit.site.scheduler == "local":
        return told
    with contextlib.suppress(SiteError):
        node, seconds = visit.ask(arrival)
        told += f"; node {node}, {seconds:.1f} s after the job's Python began"
    return told


def _versions(visit: Visit) -> str:
    info: Any = visit.workers.client.get_versions(packages=["triton-hpcbench"])
    here = _plain(info["client"]["packages"])
    for there in info["workers"].values():
        wrong = different(here, _plain(there["packages"]))
        if wrong:
            raise SiteError(
                "; ".join(wrong),
                "install the same on both sides, or correct python in the site file",
            )
    return ", ".join(f"{name} {here[name]}" for name in VERSIONS) + " on both sides"


VERSIONS = ("python", "triton-hpcbench", "dask", "distributed")


def _plain(packages: Mapping[str, str | None]) -> dict[str, str]:
    return {name: str(packages.get(name)).replace(".final.0", "") for name in VERSIONS}


def different(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """What differs between two sides, as text."""
    return [f"{k} {v} here, {there[k]} there" for k, v in here.items() if there[k] != v]


def _shared_folder(visit: Visit) -> str:
    word, begun = uuid.uuid4().hex, time.monotonic()
    if not visit.site.shared_filesystem:
        heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        visit.workers.client.subscribe_topic(TOPIC, lambda event: heard.put(event[1]))
        visit.ask(send, word)
        with contextlib.suppress(queue.Empty):
            while heard.get(timeout=SHARED_S).get("word") != word:
                continue
            return f"none, as said; records travel, in {time.monotonic() - begun:.1f} s"
        raise SiteError(f"what a worker tells did not arrive within {SHARED_S:.0f} s")
    (visit.folder / FROM_DRIVER).write_text(word)
    visit.ask(shared_folder, str(visit.folder), word)
    back = visit.folder / FROM_NODE
    deadline = time.monotonic() + SHARED_S
    while not (back.exists() and back.read_text() == word):
        if time.monotonic() > deadline:
            raise SiteError(
                f"{visit.folder.parent}: what the node wrote is not seen here",
                NOT_SHARED,
            )
        time.sleep(0.1)
    return f"{visit.folder.parent.parent}: both sides see it, in {time.monotonic() - begun:.1f} s"


def _clocks(visit: Visit) -> str:
    trips = []
    for _ in range(3):
        before = time.time()
        there = visit.ask(time.time)
        trips.append((time.time() - before, there - (before + time.time()) / 2))
    took, apart = min(trips)
    if abs(apart) - took > CLOCKS_S:
        raise SiteError(
            f"the node's clock is {apart:+.1f} s from this one",
            "tell the site's administrators; workers would misjudge when their jobs end",
        )
    return f"{abs(apart):.2f} s apart, to {took:.2f} s"


def _gpus(visit: Visit) -> str:
    if not visit.pool.gpus_per_job and visit.pool.gpu is None:
        raise NothingToCheck("the pool asks for none")
    return str(visit.ask(gpus, visit.pool))


def _software(visit: Visit) -> str:
    look = partial(software, gpus=visit.pool.gpus_per_job > 0)
    there = str(visit.ask(look, visit.site.container, seconds=SERVER_S))
    here = there
    with contextlib.suppress(SiteError):
        container = visit.site.container
        here = command.runtime_of(container).find_software(container).server_digest
    if here != there:
        raise SiteError(
            f"{there} there, {here} here",
            "these are two installations: name one that all see, or install the same on both",
        )
    return there


def _scratch(visit: Visit) -> str:
    return str(visit.ask(scratch, visit.site.container))


def _perf_analyzer(visit: Visit) -> str:
    return str(visit.ask(perf_analyzer, visit.site.container))


def _triton(visit: Visit) -> str:
    container, cpus = visit.site.container, visit.pool.cpus
    look = partial(server, gpus=visit.pool.gpus_per_job > 0)
    return str(visit.ask(look, container, cpus, seconds=SERVER_S))


_HERE = ("worker connects",)
CHECKS: Sequence[tuple[str, Sequence[str], Callable[[Visit], str]]] = (
    ("versions", _HERE, _versions),
    ("shared folder", _HERE, _shared_folder),
    ("clocks", _HERE, _clocks),
    ("GPUs", _HERE, _gpus),
    ("scratch folder", _HERE, _scratch),
    ("software", _HERE, _software),
    ("perf_analyzer", (*_HERE, "scratch folder", "software"), _perf_analyzer),
    ("Triton starts", (*_HERE, "scratch folder", "software"), _triton),
)
"""What is looked at in the job: name, names of those that it needs, and the check itself."""
