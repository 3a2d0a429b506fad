"""What is written around figures: what sets their series apart, and notes on what they show."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from hpcbench.analysis.summary.configuration import BASE, CALLS, LOAD
from hpcbench.analysis.summary.configuration_names import describe_configuration, server_axes
from hpcbench.analysis.summary.figure_tables import differ_in_load_only
from hpcbench.analysis.summary.number_format import plain_number
from hpcbench.analysis.summary.points import row_dicts
from hpcbench.analysis.summary.statistics import CONFIDENCE
from hpcbench.analysis.summary.varying_axes import Axis
from hpcbench.records.columns import Status

_MOST_TOLD = 6
_DELAY = "max_queue_delay_us"


def legend(table: pd.DataFrame, ignore: Collection[str] = ()) -> tuple[str, dict[int, str]]:
    """The legend's title, and the text of each series in it: there what all share, here the rest.

    The device is always in one of the two. ``ignore`` are columns that differ within a series.
    """
    firsts = row_dicts(table.drop_duplicates("series"))
    parts = {row["series"]: _parts(row, ignore) for row in firsts}
    # What was never measured knows no device, which must not look like another one.
    measured = table.loc[table["measured"] > 0, "series"].unique()
    drawn = [parts[number] for number in (measured if len(measured) else parts)]
    # What a reader wants named wherever it differs, even if the series could be told without it.
    servers = _server_axes(firsts)
    primary = ("model_label", "device", *servers, *LOAD, *CALLS)
    named = [name for name in primary if _differs(drawn, name)]
    for name in dict.fromkeys(name for described in parts.values() for name in described):
        if len(_distinct(parts.values(), [*named, name])) > len(_distinct(parts.values(), named)):
            named.append(name)
    # Without dynamic batching there is no queue delay, which sets nothing apart.
    delays = {text for described in parts.values() if (text := described.get(_DELAY))}
    if len(delays) == 1 and _DELAY in named:
        named.remove(_DELAY)
    texts = {
        number: ", ".join(text for name in named if (text := described.get(name)))
        for number, described in parts.items()
    }
    for row in firsts:
        if row["variant"] == "{}" and set(servers) & set(named):
            texts[row["series"]] = ", ".join(filter(None, [texts[row["series"]], BASE]))
    if not named:
        known = [drawn[0].get(name, "") for name in ("device", "model_label")]
        return known[0], dict.fromkeys(parts, known[1] or "as configured")
    shared = [drawn[0].get(name, "") for name in ("model_label", "device") if name not in named]
    return ", ".join(filter(None, shared)), {
        number: text or "as configured" for number, text in texts.items()
    }


def conditions(table: pd.DataFrame, ignore: Collection[str] = ()) -> str:
    """What all series were measured under, as far as it is the same and worth telling."""
    firsts = row_dicts(table.drop_duplicates("series"))
    parts = [_parts(row, ignore) for row in firsts]
    names = (*LOAD, *CALLS, "measurement_interval_ms")
    used = [name for name in names if not parts[0].get(name, "").startswith("no ")]
    same = [name for name in (*used, *_server_axes(firsts)) if not _differs(parts, name)]
    told = [text for name in same if (text := parts[0].get(name))]
    return f"Conditions: {', '.join(told)}." if told else ""


def repeats(table: pd.DataFrame, bars: str | None = "Bands and bars") -> str:
    """How the points and their ``bars``, if the figure has any, were made from the measurements."""
    counts = table.loc[table["measured"] > 0, "measured"]
    if counts.empty:
        return "No point was measured."
    most = counts.max()
    several = most if counts.min() == most else f"{counts.min()} to {most}"
    text = "Each point was measured once." if most == 1 else f"Points: mean of {several} repeats."
    if bars is None:
        return text
    if most > 1:
        interval = f"{CONFIDENCE:.0%} interval of the mean (Student's t)"
        both = "the two measurements"
        shown = both if most == 2 else interval
        if most > 2 and (counts == 2).any():
            shown = f"{interval}; where there are only two, {both}"
        text = f"{text} {bars}: {shown}."
    if (table["status"] == Status.UNSTABLE).any():
        text += " Hollow: at least one measurement did not settle."
    return text


def selection(table: pd.DataFrame, which: str = "In colour") -> str:
    """Which series stand out in the figure, and what became of the others; "" if all do."""
    counts = table.drop_duplicates("series")["drawn"].value_counts()
    if (shown := counts.get("colour", 0)) == (total := counts.sum()):
        return ""
    grey, left_out = int(counts.get("grey", 0)), int(counts.get("no", 0))
    rule = "the first and those of the highest throughput, each model and device in turn"
    if differ_in_load_only(table):
        rule = "spread evenly over all"
    others = [f"{grey} are grey lines" * (grey > 0), f"{left_out} are left out" * (left_out > 0)]
    return (
        f"{which}: {shown} of {total} configurations, {rule}; of the others "
        f"{' and '.join(filter(None, others))}."
    )


def absences(
    table: pd.DataFrame, texts: Mapping[int, str], axis: Axis, named: Mapping[str, str]
) -> str:
    """Every point of which something is missing in the figure; "" if none is.

    ``named`` are the quantities that it shows, with their names.
    """
    told: dict[str, dict[tuple[int, str], list[str]]] = {}
    for row in row_dicts(table[table["series"].isin(list(texts))]):
        for what, how in _missing(row, named):
            places = told.setdefault(what, {})
            places.setdefault((row["series"], how), []).append(plain_number(row["x"]))
    several = len(texts) > 1
    sentences = []
    for what, places in told.items():
        parts = [
            (f"{texts[number]} " if several else "") + f"at {axis.phrase} {', '.join(values)}{how}"
            for (number, how), values in places.items()
        ]
        more = f"; and {len(parts) - _MOST_TOLD} more configurations" if parts[_MOST_TOLD:] else ""
        sentences.append(f"{what}: {'; '.join(parts[:_MOST_TOLD])}{more}.")
    return " ".join(sentences)


def _missing(row: Mapping[str, Any], named: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    statuses = row["lacking"].replace("_", " ")
    if not row["measured"]:
        yield "No result (crosses)", f" ({statuses})"
        return
    if statuses:
        lost = row["repeats"] - row["measured"]
        yield "Fewer repeats", f" ({lost} of {row['repeats']} {statuses})"
    # What is not positive cannot be drawn on a logarithmic axis; NaN is not positive either.
    for quantity, name in named.items():
        if not row[quantity] > 0:
            yield f"No {name.partition(' [')[0]}", ""


def latency(table: pd.DataFrame) -> str:
    """The name of what ``latency_ms`` is in a table of one percentile, with its unit."""
    percentile = table["percentile"].iloc[0]
    return "mean latency [ms]" if percentile is None else f"p{percentile} latency [ms]"


def campaigns(table: pd.DataFrame) -> str:
    """The names of the campaigns, or how many there are."""
    names = sorted({name for text in table["campaigns"] for name in text.split(", ")})
    text = ", ".join(names)
    return text if len(text) <= 60 else f"{len(names)} campaigns" if names[1:] else f"{text[:59]}…"


def _distinct(parts: Iterable[Mapping[str, str]], names: list[str]) -> set[tuple[str, ...]]:
    return {tuple(described.get(name, "") for name in names) for described in parts}


def _differs(parts: Iterable[Mapping[str, str]], name: str) -> bool:
    return len(_distinct(parts, [name])) > 1


def _server_axes(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(axis for row in rows for axis in server_axes(row)))


def _parts(row: Mapping[str, Any], ignore: Collection[str]) -> dict[str, str]:
    return {
        name: text
        for name, text in describe_configuration(row).items()
        if name not in ignore and name.removeprefix("found ") not in ignore
    }
