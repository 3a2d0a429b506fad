"""Which points a user wants to see of results, and which of them stand out in figures."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.summary.axis_names import value_text
from hpcbench.analysis.summary.configuration import CONFIGURATION, plain_rows
from hpcbench.analysis.summary.configuration_names import describe_configuration
from hpcbench.errors import BadInput, did_you_mean
from hpcbench.records.variants import BASE

WANTED = "wanted"
"""The column that says which points are of series that the user named."""

_MOST_NAMED = 12


@dataclass(frozen=True)
class Choice:
    """What a user wants to see of results.

    Attributes
    ----------
    where
        Columns or server axes with the values that points have, in words; all points if empty.
    series
        Legends of series, or parts of them between two commas, that are to stand out.
    """

    where: Sequence[tuple[str, Sequence[str]]] = ()
    series: Sequence[str] = ()


EVERYTHING = Choice()
"""All points; which series stand out is left to the figures."""


def chosen_points(points: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """Return the points that a user wants to see.

    Parameters
    ----------
    points
        Table of `points.summarise`.
    choice
        What is wanted.

    Returns
    -------
    pandas.DataFrame
        Some of its rows; where series are named, with the column WANTED.

    Raises
    ------
    BadInput
        There is no such column or axis, nothing has the value, or no series is called so.
    """
    for name, values in choice.where:
        points = _where(points, name, values)
    return _with_wanted(points, choice.series) if choice.series else points


def _where(points: pd.DataFrame, name: str, values: Sequence[str]) -> pd.DataFrame:
    variants = {text: json.loads(text) for text in points["variant"].dropna().unique()}
    axes = {axis for each in variants.values() for axis in each}
    if name not in {*CONFIGURATION, *axes}:
        raise BadInput(
            f"--where {name}: no such column or server axis;"
            f"{did_you_mean(name, [*CONFIGURATION, *axes])}",
            "docs/columns.md lists the columns, docs/axes.md the axes",
        )
    wanted = {value.strip().lower() for value in values}
    asked = points["variant"].map(
        {text: value_text(name, each.get(name, BASE)) for text, each in variants.items()}
    )
    # An axis stands for what was asked for and for what the server says that it loaded.
    texts = [asked] if name in axes else []
    if name in CONFIGURATION:
        texts.append(points[name].map(lambda value: value_text(name, value)))
    found = pd.concat([each.str.lower().isin(wanted) for each in texts], axis=1).any(axis=1)
    if not found.any():
        there = sorted({text for each in texts for text in each.dropna()})
        raise BadInput(
            f"--where {name}={','.join(values)}: no result has it",
            f"there are {', '.join(there[:_MOST_NAMED])}",
        )
    return points[found].reset_index(drop=True)


def _with_wanted(points: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    phrases = [
        {phrase.lower() for phrase in _series_phrases(row)}
        for row in plain_rows(points[[*CONFIGURATION]], range(len(points)))
    ]
    found = np.zeros(len(points), dtype=bool)
    for name in names:
        parts = {part.strip().lower() for part in name.split(",")}
        its = np.array([parts <= each for each in phrases], dtype=bool)
        if not its.any():
            known = {phrase for each in phrases for phrase in each}
            raise BadInput(
                f"--series {name!r}: the legend of no series has it;{did_you_mean(name, known)}",
                "the column legend of each CSV file names the series",
            )
        found |= its
    return points.assign(**{WANTED: found})


def _series_phrases(row: Mapping[str, Any]) -> Iterable[str]:
    """Return what the legend may call the series of a point: "base", too, for the base."""
    phrases = [*describe_configuration(row).values()]
    return [*phrases, BASE] if row["variant"] == "{}" else phrases
