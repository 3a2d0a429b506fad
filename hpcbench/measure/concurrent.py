"""Measures several models of one server at the same time: one perf_analyzer for each.

All start together, and each measures its load in rounds, over and over. What counts begins once all
of them load the server, and all keep loading it until each has its figures and has shown once more
that it was still at work. So none is measured while another is still to come, or has ended: the
load beside it is there for the whole of the time that its figures cover, and that it was, is
measured by the times at which the windows were printed.
"""

import glob
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hpcbench.config.load_axes import REST_WINDOWS, LoadVariant
from hpcbench.measure import measurement_cycles, perf_analyzer, perf_output
from hpcbench.measure.measurement_cycles import Line, Round
from hpcbench.measure.perf_output import Outcome
from hpcbench.records.columns import Status
from hpcbench.runtime import process
from hpcbench.runtime.command import Command
from hpcbench.runtime.process import Running

LOOK_S = 0.05


@dataclass(frozen=True)
class Loader:
    """One of the perf_analyzers: ``name`` tells it from the others, ``folder`` is its own."""

    name: str
    load: LoadVariant
    command: Command
    folder: Path


@dataclass(frozen=True)
class Ran:
    """How one of them went. ``exit_code`` is None where it was at work until it was ended."""

    outcome: Outcome
    overlap: float | None
    exit_code: int | None
    seconds: float
    printed: str


@dataclass
class _Watched:
    """A perf_analyzer at work, and what it has printed so far."""

    loader: Loader
    program: Running
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


def run(loaders: Sequence[Loader]) -> list[Ran]:
    """Measures all of them together, and ends them."""
    started = time.monotonic()
    deadline = started + limit_s([loader.load for loader in loaders])
    with ExitStack() as stack:
        watched = [_start(loader, stack, started) for loader in loaders]
        while not _over(watched) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
            for each in watched:
                each.look()
        for each in watched:
            each.program.release()
    seconds = time.monotonic() - started
    return [_ran(each, watched, seconds) for each in watched]


def _start(loader: Loader, stack: ExitStack, started: float) -> _Watched:
    paths = loader.folder / "stdout.txt", loader.folder / "stderr.txt"
    stdout, stderr = (stack.enter_context(path.open("wb")) for path in paths)
    program = stack.enter_context(
        process.running(
            loader.command.argv,
            stdout=stdout,
            stderr=stderr,
            cwd=loader.folder,
            env=loader.command.env,
            grace_s=0.5,
            orphaned=[glob.escape(str(loader.folder))],
        )
    )
    stream = stack.enter_context(paths[0].open(encoding="utf-8", errors="replace"))
    return _Watched(loader, program, stream, started)


def _since(watched: Sequence[_Watched]) -> float | None:
    """When all of them were at work for the first time; None while one is not."""
    spans = [measurement_cycles.under_load(each.lines) for each in watched]
    begins = [span[0] for span in spans if span is not None]
    return max(begins) if len(begins) == len(watched) else None


def _chosen(each: _Watched, since: float | None) -> Round | None:
    if since is None:
        return None
    return measurement_cycles.chosen(measurement_cycles.rounds(each.lines), each.loader.load, since)


def _over(watched: Sequence[_Watched]) -> bool:
    """Whether there is nothing to wait for: one has ended by itself, or all have what they need."""
    if any(each.code is not None for each in watched):
        return True
    since = _since(watched)
    found = [_chosen(each, since) for each in watched]
    ends = [each.end for each in found if each is not None]
    shown = [
        span[1]
        for each in watched
        if (span := measurement_cycles.under_load(each.lines)) is not None
    ]
    return len(ends) == len(shown) == len(watched) and min(shown) >= max(ends)


def _ran(each: _Watched, watched: Sequence[_Watched], seconds: float) -> Ran:
    done = measurement_cycles.rounds(each.lines)
    best = _chosen(each, _since(watched)) or (done[-1] if done else None)
    others = {
        other.loader.name: measurement_cycles.under_load(other.lines)
        for other in watched
        if other is not each
    }
    share = None if best is None else measurement_cycles.overlap(best, others)
    outcome = _outcome(each, watched, best, share)
    return Ran(outcome, share, each.code, seconds, each.printed)


def _outcome(
    each: _Watched, watched: Sequence[_Watched], best: Round | None, share: float | None
) -> Outcome:
    load = each.loader.load
    stderr = (each.loader.folder / "stderr.txt").read_text(errors="replace")
    figures = best.figures(load.percentile) if best else {}
    if each.code is not None:
        why = perf_output.failure_reason(each.printed, stderr, each.code)
        return Outcome(Status.FAILED, why, figures)
    ended = [other.loader.name for other in watched if other.code is not None]
    if best is None or share is None:
        if ended:
            reason = (
                f"{', '.join(ended)}, measured at the same time, ended before there was a figure"
            )
            return Outcome(Status.FAILED, reason)
        reason = "perf_analyzer was killed: no figures within the time computed for these points"
        return Outcome(Status.TIMEOUT, reason)
    parts = perf_output.composing(best.text, figures)
    if share < 1:
        why = f"{', '.join(ended)} ended" if ended else "the others were not all at work"
        reason = f"only {share:.0%} of its time had the whole load beside it: {why}"
        return Outcome(Status.UNSTABLE, reason, figures, parts)
    if not measurement_cycles.settled(best, load):
        why, most = perf_output.unstable_reason(figures), measurement_cycles.most(load)
        reason = f"{why}, in the last of {most} rounds"
        return Outcome(Status.UNSTABLE, reason, figures, parts)
    return Outcome(Status.OK, None, figures, parts)
