"""What the server, the devices and the client did while points were measured.

All of it is read while perf_analyzer runs. What lies in the windows that count is added to the
outcome of a point.
"""

import contextlib
import http.client
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hpcbench.measure import cpu_sampling, gpu_sampling, server_statistics, visible_gpus
from hpcbench.measure.cpu_sampling import ProcessTrees, Programs, Rapl
from hpcbench.measure.gpu_sampling import Gpus, NvmlGpus, TritonGpus
from hpcbench.measure.perf_output import Outcome
from hpcbench.measure.sampling import Energy, Sampler, Source
from hpcbench.measure.server import RunningServer
from hpcbench.measure.server_statistics import Client, Counted, CountsByModel, ServerStatistics
from hpcbench.plan.model import TritonModel
from hpcbench.plan.point import Point
from hpcbench.records.columns import Status
from hpcbench.runtime import process

_IDLE_S = 0.5


@dataclass(frozen=True)
class Watch:
    """What can be read of a server, its devices and its clients.

    Attributes
    ----------
    statistics
        Triton's counts.
    programs
        The processes of server and clients.
    gpus
        The GPUs; None where there are none.
    rapl
        The energy of the CPUs; None where it cannot be read.
    idle_power_w
        Power of the GPUs, or else of the CPUs, before the first load; None where it is not known.
    """

    statistics: ServerStatistics
    programs: ProcessTrees
    gpus: Source[Gpus] | None
    rapl: Rapl | None
    idle_power_w: float | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """What every record of the server says, by the names of the columns."""
        source = None
        if self.gpus is not None:
            source = gpu_sampling.NVML if isinstance(self.gpus, NvmlGpus) else gpu_sampling.TRITON
        elif self.rapl is not None:
            source = "rapl"
        return {"device_source": source, "idle_power_w": self.idle_power_w}


def watch(server: RunningServer, *, gpus: bool) -> Watch:
    """Find out what can be read of a server, and measure the power before its first load.

    Parameters
    ----------
    server
        The server, which is idle.
    gpus
        Whether the job was given GPUs: otherwise those of the node are other people's.

    Returns
    -------
    Watch
        For `observing`.
    """
    found = Watch(
        statistics=ServerStatistics(server.http_port),
        programs=ProcessTrees(server.process.pid, _clients_of(server)),
        gpus=_gpus(server) if gpus else None,
        rapl=cpu_sampling.find_rapl(),
    )
    return replace(found, idle_power_w=_idle_power_w(found))


def _gpus(server: RunningServer) -> Source[Gpus] | None:
    if visible_gpus.gpu_handles():
        return NvmlGpus()
    of_triton = TritonGpus(server.metrics_port)
    with contextlib.suppress(OSError, http.client.HTTPException):
        return of_triton if of_triton.read() else None
    return None


def _clients_of(server: RunningServer) -> Callable[[], list[int]]:
    # While it measures, this process runs the server, what makes sockets of its loopback, and
    # perf_analyzers, and nothing else.
    others = {server.process.pid}
    if server.loopback.maker is not None:
        others.add(server.loopback.maker.pid)
    return lambda: [pid for pid in process.running_pids() if pid not in others]


def _idle_power_w(found: Watch) -> float | None:
    if found.gpus is None and found.rapl is None:
        return None
    with observing(found) as seen:
        time.sleep(_IDLE_S)
    spent = seen.energy((0.0, time.monotonic()))
    return spent.joules / spent.seconds if spent else None


@dataclass(frozen=True)
class Observations:
    """What has been read so far.

    Attributes
    ----------
    watched
        What is read.
    statistics
        Triton's counts.
    programs
        What the processes of server and clients took.
    gpus
        What the GPUs did; None where there are none.
    packages
        The energy counters of the CPUs; None where they cannot be read.
    """

    watched: Watch
    statistics: Sampler[CountsByModel]
    programs: Sampler[Programs]
    gpus: Sampler[Gpus] | None
    packages: Sampler[tuple[float, ...]] | None

    def added_to(
        self,
        outcome: Outcome,
        point: Point,
        interval: tuple[float, float] | None,
        *,
        reports: int,
        beside: Sequence[TritonModel] = (),
    ) -> Outcome:
        """Add what was read in the windows that count.

        Parameters
        ----------
        outcome
            What perf_analyzer measured of the point, in inferences.
        point
            The point.
        interval
            Begin and end of the windows that count, in seconds of `time.monotonic`; None where no
            window was printed.
        reports
            From how many reports of perf_analyzer the outcome comes.
        beside
            Other models under a load of this measurement at the same time.

        Returns
        -------
        Outcome
            With more metrics; unstable where somebody else sent requests, too.
        """
        if interval is None:
            return outcome
        found = server_statistics.counted(self.statistics.within(*interval))
        if "throughput_infer_per_s" not in outcome.metrics:
            # Of a load that is too high, perf_analyzer may print nothing.
            rates = _rates(found, point.variant.model.name) if found else {}
            return replace(outcome, metrics={**outcome.metrics, **rates})
        columns = self._device_columns(interval)
        # Energy and memory of a server cannot be divided among the models that it serves at once.
        if beside:
            columns.pop("gpu_memory_max_bytes", None)
        else:
            columns |= self._energy_columns(interval, outcome.metrics["throughput_infer_per_s"])
        more = replace(outcome, metrics={**outcome.metrics, **columns})
        return _with_counts(more, found, point, reports, beside) if found else more

    def energy(self, interval: tuple[float, float]) -> Energy | None:
        """Return the energy of the GPUs, or of the CPUs where there are none, in an interval.

        Parameters
        ----------
        interval
            Begin and end, in seconds of `time.monotonic`.

        Returns
        -------
        Energy or None
            Between two readings; None where it is not known.
        """
        if self.gpus is not None:
            return gpu_sampling.energy(self.gpus.within(*interval))
        if self.packages is not None and self.watched.rapl is not None:
            return self.watched.rapl.energy(self.packages.within(*interval))
        return None

    def _device_columns(self, interval: tuple[float, float]) -> dict[str, Any]:
        programs = self.programs.within(*interval)
        columns = cpu_sampling.program_columns(programs)
        if self.gpus is not None:
            used = (use for each in programs for use in (each.value.server, each.value.clients))
            own = {pid for use in used for pid in use.cpu_s}
            columns |= gpu_sampling.gpu_load_columns(self.gpus.within(*interval), own)
        return columns

    def _energy_columns(self, interval: tuple[float, float], rate: float) -> dict[str, Any]:
        spent = self.energy(interval)
        if spent is None or not rate:
            return {}
        inferences = rate * spent.seconds
        columns = {"energy_j_per_infer": spent.joules / inferences}
        idle_w = self.watched.idle_power_w
        if idle_w is not None:
            net_j = spent.joules - idle_w * spent.seconds
            columns["energy_j_per_infer_net"] = net_j / inferences
        if self.gpus is None:
            columns["cpu_power_avg_w"] = spent.joules / spent.seconds
        return columns


def _with_counts(
    outcome: Outcome, found: Counted, point: Point, reports: int, beside: Sequence[TritonModel]
) -> Outcome:
    """Add the server's counts to an outcome and to those of the models that an ensemble calls."""
    own, foreign = _counts(found, point.variant.model.name), 0
    if "success_count" in outcome.metrics:
        rate = outcome.metrics["throughput_infer_per_s"] / point.load.batch_size
        # By Little's law, where nobody asked for a concurrency.
        latency_s = outcome.metrics.get("latency_avg_us", 0.0) / 1e6
        client = Client(
            model=point.variant.model,
            requests=outcome.metrics["request_count"],
            answered=outcome.metrics["success_count"],
            in_flight=point.load.concurrency or math.ceil(rate * latency_s),
            rate=rate,
            reports=reports,
        )
        foreign = server_statistics.foreign_requests(found, client, beside)
        own["foreign_requests"] = foreign
    more = replace(
        outcome,
        metrics={**outcome.metrics, **own},
        composing=tuple(
            replace(part, metrics={**part.metrics, **_counts(found, part.model)})
            for part in outcome.composing
        ),
    )
    if not foreign:
        return more
    reasons = [outcome.reason, server_statistics.foreign_reason(foreign, found)]
    status = Status.UNSTABLE if outcome.status is Status.OK else outcome.status
    return replace(more, status=status, reason="; ".join(filter(None, reasons)))


def _counts(found: Counted, model: str) -> dict[str, Any]:
    return found.counts[model].columns if model in found.counts else {}


def _rates(found: Counted, model: str) -> dict[str, float]:
    """Return the rates that the server itself has seen."""
    counts = found.counts.get(model)
    if counts is None or not counts.answered:
        return {}
    inferences = sum(size * count for size, count in counts.executions.items())
    return {
        "throughput_infer_per_s": inferences / found.seconds,
        "send_request_rate": counts.answered / found.seconds,
    }


@contextmanager
def observing(watched: Watch) -> Iterator[Observations]:
    """Read what there is to read while the ``with`` block lasts.

    Parameters
    ----------
    watched
        What there is.

    Yields
    ------
    Observations
        What has been read so far.
    """
    with ExitStack() as stack:
        yield Observations(
            watched=watched,
            statistics=stack.enter_context(Sampler(watched.statistics)),
            programs=stack.enter_context(Sampler(watched.programs)),
            gpus=stack.enter_context(Sampler(watched.gpus)) if watched.gpus else None,
            packages=stack.enter_context(Sampler(watched.rapl)) if watched.rapl else None,
        )
