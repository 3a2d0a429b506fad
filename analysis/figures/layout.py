"""What stands around the panels of a figure: its header, legend and notes.

Panels keep their size: the figure grows by what its legend and its notes need.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from hpcbench.analysis.figures.styles import SMALL_PT, Preset

WIDE_IN = 20.0
NARROW_IN = 12.5
_LABELS_IN = 1.6

Entry = tuple[str, Any]
"""A text and its handle: an artist, or several in one place."""


def blank(width_in: float, *, hspace: float = 0, wspace: float = 0.02) -> Figure:
    """A figure of that width without panels, which needs no display."""
    figure = Figure(
        figsize=(width_in, 8),
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, wspace=wspace, hspace=hspace),
    )
    FigureCanvasAgg(figure)
    return figure


def line(**keywords: Any) -> Line2D:
    """A handle for the legend."""
    return Line2D([], [], **keywords)


def write_header(ax: Axes, preset: Preset, campaign: str) -> None:
    """The program's name and the campaign's, above the first panel."""
    name = ax.annotate(
        "hpcbench", (0, 1), (0, 8), "axes fraction", "offset points", va="bottom", **preset.mark
    )
    beside = ax.annotate(
        campaign,
        (1, 0),
        (10, 0),
        name,
        "offset points",
        va="bottom",
        parse_math=False,
        **preset.campaign,
    )
    # A long one may run on over the other panel, where nothing stands.
    beside.set_in_layout(False)


def write_around(
    figure: Figure,
    preset: Preset,
    panels_in: float,
    title: str,
    entries: Sequence[Entry],
    notes: Sequence[str],
) -> None:
    """Legend above, notes below. ``panels_in`` is the height of the panels together."""
    width_in = figure.get_size_inches()[0]
    note = figure.supxlabel(
        "\n".join(wrapped(note, SMALL_PT, width_in, preset) for note in notes if note),
        x=0.01,
        ha="left",
        fontsize=SMALL_PT,
        color="0.25",
        parse_math=False,
        linespacing=1.3,
    )
    figure.set_size_inches(width_in, panels_in)
    around = [note, *([_legend(figure, preset, title, entries)] if entries or title else [])]
    around_pt = sum(artist.get_window_extent().height for artist in around)
    figure.set_size_inches(width_in, panels_in + around_pt / figure.dpi + _LABELS_IN)
    figure.align_ylabels()
    # Ticks made later would not be made in this style.
    figure.draw_without_rendering()


def _legend(figure: Figure, preset: Preset, title: str, entries: Sequence[Entry]) -> Legend:
    """In as few rows as fit the width."""
    width_in = figure.get_size_inches()[0]
    size_pt = preset.rc["legend.fontsize"]
    texts = [wrapped(text, size_pt, width_in, preset) for text, _ in entries]
    heading = wrapped(title, preset.rc["legend.title_fontsize"], width_in, preset)
    for rows in range(-(-len(texts) // 4), max(len(texts), 1) + 1):
        legend = figure.legend(
            [handle for _, handle in entries],
            texts,
            title=heading or None,
            loc="outside upper left",
            alignment="left",
            ncols=-(-len(texts) // max(rows, 1)) or 1,
            columnspacing=1.5,
            handletextpad=0.6,
            borderaxespad=0.2,
        )
        for text in (*legend.get_texts(), legend.get_title()):
            text.set_parse_math(False)
        if rows >= len(texts) or legend.get_window_extent().width < 0.96 * figure.bbox.width:
            break
        legend.remove()
    return legend


def wrapped(text: str, size_pt: float, width_in: float, preset: Preset, most: int = 99) -> str:
    """The text in lines that fit the width; of more than ``most`` the middle is left out."""
    scratch = Figure(dpi=72)
    FigureCanvasAgg(scratch)
    family = preset.rc["font.family"]
    label = scratch.text(0, 0, text, family=family, size=size_pt, parse_math=False)
    if label.get_window_extent().width < 0.93 * width_in * 72:
        return text
    for characters in range(220, 5, -8):
        label.set_text(textwrap.fill(text, characters))
        if label.get_window_extent().width < 0.93 * width_in * 72:
            break
    lines = label.get_text().split("\n")
    if len(lines) > most:
        # The end of a configuration's name tells it from its neighbours.
        lines = [*lines[: most - 1], f"… {lines[-1]}"]
    return "\n".join(lines)


def rows_in(labels: Sequence[str], size_pt: float, least_in: float) -> float:
    """The height that rows with these labels need, together."""
    most = max(label.count("\n") + 1 for label in labels)
    return len(labels) * max(least_in, most * size_pt * 1.3 / 72 + 0.1)
