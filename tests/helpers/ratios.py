"""Whether two ways of measuring give the same, on a machine that does other things meanwhile."""

import math
import statistics
from collections.abc import Iterable, Sequence

from scipy import stats

from hpcbench.records.columns import Record

Pair = tuple[Record, Record]


def pairs(one: Iterable[Record], other: Iterable[Record]) -> list[Pair]:
    """The records of both ways for the same point and repeat, where ``one`` was not fresh."""
    by_key = {record.key: record for record in other}
    return [(record, by_key[record.key]) for record in one if not record.server_fresh]


def of(both: Iterable[Pair], column: str) -> list[float]:
    return [getattr(one, column) / getattr(other, column) for one, other in both]


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """(low, middle, high): the geometric mean of ratios with its 95 % confidence interval."""
    logs = [math.log(ratio) for ratio in ratios]
    middle = statistics.fmean(logs)
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(middle - half), math.exp(middle), math.exp(middle + half)
