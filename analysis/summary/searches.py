"""Searches for a capacity: each is one measurement, whatever steps it took.

Its row has the rate that it found in ``capacity_infer_per_s``, with the metrics at this rate. Its
steps are rows of their own. What they ask for follows from what was measured before, so no two
searches need have the same ones, and many are too much for the server: they are no configurations
that somebody has chosen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.summary.configuration import Numbers, as_floats, plain_rows
from hpcbench.records.columns import Status

STEPS = "search_steps"
"""The column of a table of points with the steps of its searches; None where there are none."""

_MEASUREMENT = ("site", "pool", "run_id", "repeat")
"""What tells the searches of one point apart."""


@dataclass(frozen=True)
class SearchStep:
    """One measurement of a search for a capacity, with arrivals at random.

    Attributes
    ----------
    repeat
        Which of the searches of its point it belongs to, from 0.
    number
        Its place in that search.
    rate_infer_per_s
        The rate asked for.
    p99_ms
        The p99 latency; NaN where nothing was answered.
    overloaded
        Whether the rate was not kept.
    settled
        Whether its status is ok.
    answer
        Whether the search ended with this rate.
    """

    repeat: int
    number: int
    rate_infer_per_s: float
    p99_ms: float
    overloaded: bool
    settled: bool
    answer: bool = False


def without_steps(frame: pd.DataFrame) -> pd.DataFrame:
    """Return measurements without the steps of searches.

    Parameters
    ----------
    frame
        Measurements; without ``capacity_step`` none is a step.

    Returns
    -------
    pandas.DataFrame
        Some of its rows.
    """
    if "capacity_step" not in frame or frame["capacity_step"].isna().all():
        return frame
    return frame[frame["capacity_step"].isna()].reset_index(drop=True)


def is_search(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return which measurements are searches.

    Parameters
    ----------
    frame
        n measurements, or configurations, without steps.

    Returns
    -------
    numpy.ndarray
        Shape (n,), booleans.
    """
    return frame["capacity_max_latency_p99_ms"].notna().to_numpy(dtype=bool)


def steps_of_points(
    frame: pd.DataFrame, rows: pd.DataFrame, numbers: Numbers
) -> list[tuple[SearchStep, ...] | None]:
    """Return the steps of the searches of each point, and what these ended with.

    Parameters
    ----------
    frame
        Measurements with the steps.
    rows
        n measurements without them.
    numbers
        Shape (n,), the point of each, from 0.

    Returns
    -------
    list
        For each point its steps in the order of repeats and of time; None where it has none.
    """
    found: list[tuple[SearchStep, ...] | None] = [None] * (int(numbers.max(initial=-1)) + 1)
    searches: list[int] = np.flatnonzero(is_search(rows)).tolist()
    if not searches or "capacity_step" not in frame:
        return found
    answers, p99_us = (as_floats(rows[name]) for name in ("capacity_infer_per_s", "latency_p99_us"))
    steps = _steps_by_search(frame[frame["capacity_step"].notna()])
    repeats: dict[int, int] = {}
    plain = _few_columns(rows, searches, "point_id", "status")
    for place, row in zip(searches, plain, strict=True):
        point = int(numbers[place])
        its = steps.get((row["point_id"], *_measurement(row)), [])
        repeat = repeats[point] = repeats.get(point, -1) + 1
        if answers[place] > 0:
            number = its[-1].number + 1 if its else 0
            found_rate = SearchStep(
                repeat=0,
                number=number,
                rate_infer_per_s=float(answers[place]),
                p99_ms=float(p99_us[place]) / 1000,
                overloaded=False,
                settled=bool(row["status"] == Status.OK),
                answer=True,
            )
            its = [*its, found_rate]
        found[point] = (*(found[point] or ()), *(replace(step, repeat=repeat) for step in its))
    return [steps or None for steps in found]


def _few_columns(table: pd.DataFrame, places: list[int], *names: str) -> list[dict[str, Any]]:
    """Some rows with _MEASUREMENT and other columns: to take one of all columns takes long."""
    return plain_rows(table[[name for name in (*names, *_MEASUREMENT) if name in table]], places)


def _measurement(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in _MEASUREMENT if name in row)


def _steps_by_search(frame: pd.DataFrame) -> dict[tuple[str, ...], list[SearchStep]]:
    """The steps with a rate, by the search that they belong to, in the order of time."""
    found: dict[tuple[str, ...], list[SearchStep]] = {}
    rates = as_floats(frame["request_rate"]) * as_floats(frame["batch_size"])
    p99_ms = as_floats(frame["latency_p99_us"]) / 1000
    overloaded = as_floats(frame["overloaded"]) > 0
    order = np.argsort(as_floats(frame["capacity_step"]), kind="stable")
    places: list[int] = order[rates[order] > 0].tolist()
    plain = _few_columns(frame, places, "part_of", "capacity_step", "status")
    for place, row in zip(places, plain, strict=True):
        step = SearchStep(
            repeat=0,
            number=int(row["capacity_step"]),
            rate_infer_per_s=float(rates[place]),
            p99_ms=float(p99_ms[place]),
            overloaded=bool(overloaded[place]),
            settled=bool(row["status"] == Status.OK),
        )
        found.setdefault((row["part_of"], *_measurement(row)), []).append(step)
    return found
