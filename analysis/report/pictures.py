"""The pictures of a report: a few of each kind that `hpcbench.analysis.figures.kinds` has for the
results.
"""

import io
import itertools
from dataclasses import dataclass

import matplotlib as mpl
import pandas as pd

from hpcbench.analysis.figures import kinds as figures
from hpcbench.analysis.figures.kinds import Picture
from hpcbench.analysis.figures.styles import DEFAULT, preset
from hpcbench.analysis.summary.points import summarise

MOST_PICTURES = 10
"""A second each to draw, 30 kB each in the file."""


@dataclass(frozen=True)
class Drawn:
    """A picture as SVG; ``name`` is that of the files that ``hpcbench plot`` writes."""

    name: str
    shows: str
    svg: str
    width_in: float
    height_in: float


def drawn(frame: pd.DataFrame) -> tuple[list[Drawn], int]:
    """(at most MOST_PICTURES pictures, how many more there are) of what `load_results` gives."""
    found, _ = figures.pictures(summarise(frame))
    chosen = _some_of_each(found, MOST_PICTURES)
    return [_draw(picture) for picture in chosen], len(found) - len(chosen)


def _some_of_each(found: list[Picture], most: int) -> list[Picture]:
    """The first of every kind, then the second of every kind and so on, in the order of kinds."""
    kinds = [list(group) for _, group in itertools.groupby(found, lambda one: one.kind.name)]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*kinds))
    names = {one.name for one in itertools.islice((one for one in turns if one), most)}
    return [one for one in found if one.name in names]


def _draw(picture: Picture) -> Drawn:
    figure = picture.draw()
    sink = io.StringIO()
    # The same results make the same file, to the last byte.
    with preset(DEFAULT).active(), mpl.rc_context({"svg.hashsalt": picture.name}):
        figure.savefig(sink, format="svg", metadata={"Date": None})
    width, height = figure.get_size_inches()
    return Drawn(picture.name, picture.kind.shows, sink.getvalue(), float(width), float(height))
