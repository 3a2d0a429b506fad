"""Whether the intervals of ``stop: {precision: ...}`` hold, and what they cost: simulated reports.

    python -m tests.benchmarks.precise_intervals [--seed 1] [--trials 400]

The mean of each series is known. For each kind: the share of intervals that hold it, the share of
means that are within the precision asked for, how many reports were needed, and how many a rule
would need that knew spread and correlation. Give a seed that no constant of the rule was chosen by.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hpcbench.measure import stop_rule
from hpcbench.measure.stop_rule import Observation, StopDecision
from tests.benchmarks import demo_runs

Series = npt.NDArray[np.float64]

LENGTH = 4000
STD = 0.05
REPORT_S = 0.1


def correlated(chance: np.random.Generator, correlation: float) -> Series:
    """A first-order autoregression of mean 1."""
    noise = chance.normal(0, STD * math.sqrt(1 - correlation**2), LENGTH)
    noise[0] = chance.normal(0, STD)
    for place in range(1, LENGTH):
        noise[place] += correlation * noise[place - 1]
    return 1 + noise


def skewed(chance: np.random.Generator) -> Series:
    """Lognormal, as latencies are, with a standard deviation of 15 %."""
    sigma = math.sqrt(math.log(1 + 0.15**2))
    return np.asarray(chance.lognormal(-(sigma**2) / 2, sigma, LENGTH))


def with_stalls(chance: np.random.Generator) -> Series:
    """One report of twenty takes twice as long."""
    values = chance.normal(1, STD, LENGTH) * np.where(chance.random(LENGTH) < 0.05, 2.0, 1.0)
    return np.asarray(values / 1.05)


def after_a_warm_up(chance: np.random.Generator) -> Series:
    """The first five reports are 30 % too slow."""
    values = correlated(chance, 0.3)
    values[:5] *= 0.7
    return values


# The last number: how many times more reports than independent ones the mean needs, and the spread.
KINDS: dict[str, tuple[Callable[[np.random.Generator], Series], float, float]] = {
    "independent": (lambda c: correlated(c, 0.0), STD, 1.0),
    "correlation 0.3": (lambda c: correlated(c, 0.3), STD, 1.3 / 0.7),
    "correlation 0.6": (lambda c: correlated(c, 0.6), STD, 1.6 / 0.4),
    "skewed, 15 %": (skewed, 0.15, 1.0),
    "stalls": (with_stalls, 0.21, 1.0),
    "warm-up, correlation 0.3": (after_a_warm_up, STD, 1.3 / 0.7),
}


def stopped(series: Series, precision: float) -> StopDecision:
    """The decision at the report at which the rule stops."""
    reports = [
        Observation(value, value, 100, n * REPORT_S, (n + 1) * REPORT_S)
        for n, value in enumerate(series.tolist())
    ]
    count = stop_rule.MIN_BATCHES
    while True:
        # In between it only repeats its last look.
        found = stop_rule.by_precision(
            reports[:count], precision=precision, max_s=LENGTH * REPORT_S
        )
        if found.done or count >= LENGTH:
            return found
        count = min(LENGTH, math.ceil(1.25 * count))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--trials", type=int, default=400)
    options.add_argument("--precisions", type=float, nargs="+", default=[0.05, 0.02])
    given = options.parse_args()
    rows = []
    for kind, (draw, std, factor) in KINDS.items():
        for precision in given.precisions:
            chance = np.random.default_rng([given.seed, len(rows)])
            covered, within, counts = [], [], []
            for _ in range(given.trials):
                series = draw(chance)
                found = stopped(series, precision)
                mean = float(series[found.first : found.last].mean())
                covered.append(abs(mean - 1) <= (found.reached or 0.0) * mean)
                within.append(abs(mean - 1) <= precision)
                counts.append(found.last)
            known = max(stop_rule.MIN_BATCHES, math.ceil((1.96 * std / precision) ** 2 * factor))
            rows.append(
                (
                    *(kind, f"{precision:g}", f"{np.mean(covered):.3f}", f"{np.mean(within):.3f}"),
                    *(f"{np.mean(counts):.1f}", f"{np.quantile(counts, 0.9):.0f}", str(known)),
                )
            )
    demo_runs.print_table(
        (
            *("reports", "precision", "intervals that hold", "means within"),
            *("reports needed", "90 % need at most", "if all were known"),
        ),
        rows,
    )


if __name__ == "__main__":
    main()
