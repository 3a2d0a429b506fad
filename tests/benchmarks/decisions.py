"""The truth table of the decisions: what is promised of each, beside what a simulation finds.

    python -m tests.benchmarks.decisions [--trials N] [--into FILE] [CASE...]

Each case makes results whose truth is known, in the form that campaigns leave them, puts them
through the real functions that `hpcbench compare` and `recommend` call, and counts how often the
answer is as it should be. Seeds are fixed: the same trials give the same table.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks import decisions_compare, decisions_recommend

Chance = np.random.Generator


@dataclass(frozen=True)
class Case:
    """One row of the table.

    ``trial`` makes one set of results and tells whether something happened, or in which share of
    it. Of the mean over trials it is promised that it is at least ``least``, or at most ``most``.
    """

    name: str
    trial: Callable[[Chance], float]
    least: float = 0.0
    most: float = 1.0
    trials: int = 100

    @property
    def promised(self) -> str:
        return f">= {self.least:g}" if self.most == 1 else f"<= {self.most:g}"


@dataclass(frozen=True)
class Found:
    """What a case's trials gave."""

    case: Case
    trials: int
    share: float

    @property
    def is_kept(self) -> bool:
        return self.case.least <= self.share <= self.case.most

    @property
    def row(self) -> str:
        kept = "" if self.is_kept else " (NOT KEPT)"
        name, promised = self.case.name, self.case.promised
        return f"| {name} | {promised} | {self.share:.3f}{kept} | {self.trials} |"


CASES: tuple[Case, ...] = tuple(
    Case(**case) for case in (*decisions_compare.CASES, *decisions_recommend.CASES)
)


def simulate(cases: Sequence[Case], trials: int | None = None) -> Iterator[Found]:
    """Run cases; each begins with the same seed, whichever others run."""
    for case in cases:
        chance = np.random.default_rng(1)
        count = trials or case.trials
        yield Found(case, count, float(np.mean([case.trial(chance) for _ in range(count)])))


def main(words: Sequence[str]) -> int:
    """Print a row for each case; end with 1 if a promise is not kept."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--trials", type=int, help="the same for each case")
    options.add_argument("--into", type=Path, help="a document whose rows are replaced by these")
    options.add_argument("cases", nargs="*", metavar="CASE", help="the beginning of a case's name")
    given = options.parse_args(words)
    chosen = [c for c in CASES if not given.cases or c.name.startswith(tuple(given.cases))]
    print("| case | promised | found | trials |")
    print("|---|---|---|---|")
    kept = True
    for found in simulate(chosen, given.trials):
        kept &= found.is_kept
        print(found.row, flush=True)
        if given.into is not None:
            _replace(given.into, found)
    return int(not kept)


def _replace(document: Path, found: Found) -> None:
    """Replace the row of a case in a document."""
    lines = document.read_text(encoding="utf-8").split("\n")
    (at,) = (n for n, line in enumerate(lines) if line.startswith(f"| {found.case.name} | "))
    lines[at] = found.row
    document.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
