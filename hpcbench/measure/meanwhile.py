"""What is read while points are measured, and what it adds to their outcomes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
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
    windows
        How many windows perf_analyzer had printed.
    """

    statistics: Sampler[Counts]
    windows: Sampler[int]

    def added_to_last(self, outcome: Outcome, point: Point) -> Outcome:
        """Add what was read in the last windows of a perf_analyzer that measured alone.

        Parameters
        ----------
        outcome
            What it measured, in inferences.
        point
            The point.

        Returns
        -------
        Outcome
            As from `added_to`; unchanged where nothing was measured.
        """
        if "throughput_infer_per_s" not in outcome.metrics:
            return outcome
        now = time.monotonic()
        # perf_analyzer prints a window when it is over.
        last = len(outcome.metrics.get("windows_throughput_infer_per_s", ()))
        seen = self.windows.within(0.0, now)
        end = next((each.at for each in seen if each.value == last), now)
        inferences = outcome.metrics.get("request_count", 0) * point.load.batch_size
        begin = end - inferences / outcome.metrics["throughput_infer_per_s"]
        return self.added_to(outcome, point, (begin, end))

    def added_to(
        self,
        outcome: Outcome,
        point: Point,
        interval: tuple[float, float],
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
            Begin and end of the windows that count, in seconds of `time.monotonic`.
        beside
            Other models under a load of this measurement at the same time.

        Returns
        -------
        Outcome
            With more metrics; unstable where somebody else sent requests, too.
        """
        found = server_statistics.counted(self.statistics.within(*interval))
        if found is None:
            return outcome
        own = _columns(found, point.variant.model.name)
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


@dataclass(frozen=True)
class _PrintedWindows:
    path: Path
    period_s: float = 0.05

    def read(self) -> int:
        return self.path.read_text(errors="replace").count("  Pass [")


@contextmanager
def observing(http_port: int, stdout: Path) -> Iterator[Observations]:
    """Read what there is to read while the ``with`` block lasts.

    Parameters
    ----------
    http_port
        Triton's HTTP port on the loopback.
    stdout
        The file to which perf_analyzer prints.

    Yields
    ------
    Observations
        What has been read so far.
    """
    with (
        Sampler(ServerStatistics(http_port)) as statistics,
        Sampler(_PrintedWindows(stdout)) as windows,
    ):
        yield Observations(statistics, windows)
