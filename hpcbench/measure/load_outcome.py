"""What a perf_analyzer under load has shown: its metrics, the verdict on them, a likely cause."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpcbench.config.load_axes import WINDOWS_IN_A_ROW, LoadVariant
from hpcbench.measure import open_loop, perf_output, pooling, stop_rule
from hpcbench.measure.open_loop import Metrics, Schedule
from hpcbench.measure.perf_analyzer import PassPlan
from hpcbench.measure.perf_output import Outcome
from hpcbench.measure.report_stream import Pass, Report
from hpcbench.measure.stop_rule import StopDecision
from hpcbench.plan.input_data import gets_random_strings
from hpcbench.plan.point import Point
from hpcbench.records.columns import Status


@dataclass(frozen=True, kw_only=True)
class Heard:
    """All that was heard of one perf_analyzer until it was ended.

    Attributes
    ----------
    load, plan, schedule
        What it was asked for; a closed loop has no schedule.
    passes
        All its passes.
    loaded
        The time under load until it was ended, in seconds; None before the load began.
    reports
        Those that began after all models were under load; all reports where none did.
    verdict
        That of the stop rule on them; None where it was never asked.
    late
        Whether an open loop was ended because it surely did not keep its rate.
    unanswered
        Whether it was ended because no request was answered any more.
    exit_code
        None if it ran until it was ended.
    stdout, stderr
        What it printed.
    """

    load: LoadVariant
    plan: PassPlan
    schedule: Schedule | None
    passes: tuple[Pass, ...]
    loaded: tuple[float, float] | None
    reports: tuple[Report, ...]
    verdict: StopDecision | None
    late: bool
    unanswered: bool
    exit_code: int | None
    stdout: str
    stderr: str

    @property
    def counted(self) -> tuple[Report, ...]:
        """The reports that count."""
        if self.verdict is None:
            return self.reports[-WINDOWS_IN_A_ROW * self.plan.reports_per_window :]
        return self.reports[self.verdict.first : self.verdict.last]

    @property
    def span(self) -> tuple[float, float] | None:
        """The begin and the end of what counts, in seconds; None without a report.

        Of a loop that is too late to print a report, all counts that the server has seen.
        """
        if self.reports:
            return self.counted[0].begin, self.counted[-1].end
        return self.loaded if self.late else None


def metrics(heard: Heard) -> dict[str, Any]:
    """Return the metrics of the reports that count, and the windows of all.

    Parameters
    ----------
    heard
        What was heard.

    Returns
    -------
    dict of str to Any
        Values by the names of their columns; without a report no more than that the loop is
        overloaded.
    """
    counted: list[Metrics] = [report.metrics for report in heard.counted]
    if not counted:
        # What is missing here, the server has counted.
        return {"overloaded": True} if heard.late else {}
    if heard.schedule is not None:
        counted = open_loop.with_unprinted(heard.schedule, counted)
    per_window = heard.plan.reports_per_window
    last = heard.verdict.last if heard.verdict else len(heard.reports)
    warm_up = heard.verdict.warm_up if heard.verdict else 0
    throughputs, latencies = stop_rule.window_values(
        [report.observation for report in heard.reports[:last]], per_window
    )
    found = {
        **pooling.pooled(counted, heard.load.percentile),
        **pooling.p99_columns(counted),
        "windows_throughput_infer_per_s": throughputs,
        "windows_latency_us": latencies,
        "windows_counted": len(counted) // per_window,
        "warm_up_s": heard.reports[warm_up].begin - heard.reports[0].begin if warm_up else 0.0,
    }
    if heard.verdict is not None and heard.verdict.reached is not None:
        found["precision_reached"] = heard.verdict.reached
    if heard.schedule is not None:
        found |= open_loop.schedule_columns(heard.schedule, found)
        found["overloaded"] |= heard.late
    return found


def outcome(
    heard: Heard, *, overlap: float | None, ended: Sequence[str], limit_s: float
) -> Outcome:
    """Return what a perf_analyzer measured, and whether it may be believed.

    Parameters
    ----------
    heard
        What was heard of it.
    overlap
        Share of the time that counts in which all other models were under load, too; None without
        a report.
    ended
        Names of other models whose perf_analyzer ended by itself.
    limit_s
        After how many seconds a measurement is hung.

    Returns
    -------
    Outcome
        ``ok`` if nothing speaks against it.
    """
    found = metrics(heard)
    failure = _failure(heard, ended, limit_s)
    if failure is not None:
        return Outcome(failure[0], failure[1], found)
    parts = pooling.pooled_composing(
        [report.composing for report in heard.counted], found.get("throughput_infer_per_s")
    )
    reason = _doubt(heard, found, overlap, ended)
    if reason is not None:
        return Outcome(Status.UNSTABLE, reason, found, parts)
    if heard.verdict is None or not heard.verdict.done:
        return Outcome(Status.TIMEOUT, _hung(limit_s), found, parts)
    return Outcome(Status.OK, None, found, parts)


def _failure(heard: Heard, ended: Sequence[str], limit_s: float) -> tuple[Status, str] | None:
    """Return why there are no metrics, or none that can be used."""
    if heard.exit_code is not None:
        why = perf_output.failure_reason(heard.stdout, heard.stderr, heard.exit_code)
        return Status.FAILED, why
    if heard.unanswered:
        return Status.FAILED, perf_output.NO_ANSWER
    if heard.late or heard.reports:
        return None
    if ended:
        why = f"{', '.join(ended)}, measured at the same time, ended before this had metrics"
        return Status.FAILED, why
    return Status.TIMEOUT, _hung(limit_s)


def _doubt(
    heard: Heard, found: dict[str, Any], overlap: float | None, ended: Sequence[str]
) -> str | None:
    """Return why the metrics are not to be believed; None where nothing speaks against them."""
    if heard.schedule is not None and found.get("overloaded"):
        return open_loop.late_reason(heard.schedule, found)
    if overlap is not None and overlap < 1:
        why = f"{', '.join(ended)} ended" if ended else "not all of them ran all the time"
        return f"the other models loaded the server for only {overlap:.0%} of this time: {why}"
    if heard.verdict is not None and heard.verdict.reason is not None:
        return heard.verdict.reason
    printed = "".join(report.text for report in heard.counted)
    return perf_output.printed_warning(printed + heard.stderr)


def _hung(limit_s: float) -> str:
    return f"perf_analyzer was killed after {limit_s:.0f} s, the time computed for this point"


_NOT_THERE = re.compile(r"Failed for execute the inference request\. Model '([^']+)' is not ready")
"""What Triton's Python backend says of a model that is not on the server."""


def with_hint(outcome: Outcome, point: Point) -> Outcome:
    """Return an outcome whose reason says what may be its cause.

    Parameters
    ----------
    outcome
        What became of a point.
    point
        The point.

    Returns
    -------
    Outcome
        The same where there is nothing to add.
    """
    if outcome.metrics.get("overloaded") and "throughput_infer_per_s" not in outcome.metrics:
        # Where nobody can say a rate, not even the server, it was no overload.
        return Outcome(Status.TIMEOUT, f"{_NOTHING}; {_NO_RESPONSE}")
    if outcome.status is Status.TIMEOUT and "throughput_infer_per_s" not in outcome.metrics:
        return replace(
            outcome, reason=f"{outcome.reason}, and reported no response; {_NO_RESPONSE}"
        )
    if outcome.status is not Status.FAILED:
        return outcome
    hint = _called_hint(outcome.reason or "", point) or _strings_hint(point)
    if hint is None:
        return outcome
    return replace(outcome, reason=f"{(outcome.reason or '').rstrip('.')}; {hint}")


_NOTHING = "perf_analyzer printed nothing, and the server answered no request"
_NO_RESPONSE = (
    "the model may wait for something that does not come, or take longer for one request than the "
    "whole time (see the server's log, and send one request by hand)"
)


def _called_hint(reason: str, point: Point) -> str | None:
    found = _NOT_THERE.search(reason)
    if not found:
        return None
    model = point.variant.model
    needs = ", ".join([*model.needs, found[1]])
    return (
        f"the model calls '{found[1]}', which this server does not hold; add it to the model in "
        f"the campaign, as in {{name: {model.name}, needs: [{needs}]}}"
    )


def _strings_hint(point: Point) -> str | None:
    if not gets_random_strings(point):
        return None
    return "its strings were random; string_data or a file as input_data gives it others"
