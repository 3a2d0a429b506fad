"""What was read meanwhile is added to a point from the windows that count only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from hpcbench.measure.cpu_sampling import ProcessTrees
from hpcbench.measure.gpu_sampling import GpuState, NvmlGpus
from hpcbench.measure.meanwhile import Observations, Watch
from hpcbench.measure.perf_output import Outcome
from hpcbench.measure.sampling import Reading, Sampler, Source
from hpcbench.measure.server_statistics import ModelCounts, ServerStatistics
from hpcbench.plan.point import Point
from hpcbench.records.columns import Status
from hpcbench.runtime.loopback import Port
from tests.helpers.builders import point

COUNTED = (10.0, 13.0)
SOURCES: Mapping[str, Source[Any]] = {
    "statistics": ServerStatistics(Port(0)),
    "programs": ProcessTrees(os.getpid(), list),
}


def read(source: Source[Any], values: Mapping[float, Any]) -> Sampler[Any]:
    """A sampler that has read these values, by the times at which it did."""
    sampler = Sampler(source)
    sampler._readings.extend(Reading(at, value) for at, value in values.items())
    return sampler


def observed(counts: Mapping[float, int], joules: Mapping[float, float] = {}) -> Observations:
    gpus, name = NvmlGpus(), point().variant.model.name
    return Observations(
        watched=Watch(**SOURCES, gpus=gpus, rapl=None, idle_power_w=50.0),
        statistics=read(
            SOURCES["statistics"],
            {at: {name: ModelCounts(n, 0, 0, {})} for at, n in counts.items()},
        ),
        programs=read(SOURCES["programs"], {}),
        gpus=read(gpus, {at: (GpuState(energy_j=each),) for at, each in joules.items()}),
        packages=None,
    )


def measured(requests: int, answered: int, rate: float, latency_us: float) -> Outcome:
    metrics = {
        "throughput_infer_per_s": rate,
        "request_count": requests,
        "success_count": answered,
        "latency_avg_us": latency_us,
    }
    return Outcome(Status.OK, None, metrics)


def open_loop(rate: float) -> Point:
    load = replace(point().load, batch_size=1, concurrency=None, request_rate=rate)
    return replace(point(), load=load)


def test_energy_is_that_of_the_counted_windows() -> None:
    """The GPU takes 900 W before and after them, and 200 W in them."""
    joules = {9.0: 0.0, 10.0: 900.0, 11.5: 1200.0, 13.0: 1500.0, 14.0: 2400.0}
    observations = observed({}, joules)
    found = observations.added_to(
        measured(300, 300, 100.0, 10.0), open_loop(100.0), COUNTED, reports=9
    )
    assert found.metrics["energy_j_per_infer"] == pytest.approx(2.0)
    assert found.metrics["energy_j_per_infer_net"] == pytest.approx(1.5)


def test_of_an_open_loop_what_is_in_flight_may_lie_at_the_edges() -> None:
    """A machine that was busy at the end: 150 requests of 20 ms at 2000 per second."""
    observations = observed({10.0: 0, 13.0: 6150})
    outcome = measured(6000, 6150, 2000.0, 20_000.0)
    found = observations.added_to(outcome, open_loop(2000.0), COUNTED, reports=9)
    assert (found.status, found.metrics["foreign_requests"]) == (Status.OK, 0)
    quick = measured(6000, 6160, 2000.0, 200.0)
    stranger = observed({10.0: 0, 13.0: 6160})
    found = stranger.added_to(quick, open_loop(2000.0), COUNTED, reports=9)
    assert (found.status, found.metrics["foreign_requests"]) == (Status.UNSTABLE, 160)
