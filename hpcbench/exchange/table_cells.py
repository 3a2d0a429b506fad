"""The value of a cell in a published table, in the unit of its column.

The unit stands in the header: in parentheses or brackets at its end, or, of a time, as a word.
"""

import re
from typing import Any

import pyarrow as pa

from hpcbench.errors import BadInput, did_you_mean
from hpcbench.exchange.origin import parse_column, value_fault
from hpcbench.records.columns import COLUMNS

_TYPES = {column.name: column for column in COLUMNS}

_FACTORS: dict[str, dict[str, float]] = {
    "us": {"ns": 1e-3, "us": 1, "µs": 1, "usec": 1, "ms": 1e3, "msec": 1e3, "s": 1e6, "sec": 1e6},
    "ms": {"us": 1e-3, "ms": 1, "s": 1e3},
    "s": {"us": 1e-6, "ms": 1e-3, "s": 1, "sec": 1, "min": 60},
    "B": {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30},
    "W": {"mw": 1e-3, "w": 1, "kw": 1e3},
    "J": {"mj": 1e-3, "j": 1},
    "infer/s": dict.fromkeys(
        (
            *("infer/s", "infer/sec", "inf/s", "inferences/s", "1/s", "qps"),
            *("samples/s", "sequences/s", "img/s", "images/s"),
        ),
        1,
    ),
    "1/s": {"1/s": 1, "hz": 1, "qps": 1, "req/s": 1},
    "%": {"%": 1},
    "1": {"1": 1, "%": 1e-2},
}
"""By the unit of a column: the factor from each unit that a header may name, in small letters and
without spaces. Triton counts each sample of a batch as an inference."""

_MULTIPLES = {"k": 1e3, "M": 1e6}
"""What may stand behind a number of inferences, as in 12.5k."""

MISSING = {"", "-", "n/a", "na", "none", "nan"}
"""Cells without a value, in small letters."""

_NUMBER = re.compile(r"([+-]?)((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)([eE][+-]?\d+)?")
"""Commas stand between thousands. A decimal comma, as in 100,5, is refused: it may mean either."""

_IN_BRACKETS = re.compile(r"[\[(]([^])]*)[\])]\s*$")
_TIME_WORD = re.compile(
    r"(?:^|[\W_])(?:(ns|us|µs|usec|ms|msec|sec)(?=$|[\W_])|(s)\s*$)", re.IGNORECASE
)
_TIMES = ("us", "ms", "s")


def without_unit(header: str) -> str:
    """Return a header without the unit in brackets at its end.

    Parameters
    ----------
    header
        Of a table.

    Returns
    -------
    str
        The rest of it.
    """
    return re.sub(r"\s*[\[(][^])]*[\])]\s*$", "", header).strip()


def cell_value(column: str, header: str, text: str, place: str, time_unit: str | None) -> Any:
    """Return the value of a cell.

    Parameters
    ----------
    column
        The column that it is for.
    header
        Of the cell.
    text
        The cell, not empty.
    place
        Where it is, for a message.
    time_unit
        Of times whose header has none; None for the unit of the column.

    Returns
    -------
    object
        In the unit of the column.

    Raises
    ------
    BadInput
        It is no value of the column, or cannot be true.
    """
    kind = _TYPES[column]
    if not (pa.types.is_integer(kind.type) or pa.types.is_floating(kind.type)):
        return parse_column(column, text)
    factor = _factor(header, column, place, time_unit)
    multiple = _MULTIPLES.get(text[-1], 1) if kind.unit in ("infer/s", "1/s") else 1
    digits = text[:-1] if multiple > 1 else text.removesuffix("%")
    if not _NUMBER.fullmatch(digits):
        raise BadInput(
            f"{place}: {header}: {text!r} is no number",
            f"write it as 1234.5 or 1,234.5, or leave {column} out",
        )
    if kind.unit == "1" and text.endswith("%"):
        factor = 1e-2
    number = float(digits.replace(",", "")) * multiple * factor
    is_count = pa.types.is_integer(kind.type)
    # What is converted, as 1.37 MiB to bytes, need not be whole before.
    value = float(round(number)) if is_count and factor != 1 and number < 2**63 else number
    if fault := value_fault(column, value):
        raise BadInput(
            f"{place}: {header}: {column} {fault}, and the cell is {text!r}",
            f"correct the table, or leave {column} out",
        )
    return int(value) if is_count else value


def _factor(header: str, column: str, place: str, time_unit: str | None) -> float:
    own = _TYPES[column].unit
    known = _FACTORS.get(own, {})
    if not known:
        return 1.0
    found = _IN_BRACKETS.search(header)
    if found is None and own in _TIMES:
        found = _TIME_WORD.search(header)
    unit = next(filter(None, found.groups()), "") if found else None
    if unit is None and own in _TIMES:
        unit = time_unit
    if unit is None:
        return 1.0
    asked = "".join(unit.lower().split())
    if asked not in known:
        raise BadInput(
            f"{place}: {header}: the unit {unit} is not known for {column}"
            f"{did_you_mean(unit, known)}",
            f"known are: {', '.join(known)}",
        )
    return known[asked]
