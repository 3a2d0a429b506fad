"""The table of measurements with which a run ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import isnan
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hpcbench.cli.point_text import (
    NONE,
    TEXTS,
    Row,
    axis_texts,
    phrase,
)
from hpcbench.cli.table import TableColumn, server_axes, server_columns, table_lines
from hpcbench.config.html_tables import rows_html
from hpcbench.records.store import PLAN_SCHEMA
from hpcbench.records.variants import BASE

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 200
"""A run ends with a table of its measurements if there are at most this many."""

_WIDTH = 120

_FIRST = ("model", "version", "pool", "variant")
_LAST = ("concurrency", "requests/s", "arrivals", "capacity", "batch", "repeat")
"""Inside: so that the rows of one curve stand together."""

_SETTINGS = tuple(name for name in TEXTS if name not in (*_FIRST, *_LAST, "server variant"))

_NOTHING = (NONE, BASE, "none", "off")

_METRICS = (
    ("infer/s", "throughput_infer_per_s", 1.0),
    ("mean ms", "latency_avg_us", 1000.0),
    ("p95 ms", "latency_p95_us", 1000.0),
    ("p99 ms", "latency_p99_us", 1000.0),
)


@dataclass(frozen=True)
class ResultsTable:
    """The table of measurements with which a run ends; a notebook shows it.

    Attributes
    ----------
    asked
        What was asked for, a column for each server axis, the load last.
    found
        Throughput, latency and status.
    """

    asked: Sequence[TableColumn]
    found: Sequence[TableColumn]

    def lines(self, width: int | None) -> list[Text]:
        """Return the table as text.

        Parameters
        ----------
        width
            How wide a line may be; None for whole rows with all columns, as programs read them.

        Returns
        -------
        list of Text
            The lines, in the order of the campaign.
        """
        return table_lines(self.asked, self.found, width)

    def __str__(self) -> str:
        return "\n".join(line.plain for line in self.lines(_WIDTH))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        varying = [each for each in self.asked if each.varies]
        same = [each.phrases[0] for each in self.asked if not each.varies and any(each.phrases)]
        columns = [*varying, *self.found]
        cells = list(zip(*(each.texts for each in columns), strict=True))
        more = f"and {len(cells) - MOST_ROWS} more rows" if len(cells) > MOST_ROWS else ""
        texts = [f"all rows: {', '.join(same)}" if same else "", more]
        above, below = (f"<p>{escape(text)}</p>" if text else "" for text in texts)
        return above + rows_html([each.name for each in columns], cells[:MOST_ROWS]) + below


def results_table(frame: "pd.DataFrame") -> ResultsTable:
    """Return a table of measurements: what differs between them, throughput and latency.

    Parameters
    ----------
    frame
        Measurements as `hpcbench.load_results` returns them.

    Returns
    -------
    ResultsTable
        A row for each measurement, in the order of the campaign. A notebook shows it; `print` and
        `str` write it as text.
    """
    # What differs in its session only stands in the order of time.
    frame = frame.sort_values("started_at", kind="stable")
    points = frame[[*PLAN_SCHEMA.names, "model_position"]].astype(object)
    # The label of a model that an ensemble calls has its version already.
    points["model_version"] = points["model_version"].mask(frame["part_of"].notna())
    rows: list[Any] = points.where(points.notna(), None).to_dict("records")
    order = _reading_order(rows)
    sorted_frame = frame.iloc[order]
    found = [
        TableColumn(name, tuple(_number(value, divisor) for value in sorted_frame[column]))
        for name, column, divisor in _METRICS
    ]
    found.append(TableColumn("status", tuple(sorted_frame["status"]), right=False))
    asked = asked_columns([rows[i] for i in order])
    sessions = tuple(_sessions(sorted_frame))
    if len(set(sessions)) > 1:
        asked.append(TableColumn("session", sessions))
    return ResultsTable(asked, found)


def _sessions(frame: "pd.DataFrame") -> list[str]:
    """Return the number of the session of each row, in the order of their first measurements."""
    begun = frame.groupby("run_id", dropna=False)["started_at"].min().sort_values(kind="stable")
    numbers = {run_id: str(number) for number, run_id in enumerate(begun.index, start=1)}
    return [numbers[run_id] for run_id in frame["run_id"]]


def asked_columns(rows: Sequence[Row]) -> list[TableColumn]:
    """Return what was asked for, a column for each server axis, the load last.

    Parameters
    ----------
    rows
        Measurements.

    Returns
    -------
    list of TableColumn
        Settings of perf_analyzer only where they differ.
    """
    known = {name: _column(name, rows) for name in (*_FIRST, *_SETTINGS, *_LAST)}
    said = [each for name, each in known.items() if name not in _LAST]
    said = [each for each in said if each.varies or each.name in (*_FIRST, "shapes")]
    if not known["repeat"].varies:
        del known["repeat"]
    load = [known[name] for name in _LAST if name in known]
    server = server_columns([[axis_texts(row["variant"])] for row in rows])
    at = len(_FIRST)
    return [*said[:at], *server, *said[at:], *load]


def _column(name: str, rows: Sequence[Row]) -> TableColumn:
    texts = tuple(TEXTS[name](row) for row in rows)
    phrases = tuple(phrase(name, text) for text in texts)
    return TableColumn(name, texts, phrases, right=name in _LAST)


def _reading_order(rows: Sequence[Row]) -> list[int]:
    """Return the rows' positions in the order of the campaign, the load varying fastest."""
    axes = server_axes(axis_texts(row["variant"]) for row in rows)

    def key(position: int) -> list[tuple[int, float, str]]:
        row = rows[position]
        server = axis_texts(row["variant"])
        words = [TEXTS[name](row) for name in _FIRST]
        words += [server.get(axis, BASE) for axis in axes]
        words += [TEXTS[name](row) for name in (*_SETTINGS, *_LAST)]
        place = row["model_position"]
        return [(0, -1 if place is None else place, ""), *map(_rank, words)]

    return sorted(range(len(rows)), key=key)


def _rank(text: str) -> tuple[int, float, str]:
    """What sorts cells: what is not there, numbers by their size, words."""
    if text in _NOTHING:
        return 0, float(_NOTHING.index(text)), ""
    try:
        return 1, float(text), ""
    except ValueError:
        return 2, 0.0, text


def _number(value: Any, divisor: float) -> str:
    if value is None or isnan(value):
        return NONE
    return f"{value / divisor:,.{1 if divisor == 1 else 2}f}"
