"""The truth table of the decisions: what is promised of each, beside what a simulation finds.

    python -m tests.benchmarks.decisions [--trials N] [CASE...]

Each case makes results whose truth is known, in the form that campaigns leave them, puts them
through the real functions that `hpcbench compare` and `recommend` call, and counts how often the
answer is as it should be. Seeds are fixed: the same trials give the same table.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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
    def error(self) -> float:
        """The standard error of the share, for trials that are right or wrong."""
        return float(np.sqrt(self.share * (1 - self.share) / self.trials))

    @property
    def is_kept(self) -> bool:
        return self.case.least <= self.share <= self.case.most


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
    options.add_argument("cases", nargs="*", metavar="CASE", help="the beginning of a case's name")
    given = options.parse_args(words)
    chosen = [c for c in CASES if not given.cases or c.name.startswith(tuple(given.cases))]
    print("| case | promised | found | trials | kept |")
    print("|---|---|---|---|---|")
    kept = True
    for found in simulate(chosen, given.trials):
        case = found.case
        kept &= found.is_kept
        share = f"{found.share:.3f} ± {found.error:.3f}"
        verdict = "yes" if found.is_kept else "NO"
        row = f"| {case.name} | {case.promised} | {share} | {found.trials} | {verdict} |"
        print(row, flush=True)
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
