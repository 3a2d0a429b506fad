"""What makes a configuration: everything that two measurements must share to be repeats.

It is defined here, and nowhere else. Pure functions on pandas frames with the columns of
`hpcbench.records.columns`; none holds a loop over rows or groups.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.errors import BadInput
from hpcbench.records.columns import MEASURED, names_with
from hpcbench.records.roles import Role

BASE = "base"
"""The value of a server axis that leaves the model as its own config.pbtxt has it."""

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
"""What a request asks of a server; what asks for something else is never weighed against it."""

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
"""The columns that `configurations` reads beside those of its figures."""

_SERVED = (*MODEL, *SERVER, *PLACE, *SOFTWARE)
"""What decides which servers on which nodes a point may meet, whatever the load."""

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


def normalised(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows, which have CONFIGURATION_INPUTS, with what grouping needs put right.

    An input file is known by its digest, wherever it lay, and a server variant by its axes,
    in whichever order they were written. A row without figures that lacks OBSERVED
    is given that of measured rows of the same server, or at least the hardware of its pool, where
    they agree with what it does know: a point that failed early then stands beside those it was
    to be compared with.
    """
    data = frame["input_data_digest"].astype(object)
    data = data.where(data.notna(), frame["input_data"].astype(object))
    _parsed("shapes", frame["shapes"])
    frame = frame.assign(input_data=data, variant=_variants(frame["variant"]))
    frame = _with_facts(frame, OBSERVED, _SERVED)
    return _with_facts(frame, (*HARDWARE, *VERSIONS), (*PLACE, *SOFTWARE))


def _variants(texts: pd.Series) -> pd.Series:
    """Each variant as JSON with its axes in one order, whoever wrote it."""
    codes, given = _parsed("variant", texts)
    plain = [
        json.dumps({name: axes[name] for name in sorted(axes, key=axis_sort_key)}) for axes in given
    ]
    # Code -1, a variant that is not known, finds the last.
    found = pd.Series(pd.Categorical([*plain, None])[codes], index=texts.index)
    return found if isinstance(texts.dtype, pd.CategoricalDtype) else found.astype(texts.dtype)


def _parsed(name: str, texts: pd.Series) -> tuple[Numbers, list[dict[str, Any]]]:
    """(the number of each row's text, -1 for none; what the texts hold)."""
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


def axis_sort_key(axis: str) -> tuple[int, str]:
    """Where an axis stands among others: in the order of RESOLVED, then of the alphabet."""
    return RESOLVED.index(axis) if axis in RESOLVED else len(RESOLVED), axis


def strings_as_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows with each text held once: a tenth of the memory, and quick to group."""
    texts = [name for name in frame if isinstance(frame[name].dtype, pd.StringDtype)]
    return frame.astype({name: "category" for name in texts if name != "point_id"})


def group_numbers(frame: pd.DataFrame, columns: Sequence[str]) -> Numbers:
    """The number of each row's group, from 0 in the order in which groups first appear.

    Rows are of one group where they agree in all ``columns``; missing agrees with missing.
    """
    numbers = np.zeros(len(frame), dtype=np.int64)
    for column in columns:
        codes = _codes(frame[column])
        if len(codes) and (codes != codes[0]).any():
            # Densely numbered again at every step, or the product would outgrow 64 bits.
            numbers = _codes(pd.Series(numbers * (codes.max() + 1) + codes)) - 1
    return numbers


def as_floats(column: pd.Series) -> Array:
    """A column as 64-bit floats, missing as NaN."""
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def plain_rows(table: pd.DataFrame, positions: Sequence[int] | Numbers) -> list[dict[str, Any]]:
    """Those rows as dicts of plain Python values, with None for what is missing."""
    places = np.asarray(positions, dtype=np.int64)
    # Column by column: a frame of few rows costs pandas milliseconds for each of its columns.
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


def _codes(column: pd.Series) -> Numbers:
    """A number for each value, 0 for missing."""
    codes: npt.NDArray[Any]
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = column.cat.codes.to_numpy()
    else:
        codes = pd.factorize(column)[0]
    return codes.astype(np.int64) + 1


def _with_facts(frame: pd.DataFrame, facts: Sequence[str], alike: Sequence[str]) -> pd.DataFrame:
    """Gives unmeasured rows the ``facts`` of the first measured row that fits.

    That is one that agrees in ``alike``, and in those of the facts that the row knows itself.
    """
    measured = frame["status"].isin(sorted(MEASURED)).to_numpy(dtype=bool)
    if measured.all() or not measured.any():
        return frame
    names = list(facts)
    rows = pd.DataFrame({name: _codes(frame[name]) for name in names})
    rows["alike"] = group_numbers(frame, alike)
    rows["kind"] = group_numbers(rows, [*names, "alike"])
    rows["row"] = np.arange(len(rows))
    lacking = rows[~measured & (rows[names] == 0).any(axis=1)]
    pairs = lacking.drop_duplicates("kind").merge(
        rows[measured].drop_duplicates("kind"), on="alike", suffixes=("", "_known")
    )
    mine, known = pairs[names].to_numpy(), pairs[[f"{name}_known" for name in names]].to_numpy()
    pairs = pairs[((mine == 0) | (mine == known)).all(axis=1)].drop_duplicates("kind")
    given = lacking["kind"].map(pairs.set_index("kind")["row_known"]).dropna()
    if given.empty:
        return frame
    source = np.arange(len(frame))
    source[given.index.to_numpy()] = given.to_numpy(dtype=np.int64)
    return frame.assign(**{name: frame[name].array.take(source) for name in names})
