"""The axes along which results vary: numbers at their value, anything else one beside the other."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.summary.axis_names import axis_label, axis_name, value_text
from hpcbench.analysis.summary.configuration import (
    CALLS,
    LOAD,
    PLANNED,
    RESOLVED,
    axis_sort_key,
)
from hpcbench.analysis.summary.number_format import plain_number
from hpcbench.analysis.summary.points import natural_key
from hpcbench.records.variants import BASE


@dataclass(frozen=True)
class FigureAxis:
    """What may run along the x axis of a figure.

    Attributes
    ----------
    column
        A column of the table of `points.summarise`, or the name of a server axis.
    label
        With its unit, for the axis of a figure.
    phrase
        Names a value of it in a sentence.
    implied_columns
        The columns that follow from it, and so separate no series.
    linear
        Whether the axis is linear; else it is logarithmic.
    """

    column: str
    label: str
    phrase: str
    implied_columns: tuple[str, ...] = ()
    linear: bool = False

    @property
    def merged_columns(self) -> tuple[str, ...]:
        """The columns that separate no series along this axis."""
        return self.column, *self.implied_columns

    @property
    def hidden_words(self) -> tuple[str, ...]:
        """What legends leave out, by the names of `describe_configuration`."""
        # What the server resolved follows from the axis; what was requested is still shown.
        follows = (f"found {name}" if name in RESOLVED else name for name in self.implied_columns)
        return self.column, *follows


BATCH_SIZE = FigureAxis("batch_size", "Batch size [inferences per request]", "batch size")
CONCURRENCY = FigureAxis("concurrency", "Concurrency [requests in flight]", "concurrency")
REQUEST_RATE = FigureAxis("request_rate", "Request rate [requests/s]", "request rate")
INSTANCES = FigureAxis("instance_count", "Model instances [number]", "instance count", linear=True)
GPUS = FigureAxis(
    "gpu_count",
    "GPUs of one server [number]",
    "GPU count",
    ("pool", "cpu_count", "instance_count"),
    linear=True,
)
QUEUE_DELAY = FigureAxis("max_queue_delay_us", "Queue delay [µs]", "queue delay")
LOADS = (CONCURRENCY, REQUEST_RATE, BATCH_SIZE)

_NUMBERS = {
    axis.column: axis
    for axis in (BATCH_SIZE, CONCURRENCY, REQUEST_RATE, INSTANCES, QUEUE_DELAY, GPUS)
}
_REQUESTED = (*LOAD, *CALLS, "shapes")

_FIRST = (BASE, "none", "off")
"""What a reader expects before all other values: the reference."""


def axis_named(name: str) -> FigureAxis:
    """Return an axis by its name.

    Parameters
    ----------
    name
        A column of CONFIGURATION, or a server axis.

    Returns
    -------
    FigureAxis
        With the label and the phrase for it.
    """
    # What the server resolved follows from its axes.
    follows = () if name in PLANNED else RESOLVED
    return _NUMBERS.get(name) or FigureAxis(name, axis_label(name), axis_name(name), follows)


def varying_axes(points: pd.DataFrame) -> list[FigureAxis]:
    """Return the axes along which results vary.

    Parameters
    ----------
    points
        A table of `points.summarise`.

    Returns
    -------
    list of FigureAxis
        Those of numbers first.
    """
    requested = {name for text in points["variant"].dropna().unique() for name in json.loads(text)}
    names = dict.fromkeys([*_NUMBERS, *_REQUESTED, *sorted(requested, key=axis_sort_key)])
    found = (axis_named(name) for name in names)
    return [
        one
        for one in found
        if len(axis_positions(points, one)["at"].dropna().drop_duplicates()) > 1
    ]


def axis_positions(points: pd.DataFrame, along: FigureAxis) -> pd.DataFrame:
    """Return where each point stands along an axis.

    Parameters
    ----------
    points
        A table of `points.summarise`.
    along
        The axis.

    Returns
    -------
    pandas.DataFrame
        ``at``: a number stands at itself; anything else at 1, 2, ... in natural order, a server
        axis that was not set as "base"; NaN where the value is not known. ``text``: its
        label there.
    """
    name = along.column
    if name in _NUMBERS or name in PLANNED:
        given = points[name].astype(object)
    else:
        variants = {
            text: _sortable(json.loads(text).get(name, BASE))
            for text in points["variant"].dropna().unique()
        }
        given = points["variant"].map(variants).astype(object)
    known = given.notna()
    if name in _NUMBERS or all(_is_number(value) for value in given[known]):
        at = given.astype("float64")
        return pd.DataFrame({"at": at, "text": [plain_number(x) for x in at]}, index=points.index)
    order = sorted(
        given[known].unique(), key=lambda value: (value not in _FIRST, natural_key(value))
    )
    at = given.map({value: place for place, value in enumerate(order, start=1)}).astype("float64")
    texts = [
        value_text(name, value) if there else "" for value, there in zip(given, known, strict=True)
    ]
    return pd.DataFrame({"at": at, "text": texts}, index=points.index)


def _sortable(value: Any) -> Any:
    """Return a value that can be sorted, and that differs from a missing one."""
    return value if value == BASE else value_text("", value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)
