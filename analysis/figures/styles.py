"""Styles of the experiments, and a colour and marker for each series.

All styles share one scale of font sizes, so that a figure has the same layout in each.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib.style
import mplhep

from hpcbench.errors import BadInput

SMALL_PT = 17
TICK_PT = 22
LABEL_PT = 26

_SIZES: dict[str, Any] = {
    "font.size": LABEL_PT,
    "axes.labelsize": "medium",
    "axes.titlesize": "small",
    "axes.labelpad": 8,
    "xtick.labelsize": TICK_PT,
    "ytick.labelsize": TICK_PT,
    "legend.fontsize": TICK_PT,
    "legend.title_fontsize": LABEL_PT,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.dpi": 100,
}
# Settings that decide the layout; they must not differ from style to style.
_OURS = ("figure.", "savefig.", "font.", "legend.", "axes.prop_cycle", "axes.autolimit_mode")


def _derived(style: Mapping[str, Any], fonts: list[str], **more: Any) -> dict[str, Any]:
    """Return an experiment's lines, ticks and frames with the sizes of this module."""
    theirs = {name: value for name, value in style.items() if not name.startswith(_OURS)}
    return {**theirs, **_SIZES, "font.family": fonts, **more}


@dataclass(frozen=True)
class Style:
    """One look of a figure.

    Attributes
    ----------
    name
        Name that users give to ``--style``.
    rc
        Settings of matplotlib, as in ``matplotlib.rcParams``.
    program_text
        Keywords of matplotlib's Text for the program's name above the figure.
    campaign_text
        Keywords of matplotlib's Text for the campaign's name beside it.
    """

    name: str
    rc: Mapping[str, Any]
    program_text: Mapping[str, Any] = field(default_factory=dict)
    campaign_text: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def context(self) -> Iterator[None]:
        """Apply the settings for the length of a ``with`` block.

        Yields
        ------
        None
            Matplotlib's settings are restored at the end, so that a notebook keeps its own.
        """
        with matplotlib.style.context(dict(self.rc)), warnings.catch_warnings():
            # Labels may be in any script. What no font has is drawn as a box, and matplotlib would
            # say so for each character in each text of each figure.
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
            yield


# The fonts come with mplhep. They lack some letters, which DejaVu of matplotlib has.
_HEROS, _TERMES = ["TeX Gyre Heros", "DejaVu Sans"], ["TeX Gyre Termes", "DejaVu Serif"]

STYLES = {
    style.name: style
    for style in (
        Style(
            "cms",
            _derived(mplhep.style.CMS, _HEROS),
            {"weight": "bold"},
            {"style": "italic", "fontsize": "small"},
        ),
        Style(
            "atlas",
            _derived(mplhep.style.ATLAS, _HEROS, **{"axes.linewidth": 1.5, "xtick.major.size": 10}),
            {"weight": "bold", "style": "italic"},
            {"fontsize": "small"},
        ),
        Style(
            "lhcb",
            _derived(mplhep.style.LHCb2, _TERMES, **{"xtick.major.pad": 6, "ytick.major.pad": 6}),
            {},
            {"fontsize": "small"},
        ),
        Style(
            "plain",
            {
                **_SIZES,
                "font.family": ["DejaVu Sans"],
                "font.size": 22,
                "xtick.labelsize": 19,
                "ytick.labelsize": 19,
                "legend.fontsize": 19,
                "legend.title_fontsize": 22,
                "axes.linewidth": 1.2,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "axes.axisbelow": True,
                "grid.color": "0.9",
                "xtick.major.size": 6,
                "ytick.major.size": 6,
            },
            {"weight": "bold"},
            {"fontsize": "small"},
        ),
    )
}
DEFAULT_STYLE = "cms"


def get_style(name: str) -> Style:
    """Return the style of that name.

    Parameters
    ----------
    name
        A key of STYLES.

    Returns
    -------
    Style
        The settings of that style.

    Raises
    ------
    BadInput
        If no style has that name.
    """
    if name not in STYLES:
        raise BadInput(f"no style is called {name!r}", f"choose one of {', '.join(STYLES)}")
    return STYLES[name]


# The palette of Okabe and Ito (https://jfly.uni-koeln.de/color/), which colour-blind readers can
# tell apart, without its yellow, which is too pale for lines on white.
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#e69f00", "#56b4e9", "#000000", "#7f7f7f"),
)
GREY = "0.78"
COLOUR_MAP = "cividis"
"""Colour map whose order colour-blind readers and black-and-white printers keep."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "*", "h")
_MARKER_SIZES = (11, 10, 12, 9.5, 12, 12.5, 16, 12.5)


class SeriesMark:
    """Colour and marker of one series of a figure.

    Parameters
    ----------
    rank
        Place of the series in the legend, from 0. Marks repeat after ``len(COLOURS)`` series.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.colour = COLOURS[rank % len(COLOURS)]
        self.marker = _MARKERS[rank % len(COLOURS)]
        self.size = _MARKER_SIZES[rank % len(COLOURS)]

    def point_keywords(self, *, hollow: bool = False, line: bool = False) -> dict[str, Any]:
        """Return matplotlib's keywords for the points of the series.

        Parameters
        ----------
        hollow
            Leave the markers empty, as for points that did not settle.
        line
            Connect the points.

        Returns
        -------
        dict[str, Any]
            Keywords of ``matplotlib.lines.Line2D``.
        """
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": self.size,
            "markeredgewidth": 2.0,
            "markerfacecolor": "white" if hollow else self.colour,
            "linestyle": "-" if line else "none",
            "linewidth": 2.2,
        }

    def missing_keywords(self) -> dict[str, Any]:
        """Return matplotlib's keywords for points of the series that have no result.

        Returns
        -------
        dict[str, Any]
            Keywords of ``matplotlib.lines.Line2D``.
        """
        return {
            "color": self.colour,
            "marker": "x",
            "markersize": 9,
            "markeredgewidth": 2.5,
            "linestyle": "none",
        }
