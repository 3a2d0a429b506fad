"""Words beside the points of a figure, where they touch least."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cbook import STEP_LOOKUP_MAP
from matplotlib.path import Path
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from hpcbench.analysis.figures.styles import SMALL_PT, Mark

_SIDES = ((1, -1), (1, 1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
"""Right or left, above or below of the point; the earlier the better."""
_ROOM_PT = 4
_CUT_OFF = 1000


def write_beside(
    ax: Axes,
    texts: Iterable[str],
    x: Iterable[float],
    y: Iterable[float],
    mark: Mark,
    size_pt: float = SMALL_PT,
) -> list[Annotation]:
    """A word for each point, in the colour of its series; `place` puts it beside the point."""
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


def place(ax: Axes, words: Sequence[Annotation]) -> None:
    """Each word to that side of its point where it touches least; after the layout is made.

    It lies on a line or a marker, or is cut off, only where there is nothing better; where it would
    touch a word before it at every side, it is hidden.
    """
    if not words:
        return
    drawn = _Drawn.on(ax)
    taken: list[Bbox] = []
    for word in words:
        found: list[tuple[int, int, Bbox]] = []
        for rank, side in enumerate(_SIDES):
            box = _put(word, side)
            if not any(box.overlaps(other) for other in taken):
                found.append((drawn.touched(box), rank, box))
        word.set_visible(bool(found))
        if found:
            _, rank, box = min(found, key=lambda each: each[:2])
            _put(word, _SIDES[rank])
            taken.append(box)


def _put(word: Annotation, side: tuple[int, int]) -> Bbox:
    right, up = side
    word.xyann = (right * (9 if up else 11), up * (6 if right else 10))
    word.set_horizontalalignment("left" if right > 0 else "right" if right else "center")
    word.set_verticalalignment("bottom" if up > 0 else "top" if up else "center")
    return word.get_window_extent()


@dataclass(frozen=True)
class _Drawn:
    """What is drawn in some axes, in pixels."""

    frame: Bbox
    lines: Sequence[Path]
    points: npt.NDArray[np.float64]
    room: float

    @classmethod
    def on(cls, ax: Axes) -> "_Drawn":
        lines, points = [], [np.empty((0, 2))]
        for line in ax.get_lines():
            stepped = STEP_LOOKUP_MAP[line.get_drawstyle()](*line.get_data(orig=False))
            pixels = line.get_transform().transform(np.column_stack(stepped))
            if line.get_linestyle() != "None":
                lines.append(Path(pixels))
            if line.get_marker() != "None":
                points.append(pixels)
        room = _ROOM_PT * ax.figure.dpi / 72
        return cls(ax.bbox, lines, np.concatenate(points), room)

    def touched(self, box: Bbox) -> int:
        """How many lines and markers a word in this box would touch; many where it is cut off."""
        inside = self.frame.x0 <= box.x0 and box.x1 <= self.frame.x1
        inside &= self.frame.y0 <= box.y0 and box.y1 <= self.frame.y1
        crossed = sum(bool(path.intersects_bbox(box, filled=False)) for path in self.lines)
        covered = int(box.padded(self.room).count_contains(self.points))
        return crossed + covered + (0 if inside else _CUT_OFF)
