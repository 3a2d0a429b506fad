"""Reads what a perf_analyzer prints that measures the same load over and over, until it is ended.

It goes in rounds: three windows, then a report of them, while the load goes on. Pure functions on
lines and the times at which they were seen; times are seconds of one clock.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcbench.config.load_axes import REST_WINDOWS, LoadVariant
from hpcbench.measure import perf_output

_BEGIN = re.compile(r"Request concurrency: |Request Rate: ")
_PASS = re.compile(r"  Pass \[\d+\] ")


@dataclass(frozen=True)
class Line:
    """A line that was printed after ``after`` and not later than ``by``."""

    text: str
    after: float
    by: float


@dataclass(frozen=True)
class Round:
    """A finished round. All that its figures count happened between ``begin`` and ``end``."""

    begin: float
    end: float
    text: str

    def figures(self, percentile: int | None) -> dict[str, Any]:
        """The columns that it gives."""
        return perf_output.report(self.text, percentile)

    @property
    def spread(self) -> float:
        """By how much the largest of its windows is over the smallest, of rates and of latencies.

        It is what perf_analyzer compares with --stability-percentage.
        """
        figures = perf_output.windows(self.text)
        columns = [values[-REST_WINDOWS:] for values in figures.values()]
        if not columns or any(min(values) <= 0 for values in columns):
            return math.inf
        return float(max(max(values) / min(values) - 1 for values in columns))


def rounds(lines: Sequence[Line]) -> list[Round]:
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
            found.append(Round(before.after, passes[-1].by, text))
    return found


def under_load(lines: Sequence[Line]) -> tuple[float, float] | None:
    """From when until when its windows show that the server was under its load; None: never."""
    passes = [line for line in lines if _PASS.match(line.text)]
    return (passes[0].by, passes[-1].after) if passes else None


def most(load: LoadVariant) -> int:
    """How many rounds it has to settle: as many windows as it had alone."""
    return math.ceil(load.max_trials / REST_WINDOWS)


def chosen(found: Sequence[Round], load: LoadVariant, since: float) -> Round | None:
    """The round that counts: the first that settled, else the last of those that it has.

    Only those count that began after ``since``. None while there may be a better one.
    """
    candidates = [each for each in found if each.begin >= since][: most(load)]
    for each in candidates:
        if settled(each, load):
            return each
    return candidates[-1] if len(candidates) == most(load) else None


def settled(each: Round, load: LoadVariant) -> bool:
    return each.spread <= load.stability_percentage / 100


def overlap(each: Round, others: Mapping[str, tuple[float, float] | None]) -> float:
    """The share of a round's time in which the server was under the load of all others."""
    begin, end = each.begin, each.end
    for span in others.values():
        if span is None:
            return 0.0
        begin, end = max(begin, span[0]), min(end, span[1])
    return max(0.0, (end - begin) / (each.end - each.begin))
