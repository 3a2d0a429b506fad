"""Rows that are not valid count as measurements without a result, in all that is made of them.

Which rules make a row invalid, and which of them leave it out, is said in
`hpcbench.records.rules`. It is looked up here only.
"""

from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.records.columns import MEASURED
from hpcbench.records.rules import RULES, Rule
from hpcbench.records.validity import broken_rules

INVALID = "invalid"
"""In the analysis, the status of a measured row that is left out. No file has it."""

OVERLOADED = "OVERLOADED"
"""The code of the rule that an open loop breaks where it falls behind the rate asked for."""

_OF_SERVER = ("FAILURES", OVERLOADED)
"""Rules that a server breaks by itself; others tell of the node, the client or somebody else."""

_UNSOUND = ("LITTLE", "PERCENTILES", "BATCH", "CONFIG", OVERLOADED)

ACCEPTABLE = tuple(rule.code for rule in RULES if rule.left_out and rule.code not in _UNSOUND)
"""The codes of the rules whose rows a user may take in: the metrics are those of what the row says,
if under bad conditions. A row that breaks another rule says something else than was measured."""


def accept_rules(frame: pd.DataFrame, codes: Collection[str]) -> pd.DataFrame:
    """Return measurements as if some rules did not exist.

    Parameters
    ----------
    frame
        n measurements with ``invalid_reasons``.
    codes
        Codes of ACCEPTABLE.

    Returns
    -------
    pandas.DataFrame
        The same rows. ``invalid_reasons`` has the other codes only, and ``accepted`` says where
        that takes a row in that is left out by default, so that what is made of it can say so.
    """
    if not codes:
        return frame
    before = is_left_out(frame)
    numbers, texts = pd.factorize(frame["invalid_reasons"])
    kept = [", ".join(code for code in text.split(", ") if code not in codes) for text in texts]
    # The code of a missing value is -1, which picks the None at the end.
    reasons = np.array([*(text or None for text in kept), None], dtype=object)[numbers]
    frame = frame.assign(invalid_reasons=pd.Series(reasons, index=frame.index, dtype="string"))
    return frame.assign(accepted=before & ~is_left_out(frame))


def accepted_text(count: int) -> str:
    """Say how many measurements are used that are left out by default.

    Parameters
    ----------
    count
        How many, from 1.

    Returns
    -------
    str
        A sentence without a full stop.
    """
    are = "measurement is used that is" if count == 1 else "measurements are used that are"
    return f"{count} {are} not valid, as asked for by --accept: hpcbench check says why"


def without_invalid(frame: pd.DataFrame, but: Collection[str] = ()) -> pd.DataFrame:
    """Return measurements of which those that may not be believed have no result.

    Parameters
    ----------
    frame
        n measurements with ``status``, and with ``reason`` and ``invalid_reasons`` as far as they
        are there.
    but
        Codes of rules that the caller handles itself.

    Returns
    -------
    pandas.DataFrame
        The same rows, so that no point is silently absent. A row that breaks a rule of those that
        leave it out has the status INVALID, and the codes of the rules with their meanings as its
        reason. The others are as they were.
    """
    left_out = is_left_out(frame, but)
    if not left_out.any():
        return frame
    changed = {"status": frame["status"].astype(object).mask(left_out, INVALID)}
    if "reason" in frame:
        codes, texts = pd.factorize(frame["invalid_reasons"])
        reasons = np.array([*(_reason(text) for text in texts), None], dtype=object)[codes]
        changed["reason"] = frame["reason"].astype(object).mask(left_out, reasons)
    return frame.assign(**{name: values.astype("string") for name, values in changed.items()})


def is_left_out(frame: pd.DataFrame, but: Collection[str] = ()) -> npt.NDArray[np.bool_]:
    """Return which measurements are left out.

    Parameters
    ----------
    frame
        n measurements; without ``invalid_reasons`` nothing is known against them.
    but
        Codes of rules that do not count.

    Returns
    -------
    numpy.ndarray
        Shape (n,), booleans.
    """
    return _where(frame, lambda rule: rule.left_out and rule.code not in but)


def is_nothing_valid(frame: pd.DataFrame) -> bool:
    """Return whether something was measured, and all of it is left out.

    Parameters
    ----------
    frame
        n measurements with ``status``.

    Returns
    -------
    bool
        False also where nothing was measured.
    """
    measured = frame["status"].isin(sorted(MEASURED)).to_numpy(dtype=bool)
    return bool(measured.any() and is_left_out(frame)[measured].all())


def is_overloaded(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return where an open loop fell behind the rate that was asked for.

    Parameters
    ----------
    frame
        n measurements; without ``invalid_reasons`` nothing is known against them.

    Returns
    -------
    numpy.ndarray
        Shape (n,), booleans: latency does not show how long requests waited for their turn.
    """
    return _where(frame, lambda rule: rule.code == OVERLOADED)


def is_of_server(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return where a measurement is not valid, and the server itself is the reason.

    Parameters
    ----------
    frame
        n measurements; without ``invalid_reasons`` nothing is known against them.

    Returns
    -------
    numpy.ndarray
        Shape (n,), booleans: requests failed, or it fell behind the rate that was asked for.
    """
    return _where(frame, lambda rule: rule.code in _OF_SERVER)


def _where(frame: pd.DataFrame, is_meant: Callable[[Rule], bool]) -> npt.NDArray[np.bool_]:
    """Return which measurements break a rule of those that are meant."""
    if "invalid_reasons" not in frame:
        # Not read from a results folder: somebody's own frame.
        return np.zeros(len(frame), dtype=bool)
    codes, texts = pd.factorize(frame["invalid_reasons"])
    which = [any(map(is_meant, broken_rules(text))) for text in texts]
    # The code of a missing value is -1, which picks the False at the end.
    return np.array([*which, False], dtype=bool)[codes]


def _reason(codes: str) -> str:
    rules = [rule for rule in broken_rules(codes) if rule.left_out]
    return "not valid: " + "; ".join(f"{rule.code}, {rule.meaning}" for rule in rules)
