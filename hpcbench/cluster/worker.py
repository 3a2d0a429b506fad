"""What a Dask worker runs: one placement, each record durable before the next point starts."""

import importlib
import itertools
import math
import pickle
import platform
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from distributed import get_worker

from hpcbench.cluster.events import PlacementEnded, PlacementStarted, point_measured, to_message
from hpcbench.config.cpu_shares import CpuShares
from hpcbench.config.site import Site
from hpcbench.errors import UnusableNode
from hpcbench.measure import device, gpu_locks, node
from hpcbench.plan.placement import Placement
from hpcbench.records import merging, store
from hpcbench.records.columns import Key, Record
from hpcbench.records.folder import Results
from hpcbench.runtime import command
from hpcbench.runtime.ownership import others_cannot_write
from hpcbench.runtime.temporary import temporary_folder

TOPIC = "hpcbench"
"""The topic of Dask's events by which workers report each record as soon as it is on disk."""

LOG_BYTES = 1_000_000
"""Bytes of a server's log that travel to the driver where no file system is shared."""


_stops_after_point = threading.Event()


def stop_after_point() -> None:
    """Let this worker start no further point: the run ends with the one under way."""
    _stops_after_point.set()


@dataclass(frozen=True)
class PlacementResult:
    """How a placement went on a worker.

    Attributes
    ----------
    worker
        The worker's name.
    counts
        How many records ended in which status.
    left
        The points that were not started, because the job would have ended before they did, or
        because the run is to stop.
    records, logs
        What the driver has to write where no file system is shared; else empty.
    """

    worker: str
    counts: Mapping[str, int]
    left: tuple[Key, ...] = ()
    records: tuple[Record, ...] = ()
    logs: Mapping[str, bytes] = field(default_factory=dict)


def run_placement(placement: Placement, site: Site, folder: str) -> PlacementResult:
    """Measure a placement into the results folder, or as much of it as the job has time for.

    Parameters
    ----------
    placement
        What to measure.
    site
        Where this is.
    folder
        The path of the results folder.

    Returns
    -------
    PlacementResult
        How it went.

    Raises
    ------
    UnusableNode
        With the names of worker and node, where nothing can be measured here.
    """
    worker = get_worker()
    name = str(worker.name)
    which = (placement.id, placement.pool, name)
    began = PlacementStarted(*which, node.batch_name(), time.time())
    worker.log_event(TOPIC, to_message(began))
    if _stops_after_point.is_set() or node.time_left_s() < placement.needs_s(1):
        return PlacementResult(name, {}, tuple(placement.keys))
    try:
        with (
            _own_devices(placement, site, name),
            others_cannot_write(),
            _results_here(site, folder) as results,
        ):
            _check_gpu(placement, site)
            # Another worker may have had this placement and finished it, unseen by the driver.
            left = placement.without_done(store.recorded_keys(results, placement.id))
            if left is None:
                return PlacementResult(name, {})
            result = _measure(left, site, results, name)
            worker.log_event(TOPIC, to_message(PlacementEnded(*which, time.time())))
            if site.shared_filesystem:
                merging.merge_points(results, placement.id)
                return result
            logs = {path.name: path.read_bytes()[-LOG_BYTES:] for path in results.logs.iterdir()}
            return PlacementResult(name, result.counts, result.left, result.records, logs)
    except UnusableNode as error:
        raise UnusableNode(error.message, error.hint, node.batch_name(), name) from error
    except OSError as error:
        raise UnusableNode(
            f"{platform.node()}: {error.filename or folder}: {error.strerror or error}",
            "what was measured is kept; is this folder there on every node? If not, say "
            "shared_filesystem: false in the site file",
            node.batch_name(),
            name,
        ) from error


def _measure(placement: Placement, site: Site, results: Results, name: str) -> PlacementResult:
    worker = get_worker()
    counts: Counter[str] = Counter()
    carried: list[Record] = []
    left = dict.fromkeys(placement.keys)
    # Points that are measured together give their records one after the other: in between, there
    # is no next point, and so no time that it would need.
    next_s = placement.next_s
    # pyarrow imports pandas when it builds the first table, that of the first record. Here it costs
    # no time: the server takes longer to start.
    threading.Thread(target=importlib.import_module, args=("pandas",), daemon=True).start()
    # Not at the top: the driver knows this module, too, and measures nothing. There, this would be
    # a fifth of what it imports.
    from hpcbench.measure.measure import measure

    # Closed also where the loop is left early: Triton must not wait for the garbage collector.
    with closing(measure(placement, site, results.logs)) as records:
        for record in records:
            message = to_message(point_measured(record))
            if site.shared_filesystem:
                store.write_point(results, record)
            else:
                carried.append(record)
                message["pickle"] = pickle.dumps(record)
            if record.part_of is None:
                counts[record.status] += 1
            left.pop(record.key, None)
            worker.log_event(TOPIC, message)
            if record.key not in next_s:
                continue
            if _stops_after_point.is_set() or node.time_left_s() < next_s[record.key]:
                break
    return PlacementResult(name, dict(counts), tuple(left), tuple(carried))


@contextmanager
def _results_here(site: Site, folder: str) -> Iterator[Results]:
    """Give the results folder, or one on this node that stands for it while the placement lasts."""
    if site.shared_filesystem:
        yield Results(Path(folder))
        return
    with temporary_folder(command.scratch_folder(site.container)) as own:
        results = Results(own)
        results.logs.mkdir()
        yield results


@contextmanager
def _own_devices(placement: Placement, site: Site, name: str) -> Iterator[None]:
    """Keep the GPUs, and on this computer also the CPUs, of this worker from the others."""
    pool = site.pools[placement.pool]
    with ExitStack() as stack:
        if site.scheduler != "local":
            stack.enter_context(gpu_locks.gpus_of_job(pool.gpus_per_job))
        else:
            # Batch systems give each job devices of its own; here, workers divide what there is.
            stack.enter_context(gpu_locks.gpus_of_computer(pool.gpu, pool.gpus_per_job))
            stack.enter_context(node.share_of_cpus(*_cpu_range(site, placement.pool, int(name))))
        yield


def _cpu_range(site: Site, pool: str, worker: int) -> tuple[int, int]:
    """How many CPUs come before those of a local worker, and how many these are; 0 for all."""
    # Only where server and client are to have CPUs of their own, do workers. A single one may
    # choose: those near to its GPU.
    divided = {
        name: (each.max_jobs, each.cpus.server + each.cpus.client)
        for name, each in site.pools.items()
        if isinstance(each.cpus, CpuShares)
    }
    if pool not in divided or sum(jobs for jobs, _ in divided.values()) == 1:
        return 0, 0
    earlier = itertools.takewhile(lambda name: name != pool, divided)
    own = divided[pool][1]
    return sum(math.prod(divided[name]) for name in earlier) + worker * own, own


def _check_gpu(placement: Placement, site: Site) -> None:
    pool = site.pools[placement.pool]
    mismatch = device.gpu_mismatch(pool.gpu, pool.gpus_per_job, device.gpu_columns())
    if mismatch:
        where = f"{platform.node()}: pool {placement.pool}"
        raise UnusableNode(f"{where}: {mismatch.problem}", mismatch.hint)
