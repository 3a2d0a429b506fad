"""What separates configurations: everything in which two measurements must agree to be repeats.

Each column says where it is defined whether it separates (`hpcbench.records.roles`). Pure functions
on pandas frames with the columns of `hpcbench.records.columns`; none loops over rows or groups in
Python.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.summary.invalid_rows import INVALID
from hpcbench.errors import BadInput
from hpcbench.records.columns import MEASURED, names_with
from hpcbench.records.roles import Role
from hpcbench.records.variants import BASE

# Which columns separate configurations is said where they are defined. Of a few, the order here is
# that in which people read them.
MODEL = ("model_label", *(name for name in names_with(Role.MODEL) if name != "model_label"))
SERVER = names_with(Role.SERVER)
LOAD = names_with(Role.LOAD)
PLACE = names_with(Role.PLACE)
WINDOWS = names_with(Role.WINDOW)
"""For how long and until when it is measured, which changes nothing in what is measured."""

CALLS = names_with(Role.CALL)
"""How and with what the client calls the server."""

MEASUREMENT = (*CALLS, *WINDOWS)
SOFTWARE = names_with(Role.SOFTWARE)

REQUEST_CONTENT = ("model_label", "model", "shapes", "input_data", "string_length", "string_data")
"""What a request asks of a server. Different requests are never compared with each other."""

PLANNED = (*MODEL, *SERVER, *LOAD, *PLACE, *MEASUREMENT, *SOFTWARE)
"""What is known of a point before it is measured."""

HARDWARE = names_with(Role.HARDWARE)
_FIRST = ("instance_kind", "instance_count", "gpus")
RESOLVED = (*_FIRST, *(name for name in names_with(Role.RESOLVED) if name not in _FIRST))
VERSIONS = names_with(Role.VERSION)

OBSERVED = (*HARDWARE, *RESOLVED, *VERSIONS)
"""What only a node or a server can tell; missing where a point failed before they did."""

CONFIGURATION = PLANNED + OBSERVED
"""Measurements that differ in one of these are never joined.

Unlike hardware is never pooled, the CPUs included: perf_analyzer runs on them, so they show also
in the metrics of a GPU. The node's name is left out, because a pool is nodes of one kind.
"""

CONFIGURATION_INPUTS = (*CONFIGURATION, "input_data_digest", "status")
"""The columns that `normalised` needs."""

_SERVED = (*MODEL, *SERVER, *PLACE, *SOFTWARE)
"""What decides how a server behaves before any load arrives."""

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


def normalised(frame: pd.DataFrame) -> pd.DataFrame:
    """Return measurements whose configurations can be compared column by column.

    Parameters
    ----------
    frame
        Measurements with CONFIGURATION_INPUTS.

    Returns
    -------
    pandas.DataFrame
        The same rows. ``input_data`` holds the digest of an input file instead of its path, and
        ``variant`` has its axes in one order. A row without a measurement is given the OBSERVED
        columns that it lacks from a measured row of the same server, or at least the hardware of
        its pool, where that agrees with what the row does know: then a point that failed early
        stands beside those that it was to be compared with.

    Raises
    ------
    BadInput
        A column that must hold JSON holds something else.
    """
    data, digest = frame["input_data"], frame["input_data_digest"]
    if digest.notna().any():
        data = digest.astype(object).where(digest.notna(), data.astype(object))
    _parsed("shapes", frame["shapes"])
    frame = frame.assign(input_data=data, variant=ordered_variants(frame["variant"]))
    frame = _with_facts(frame, OBSERVED, _SERVED)
    return _with_facts(frame, (*HARDWARE, *VERSIONS), (*PLACE, *SOFTWARE))


def ordered_variants(texts: pd.Series) -> pd.Series:
    """Return each variant as JSON with its axes in one order, whoever wrote it.

    Parameters
    ----------
    texts
        The column ``variant``.

    Returns
    -------
    pandas.Series
        The same variants.

    Raises
    ------
    BadInput
        One is no JSON of names and values.
    """
    codes, given = _parsed("variant", texts)
    plain = [
        json.dumps({name: axes[name] for name in sorted(axes, key=axis_sort_key)}) for axes in given
    ]
    # The code of a variant that is not known is -1, which picks the None at the end.
    found = pd.Series(pd.Categorical([*plain, None])[codes], index=texts.index)
    return found if isinstance(texts.dtype, pd.CategoricalDtype) else found.astype(texts.dtype)


def _parsed(name: str, texts: pd.Series) -> tuple[Numbers, list[dict[str, Any]]]:
    """Return the code of each row's text (-1: missing), and what each distinct text holds."""
    codes, given = pd.factorize(texts)
    found: list[dict[str, Any]] = []
    for text in given:
        try:
            found.append(dict(json.loads(text)))
        except (ValueError, TypeError) as error:
            raise BadInput(
                f"the column {name} holds {str(text)[:80]!r}, which is no JSON of names and values",
                "read results that hpcbench has written",
            ) from error
    return codes, found


def is_base(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return where the server had the model's own configuration.

    Parameters
    ----------
    frame
        n measurements with ``variant`` and ``own_config``.

    Returns
    -------
    numpy.ndarray
        Shape (n,), booleans. What counts is the configuration that the server had, not the words of
        the campaign. Old records do not say it: there it is the one with no axis changed.
    """
    codes, texts = pd.factorize(frame["variant"])
    unchanged = [all(v == BASE for v in json.loads(text).values()) for text in texts]
    # The code of a variant that is not known is -1, which picks the False at the end.
    found = pd.Series(np.array([*unchanged, False], dtype=bool)[codes], index=frame.index)
    known = frame["own_config"]
    return known.where(known.notna(), found).to_numpy(dtype=bool)


def axis_sort_key(axis: str) -> tuple[int, str]:
    """Return a key that sorts server axes: those of RESOLVED in its order, then by name.

    Parameters
    ----------
    axis
        The name of a server axis.

    Returns
    -------
    tuple
        For `sorted`.
    """
    return RESOLVED.index(axis) if axis in RESOLVED else len(RESOLVED), axis


def strings_as_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with each string held once.

    It takes a tenth of the memory, and groups faster.

    Parameters
    ----------
    frame
        Any columns. ``point_id`` stays as it is: nearly every row has its own.

    Returns
    -------
    pandas.DataFrame
        Columns of strings as pandas categories.
    """
    texts = [name for name in frame if isinstance(frame[name].dtype, pd.StringDtype)]
    return frame.astype({name: "category" for name in texts if name != "point_id"})


def group_numbers(frame: pd.DataFrame, columns: Sequence[str]) -> Numbers:
    """Return the number of each row's group.

    Parameters
    ----------
    frame
        n rows with ``columns``.
    columns
        Rows belong to one group where they agree in all of these; missing agrees with missing.

    Returns
    -------
    numpy.ndarray
        Shape (n,), from 0 in the order in which groups first appear.
    """
    return _joint_codes((_codes(frame[column]) for column in columns), len(frame))


def as_floats(column: pd.Series) -> Array:
    """Return a column as 64-bit floats.

    Parameters
    ----------
    column
        Numbers of any type.

    Returns
    -------
    numpy.ndarray
        NaN where a value is missing.
    """
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def plain_rows(table: pd.DataFrame, positions: Sequence[int] | Numbers) -> list[dict[str, Any]]:
    """Return some rows as dicts of plain Python values.

    Parameters
    ----------
    table
        Any columns.
    positions
        The rows to take, from 0.

    Returns
    -------
    list of dict
        None where a value is missing.
    """
    places = np.asarray(positions, dtype=np.int64)
    # Not `to_dict`: for a frame of few rows it takes milliseconds per column.
    columns = {str(name): _plain(table[name].array.take(places)) for name in table}
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _plain(values: Any) -> list[Any]:
    missing = pd.isna(values)
    return [
        None if gone else value.item() if isinstance(value, np.generic) else value
        for value, gone in zip(values, missing, strict=True)
    ]


def _codes(column: pd.Series) -> npt.NDArray[np.integer[Any]]:
    """Return a number for each distinct value, 0 for missing."""
    codes: npt.NDArray[np.integer[Any]]
    if isinstance(column.dtype, pd.CategoricalDtype):
        # Of as few bytes as they need: there is room for one more.
        codes = column.cat.codes.to_numpy() + 1
    elif column.dtype != object and column.isna().all():
        # Most of so many columns hold nothing, and to look for distinct values takes long.
        codes = np.zeros(len(column), dtype=np.int8)
    else:
        codes = pd.factorize(column)[0] + 1
    return codes


def _joint_codes(parts: Iterable[npt.NDArray[np.integer[Any]]], rows: int) -> Numbers:
    """Return the number of each row's group: those that agree in all codes, from 0 upwards."""
    numbers = np.zeros(rows, dtype=np.int64)
    for codes in parts:
        if len(codes) and (codes != codes[0]).any():
            # Renumbered at every step: the product of many columns would overflow 64 bits.
            numbers = pd.factorize(numbers * (int(codes.max()) + 1) + codes)[0].astype(np.int64)
    return numbers


def _with_facts(frame: pd.DataFrame, facts: Sequence[str], alike: Sequence[str]) -> pd.DataFrame:
    """Give rows without a measurement the ``facts`` of the first measured row that fits.

    It fits where it agrees in ``alike``, and in those facts that the row knows itself. A row whose
    metrics may not be believed still knows its server and its hardware.
    """
    measured = frame["status"].isin(sorted({*MEASURED, INVALID})).to_numpy(dtype=bool)
    if measured.all() or not measured.any():
        return frame
    codes = {name: _codes(frame[name]) for name in facts}
    absent = np.flatnonzero(~measured)
    given_by_some = [each for each in codes.values() if each.any(where=measured)]
    lacking = absent[(np.array([each[absent] for each in given_by_some]) == 0).any(axis=0)]
    if not len(lacking):
        return frame
    same = group_numbers(frame, alike)
    # Few rows lack anything, and the kinds of a million others take long to tell.
    near = np.isin(same, np.unique(same[lacking]))
    kinds = np.full(len(frame), -1)
    kinds[near] = _joint_codes(
        [*(each[near] for each in codes.values()), same[near]], int(near.sum())
    )

    def first_of_each_kind(rows: Numbers) -> pd.DataFrame:
        first = rows[~pd.Series(kinds[rows]).duplicated().to_numpy()]
        keys = {"row": first, "kind": kinds[first], "alike": same[first]}
        return pd.DataFrame(keys | {name: each[first] for name, each in codes.items()})

    pairs = first_of_each_kind(lacking).merge(
        first_of_each_kind(np.flatnonzero(measured & near)), on="alike", suffixes=("", "_known")
    )
    mine, known = (pairs[[f"{name}{end}" for name in facts]].to_numpy() for end in ("", "_known"))
    pairs = pairs[((mine == 0) | (mine == known)).all(axis=1)].drop_duplicates("kind")
    given = pd.Series(kinds[lacking], lacking).map(pairs.set_index("kind")["row_known"]).dropna()
    if given.empty:
        return frame
    rows, known_rows = given.index.to_numpy(), given.to_numpy(dtype=np.int64)
    source = np.arange(len(frame))
    source[rows] = known_rows
    changed = [name for name in facts if (codes[name][rows] != codes[name][known_rows]).any()]
    return frame.assign(**{name: frame[name].array.take(source) for name in changed})
