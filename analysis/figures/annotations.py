"""Short texts beside the points of a figure, placed where they cover least."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cbook import STEP_LOOKUP_MAP
from matplotlib.path import Path
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from hpcbench.analysis.figures.styles import SMALL_PT, SeriesMark

# Right (1) or left (-1) of the point, above (1) or below (-1) it, best first.
_SIDES = ((1, -1), (1, 1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
_CLEARANCE_PT = 4
_CUT_OFF_COST = 1000


def annotate_points(
    ax: Axes,
    texts: Iterable[str],
    x: Iterable[float],
    y: Iterable[float],
    mark: SeriesMark,
    size_pt: float = SMALL_PT,
) -> list[Annotation]:
    """Write a text for each point of a series, in the colour of the series.

    Parameters
    ----------
    ax
        Axes with the points.
    texts
        One text for each point.
    x, y
        Coordinates of the points in the units of the axes.
    mark
        Mark of the series.
    size_pt
        Font size in points.

    Returns
    -------
    list[Annotation]
        The texts, still on top of their points: `place_annotations` moves them aside.
    """
    return [
        ax.annotate(
            text,
            (at, height),
            xytext=(0, 0),
            textcoords="offset points",
            color=mark.colour,
            parse_math=False,
            fontsize=size_pt,
        )
        for text, at, height in zip(texts, x, y, strict=True)
    ]


def place_annotations(ax: Axes, annotations: Sequence[Annotation]) -> None:
    """Move each text to the side of its point where it covers fewest lines and markers.

    A text that would touch an earlier one on every side is hidden. Call it after the layout is
    done: a later change of the limits or the size would move the points.

    Parameters
    ----------
    ax
        Axes with everything drawn that the texts should keep clear of.
    annotations
        Texts of `annotate_points`.
    """
    if not annotations:
        return
    obstacles = _Obstacles.of_axes(ax)
    taken: list[Bbox] = []
    for annotation in annotations:
        free: list[tuple[int, int, Bbox]] = []
        for rank, side in enumerate(_SIDES):
            box = _move(annotation, side)
            if not any(box.overlaps(other) for other in taken):
                free.append((obstacles.cost(box), rank, box))
        annotation.set_visible(bool(free))
        if free:
            _, rank, box = min(free, key=lambda each: each[:2])
            _move(annotation, _SIDES[rank])
            taken.append(box)


def _move(annotation: Annotation, side: tuple[int, int]) -> Bbox:
    right, up = side
    annotation.xyann = (right * (9 if up else 11), up * (6 if right else 10))
    annotation.set_horizontalalignment("left" if right > 0 else "right" if right else "center")
    annotation.set_verticalalignment("bottom" if up > 0 else "top" if up else "center")
    return annotation.get_window_extent()


@dataclass(frozen=True)
class _Obstacles:
    """What is drawn in some axes, in pixels."""

    frame: Bbox
    lines: Sequence[Path]
    points: npt.NDArray[np.float64]
    clearance: float

    @classmethod
    def of_axes(cls, ax: Axes) -> "_Obstacles":
        lines, points = [], [np.empty((0, 2))]
        for line in ax.get_lines():
            # Steps are drawn between the data: they are what a text would cover.
            stepped = STEP_LOOKUP_MAP[line.get_drawstyle()](*line.get_data(orig=False))
            pixels = line.get_transform().transform(np.column_stack(stepped))
            if line.get_linestyle() != "None":
                lines.append(Path(pixels))
            if line.get_marker() != "None":
                points.append(pixels)
        clearance = _CLEARANCE_PT * ax.figure.dpi / 72
        return cls(ax.bbox, lines, np.concatenate(points), clearance)

    def cost(self, box: Bbox) -> int:
        """Return how many lines and markers a text in this box covers; many if it is cut off."""
        inside = self.frame.x0 <= box.x0 and box.x1 <= self.frame.x1
        inside &= self.frame.y0 <= box.y0 and box.y1 <= self.frame.y1
        crossed = sum(bool(path.intersects_bbox(box, filled=False)) for path in self.lines)
        covered = int(box.padded(self.clearance).count_contains(self.points))
        return crossed + covered + (0 if inside else _CUT_OFF_COST)
