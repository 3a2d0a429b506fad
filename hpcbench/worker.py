"""What a Dask worker runs: one placement, each record durable before the next point starts."""

import platform
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from distributed import get_worker

from hpcbench import store
from hpcbench.errors import UnusableNode
from hpcbench.measure import measure
from hpcbench.placement import Placement
from hpcbench.records import Record
from hpcbench.site import Site

TOPIC = "hpcbench"
"""Where workers tell the driver about each record as soon as it is on disk."""


def work(placement: Placement, site: Site, folder: str) -> dict[str, int]:
    """Measures a placement into the results folder; how many records ended in which status."""
    results = store.Results(Path(folder))
    worker = get_worker()
    counts: Counter[str] = Counter()
    worker.log_event(TOPIC, {"kind": "started", "placement_id": placement.id})
    try:
        with closing(measure(placement, site, results.logs)) as records:
            for record in records:
                store.write_point(results, record)
                counts[record.status] += 1
                worker.log_event(TOPIC, told(record))
        store.merge_points(results, placement.id)
    except OSError as error:
        raise UnusableNode(
            f"{platform.node()}: {error.filename or folder}: {error.strerror or error}",
            "what was measured is kept; mend this and run the same command again",
        ) from error
    return dict(counts)


def told(record: Record) -> dict[str, Any]:
    """What the driver and its user hear of a record at once."""
    return {
        "kind": "record",
        "key": record.key,
        "status": str(record.status),
        "reason": record.reason,
        "model_label": record.model_label,
        "batch_size": record.batch_size,
        "concurrency": record.concurrency,
        "throughput_infer_per_s": record.throughput_infer_per_s,
        "node": record.node,
    }
