"""The table that every figure starts from: one row per point, repeats joined.

What separates points is defined in `hpcbench.analysis.summary.configuration`, how repeats are
joined in `hpcbench.analysis.summary.statistics`.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.summary import statistics
from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    as_floats,
    axis_sort_key,
    group_numbers,
    normalised,
)
from hpcbench.analysis.summary.derived_metrics import (
    energy_j_per_infer,
    gpu_power_w,
    settled_latency_us,
)
from hpcbench.analysis.summary.invalid_rows import (
    INVALID,
    OVERLOADED,
    is_overloaded,
    without_invalid,
)
from hpcbench.analysis.summary.same_servers import ALSO, with_one_name
from hpcbench.analysis.summary.searches import STEPS, steps_of_points, without_steps
from hpcbench.records.columns import Status

STAGES = {
    "client_send_ms": "client send",
    "network_ms": "network",
    "server_queue_ms": "queue",
    "server_compute_ms": "compute",
    "server_compute_input_ms": "compute input",
    "server_compute_infer_ms": "compute infer",
    "server_compute_output_ms": "compute output",
    "client_recv_ms": "client receive",
}
"""The stages of a request in their order, as columns of the table and as names in figures."""

OUTPUTS = ("output_rms_difference", "output_max_difference")
"""How the outputs of a server differ from those of a reference."""

_LATENCIES = tuple(f"latency_{which}_ms" for which in ("avg", "p50", "p90", "p95", "p99"))

QUANTITIES = (
    *("throughput_infer_per_s", "latency_ms", *_LATENCIES, *STAGES),
    *("gpu_utilization_percent", "gpu_power_w", "gpu_memory_gib", "infer_per_j"),
    *OUTPUTS,
    *("latency_p99_bound_ms", "send_request_rate", "overloaded"),
)
"""The metrics that a point has a mean and an interval of."""

_WITHOUT_RESULT = (INVALID, Status.FAILED, Status.TIMEOUT, Status.NOT_APPLICABLE)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the points of a table of results, repeats joined.

    Parameters
    ----------
    frame
        Measurements, as `load_results` returns them; also some of its rows. The steps of searches
        are left out.

    Returns
    -------
    pandas.DataFrame
        A row per point, in the order of the campaign and then of CONFIGURATION, with the columns
        that `statistics.join_repeats` gives QUANTITIES, and

        - ``status``: "unstable" if a repeat was; that of the records where none was measured, or
          "invalid" where what was measured is not valid and so left out;
        - ``lacking``: the statuses of repeats that were not measured, or are left out;
        - ``reason``, ``campaigns``, ``point_id``, ``part_of``, and ``also`` of `same_servers`;
        - ``request_count``: of the repeat with the fewest;
        - ``search_steps``: of searches for a capacity, as `searches.steps_of_points` has them;
        - ``position``: of the model in its campaign, from 0.

        Latencies are in ms; ``latency_ms`` is the requested percentile, else the mean.
        ``gpu_power_w`` is that of all GPUs. A missing number is NaN, any other missing value None.
    """
    rows = without_steps(frame)
    rows = rows[rows["batch_size"].notna()].reset_index(drop=True)
    rows = without_invalid(with_one_name(normalised(rows)), but=[OVERLOADED])
    rows = rows.assign(**_quantities(rows))
    points = statistics.join_repeats(rows, QUANTITIES)
    numbers = group_numbers(rows, CONFIGURATION)
    texts = [*CONFIGURATION]
    points[texts] = points[texts].astype(object).where(points[texts].notna(), None)
    for name in ("point_id", "part_of", ALSO):
        found = rows[name].astype(object).iloc[points["row"]].reset_index(drop=True)
        points[name] = found.where(found.notna(), None)
    requests = pd.Series(as_floats(rows["request_count"]))
    points["request_count"] = requests.groupby(numbers).min()
    position = rows["model_position"].to_numpy(dtype=np.float64, na_value=np.inf)
    points[STEPS] = pd.Series(steps_of_points(frame, rows, numbers), dtype=object)
    # Imported results belong to no campaign: they come last.
    points["position"] = pd.Series(position).groupby(numbers).min()
    _add_statuses(points, rows, numbers)
    position = points["position"].to_numpy(np.float64)
    order = [*(natural_ranks(points[name]) for name in reversed(CONFIGURATION)), position]
    points = points.drop(columns="row")
    # A copy is one block of memory: pandas warns when figures add columns to a fragmented table.
    return points.iloc[np.lexsort(order)].reset_index(drop=True).copy()


def _quantities(rows: pd.DataFrame) -> dict[str, npt.NDArray[np.float64]]:
    def column(name: str) -> npt.NDArray[np.float64]:
        return as_floats(rows[name])

    with np.errstate(divide="ignore", invalid="ignore"):
        infer_per_j = 1 / energy_j_per_infer(rows).to_numpy()
    return {
        "latency_ms": settled_latency_us(rows).to_numpy() / 1000,
        **{name: column(f"{name.removesuffix('ms')}us") / 1000 for name in (*_LATENCIES, *STAGES)},
        "gpu_utilization_percent": column("gpu_utilization_avg") * 100,
        "gpu_power_w": gpu_power_w(rows),
        "gpu_memory_gib": column("gpu_memory_max_bytes") / 2**30,
        "infer_per_j": infer_per_j,
        **{name: column(name) for name in OUTPUTS},
        "latency_p99_bound_ms": column("latency_p99_bound_us") / 1000,
        "send_request_rate": column("send_request_rate"),
        "overloaded": is_overloaded(rows).astype(np.float64),
    }


def _add_statuses(points: pd.DataFrame, rows: pd.DataFrame, numbers: npt.NDArray[Any]) -> None:
    status = rows["status"].to_numpy(dtype=object)
    has = {
        which: np.bincount(numbers[status == which], minlength=len(points)) > 0
        for which in sorted(_WITHOUT_RESULT)
    }
    nothing = points["measured"] == 0
    points["status"] = np.select(
        [points["unstable"] > 0, *(nothing & has[which] for which in _WITHOUT_RESULT)],
        [str(which) for which in (Status.UNSTABLE, *_WITHOUT_RESULT)],
        str(Status.OK),
    ).astype(object)
    points["lacking"] = [
        ", ".join(str(which) for which, there in zip(has, point, strict=True) if there)
        for point in zip(*has.values(), strict=True)
    ]
    reasons = rows["reason"].astype(object).groupby(numbers).first()
    points["reason"] = reasons.where(reasons.notna(), None)
    names = pd.DataFrame({"name": rows["campaign"].astype(object), "point": numbers})
    names = names.drop_duplicates().sort_values("name")
    several = names["point"].duplicated(keep=False)
    joined = names[several].groupby("point")["name"].agg(", ".join)
    alone = names[~several].set_index("point")["name"]
    points["campaigns"] = pd.concat([alone, joined.astype(object)])


def natural_ranks(values: pd.Series) -> npt.NDArray[np.int64]:
    """Return the place of each value in the order in which people read.

    Parameters
    ----------
    values
        A column of any type. Of one named ``variant`` the axes are compared one by one.

    Returns
    -------
    numpy.ndarray
        0 for a missing value, then from 1; equal values have equal places.
    """
    codes, uniques = pd.factorize(values.astype(object))
    keys = _variant_keys(uniques) if values.name == "variant" else [natural_key(v) for v in uniques]
    order = sorted(range(len(uniques)), key=lambda code: keys[code])
    places = np.zeros(len(uniques) + 1, dtype=np.int64)
    places[order] = range(1, len(uniques) + 1)
    found: npt.NDArray[np.int64] = places[codes]
    return found


_Key = list[tuple[int, float, str]]


def _variant_keys(variants: Iterable[str]) -> list[list[_Key]]:
    """Sort an axis that is not set, or switched off, before all its values: it is the reference."""
    requested: list[dict[str, Any]] = [json.loads(text) for text in variants]
    axes = sorted({axis for axes in requested for axis in axes}, key=axis_sort_key)
    return [[natural_key(given.get(axis)) for axis in axes] for given in requested]


def natural_key(value: Any) -> _Key:
    """Return a key that sorts 2 before 10, also inside a string, and missing values first.

    Parameters
    ----------
    value
        A number, a string or None.

    Returns
    -------
    list
        For `sorted`.
    """
    if value is None:
        return []
    if isinstance(value, int | float):
        return [(1, float(value), "")]
    return [
        (1, float(word), "") if word.isdecimal() else (0, 0.0, word)
        for word in re.split(r"(\d+)", str(value))
    ]


def row_dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dicts.

    Parameters
    ----------
    table
        Any columns.

    Returns
    -------
    list of dict
        Values by the name of their column.
    """
    rows: list[Any] = table.to_dict("records")
    return rows
