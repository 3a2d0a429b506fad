"""The events of a run, which its listener gets and workers send."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from typing import get_args

import pytest

from hpcbench.cluster.events import (
    Event,
    PlacementEnded,
    PlacementStarted,
    WorkerEvent,
    from_message,
    point_measured,
    to_message,
)
from tests.helpers.builders import record

SENT = [
    PlacementStarted("p-1", "a100", "7", "node03", 1.5),
    PlacementEnded("p-1", "a100", "7", 2.5),
    point_measured(record(3, reason="no memory", part_of="b")),
]


@pytest.mark.parametrize("event", SENT, ids=lambda event: type(event).__name__)
def test_what_a_worker_sends_arrives_as_it_was(event: WorkerEvent) -> None:
    """Dask makes lists of tuples, as JSON does."""
    arrived = json.loads(json.dumps(to_message(event) | {"pickle": "of the record"}))
    assert from_message(arrived) == event


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
