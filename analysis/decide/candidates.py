"""The configurations that a model could be deployed with on a device, and what each of them keeps.

A row is a configuration with the statistics of its repeats. Intervals are made of the spread that
few repeats borrow from all configurations of the device (`hpcbench.analysis.summary.variance`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.decide.choice import level_for_all, sure_end
from hpcbench.analysis.summary import limits, statistics
from hpcbench.analysis.summary.assumptions import check_repeats
from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    CONFIGURATION_INPUTS,
    Array,
    Numbers,
    as_floats,
    group_numbers,
    is_base,
    normalised,
    strings_as_categories,
)
from hpcbench.analysis.summary.invalid_rows import OVERLOADED, is_overloaded, without_invalid
from hpcbench.analysis.summary.limits import (
    LATENCY,
    MEMORY,
    OBJECTIVES,
    Limit,
    Metric,
    Requirements,
)
from hpcbench.analysis.summary.same_servers import ALSO, with_one_name
from hpcbench.analysis.summary.statistics import CONFIDENCE, Sample
from hpcbench.analysis.summary.variance import Spread, moderated_spread

_BOUND = "latency_p99_bound"

RECOMMEND_COLUMNS = tuple(
    dict.fromkeys(
        (
            *CONFIGURATION_INPUTS,
            *limits.METRIC_COLUMNS,
            *("point_id", "reason", "invalid_reasons", "part_of", "own_config", f"{_BOUND}_us"),
            "needs",
        )
    )
)
"""The columns of `hpcbench.records.columns` that `tabulate` needs."""

Flags = npt.NDArray[np.bool_]

TOO_MANY_FAILED = 1 / 3
"""The share of failed repeats from which on a configuration is not one to rely on."""


def tabulate(
    frame: pd.DataFrame, requirements: Requirements
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the configurations with the statistics of their metrics.

    Parameters
    ----------
    frame
        Measurements with RECOMMEND_COLUMNS, each of a model that had its server alone.
    requirements
        Prices, and the metrics that are optimised or limited.

    Returns
    -------
    tuple
        The table with the columns of `statistics.join_repeats`, ``point_id``, ``own`` (the model's
        own configuration), ``reason``, ``invalid_reasons`` and ``needs``; ``overloaded_max`` is 1
        where an open loop fell behind the rate asked for in some repeat. And what does not hold of
        the repeats, in words.
    """
    # Open loops that fell behind are left out with words of their own.
    frame = without_invalid(frame.reset_index(drop=True), but=[OVERLOADED])
    frame = strings_as_categories(frame)
    limits.check_prices(frame, requirements)
    found = limits.metric_values(frame, requirements.prices)
    found["requests"] = as_floats(frame["request_count"])
    behind = is_overloaded(frame)
    if behind.any():
        found["overloaded"] = behind.astype(np.float64)
    found[f"{_BOUND}_ms"] = as_floats(frame[f"{_BOUND}_us"]) / 1000
    frame = normalised(frame)
    own = is_base(frame)
    frame = with_one_name(frame)
    numbers = group_numbers(frame, CONFIGURATION)
    table = statistics.join_groups(frame.assign(**found), numbers, tuple(found), CONFIGURATION)
    for name in {requirements.metric.column, "overloaded_max"} - set(table):
        table[name] = np.nan
    # What does not fit into the memory once, fails once.
    table[MEMORY.column] = table[f"{MEMORY.column}_max"]
    rows = table.pop("row").to_numpy()
    table["point_id"] = frame["point_id"].iloc[rows].to_numpy(dtype=object)
    table["own"] = np.bincount(numbers[own], minlength=len(table)) > 0
    for name in ("reason", "invalid_reasons", "needs", ALSO):
        table[name] = frame[name].iloc[rows].to_numpy(dtype=object)
    return table, _warnings(found, numbers, requirements)


def _warnings(
    found: Mapping[str, Array], numbers: Numbers, requirements: Requirements
) -> tuple[str, ...]:
    return tuple(
        f"{metric.name}: {text}"
        for metric in requirements.decisive
        if metric.column in found and metric is not MEMORY
        for text in check_repeats(found[metric.column], numbers).warnings
    )


@dataclass(frozen=True)
class Candidates:
    """The m configurations of one model on one device.

    Attributes
    ----------
    table
        A row for each, from `tabulate`. ``METRIC_low`` and ``METRIC_high`` are made of `spreads`.
    requirements
        What the user asked for.
    spreads
        How far single measurements scatter, by the column of the metric.
    limit_values
        For each limit, by its option, the values that are compared with it, shape (m,).
    warnings
        What does not hold of the repeats in these results, in words.
    """

    table: pd.DataFrame
    requirements: Requirements
    spreads: Mapping[str, Spread]
    limit_values: Mapping[str, Array]
    warnings: tuple[str, ...] = ()

    @property
    def measured(self) -> Flags:
        """Shape (m,): at least one repeat was measured."""
        return self.table["measured"].to_numpy() > 0

    @property
    def reliable(self) -> Flags:
        """Shape (m,): fewer of the repeats failed than TOO_MANY_FAILED."""
        tried, measured = (self.table[name].to_numpy() for name in ("repeats", "measured"))
        return np.asarray((tried - measured) < TOO_MANY_FAILED * tried)

    @property
    def overloaded(self) -> Flags:
        """Shape (m,): in some repeat an open loop fell behind the rate asked for."""
        return np.asarray(self.table["overloaded_max"].to_numpy() > 0)

    @property
    def within(self) -> Flags:
        """Shape (m,): measured, not overloaded, with the objective, and keeping all limits."""
        values = as_floats(self.table[self.requirements.metric.column])
        kept = self.measured & ~self.overloaded & np.isfinite(values) & (values > 0)
        for limit in self.requirements.limits:
            kept &= limit.is_met(self.limit_values[limit.option])
        return kept

    def sample(self, metric: Metric) -> Sample:
        """Return the repeats of a metric.

        Parameters
        ----------
        metric
            The metric.

        Returns
        -------
        Sample
            Of m configurations.
        """
        return Sample.from_table(self.table, metric.column)


def apply_limits(
    table: pd.DataFrame, requirements: Requirements, warnings: tuple[str, ...] = ()
) -> Candidates:
    """Return the configurations with what is compared with each limit.

    Parameters
    ----------
    table
        Those of one model on one device, from `tabulate`.
    requirements
        The objective, the limits and how sure they must be kept.
    warnings
        What does not hold of the repeats.

    Returns
    -------
    Candidates
        Compared with a limit is the end of the interval of the mean at ``confidence``, so that with
        this probability not one of those that keep it does so by luck; of the p99, also the bound
        that each measurement knows by itself, whatever is higher; of the memory, the maximum.
    """
    table = table.reset_index(drop=True)
    table["position"] = np.arange(len(table))
    metrics = [
        metric
        for metric in OBJECTIVES.values()
        if metric.column in table and f"{metric.column}_n" in table
    ]
    spreads = {}
    for metric in metrics:
        sample = Sample.from_table(table, metric.column)
        with np.errstate(divide="ignore", invalid="ignore"):
            spreads[metric.column] = moderated_spread(sample, metric.step / sample.mean)
        for end, upper in (("low", False), ("high", True)):
            table[f"{metric.column}_{end}"] = sure_end(
                sample, spreads[metric.column], (1 + CONFIDENCE) / 2, upper=upper
            )
    table[[f"{MEMORY.column}_low", f"{MEMORY.column}_high"]] = np.nan
    limit_values = {
        limit.option: _limit_values(table, limit, spreads.get(limit.metric.column), requirements)
        for limit in requirements.limits
    }
    return Candidates(table, requirements, spreads, limit_values, warnings)


def _limit_values(
    table: pd.DataFrame, limit: Limit, spread: Spread | None, requirements: Requirements
) -> Array:
    found = _end_of(table, limit, spread, requirements)
    if limit.metric is not LATENCY:
        return found
    # A search has measured its rate twice to see whether it keeps its own limit. Its latency is
    # just below that, and so no interval of it ever is.
    own_ms = as_floats(table["capacity_max_latency_p99_ms"])
    is_measured = (table["measured"] > 0).to_numpy(dtype=bool)
    return np.where(is_measured & np.isfinite(own_ms), own_ms, found)


def _end_of(
    table: pd.DataFrame, limit: Limit, spread: Spread | None, requirements: Requirements
) -> Array:
    if requirements.limits_by_mean or spread is None:
        return as_floats(table[limit.metric.column])
    level = level_for_all(requirements.confidence, int((table["measured"] > 0).sum()))
    sample = Sample.from_table(table, limit.metric.column)
    end = sure_end(sample, spread, level, upper=not limit.metric.higher_is_better)
    if limit.metric is LATENCY:
        # Repeats of few requests agree, and all are below the p99 that the server truly has.
        end = np.fmax(end, as_floats(table[f"{_BOUND}_ms_max"]))
    return end
