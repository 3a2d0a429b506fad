"""What a figure shows of a table of series: which of them share it, and which stand out in it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.summary.choice import WANTED
from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    LOAD,
    MEASUREMENT,
    group_numbers,
)
from hpcbench.analysis.summary.series import DEVICE, DoesNotApply, with_error_bars
from hpcbench.analysis.summary.varying_axes import LOADS

MOST_SERIES = 8
"""As many series as a reader can tell apart by colour and marker."""

MOST_GREY = 200
"""As many grey lines behind them as do not merge into a blot."""

MOST_FIGURES = 12

_SERVER = tuple(name for name in CONFIGURATION if name not in {*LOAD, *MEASUREMENT, "shapes"})

_THROUGHPUT = "throughput_infer_per_s"

FigureTables = list[tuple[tuple[str, ...], pd.DataFrame]]
"""Tables that make a figure each, with the words that tell the figures apart."""


def plotted_numbers(
    table: pd.DataFrame,
    quantities: Sequence[str],
    most: int = MOST_SERIES,
    *,
    one_per_server: bool = False,
) -> pd.DataFrame:
    """Return what a figure of these series shows: a row per point, with the columns that it uses.

    Parameters
    ----------
    table
        Points with ``series`` and ``x``.
    quantities
        Names of the metrics in the figure.
    most
        How many series stand out.
    one_per_server
        As for `choose_series`.

    Returns
    -------
    pandas.DataFrame
        ``drawn`` is "colour" for the series that stand out, "grey" for the others, and "no" for
        those beyond MOST_GREY. Each metric has the bars of `with_error_bars`, and its ratio where
        `with_ratios` has added that. ``behind`` says where an open loop fell behind its rate.
    """
    drawn = choose_series(table, most, one_per_server=one_per_server)
    others = [number for number in table["series"].unique() if number not in drawn]
    how = dict.fromkeys(others[:MOST_GREY], "grey") | dict.fromkeys(drawn, "colour")
    known = [name for q in quantities for name in (q, f"{q}_ratio") if name in table]
    values = [f"{name}{end}" for name in known for end in ("", "_low", "_high")]
    values += [f"{q}{end}" for q in quantities for end in ("_min", "_max")]
    details = (
        "point_id",
        "repeats",
        "measured",
        "settled",
        "invalid",
        "accepted",
        "also",
        WANTED,
        "status",
        "lacking",
        "reason",
        "campaigns",
        "candidates",
    )
    table = table.assign(settled=table["measured"] - table["unstable"])
    kept = ["series", "x", *CONFIGURATION, *(name for name in details if name in table), *values]
    # By it the others are chosen, and the note below the figure says so.
    kept += [] if _THROUGHPUT in values else [_THROUGHPUT]
    found = with_error_bars(table, quantities)[kept].reset_index(drop=True)
    found.insert(1, "drawn", [how.get(number, "no") for number in found["series"]])
    found["behind"] = (table["overloaded_max"] > 0).to_numpy()
    return found


def choose_series(
    table: pd.DataFrame, most: int = MOST_SERIES, *, one_per_server: bool = False
) -> list[int]:
    """Return the series that stand out in a figure.

    Parameters
    ----------
    table
        Points with ``series``.
    most
        At most so many are chosen.
    one_per_server
        Whether of several servers each stands out once, even if there is room for more.

    Returns
    -------
    list of int
        Those that a user wants, if there are such. Else all if they are few; and if they differ in
        one number of the load only, evenly spread over it. Else the first, which ratios refer to,
        and those of the highest throughput: first one of each server, each model and device in
        turn.
    """
    measured = table[table["measured"] > 0]
    series = measured["series"].unique().tolist()
    rest = [number for number in table["series"].unique().tolist() if number not in set(series)]
    wanted = set(table.loc[table[WANTED], "series"]) if WANTED in table else set()
    if not wanted:
        if len(series) + len(rest) <= most:
            return sorted([*series, *rest])
        if len(series) <= most:
            return sorted([*series, *rest[: most - len(series)]])
        if differ_in_load_only(measured):
            places = np.linspace(0, len(series) - 1, most).round().astype(int)
            return [series[place] for place in places]
    once = fastest_of_servers(measured)
    ranked = _by_throughput(measured, once)
    if wanted:
        chosen = [*(number for number in ranked if number in wanted), *sorted(wanted & set(rest))]
        return sorted([*dict.fromkeys([*series[:1], *chosen])][:most])
    if one_per_server and len(once) > 1:
        ranked = [number for number in ranked if number in once]
    return sorted([series[0], *(number for number in ranked if number != series[0])][:most])


def _by_throughput(measured: pd.DataFrame, once: frozenset[int]) -> list[int]:
    """Rank series: one of each server, then the others; each model and device in turn."""
    peaks = measured.groupby("series")[_THROUGHPUT].max()
    firsts = measured.drop_duplicates("series").set_index("series").assign(peak=peaks)
    firsts["again"] = ~firsts.index.isin(list(once))
    firsts = firsts.sort_values(["again", "peak"], ascending=[True, False], kind="stable")
    firsts["turn"] = group_numbers(firsts, ("model_label", *DEVICE))
    firsts["turn"] = firsts.groupby(["again", "turn"]).cumcount()
    ranked = firsts.sort_values(["again", "turn"], kind="stable")
    return [int(number) for number in ranked.index]


def fastest_of_servers(table: pd.DataFrame) -> frozenset[int]:
    """Return of each server the series with the highest throughput.

    Parameters
    ----------
    table
        Points with ``series``.

    Returns
    -------
    frozenset of int
        Numbers of series. A server is what a series has besides load and measurement.
    """
    measured = table[table["measured"] > 0]
    peaks = measured.groupby("series")[_THROUGHPUT].max()
    firsts = measured.drop_duplicates("series").set_index("series").assign(peak=peaks)
    servers = group_numbers(firsts, _SERVER)
    firsts = firsts.assign(server=servers).sort_values("peak", ascending=False, kind="stable")
    return frozenset(int(number) for number in firsts.drop_duplicates("server").index)


def differ_in_load_only(table: pd.DataFrame) -> bool:
    """Return whether one number of the load is all that separates the series.

    Parameters
    ----------
    table
        Points with ``series``.

    Returns
    -------
    bool
        False also where nothing separates them.
    """
    firsts = table.drop_duplicates("series")
    differing = [name for name in CONFIGURATION if len(firsts[name].drop_duplicates()) > 1]
    return len(differing) == 1 and differing[0] in {axis.column for axis in LOADS}


def split_into_figures(table: pd.DataFrame, most: int = MOST_SERIES) -> FigureTables:
    """Return the parts of the table that have a figure each.

    Parameters
    ----------
    table
        Points with ``series``.
    most
        How many series stand out in a figure.

    Returns
    -------
    FigureTables
        Latencies of different percentiles never share a figure. Models share one as long as all
        their series stand out in it; a model with more series has its own. If that would make more
        than MOST_FIGURES, all share one.
    """
    return [
        ((*words, *more), picture)
        for words, part in split_by_column(table, "percentile")
        for more, picture in _by_model(part, most)
    ]


def _by_model(table: pd.DataFrame, most: int) -> FigureTables:
    if table["series"].nunique() <= most:
        return [((), table)]
    models = split_by_column(table, "model_label")
    if sum(part["series"].nunique() > most for _, part in models) > MOST_FIGURES:
        return [((), table)]
    packs: list[FigureTables] = []
    free = 0
    for found in models:
        if (size := found[1]["series"].nunique()) > free or not packs:
            packs.append([])
            free = most
        packs[-1].append(found)
        free -= size
    return [
        (pack[0][0] if len(pack) == 1 else (f"{place}",), pd.concat([part for _, part in pack]))
        for place, pack in enumerate(packs, start=1)
    ]


def split_by_column(table: pd.DataFrame, column: str) -> FigureTables:
    """Return the rows of each value of a column.

    Parameters
    ----------
    table
        Any columns.
    column
        One of them.

    Returns
    -------
    FigureTables
        In the order of the table; without a word where there is only one value.
    """
    values = table[column].drop_duplicates().tolist()
    if len(values) <= 1:
        return [((), table)]
    return [((_value_name(column, value),), table[table[column].isin([value])]) for value in values]


def _value_name(column: str, value: Any) -> str:
    if column == "percentile":
        return "mean" if value is None else f"p{value}"
    return f"no {column.replace('_', ' ')}" if value is None else str(value)


def single_figure(parts: FigureTables) -> pd.DataFrame:
    """Return the table of the only figure.

    Parameters
    ----------
    parts
        What `split_into_figures` returned.

    Returns
    -------
    pandas.DataFrame
        The table.

    Raises
    ------
    DoesNotApply
        There are several.
    """
    if len(parts) > 1:
        names = ", ".join(" ".join(name) for name, _ in parts)
        raise DoesNotApply(
            f"these results make {len(parts)} pictures ({names}), not one",
            "choose rows of the table first, or use hpcbench.analysis.figures.save.save_figures",
        )
    return parts[0][1]
