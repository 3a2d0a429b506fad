"""What is read while points are measured, and what it adds to their outcomes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hpcbench.measure import server_statistics
from hpcbench.measure.perf_output import ComposingModel, Outcome
from hpcbench.measure.sampling import Sampler
from hpcbench.measure.server_statistics import Client, Counted, Counts, ServerStatistics
from hpcbench.plan.model import TritonModel
from hpcbench.plan.point import Point
from hpcbench.records.columns import Status


@dataclass(frozen=True)
class Observations:
    """What has been read so far.

    Attributes
    ----------
    statistics
        Triton's counts.
    """

    statistics: Sampler[Counts]

    def added_to(
        self,
        outcome: Outcome,
        point: Point,
        interval: tuple[float, float] | None,
        beside: Sequence[TritonModel] = (),
    ) -> Outcome:
        """Add what was read in the windows that count.

        Parameters
        ----------
        outcome
            What perf_analyzer measured of the point.
        point
            The point.
        interval
            Begin and end of the windows that count, in seconds of `time.monotonic`; None where no
            window was printed.
        beside
            Other models under a load of this measurement at the same time.

        Returns
        -------
        Outcome
            With more metrics; unstable where somebody else sent requests, too.
        """
        found = None
        if interval is not None:
            found = server_statistics.counted(self.statistics.within(*interval))
        if found is None:
            return outcome
        own = _columns(found, point.variant.model.name)
        if "throughput_infer_per_s" not in outcome.metrics:
            own |= _rates(found, point.variant.model.name)
        foreign = 0
        if "success_count" in outcome.metrics:
            client = Client(
                model=point.variant.model,
                requests=outcome.metrics["request_count"],
                answered=outcome.metrics["success_count"],
                in_flight=point.load.concurrency or 0,
            )
            foreign = server_statistics.foreign_requests(found, client, beside)
            own["foreign_requests"] = foreign
        more = replace(
            outcome,
            metrics={**outcome.metrics, **own},
            composing=tuple(_with_counts(each, found) for each in outcome.composing),
        )
        if not foreign:
            return more
        reasons = [outcome.reason, server_statistics.foreign_reason(foreign, found)]
        status = Status.UNSTABLE if outcome.status is Status.OK else outcome.status
        return replace(more, status=status, reason="; ".join(filter(None, reasons)))


def _with_counts(part: ComposingModel, found: Counted) -> ComposingModel:
    return replace(part, metrics={**part.metrics, **_columns(found, part.model)})


def _columns(found: Counted, model: str) -> dict[str, Any]:
    return found.counts[model].columns if model in found.counts else {}


def _rates(found: Counted, model: str) -> dict[str, float]:
    """Return the rates that the server has seen, of a load too high for perf_analyzer to say it."""
    counts = found.counts.get(model)
    if counts is None or not counts.answered:
        return {}
    inferences = sum(size * count for size, count in counts.executions.items())
    return {
        "throughput_infer_per_s": inferences / found.seconds,
        "send_request_rate": counts.answered / found.seconds,
    }


@contextmanager
def observing(http_port: int) -> Iterator[Observations]:
    """Read what there is to read while the ``with`` block lasts.

    Parameters
    ----------
    http_port
        Triton's HTTP port on the loopback.

    Yields
    ------
    Observations
        What has been read so far.
    """
    with Sampler(ServerStatistics(http_port)) as statistics:
        yield Observations(statistics)
