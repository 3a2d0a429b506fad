"""The series that stand out in a figure, with their names and marks, and what closes a figure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from hpcbench.analysis.figures import annotations, captions, layout
from hpcbench.analysis.figures.styles import Mark, Preset


@dataclass(frozen=True)
class Legend:
    """``texts`` and ``marks`` are by the number of a series; ``title`` is what all share."""

    title: str
    texts: Mapping[int, str]
    marks: Mapping[int, Mark]

    @classmethod
    def of(cls, numbers: pd.DataFrame, ignore: Collection[str] = ()) -> "Legend":
        """The legend of what stands out in a table of `series.numbers`."""
        title, texts = captions.legend(numbers[numbers["drawn"] == "colour"], ignore)
        return cls(title, texts, {number: Mark(rank) for rank, number in enumerate(sorted(texts))})

    def entries(self, numbers: pd.DataFrame, *, line: bool = True) -> list[layout.Entry]:
        """A mark for each series; a cross for those without a single result."""
        drawn = set(numbers.loc[numbers["measured"] > 0, "series"])
        return [
            (text, layout.line(**self.marks[number].keywords(line=line)))
            if number in drawn
            else (f"{text} (no result)", layout.line(**self.marks[number].cross()))
            for number, text in self.texts.items()
        ]


def finish(
    figure: Figure,
    ax: Axes,
    look: Preset,
    panels_in: float,
    numbers: pd.DataFrame,
    legend: Legend,
    notes: Sequence[str],
    words: Sequence[Annotation] = (),
    *,
    line: bool = True,
) -> None:
    """Header above ``ax``, legend and notes around; ``words`` beside their points."""
    layout.write_header(ax, look, captions.campaigns(numbers))
    entries = legend.entries(numbers, line=line)
    layout.write_around(figure, look, panels_in, legend.title, entries, notes)
    annotations.place(ax, words)
