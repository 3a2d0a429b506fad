"""Figures of results. Each takes a table of `analysis.table` and gives a matplotlib Figure.

Nothing here touches pyplot or matplotlib's global settings, so that it works the same in a
notebook, in a script and without a display.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import mplhep
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from analysis import axes, table, words
from analysis.panels import MOST_SERIES, Style, draw_ratios, draw_values
from hpcbench.errors import BadInput

STYLE: dict[str, Any] = {
    **mplhep.style.CMS,
    # Both come with the packages; the second has the letters that the first lacks.
    "font.family": ["TeX Gyre Heros", "DejaVu Sans"],
    "axes.labelpad": 8,
}

_WIDTH_IN = 20.0
_PANEL_PT = (_WIDTH_IN / 2 - 1.7) * 72
_MAIN_IN = 6.2
_RATIO_IN = 2.1
_LABELS_IN = 1.6
_SMALL_PT = 17
_LEGEND_PT = 22


def draw_all(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Writes every figure of ``frame``, as `load_results` gives it, into the folder ``out``.

    Each is a PNG, a PDF and, under the same name, a CSV of the numbers in it. Raises BadInput
    where there is nothing to draw, or ``out`` cannot be written.
    """
    points = table.summarise(frame)
    if not (points["measured"] > 0).any():
        raise _nothing_to_draw(frame)
    written: dict[Path, None] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, part in table.split(points, MOST_SERIES):
            stem = "_".join(filter(None, ["throughput_latency_vs_batch", words.file_name(name)]))
            if out / f"{stem}.png" in written:
                # Names that differ in letters which file names do without.
                stem += f"_{len(written)}"
            figure = throughput_latency_vs_batch(part)
            written |= dict.fromkeys(_write(figure, part, out / stem))
    except OSError as error:
        raise BadInput(
            f"--out {out}: cannot be written: {error.strerror}",
            "name a folder in which you may create files",
        ) from error
    return list(written)


def throughput_latency_vs_batch(points: pd.DataFrame) -> Figure:
    """Throughput [infer/s] and latency [ms] against batch size, each over its ratio.

    ``points`` is a table of `analysis.table.summarise` with at most MOST_SERIES series and one
    percentile. Points are means, their bars Student's t intervals of 95 %, which may reach out of
    the panel, or two repeats themselves. Hollow: a measurement among them did not settle. A cross
    at the lower edge: no figures, as the note below says. The ratio is to the first series that was
    measured; with one series there is none.
    """
    points = table.with_ratios(points)
    title, texts = words.legend(points)
    styles = {number: Style(rank) for rank, number in enumerate(sorted(texts))}
    latency = _latency_name(points)
    names = ("throughput [infer/s]", f"{latency} [ms]")
    notes = [
        words.conditions(points),
        words.statistics(points),
        words.absences(points, texts, latency),
    ]
    with matplotlib.style.context(STYLE):
        figure = Figure(
            layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, wspace=0.02, hspace=0)
        )
        FigureCanvasAgg(figure)
        heights = [_MAIN_IN, _RATIO_IN] if _has_ratio(points) else [_MAIN_IN]
        grid = figure.subplots(len(heights), 2, sharex="col", squeeze=False, height_ratios=heights)
        for panels, quantity, name in zip(grid.T, table.QUANTITIES, names, strict=True):
            draw_values(panels[0], points, quantity, styles, name)
            if len(heights) > 1:
                draw_ratios(panels[1], points, quantity, styles)
            axes.batch_size_axis(
                panels[-1], points["batch_size"].unique().tolist(), label_pt=22, axis_pt=_PANEL_PT
            )
            panels[-1].set_xlabel("Batch size [inferences per request]")
        _write_header(grid[0, 0], words.campaigns(points))
        drawn = set(points.loc[points["measured"] > 0, "series"])
        entries = [
            (text, styles[number].keywords(line=True))
            if number in drawn
            else (f"{text} (no result)", styles[number].cross())
            for number, text in texts.items()
        ]
        _write_around(figure, sum(heights), title, entries, notes)
    return figure


def _has_ratio(points: pd.DataFrame) -> bool:
    drawn = points[points["measured"] > 0]
    others = drawn[drawn["series"] != drawn["series"].min()]
    return bool(others[[f"{name}_ratio" for name in table.QUANTITIES]].notna().any(axis=None))


def _latency_name(points: pd.DataFrame) -> str:
    percentile = points["percentile"].iloc[0]
    return "mean latency" if percentile is None else f"p{percentile} latency"


def _write_header(ax: Axes, campaign: str) -> None:
    name = ax.annotate(
        "hpcbench", (0, 1), (0, 8), "axes fraction", "offset points", weight="bold", va="bottom"
    )
    beside = ax.annotate(
        campaign,
        (1, 0),
        (10, 0),
        name,
        "offset points",
        style="italic",
        fontsize="small",
        va="bottom",
        parse_math=False,
    )
    # A long one may run on over the other panel, where nothing stands.
    beside.set_in_layout(False)


def _write_around(
    figure: Figure,
    panels_in: float,
    title: str,
    entries: Sequence[tuple[str, dict[str, Any]]],
    notes: Sequence[str],
) -> None:
    """Legend above, notes below; the figure grows by what they need, so that panels keep size."""
    note = figure.supxlabel(
        "\n".join(_wrapped(note, _SMALL_PT) for note in notes if note),
        x=0.01,
        ha="left",
        fontsize=_SMALL_PT,
        color="0.25",
        parse_math=False,
        linespacing=1.3,
    )
    figure.set_size_inches(_WIDTH_IN, panels_in)
    legend = _legend(figure, title, entries)
    around_pt = sum(artist.get_window_extent().height for artist in (note, legend))
    figure.set_size_inches(_WIDTH_IN, panels_in + around_pt / figure.dpi + _LABELS_IN)
    figure.align_ylabels()
    # Ticks made later would not be made in this style.
    figure.draw_without_rendering()


def _legend(figure: Figure, title: str, entries: Sequence[tuple[str, dict[str, Any]]]) -> Legend:
    """In as few rows as fit the width."""
    handles = [Line2D([], [], **keywords) for _, keywords in entries]
    for rows in range(-(-len(handles) // 4), len(handles) + 1):
        legend = figure.legend(
            handles,
            [_wrapped(text, _LEGEND_PT) for text, _ in entries],
            title=_wrapped(title, _LEGEND_PT * 1.2) or None,
            loc="outside upper left",
            alignment="left",
            ncols=-(-len(handles) // rows),
            columnspacing=1.5,
            handletextpad=0.6,
            borderaxespad=0.2,
        )
        for text in (*legend.get_texts(), legend.get_title()):
            text.set_parse_math(False)
        if rows == len(handles) or legend.get_window_extent().width < 0.96 * figure.bbox.width:
            break
        legend.remove()
    return legend


def _wrapped(text: str, size_pt: float) -> str:
    """The text in lines that fit the width of a figure."""
    scratch = Figure(dpi=72)
    FigureCanvasAgg(scratch)
    family = STYLE["font.family"]
    label = scratch.text(0, 0, text, family=family, size=size_pt, parse_math=False)
    for characters in range(180, 10, -10):
        label.set_text(textwrap.fill(text, characters))
        if label.get_window_extent().width < 0.93 * _WIDTH_IN * 72:
            break
    return label.get_text()


def _write(figure: Figure, points: pd.DataFrame, path: Path) -> list[Path]:
    """Writes the picture and its numbers. ``path`` has no suffix."""
    numbers = table.with_ratios(points)
    _, texts = words.legend(points)
    numbers.insert(1, "legend", [texts[number] for number in numbers["series"]])
    numbers.insert(2, "device", [words.device(row) for row in table.records(numbers)])
    paths = [path.with_suffix(suffix) for suffix in (".png", ".pdf", ".csv")]
    with matplotlib.style.context(STYLE):
        figure.savefig(paths[0], dpi=100)
        figure.savefig(paths[1])
    numbers.to_csv(paths[2], index=False)
    return paths


def _nothing_to_draw(frame: pd.DataFrame) -> BadInput:
    if frame.empty:
        return BadInput("there are no results to draw", "hpcbench run measures them")
    reason = frame["reason"].dropna()
    most = f"; most often: {reason.mode().iloc[0]}" if len(reason) else ""
    return BadInput(
        f"none of the {len(frame)} measurements has figures that could be drawn{most}",
        "hpcbench status shows what went wrong; the same hpcbench run command tries failed "
        "points again",
    )
