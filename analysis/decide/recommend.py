"""Which configuration to deploy: the best one measured within the limits, per model and device.

Everything is measured, nothing is modelled. A configuration meets a limit if the mean of its
repeats does. Measurements that did not settle are used; if one of them is the best, a note says so,
and the best configuration that settled stands beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.decide.size import Sizing, size_for_rate
from hpcbench.analysis.summary import limits, statistics
from hpcbench.analysis.summary.configuration import (
    CONFIGURATION_INPUTS,
    LOAD,
    MODEL,
    REQUEST_CONTENT,
    as_floats,
    group_numbers,
    is_base,
    plain_rows,
    strings_as_categories,
)
from hpcbench.analysis.summary.invalid_rows import without_invalid
from hpcbench.analysis.summary.limits import LATENCY, Limit, Metric, Requirements
from hpcbench.analysis.summary.statistics import Interval, Sample
from hpcbench.errors import BadInput

RECOMMEND_COLUMNS = tuple(
    dict.fromkeys(
        (
            *CONFIGURATION_INPUTS,
            *limits.METRIC_COLUMNS,
            "point_id",
            "reason",
            "invalid_reasons",
            "part_of",
            "own_config",
        )
    )
)
"""The columns of `hpcbench.records.columns` that `recommend_configurations` needs."""

MOST_RUNNERS_UP = 5

Row = dict[str, Any]
"""A configuration: CONFIGURATION, ``point_id``, ``position`` among those of its model and device,
and the counts and metrics of `statistics.join_repeats`; None where a value is missing."""


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
        The interval of ``ratio``; NaN where one of the two was measured once.
    as_good
        Whether the interval contains 1: the difference is within the noise. None where there is no
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
    within_limits
        How many of these keep to all limits.
    best
        The recommended configuration; None where none keeps to the limits.
    notes
        What to know before relying on ``best``, in sentences.
    base
        The best of the model's own configuration; None where that was not measured.
    base_within_limits
        Whether ``base`` keeps to the limits.
    runners_up
        The next best, at most MOST_RUNNERS_UP, those as good as ``best`` first.
    as_good
        How many others do not differ from ``best`` beyond the noise.
    best_settled
        The best configuration of which all measurements settled; None where that is ``best``.
    nearest
        Where ``best`` is None: the configuration that exceeds the limits least.
    failing
        Where ``best`` is None: the limits that cannot be met, in sentences.
    sizing
        How many servers the requested rate needs; None where no rate was requested.
    """

    requirements: Requirements
    identity: Row
    configurations: int
    measured: int
    within_limits: int
    best: Row | None
    notes: tuple[str, ...]
    base: Alternative | None
    base_within_limits: bool
    runners_up: tuple[Alternative, ...]
    as_good: int
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
        Measurements with RECOMMEND_COLUMNS, as `load_results` returns them.
    requirements
        The objective, the limits, prices, and the rate to be served.

    Returns
    -------
    list of Recommendation
        In the order of the table. Different shapes or input data are different work, and have a
        recommendation of their own. Models that shared a server, or that an ensemble called, are
        left out: no server like theirs could be deployed.

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
    frame = strings_as_categories(without_invalid(frame.reset_index(drop=True)))
    limits.check_prices(frame, requirements)
    found = limits.metric_values(frame, requirements.prices)
    requests = as_floats(frame["request_count"])
    table = statistics.join_repeats(frame.assign(**found, requests=requests), (*found, "requests"))
    if requirements.metric.column not in table:
        table[requirements.metric.column] = np.nan
    rows = table.pop("row").to_numpy()
    table["point_id"] = frame["point_id"].iloc[rows].to_numpy(dtype=object)
    table["own"] = is_base(frame)[rows]
    table["reason"] = frame["reason"].iloc[rows].to_numpy(dtype=object)
    groups = group_numbers(_devices(table), (*MODEL, *REQUEST_CONTENT, *DEVICE))
    return [
        _recommend_for_device(part, requirements) for _, part in table.groupby(groups, sort=False)
    ]


DEVICE = ("gpu_name", "gpu_count", "cpu_name", "cpu_count")


def _devices(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table without the CPUs of nodes whose GPU serves: they make no other device."""
    on_gpu = table["gpu_name"].notna() & (table["instance_kind"] != "KIND_CPU").fillna(True)
    gpu = {name: table[name].where(on_gpu) for name in ("gpu_name", "gpu_count")}
    cpu = {name: table[name].mask(on_gpu) for name in ("cpu_name", "cpu_count")}
    return table.assign(**gpu, **cpu)


def _recommend_for_device(table: pd.DataFrame, requirements: Requirements) -> Recommendation:
    table = table.reset_index(drop=True)
    table["position"] = np.arange(len(table))
    metric = requirements.metric
    measured = table["measured"].to_numpy() > 0
    values = as_floats(table[metric.column])
    meets = measured & np.isfinite(values) & (values > 0)
    for limit in requirements.limits:
        meets &= limit.is_met(as_floats(table[limit.metric.column]))
    order = _best_first(table, metric, meets)
    best = int(order[0]) if len(order) else None
    identity = _row(table, int(np.flatnonzero(measured)[0]) if measured.any() else 0)
    base, base_within_limits = _base(table, metric, meets, best)
    runners_up, as_good = _runners_up(table, metric, order)
    nearest = _nearest(table, requirements.limits) if best is None and requirements.limits else None
    return Recommendation(
        requirements=requirements,
        identity=identity,
        configurations=len(table),
        measured=int(measured.sum()),
        within_limits=int(meets.sum()),
        best=None if best is None else _row(table, best),
        notes=() if best is None else _notes(_row(table, best), requirements),
        base=None if base is None or best is None else _compare(table, metric, best, [base])[0],
        base_within_limits=base_within_limits,
        runners_up=tuple(runners_up),
        as_good=as_good,
        best_settled=_best_settled(table, metric, order),
        nearest=None if nearest is None else _row(table, nearest),
        failing=() if best is not None else _failing(table, requirements),
        sizing=None if best is None else size_for_rate(table, best, requirements),
    )


def _row(table: pd.DataFrame, position: int) -> Row:
    return plain_rows(table, [position])[0]


def _best_first(
    table: pd.DataFrame, metric: Metric, which: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return the positions of those rows, best first; of equal ones, those that settled first."""
    values = as_floats(table[metric.column])
    order = np.lexsort(
        (table["unstable"].to_numpy(), -values if metric.higher_is_better else values)
    )
    return order[which[order]]


def _runners_up(
    table: pd.DataFrame, metric: Metric, order: npt.NDArray[np.int64]
) -> tuple[list[Alternative], int]:
    """Return the next best, those as good as the best first, and how many are as good."""
    if len(order) < 2:
        return [], 0
    best, others = int(order[0]), order[1:]
    good, _ = _as_good(_ratio(table, metric, best, others))
    shown = others[np.argsort(~good, kind="stable")[:MOST_RUNNERS_UP]]
    return _compare(table, metric, best, shown), int(good.sum())


def _best_settled(
    table: pd.DataFrame, metric: Metric, order: npt.NDArray[np.int64]
) -> Alternative | None:
    settled = order[table["unstable"].to_numpy()[order] == 0]
    if not len(settled) or settled[0] == order[0]:
        return None
    return _compare(table, metric, int(order[0]), settled[:1])[0]


def _compare(
    table: pd.DataFrame, metric: Metric, best: int, others: Sequence[int] | npt.NDArray[np.int64]
) -> list[Alternative]:
    positions = np.asarray(others, dtype=np.int64)
    ratio = _ratio(table, metric, best, positions)
    good, known = _as_good(ratio)
    return [
        Alternative(
            row=_row(table, int(position)),
            ratio=float(ratio.value[i]),
            low=float(ratio.low[i]),
            high=float(ratio.high[i]),
            as_good=bool(good[i]) if known[i] else None,
        )
        for i, position in enumerate(positions)
    ]


def _as_good(ratio: Interval) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return where a configuration is as good as the best, and where that is known."""
    return (ratio.low <= 1) & (ratio.high >= 1), np.isfinite(ratio.low)


def _ratio(
    table: pd.DataFrame, metric: Metric, best: int, others: npt.NDArray[np.int64]
) -> Interval:
    sample = Sample.from_table(table, metric.column)
    one = Sample(*(v[np.full(len(others), best)] for v in (sample.n, sample.mean, sample.std)))
    rest = Sample(sample.n[others], sample.mean[others], sample.std[others])
    return statistics.welch_ratio(one, rest)


def _base(
    table: pd.DataFrame, metric: Metric, meets: npt.NDArray[np.bool_], best: int | None
) -> tuple[int | None, bool]:
    """Return the best of the model's own configuration, and whether it meets the limits.

    Where none of it does, it is the one under the load of the recommended configuration.
    """
    own = table["own"].to_numpy(dtype=bool)
    order = _best_first(table, metric, own & meets)
    if len(order) or best is None:
        return (int(order[0]), True) if len(order) else (None, False)
    alike = own & (table["measured"].to_numpy() > 0) & np.isfinite(as_floats(table[metric.column]))
    loads = group_numbers(table, LOAD)
    order = _best_first(table, metric, alike & (loads == loads[best]))
    return (int(order[0]) if len(order) else None), False


def _notes(best: Row, requirements: Requirements) -> tuple[str, ...]:
    """Return what a user must know before relying on it."""
    notes = []
    if best["unstable"]:
        notes.append(
            f"{best['unstable']} of its {best['measured']} measurements did not settle: measure it "
            "again on a quiet machine, or with longer windows"
        )
    if best["measured"] == 1:
        notes.append("it was measured once, so its spread is not known: add repeats")
    uses_latency = LATENCY in (
        requirements.metric,
        *(limit.metric for limit in requirements.limits),
    )
    requests = best["requests_min"]
    needed = statistics.requests_needed(99)
    if uses_latency and requests is not None and requests < needed:
        notes.append(
            f"its p99 comes from {requests:.0f} requests; with fewer than {needed} the true p99 "
            "may be higher: use longer windows"
        )
    for limit in requirements.limits:
        low, high = (best[f"{limit.metric.column}_{end}"] for end in ("low", "high"))
        beyond = low if limit.metric.higher_is_better else high
        if beyond is not None and not limit.is_met(np.array([beyond]))[0]:
            notes.append(
                f"the interval of its {limit.metric.name} extends to {beyond:.4g} "
                f"{limit.metric.unit}, beyond {limit}"
            )
    return tuple(notes)


def _nearest(table: pd.DataFrame, requirements: Sequence[Limit]) -> int | None:
    excess = np.max([w.excess(as_floats(table[w.metric.column])) for w in requirements], axis=0)
    excess[table["measured"].to_numpy() == 0] = np.inf
    nearest = int(np.argmin(excess))
    return nearest if np.isfinite(excess[nearest]) else None


def _failing(table: pd.DataFrame, requirements: Requirements) -> tuple[str, ...]:
    """Return why there is nothing to recommend, a sentence for each limit that cannot be met."""
    measured = table[table["measured"] > 0]
    if measured.empty:
        reasons = table["reason"].dropna()
        why = f": {reasons.mode().iloc[0]}" if len(reasons) else ""
        return (f"none of its {len(table)} configurations was measured{why}",)
    sentences = []
    for limit in requirements.limits:
        values = as_floats(measured[limit.metric.column])
        known = values[np.isfinite(values)]
        if not len(known):
            sentences.append(f"{limit}: the {limit.metric.name} was not measured")
        elif not limit.is_met(values).any():
            closest, which = (
                (known.max(), "highest")
                if limit.metric.higher_is_better
                else (known.min(), "lowest")
            )
            sentences.append(
                f"no configuration meets {limit}: the {which} {limit.metric.name} measured is "
                f"{closest:.4g} {limit.metric.unit}"
            )
    if not sentences and len(requirements.limits) > 1:
        limits_text = " and ".join(map(str, requirements.limits))
        sentences.append(f"no configuration meets {limits_text} together")
    if not np.isfinite(as_floats(measured[requirements.metric.column])).any():
        sentences.append(
            f"--objective {requirements.objective}: the {requirements.metric.name} was not measured"
        )
    return tuple(sentences)
