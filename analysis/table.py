"""From measurements to series: one row per point, repeats joined, nothing silently left out.

Repeats are joined as their arithmetic mean with Student's t interval of 95 % (mean plus or minus
t(n-1) times s / sqrt(n)), which takes them as independent and roughly normal. It is wide for three
repeats, because so few say little; a standard error would hide that. Of two repeats both are shown.
"""

import json
import re
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from hpcbench.records import MEASURED, Status

CONFIDENCE = 0.95

ASKED = (
    *("model_label", "model", "model_version", "model_digest", "shapes", "variant"),
    *("concurrency", "request_rate", "site", "pool", "protocol", "asynchronous"),
    *("measurement_interval_ms", "stability_percentage", "max_trials", "percentile"),
    *("input_data", "runtime", "server_image_digest", "sdk_image_digest"),
)
FOUND = (
    *("gpu_name", "gpu_count", "cpu_name", "cpu_count", "instance_kind"),
    *("triton_version", "perf_analyzer_version"),
)
"""What only a node or a server can tell; missing where a point failed before they did."""

IDENTITY = ASKED + FOUND
"""Measurements that differ in one of these are never joined, nor drawn as one line."""

QUANTITIES = ("throughput_infer_per_s", "latency_ms")

POINT: dict[str, str] = {
    **dict.fromkeys(("series", "batch_size", "repeats", "measured"), "int64"),
    **dict.fromkeys(("status", "lacking", "reason", "campaigns"), "object"),
    **{f"{name}{end}": "float64" for name in QUANTITIES for end in ("", "_low", "_high")},
}
"""The columns of a table beside IDENTITY, with their types."""

_SPLIT = ("model_label", "site", "pool", "gpu_name", "concurrency", "request_rate", "variant")


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per series and batch size, ordered by both, from what `load_results` returns.

    ``series`` counts from 0: models in the order of their campaign, then as IDENTITY has it. For
    each of QUANTITIES (infer/s, ms) there are its mean and, as ``..._low`` and ``..._high``, its
    interval; the mean alone where it was
    measured once, and neither where it never was. Latency is the percentile that was asked for,
    else the mean. ``repeats`` counts the records, ``measured`` those with figures. ``status`` is
    "unstable" if one of these was, and that of the records where none has figures.
    """
    rows = frame[frame["batch_size"].notna()].copy()
    rows["input_data"] = rows["input_data_digest"].fillna(rows["input_data"])
    rows["latency_ms"] = _latency_us(rows) / 1000
    rows["is_measured"] = rows["status"].isin(sorted(MEASURED))
    keys = _series_keys(rows)
    # Results that know no campaign have no place in one: they come last.
    positions = rows["model_position"].astype("float64").fillna(float("inf"))
    places: dict[tuple[Hashable, ...], float] = {}
    for key, place in zip(keys, positions, strict=True):
        places[key] = min(place, places.get(key, place))
    ordered = sorted(places, key=lambda key: (places[key], _sort_key(key)))
    numbers = {key: number for number, key in enumerate(ordered)}
    rows["key"] = pd.Series(keys, index=rows.index, dtype=object)
    rows["series"] = [numbers[key] for key in keys]
    points = [
        {**dict(zip(IDENTITY, records["key"].iloc[0], strict=True)), **_point(records)}
        for _, records in rows.groupby(["series", "batch_size"])
    ]
    # As objects, or pandas would turn an integer beside a missing one into a float.
    table = pd.DataFrame(points, columns=[*IDENTITY, *POINT], dtype=object)
    return table.astype(POINT)


def with_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Adds each quantity's ratio to the first measured series, as ``..._ratio`` and its interval.

    The relative half-widths of both are added in quadrature; the reference has none to itself.
    """
    table = table.copy()
    measured = table.loc[table["measured"] > 0, "series"]
    reference = table[table["series"] == (measured.min() if len(measured) else -1)]
    for name in QUANTITIES:
        base, low, high = (
            table["batch_size"].map(reference.set_index("batch_size")[column])
            for column in (name, f"{name}_low", f"{name}_high")
        )
        mean = table[name]
        ratio = mean / base
        own = (table[f"{name}_high"] - table[f"{name}_low"]) / 2 / mean
        relative = (own**2 + ((high - low) / 2 / base) ** 2) ** 0.5
        relative = relative.mask(table.index.isin(reference.index))
        table[f"{name}_ratio"] = ratio
        table[f"{name}_ratio_low"] = ratio * (1 - relative)
        table[f"{name}_ratio_high"] = ratio * (1 + relative)
    return table


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dicts."""
    rows: list[Any] = table.to_dict("records")
    return rows


def split(table: pd.DataFrame, most: int) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """Parts of at most ``most`` series that belong in one figure, each with what sets it apart.

    Latencies of different percentiles never share a part, because they share no axis.
    """
    return [
        (name, chunk)
        for percentile, part in _parts(table, "percentile")
        for name, chunk in _split(part, (percentile,) if percentile else (), most, _SPLIT)
    ]


def _split(
    table: pd.DataFrame, name: tuple[str, ...], most: int, columns: Sequence[str]
) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    series = table["series"].unique()
    if len(series) <= most:
        return [(name, table)]
    if columns:
        return [
            found
            for value, part in _parts(table, columns[0])
            for found in _split(part, (*name, value) if value else name, most, columns[1:])
        ]
    chunks = np.array_split(series, -(-len(series) // most))
    return [
        ((*name, str(number)), table[table["series"].isin(chunk)])
        for number, chunk in enumerate(chunks, start=1)
    ]


def _parts(table: pd.DataFrame, column: str) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each value, in the order of the series; unnamed where there is only one."""
    values = table[column].drop_duplicates().tolist()
    if len(values) == 1:
        return [("", table)]
    return [(_value_name(column, value), table[table[column].isin([value])]) for value in values]


def _value_name(column: str, value: Any) -> str:
    if column == "percentile":
        return "mean" if value is None else f"p{value}"
    return f"{column} {value}" if column in ("concurrency", "request_rate") else str(value)


def _latency_us(rows: pd.DataFrame) -> pd.Series:
    latency = rows["latency_percentile_us"].astype(float)
    for percentile in rows["percentile"].dropna().unique():
        if (column := f"latency_p{percentile}_us") in rows:
            asked = (rows["percentile"] == percentile).fillna(value=False).to_numpy(dtype=bool)
            latency = latency.mask(asked & latency.isna(), rows[column])
    return latency.mask(rows["percentile"].isna(), rows["latency_avg_us"])


def _series_keys(rows: pd.DataFrame) -> list[tuple[Hashable, ...]]:
    """What each row's series is known by.

    A point that failed early knows no hardware. It goes to the series that it would have been
    part of where there is one, rather than to one of its own without a single figure.
    """
    asked = _tuples(rows, ASKED)
    found = _tuples(rows, FOUND)
    known: dict[tuple[Hashable, ...], dict[tuple[Hashable, ...], None]] = {}
    for key, facts, measured in zip(asked, found, rows["is_measured"], strict=True):
        if measured:
            known.setdefault(key, {})[facts] = None
    return [
        key + (facts if measured else _likeliest(facts, known.get(key, {})))
        for key, facts, measured in zip(asked, found, rows["is_measured"], strict=True)
    ]


def _likeliest(
    facts: tuple[Hashable, ...], known: dict[tuple[Hashable, ...], None]
) -> tuple[Hashable, ...]:
    for candidate in known:
        if all(mine in (None, its) for mine, its in zip(facts, candidate, strict=True)):
            return candidate
    return facts


def _tuples(rows: pd.DataFrame, columns: Sequence[str]) -> list[tuple[Hashable, ...]]:
    values = rows[list(columns)].astype(object)
    return list(values.where(values.notna(), None).itertuples(index=False, name=None))


def _sort_key(key: tuple[Hashable, ...]) -> list[Any]:
    """None first, then numbers by size also inside text, so that 2 comes before 10."""
    values: list[Any] = []
    for column, value in zip(IDENTITY, key, strict=True):
        if column == "variant" and value is not None:
            # An axis that is left alone makes the natural reference, as one switched off does.
            axes = json.loads(str(value)).values()
            values += [None if axis == "base" else axis for axis in axes]
        else:
            values.append(value)
    return [
        [] if value is None else [_number_or_text(word) for word in re.split(r"(\d+)", str(value))]
        for value in values
    ]


def _number_or_text(word: str) -> tuple[int, str]:
    return (int(word), "") if word.isdigit() else (-1, word)


def _point(repeats: pd.DataFrame) -> dict[str, Any]:
    """The columns of one point, from its repeats."""
    measured = repeats[repeats["is_measured"]]
    statuses = set((measured if len(measured) else repeats)["status"])
    worst_first = (
        *(Status.UNSTABLE, Status.OK),
        *(Status.FAILED, Status.TIMEOUT, Status.NOT_APPLICABLE),
    )
    lacking = repeats[~repeats["is_measured"]]
    point: dict[str, Any] = {
        "series": repeats["series"].iloc[0],
        "batch_size": repeats["batch_size"].iloc[0],
        "repeats": len(repeats),
        "measured": len(measured),
        "status": next(str(status) for status in worst_first if status in statuses),
        "lacking": ", ".join(sorted(set(lacking["status"]))),
        "reason": next(iter(repeats["reason"].dropna()), None),
        "campaigns": ", ".join(sorted(set(repeats["campaign"]))),
    }
    for name in QUANTITIES:
        values = measured[name].dropna().to_numpy(dtype=float)
        mean, half_width = _mean_interval(values)
        point |= {name: mean, f"{name}_low": mean - half_width, f"{name}_high": mean + half_width}
    return point


def _mean_interval(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    """Mean, and half the width of its interval; NaN where there are too few values."""
    count = len(values)
    if count < 2:
        return (float(values[0]) if count else np.nan), np.nan
    if count == 2:
        # With one degree of freedom the interval is 13 times wider than the values are apart.
        return float(values.mean()), float(np.ptp(values)) / 2
    quantile = special.stdtrit(count - 1, (1 + CONFIDENCE) / 2)
    return float(values.mean()), float(quantile * values.std(ddof=1) / np.sqrt(count))
