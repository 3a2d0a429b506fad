"""How figures look: presets after the experiments' own, and marks that everybody can tell apart.

The presets share one scale of sizes, so that a figure has the same layout in each.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
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
_OURS = ("figure.", "savefig.", "font.", "legend.", "axes.prop_cycle", "axes.autolimit_mode")


def _after(style: Mapping[str, Any], fonts: list[str], **more: Any) -> dict[str, Any]:
    """Lines, ticks and labels as the experiment has them; sizes as here."""
    theirs = {name: value for name, value in style.items() if not name.startswith(_OURS)}
    return {**theirs, **_SIZES, "font.family": fonts, **more}


@dataclass(frozen=True)
class Preset:
    """One look. ``mark`` is how the program's name is written, ``campaign`` how the rest is."""

    name: str
    rc: Mapping[str, Any]
    mark: Mapping[str, Any] = field(default_factory=dict)
    campaign: Mapping[str, Any] = field(default_factory=dict)

    def active(self) -> AbstractContextManager[None]:
        """Matplotlib's settings are these while the block lasts, and then as they were."""
        return matplotlib.style.context(dict(self.rc))


# The fonts come with mplhep; DejaVu, which comes with matplotlib, has the letters that they lack.
_HEROS, _TERMES = ["TeX Gyre Heros", "DejaVu Sans"], ["TeX Gyre Termes", "DejaVu Serif"]

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "cms",
            _after(mplhep.style.CMS, _HEROS),
            {"weight": "bold"},
            {"style": "italic", "fontsize": "small"},
        ),
        Preset(
            "atlas",
            _after(mplhep.style.ATLAS, _HEROS, **{"axes.linewidth": 1.5, "xtick.major.size": 10}),
            {"weight": "bold", "style": "italic"},
            {"fontsize": "small"},
        ),
        Preset(
            "lhcb",
            _after(mplhep.style.LHCb2, _TERMES, **{"xtick.major.pad": 6, "ytick.major.pad": 6}),
            {},
            {"fontsize": "small"},
        ),
        Preset(
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
DEFAULT = "cms"


def preset(name: str) -> Preset:
    """The look of that name. Raises BadInput where there is none."""
    if name not in PRESETS:
        raise BadInput(f"no style is called {name!r}", f"take one of {', '.join(PRESETS)}")
    return PRESETS[name]


# Okabe and Ito's colours, which the colour-blind can tell apart, less their yellow, which is too
# pale for lines on white.
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#e69f00", "#56b4e9", "#000000", "#7f7f7f"),
)
GREY = "0.78"
MAP = "cividis"
"""A colour map whose order also the colour-blind, and a black and white printer, see."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "*", "h")
_MARKER_SIZES = (11, 10, 12, 9.5, 12, 12.5, 16, 12.5)


class Mark:
    """Colour and marker of the series of that rank in a figure."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.colour = COLOURS[rank % len(COLOURS)]
        self.marker = _MARKERS[rank % len(COLOURS)]
        self.size = _MARKER_SIZES[rank % len(COLOURS)]

    def keywords(self, *, hollow: bool = False, line: bool = False) -> dict[str, Any]:
        """What Line2D takes."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": self.size,
            "markeredgewidth": 2.0,
            "markerfacecolor": "white" if hollow else self.colour,
            "linestyle": "-" if line else "none",
            "linewidth": 2.2,
        }

    def cross(self) -> dict[str, Any]:
        """What Line2D takes for a point without figures."""
        return {
            "color": self.colour,
            "marker": "x",
            "markersize": 9,
            "markeredgewidth": 2.5,
            "linestyle": "none",
        }
