"""The events of a run, which its listener gets and workers send."""

from __future__ import annotations

import inspect
import json
import queue
from dataclasses import fields
from typing import Any, get_args

import pytest
from distributed import get_worker

from hpcbench.cluster.events import (
    Event,
    PlacementEnded,
    PlacementStarted,
    WorkerEvent,
    from_message,
    point_measured,
    to_message,
)
from hpcbench.cluster.workers import local_workers
from hpcbench.config.site import Pool
from tests.helpers.builders import record

SENT = [
    PlacementStarted("p-1", "a100", "7", "node03", 1.5),
    PlacementEnded("p-1", "a100", "7", 2.5),
    point_measured(record(3, reason="no memory", part_of="b")),
]


@pytest.mark.parametrize("event", SENT, ids=lambda event: type(event).__name__)
def test_what_a_worker_sends_arrives_as_it_was(event: WorkerEvent) -> None:
    """Dask makes lists of tuples, as JSON does."""
    added = {"pickle": "of the record", "worker": "tls://127.0.0.1:3611"}
    arrived = json.loads(json.dumps(to_message(event) | added))
    assert from_message(arrived) == event


def _send() -> str:
    worker = get_worker()
    name = str(worker.name)
    worker.log_event("topic", to_message(PlacementStarted("p-1", "gpu", name, "n1", 1.5)))
    return name


def test_a_worker_goes_by_its_name_also_when_dask_has_passed_its_message_on() -> None:
    """Dask adds the worker's address to the message."""
    with local_workers(Pool()) as workers:
        arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        workers.client.subscribe_topic("topic", arrived.put)
        name = workers.client.submit(_send, pure=False).result(240)
        _, message = arrived.get(timeout=240)
    assert message["worker"].startswith("tls://")
    assert from_message(message) == PlacementStarted("p-1", "gpu", name, "n1", 1.5)


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_every_field_of_an_event_is_documented(kind: type[Event]) -> None:
    # Python 3.13 takes the indentation away by itself.
    described = {
        name
        for line in (inspect.getdoc(kind) or "").splitlines()
        if not line.startswith(" ")
        for name in line.split(", ")
    }
    assert {field.name for field in fields(kind)} <= described
