"""Which measurements in a results folder are of earlier files of a model.

After a model was corrected, its folder holds what was measured of both. The newest run's plan says
which files are the present ones.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hpcbench.errors import DamagedFile
from hpcbench.records import parquet
from hpcbench.records.distinct import distinct_rows
from hpcbench.records.folder import Results
from hpcbench.records.store import OnDamage, read_table

if TYPE_CHECKING:
    from pandas import DataFrame

FILE_COLUMNS = ("model_label", "model_digest", "started_at")
"""The columns that `is_earlier` and `mark_earlier` need."""

_PAIR = ("model_label", "model_digest")
_DIGITS = 7


def current_digests(path: Path) -> dict[str, frozenset[str]]:
    """Return the digests of the model files that the newest run set out to measure.

    Parameters
    ----------
    path
        A results folder, or anything else that holds results.

    Returns
    -------
    dict
        By the label of the model. Without those whose digest no plan says: of results of older
        versions and imported ones, and of what is no results folder.
    """
    plan = Results(path).plan
    if not plan.is_file():
        return {}
    found: dict[str, set[str]] = {}
    unknown = set()
    # A plan that is damaged says nothing; status and the next run tell of it.
    with contextlib.suppress(DamagedFile):
        for label, digest in distinct_rows(parquet.read_file(plan, _PAIR)):
            if digest is None:
                unknown.add(label)
            else:
                found.setdefault(label, set()).add(digest)
    return {label: frozenset(each) for label, each in found.items() if label not in unknown}


def count_earlier(results: Results, on_damage: OnDamage | None = None) -> int:
    """Count the measurements of earlier model files in a folder.

    Parameters
    ----------
    results
        The results folder.
    on_damage
        Called with each damaged file; by default a damaged file is an error.

    Returns
    -------
    int
        How many there are.
    """
    current = current_digests(results.folder)
    if not current or not results.records.is_dir():
        return 0
    pairs = distinct_rows(read_table(results.folder, _PAIR, on_damage=on_damage))
    if all(digest is None or digest in current.get(label, (digest,)) for label, digest in pairs):
        return 0
    # Only where there are some: it imports pandas, and a measurement may have several records.
    from hpcbench.records.frame import load_results

    frame = load_results(results.folder, FILE_COLUMNS, on_damage=lambda _: None)
    return int(is_earlier(frame, current).sum())


def is_earlier(frame: "DataFrame", current: Mapping[str, frozenset[str]]) -> npt.NDArray[np.bool_]:
    """Return which measurements are of earlier files of their model.

    Parameters
    ----------
    frame
        n measurements with FILE_COLUMNS.
    current
        From `current_digests`.

    Returns
    -------
    numpy.ndarray
        Shape (n,), booleans. A model that the newest run did not measure has no present files, and
        a row without a digest may be of any.
    """
    found = np.zeros(len(frame), dtype=bool)
    known = frame["model_digest"].notna().to_numpy(dtype=bool)
    for label, digests in current.items():
        its = (frame["model_label"] == label).to_numpy(dtype=bool)
        found |= its & known & ~frame["model_digest"].isin(sorted(digests)).to_numpy(dtype=bool)
    return found


def mark_earlier(frame: "DataFrame", earlier: npt.NDArray[np.bool_]) -> "DataFrame":
    """Return measurements whose labels tell earlier files of a model from the present ones.

    Parameters
    ----------
    frame
        n measurements with FILE_COLUMNS.
    earlier
        Shape (n,), from `is_earlier`.

    Returns
    -------
    pandas.DataFrame
        The same rows. The label of an earlier file has the day on which it was first measured, UTC,
        and the beginning of its digest, so that it is a model of its own in all that is made of it.
    """
    labels = frame["model_label"].astype(object)
    for _, rows in frame[earlier].groupby(list(_PAIR), observed=True):
        label, digest = rows.iloc[0][list(_PAIR)]
        days = rows["started_at"].dropna()
        day = f"{days.min():%Y-%m-%d}, " if len(days) else ""
        labels[rows.index] = f"{label} (earlier file: {day}{digest[:_DIGITS]})"
    return frame.assign(model_label=labels.astype("string"))
