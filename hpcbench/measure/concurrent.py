"""Reads what a perf_analyzer prints that measures the same load over and over, until it is ended.

It goes in rounds: three windows, then a report of them, while the load goes on. Pure functions on
lines and the times at which they were seen; times are seconds of one clock.

Measures several models of one server at the same time: one perf_analyzer for each.

All start together, and each measures its load in rounds, over and over. What counts begins once all
of them load the server, and all keep loading it until each has its metrics and has shown once more
that it was still at work. So none is measured while another is still to come, or has ended: the
load beside it is there for the whole of the time that its metrics cover, and that it was, is
measured by the times at which the windows were printed.
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

_BEGIN = re.compile(r"Request concurrency: |Request Rate: ")
_PASS = re.compile(r"  Pass \[\d+\] ")


@dataclass(frozen=True)
class Line:
    """A line that was printed after ``after`` and not later than ``by``."""

    text: str
    after: float
    by: float


@dataclass(frozen=True)
class MeasurementCycle:
    """A finished round. All that its metrics count happened between ``begin`` and ``end``."""

    begin: float
    end: float
    text: str

    def metrics(self, percentile: int | None) -> dict[str, Any]:
        """The columns that it gives."""
        return perf_output.parse_report(self.text, percentile)

    @property
    def spread(self) -> float:
        """By how much the largest of its windows is over the smallest, of rates and of latencies.

        It is what perf_analyzer compares with --stability-percentage.
        """
        metrics = perf_output.parse_windows(self.text)
        columns = [values[-REST_WINDOWS:] for values in metrics.values()]
        if not columns or any(min(values) <= 0 for values in columns):
            return math.inf
        return float(max(max(values) / min(values) - 1 for values in columns))


def measurement_cycles(lines: Sequence[Line]) -> list[MeasurementCycle]:
    """The finished rounds, in their order."""
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
    """From when until when its windows show that the server was under its load; None: never."""
    passes = [line for line in lines if _PASS.match(line.text)]
    return (passes[0].by, passes[-1].after) if passes else None


def max_cycles(load: LoadVariant) -> int:
    """How many rounds it has to settle: as many windows as it had alone."""
    return math.ceil(load.max_trials / REST_WINDOWS)


def select_cycle(
    found: Sequence[MeasurementCycle], load: LoadVariant, since: float
) -> MeasurementCycle | None:
    """The round that counts: the first that settled, else the last of those that it has.

    Only those count that began after ``since``. None while there may be a better one.
    """
    candidates = [each for each in found if each.begin >= since][: max_cycles(load)]
    for each in candidates:
        if is_stable(each, load):
            return each
    return candidates[-1] if len(candidates) == max_cycles(load) else None


def is_stable(each: MeasurementCycle, load: LoadVariant) -> bool:
    return each.spread <= load.stability_percentage / 100


def load_overlap(each: MeasurementCycle, others: Mapping[str, tuple[float, float] | None]) -> float:
    """The share of a round's time in which the server was under the load of all others."""
    begin, end = each.begin, each.end
    for span in others.values():
        if span is None:
            return 0.0
        begin, end = max(begin, span[0]), min(end, span[1])
    return max(0.0, (end - begin) / (each.end - each.begin))


POLL_S = 0.05


@dataclass(frozen=True)
class LoadGenerator:
    """One of the perf_analyzers: ``name`` tells it from the others, ``folder`` is its own."""

    name: str
    load: LoadVariant
    command: Command
    folder: Path


@dataclass(frozen=True)
class GeneratorResult:
    """How one of them went. ``exit_code`` is None where it was at work until it was ended."""

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
        *whole, self.begun = text.split("\n")
        now = time.monotonic()
        self.lines += [Line(f"{line}\n", self.seen, now) for line in whole]
        self.seen = now

    @property
    def printed(self) -> str:
        return "".join(line.text for line in self.lines) + self.begun


def limit_s(loads: Sequence[LoadVariant]) -> float:
    """Seconds after which the slowest of them must be hung."""
    first_s = max(2 * REST_WINDOWS * load.window_s for load in loads)
    return first_s + max(perf_analyzer.timeout_s(load) for load in loads)


def run_concurrently(generators: Sequence[LoadGenerator]) -> list[GeneratorResult]:
    """Measures all of them together, and ends them."""
    started = time.monotonic()
    deadline = started + limit_s([generator.load for generator in generators])
    with ExitStack() as stack:
        watched = [_start(generator, stack, started) for generator in generators]
        while not _over(watched) and time.monotonic() < deadline:
            time.sleep(POLL_S)
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
    """When all of them were at work for the first time; None while one is not."""
    spans = [load_span(each.lines) for each in watched]
    begins = [span[0] for span in spans if span is not None]
    return max(begins) if len(begins) == len(watched) else None


def _selected_cycle(each: _Watched, since: float | None) -> MeasurementCycle | None:
    if since is None:
        return None
    return select_cycle(measurement_cycles(each.lines), each.generator.load, since)


def _over(watched: Sequence[_Watched]) -> bool:
    """Whether there is nothing to wait for: one has ended by itself, or all have what they need."""
    if any(each.code is not None for each in watched):
        return True
    since = _since(watched)
    found = [_selected_cycle(each, since) for each in watched]
    ends = [each.end for each in found if each is not None]
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
            reason = (
                f"{', '.join(ended)}, measured at the same time, ended before there was a metric"
            )
            return Outcome(Status.FAILED, reason)
        reason = "perf_analyzer was killed: no metrics within the time computed for these points"
        return Outcome(Status.TIMEOUT, reason)
    parts = perf_output.parse_composing_models(best.text, metrics)
    if share < 1:
        why = f"{', '.join(ended)} ended" if ended else "the others were not all at work"
        reason = f"only {share:.0%} of its time had the whole load beside it: {why}"
        return Outcome(Status.UNSTABLE, reason, metrics, parts)
    if not is_stable(best, load):
        why = perf_output.unstable_reason(metrics)
        reason = f"{why}, in the last of {max_cycles(load)} measurement cycles"
        return Outcome(Status.UNSTABLE, reason, metrics, parts)
    return Outcome(Status.OK, None, metrics, parts)
