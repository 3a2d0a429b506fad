"""What a user requires of a configuration: a metric to optimise, and limits on others."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.summary.configuration import Array, Numbers, as_floats, group_numbers
from hpcbench.analysis.summary.derived_metrics import energy_j_per_infer
from hpcbench.analysis.summary.searches import is_search
from hpcbench.errors import BadInput


@dataclass(frozen=True)
class Metric:
    """A number that was measured, and that can be limited or optimised.

    Attributes
    ----------
    column
        Its name in tables.
    name
        Its name for people.
    unit
        ``""`` where it has none, as a cost in any currency.
    higher_is_better
        Whether more of it is better.
    step
        The smallest difference between two values that were measured, in its unit.
    """

    column: str
    name: str
    unit: str
    higher_is_better: bool
    step: float = 0.0


THROUGHPUT = Metric("throughput_infer_per_s", "throughput", "infer/s", higher_is_better=True)
# perf_analyzer writes whole microseconds.
LATENCY = Metric("latency_p99_ms", "p99 latency", "ms", higher_is_better=False, step=1e-3)
MEMORY = Metric("gpu_memory_gib", "GPU memory", "GiB", higher_is_better=False)
ENERGY = Metric("infer_per_j", "inferences per joule", "1/J", higher_is_better=True)
COST = Metric("cost_per_million", "cost of a million inferences", "", higher_is_better=False)

OBJECTIVES = {"throughput": THROUGHPUT, "latency": LATENCY, "energy": ENERGY, "cost": COST}

METRIC_COLUMNS = (
    *("throughput_infer_per_s", "latency_p99_us", "request_count", "gpu_memory_max_bytes"),
    *("energy_j_per_infer", "gpu_energy_j", "gpu_power_avg_w", "gpu_count", "perf_analyzer_s"),
    *("site", "pool", "capacity_max_latency_p99_ms", "capacity_infer_per_s"),
)
"""The columns of `hpcbench.records.columns` from which the metrics are made."""


@dataclass(frozen=True)
class Limit:
    """A limit on a metric.

    Attributes
    ----------
    option
        The option of the command line that sets it.
    metric
        What is limited.
    value
        In the metric's unit: the least allowed if ``metric.higher_is_better``, else the most.
    """

    option: str
    metric: Metric
    value: float

    def excess(self, values: Array) -> Array:
        """Return by which factor each value is beyond the limit.

        Parameters
        ----------
        values
            Any shape, in the metric's unit.

        Returns
        -------
        numpy.ndarray
            At most 1 where the limit is met; inf where the value is missing.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = self.value / values if self.metric.higher_is_better else values / self.value
        return np.where(np.isfinite(factor) & (factor >= 0), factor, np.inf)

    def is_met(self, values: Array) -> npt.NDArray[np.bool_]:
        """Return where the limit is met.

        Parameters
        ----------
        values
            Any shape, in the metric's unit.

        Returns
        -------
        numpy.ndarray
            Booleans; a missing value meets no limit.
        """
        # A value exactly at the limit meets it, whatever the change of units did to its last digit.
        within = values >= self.value if self.metric.higher_is_better else values <= self.value
        keeps = within | np.isclose(values, self.value, rtol=1e-9, atol=0)
        return np.asarray(keeps, dtype=bool)

    def __str__(self) -> str:
        return f"{self.option} {self.value:g}"


@dataclass(frozen=True)
class Requirements:
    """What a user requires of a configuration.

    Attributes
    ----------
    objective
        What to optimise: a key of OBJECTIVES.
    max_latency_p99_ms
        Limit of the p99 latency [ms]. None, here and below: no limit.
    max_gpu_memory_gib
        Limit of the memory in use on all GPUs of a server [GiB].
    min_throughput
        The least throughput [infer/s].
    prices
        Of one GPU for one hour, or of one node in a pool without GPUs, in any currency; by
        ``"pool"`` or ``"site/pool"``.
    rate
        The rate to be served by all servers together [infer/s]; None: do not compute how many.
    confidence
        That a configuration keeps a limit: of all that are said to keep it at once.
    limits_by_mean
        Whether a limit is kept where the mean keeps it, however uncertain that is.
    headroom
        The part of a closed loop's throughput that a server is expected to serve.
    spares
        Servers beyond those that the rate needs, so that as many may fail.
    """

    objective: str = "throughput"
    max_latency_p99_ms: float | None = None
    max_gpu_memory_gib: float | None = None
    min_throughput: float | None = None
    prices: Mapping[str, float] = field(default_factory=dict)
    rate: float | None = None
    confidence: float = 0.95
    limits_by_mean: bool = False
    headroom: float = 0.7
    spares: int = 1

    @property
    def metric(self) -> Metric:
        """Return the metric to optimise."""
        return OBJECTIVES[self.objective]

    @property
    def decisive(self) -> tuple[Metric, ...]:
        """Return the metrics that are optimised or limited, each once."""
        limited = (limit.metric for limit in self.limits)
        return tuple(dict.fromkeys((self.metric, *limited)))

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Return the limits that were set."""
        given = (
            ("--max-latency-p99-ms", LATENCY, self.max_latency_p99_ms),
            ("--max-gpu-memory-gib", MEMORY, self.max_gpu_memory_gib),
            ("--min-throughput", THROUGHPUT, self.min_throughput),
        )
        return tuple(
            Limit(option, what, value) for option, what, value in given if value is not None
        )


def metric_values(frame: pd.DataFrame, prices: Mapping[str, float]) -> dict[str, Array]:
    """Return the metrics of each measurement.

    Parameters
    ----------
    frame
        n measurements with METRIC_COLUMNS.
    prices
        As in `Requirements`; without any there is no cost.

    Returns
    -------
    dict
        Arrays of shape (n,), in the metric's unit, by its column; NaN where it is missing.
    """
    throughput = as_floats(frame["throughput_infer_per_s"])
    # A search has found a rate, or none; what came back in the end varies with the arrivals.
    rate = as_floats(frame["capacity_infer_per_s"])
    throughput = np.where(is_search(frame), rate, throughput)
    energy = energy_j_per_infer(frame).to_numpy()
    # A price is of one GPU: a server of four costs four times as much.
    gpus = np.nan_to_num(as_floats(frame["gpu_count"]), nan=1.0).clip(min=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        hours = gpus / (throughput * 3600)
        found = {
            THROUGHPUT.column: throughput,
            LATENCY.column: as_floats(frame["latency_p99_us"]) / 1000,
            MEMORY.column: as_floats(frame["gpu_memory_max_bytes"]) / 2**30,
            ENERGY.column: 1 / energy,
        }
    if prices:
        found[COST.column] = hours * price_per_hour(frame, prices) * 1e6
    return found


def price_per_hour(frame: pd.DataFrame, prices: Mapping[str, float]) -> Array:
    """Return the price of a GPU, or of a node without GPUs, in the pool of each row.

    Parameters
    ----------
    frame
        n rows with ``site`` and ``pool``.
    prices
        As in `Requirements`; a price of ``"site/pool"`` goes before one of ``"pool"``.

    Returns
    -------
    numpy.ndarray
        Shape (n,), per hour; NaN where the pool has no price.
    """
    numbers, pools = _pools(frame)
    of_pool = [prices.get(f"{site}/{pool}", prices.get(pool, np.nan)) for site, pool in pools]
    return np.array(of_pool, dtype=np.float64)[numbers]


def check_prices(frame: pd.DataFrame, requirements: Requirements) -> None:
    """Check that the prices fit the results.

    Parameters
    ----------
    frame
        Measurements with ``site`` and ``pool``.
    requirements
        Its prices and its objective are checked.

    Raises
    ------
    BadInput
        A price names no pool of the results, or the cost is the objective and a pool has no price.
    """
    _, pools = _pools(frame)
    there = ", ".join(sorted(f"{site}/{pool}" for site, pool in pools))
    for name in requirements.prices:
        if not any(name in (pool, f"{site}/{pool}") for site, pool in pools):
            raise BadInput(
                f"--price {name}: no measurement comes from that pool; the pools are: {there}",
                "write it as POOL=PRICE or SITE/POOL=PRICE",
            )
    lacking = sorted(
        f"{site}/{pool}"
        for site, pool in pools
        if not {pool, f"{site}/{pool}"} & requirements.prices.keys()
    )
    if requirements.objective == "cost" and lacking:
        raise BadInput(
            f"--objective cost: no price for {', '.join(lacking)}",
            f"add --price {lacking[0]}=X, the price of one GPU (or node without) per hour",
        )


def _pools(frame: pd.DataFrame) -> tuple[Numbers, list[tuple[str, str]]]:
    """Return the number of each row's pool, and (site, pool) by that number."""
    numbers = group_numbers(frame, ("site", "pool"))
    first = frame.iloc[np.unique(numbers, return_index=True)[1]]
    sites, pools = (first[name].astype(str) for name in ("site", "pool"))
    return numbers, list(zip(sites, pools, strict=True))
