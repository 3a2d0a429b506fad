"""Names and marks of the series of a figure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from hpcbench.analysis.figures.layout import LegendEntry
from hpcbench.analysis.figures.styles import SeriesMark
from hpcbench.analysis.summary.configuration import CALLS, LOAD
from hpcbench.analysis.summary.configuration_names import describe_configuration, server_axes
from hpcbench.analysis.summary.points import row_dicts
from hpcbench.records.variants import BASE

_DELAY = "max_queue_delay_us"


@dataclass(frozen=True)
class SeriesLegend:
    """Legend of the series that stand out in a figure.

    Attributes
    ----------
    title
        What all series share.
    labels
        Label of each series, by its number.
    marks
        Colour and marker of each series, by its number.
    """

    title: str
    labels: Mapping[int, str]
    marks: Mapping[int, SeriesMark]

    @classmethod
    def from_data(cls, data: pd.DataFrame, ignore: Collection[str] = ()) -> "SeriesLegend":
        """Name and mark the series that are drawn in colour.

        Parameters
        ----------
        data
            Data of a figure, one row for each point.
        ignore
            Columns that differ along a series and so name none.

        Returns
        -------
        SeriesLegend
            The legend, with marks in the order of the series.
        """
        title, labels = series_labels(data[data["drawn"] == "colour"], ignore)
        marks = {number: SeriesMark(rank) for rank, number in enumerate(sorted(labels))}
        return cls(title, labels, marks)

    def entries(self, data: pd.DataFrame, *, line: bool = True) -> list[LegendEntry]:
        """Return an entry for each series, with a cross for those without any result.

        Parameters
        ----------
        data
            Data of the figure.
        line
            Show the line that connects the points.

        Returns
        -------
        list[LegendEntry]
            Entries for `layout.Surroundings`.
        """
        measured = set(data.loc[data["measured"] > 0, "series"])
        return [
            (label, Line2D([], [], **self.marks[number].point_keywords(line=line)))
            if number in measured
            else (f"{label} (no result)", Line2D([], [], **self.marks[number].missing_keywords()))
            for number, label in self.labels.items()
        ]


def series_labels(data: pd.DataFrame, ignore: Collection[str] = ()) -> tuple[str, dict[int, str]]:
    """Name the series of a figure by what sets them apart.

    Parameters
    ----------
    data
        Data of a figure, one row for each point.
    ignore
        Columns that differ along a series and so name none.

    Returns
    -------
    tuple[str, dict[int, str]]
        The title of the legend, which holds the model and the device if all series share them,
        and the label of each series by its number.
    """
    firsts = row_dicts(data.drop_duplicates("series"))
    parts = {row["series"]: configuration_texts(row, ignore) for row in firsts}
    # A series without a result has no known device; that must not look like another device.
    measured = data.loc[data["measured"] > 0, "series"].unique()
    drawn = [parts[number] for number in (measured if len(measured) else parts)]
    servers = server_axis_names(firsts)
    # These are named wherever they differ, even if fewer would tell the series apart.
    primary = ("model_label", "device", *servers, *LOAD, *CALLS)
    named = [name for name in primary if differs(drawn, name)]
    for name in dict.fromkeys(name for described in parts.values() for name in described):
        if len(_distinct(parts.values(), [*named, name])) > len(_distinct(parts.values(), named)):
            named.append(name)
    # Without dynamic batching there is no queue delay: a single value sets nothing apart.
    delays = {text for described in parts.values() if (text := described.get(_DELAY))}
    if len(delays) == 1 and _DELAY in named:
        named.remove(_DELAY)
    labels = {
        number: ", ".join(text for name in named if (text := described.get(name)))
        for number, described in parts.items()
    }
    for row in firsts:
        if row["variant"] == "{}" and set(servers) & set(named):
            labels[row["series"]] = ", ".join(filter(None, [labels[row["series"]], BASE]))
    if not named:
        known = [drawn[0].get(name, "") for name in ("device", "model_label")]
        return known[0], dict.fromkeys(parts, known[1] or "as configured")
    shared = [drawn[0].get(name, "") for name in ("model_label", "device") if name not in named]
    return ", ".join(filter(None, shared)), {
        number: label or "as configured" for number, label in labels.items()
    }


def configuration_texts(row: Mapping[str, Any], ignore: Collection[str]) -> dict[str, str]:
    """Describe everything that can set the configuration of a row apart.

    Parameters
    ----------
    row
        A row of the data of a figure.
    ignore
        Columns to leave out, also where they are what the server reported.

    Returns
    -------
    dict[str, str]
        Texts by the names of `configuration_names.describe_configuration`, the most telling first.
    """
    return {
        name: text
        for name, text in describe_configuration(row).items()
        if name not in ignore and name.removeprefix("found ") not in ignore
    }


def server_axis_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the server axes that occur in rows of the data of a figure.

    Parameters
    ----------
    rows
        Rows of the data of a figure.

    Returns
    -------
    list[str]
        Names of axes, each once, in the order in which they appear.
    """
    return list(dict.fromkeys(axis for row in rows for axis in server_axes(row)))


def server_texts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the server configurations of rows by the axes in which they differ.

    Parameters
    ----------
    rows
        Rows of the data of a figure.

    Returns
    -------
    list[str]
        A text for each row, as in "2 instances"; all are empty where the servers are alike.
    """
    parts = [describe_configuration(row) for row in rows]
    named = [name for name in server_axis_names(rows) if differs(parts, name)]
    return [
        (", ".join(text for name in named if (text := described.get(name))) or BASE)
        if named
        else ""
        for described in parts
    ]


def differs(parts: Iterable[Mapping[str, str]], name: str) -> bool:
    """Return whether configurations differ in one of their texts.

    Parameters
    ----------
    parts
        Texts of `configuration_texts`, one mapping for each configuration.
    name
        Key of these texts.

    Returns
    -------
    bool
        True if the text differs, or is missing in some of them only.
    """
    return len(_distinct(parts, [name])) > 1


def _distinct(parts: Iterable[Mapping[str, str]], names: list[str]) -> set[tuple[str, ...]]:
    return {tuple(described.get(name, "") for name in names) for described in parts}
