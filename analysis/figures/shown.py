"""Figures that notebooks show by themselves."""

import base64
import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

import pandas as pd
from matplotlib.figure import Figure

from hpcbench.analysis.figures.registry import PreparedFigure
from hpcbench.analysis.figures.styles import get_style

_DPI = 80


@dataclass(frozen=True)
class ShownFigure:
    """A figure of results; a notebook shows it where it is the last value of a cell.

    Attributes
    ----------
    prepared
        What it shows.
    style
        A key of `styles.STYLES`.
    """

    prepared: PreparedFigure
    style: str

    @property
    def data(self) -> pd.DataFrame:
        """What it shows, one row for each point."""
        return self.prepared.data

    @cached_property
    def figure(self) -> Figure:
        """The figure of matplotlib, which is drawn once: what is changed in it is shown."""
        return self.prepared.draw(self.style)

    def _repr_png_(self) -> bytes:
        written = BytesIO()
        # Fonts are looked up while the figure is written.
        with get_style(self.style).context():
            self.figure.savefig(written, format="png", dpi=_DPI)
        return written.getvalue()

    def __repr__(self) -> str:
        return f"{self.prepared.name}: {self.prepared.kind.description}"


@dataclass(frozen=True, repr=False)
class Figures(Mapping[str, ShownFigure]):
    """All figures of results by their names; a notebook shows them one below the other.

    Attributes
    ----------
    shown
        The figures by name.
    not_drawn
        For each kind of figure that does not apply to the results, the reason.
    """

    shown: Mapping[str, ShownFigure]
    not_drawn: Mapping[str, str]

    def __getitem__(self, name: str) -> ShownFigure:
        return self.shown[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shown)

    def __len__(self) -> int:
        return len(self.shown)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.shown.values()))

    def _repr_html_(self) -> str:
        return "\n".join(map(_html, self.shown.values()))


def _html(figure: ShownFigure) -> str:
    image = base64.b64encode(figure._repr_png_()).decode()
    caption = html.escape(repr(figure))
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{image}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
