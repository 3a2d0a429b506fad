"""Whether the metrics of a row may be believed: columns that are computed when rows are read.

They are not stored. A row that was measured yesterday is judged by the rules of today, whoever
wrote it: a run, an import, another program.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcbench.records.columns import MEASURED
from hpcbench.records.rule_columns import STAGES, Flags, numbers
from hpcbench.records.rules import RULES, Rule

COMPUTED = ("valid", "invalid_reasons")
"""The columns that are computed from a row when it is read, and never stored."""

INPUTS = tuple(dict.fromkeys(("status", *(name for rule in RULES for name in rule.columns))))
"""The columns that the rules read."""


def with_verdicts(table: pa.Table) -> pa.Table:
    """Return rows with the columns of `COMPUTED`.

    Parameters
    ----------
    table
        Rows with the column status, and as many of `INPUTS` as there are.

    Returns
    -------
    pyarrow.Table
        The same rows. ``valid`` is null where nothing was measured; ``invalid_reasons`` has the
        codes of the rules that are broken, joined by ", ", and is null where there are none.
    """
    is_measured = pc.is_in(table["status"].cast(pa.string()), pa.array(sorted(MEASURED)))
    measured = is_measured.to_numpy(zero_copy_only=False)
    bits = np.zeros(len(table), dtype=np.int64)
    known = _known_columns(table, measured)
    # Missing values are NaN, and no comparison with NaN is true.
    with np.errstate(all="ignore"):
        for place, rule in enumerate(RULES):
            bits |= rule.is_broken(known).astype(np.int64) << place
    bits[~measured] = 0
    # Each set of rules that occurs is written once. Sorting the rows to find them takes longer.
    distinct = np.flatnonzero(np.bincount(bits, minlength=1))
    texts = pa.array([_codes(int(each)) or None for each in distinct], pa.string())
    codes = np.searchsorted(distinct, bits)
    valid = pa.array(bits == 0, pa.bool_(), mask=~measured)
    return table.append_column("valid", valid).append_column(
        "invalid_reasons", texts.take(pa.array(codes))
    )


def _known_columns(table: pa.Table, measured: Flags) -> pa.Table:
    """Return the columns of the rules that hold something, their numbers as floats.

    Several rules read a column, and a million rows take long to convert. To a rule, a column
    without any value is as good as missing.
    """
    found = {}
    # Each column_names makes a list of all names anew.
    there = dict(zip(table.column_names, table.columns, strict=True))
    for name in INPUTS:
        column = there.get(name)
        if column is None or column.null_count == len(table):
            continue
        is_number = pa.types.is_primitive(column.type) and not pa.types.is_temporal(column.type)
        found[name] = column.cast(pa.float64()) if is_number else column.combine_chunks()
    known = pa.table(found)
    # The mean is made of its stages where a row has none.
    if not np.isnan(numbers(known, "latency_avg_us")[measured]).any():
        known = known.drop_columns([name for name in STAGES if name in found])
    return known


def _codes(bits: int) -> str:
    return ", ".join(rule.code for place, rule in enumerate(RULES) if bits >> place & 1)


def broken_rules(reasons: str) -> tuple[Rule, ...]:
    """Return the rules that a row breaks.

    Parameters
    ----------
    reasons
        What stands in ``invalid_reasons``.

    Returns
    -------
    tuple of Rule
        In the order of `RULES`. Codes of another version of hpcbench are passed over.
    """
    codes = reasons.split(", ")
    return tuple(rule for rule in RULES if rule.code in codes)
