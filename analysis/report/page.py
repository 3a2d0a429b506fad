"""The report: all results in one HTML file that needs no network and no other file.

Texts in results come from users, servers and logs, so none of them is trusted: what stands in the
page is escaped by the template, what the scripts show is compressed data that they only ever write
as text, and the page's own policy lets no script run but its own and nothing be fetched.

The figure and the table are drawn by scripts of this package (analysis/report/templates, 40 kB)
rather
than by a plotting library: plotly's takes 4.8 MB and its own time to start in each report, and has
no table. Data of 10,000 points in 30,000 measurements take 1.8 MB, those of 100,000 points 7 MB.
"""

import base64
import gzip
import hashlib
import json
from datetime import UTC, datetime
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from hpcbench.analysis.report import data as report_columns
from hpcbench.analysis.report import pictures as report_figures
from hpcbench.analysis.report import sections
from hpcbench.analysis.report.data import Points
from hpcbench.analysis.report.sections import NONE
from hpcbench.analysis.summary import configuration, statistics
from hpcbench.analysis.summary.configuration_names import describe_configuration
from hpcbench.analysis.summary.number_format import format_number
from hpcbench.errors import BadInput

MOST_POINTS = 100_000
"""A browser sorts and filters as many without a pause."""

_SCRIPTS = ("data", "scale", "drawing", "picks", "pointer", "chart", "table", "page")


def write(frame: pd.DataFrame, out: Path, source: str = "") -> Path:
    """Writes the report of ``frame``, as `load_results` gives it. ``source`` is its name.

    Raises BadInput where there are no results, or ``out`` cannot be written.
    """
    if frame.empty:
        raise BadInput(f"{source or 'this'}: there are no results yet", "hpcbench run makes them")
    page = render(frame, source=source, made_at=datetime.now(UTC))
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"--out {out}: cannot be written: {error.strerror}",
            "name a file in a folder in which you may create files",
        ) from error
    return out


def render(frame: pd.DataFrame, *, source: str, made_at: datetime) -> str:
    """The whole page. ``frame`` has at least one row."""
    points = report_columns.points_of(frame)
    shown, left_out = _most_telling(points)
    columns = report_columns.columns(shown)
    pictures, more_pictures = report_figures.drawn(frame)
    data = {
        "figures": [picture.svg for picture in pictures],
        "count": len(shown.table),
        "columns": columns,
        "repeats": report_columns.repeats(shown),
        "bars": f"Bars: {statistics.CONFIDENCE:.0%} interval of the mean (Student's t), of three "
        "measurements or more.",
    }
    style, script = _part("report.css"), "\n".join(_part(f"report_{n}.js") for n in _SCRIPTS)
    troubles = sections.troubles(points)
    configs = sections.server_configs(frame)
    campaigns = [str(name) for name in frame["campaign"].drop_duplicates()]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=", ".join(campaigns[:4])
            + (f" and {len(campaigns[4:])} more" if campaigns[4:] else ""),
            lead=_lead(frame),
            policy=_policy(style, script),
            style=style,
            script=script,
            data=packed(data),
            sizes={
                "points": len(points.table),
                "measurements": len(frame),
                "models": frame["model_label"].nunique(),
                "devices": points.table["device"].nunique(),
                "sites": frame["site"].nunique(),
            },
            statuses=(counts := sections.counts(frame)),
            shares=_shares(counts),
            best=sections.best(shown),
            confidence=f"{statistics.CONFIDENCE:.0%}",
            origins=sections.origins(points),
            figures=pictures,
            more_figures=more_pictures,
            left_out=left_out,
            shared=_shared(shown.table),
            troubles=troubles[: sections.MOST_GROUPS],
            troubles_left_out=_others(troubles),
            software=sections.software(frame),
            machines=sections.machines(frame),
            models=sections.models(frame),
            commands=sections.commands(frame),
            configs=configs[: sections.MOST_CONFIGS],
            configs_left_out=len(configs[sections.MOST_CONFIGS :]),
            version=metadata.version("triton-hpcbench"),
            source=source,
            made_at=made_at,
        )
    )


def packed(data: Any) -> str:
    """JSON in gzip in base64: small, and without a character that means anything to HTML."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def _most_telling(points: Points) -> tuple[Points, str]:
    """The points that the page has room for, and a note on the others.

    Of each model on each device those of the highest throughput come first, so that no model and
    no device is lost.
    """
    total = len(points.table)
    if total <= MOST_POINTS:
        return points, ""
    table = points.table
    throughput = _column(table, "throughput_infer_per_s")
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
    return Points(frame, table, numbers[rows]), (
        f"This page holds {MOST_POINTS:,} of {total:,} points: of each model on each device those "
        "of the highest throughput. The summary counts all. Make a report of fewer results for "
        "the others; the records have them all."
    )


def _shared(table: pd.DataFrame) -> str:
    """How all points were measured, as far as it is the same for all."""
    told = describe_configuration(configuration.plain_rows(table, [0])[0])
    names = [name for name in configuration.MEASUREMENT if name in told]
    return ", ".join(told[name] for name in names if len(table[name].drop_duplicates()) == 1)


def _column(table: pd.DataFrame, name: str) -> configuration.Array:
    return configuration.as_floats(table[name]) if name in table else np.full(len(table), np.nan)


def _lead(frame: pd.DataFrame) -> str:
    """When and on how many nodes the results were made."""
    times = [_moment(frame["started_at"].min()), _moment(frame["ended_at"].max())]
    nodes = frame["node"].nunique()
    told = [f"{nodes} node{'s' * (nodes != 1)} at {', '.join(sorted(set(frame['site'])))}"]
    if NONE not in times:
        told.append(f"measured from {times[0]} to {times[1]} UTC")
    return ", ".join(told)


def _shares(counts: list[tuple[str, int, str]]) -> list[dict[str, Any]]:
    """The bar of statuses, 1000 units wide; what occurs at all can be seen."""
    present = [
        (status, max(count, sum(c for _, c, _ in counts) * 0.004))
        for status, count, _ in counts
        if count
    ]
    total = sum(size for _, size in present)
    shares, x = [], 0.0
    for status, size in present:
        width = 1000 * size / total
        shares.append({"status": status, "x": round(x, 2), "width": round(width, 2)})
        x += width
    return shares


def _others(troubles: list[sections.Trouble]) -> str:
    rest = troubles[sections.MOST_GROUPS :]
    if not rest:
        return ""
    return f"And {len(rest)} more reasons for {sum(t.count for t in rest)} measurements."


def _policy(style: str, script: str) -> str:
    """Only this style and this script, images from inside the page, and no connection at all."""

    def known(text: str) -> str:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"'sha256-{digest}'"

    return (
        f"default-src 'none'; img-src blob:; style-src {known(style)}; "
        f"script-src {known(script)}; base-uri 'none'; form-action 'none'"
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
        "gib": lambda value: NONE if value is None else f"{value / 2**30:.0f} GiB",
        "words": lambda text: text.replace("_", " "),
    }
    return environment


def _part(name: str) -> str:
    return (
        resources.files("hpcbench.analysis.report")
        .joinpath("templates", name)
        .read_text(encoding="utf-8")
    )


def _moment(time: Any) -> str:
    return NONE if pd.isna(time) else f"{time:%Y-%m-%d %H:%M}"
