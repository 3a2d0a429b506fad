"""Configurations and figures in a few words, for tables on a terminal and in Markdown."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis import words
from analysis.configuration import LOAD

_ELSEWHERE = ("model_label", "device", *LOAD)


def number(value: float | None) -> str:
    """Four significant digits, whole numbers with thousands set apart; "-" for none."""
    if value is None or not math.isfinite(value):
        return "-"
    digits = 3 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{max(digits, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """The value with its interval in brackets, where there is one."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def figure(row: Mapping[str, Any], column: str) -> str:
    """One figure of a row of `statistics.configurations`, with half the width of its interval."""
    value, high = row.get(column), row.get(f"{column}_high")
    if value is None or high is None or not math.isfinite(high):
        return number(value)
    half = high - value
    # Two digits of the error are told, and as many decimals of the value.
    digits = max(0, 1 - math.floor(math.log10(half))) if half > 0 else 1
    return f"{value:,.{min(digits, 6)}f} ± {half:,.{min(digits, 6)}f}"


def load(row: Mapping[str, Any]) -> str:
    """Batch size and concurrency, or the rate."""
    told = words.in_words(row)
    return ", ".join(told[name] for name in LOAD if name in told)


def server(row: Mapping[str, Any]) -> str:
    """The server axes that differ from the model's own configuration; "base" where none does."""
    told = words.in_words(row)
    axes = _axes(row, told)
    texts = [told.get(axis, "") for axis, value in axes.items() if value != "base"]
    return ", ".join(filter(None, texts)) or ("base" if axes else "unknown")


def distinctions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each row what else than load and server sets it apart from the others; "" for nothing."""
    told = [words.in_words(row) for row in rows]
    names = [
        name
        for name in dict.fromkeys(name for texts in told for name in texts)
        if name not in _ELSEWHERE and not name.startswith("found ")
        if not any(name in _axes(row, texts) for row, texts in zip(rows, told, strict=True))
        if len({texts.get(name) for texts in told}) > 1
    ]
    return [", ".join(texts[name] for name in names if texts.get(name)) for texts in told]


def _axes(row: Mapping[str, Any], told: Mapping[str, str]) -> Mapping[str, Any]:
    """The server axes as they were asked for, or as the server has them where nobody asked."""
    if row["variant"]:
        axes: Mapping[str, Any] = json.loads(row["variant"])
        return axes
    return {name: told[name] for name in words.SERVER_AXES if name in told}
