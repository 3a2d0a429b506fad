"""How a run ends on the screen: what was measured, the best of each model, and what to do next."""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console

from hpcbench.analysis.summary.invalid_rows import ACCEPTABLE, is_left_out, is_nothing_valid
from hpcbench.analysis.summary.same_servers import ALSO
from hpcbench.analysis.summary.searches import without_steps
from hpcbench.cli.console import line_width, print_folded, print_lines
from hpcbench.cli.lines import folded, folded_phrases
from hpcbench.cli.point_text import POINT, Row, counted, differing, point_phrases
from hpcbench.cli.results_table import MOST_ROWS, results_table
from hpcbench.cli.rows import earlier_text
from hpcbench.cli.statuses import counts_text, reason_lines, with_status
from hpcbench.errors import BadInput
from hpcbench.records import store
from hpcbench.records.columns import MEASURED
from hpcbench.records.folder import Results
from hpcbench.records.frame import load_results
from hpcbench.records.model_files import current_digests, is_earlier
from hpcbench.records.validity import broken_rules

if TYPE_CHECKING:
    from hpcbench.analysis.decide.recommend import Recommendation
    from hpcbench.cluster.driver import Summary
    from hpcbench.records.rules import Rule

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
        print_lines(table, results_table(frame).lines(line_width(table)))
    width = line_width(console)
    text = f"{folder}: {counted(len(rows), 'measurement')}: {counts_text(rows)}"
    print_folded(console, text, "bold")
    if earlier.any():
        print_folded(console, earlier_text(int(earlier.sum())))
    for line in reason_lines(rows, width, most_points=0):
        print_folded(console, line)
    for line in left_out_lines(frame):
        print_folded(console, line)
    for line in best_lines(frame, rows, width):
        print_folded(console, line)
    for line in next_lines(frame, rows, summary, folder):
        print_folded(console, shell_line(line, width))
    return frame


def left_out_lines(frame: pd.DataFrame) -> list[str]:
    """Say how many measurements no decision and no figure will use.

    Parameters
    ----------
    frame
        Measurements with ``invalid_reasons``.

    Returns
    -------
    list of str
        A line; none where all are used, or none is, which `best_lines` says.
    """
    count = int(is_left_out(frame).sum())
    if not count or is_nothing_valid(frame):
        return []
    are = "is not valid and is" if count == 1 else "are not valid and are"
    return [f"{counted(count, 'measurement')} {are} left out: hpcbench check says why"]


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
            point += [f"the same as {also}"] if (also := one.best.get(ALSO)) else []
            lines.append(_best(one, one.best, more, width))
            lines.append(folded_phrases(point, width, "    ", 8))
    if lines or not any(row["status"] in MEASURED for row in rows):
        return ["best throughput:", *lines] if lines else []
    none = "best throughput: none, no measurement is valid: hpcbench check says why"
    return [none, *_invalid_lines(frame)]


def _invalid_lines(frame: pd.DataFrame) -> list[str]:
    """Which rules measurements break that are left out, the most frequent first."""
    return [f"  {n} x {rule.code}: {rule.meaning}" for rule, n in _rules(frame).most_common()]


def _rules(frame: pd.DataFrame) -> "Counter[Rule]":
    texts = frame["invalid_reasons"].dropna()
    broken = (rule for text in texts for rule in broken_rules(str(text)))
    return Counter(rule for rule in broken if rule.left_out)


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
    if is_nothing_valid(frame):
        lines += _invalid_ways(frame)
    return lines


def _invalid_ways(frame: pd.DataFrame) -> list[str]:
    """What can be done where nothing is valid, as far as the user decides over it."""
    codes = [rule.code for rule in _rules(frame)]
    if not codes or not set(codes) <= set(ACCEPTABLE):
        return []
    options = " ".join(f"--accept {code}" for code in codes)
    return [
        "--new-session of run measures all points again, as on a quieter machine;",
        f"{options} of recommend, plot and report takes these all the same",
    ]


def _next_command(frame: pd.DataFrame, summary: "Summary") -> str:
    """Return what tells most: why points failed, why none is valid, or which is best."""
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
