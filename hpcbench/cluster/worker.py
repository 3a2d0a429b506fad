"""What a Dask worker runs: one placement, each record durable before the next point starts."""

import pickle
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import get_worker

from hpcbench.config.site import Site
from hpcbench.errors import UnusableNode
from hpcbench.measure import device, node
from hpcbench.measure.measure import measure
from hpcbench.plan.placement import Placement
from hpcbench.records import store
from hpcbench.records.columns import Key, Record
from hpcbench.records.folder import Results
from hpcbench.runtime import command

TOPIC = "hpcbench"
"""Where workers tell the driver about each record as soon as it is on disk."""

LOG_BYTES = 1_000_000
"""So much of a server's log travels to the driver where no file system is shared."""


@dataclass(frozen=True)
class Done:
    """How a placement went on ``worker``: how many records ended in which status.

    ``left`` was not begun, because the job would have ended before it did. Without a shared file
    system, ``records`` and ``logs`` are what the driver has to write.
    """

    worker: str
    counts: Mapping[str, int]
    left: tuple[Key, ...] = ()
    records: tuple[Record, ...] = ()
    logs: Mapping[str, bytes] = field(default_factory=dict)


def work(placement: Placement, site: Site, folder: str) -> Done:
    """Measures a placement into the results folder, or as much of it as the job has time for.

    Raises UnusableNode, with the names of worker and node, where nothing can be measured here.
    """
    worker = get_worker()
    name = str(worker.name)
    which = {"placement_id": placement.id, "pool": placement.pool, "worker": name}
    worker.log_event(TOPIC, {"kind": "started", **which, "at": time.time()})
    if node.time_left_s() < placement.needs_s(1):
        return Done(name, {}, tuple(placement.keys))
    try:
        if site.scheduler == "local":
            device.take_gpus(int(name), site.pools[placement.pool].gpus_per_job)
        _check_gpu(placement, site)
        with _place(site, folder) as results:
            done = _measured(placement, site, results, name)
            worker.log_event(TOPIC, {"kind": "ended", **which, "at": time.time()})
            if site.shared_filesystem:
                store.merge_points(results, placement.id)
                return done
            logs = {path.name: path.read_bytes()[-LOG_BYTES:] for path in results.logs.iterdir()}
            return Done(name, done.counts, done.left, done.records, logs)
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


def _measured(placement: Placement, site: Site, results: Results, name: str) -> Done:
    worker = get_worker()
    counts: Counter[str] = Counter()
    kept: list[Record] = []
    left = dict.fromkeys(placement.keys)
    # Records of one go come one after the other; none of them is left behind.
    next_s = placement.next_s
    with closing(measure(placement, site, results.logs)) as records:
        for record in records:
            event = told(record)
            if site.shared_filesystem:
                store.write_point(results, record)
            else:
                kept.append(record)
                event["pickle"] = pickle.dumps(record)
            if record.part_of is None:
                counts[record.status] += 1
            left.pop(record.key, None)
            worker.log_event(TOPIC, event)
            if node.time_left_s() < next_s.get(record.key, 0.0):
                break
    return Done(name, dict(counts), tuple(left), tuple(kept))


@contextmanager
def _place(site: Site, folder: str) -> Iterator[Results]:
    """The results folder, or one on this node that stands for it while the placement lasts."""
    if site.shared_filesystem:
        yield Results(Path(folder))
        return
    scratch = command.scratch_folder(site.container)
    with tempfile.TemporaryDirectory(prefix="hpcbench-", dir=scratch) as own:
        results = Results(Path(own))
        results.logs.mkdir()
        yield results


def _check_gpu(placement: Placement, site: Site) -> None:
    pool = site.pools[placement.pool]
    broken = device.gpu_mismatch(pool.gpu, pool.gpus_per_job)
    if broken:
        raise UnusableNode(
            f"{platform.node()}: pool {placement.pool}: {broken}",
            "correct gpu, or what the pool asks for, in the site file",
        )


def told(record: Record) -> dict[str, Any]:
    """What the driver and its user hear of a record at once."""
    return {
        "kind": "record" if record.part_of is None else "part",
        "key": record.key,
        "status": str(record.status),
        "reason": record.reason,
        "model_label": record.model_label,
        "batch_size": record.batch_size,
        "concurrency": record.concurrency,
        "request_rate": record.request_rate,
        "throughput_infer_per_s": record.throughput_infer_per_s,
        "node": record.node,
    }
