"""Open loops: the arrivals that they send, and whether they keep the rate that was asked for.

Requests of an open loop are due at given times. Where they cannot be sent in time, or are not
answered as fast as they are sent, latency only says for how long one has measured: the rate is over
what the server, or the client, can do. perf_analyzer prints the rate that it sent and the share of
delayed requests only where more than 10 % were delayed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcbench.config.load_axes import WINDOWS_IN_A_ROW, LoadVariant
from hpcbench.errors import BadInput
from hpcbench.measure import perf_analyzer
from hpcbench.measure.report_stream import COLD_S, PASSES, ReportStream
from hpcbench.plan.arrivals import read_intervals
from hpcbench.records.rule_columns import least_requests
from hpcbench.records.rules import MOST_DELAYED_PERCENT

Metrics = Mapping[str, Any]

_PRINTED_IF_LATE = ("send_request_rate", "delayed_requests_percent")

_PASSES = 3
_SURE_S = 2.0
_SILENT_S = 2.0
_START_S = 10.0
"""Seconds that perf_analyzer may take to start, on a busy node."""


@dataclass(frozen=True)
class Schedule:
    """When the requests of an open loop are due.

    Attributes
    ----------
    rate
        Requests per second.
    poisson
        Whether the times between them are random.
    inferences
        Inferences per request, as perf_analyzer counts them.
    period_s
        After how many seconds the times repeat, where they come from a file; else None.
    """

    rate: float
    poisson: bool
    inferences: int
    period_s: float | None = None

    def least(self, seconds: float) -> float:
        """Return the least rate in a time that still keeps the schedule.

        Parameters
        ----------
        seconds
            The time.

        Returns
        -------
        float
            Requests per second, as the rule OVERLOADED has them for rows. Of a file, only what is
            due in whole rounds of it is sure.
        """
        sure_s = seconds
        if self.period_s is not None:
            # perf_analyzer's windows are a little longer than it was asked for.
            sure_s = self.period_s * math.floor(seconds / self.period_s + 0.02)
        return float(least_requests(self.rate * sure_s, self.poisson)) / seconds


def is_surely_late(schedule: Schedule, stream: ReportStream, *, pass_s: float, now: float) -> bool:
    """Return whether a loop that still runs can no longer keep its schedule.

    A loop that is late only because its start was slow, or its first request cold, catches up: its
    later passes are faster than the schedule. One that asks for far too much prints nothing:
    perf_analyzer reads the server's statistics after each pass, and the answer waits behind the
    requests.

    Parameters
    ----------
    schedule
        When requests are due.
    stream
        What it has printed so far.
    pass_s
        How long a pass takes, in seconds.
    now
        Seconds of the same clock as the stream's.

    Returns
    -------
    bool
        True where the last passes, of two seconds together at least, were all late, or where a
        late pass or report was the last thing that was printed for a long time.
    """
    silent_s = _SILENT_S + 2 * pass_s
    if not stream.passes:
        return stream.begun is not None and now - stream.begun > pass_s + silent_s
    if not stream.has_answers and now - stream.passes[0].by < COLD_S:
        return False
    if schedule.period_s is not None:
        return _is_late_cycle(schedule, stream, pass_s=pass_s, silent_s=now - stream.passes[-1].by)
    least = schedule.least(pass_s) * schedule.inferences
    late = [each.throughput < least for each in stream.passes]
    if not late[-1]:
        return False
    said = bool(stream.reports) and is_said_to_be_late(stream.reports[-1].metrics)
    enough = said or (len(late) >= _PASSES and all(late[-_PASSES:]))
    loaded_s = now - stream.passes[0].by + pass_s
    return (enough and loaded_s >= _SURE_S) or now - stream.passes[-1].by > silent_s


def _is_late_cycle(
    schedule: Schedule, stream: ReportStream, *, pass_s: float, silent_s: float
) -> bool:
    """Return whether the last whole round of a file was late: a pass may hold no burst, or all."""
    # Between two reports perf_analyzer starts anew.
    if silent_s > _SILENT_S + 2 * pass_s + _START_S:
        return True
    if not stream.reports:
        return False
    last = stream.reports[-1].metrics
    report_s = PASSES * pass_s
    least = schedule.least(report_s) * schedule.inferences
    return bool(report_s >= _SURE_S and last["throughput_infer_per_s"] < least)


def is_said_to_be_late(metrics: Mapping[str, Any]) -> bool:
    """Return whether perf_analyzer printed that too many requests were delayed.

    Parameters
    ----------
    metrics
        Those of a report, or of several.

    Returns
    -------
    bool
        False where it printed nothing about it.
    """
    return bool(metrics.get("delayed_requests_percent", 0.0) > MOST_DELAYED_PERCENT)


def with_unprinted(schedule: Schedule, reports: Sequence[Metrics]) -> list[Metrics]:
    """Return reports of which each says what it sent, and how much of it late, if one does.

    Parameters
    ----------
    schedule
        When requests were due.
    reports
        The metrics of each report. One that does not print this counts with none delayed, and the
        rate of its answers as that at which it sent.

    Returns
    -------
    list of dict
        Their metrics.
    """
    printed = {name for each in reports for name in _PRINTED_IF_LATE if name in each}

    def kept(metrics: Metrics) -> Metrics:
        answered = metrics["throughput_infer_per_s"] / schedule.inferences
        meant = {"delayed_requests_percent": 0.0, "send_request_rate": answered}
        return {**{name: meant[name] for name in printed}, **metrics}

    return [kept(each) for each in reports]


def schedule_columns(schedule: Schedule, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what became of the schedule in the time that counts.

    Parameters
    ----------
    schedule
        When requests were due.
    metrics
        Of all requests that count.

    Returns
    -------
    dict of str to Any
        ``overloaded``, ``send_request_rate`` in requests per second (perf_analyzer's number, else
        the rate of the answers), and ``schedule_lag_s``, by how much the schedule was behind at the
        end, in seconds.
    """
    answered = metrics["throughput_infer_per_s"] / schedule.inferences
    sent = metrics.get("send_request_rate", answered)
    seconds = metrics.get("request_count", 0) / answered if answered else 0.0
    least = schedule.least(seconds) if seconds else 0.0
    # What is late is what perf_analyzer sends a millisecond after its time. Of a burst of requests
    # that are due at once, most are.
    said = schedule.period_s is None and is_said_to_be_late(metrics)
    late = not answered or min(sent, answered) < least or said
    return {
        "overloaded": bool(late),
        "send_request_rate": sent,
        "schedule_lag_s": max(0.0, seconds * (1 - sent / schedule.rate)),
    }


def late_reason(schedule: Schedule, metrics: Mapping[str, Any]) -> str:
    """Return what to say of a loop that did not keep its rate.

    Parameters
    ----------
    schedule
        When requests were due.
    metrics
        What is known, with ``send_request_rate`` where it is.

    Returns
    -------
    str
        A sentence for the record.
    """
    sent = metrics.get("send_request_rate")
    what = "" if sent is None else f": {sent:.5g} per second were sent or answered"
    percent = metrics.get("delayed_requests_percent")
    delayed = "" if percent is None else f", {percent:.3g} % of them were delayed"
    return f"overloaded: {schedule.rate:g} requests per second were asked for{what}{delayed}"


_MARGIN, _MARGIN_S = 1.2, 2.0


def drawn_intervals_us(rate: float, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw the times between Poisson arrivals.

    Parameters
    ----------
    rate
        Requests per second.
    count
        How many.
    seed
        The same seed gives the same sequence, faster or slower by the rate.

    Returns
    -------
    numpy.ndarray
        In whole microseconds, shape (count,). What one is rounded by, the next makes good.
    """
    arrivals_us = np.cumsum(np.random.default_rng(seed).exponential(1e6 / rate, count))
    found: npt.NDArray[np.int64] = np.diff(np.rint(arrivals_us), prepend=0).astype(np.int64)
    return found


def write_intervals_file(load: LoadVariant, folder: Path) -> str | None:
    """Write the file that perf_analyzer reads, if its load is one of given arrivals.

    Parameters
    ----------
    load
        The load.
    folder
        Where perf_analyzer runs.

    Returns
    -------
    str or None
        Why it would not be what was planned; None where it is.
    """
    if load.arrivals_seed is not None and load.request_rate is not None:
        # More than will be sent: what is played a second time are no new arrivals.
        seconds = WINDOWS_IN_A_ROW * load.window_s + _MARGIN_S
        count = math.ceil(_MARGIN * load.request_rate * seconds)
        found_us = drawn_intervals_us(load.request_rate, count, load.arrivals_seed)
        text = "\n".join(map(str, found_us.tolist()))
        (folder / perf_analyzer.INTERVALS_NAME).write_text(text)
        return None
    if load.request_intervals is None:
        return None
    try:
        found = read_intervals(Path(load.request_intervals), "request_intervals")
    except BadInput as error:
        return error.message
    if found.columns["request_intervals_digest"] != load.request_intervals_digest:
        return f"request_intervals: {load.request_intervals} has changed since it was planned"
    (folder / perf_analyzer.INTERVALS_NAME).write_text(found.text)
    return None
