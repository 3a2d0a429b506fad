"""Which configuration to deploy: the best one measured within the limits, per model and device.

Everything is measured, nothing is modelled. A configuration keeps a limit if the end of its
interval does, and what is said of the best takes into account that it is the best of many.
Measurements that did not settle are used; if one of them is the best, a note says so, and the best
configuration that settled stands beside it.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.decide import reasons
from hpcbench.analysis.decide.candidates import Candidates, Flags, apply_limits, tabulate
from hpcbench.analysis.decide.choice import Corrected, corrected_best, level_for_all
from hpcbench.analysis.decide.size import Sizing, size_for_rate
from hpcbench.analysis.summary.configuration import (
    LOAD,
    MODEL,
    REQUEST_CONTENT,
    Array,
    as_floats,
    group_numbers,
    plain_rows,
)
from hpcbench.analysis.summary.configuration_names import loads_beside
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.analysis.summary.statistics import CONFIDENCE, Counts, Sample
from hpcbench.analysis.summary.variance import Spread, log_ratio
from hpcbench.errors import BadInput

MOST_RUNNERS_UP = 5

NEXT_BEST = 2
"""Runners-up that are measured again where nobody knows which are as good as the best."""

Row = dict[str, Any]
"""A configuration: CONFIGURATION, ``point_id``, ``position`` among those of its model and device,
and the counts and metrics of `candidates.apply_limits`; None where a value is missing."""


@dataclass(frozen=True)
class Alternative:
    """Another configuration, compared with the recommended one.

    Attributes
    ----------
    row
        The configuration.
    ratio
        The objective of the recommended configuration over that of this one.
    low, high
        The interval of ``ratio``, wide enough that those of all others hold at once; NaN where no
        configuration was measured twice.
    as_good
        Whether the interval contains 1: nobody can tell them apart. None where there is no
        interval.
    """

    row: Row
    ratio: float
    low: float
    high: float
    as_good: bool | None


@dataclass(frozen=True)
class Recommendation:
    """What to deploy for one model on one device, or why there is nothing to recommend.

    Attributes
    ----------
    requirements
        What the user asked for.
    identity
        A row that names the model and the device.
    configurations
        How many configurations of the model on the device there are in the results.
    measured
        How many of them have at least one measurement.
    counts
        How many measurements of all of them were tried, gave metrics, and settled.
    within_limits
        How many configurations keep all limits.
    best
        The recommended configuration; None where none keeps the limits.
    corrected
        The objective of ``best``, corrected for its having been chosen; None where nothing was
        measured twice.
    notes
        What to know before relying on ``best``, in sentences.
    base
        The best of the model's own configuration; None where that was not measured.
    base_within_limits
        Whether ``base`` keeps the limits.
    runners_up
        The next best, at most MOST_RUNNERS_UP, those as good as ``best`` first.
    as_good
        The ``point_id`` of each of the others that cannot be told from ``best``.
    best_settled
        The best configuration of which all measurements settled; None where that is ``best``.
    nearest
        Where ``best`` is None: the configuration that exceeds the limits least.
    failing
        Where ``best`` is None: the limits that cannot be kept, in sentences.
    sizing
        How many servers the requested rate needs; None where no rate was requested, or ``notes``
        say why there is no number.
    """

    requirements: Requirements
    identity: Row
    configurations: int
    measured: int
    counts: Counts
    within_limits: int
    best: Row | None
    corrected: Corrected | None
    notes: tuple[str, ...]
    base: Alternative | None
    base_within_limits: bool
    runners_up: tuple[Alternative, ...]
    as_good: tuple[str, ...]
    best_settled: Alternative | None
    nearest: Row | None
    failing: tuple[str, ...]
    sizing: Sizing | None


def recommend_configurations(
    frame: pd.DataFrame, requirements: Requirements
) -> list[Recommendation]:
    """Return what to deploy for every model on every device.

    Parameters
    ----------
    frame
        Measurements with `candidates.RECOMMEND_COLUMNS`, as `load_results` returns them.
    requirements
        The objective, the limits, prices, and the rate to be served.

    Returns
    -------
    list of Recommendation
        In the order of the table. Different shapes or input data are different work, and have a
        recommendation of their own. Models that shared a server (`recommend_on_shared_servers`),
        or that an ensemble called, are left out.

    Raises
    ------
    BadInput
        There is nothing to choose from, or the prices do not fit the results.
    """
    if frame.empty:
        raise BadInput("there are no results to choose from", "hpcbench run measures them")
    frame = frame[frame["part_of"].isna() & frame["beside"].isna()]
    if frame.empty:
        raise BadInput(
            "all models in these results shared a server, or were called by an ensemble",
            "measure the models alone, too: a campaign does so with each, under its own load",
        )
    return _recommend_each(frame, requirements)


def recommend_on_shared_servers(
    frame: pd.DataFrame, requirements: Requirements
) -> list[Recommendation]:
    """Return what to deploy for every model on servers that it shared with others.

    Parameters
    ----------
    frame
        Measurements with `candidates.RECOMMEND_COLUMNS`, as `load_results` returns them.
    requirements
        The objective, the limits, prices, and the rate to be served.

    Returns
    -------
    list of Recommendation
        One for each model, device, and load of the others: under another load of theirs, other
        configurations may be best. Which configuration the others had is part of a configuration.
        Empty where no server was shared.

    Raises
    ------
    BadInput
        The prices do not fit the results.
    """
    frame = frame[frame["part_of"].isna() & frame["beside"].notna()]
    return [] if frame.empty else _recommend_each(frame, requirements)


def recommend_on_all_servers(
    frame: pd.DataFrame, requirements: Requirements
) -> list[Recommendation]:
    """Return what to deploy on servers of a model alone, and then on shared ones.

    Parameters
    ----------
    frame, requirements
        As for `recommend_configurations`.

    Returns
    -------
    list of Recommendation
        Those of both; only of shared servers where no model was alone.

    Raises
    ------
    BadInput
        There is nothing to choose from, or the prices do not fit the results.
    """
    shared = recommend_on_shared_servers(frame, requirements)
    if shared and not (frame["part_of"].isna() & frame["beside"].isna()).any():
        return shared
    return [*recommend_configurations(frame, requirements), *shared]


def _recommend_each(frame: pd.DataFrame, requirements: Requirements) -> list[Recommendation]:
    table, warnings = tabulate(frame, requirements)
    others = _loads_beside(table["beside"])
    known = _devices(table).assign(loads_beside=others)
    groups = group_numbers(known, (*MODEL, *REQUEST_CONTENT, *DEVICE, "loads_beside"))
    return [
        _recommend_for_device(apply_limits(part, requirements, warnings))
        for _, part in table.groupby(groups, sort=False)
    ]


def _loads_beside(texts: pd.Series) -> pd.Series:
    """Return, for each row, the other models on its server and their load, whatever server."""
    codes, given = pd.factorize(texts)
    plain = [json.dumps(loads_beside(text), sort_keys=True) for text in given]
    # The code of a row without others is -1, which picks the None at the end.
    return pd.Series(np.array([*plain, None], dtype=object)[codes], index=texts.index)


DEVICE = ("gpu_name", "gpu_count", "cpu_name", "cpu_count")


def _devices(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table without the CPUs of nodes whose GPU serves: they make no other device."""
    on_gpu = table["gpu_name"].notna() & (table["instance_kind"] != "KIND_CPU").fillna(True)
    gpu = {name: table[name].where(on_gpu) for name in ("gpu_name", "gpu_count")}
    cpu = {name: table[name].mask(on_gpu) for name in ("cpu_name", "cpu_count")}
    return table.assign(**gpu, **cpu)


def _recommend_for_device(candidates: Candidates) -> Recommendation:
    table, requirements = candidates.table, candidates.requirements
    within, measured = candidates.within, candidates.measured
    # One of which every third repeat fails is better than none, but than no other.
    eligible = within & candidates.reliable
    order = _best_first(candidates, eligible if eligible.any() else within)
    best = int(order[0]) if len(order) else None
    base, base_within_limits = _base(candidates, within, best)
    over = _over_others(candidates, order)
    runners_up = _runners_up(over, order)
    settled = _best_settled(table, order)
    nearest = reasons.nearest(candidates) if best is None and requirements.limits else None
    identity = int(np.flatnonzero(measured)[0]) if measured.any() else 0
    # All at once: to take rows out of so many columns takes as long for one as for ten.
    positions = [p for p in (identity, best, base, *runners_up, settled, nearest) if p is not None]
    rows = dict(zip(positions, plain_rows(table, positions), strict=True))

    def compared(position: int | None) -> Alternative | None:
        return None if position is None or over is None else over.alternative(rows[position])

    row = None if best is None else rows[best]
    return Recommendation(
        requirements=requirements,
        identity=rows[identity],
        configurations=len(table),
        measured=int(measured.sum()),
        counts=Counts.of({name: table[name].sum() for name in ("repeats", "measured", "unstable")}),
        within_limits=int(within.sum()),
        best=row,
        corrected=None if over is None else _corrected(candidates, order, over),
        notes=() if row is None else reasons.notes(candidates, row),
        base=compared(base),
        base_within_limits=base_within_limits,
        runners_up=tuple(filter(None, map(compared, runners_up))),
        as_good=() if over is None else over.as_good_ids(table, order),
        best_settled=compared(settled),
        nearest=None if nearest is None else rows[nearest],
        failing=() if best is not None else reasons.failing(candidates),
        sizing=None if best is None else size_for_rate(candidates, best),
    )


def _best_first(candidates: Candidates, which: Flags) -> npt.NDArray[np.int64]:
    """Return the positions of those rows, best first; of equal ones, those that settled first."""
    metric = candidates.requirements.metric
    values = as_floats(candidates.table[metric.column])
    order = np.lexsort(
        (candidates.table["unstable"].to_numpy(), -values if metric.higher_is_better else values)
    )
    return order[which[order]]


@dataclass(frozen=True)
class _OverOthers:
    """The objective of the best over that of each of the m configurations.

    The intervals hold at once for all that could have been chosen.
    """

    ratio: Array
    low: Array
    high: Array

    @property
    def known(self) -> Flags:
        return np.isfinite(self.low)

    @property
    def as_good(self) -> Flags:
        return np.asarray((self.low <= 1) & (self.high >= 1))

    def as_good_ids(self, table: pd.DataFrame, order: npt.NDArray[np.int64]) -> tuple[str, ...]:
        others = order[1:]
        return tuple(map(str, table["point_id"].to_numpy()[others[self.as_good[others]]]))

    def alternative(self, row: Row) -> Alternative:
        at = row["position"]
        ratio, low, high = (float(each[at]) for each in (self.ratio, self.low, self.high))
        return Alternative(
            row, ratio, low, high, bool(self.as_good[at]) if self.known[at] else None
        )


def _over_others(candidates: Candidates, order: npt.NDArray[np.int64]) -> _OverOthers | None:
    metric = candidates.requirements.metric
    if not len(order) or metric.column not in candidates.spreads:
        return None
    sample, spread = candidates.sample(metric), candidates.spreads[metric.column]
    first = np.full(len(candidates.table), order[0])
    one, its_spread = _at(sample, spread, first)
    found = log_ratio(one, sample, its_spread, spread)
    unknown = np.full(len(first), np.nan)
    if not np.isfinite(found.error).any():
        return _OverOthers(np.exp(found.value), unknown, unknown)
    low, high = found.interval(level_for_all(CONFIDENCE, len(order) - 1))
    return _OverOthers(np.exp(found.value), low, high)


def _at(sample: Sample, spread: Spread, positions: npt.NDArray[np.int64]) -> tuple[Sample, Spread]:
    return (
        Sample(sample.n[positions], sample.mean[positions], sample.std[positions]),
        Spread(spread.std[positions], spread.freedom[positions]),
    )


def _runners_up(over: _OverOthers | None, order: npt.NDArray[np.int64]) -> list[int]:
    """Return the next best, those as good as the best first."""
    if over is None:
        return []
    others = order[1:]
    shown = others[np.argsort(~over.as_good[others], kind="stable")[:MOST_RUNNERS_UP]]
    return list(map(int, shown))


def _best_settled(table: pd.DataFrame, order: npt.NDArray[np.int64]) -> int | None:
    settled = order[table["unstable"].to_numpy()[order] == 0]
    return int(settled[0]) if len(settled) and settled[0] != order[0] else None


def _corrected(
    candidates: Candidates, order: npt.NDArray[np.int64], over: _OverOthers
) -> Corrected | None:
    metric = candidates.requirements.metric
    sample, spread = _at(candidates.sample(metric), candidates.spreads[metric.column], order)
    alike = (over.as_good & over.known)[order]
    return corrected_best(sample, spread, 0, alike, higher=metric.higher_is_better)


def _base(candidates: Candidates, within: Flags, best: int | None) -> tuple[int | None, bool]:
    """Return the best of the model's own configuration, and whether it keeps the limits.

    Where none of it does, it is the one under the load of the recommended configuration.
    """
    table = candidates.table
    own = table["own"].to_numpy(dtype=bool)
    order = _best_first(candidates, own & within)
    if len(order) or best is None:
        return (int(order[0]), True) if len(order) else (None, False)
    known = np.isfinite(as_floats(table[candidates.requirements.metric.column]))
    loads = group_numbers(table, LOAD)
    order = _best_first(candidates, own & candidates.measured & known & (loads == loads[best]))
    return (int(order[0]) if len(order) else None), False
