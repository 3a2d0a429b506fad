"""Which configurations of two sets of results are compared with each other.

Two configurations are compared if they do the same work: if they agree in WORK. Everything else may
differ, for that is what is compared. Where several do the same work, those are paired that agree in
the first columns of ALIKE, seen from both sides, each with one other.
"""

from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.summary.configuration import (
    CALLS,
    CONFIGURATION,
    LOAD,
    RESOLVED,
    group_numbers,
    plain_rows,
)

WORK = (
    *("model", "model_version", "shapes", "variant"),
    *LOAD,
    *CALLS,
)
"""What two configurations must agree in to be compared. Where no server variant was requested, as
in imported results, what the server resolved (RESOLVED) stands for it."""

_FIRST = ("gpu_name", "gpu_count", "cpu_name", "cpu_count", "pool", "site", "model_digest")
ALIKE = (*_FIRST, *(name for name in CONFIGURATION if name not in (*WORK, *_FIRST)))
"""What may differ, the most important first."""


def first_difference(a_table: pd.DataFrame, b_table: pd.DataFrame) -> str:
    """Return the first column of WORK in which two sets of results have no value in common.

    Parameters
    ----------
    a_table, b_table
        Their configurations, with WORK.

    Returns
    -------
    str
        The end of a sentence; empty where there is no such column.
    """
    for name in WORK:
        a, b = (
            table[name].astype(object).map(str).unique().tolist() for table in (a_table, b_table)
        )
        if not set(a) & set(b):
            there, other = (", ".join(values[:3])[:100] for values in (a, b))
            return f": {name} is {there} in A, {other} in B"
    return ""


def pair_configurations(a_table: pd.DataFrame, b_table: pd.DataFrame) -> pd.DataFrame:
    """Return which configurations of B are compared with which of A.

    Parameters
    ----------
    a_table, b_table
        The configurations, a row each, with CONFIGURATION.

    Returns
    -------
    pandas.DataFrame
        Positions ``a`` and ``b``, in the order of ``a``. None stands in it twice.
    """
    both = pd.concat([a_table[[*CONFIGURATION]], b_table[[*CONFIGURATION]]], ignore_index=True)
    for name in (name for name in CALLS if name != "asynchronous"):
        # Results of an older version lack the column of a feature: the same as not using it.
        both[name] = both[name].mask(both[name].isin([False, "none"]).fillna(value=False))
    unasked = both["variant"].isna().to_numpy()
    served = np.where(unasked, group_numbers(both, RESOLVED), -1)
    work = group_numbers(both.assign(served=served), [*WORK, "served"])
    a_side = pd.DataFrame({"a": np.arange(len(a_table)), "work": work[: len(a_table)]})
    b_side = pd.DataFrame({"b": np.arange(len(b_table)), "work": work[len(a_table) :]})
    pairs = a_side.merge(b_side, on="work")[["a", "b"]]
    # Read as a binary number: agreeing in a column outweighs agreeing in all columns after it.
    likeness = np.zeros(len(pairs), dtype=np.int64)
    for column in ALIKE:
        codes = group_numbers(both, [column])
        same = codes[pairs["a"]] == codes[pairs["b"] + len(a_table)]
        likeness = 2 * likeness + same
    best_of_a = pd.Series(likeness).groupby(pairs["a"].to_numpy()).transform("max")
    best_of_b = pd.Series(likeness).groupby(pairs["b"].to_numpy()).transform("max")
    mutual = (likeness == best_of_a.to_numpy()) & (likeness == best_of_b.to_numpy())
    return _one_to_one(pairs.loc[mutual])


def _one_to_one(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return pairs without any position twice; of equally good ones the first."""
    kept = []
    while len(pairs):
        first = pairs.drop_duplicates("a").drop_duplicates("b")
        kept.append(first)
        pairs = pairs[~pairs["a"].isin(first["a"]) & ~pairs["b"].isin(first["b"])]
    found: pd.DataFrame = pd.concat(kept or [pairs]).sort_values("a", ignore_index=True)
    return found


def differing_values(
    a_table: pd.DataFrame, b_table: pd.DataFrame, pairs: pd.DataFrame
) -> dict[str, list[tuple[Any, Any]]]:
    """Return in which columns of ALIKE paired configurations differ.

    Parameters
    ----------
    a_table, b_table
        The configurations.
    pairs
        From `pair_configurations`.

    Returns
    -------
    dict
        The pairs of values of each such column, each once.
    """
    found = {}
    both = pd.concat([a_table[[*ALIKE]], b_table[[*ALIKE]]], ignore_index=True)
    a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy() + len(a_table)
    for name in ALIKE:
        codes = group_numbers(both, [name])
        # Most columns differ nowhere, and the others in a few values.
        differ = np.flatnonzero(codes[a] != codes[b])
        kinds = codes[a[differ]] * len(both) + codes[b[differ]]
        places = differ[np.sort(np.unique(kinds, return_index=True)[1])]
        if len(places):
            was, now = (plain_rows(both[[name]], side[places]) for side in (a, b))
            found[name] = [(x[name], y[name]) for x, y in zip(was, now, strict=True)]
    return found
