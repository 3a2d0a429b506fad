"""Notes below figures: how it was measured, what the bars mean, and which points are missing."""

import shlex
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pandas as pd

from hpcbench.analysis.figures.legends import (
    configuration_texts,
    differs,
    server_axis_names,
)
from hpcbench.analysis.summary.axis_names import value_text
from hpcbench.analysis.summary.choice import WANTED
from hpcbench.analysis.summary.configuration import CALLS, LOAD
from hpcbench.analysis.summary.configuration_names import server_axes
from hpcbench.analysis.summary.figure_tables import differ_in_load_only, fastest_of_servers
from hpcbench.analysis.summary.invalid_rows import accepted_text
from hpcbench.analysis.summary.number_format import plain_number
from hpcbench.analysis.summary.points import row_dicts
from hpcbench.analysis.summary.same_servers import ALSO, same_servers_texts
from hpcbench.analysis.summary.statistics import CONFIDENCE
from hpcbench.analysis.summary.varying_axes import FigureAxis
from hpcbench.records.columns import Status

_MOST_CONFIGURATIONS = 6
_MOST_SAME = 2
_MOST_CAMPAIGN_CHARACTERS = 60


def conditions_note(data: pd.DataFrame, ignore: Collection[str] = ()) -> str:
    """Say under which conditions all series were measured.

    Parameters
    ----------
    data
        Data of a figure, one row for each point.
    ignore
        Columns that differ along a series.

    Returns
    -------
    str
        A sentence, or "" if the series share no condition worth a note.
    """
    firsts = row_dicts(data.drop_duplicates("series"))
    parts = [configuration_texts(row, ignore) for row in firsts]
    names = (*LOAD, *CALLS, "measurement_interval_ms")
    used = [name for name in names if not parts[0].get(name, "").startswith("no ")]
    same = [name for name in (*used, *server_axis_names(firsts)) if not differs(parts, name)]
    texts = [text for name in same if (text := parts[0].get(name))]
    return f"Conditions: {', '.join(texts)}." if texts else ""


def repeats_note(data: pd.DataFrame, bars: str | None = "Bands and bars") -> str:
    """Say how points and bars were made from the measurements.

    Parameters
    ----------
    data
        Data of a figure, one row for each point.
    bars
        What the intervals look like in this figure; None if it shows none.

    Returns
    -------
    str
        One to five sentences.
    """
    return " ".join(
        filter(None, [_points_note(data, bars), same_servers_note(data), invalid_note(data)])
    )


def same_servers_note(data: pd.DataFrame) -> str:
    """Say which server variants are one configuration.

    Parameters
    ----------
    data
        Data of a figure, or a table of `points.summarise`.

    Returns
    -------
    str
        A sentence, or "" if all are configurations of their own.
    """
    if ALSO not in data or data[ALSO].isna().all():
        return ""
    texts = same_servers_texts(data)
    more = f" and {len(texts) - _MOST_SAME} more" if len(texts) > _MOST_SAME else ""
    return f"One configuration: {'; '.join(texts[:_MOST_SAME])}{more}."


def with_same_servers(message: str, points: pd.DataFrame) -> str:
    """Say why there is no figure over an axis: its values may be names of one server.

    Parameters
    ----------
    message
        What is missing, without a full stop.
    points
        Table of `points.summarise`.

    Returns
    -------
    str
        Also which variants are one configuration.
    """
    return ". ".join(filter(None, [message, same_servers_note(points).removesuffix(".")]))


def invalid_note(data: pd.DataFrame) -> str:
    """Say how many measurements are left out because they are not valid, or used all the same.

    Parameters
    ----------
    data
        Data of a figure, one row for each point.

    Returns
    -------
    str
        A sentence or two, or "" if there are none.
    """
    texts = []
    if count := int(data["invalid"].sum()):
        are = "measurement is" if count == 1 else "measurements are"
        texts.append(f"{count} {are} left out as not valid; hpcbench check says why.")
    if "accepted" in data and (count := int(data["accepted"].sum())):
        texts.append(f"{accepted_text(count)}.")
    return " ".join(texts)


def _points_note(data: pd.DataFrame, bars: str | None) -> str:
    counts = data.loc[data["measured"] > 0, "measured"]
    if counts.empty:
        return "No point was measured."
    most = counts.max()
    several = most if counts.min() == most else f"{counts.min()} to {most}"
    text = "Each point was measured once." if most == 1 else f"Points: mean of {several} repeats."
    if bars is None:
        return text
    if most > 1:
        # Of two repeats the interval is 13 times as wide as they are apart, so bars show the two.
        interval = f"{CONFIDENCE:.0%} interval of the mean (Student's t)"
        both = "from the lower to the higher of two measurements"
        shown = both if most == 2 else interval
        if most > 2 and (counts == 2).any():
            shown = f"{interval}; where there are only two, {both}"
        text = f"{text} {bars}: {shown}."
    if (data["status"] == Status.UNSTABLE).any():
        text += " Hollow: at least one measurement did not settle."
    return text


def selection_note(data: pd.DataFrame, shown_how: str = "in colour") -> str:
    """Say which series stand out in the figure and what happened to the others.

    Parameters
    ----------
    data
        Data of a figure, one row for each point.
    shown_how
        How the series that stand out are shown.

    Returns
    -------
    str
        Two or three sentences, or "" if all series stand out.
    """
    firsts = data.drop_duplicates("series")
    counts = firsts["drawn"].value_counts()
    if (shown := counts.get("colour", 0)) == (total := counts.sum()):
        return ""
    grey, left_out = int(counts.get("grey", 0)), int(counts.get("no", 0))
    others = [
        f"{grey} {'is a grey line' if grey == 1 else 'are grey lines'}" if grey else "",
        f"{left_out} {'is' if left_out == 1 else 'are'} in the CSV only" if left_out else "",
    ]
    return (
        f"{shown} of {total} configurations are {shown_how}: {_chosen_how(data)}. "
        f"Of the others, {' and '.join(filter(None, others))}.{_others_note(firsts)}"
    )


def _chosen_how(data: pd.DataFrame) -> str:
    if WANTED in data:
        return "the first, and those that --series names"
    if differ_in_load_only(data):
        return "spread evenly over all"
    once = fastest_of_servers(data)
    shown = set(data.loc[data["drawn"] == "colour", "series"])
    if len(once) == 1:
        return "the first, and those with the highest throughput"
    if len(once - shown) > 0:
        return "the first, and one each of the servers with the highest throughput"
    if len(shown - once) > 1:
        return "the first, of each server the one with the highest throughput, and the next best"
    return "the first, and of each server the one with the highest throughput"


def _others_note(firsts: pd.DataFrame) -> str:
    """Say how to see other series, by one that does not stand out."""
    others = firsts["drawn"] != "colour"
    rows = row_dicts(pd.concat([firsts[others].head(1), firsts[~others]]))
    parts = [configuration_texts(row, ()) for row in rows]
    other, mine = rows[0], parts[0]
    names = [name for name in (*server_axis_names(rows), *LOAD) if differs(parts, name)]
    known = [name for name in names if mine.get(name)]
    if not known:
        return ""
    name, last = known[0], known[-1]
    value = server_axes(other).get(name, other.get(name))
    where, text = shlex.quote(f"{name}={value_text(name, value)}"), shlex.quote(mine[last])
    return f" hpcbench plot --where {where} draws these alone, --series {text} colours these."


def behind_note(data: pd.DataFrame) -> str:
    """Say which points fell behind the request rate asked for.

    Parameters
    ----------
    data
        Data of a figure, one row for each point.

    Returns
    -------
    str
        A sentence, or "" if none did.
    """
    behind = data[data["behind"]]
    if behind.empty:
        return ""
    rates = ", ".join(map(plain_number, sorted(behind["request_rate"].dropna().unique())))
    return (
        f"Asked for {rates} requests/s, fewer were sent in time: drawn at the rate that was sent; "
        "the latency does not count how long a request waited for its turn."
    )


def best_load_note(data: pd.DataFrame) -> str:
    """Say that each point is the best of several loads.

    Parameters
    ----------
    data
        Data of a figure with the column ``candidates``.

    Returns
    -------
    str
        A sentence, or "" if there was never a choice.
    """
    most = int(data["candidates"].max())
    if most < 2:
        return ""
    return (
        "Each point is the load with the highest throughput that settled, chosen from up to "
        f"{most}; the CSV says which."
    )


def missing_points_note(
    data: pd.DataFrame, labels: Mapping[int, str], axis: FigureAxis, metrics: Mapping[str, str]
) -> str:
    """List every point that lacks a result, a repeat or a metric.

    Parameters
    ----------
    data
        Data of a figure, one row for each point.
    labels
        Labels of the series in the legend, by their numbers; other series are not listed.
    axis
        Axis along which the series run.
    metrics
        Names of the metrics that the figure shows, by their columns.

    Returns
    -------
    str
        Sentences, or "" if nothing is missing.
    """
    lists: dict[str, dict[tuple[int, str], list[str]]] = {}
    for row in row_dicts(data[data["series"].isin(list(labels))]):
        for what, why in _missing(row, metrics):
            places = lists.setdefault(what, {})
            places.setdefault((row["series"], why), []).append(plain_number(row["x"]))
    several = len(labels) > 1
    sentences = []
    for what, places in lists.items():
        parts = [
            (f"{labels[number]} " if several else "") + f"at {axis.phrase} {', '.join(values)}{why}"
            for (number, why), values in places.items()
        ]
        rest = len(parts) - _MOST_CONFIGURATIONS
        more = f"; and {rest} more configurations" if rest > 0 else ""
        sentences.append(f"{what}: {'; '.join(parts[:_MOST_CONFIGURATIONS])}{more}.")
    return " ".join(sentences)


def _missing(row: Mapping[str, Any], metrics: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what is missing of a point, and the reason in brackets."""
    statuses = row["lacking"].replace("_", " ")
    if not row["measured"]:
        yield "No result (crosses)", f" ({statuses})"
        return
    if statuses:
        lost = row["repeats"] - row["measured"]
        yield "Fewer repeats", f" ({lost} of {row['repeats']} {statuses})"
    # A logarithmic axis has no place for 0 or less. NaN is not above 0 either.
    for metric, name in metrics.items():
        if not row[metric] > 0:
            yield f"No {name.partition(' [')[0]}", ""


def latency_name(data: pd.DataFrame) -> str:
    """Name the latency that a campaign asked for, with its unit.

    Parameters
    ----------
    data
        Data of a figure whose rows have one value of ``percentile``.

    Returns
    -------
    str
        For example ``p95 latency [ms]``.
    """
    percentile = data["percentile"].iloc[0]
    return "mean latency [ms]" if percentile is None else f"p{percentile} latency [ms]"


def campaign_names(data: pd.DataFrame) -> str:
    """Name the campaigns of a figure for its header.

    Parameters
    ----------
    data
        Data of a figure, one row for each point.

    Returns
    -------
    str
        At most 60 characters: the names, or how many campaigns there are.
    """
    names = sorted({name for text in data["campaigns"] for name in text.split(", ")})
    text = ", ".join(names)
    if len(text) <= _MOST_CAMPAIGN_CHARACTERS:
        return text
    return f"{len(names)} campaigns" if names[1:] else f"{text[: _MOST_CAMPAIGN_CHARACTERS - 1]}…"
