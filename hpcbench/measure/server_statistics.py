"""What Triton itself counts: requests, failures, cache hits, and the batches that it ran.

perf_analyzer reports means of these counts, and only of the model that it measures. Here they are
read of all models, so that the batches that really ran are seen, and requests of somebody else.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.measure import loaded_config
from hpcbench.measure.sampling import Reading
from hpcbench.plan.backend import backend_name
from hpcbench.plan.model import TritonModel
from hpcbench.runtime.loopback import Port

# Beside what is in flight: alone on a server, the two counts have differed by at most 5, or 0.1 %;
# on a machine that does much else, perf_analyzer reads Triton's counts later.
_EDGE_REQUESTS = 5
_EDGE_SHARE = 0.02

_IDLE_S, _IDLE_LIMIT_S = 0.3, 60.0
_SOON_S = 0.15
"""perf_analyzer takes at least as long to start."""


@dataclass(frozen=True)
class ModelCounts:
    """What Triton has counted of one model, of all its versions together.

    Attributes
    ----------
    answered
        Requests that were answered without an error.
    failed
        Requests that were answered with an error.
    cache_hits
        Those that were answered from the response cache.
    executions
        How many batches ran, by their size.
    """

    answered: int
    failed: int
    cache_hits: int
    executions: Mapping[int, int]

    def since(self, earlier: "ModelCounts | None") -> "ModelCounts":
        """Return what was counted after an earlier reading.

        Parameters
        ----------
        earlier
            What had been counted by then; None for nothing.

        Returns
        -------
        ModelCounts
            The differences.
        """
        if earlier is None:
            return self
        executions = {
            size: count - earlier.executions.get(size, 0) for size, count in self.executions.items()
        }
        return ModelCounts(
            answered=self.answered - earlier.answered,
            failed=self.failed - earlier.failed,
            cache_hits=self.cache_hits - earlier.cache_hits,
            executions={size: count for size, count in executions.items() if count},
        )

    @property
    def requests(self) -> int:
        """All that arrived and were dealt with."""
        return self.answered + self.failed

    @property
    def columns(self) -> dict[str, Any]:
        """Values by the names of their columns."""
        # No batch ran where all came from the cache: what is missing is None, not an empty list.
        sizes = sorted(self.executions)
        return {
            "failure_count": self.failed,
            "cache_hit_count": self.cache_hits,
            "executed_batch_sizes": tuple(sizes) or None,
            "executed_batch_counts": tuple(self.executions[size] for size in sizes) or None,
        }


CountsByModel = Mapping[str, ModelCounts]
"""By the name of the model."""


@dataclass(frozen=True)
class ServerStatistics:
    """Triton's statistics of all models: a source for a sampler.

    Over HTTP, because gRPC would bring its threads into a process that starts programs. The counts
    are the same.

    Attributes
    ----------
    http_port
        Triton's HTTP port.
    period_s
        Seconds between two readings: as near as this they are to the edge of a counted window.
    """

    http_port: Port
    period_s: float = 0.1

    def read(self) -> CountsByModel:
        """Return what Triton has counted since it was started.

        Returns
        -------
        mapping
            The counts of each model that it has loaded.

        Raises
        ------
        OSError, HTTPException, ValueError
            Where it does not answer.
        """
        return parse(loaded_config.get_json(self.http_port, "/v2/models/stats"))


def in_flight_s(metrics: Mapping[str, Any]) -> float:
    """Return how long requests of a load that was ended may keep Triton at work.

    Parameters
    ----------
    metrics
        Those of the load, by the names of their columns.

    Returns
    -------
    float
        Seconds; 0 where they are over before the next perf_analyzer sends anything.
    """
    longest_s = 1.5 * (metrics.get("latency_p99_us") or 0.0) / 1e6
    if metrics.get("overloaded"):
        return max(_IDLE_S, longest_s)
    return longest_s if longest_s > _SOON_S else 0.0


def wait_until_idle(statistics: ServerStatistics, quiet_s: float) -> None:
    """Wait until Triton answers no more requests, which a load that was ended has left behind.

    They would be counted with those of the next load, whose first requests would wait for them.

    Parameters
    ----------
    statistics
        The statistics of the server.
    quiet_s
        Triton is idle when it has answered nothing for so long; 0 asks nothing.
    """
    deadline, before = time.monotonic() + _IDLE_LIMIT_S, None
    while quiet_s > 0 and time.monotonic() < deadline:
        try:
            now = statistics.read()
        except (OSError, HTTPException, ValueError):
            return  # it has died, as the next measurement will show
        if now == before:
            return
        before = now
        time.sleep(quiet_s)


def parse(answer: Mapping[str, Any]) -> CountsByModel:
    """Return the counts in Triton's answer.

    Parameters
    ----------
    answer
        The JSON of ``/v2/models/stats``.

    Returns
    -------
    mapping
        By the name of the model.
    """
    found: dict[str, ModelCounts] = {}
    for each in answer["model_stats"]:
        stats, own = each["inference_stats"], found.get(each["name"])
        executions = Counter(own.executions if own else {})
        for batch in each["batch_stats"]:
            executions[batch["batch_size"]] += batch["compute_infer"]["count"]
        found[each["name"]] = ModelCounts(
            answered=stats["success"]["count"] + (own.answered if own else 0),
            failed=stats["fail"]["count"] + (own.failed if own else 0),
            cache_hits=stats["cache_hit"]["count"] + (own.cache_hits if own else 0),
            executions=dict(executions),
        )
    return found


@dataclass(frozen=True)
class Counted:
    """What Triton counted between two readings.

    Attributes
    ----------
    counts
        The counts of each model.
    seconds
        The time between the readings.
    unsure_s
        By how much longer it may have been: when within a reading Triton counted is not known.
    longest_delay_s
        The longest time from when a reading was due until it was there.
    """

    counts: CountsByModel
    seconds: float
    unsure_s: float = 0.0
    longest_delay_s: float = 0.0


def counted(readings: Sequence[Reading[CountsByModel]]) -> Counted | None:
    """Return what Triton counted between the first and the last of some readings.

    Parameters
    ----------
    readings
        In the order of time.

    Returns
    -------
    Counted or None
        None with less than two readings.
    """
    if len(readings) < 2:
        return None
    first, last = readings[0], readings[-1]
    counts = {name: each.since(first.value.get(name)) for name, each in last.value.items()}
    return Counted(
        counts,
        seconds=last.at - first.at,
        unsure_s=(first.took_s + last.took_s) / 2,
        longest_delay_s=max(each.late_s + each.took_s for each in readings),
    )


@dataclass(frozen=True)
class Client:
    """What perf_analyzer says of the requests of its own model, in the windows that count.

    Attributes
    ----------
    model
        The model.
    requests
        Those that it sent and that were answered.
    answered
        Those that Triton answered, as perf_analyzer read it at the edges of its windows.
    in_flight
        How many it had sent at any time and not yet received; of an open loop in the mean.
    rate
        Its requests per second.
    reports
        Of how many reports these are the sums. They follow each other.
    """

    model: TritonModel
    requests: int
    answered: int
    in_flight: int
    rate: float
    reports: int = 1


def foreign_requests(found: Counted, client: Client, beside: Sequence[TritonModel] = ()) -> int:
    """Return how many requests came from somebody else.

    Parameters
    ----------
    found
        What the server counted in the windows that count.
    client
        What the client counted in them.
    beside
        Other models under a load of this measurement at the same time.

    Returns
    -------
    int
        Those to the client's model that the client did not send, and those to models that nobody
        loads, less what an ensemble calls; 0 where it may be requests at the edges of the windows.
    """
    under_load = (client.model, *beside)
    configs = {
        model.name: ModelConfig.FromString(model.config)
        for each in under_load
        for model in (each, *each.composing)
    }
    called = Counter[str]()
    for name, config in configs.items():
        for step in config.ensemble_scheduling.step:
            called[step.model_name] += found.counts[name].requests if name in found.counts else 0
    # A model in Python may call any other (BLS), and Triton does not say who called.
    scripts = {
        model.name
        for each in under_load
        for model in (each, *each.composing)
        if model.needs or backend_name(model) == "python"
    }
    own = client.answered - client.requests
    if client.model.name in found.counts:
        # On a busy machine perf_analyzer reads Triton's counts long after its window has ended, so
        # the rate at which they grow must say the same. It may be too high, because the readings
        # leave out a moment at each end, in which the machine may have stood still and nothing was
        # answered. No longer than it has kept a reading waiting: that is what a stall does.
        longest_s = found.seconds + found.unsure_s + 2 * found.longest_delay_s
        answered_per_s = found.counts[client.model.name].answered / longest_s
        more = round(client.requests * (answered_per_s / client.rate - 1))
        own = min(own, max(0, more))
    if client.model.name in called or scripts - {client.model.name}:
        own = 0
    loaded = {each.name for each in under_load}
    idle = {name: each for name, each in found.counts.items() if name not in loaded}
    others = 0 if scripts else sum(max(0, c.requests - called[n]) for n, c in idle.items())
    edges = _edges(client.in_flight, client.reports)
    # Between two readings, the models that an ensemble calls have edges of their own.
    edges += 2 * client.in_flight * len(idle.keys() & called.keys())
    return own + others if own + others > edges + _EDGE_SHARE * client.requests else 0


def _edges(in_flight: int, reports: int) -> float:
    """Return by how many requests two counts of the same load may differ at their edges.

    The whole has two edges, each of which cuts at most what is in flight. Between two reports lies
    a moment in which perf_analyzer counts nothing. As many requests as are in flight may be
    answered just then, or fewer than in other moments: such errors add as their squares do.
    """
    return (2 * in_flight + _EDGE_REQUESTS) * math.sqrt(1 + (reports - 1) / 4)


def foreign_reason(foreign: int, found: Counted) -> str:
    """Return why a measurement with a stranger's requests may not be believed.

    Parameters
    ----------
    foreign
        How many came from somebody else.
    found
        What the server counted.

    Returns
    -------
    str
        A sentence for the record.
    """
    return (
        f"somebody else sent {foreign} requests to this server in {found.seconds:.1f} s of the "
        "measurement"
    )
