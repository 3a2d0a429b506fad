"""What stands around the panels of a figure: header, legend and notes.

Panels keep their size. The figure grows by the height of its legend and its notes.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend

from hpcbench.analysis.figures.styles import SMALL_PT, Style

WIDE_IN = 20.0
NARROW_IN = 12.5
_LABELS_IN = 1.6
_MOST_ABOVE = 2
_BESIDE_IN = 7.5

# Share of the width that text may fill.
_TEXT_SHARE = 0.93

LegendEntry = tuple[str, Any]
"""A text and its handle: an artist, or a tuple of artists on top of each other."""


@dataclass(frozen=True)
class Surroundings:
    """Texts and legend around the panels of a figure.

    Attributes
    ----------
    campaign
        Name beside that of the program, above the first panel; None for no header.
    legend_title
        What all series share; may be empty.
    legend_entries
        One entry for each series or symbol.
    notes
        Sentences below the panels, one paragraph each; empty ones are left out.
    beside
        Whether a legend of more than two entries stands right of the panels, so that the figure
        stays as wide as a slide.
    """

    campaign: str | None
    legend_title: str
    legend_entries: Sequence[LegendEntry]
    notes: Sequence[str]
    beside: bool = False


def new_figure(width_in: float, *, hspace: float = 0, wspace: float = 0.02) -> Figure:
    """Make a figure without panels that needs no display.

    ``pyplot`` is not used: it would keep every figure in memory and choose a backend for the
    whole process.

    Parameters
    ----------
    width_in
        Width in inches.
    hspace, wspace
        Space between panels, as a share of their size.

    Returns
    -------
    Figure
        An empty figure. `finish_figure` sets its height.
    """
    figure = Figure(
        figsize=(width_in, 8),
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, wspace=wspace, hspace=hspace),
    )
    FigureCanvasAgg(figure)
    return figure


def finish_figure(
    figure: Figure, style: Style, panels_in: float, surroundings: Surroundings
) -> None:
    """Write header, legend and notes around the panels, and fix the layout.

    Parameters
    ----------
    figure
        Figure with all its panels.
    style
        Style of the figure.
    panels_in
        Height of all panels together in inches.
    surroundings
        Texts and legend.
    """
    if surroundings.campaign is not None:
        _write_header(figure.axes[0], style, surroundings.campaign)
    beside = surroundings.beside and len(surroundings.legend_entries) > _MOST_ABOVE
    least_in = 0.0
    if beside:
        title, entries = surroundings.legend_title, surroundings.legend_entries
        least_in = _add_legend_beside(figure, title, entries)
    width_in = figure.get_size_inches()[0]
    notes = [wrap_text(note, SMALL_PT, width_in) for note in surroundings.notes if note]
    note = figure.supxlabel(
        "\n".join(notes),
        x=0.01,
        ha="left",
        fontsize=SMALL_PT,
        color="0.25",
        parse_math=False,
        linespacing=1.3,
    )
    # The legend is measured in a figure of the final width; its height follows from that.
    figure.set_size_inches(width_in, panels_in)
    around: list[Any] = [note]
    if not beside and (surroundings.legend_entries or surroundings.legend_title):
        around.append(_add_legend(figure, surroundings.legend_title, surroundings.legend_entries))
    around_pt = sum(artist.get_window_extent().height for artist in around)
    height_in = panels_in + around_pt / figure.dpi + _LABELS_IN
    figure.set_size_inches(width_in, max(height_in, least_in))
    figure.align_ylabels()
    # Matplotlib makes ticks when it draws: after the style's context they would not be in style.
    figure.draw_without_rendering()
    # Else each file would find the same places again, which takes longer than to draw it.
    figure.set_layout_engine("none")


def _write_header(ax: Axes, style: Style, campaign: str) -> None:
    name = ax.annotate(
        "hpcbench",
        (0, 1),
        (0, 8),
        "axes fraction",
        "offset points",
        va="bottom",
        **style.program_text,
    )
    beside = ax.annotate(
        campaign,
        (1, 0),
        (10, 0),
        name,
        "offset points",
        va="bottom",
        parse_math=False,
        **style.campaign_text,
    )
    # A long name may run on over the panel beside, where nothing stands.
    beside.set_in_layout(False)


def _add_legend_beside(figure: Figure, title: str, entries: Sequence[LegendEntry]) -> float:
    """Add the legend right of the panels, widen the figure by it, and return its height [in]."""
    size_pt, title_pt = mpl.rcParams["legend.fontsize"], mpl.rcParams["legend.title_fontsize"]
    legend = figure.legend(
        [handle for _, handle in entries],
        [wrap_text(text, size_pt, _BESIDE_IN) for text, _ in entries],
        title=wrap_text(title, title_pt, _BESIDE_IN) or None,
        loc="outside right upper",
        alignment="left",
        handletextpad=0.6,
        borderaxespad=0.2,
    )
    for text in (*legend.get_texts(), legend.get_title()):
        # Names come from users: a dollar sign is a dollar sign.
        text.set_parse_math(False)
    width_in, height_in = figure.get_size_inches()
    extent = legend.get_window_extent()
    figure.set_size_inches(width_in + extent.width / figure.dpi, height_in)
    return float(extent.height / figure.dpi) + 0.3


def _add_legend(figure: Figure, title: str, entries: Sequence[LegendEntry]) -> Legend:
    """Add the legend in as few rows as fit the width."""
    width_in = figure.get_size_inches()[0]
    size_pt, title_pt = mpl.rcParams["legend.fontsize"], mpl.rcParams["legend.title_fontsize"]
    texts = [wrap_text(text, size_pt, width_in) for text, _ in entries]
    heading = wrap_text(title, title_pt, width_in)
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
            # Names come from users: a dollar sign is a dollar sign.
            text.set_parse_math(False)
        if rows >= len(texts) or legend.get_window_extent().width < 0.96 * figure.bbox.width:
            break
        legend.remove()
    return legend


def wrap_text(text: str, size_pt: float, width_in: float, most_lines: int = 99) -> str:
    """Break a text into lines that fit a width in the current font.

    Parameters
    ----------
    text
        Text without line breaks.
    size_pt
        Font size in points.
    width_in
        Width in inches.
    most_lines
        Upper limit on the lines. Of longer texts the beginning and the end are kept.

    Returns
    -------
    str
        The text with line breaks.
    """
    scratch = Figure(dpi=72)
    FigureCanvasAgg(scratch)
    family = mpl.rcParams["font.family"]
    label = scratch.text(0, 0, text, family=family, size=size_pt, parse_math=False)
    most_pt = _TEXT_SHARE * width_in * 72
    if label.get_window_extent().width < most_pt:
        return text
    # Letters differ in width, so that only the drawn text says whether it fits.
    for characters in range(220, 5, -8):
        label.set_text(textwrap.fill(text, characters))
        if label.get_window_extent().width < most_pt:
            break
    lines = label.get_text().split("\n")
    if len(lines) > most_lines:
        # Names of configurations differ at their ends.
        lines = [*lines[: most_lines - 1], f"… {lines[-1]}"]
    return "\n".join(lines)


def rows_height_in(labels: Sequence[str], size_pt: float, least_in: float) -> float:
    """Return the height that rows with these labels need.

    Parameters
    ----------
    labels
        One label for each row, with line breaks.
    size_pt
        Font size in points.
    least_in
        Least height of a row in inches.

    Returns
    -------
    float
        Height of all rows together in inches.
    """
    most = max(label.count("\n") + 1 for label in labels)
    return len(labels) * max(least_in, most * size_pt * 1.3 / 72 + 0.1)
