"""Run perf_analyzers under load until enough was seen, one for each model; then end them.

This is the only way in which hpcbench measures, one model alone or several at the same time. Each
perf_analyzer repeats its load and prints a report after every three passes (`report_stream`); a
rule decides after each report (`stop_rule`). A report counts if it began after all models were
under load. All of them keep loading the server until enough was seen of each, and each has printed
one more pass, which shows that its load lasted. So the load of the others covers what counts, and
the times at which passes were printed prove it.

They are ended by SIGINT, after which perf_analyzer sends nothing and waits: for the end of its
pass, and for ever where it has sent far more than the server answers. So SIGTERM follows.
"""

import glob
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hpcbench.config.load_axes import LoadVariant
from hpcbench.measure import load_outcome, open_loop, perf_analyzer, stop_rule
from hpcbench.measure.load_outcome import Heard
from hpcbench.measure.open_loop import Schedule
from hpcbench.measure.perf_analyzer import PassPlan
from hpcbench.measure.perf_output import Outcome
from hpcbench.measure.report_stream import COLD_S, Line, Report, ReportStream
from hpcbench.measure.stop_rule import StopDecision
from hpcbench.runtime import process
from hpcbench.runtime.process import Command, RunningProgram

# A line's time is known to this precision; reading more often would cost the measured CPUs.
_POLL_S = 0.05

_DRAIN_S = 0.1
"""Seconds in which requests that are under way may be answered before perf_analyzer is ended."""


@dataclass(frozen=True)
class LoadGenerator:
    """One perf_analyzer to start.

    Attributes
    ----------
    name
        The model's label, by which messages name it.
    load
        The load that it makes.
    plan
        The passes that ``command`` asks for.
    schedule
        When the requests of an open loop are due; None for a closed loop.
    command
        Its command line.
    folder
        An empty folder of its own, where it runs and where its output goes.
    """

    name: str
    load: LoadVariant
    plan: PassPlan
    schedule: Schedule | None
    command: Command
    folder: Path


@dataclass(frozen=True)
class GeneratorResult:
    """What one perf_analyzer measured.

    Attributes
    ----------
    outcome
        Status, reason and metrics of its point.
    overlap
        Share of the time that counts in which all other models were under load; None without a
        report.
    exit_code
        None if it ran until it was ended.
    seconds
        How long all of them ran.
    printed
        Its standard output.
    counted
        The begin and the end of what counts, in seconds of `time.monotonic`; None without a report.
    reports
        How many reports count.
    better_plan
        The passes to measure with instead, because these were too short; None where they were not.
    """

    outcome: Outcome
    overlap: float | None
    exit_code: int | None
    seconds: float
    printed: str
    counted: tuple[float, float] | None
    reports: int
    better_plan: PassPlan | None


@dataclass
class _Watched:
    """A perf_analyzer at work, and what it has printed so far."""

    generator: LoadGenerator
    program: RunningProgram
    file: IO[str]
    seen: float
    stream: ReportStream
    printed: list[str] = field(default_factory=list)
    begun: str = ""
    code: int | None = None
    verdict: StopDecision | None = None
    asked: int = 0
    late: bool = False

    def look(self) -> None:
        self.code = self.program.poll() if self.code is None else self.code
        text = self.file.read()
        self.printed.append(text)
        # What follows the last newline is a line that is still being written.
        *whole, self.begun = (self.begun + text).split("\n")
        now = time.monotonic()
        self.stream.add([Line(f"{line}\n", self.seen, now) for line in whole])
        self.seen = now

    def ask_rule(self, since: float | None) -> None:
        """Ask the stop rule, once for each report that counts."""
        reports = self.counting(since)
        while not self.done and self.asked < len(reports):
            self.asked += 1
            self.verdict = _verdict(self.generator, reports[: self.asked])
        schedule = self.generator.schedule
        if schedule is not None and not self.done:
            self.late = open_loop.is_surely_late(
                schedule,
                self.stream,
                pass_s=self.generator.plan.pass_s,
                now=self.seen,
            )

    def counting(self, since: float | None) -> list[Report]:
        """The reports that began after all models were under load."""
        if since is None:
            return []
        return [report for report in self.stream.reports if report.begin >= since]

    @property
    def done(self) -> bool:
        return self.late or (self.verdict is not None and self.verdict.done)

    @property
    def unanswered(self) -> bool:
        """Whether no request was answered for as long as a point may take."""
        lost_s = self.stream.lost_passes * self.generator.plan.pass_s
        cold_s = 0.0 if self.stream.has_answers else COLD_S
        return lost_s >= self.generator.load.allowed_s + cold_s


def run_under_load(generators: Sequence[LoadGenerator]) -> list[GeneratorResult]:
    """Measure loads at the same time, and end their perf_analyzers.

    Parameters
    ----------
    generators
        What to start, all on one server.

    Returns
    -------
    list of GeneratorResult
        In the order of ``generators``.
    """
    started = time.monotonic()
    deadline = started + perf_analyzer.limit_s([generator.load for generator in generators])
    with ExitStack() as stack:
        watched = [_start(generator, stack, started) for generator in generators]
        since = None
        while time.monotonic() < deadline and not _over(watched, since):
            time.sleep(_POLL_S)
            for each in watched:
                each.look()
            since = _since(watched)
            for each in watched:
                each.ask_rule(since)
        _end(watched)
    seconds = time.monotonic() - started
    return [_result(each, watched, since, seconds) for each in watched]


def _start(generator: LoadGenerator, stack: ExitStack, started: float) -> _Watched:
    paths = generator.folder / "stdout.txt", generator.folder / "stderr.txt"
    stdout, stderr = (stack.enter_context(path.open("wb")) for path in paths)
    program = stack.enter_context(
        process.running(
            generator.command,
            stdout=stdout,
            stderr=stderr,
            cwd=generator.folder,
            grace_s=0.5,
            orphaned=[glob.escape(str(generator.folder))],
        )
    )
    file = stack.enter_context(paths[0].open(encoding="utf-8", errors="replace"))
    return _Watched(generator, program, file, started, ReportStream(generator.load.percentile))


def _since(watched: Sequence[_Watched]) -> float | None:
    """Return the time from which all were under load; None before that."""
    if len(watched) == 1:
        return 0.0
    spans = [each.stream.load_span for each in watched]
    begins = [span[0] for span in spans if span is not None]
    return max(begins) if len(begins) == len(watched) else None


def _over(watched: Sequence[_Watched], since: float | None) -> bool:
    """Return whether waiting is of no more use."""
    # One that ended by itself takes its load away: nothing more of the others can count.
    if any(each.code is not None or each.unanswered for each in watched):
        return True
    if any(_better_plan(each) is not None for each in watched):
        return True
    if not all(each.done for each in watched):
        return False
    if len(watched) == 1:
        return True
    # Each must have been at work until after the last report that counts.
    spans = [_heard(each, since).span for each in watched]
    shown = [each.stream.load_span for each in watched]
    ends = [span[1] for span in spans if span is not None]
    return min(span[1] for span in shown if span is not None) >= max(ends, default=0.0)


def _better_plan(each: _Watched) -> PassPlan | None:
    generator = each.generator
    if each.late:
        return None
    reports = each.stream.reports
    return perf_analyzer.better_plan(
        generator.load,
        generator.plan,
        gaps=each.stream.has_gaps,
        first=reports[0].observation if reports else None,
    )


def _end(watched: Sequence[_Watched]) -> None:
    for each in watched:
        each.program.interrupt()
    for each in watched:
        # Whoever has segments of shared memory must be let delete them, at the end of its pass.
        system = each.generator.load.shared_memory != "none"
        each.program.wait(each.generator.plan.pass_s + 1 if system else _DRAIN_S)
    for each in watched:
        each.program.release()


def _verdict(generator: LoadGenerator, reports: Sequence[Report]) -> StopDecision:
    load = generator.load
    observations = [report.observation for report in reports]
    if load.arrivals_seed is not None:
        return stop_rule.by_report(observations)
    if load.stop_precision is not None:
        return stop_rule.by_precision(
            observations, precision=load.stop_precision, max_s=load.allowed_s
        )
    assert load.stability_percentage is not None
    assert load.max_trials is not None
    return stop_rule.by_windows(
        observations,
        per_window=generator.plan.reports_per_window,
        stability_percentage=load.stability_percentage,
        max_trials=load.max_trials,
    )


def _heard(each: _Watched, since: float | None) -> Heard:
    stderr = (each.generator.folder / "stderr.txt").read_text(errors="replace")
    counting = each.counting(since)
    return Heard(
        load=each.generator.load,
        plan=each.generator.plan,
        schedule=each.generator.schedule,
        passes=tuple(each.stream.passes),
        loaded=None if each.stream.begun is None else (each.stream.begun, each.seen),
        reports=tuple(counting or each.stream.reports),
        verdict=each.verdict if counting else None,
        late=each.late,
        unanswered=each.unanswered,
        exit_code=each.code,
        stdout="".join(each.printed),
        stderr=stderr,
    )


def load_overlap(
    span: tuple[float, float], others: Mapping[str, tuple[float, float] | None]
) -> float:
    """Return the share of a time in which all other models were under load, too.

    Parameters
    ----------
    span
        Its begin and end, in seconds.
    others
        For each other model the time in which it was under load, in seconds; None if it never was.

    Returns
    -------
    float
        Between 0 and 1.
    """
    begin, end = span
    for other in others.values():
        if other is None:
            return 0.0
        begin, end = max(begin, other[0]), min(end, other[1])
    return max(0.0, (end - begin) / (span[1] - span[0]))


def _result(
    each: _Watched, watched: Sequence[_Watched], since: float | None, seconds: float
) -> GeneratorResult:
    others = {o.generator.name: o.stream.load_span for o in watched if o is not each}
    heard = _heard(each, since)
    overlap = None if heard.span is None else load_overlap(heard.span, others)
    outcome = load_outcome.outcome(
        heard,
        overlap=overlap,
        ended=[o.generator.name for o in watched if o is not each and o.code is not None],
        limit_s=perf_analyzer.limit_s([o.generator.load for o in watched]),
    )
    return GeneratorResult(
        outcome=outcome,
        overlap=overlap if others else None,
        exit_code=each.code,
        seconds=seconds,
        printed=heard.stdout,
        counted=heard.span,
        reports=len(heard.counted),
        better_plan=_better_plan(each),
    )
