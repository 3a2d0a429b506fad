"""What a campaign expects of its results, and which rows that is said of.

References are no part of what a point is: they are held against rows when these are read, so that
nothing is measured again where one changes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hpcbench.records.columns import COLUMNS, names_with
from hpcbench.records.folder import Results
from hpcbench.records.roles import Role

if TYPE_CHECKING:
    # Pydantic takes longer to import than most results take to read.
    from hpcbench.config.campaign import Campaign
    from hpcbench.config.point_rules import PointRule

METRICS = tuple(
    each.name
    for each in COLUMNS
    if each.role is Role.METRIC
    and (pa.types.is_integer(each.type) or pa.types.is_floating(each.type))
)
"""The columns that a reference may be about."""

_ELSEWHERE = {"version": "model_version", "shapes": "shapes_name"}
"""The columns of axes that have another name."""


@dataclass(frozen=True)
class Expectation:
    """One metric of one entry of ``references``.

    Attributes
    ----------
    name
        Its place in the campaign file, for messages.
    gpus
        The GPUs that it is about; empty for all.
    rule
        The points that it is about.
    metric
        One of METRICS.
    value
        What is expected, in the unit of the metric.
    below, above
        How far from it the metric may be, as fractions of it; None for as far as it likes.
    """

    name: str
    gpus: frozenset[str]
    rule: "PointRule"
    metric: str
    value: float
    below: float | None
    above: float | None

    @property
    def limits(self) -> tuple[float, float]:
        """Between what the metric must be."""
        low = -inf if self.below is None else self.value * (1 + self.below)
        return low, inf if self.above is None else self.value * (1 + self.above)

    def is_about(self, row: Mapping[str, Any]) -> bool:
        """Return whether this is expected of a row.

        Parameters
        ----------
        row
            The columns of POINT_COLUMNS, with ``gpu_name`` and ``pool_gpu``; None where a value is
            missing.

        Returns
        -------
        bool
            Models that shared their server are never meant: what they do depends on the others.
        """
        here = {row["gpu_name"], row["pool_gpu"]}
        return (not self.gpus or not self.gpus.isdisjoint(here)) and self.has_point(row)

    def has_point(self, row: Mapping[str, Any]) -> bool:
        """Return whether the rule is about the point of a row.

        Parameters
        ----------
        row
            The columns of POINT_COLUMNS; None where a value is missing.

        Returns
        -------
        bool
            Whether the row has one of the values of each axis that the rule names.
        """
        if row["beside"] is not None or row["part_of"] is not None:
            return False
        if not self.rule.is_about(row["model"], row["model_label"]):
            return False
        return all(_of_row(axis, row) in values for axis, values in self._axes.items())

    @cached_property
    def _axes(self) -> dict[str, frozenset[str]]:
        axes = self.rule.values_by_axis
        return {axis: frozenset(map(_text, axes[axis])) for axis in axes if axis != "model"}


def expectations(campaign: "Campaign") -> tuple[Expectation, ...]:
    """Return what a campaign expects.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    tuple of Expectation
        One for each metric of each entry.
    """
    return tuple(
        Expectation(
            f"references[{number}].expect.{metric}",
            *(frozenset(each.gpu), each.points, metric, *expected),
        )
        for number, each in enumerate(campaign.references)
        for metric, expected in each.expect.items()
    )


def read_expectations(results: Path) -> tuple[Expectation, ...]:
    """Return what the campaign of a results folder expects.

    Parameters
    ----------
    results
        A results folder, or anything else that holds results.

    Returns
    -------
    tuple of Expectation
        Of the newest run in the folder; empty where it expects nothing.

    Raises
    ------
    BadInput
        Where the campaign file in the folder is not one.
    """
    path = Results(results).campaign
    # Only a campaign with references is worth what importing and validating one takes.
    if not path.is_file() or b"references:" not in path.read_bytes():
        return ()
    from hpcbench.config.campaign import Campaign

    return expectations(Campaign.load(path))


def read_planned(results: Path) -> list[dict[str, Any]]:
    """Return the points that the newest run into a results folder set out to measure.

    Parameters
    ----------
    results
        A results folder, or anything else that holds results.

    Returns
    -------
    list of dict
        For each point of each pool the columns of POINT_COLUMNS, ``pool``, ``point_id`` and
        ``beside``; ``pool_gpu`` as the site file has it; ``planned``, a frozenset of its repeats.
        Empty where there is no plan, as of results that were imported.

    Raises
    ------
    BadInput
        Where a file in the folder is not what its name says.
    """
    folder = Results(results)
    if not all(path.is_file() for path in (folder.plan, folder.campaign, folder.site)):
        return []
    from hpcbench.config.campaign import Campaign
    from hpcbench.config.site import Site
    from hpcbench.records.store import read_plan

    names = {model.shown_as: model.name for model in Campaign.load(folder.campaign).models}
    gpus = {name: pool.gpu for name, pool in Site.load(folder.site).pools.items()}
    points: dict[tuple[str, str], dict[str, Any]] = {}
    repeats: dict[tuple[str, str], set[int]] = {}
    for row in read_plan(folder):
        key = row["pool"], row["point_id"]
        points[key] = row
        repeats.setdefault(key, set()).add(row["repeat"])
    return [
        dict.fromkeys(POINT_COLUMNS)
        | row
        | {
            "model": names.get(row["model_label"]),
            "pool_gpu": gpus.get(row["pool"]),
            "beside": row["together_id"],
            "planned": frozenset(repeats[key]),
        }
        for key, row in points.items()
    ]


def _text(value: Any) -> str:
    """Return a value as JSON, in which 1, 1.0 and true differ, and lists are tuples."""
    # Accelerators and the like stand in a record as the text that they have.
    plain = getattr(value, "text", value)
    if hasattr(plain, "model_dump"):
        plain = plain.model_dump(exclude_unset=False)
    return json.dumps(plain)


def _of_row(axis: str, row: Mapping[str, Any]) -> str:
    if axis == "stop":
        limits = {"precision": row["stop_precision"], "max_s": row["stop_max_s"]}
        return _text("windows" if row["stop_precision"] is None else limits)
    if axis == "capacity":
        limits = {
            "max_latency_p99_ms": row["capacity_max_latency_p99_ms"],
            "within": row["capacity_within"],
        }
        return _text(None if limits["within"] is None else limits)
    column = _ELSEWHERE.get(axis, axis)
    if column in _LOAD:
        return _text(row[column])
    # What the campaign leaves to the model's own configuration stands in no record.
    return _text(_variant(row["variant"]).get(axis, "base"))


@cache
def _variant(text: str | None) -> dict[str, Any]:
    return dict(json.loads(text)) if text is not None else {}


_LOAD = frozenset((*names_with(Role.LOAD, Role.CALL, Role.WINDOW), "model_version"))

POINT_COLUMNS = ("model", "model_label", "variant", "part_of", *sorted(_LOAD))
"""The columns by which a rule knows its points."""
