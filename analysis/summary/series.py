"""From points to lines: what runs along an axis, what shares a picture, what stands out in it."""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.summary import statistics
from hpcbench.analysis.summary.configuration import CONFIGURATION, group_numbers
from hpcbench.analysis.summary.points import natural_ranks
from hpcbench.analysis.summary.statistics import Sample
from hpcbench.analysis.summary.varying_axes import LOADS, Axis
from hpcbench.errors import BadInput
from hpcbench.records.columns import Status

DEVICE = ("site", "pool", "gpu_name", "gpu_count", "cpu_name", "cpu_count", "instance_kind")
"""What a model ran on."""

MOST_SERIES = 8
"""As many as a reader can tell apart by colour and marker."""

MOST_GREY = 200
"""Lines drawn in grey behind them, before they become one blot."""

MOST_FIGURES = 12


FigureTables = list[tuple[tuple[str, ...], pd.DataFrame]]
"""Tables that make a picture each, with the words that tell them apart."""


class DoesNotApply(BadInput):
    """A figure cannot be drawn from these results; the message says what they lack."""


def series_along(points: pd.DataFrame, axis: Axis, free: Collection[str] = ()) -> pd.DataFrame:
    """The points with ``series``, which counts lines along ``axis`` from 0, and ``x``, ordered so.

    ``free`` are more columns that set no line apart. Where a series has an x twice (the default
    and the same value written out), the one measured more often stays, else the first.
    """
    table = points.copy()
    table["x"] = table[axis.column].astype("float64")
    table = table[table["x"] > 0]
    kept = table.assign(variant=variants_without(table["variant"], axis.column))
    table["series"] = number_groups(
        kept, [name for name in CONFIGURATION if name not in (*axis.merged_columns, *free)]
    )
    table = table.sort_values(["series", "x", "measured"], ascending=[True, True, False])
    return table.drop_duplicates(["series", "x"], ignore_index=True)


def number_groups(table: pd.DataFrame, columns: Sequence[str]) -> npt.NDArray[np.int64]:
    """The number of each row's group: the order of the campaign, then that of ``columns``."""
    groups = group_numbers(table, columns)
    first = table.iloc[np.unique(groups, return_index=True)[1]]
    position = table["position"].groupby(groups).min().to_numpy(np.float64)
    order = [*(natural_ranks(first[name]) for name in reversed(columns)), position]
    places = np.empty(len(first), dtype=np.int64)
    places[np.lexsort(order)] = range(len(first))
    numbers: npt.NDArray[np.int64] = places[groups]
    return numbers


def variants_without(variants: pd.Series, axis: str) -> "pd.Series[Any]":
    """The variants with one of their axes left out."""
    short = {
        text: json.dumps({name: value for name, value in json.loads(text).items() if name != axis})
        for text in variants.dropna().unique()
    }
    return pd.Series([short.get(text) for text in variants], index=variants.index, dtype=object)


def best_points(points: pd.DataFrame, free: Sequence[str]) -> pd.DataFrame:
    """Of the points that differ only in ``free`` the one with the highest throughput.

    Those that settled come first. ``candidates`` tells among how many it was chosen; points
    without throughput are left out. Raises DoesNotApply where none has any.
    """
    found = points[points["throughput_infer_per_s"] > 0].copy()
    if found.empty:
        raise DoesNotApply("no measurement has a throughput")
    kept = [name for name in CONFIGURATION if name not in free]
    found["group"] = group_numbers(found, kept)
    found["candidates"] = found.groupby("group")["group"].transform("size")
    found["settled"] = found["status"] == Status.OK
    ordered = found.sort_values(["settled", "throughput_infer_per_s"], ascending=False)
    best = ordered.drop_duplicates("group").sort_index()
    return best.drop(columns=["settled", "group"]).reset_index(drop=True)


def with_ratios(table: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """Adds each quantity's ratio to the first measured series, as ``..._ratio`` and its interval.

    The interval is that of `statistics.welch_ratio`; there is none where either was measured less
    than three times: of two values it would be wider than any panel. The reference has none to
    itself.
    """
    table = table.copy()
    measured = table.loc[table["measured"] > 0, "series"]
    reference = table[table["series"] == (measured.min() if len(measured) else -1)].set_index("x")
    own = table.index.isin(table.index[table["series"].isin(reference["series"])])
    for name in quantities:
        add_ratio(table, name, reference, table["x"], own)
    return table


def add_ratio(
    table: pd.DataFrame, name: str, reference: pd.DataFrame, keys: pd.Series, own: Any
) -> None:
    """Adds the quantity's ratio to the row of ``reference`` with that key, as `with_ratios` does.

    Those that are their ``own`` reference get no interval.
    """
    columns = [f"{name}{end}" for end in ("", "_n", "_std")]
    base = pd.DataFrame({column: keys.map(reference[column]) for column in columns})
    found = statistics.welch_ratio(Sample.of(table, name), Sample.of(base, name))
    few = own | (table[f"{name}_n"] < 3) | (base[f"{name}_n"] < 3)
    value = table[name].where(table[name] > 0) / base[name].where(base[name] > 0)
    table[f"{name}_ratio"] = value
    table[f"{name}_ratio_low"] = np.where(few, np.nan, found.low)
    table[f"{name}_ratio_high"] = np.where(few, np.nan, found.high)


def with_error_bars(table: pd.DataFrame, quantities: Iterable[str]) -> pd.DataFrame:
    """The table with what is drawn of a spread as ``..._low`` and ``..._high``.

    The interval of the mean; of two repeats these two, because their interval is 13 times as wide
    as they are apart.
    """
    table = table.copy()
    for name in quantities:
        two = table[f"{name}_n"] == 2
        for end, limit in (("_low", "_min"), ("_high", "_max")):
            table[f"{name}{end}"] = table[f"{name}{end}"].mask(two, table[f"{name}{limit}"])
    return table


def plotted_numbers(
    table: pd.DataFrame, quantities: Sequence[str], most: int = MOST_SERIES
) -> pd.DataFrame:
    """What a picture of these series shows: one row per point, with the columns that it uses.

    ``drawn`` is "colour" for the series that stand out and "grey" for the others; those beyond
    MOST_GREY are "no". Each of ``quantities`` comes with the bars of `with_error_bars`, and with
    its ratio where `with_ratios` has added that. ``most`` series stand out.
    """
    drawn = choose_series(table, most)
    others = [number for number in table["series"].unique() if number not in drawn]
    how = dict.fromkeys(others[:MOST_GREY], "grey") | dict.fromkeys(drawn, "colour")
    known = [name for q in quantities for name in (q, f"{q}_ratio") if name in table]
    values = [f"{name}{end}" for name in known for end in ("", "_low", "_high")]
    told = (
        "point_id",
        "repeats",
        "measured",
        "status",
        "lacking",
        "reason",
        "campaigns",
        "candidates",
    )
    kept = ["series", "x", *CONFIGURATION, *(name for name in told if name in table), *values]
    found = with_error_bars(table, quantities)[kept].reset_index(drop=True)
    found.insert(1, "drawn", [how.get(number, "no") for number in found["series"]])
    return found


def choose_series(table: pd.DataFrame, most: int = MOST_SERIES) -> list[int]:
    """The series that stand out in a picture, at most so many.

    All if they are few; if they differ in one number only, evenly spread over it; else the first,
    which ratios are made to, and those of the highest throughput, each model and device in turn.
    """
    measured = table[table["measured"] > 0]
    series = measured["series"].unique().tolist()
    rest = [number for number in table["series"].unique().tolist() if number not in set(series)]
    if len(series) + len(rest) <= most:
        return sorted([*series, *rest])
    if len(series) <= most:
        return sorted([*series, *rest[: most - len(series)]])
    if differ_in_load_only(measured):
        places = np.linspace(0, len(series) - 1, most).round().astype(int)
        return [series[place] for place in places]
    peaks = measured.groupby("series")["throughput_infer_per_s"].max()
    firsts = measured.drop_duplicates("series").set_index("series").assign(peak=peaks)
    firsts = firsts.drop(series[0]).sort_values("peak", ascending=False, kind="stable")
    turn = pd.Series(group_numbers(firsts, ("model_label", *DEVICE)), index=firsts.index)
    turn = turn.groupby(turn).cumcount().sort_values(kind="stable")
    return sorted([series[0], *(int(number) for number in turn.index[: most - 1])])


def differ_in_load_only(table: pd.DataFrame) -> bool:
    """Whether one number of the load is all that sets the series apart."""
    firsts = table.drop_duplicates("series")
    differing = [name for name in CONFIGURATION if len(firsts[name].drop_duplicates()) > 1]
    return len(differing) == 1 and differing[0] in {axis.column for axis in LOADS}


def split_into_figures(table: pd.DataFrame, most: int = MOST_SERIES) -> FigureTables:
    """The parts of the table that have a picture each, with the words that tell them apart.

    Latencies of different percentiles never share one. Models share one as long as all their
    series stand out in it; a model with more of them has its own. Beyond MOST_PICTURES all share
    one.
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
    room = 0
    for found in models:
        if (size := found[1]["series"].nunique()) > room or not packs:
            packs.append([])
            room = most
        packs[-1].append(found)
        room -= size
    return [
        (pack[0][0] if len(pack) == 1 else (f"{place}",), pd.concat([part for _, part in pack]))
        for place, pack in enumerate(packs, start=1)
    ]


def split_by_column(table: pd.DataFrame, column: str) -> FigureTables:
    """The rows of each value, in the order of the table; without a word where there is only one."""
    values = table[column].drop_duplicates().tolist()
    if len(values) <= 1:
        return [((), table)]
    return [((_value_name(column, value),), table[table[column].isin([value])]) for value in values]


def _value_name(column: str, value: Any) -> str:
    if column == "percentile":
        return "mean" if value is None else f"p{value}"
    return f"no {column.replace('_', ' ')}" if value is None else str(value)


def require_measured(points: pd.DataFrame) -> pd.DataFrame:
    """The points, if any has a throughput or a latency. Raises DoesNotApply otherwise."""
    if not (points[["throughput_infer_per_s", "latency_ms"]] > 0).any(axis=None):
        raise DoesNotApply("no measurement has figures")
    return points


def isolated_models(points: pd.DataFrame) -> pd.DataFrame:
    """The points of models with a server of their own that no ensemble called meanwhile: among
    them one looks for the best. Raises DoesNotApply where there are none.
    """
    found = points[points["beside"].isna() & points["part_of"].isna()]
    if found.empty:
        raise DoesNotApply("all models shared a server, or were called by an ensemble")
    return found


def varies_along(points: pd.DataFrame, axis: Axis) -> bool:
    """Whether some series has two measured points along the axis."""
    there = points[points["measured"] > 0]
    return bool(series_along(there, axis)["series"].duplicated().any())


def single_figure(parts: FigureTables) -> pd.DataFrame:
    """The table of the one picture. Raises DoesNotApply where there are several."""
    if len(parts) > 1:
        names = ", ".join(" ".join(name) for name, _ in parts)
        raise DoesNotApply(
            f"these results make {len(parts)} pictures ({names}), not one",
            "choose rows of the table first, or use hpcbench.analysis.figures.save.save_figures",
        )
    return parts[0][1]
