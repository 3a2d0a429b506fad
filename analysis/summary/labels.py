"""Configurations and figures in a few words, for tables on a terminal and in Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpcbench.analysis.summary import words
from hpcbench.analysis.summary.configuration import BASE, LOAD

_ELSEWHERE = ("model_label", "device", *LOAD)


def plain_number(value: float, _position: int | None = None) -> str:
    """The number without exponent or useless digits."""
    return np.format_float_positional(value, precision=6, fractional=False, trim="-")


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
    texts = [words.phrase(axis, value) for axis, value in words.server_axes(row).items()]
    told = ", ".join(filter(None, texts))
    return told or ("unknown" if row["variant"] is None else BASE)


def distinctions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each row what else than model, load and server sets it apart; "" for nothing."""
    told = [words.in_words(row) for row in rows]
    known = list(_ELSEWHERE)
    for row in rows:
        known += [axis for axis in words.server_axes(row) if axis not in known]
    named: list[str] = []
    for name in dict.fromkeys(name for texts in told for name in texts):
        if name in known or name.startswith("found "):
            continue
        # What merely follows from the rest, as the model from its label, says nothing new.
        if _kinds(told, [*known, *named, name]) > _kinds(told, [*known, *named]):
            named.append(name)
    return [", ".join(texts[name] for name in named if texts.get(name)) for texts in told]


def names(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], str]:
    """(each configuration in words, what is the same in all and therefore left out of them)."""
    told = [words.in_words(row) for row in rows]
    parts = [
        [texts["model_label"], *(texts.get(name, "") for name in LOAD), server(row), beside]
        for row, texts, beside in zip(rows, told, distinctions(rows), strict=True)
    ]
    same = [len(set(column)) == 1 for column in zip(*parts, strict=True)]
    if all(same):
        return [", ".join(filter(None, row)) for row in parts], ""
    shared = [text for text, alike in zip(parts[0], same, strict=True) if alike and text]
    different = [
        [text for text, alike in zip(row, same, strict=True) if not alike and text] for row in parts
    ]
    return [", ".join(row) for row in different], ", ".join(shared)


def _kinds(told: Sequence[Mapping[str, str]], names: Sequence[str]) -> int:
    return len({tuple(texts.get(name) for name in names) for texts in told})
