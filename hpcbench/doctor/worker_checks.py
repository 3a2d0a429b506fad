"""The checks that the worker of a pool's job makes on its node.

A check takes the connected worker and returns what was found. It raises SiteError where that is
wrong, with a hint on what to do. The first half of this module runs on the node, the second half
on this host.
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
from hpcbench.config.cpu_shares import CpuShares
from hpcbench.config.site import Pool, Site
from hpcbench.doctor.findings import NotChecked
from hpcbench.doctor.gpu_checks import check_gpus
from hpcbench.errors import HpcbenchError, ServerFailed, SiteError
from hpcbench.measure import isolation, node, preflight
from hpcbench.measure import server as triton
from hpcbench.measure.preflight import check_scratch, installed_perf_analyzer
from hpcbench.runtime import command

FROM_DRIVER, FROM_NODE = "from-driver", "from-node"
"""Files by which driver and node see whether they share a folder."""

NOT_SHARED = (
    "give --results a folder that every node sees, or say shared_filesystem: false in the site "
    "file where the batch system carries files"
)


# On the node. Dask sends these functions by name: they must be at the top of the module.


def _arrival() -> tuple[str, float]:
    """The node's name, and the seconds since this job's first Python process was started."""
    first = psutil.Process(os.getppid())
    return platform.node(), time.time() - first.create_time()


def _read_and_write(folder: str, word: str) -> str:
    """Read the driver's file and leave one for it."""
    where = Path(folder)
    try:
        seen = (where / FROM_DRIVER).read_text()
        (where / FROM_NODE).write_text(word)
    except OSError as error:
        raise SiteError(
            f"{platform.node()}: {error.filename}: {error.strerror}", NOT_SHARED
        ) from error
    if seen != word:
        raise SiteError(f"{platform.node()}: sees another {where / FROM_DRIVER}", NOT_SHARED)
    return "seen"


def _send(word: str) -> str:
    """Send a word on the way that records take where no file system is shared."""
    get_worker().log_event(TOPIC, {"kind": "doctor", "word": word})
    return "sent"


def _write_scratch(container: Container) -> str:
    where = command.scratch_folder(container)
    check_scratch(where)
    with TemporaryDirectory(prefix="hpcbench-", dir=where) as own:
        (Path(own) / "probe").write_bytes(bytes(2**20))
    return f"{where}: {free_space(where)}"


def free_space(folder: Path) -> str:
    """Return how much space is left in a folder.

    Parameters
    ----------
    folder
        The folder.

    Returns
    -------
    str
        As in "12.3 GB free".
    """
    return f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free"


def _find_software(container: Container, *, gpus: bool) -> str:
    """The digest of Triton's installation or image, if it can be used on this node."""
    try:
        digest = command.runtime_of(container).find_software(container).server_digest
    except SiteError as error:
        raise SiteError(f"{platform.node()}: {error.message}", error.hint) from error
    preflight.check_images(container, gpus=gpus)
    preflight.check_unchanged(container)
    return digest


def start_perf_analyzer(container: Container) -> str:
    """Start perf_analyzer once.

    Parameters
    ----------
    container
        Where it is installed.

    Returns
    -------
    str
        Its version.
    """
    return f"version {installed_perf_analyzer(container).version}"


def _start_triton(container: Container, cpus: int | CpuShares | None, *, gpus: bool) -> str:
    """Start Triton without a model: its version and how long it takes to be ready."""
    with TemporaryDirectory(prefix="hpcbench-", dir=command.scratch_folder(container)) as own:
        log = Path(own) / "server.log"
        try:
            version, ready_s = triton.start_without_models(
                container, log_path=log, cpus=node.divided_cpus(cpus).server, gpus=gpus
            )
        except ServerFailed as error:
            tail = "".join(f"\n    {line}" for line in error.log_tail.splitlines()[-8:])
            raise SiteError(
                f"{platform.node()}: {error.message}{tail}",
                "install it again on a system like that of the nodes, or load what it lacks in "
                "the pool's prologue",
            ) from error
    loopback = isolation.in_words(container, gpus=gpus)
    return f"version {version}, ready after {ready_s:.1f} s, {loopback}"


# On this host
ANSWER_S = 60.0
"""How long a check on the node may take [s]."""

SERVER_S = 300.0
"""How long Triton may take to start, and its image to be read from a slow file system [s]."""

SHARED_S = 30.0
"""How long what one side writes or sends may take to be seen on the other [s]. NFS caches."""

CLOCKS_S = 5.0
"""Workers misjudge when their jobs end if clocks differ by more [s]."""


@dataclass(frozen=True)
class ConnectedWorker:
    """The worker of a pool's job.

    Attributes
    ----------
    site
        The site, with this pool only.
    name
        The name of the pool.
    folder
        The folder that the job shares with this host, where the site has a shared file system.
    workers
        The pool's workers: one at most.
    """

    site: Site
    name: str
    folder: Path
    workers: Workers

    @property
    def pool(self) -> Pool:
        """The pool as the site file describes it."""
        return self.site.pools[self.name]

    def call(
        self, function: Callable[..., Any], *arguments: Any, timeout_s: float = ANSWER_S
    ) -> Any:
        """Call a function on the node.

        Parameters
        ----------
        function
            A function of a module that the node can import.
        *arguments
            Its arguments.
        timeout_s
            How long it may take [s].

        Returns
        -------
        object
            What it returns.

        Raises
        ------
        HpcbenchError, OSError
            What the function raises.
        SiteError
            If it raises anything else, takes too long, or if the worker is lost.
        """
        if not self.workers.live:
            raise SiteError("the worker is gone", "its job may have been ended: see the pool's QOS")
        future = self.workers.client.submit(
            function, *arguments, key=f"doctor-{uuid.uuid4().hex}", pure=False
        )
        try:
            error = future.exception(timeout=timeout_s)
        except (TimeoutError, CancelledError) as late:
            raise SiteError(f"no answer from the node within {timeout_s:.0f} s") from late
        if error is None:
            return future.result()
        if isinstance(error, KilledWorker):
            raise SiteError(
                "the worker died during this check", "did the job run out of memory or time?"
            )
        if isinstance(error, HpcbenchError | OSError):
            raise error
        raise SiteError(
            f"{type(error).__name__}: {error}".partition("\n")[0],
            "is the same hpcbench installed on both sides? See versions",
        )


def connection(worker: ConnectedWorker) -> str:
    """Return both addresses of the connection.

    Parameters
    ----------
    worker
        The worker.

    Returns
    -------
    str
        Also the node, and how long the worker took to connect.
    """
    info = worker.workers.client.scheduler_info()
    text = f"{', '.join(info['workers'])} to {info['address']}"
    if worker.site.scheduler == "local":
        return text
    with contextlib.suppress(SiteError):
        node, seconds = worker.call(_arrival)
        text += f"; node {node}, {seconds:.1f} s after the job's Python began"
    return text


def _versions(worker: ConnectedWorker) -> str:
    info: Any = worker.workers.client.get_versions(packages=["triton-hpcbench"])
    here = _plain(info["client"]["packages"])
    for there in info["workers"].values():
        wrong = _differences(here, _plain(there["packages"]))
        if wrong:
            raise SiteError(
                "; ".join(wrong),
                "install the same on both sides, or correct python in the site file",
            )
    return ", ".join(f"{name} {here[name]}" for name in VERSIONS) + " on both sides"


VERSIONS = ("python", "triton-hpcbench", "dask", "distributed")


def _plain(packages: Mapping[str, str | None]) -> dict[str, str]:
    return {name: str(packages.get(name)).replace(".final.0", "") for name in VERSIONS}


def _differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    return [f"{k} {v} here, {there[k]} there" for k, v in here.items() if there[k] != v]


def _shared_folder(worker: ConnectedWorker) -> str:
    word, begun = uuid.uuid4().hex, time.monotonic()
    if not worker.site.shared_filesystem:
        received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        worker.workers.client.subscribe_topic(TOPIC, lambda event: received.put(event[1]))
        worker.call(_send, word)
        with contextlib.suppress(queue.Empty):
            while received.get(timeout=SHARED_S).get("word") != word:
                continue
            seconds = time.monotonic() - begun
            return f"none, as the site file says; records travel, in {seconds:.1f} s"
        raise SiteError(f"what the worker sent did not arrive within {SHARED_S:.0f} s")
    (worker.folder / FROM_DRIVER).write_text(word)
    worker.call(_read_and_write, str(worker.folder), word)
    back = worker.folder / FROM_NODE
    deadline = time.monotonic() + SHARED_S
    while not (back.exists() and back.read_text() == word):
        if time.monotonic() > deadline:
            raise SiteError(
                f"{worker.folder.parent}: what the node wrote is not seen here",
                NOT_SHARED,
            )
        time.sleep(0.1)
    return f"{worker.folder.parent.parent}: both sides see it, in {time.monotonic() - begun:.1f} s"


def _clocks(worker: ConnectedWorker) -> str:
    trips = []
    for _ in range(3):
        before = time.time()
        there = worker.call(time.time)
        trips.append((time.time() - before, there - (before + time.time()) / 2))
    took, apart = min(trips)
    if abs(apart) - took > CLOCKS_S:
        raise SiteError(
            f"the node's clock is {apart:+.1f} s from this one",
            "tell the site's administrators; workers misjudge when their jobs end",
        )
    return f"{abs(apart):.2f} s apart, to {took:.2f} s"


def _gpus(worker: ConnectedWorker) -> str:
    if not worker.pool.gpus_per_job and worker.pool.gpu is None:
        raise NotChecked("the pool asks for none")
    return str(worker.call(check_gpus, worker.pool))


def _software(worker: ConnectedWorker) -> str:
    call = partial(_find_software, gpus=worker.pool.gpus_per_job > 0)
    there = str(worker.call(call, worker.site.container, timeout_s=SERVER_S))
    here = there
    with contextlib.suppress(SiteError):
        container = worker.site.container
        here = command.runtime_of(container).find_software(container).server_digest
    if here != there:
        raise SiteError(
            f"{there} there, {here} here",
            "these are two installations: name one that all see, or install the same on both",
        )
    return there


def _scratch(worker: ConnectedWorker) -> str:
    return str(worker.call(_write_scratch, worker.site.container))


def _perf_analyzer(worker: ConnectedWorker) -> str:
    return str(worker.call(start_perf_analyzer, worker.site.container))


def _triton(worker: ConnectedWorker) -> str:
    container, cpus = worker.site.container, worker.pool.cpus
    call = partial(_start_triton, gpus=worker.pool.gpus_per_job > 0)
    return str(worker.call(call, container, cpus, timeout_s=SERVER_S))


_CONNECTED = ("worker connects",)
CHECKS: Sequence[tuple[str, Sequence[str], Callable[[ConnectedWorker], str]]] = (
    ("versions", _CONNECTED, _versions),
    ("shared folder", _CONNECTED, _shared_folder),
    ("clocks", _CONNECTED, _clocks),
    ("GPUs", _CONNECTED, _gpus),
    ("scratch folder", _CONNECTED, _scratch),
    ("software", _CONNECTED, _software),
    ("perf_analyzer", (*_CONNECTED, "scratch folder", "software"), _perf_analyzer),
    ("Triton starts", (*_CONNECTED, "scratch folder", "software"), _triton),
)
"""The checks on a node in their order: name, names of the checks that it needs, function."""
