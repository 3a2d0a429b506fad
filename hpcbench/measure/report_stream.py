"""What a perf_analyzer under load has printed so far: its passes and its finished reports.

With a range whose step is 0, perf_analyzer repeats: three passes, then a report on them. Requests
of the three are pooled in the report. Times are seconds of one monotonic clock.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcbench.measure import perf_output
from hpcbench.measure.perf_output import ComposingModel
from hpcbench.measure.stop_rule import Observation

PASSES = 3
"""How many passes perf_analyzer pools in a report; it has no option for it."""

COLD_S = 45.0
"""Seconds in which the first answer may come after those in which all others have to.

TensorFlow and others build what they run when they are asked first.
"""

# perf_analyzer prints such a line before it measures a load, and again after each report. With a
# file of intervals it ends after a report, with a line that begins with the rate, and is started
# again.
_BEGIN = re.compile(r"Request concurrency: |Request Rate: |\*\*\* Measurement Settings \*\*\*")
_PASS = re.compile(r"  Pass \[\d+\] (?:throughput: ([\d.e+]+) infer/sec|cb::Error)")


@dataclass(frozen=True)
class Line:
    """A line that perf_analyzer printed.

    Attributes
    ----------
    text
        The line with its newline.
    after, by
        Times between which it was printed, in seconds: last look without it, first look with it.
    """

    text: str
    after: float
    by: float


@dataclass(frozen=True)
class Pass:
    """One pass: what perf_analyzer itself calls a measurement window.

    Attributes
    ----------
    throughput
        In inferences per second as perf_analyzer counts them; 0 where no request was answered.
    after, by
        Times between which its line was printed, in seconds.
    """

    throughput: float
    after: float
    by: float


@dataclass(frozen=True)
class Report:
    """A finished report.

    Attributes
    ----------
    begin, end
        All that its metrics count happened between these times, in seconds.
    text
        The lines of its passes and of the report itself.
    metrics
        Values by the names of their columns.
    """

    begin: float
    end: float
    text: str
    metrics: dict[str, Any]

    @property
    def composing(self) -> tuple[ComposingModel, ...]:
        """What it says of the models that an ensemble calls."""
        return perf_output.parse_composing_models(self.text, self.metrics)

    @property
    def observation(self) -> Observation:
        """What a stop rule needs of it."""
        latency = self.metrics.get("latency_percentile_us", self.metrics.get("latency_avg_us", 0.0))
        return Observation(
            throughput=self.metrics.get("throughput_infer_per_s", 0.0),
            latency=latency,
            requests=self.metrics.get("request_count", 0),
            begin=self.begin,
            end=self.end,
        )


@dataclass
class ReportStream:
    """The lines of one perf_analyzer, read as they come.

    Attributes
    ----------
    percentile
        The percentile that it was asked for, in percent; None for the mean latency.
    reports
        The finished reports in the order of time.
    passes
        All passes in the order of time.
    begun
        When the load had begun, in seconds; None before that.
    """

    percentile: int | None
    begun: float | None = None
    reports: list[Report] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)
    _open: list[Line] = field(default_factory=list)

    def add(self, lines: Sequence[Line]) -> None:
        """Take what was printed since the last time.

        Parameters
        ----------
        lines
            Whole lines in the order in which they were printed.
        """
        for line in lines:
            found = _PASS.match(line.text)
            if found:
                self.passes.append(Pass(float(found[1] or 0), line.after, line.by))
            if _BEGIN.match(line.text):
                self.begun = line.by if self.begun is None else self.begun
                report = _report(self._open, self.percentile)
                self.reports += [report] if report else []
                self._open = []
            self._open.append(line)

    @property
    def load_span(self) -> tuple[float, float] | None:
        """The time in which the server is known to have been under load; None before a pass."""
        # The shortest span that is certain: a line was printed at some time from after to by.
        return (self.passes[0].by, self.passes[-1].after) if self.passes else None

    @property
    def lost_passes(self) -> int:
        """How many of the latest passes in a row had no answer."""
        latest = itertools.takewhile(lambda each: not each.throughput, reversed(self.passes))
        return sum(1 for _ in latest)

    @property
    def has_answers(self) -> bool:
        """Whether any request was answered yet."""
        return any(each.throughput for each in self.passes)

    @property
    def has_gaps(self) -> bool:
        """Whether, before any report, a pass after the first answer had none.

        Then passes are shorter than requests. A single one among many is a hiccup of the machine.
        """
        answered = itertools.dropwhile(lambda each: not each.throughput, self.passes)
        return not self.reports and any(not each.throughput for each in answered)


def _report(lines: Sequence[Line], percentile: int | None) -> Report | None:
    """Return the report that these lines end with; None where they have none."""
    if not lines or not _BEGIN.match(lines[0].text):
        return None
    passes = [line for line in lines if _PASS.match(line.text)]
    text = "".join(line.text for line in lines)
    metrics = perf_output.parse_report(text, percentile)
    if len(passes) < PASSES or "throughput_infer_per_s" not in metrics:
        return None
    # More passes than three come where one had no answer at all; the last three count.
    before = [lines[0], *passes][-PASSES - 1]
    return Report(before.after, passes[-1].by, text, metrics)
