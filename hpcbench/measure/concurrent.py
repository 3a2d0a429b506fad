"""Measure several models of one server at the same time, with one perf_analyzer for each.

Each perf_analyzer repeats its load in measurement cycles (three windows, then a report) until it is
ended. A cycle counts if it began after all models were under load. All of them keep loading the
server until each has its cycle and has printed one more window, which shows that its load lasted.
So the load of the other models covers the whole cycle, and the times at which windows were printed
prove it.

Times are seconds of one monotonic clock.
"""

import glob
import itertools
import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hpcbench.config.load_axes import REST_WINDOWS, LoadVariant
from hpcbench.measure import perf_analyzer, perf_output
from hpcbench.measure.perf_output import Outcome
from hpcbench.records.columns import Status
from hpcbench.runtime import process
from hpcbench.runtime.process import Command, RunningProgram

# perf_analyzer prints this line before it measures a load, and again in each cycle.
_BEGIN = re.compile(r"Request concurrency: |Request Rate: ")
_PASS = re.compile(r"  Pass \[\d+\] ")


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
class MeasurementCycle:
    """A finished cycle of windows and the report on them.

    Attributes
    ----------
    begin, end
        All that its metrics count happened between these times, in seconds.
    text
        The lines of its windows and its report.
    """

    begin: float
    end: float
    text: str

    def metrics(self, percentile: int | None) -> dict[str, Any]:
        """Return the metrics of the report.

        Parameters
        ----------
        percentile
            The percentile that perf_analyzer was asked for, in percent; None for the mean latency.

        Returns
        -------
        dict of str to Any
            Values by the names of their columns.
        """
        return perf_output.parse_report(self.text, percentile)

    @property
    def spread(self) -> float:
        """Largest window divided by smallest, less one: of rates or of latencies, the larger one.

        perf_analyzer compares it with --stability-percentage. It is infinite without windows.
        """
        metrics = perf_output.parse_windows(self.text)
        columns = [values[-REST_WINDOWS:] for values in metrics.values()]
        if not columns or any(min(values) <= 0 for values in columns):
            return math.inf
        return float(max(max(values) / min(values) - 1 for values in columns))


def measurement_cycles(lines: Sequence[Line]) -> list[MeasurementCycle]:
    """Find the finished cycles in what a perf_analyzer has printed so far.

    Parameters
    ----------
    lines
        All lines so far, in the order in which they were printed.

    Returns
    -------
    list of MeasurementCycle
        In the order of time, without the one that still runs.
    """
    begins = [number for number, line in enumerate(lines) if _BEGIN.match(line.text)]
    found = []
    for begin, end in itertools.pairwise(begins):
        members = lines[begin:end]
        passes = [line for line in members if _PASS.match(line.text)]
        # More windows than three come where one had no answer at all; the last three count.
        before = [members[0], *passes][: len(passes) + 1][-REST_WINDOWS - 1]
        if len(passes) >= REST_WINDOWS:
            text = "".join(line.text for line in members)
            found.append(MeasurementCycle(before.after, passes[-1].by, text))
    return found


def load_span(lines: Sequence[Line]) -> tuple[float, float] | None:
    """Return the time in which a perf_analyzer is known to have loaded the server.

    Parameters
    ----------
    lines
        All lines that it has printed so far.

    Returns
    -------
    tuple of float or None
        Time of the first and of the last window, in seconds; None before the first window.
    """
    passes = [line for line in lines if _PASS.match(line.text)]
    # The shortest span that is certain: a line was printed at some time from after to by.
    return (passes[0].by, passes[-1].after) if passes else None


def _max_cycles(load: LoadVariant) -> int:
    # As many windows as the load would have if it were measured alone.
    return math.ceil(load.max_trials / REST_WINDOWS)


def select_cycle(
    found: Sequence[MeasurementCycle], load: LoadVariant, since: float
) -> MeasurementCycle | None:
    """Select the cycle whose metrics go into the record.

    Parameters
    ----------
    found
        The finished cycles of one perf_analyzer.
    load
        Its load, which says when a cycle is stable and how many there may be.
    since
        The time from which all models were under load, in seconds. Earlier cycles do not count.

    Returns
    -------
    MeasurementCycle or None
        The first stable cycle; the last one if all were unstable; None while another may follow.
    """
    candidates = [each for each in found if each.begin >= since][: _max_cycles(load)]
    for each in candidates:
        if is_stable(each, load):
            return each
    return candidates[-1] if len(candidates) == _max_cycles(load) else None


def is_stable(each: MeasurementCycle, load: LoadVariant) -> bool:
    """Return whether the windows of a cycle agree as perf_analyzer demands it.

    Parameters
    ----------
    each
        A finished cycle.
    load
        The load with its ``stability_percentage``.

    Returns
    -------
    bool
        True if rates and latencies differ by no more than that.
    """
    return each.spread <= load.stability_percentage / 100


def load_overlap(each: MeasurementCycle, others: Mapping[str, tuple[float, float] | None]) -> float:
    """Return the share of a cycle in which all other models were under load, too.

    Parameters
    ----------
    each
        The cycle.
    others
        For each other model the time in which it was under load, in seconds; None if it never was.

    Returns
    -------
    float
        Between 0 and 1.
    """
    begin, end = each.begin, each.end
    for span in others.values():
        if span is None:
            return 0.0
        begin, end = max(begin, span[0]), min(end, span[1])
    return max(0.0, (end - begin) / (each.end - each.begin))


# A line's time is known to this precision; reading more often would cost the measured CPUs.
_POLL_S = 0.05


@dataclass(frozen=True)
class LoadGenerator:
    """One perf_analyzer to start.

    Attributes
    ----------
    name
        The model's label, by which messages name it.
    load
        The load that it makes.
    command
        Its command line.
    folder
        An empty folder of its own, where it runs and where its output goes.
    """

    name: str
    load: LoadVariant
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
        Share of the cycle in which all other models were under load; None without a cycle.
    exit_code
        None if it ran until it was ended.
    seconds
        How long all of them ran.
    printed
        Its standard output.
    """

    outcome: Outcome
    overlap: float | None
    exit_code: int | None
    seconds: float
    printed: str


@dataclass
class _Watched:
    """A perf_analyzer at work, and what it has printed so far."""

    generator: LoadGenerator
    program: RunningProgram
    stream: IO[str]
    seen: float
    lines: list[Line] = field(default_factory=list)
    begun: str = ""
    code: int | None = None

    def look(self) -> None:
        self.code = self.program.poll() if self.code is None else self.code
        text = self.begun + self.stream.read()
        # What follows the last newline is a line that is still being written.
        *whole, self.begun = text.split("\n")
        now = time.monotonic()
        self.lines += [Line(f"{line}\n", self.seen, now) for line in whole]
        self.seen = now

    @property
    def printed(self) -> str:
        return "".join(line.text for line in self.lines) + self.begun


def run_concurrently(generators: Sequence[LoadGenerator]) -> list[GeneratorResult]:
    """Measure several loads at the same time, and end their perf_analyzers.

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
        while not _over(watched) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            for each in watched:
                each.look()
        for each in watched:
            each.program.release()
    seconds = time.monotonic() - started
    return [_result(each, watched, seconds) for each in watched]


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
    stream = stack.enter_context(paths[0].open(encoding="utf-8", errors="replace"))
    return _Watched(generator, program, stream, started)


def _since(watched: Sequence[_Watched]) -> float | None:
    """Return when the last of them began its load; None before that."""
    spans = [load_span(each.lines) for each in watched]
    begins = [span[0] for span in spans if span is not None]
    return max(begins) if len(begins) == len(watched) else None


def _selected_cycle(each: _Watched, since: float | None) -> MeasurementCycle | None:
    if since is None:
        return None
    return select_cycle(measurement_cycles(each.lines), each.generator.load, since)


def _over(watched: Sequence[_Watched]) -> bool:
    """Return whether waiting is of no more use."""
    # One that ended by itself takes its load away: no cycle of the others can count any more.
    if any(each.code is not None for each in watched):
        return True
    since = _since(watched)
    found = [_selected_cycle(each, since) for each in watched]
    ends = [each.end for each in found if each is not None]
    # Each must have been at work until after the last cycle that counts.
    shown = [span[1] for each in watched if (span := load_span(each.lines)) is not None]
    return len(ends) == len(shown) == len(watched) and min(shown) >= max(ends)


def _result(each: _Watched, watched: Sequence[_Watched], seconds: float) -> GeneratorResult:
    done = measurement_cycles(each.lines)
    best = _selected_cycle(each, _since(watched)) or (done[-1] if done else None)
    others = {
        other.generator.name: load_span(other.lines) for other in watched if other is not each
    }
    share = None if best is None else load_overlap(best, others)
    outcome = _outcome(each, watched, best, share)
    return GeneratorResult(outcome, share, each.code, seconds, each.printed)


def _outcome(
    each: _Watched, watched: Sequence[_Watched], best: MeasurementCycle | None, share: float | None
) -> Outcome:
    load = each.generator.load
    stderr = (each.generator.folder / "stderr.txt").read_text(errors="replace")
    metrics = best.metrics(load.percentile) if best else {}
    if each.code is not None:
        why = perf_output.failure_reason(each.printed, stderr, each.code)
        return Outcome(Status.FAILED, why, metrics)
    ended = [other.generator.name for other in watched if other.code is not None]
    if best is None or share is None:
        if ended:
            reason = f"{', '.join(ended)}, measured at the same time, ended before this had metrics"
            return Outcome(Status.FAILED, reason)
        reason = "perf_analyzer was killed: no metrics in the time computed for these points"
        return Outcome(Status.TIMEOUT, reason)
    parts = perf_output.parse_composing_models(best.text, metrics)
    if share < 1:
        why = f"{', '.join(ended)} ended" if ended else "not all of them ran all the time"
        reason = f"the other models loaded the server for only {share:.0%} of this cycle: {why}"
        return Outcome(Status.UNSTABLE, reason, metrics, parts)
    if not is_stable(best, load):
        why = perf_output.unstable_reason(metrics)
        reason = f"{why}, in the last of {_max_cycles(load)} measurement cycles"
        return Outcome(Status.UNSTABLE, reason, metrics, parts)
    return Outcome(Status.OK, None, metrics, parts)
