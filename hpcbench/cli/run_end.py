"""How a run ends on the screen: what was measured, the best of each model, and what to do next."""

import shlex
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from hpcbench.analysis.summary.searches import without_steps
from hpcbench.cli.console import line_width, print_folded, print_lines
from hpcbench.cli.fold import folded, folded_phrases
from hpcbench.cli.point_text import (
    BASE,
    NONE,
    POINT,
    TEXTS,
    Row,
    axis_texts,
    counted,
    differing,
    phrase,
    point_phrases,
)
from hpcbench.cli.rows import earlier_text
from hpcbench.cli.statuses import counts_text, reason_lines, with_status
from hpcbench.cli.table import Column, server_axes, server_columns, table_lines
from hpcbench.errors import BadInput
from hpcbench.records import store
from hpcbench.records.columns import MEASURED
from hpcbench.records.folder import Results
from hpcbench.records.frame import load_results
from hpcbench.records.model_files import current_digests, is_earlier

if TYPE_CHECKING:
    from hpcbench.analysis.decide.recommend import Recommendation
    from hpcbench.cluster.driver import Summary


MOST_ROWS = 200
"""A run ends with a table of its measurements if there are at most this many."""

FIGURES = (
    ("batch_size", "throughput_latency_vs_batch"),
    ("concurrency", "throughput_latency_vs_concurrency"),
    ("request_rate", "throughput_latency_vs_rate"),
    ("instance_count", "throughput_utilisation_vs_instances"),
)
"""Axes, and the figure that shows the metrics over one."""


def print_end(summary: "Summary", folder: Path, table: Console, console: Console) -> pd.DataFrame:
    """Print how a run ended.

    Parameters
    ----------
    summary
        How it ended.
    folder
        The results folder as the user names it.
    table
        Where the table of measurements goes, which may be piped.
    console
        Where the rest goes.

    Returns
    -------
    pandas.DataFrame
        The measurements of the present model files, as they were read for this.
    """
    results = Results(summary.results)
    # What was damaged is moved aside and reported by now.
    frame = without_steps(load_results(results.folder))
    earlier = is_earlier(frame, current_digests(results.folder))
    frame = frame[~earlier].reset_index(drop=True)
    rows = with_status(store.read_plan(results), store.read_statuses(results))
    if len(frame) <= MOST_ROWS:
        print_lines(table, results_table(frame, line_width(table)))
    width = line_width(console)
    text = f"{folder}: {counted(len(rows), 'measurement')}: {counts_text(rows)}"
    print_folded(console, text, "bold")
    if earlier.any():
        print_folded(console, earlier_text(int(earlier.sum())))
    for line in reason_lines(rows, width, most_points=0):
        print_folded(console, line)
    for line in best_lines(frame, rows, width):
        print_folded(console, line)
    for line in next_lines(frame, rows, summary, folder):
        print_folded(console, shell_line(line, width))
    return frame


def best_lines(frame: pd.DataFrame, rows: Sequence[Row], width: int | None) -> list[str]:
    """Return which configuration of each model has the highest throughput on each device.

    Parameters
    ----------
    frame
        Measurements with the columns of `candidates.RECOMMEND_COLUMNS`.
    rows
        What the run set out to measure.
    width
        How wide a line may be; None for any width.

    Returns
    -------
    list of str
        The lines; none where there is nothing to choose from.
    """
    from hpcbench.analysis.decide.recommend import recommend_configurations
    from hpcbench.analysis.decide.recommend_text import recommendation_distinctions
    from hpcbench.analysis.summary.limits import Requirements

    try:
        advice = recommend_configurations(frame, Requirements())
    except BadInput:
        # No results, or none of a model that had its server alone.
        return []
    names = [*POINT[1:], *(name for name in differing(rows) if name != "repeat")]
    lines = []
    for one, more in zip(advice, recommendation_distinctions(advice), strict=True):
        if one.best is not None:
            point = point_phrases(one.best, names)
            lines.append(_best(one, one.best, more, width))
            lines.append(folded_phrases(point, width, "    ", 8))
    if lines or not any(row["status"] in MEASURED for row in rows):
        return ["best throughput:", *lines] if lines else []
    return ["best throughput: none, no measurement is valid: hpcbench check says why"]


def _best(one: "Recommendation", best: Row, more: str, width: int | None) -> str:
    from hpcbench.analysis.decide.recommend_text import recommendation_title
    from hpcbench.analysis.summary.limits import LATENCY, THROUGHPUT
    from hpcbench.analysis.summary.number_format import format_with_error

    repeats = best["measured"]
    known = f"from {repeats} repeats" if repeats > 1 else "measured once"
    phrases = [
        f"{format_with_error(best, THROUGHPUT.column)} infer/s",
        f"p99 {format_with_error(best, LATENCY.column)} ms",
        known,
        *([f"{best['unstable']} did not settle"] if best["unstable"] else []),
        *([f"{counted(len(one.as_good), 'other')} as good"] if one.as_good else []),
    ]
    title = recommendation_title(one, more)
    return folded_phrases(phrases, width, f"  {title}: ", 6)


def next_lines(
    frame: pd.DataFrame, rows: Sequence[Row], summary: "Summary", folder: Path
) -> list[str]:
    """Return the figure to look at and the next command, as they can be typed.

    Parameters
    ----------
    frame
        What was measured.
    rows
        What the run set out to measure, with the ``status`` of each.
    summary
        How it ended.
    folder
        The results folder as the user names it.

    Returns
    -------
    list of str
        The lines.
    """
    name, out = (shlex.quote(str(path)) for path in (folder, folder / "figures"))
    lines = []
    if any(row["status"] in MEASURED for row in rows):
        lines.append(f"figure: hpcbench plot {name} --out {out} --figure {figure_name(frame)}")
    lines.append(f"next:   hpcbench {_next_command(frame, summary)} {name}")
    if summary.exit_code:
        lines.append("the same run command tries again what failed or is missing")
    elif not summary.measured_now:
        lines.append("nothing was left to measure; --new-session measures all points again")
    return lines


def _next_command(frame: pd.DataFrame, summary: "Summary") -> str:
    """Return what tells most: why points failed, why none is valid, or which is best."""
    from hpcbench.analysis.summary.invalid_rows import is_nothing_valid

    if summary.exit_code:
        return "status"
    return "check" if is_nothing_valid(frame) else "recommend"


def shell_line(line: str, width: int | None) -> str:
    """Fold a command so that it can be copied from the screen.

    Parameters
    ----------
    line
        The command, after what it is for.
    width
        How wide a line may be; None for any width.

    Returns
    -------
    str
        A shell takes the lines for one.
    """
    if ": " not in line or width is None or len(line) <= width:
        return line
    return folded(line, width - 2, 12).replace("\n", " \\\n")


def figure_name(frame: pd.DataFrame) -> str:
    """Return the figure that shows most of some measurements.

    Parameters
    ----------
    frame
        The measurements.

    Returns
    -------
    str
        That over the axis with most values; the Pareto front where there is none.
    """
    measured = frame[frame["status"].isin(MEASURED)]
    values = {figure: measured[axis].nunique() for axis, figure in FIGURES}
    most = max(values, key=lambda figure: values[figure])
    return most if values[most] > 1 else "pareto_front"


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


def results_table(frame: "pd.DataFrame", width: int | None) -> list[Text]:
    """Return a table with throughput and latency, a row for each measurement.

    Parameters
    ----------
    frame
        Measurements as `hpcbench.records.frame.load_results` returns them.
    width
        How wide a line may be; None for whole rows with all columns, as programs read them.

    Returns
    -------
    list of Text
        The lines, in the order of the campaign.
    """
    points = frame[[*store.PLAN_SCHEMA.names, "model_position"]].astype(object)
    # The label of a model that an ensemble calls has its version already.
    points["model_version"] = points["model_version"].mask(frame["part_of"].notna())
    rows: list[Any] = points.where(points.notna(), None).to_dict("records")
    order = _reading_order(rows)
    sorted_frame = frame.iloc[order]
    found = [
        Column(name, tuple(_number(value, divisor) for value in sorted_frame[column]))
        for name, column, divisor in _METRICS
    ]
    found.append(Column("status", tuple(sorted_frame["status"]), right=False))
    return table_lines(asked_columns([rows[i] for i in order]), found, width)


def asked_columns(rows: Sequence[Row]) -> list[Column]:
    """Return what was asked for, a column for each server axis, the load last.

    Parameters
    ----------
    rows
        Measurements.

    Returns
    -------
    list of Column
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


def _column(name: str, rows: Sequence[Row]) -> Column:
    texts = tuple(TEXTS[name](row) for row in rows)
    phrases = tuple(phrase(name, text) for text in texts)
    return Column(name, texts, phrases, right=name in _LAST)


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
