"""Whatever varies in results as an axis: by its numbers, else by its words in a reader's order."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.summary.axis_names import axis_label, axis_name, value_text
from hpcbench.analysis.summary.configuration import (
    BASE,
    CALLS,
    LOAD,
    PLANNED,
    RESOLVED,
    axis_sort_key,
)
from hpcbench.analysis.summary.number_format import plain_number
from hpcbench.analysis.summary.points import natural_key


@dataclass(frozen=True)
class Axis:
    """What may run along the x axis of a figure.

    ``column`` of a table of `hpcbench.analysis.summary.points`; ``label`` with its unit; ``phrase``
    names a value of
    it; ``implied_columns`` are the columns that follow from it and so set no line apart.
    """

    column: str
    label: str
    phrase: str
    implied_columns: tuple[str, ...] = ()
    linear: bool = False

    @property
    def merged_columns(self) -> tuple[str, ...]:
        """The columns that set no line apart."""
        return self.column, *self.implied_columns

    @property
    def hidden_words(self) -> tuple[str, ...]:
        """What legends leave out, in the names of `describe_configuration`."""
        # What was asked for is told, also where what the server made of it follows from the axis.
        follows = (f"found {name}" if name in RESOLVED else name for name in self.implied_columns)
        return self.column, *follows


BATCH_SIZE = Axis("batch_size", "Batch size [inferences per request]", "batch size")
CONCURRENCY = Axis("concurrency", "Concurrency [requests in flight]", "concurrency")
REQUEST_RATE = Axis("request_rate", "Request rate [requests/s]", "request rate")
INSTANCES = Axis("instance_count", "Model instances [number]", "instance count", linear=True)
GPUS = Axis(
    "gpu_count",
    "GPUs of one server [number]",
    "GPU count",
    ("pool", "cpu_count", "instance_count"),
    linear=True,
)
QUEUE_DELAY = Axis("max_queue_delay_us", "Queue delay [µs]", "queue delay")
LOADS = (CONCURRENCY, REQUEST_RATE, BATCH_SIZE)

_NUMBERS = {
    axis.column: axis
    for axis in (BATCH_SIZE, CONCURRENCY, REQUEST_RATE, INSTANCES, QUEUE_DELAY, GPUS)
}
_ASKED = (*LOAD, *CALLS, "shapes")


_FIRST = (BASE, "none", "off")


def axis_named(name: str) -> Axis:
    """The axis of that name: a column of what was asked for, or an axis of the server variants."""
    # What the server resolved follows from its axes.
    follows = () if name in PLANNED else RESOLVED
    return _NUMBERS.get(name) or Axis(name, axis_label(name), axis_name(name), follows)


def varying_axes(points: pd.DataFrame) -> list[Axis]:
    """The axes along which a table of `points.summarise` varies, those of numbers first."""
    asked = {name for text in points["variant"].dropna().unique() for name in json.loads(text)}
    names = dict.fromkeys([*_NUMBERS, *_ASKED, *sorted(asked, key=axis_sort_key)])
    found = (axis_named(name) for name in names)
    return [
        one
        for one in found
        if len(axis_positions(points, one)["at"].dropna().drop_duplicates()) > 1
    ]


def axis_positions(points: pd.DataFrame, along: Axis) -> pd.DataFrame:
    """Where each point stands along the axis, as ``at``, with its ``text`` there.

    Numbers stand at themselves. Anything else stands at 1, 2, ... in a reader's order; a server
    axis that was left alone is "base". A point of which it is not known has NaN.
    """
    name = along.column
    if name in _NUMBERS or name in PLANNED:
        given = points[name].astype(object)
    else:
        variants = {
            text: _told(json.loads(text).get(name, BASE))
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


def _told(value: Any) -> Any:
    """A value that can be sorted and told from a missing one."""
    return value if value == BASE else value_text("", value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)
