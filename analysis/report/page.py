"""The report: all results in one HTML file that needs no network and no other file.

Strings in results come from users, servers and logs, and none of them is trusted: the template
escapes them, the scripts write them as text only, and the page's Content-Security-Policy lets no
other script run and nothing be loaded.

The figure and the table are drawn by the scripts in ``templates`` (40 kB) and not by a plotting
library: plotly alone adds 4.8 MB to each report, starts slowly and has no table. The data of
10,000 points in 30,000 measurements take 1.8 MB, those of 100,000 points 7 MB.
"""

import base64
import gzip
import hashlib
import io
import itertools
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd

from hpcbench.analysis.decide.compare_components import (
    component_texts,
    components_of_results,
    together_text,
)
from hpcbench.analysis.figures.registry import PreparedFigure, prepare_figures
from hpcbench.analysis.figures.save import Track
from hpcbench.analysis.figures.styles import DEFAULT_STYLE, get_style
from hpcbench.analysis.report import page_data, sections
from hpcbench.analysis.report.page_data import ReportPoints
from hpcbench.analysis.report.problems import MOST_PROBLEMS, Problem, find_problems
from hpcbench.analysis.report.sections import NO_VALUE
from hpcbench.analysis.summary import configuration, statistics
from hpcbench.analysis.summary.configuration_names import describe_configuration
from hpcbench.analysis.summary.invalid_rows import accepted_text, without_invalid
from hpcbench.analysis.summary.number_format import format_number
from hpcbench.analysis.summary.points import summarise
from hpcbench.analysis.summary.searches import without_steps
from hpcbench.errors import BadInput

MOST_POINTS = 100_000
"""A browser sorts and filters so many without a pause."""

MOST_FIGURES = 10
"""Each takes a second to draw and 30 kB of the file."""

_SCRIPTS = ("data", "scale", "drawing", "picks", "pointer", "chart", "table", "page")
_MOST_CAMPAIGNS = 4

# Width of the bar of statuses in the units of its SVG, and the least share that can be seen.
_BAR_WIDTH, _LEAST_SHARE = 1000, 0.004


@dataclass(frozen=True)
class _ReportFigure:
    """A figure as SVG; ``name`` is that of the files that ``hpcbench plot`` writes."""

    name: str
    description: str
    svg: str
    width_in: float
    height_in: float


def write_report(frame: pd.DataFrame, out: Path, source: str = "", *, track: Track = iter) -> Path:
    """Write the report of results to a file.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them.
    out
        File to write; it is replaced.
    source
        Where the results come from, for the last line of the page.
    track
        As for `hpcbench.analysis.figures.save.save_figures`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    BadInput
        If there are no results, or the file cannot be written.
    """
    if frame.empty:
        raise BadInput(f"{source or 'this'}: there are no results yet", "hpcbench run makes them")
    is_new = not out.exists()
    try:
        # Before all work: whether it can be written.
        out.open("ab").close()
        if is_new:
            out.unlink()
        page = render_report(frame, source=source, made_at=datetime.now(UTC), track=track)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"--out {out}: cannot be written: {error.strerror}",
            "name a file in a folder in which you may create files",
        ) from error
    return out


def render_report(
    frame: pd.DataFrame, *, source: str, made_at: datetime, track: Track = iter
) -> str:
    """Return the report of results as one HTML page.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them; at least one row.
    source
        Where the results come from, for the last line of the page.
    made_at
        Time for the last line of the page, in UTC.
    track
        As for `hpcbench.analysis.figures.save.save_figures`.

    Returns
    -------
    str
        The page; the same arguments give the same page to the last byte.
    """
    with_steps = without_invalid(frame)
    frame = without_steps(with_steps)
    points = page_data.report_points(frame)
    shown, left_out = _fastest_points(points)
    figures, more_figures = _report_figures(with_steps, track)
    data = {
        "figures": [figure.svg for figure in figures],
        "count": len(shown.table),
        "columns": page_data.point_columns(shown),
        "repeats": page_data.measurement_columns(shown),
        "bars": f"Bars: {statistics.CONFIDENCE:.0%} interval of the mean (Student's t), from three "
        "measurements on.",
    }
    style = _template_file("report.css")
    script = "\n".join(_template_file(f"report_{name}.js") for name in _SCRIPTS)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=_title(frame),
            lead=_lead(frame),
            policy=_security_policy(style, script),
            style=style,
            script=script,
            data=_packed(data),
            figures=figures,
            more_figures=more_figures,
            left_out=" ".join(filter(None, [left_out, _accepted(frame)])),
            shared=_shared_settings(shown.table),
            best=sections.best_configurations(shown),
            confidence=f"{statistics.CONFIDENCE:.0%}",
            version=metadata.version("triton-hpcbench"),
            source=source,
            made_at=made_at,
            **_section_values(frame, points),
        )
    )


def _accepted(frame: pd.DataFrame) -> str:
    count = int(frame["accepted"].sum()) if "accepted" in frame else 0
    return f"{accepted_text(count)}." if count else ""


def _section_values(frame: pd.DataFrame, points: ReportPoints) -> dict[str, Any]:
    """Return what the sections of all results show, by its name in the template."""
    problems = find_problems(points)
    configs = sections.server_configs(frame)
    counts = sections.status_counts(frame)
    spread = components_of_results(frame)
    return {
        "sizes": {
            "points": len(points.table),
            "measurements": len(frame),
            "models": frame["model_label"].nunique(),
            "devices": points.table["device"].nunique(),
            "sites": frame["site"].nunique(),
        },
        "statuses": counts,
        "shares": _status_bar(counts),
        "campaigns": sections.campaigns_run(points),
        "spread": component_texts(spread),
        "spread_together": together_text(spread),
        "problems": problems[:MOST_PROBLEMS],
        "problems_left_out": _problems_left_out(problems),
        "software": sections.software_used(frame),
        "nodes": sections.node_types(frame),
        "models": sections.models_served(frame),
        "commands": sections.first_commands(frame),
        "configs": configs[: sections.MOST_CONFIGS],
        "configs_left_out": len(configs[sections.MOST_CONFIGS :]),
    }


def _packed(data: Any) -> str:
    # Base64 has no character with a meaning in HTML.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def _report_figures(frame: pd.DataFrame, track: Track) -> tuple[list[_ReportFigure], int]:
    """Return at most MOST_FIGURES figures of the results, and how many more there are."""
    prepared, _ = prepare_figures(summarise(frame))
    chosen = _some_of_each_kind(prepared, MOST_FIGURES)
    return [_draw_svg(figure) for figure in track(chosen)], len(prepared) - len(chosen)


def _some_of_each_kind(prepared: list[PreparedFigure], most: int) -> list[PreparedFigure]:
    """Choose the first figure of every kind, then the second of every kind, and so on."""
    kinds = [list(group) for _, group in itertools.groupby(prepared, lambda one: one.kind.name)]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*kinds))
    names = {one.name for one in itertools.islice((one for one in turns if one), most)}
    return [one for one in prepared if one.name in names]


def _draw_svg(prepared: PreparedFigure) -> _ReportFigure:
    figure = prepared.draw()
    sink = io.StringIO()
    # Without a salt and with a date matplotlib writes another file each time.
    with get_style(DEFAULT_STYLE).context(), mpl.rc_context({"svg.hashsalt": prepared.name}):
        figure.savefig(sink, format="svg", metadata={"Date": None})
    width, height = (float(size) for size in figure.get_size_inches())
    return _ReportFigure(prepared.name, prepared.kind.description, sink.getvalue(), width, height)


def _fastest_points(points: ReportPoints) -> tuple[ReportPoints, str]:
    """Return the points that the page has room for, and a note on the others.

    Those with the highest throughput of each model on each device come first, so that no model
    and no device is lost.
    """
    total = len(points.table)
    if total <= MOST_POINTS:
        return points, ""
    table = points.table
    throughput = _floats(table, "throughput_infer_per_s")
    ranked = table.assign(throughput=np.nan_to_num(throughput, nan=-1.0))
    groups = ranked.groupby(["model_label", "device"], dropna=False, sort=False)
    places = groups["throughput"].rank(method="first", ascending=False).to_numpy()
    chosen = np.sort(np.argsort(places, kind="stable")[:MOST_POINTS])
    new = np.full(total, -1)
    new[chosen] = np.arange(MOST_POINTS)
    numbers = new[points.numbers]
    rows = np.flatnonzero(numbers >= 0)
    table = table.iloc[chosen].reset_index(drop=True)
    table["row"] = np.searchsorted(rows, table["row"])
    frame = points.frame.iloc[rows].reset_index(drop=True)
    return ReportPoints(frame, table, numbers[rows]), (
        f"This page holds {MOST_POINTS:,} of {total:,} points: those with the highest throughput "
        "of each model on each device. The summary counts all. The records hold the others; a "
        "report of fewer results shows them."
    )


def _shared_settings(table: pd.DataFrame) -> str:
    """Return how all points were measured, as far as it is the same for all."""
    texts = describe_configuration(configuration.plain_rows(table, [0])[0])
    names = [name for name in configuration.MEASUREMENT if name in texts]
    return ", ".join(texts[name] for name in names if len(table[name].drop_duplicates()) == 1)


def _floats(table: pd.DataFrame, name: str) -> configuration.Array:
    return configuration.as_floats(table[name]) if name in table else np.full(len(table), np.nan)


def _title(frame: pd.DataFrame) -> str:
    campaigns = [str(name) for name in frame["campaign"].drop_duplicates()]
    more = len(campaigns[_MOST_CAMPAIGNS:])
    return ", ".join(campaigns[:_MOST_CAMPAIGNS]) + (f" and {more} more" if more else "")


def _lead(frame: pd.DataFrame) -> str:
    """Return when and on how many nodes the results were measured."""
    times = [_moment(frame["started_at"].min()), _moment(frame["ended_at"].max())]
    nodes = frame["node"].nunique()
    parts = [f"{nodes} node{'s' * (nodes != 1)} at {', '.join(sorted(set(frame['site'])))}"]
    if NO_VALUE not in times:
        parts.append(f"measured from {times[0]} to {times[1]} UTC")
    return ", ".join(parts)


def _status_bar(counts: list[tuple[str, int, str]]) -> list[dict[str, Any]]:
    """Return the parts of the bar of statuses; each status that occurs can be seen."""
    least = _LEAST_SHARE * sum(count for _, count, _ in counts)
    present = [(status, max(count, least)) for status, count, _ in counts if count]
    total = sum(size for _, size in present)
    shares, x = [], 0.0
    for status, size in present:
        width = _BAR_WIDTH * size / total
        shares.append({"status": status, "x": round(x, 2), "width": round(width, 2)})
        x += width
    return shares


def _problems_left_out(problems: list[Problem]) -> str:
    rest = problems[MOST_PROBLEMS:]
    if not rest:
        return ""
    return f"And {len(rest)} more reasons for {sum(one.count for one in rest)} measurements."


def _security_policy(style: str, script: str) -> str:
    """Return a Content-Security-Policy: this style, this script, images of the page, no network.

    See https://www.w3.org/TR/CSP3/#external-hash for the hashes.
    """

    def hashed(text: str) -> str:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"'sha256-{digest}'"

    return (
        f"default-src 'none'; img-src blob:; style-src {hashed(style)}; "
        f"script-src {hashed(script)}; base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hpcbench.analysis.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": _moment,
        "plain": format_number,
        "gib": lambda value: NO_VALUE if value is None else f"{value / 2**30:.0f} GiB",
        "words": lambda text: text.replace("_", " "),
    }
    return environment


def _template_file(name: str) -> str:
    return (
        resources.files("hpcbench.analysis.report")
        .joinpath("templates", name)
        .read_text(encoding="utf-8")
    )


def _moment(time: Any) -> str:
    return NO_VALUE if pd.isna(time) else f"{time:%Y-%m-%d %H:%M}"
