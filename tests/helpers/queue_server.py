"""A server with one queue whose capacity is known, on a machine that stalls now and then."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcbench.config.load_axes import WINDOWS_IN_A_ROW, LoadVariant
from hpcbench.measure.open_loop import Schedule
from hpcbench.measure.perf_output import Outcome
from hpcbench.records.columns import Status


@dataclass(frozen=True)
class QueueServer:
    """Serves requests one after the other, each in the same time: M/D/1 under Poisson arrivals.

    Attributes
    ----------
    service_s
        Seconds that a request takes.
    stalls_per_s
        How often the machine stalls, at random.
    stall_s
        Mean seconds of a stall; they are exponential.
    """

    service_s: float
    stalls_per_s: float = 0.0
    stall_s: float = 0.0

    def latencies_s(
        self,
        rate: float,
        seconds: float,
        arrivals: np.random.Generator,
        machine: np.random.Generator,
    ) -> tuple[Any, float]:
        """Return latencies of all requests in so many seconds, and the rate of the answers."""
        due = np.cumsum(arrivals.exponential(1 / rate, math.ceil(1.2 * rate * seconds) + 50))
        due = due[due < seconds]
        count = machine.poisson(self.stalls_per_s * seconds)
        begins = machine.uniform(0, seconds, count)
        at = np.concatenate([due, begins])
        takes = np.concatenate(
            [np.full(len(due), self.service_s), machine.exponential(self.stall_s, count)]
        )
        order = np.argsort(at, kind="stable")
        served = np.cumsum(takes[order])
        # A request begins when it is there and all before it have ended (Lindley 1952).
        ends = served + np.maximum.accumulate(at[order] - served + takes[order])
        requests = order < len(due)
        answered = np.count_nonzero(ends[requests] <= seconds) / seconds
        return (ends - at[order])[requests], answered

    def run(self, chance: int) -> Callable[[LoadVariant], tuple[Outcome, dict[str, Any]]]:
        """Return what measures loads on this server, as a worker does."""
        machine = np.random.default_rng(chance)

        def measured(load: LoadVariant) -> tuple[Outcome, dict[str, Any]]:
            if load.request_rate is None:
                throughput = load.batch_size / self.service_s
                return Outcome(Status.OK, None, {"throughput_infer_per_s": throughput}), {}
            seconds = WINDOWS_IN_A_ROW * load.window_s
            arrivals = np.random.default_rng(load.arrivals_seed)
            found, answered = self.latencies_s(load.request_rate, seconds, arrivals, machine)
            schedule = Schedule(rate=load.request_rate, poisson=True, inferences=1)
            metrics = {
                "latency_p50_us": 1e6 * float(np.quantile(found, 0.50)),
                "latency_p99_us": 1e6 * float(np.quantile(found, 0.99)),
                "overloaded": bool(answered < schedule.least(seconds)),
            }
            return Outcome(Status.OK, None, metrics), {}

        return measured

    def capacity(self, limit_s: float) -> float:
        """Return the rate at which the 99th percentile of latency without stalls is the limit."""
        low, high = 0.0, 1 / self.service_s
        while high - low > 1e-3 / self.service_s:
            rate = (low + high) / 2
            chance = np.random.default_rng(1), np.random.default_rng(2)
            calm = QueueServer(self.service_s)
            found, _ = calm.latencies_s(rate, 100_000 * self.service_s, *chance)
            low, high = (rate, high) if np.quantile(found, 0.99) <= limit_s else (low, rate)
        return low
