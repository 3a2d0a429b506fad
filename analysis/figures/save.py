"""Figures as files: PNG, PDF, and a CSV of the data of each."""

import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from hpcbench.analysis.figures.legends import series_labels
from hpcbench.analysis.figures.registry import PreparedFigure, check_names, prepare_figures
from hpcbench.analysis.figures.styles import DEFAULT_STYLE, get_style
from hpcbench.analysis.summary.choice import EVERYTHING, Choice, chosen_points
from hpcbench.analysis.summary.configuration import CONFIGURATION
from hpcbench.analysis.summary.configuration_names import device_name
from hpcbench.analysis.summary.points import row_dicts, summarise
from hpcbench.errors import BadInput

FORMATS = ("png", "pdf")

Track = Callable[[Sequence[PreparedFigure]], Iterable[PreparedFigure]]
"""Yields figures while it shows how far it has come; `iter` shows nothing."""


@dataclass(frozen=True)
class SavedFigures:
    """What `save_figures` wrote.

    Attributes
    ----------
    files
        Paths of the files, in the order in which they were written.
    not_drawn
        For each kind of figure that does not apply to the results, the reason.
    """

    files: list[Path] = field(default_factory=list)
    not_drawn: dict[str, str] = field(default_factory=dict)


def save_figures(
    frame: pd.DataFrame,
    out: Path,
    *,
    style: str = DEFAULT_STYLE,
    names: Collection[str] = (),
    choice: Choice = EVERYTHING,
    track: Track = iter,
) -> SavedFigures:
    """Draw every figure that applies to results, and write each with a CSV of its data.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them.
    out
        Folder for the files; it is created if it does not exist.
    style
        A key of `styles.STYLES`.
    names
        Keys of `registry.FIGURES` to draw; all if empty.
    choice
        Which points are drawn, and which series stand out.
    track
        Yields the figures one by one, each when it is drawn next: where progress is shown.

    Returns
    -------
    SavedFigures
        The files, and why other figures were not drawn.

    Raises
    ------
    BadInput
        If there are no results, a style or figure has another name, nothing is as ``choice`` says,
        or ``out`` cannot be written.
    """
    get_style(style)
    if frame.empty:
        raise BadInput("there are no results to draw", "hpcbench run measures them")
    check_names(names)
    files = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Before all work. Permissions do not say it: a file system may be read-only.
        with tempfile.TemporaryFile(dir=out):
            points = chosen_points(summarise(frame), choice)
            prepared, not_drawn = prepare_figures(points, names)
        for figure in track(prepared):
            files += save_figure(figure, out, style)
    except OSError as error:
        raise BadInput(
            f"--out {out}: cannot be written: {error.strerror}",
            "name a folder in which you may create files",
        ) from error
    return SavedFigures(files, not_drawn)


def save_figure(prepared: PreparedFigure, out: Path, style: str = DEFAULT_STYLE) -> list[Path]:
    """Write one figure and its data into a folder.

    Parameters
    ----------
    prepared
        Figure to draw.
    out
        Folder that exists.
    style
        A key of `styles.STYLES`.

    Returns
    -------
    list[Path]
        Paths of the PNG, the PDF and the CSV.
    """
    paths = [out / f"{prepared.name}.{suffix}" for suffix in (*FORMATS, "csv")]
    figure = prepared.draw(style)
    # Fonts are looked up while the figure is written.
    with get_style(style).context():
        figure.savefig(paths[0], dpi=100)
        figure.savefig(paths[1])
    csv_table(prepared.data).to_csv(paths[2], index=False)
    return paths


def csv_table(data: pd.DataFrame) -> pd.DataFrame:
    """Return the data of a figure for readers of its CSV.

    Parameters
    ----------
    data
        Data of a figure, one row for each point.

    Returns
    -------
    pandas.DataFrame
        The same rows with the columns ``legend`` (label of the series) and ``device`` in words,
        and without columns that are empty.
    """
    rows = row_dicts(data)
    # What differs along a series, as the load does, is no part of its name.
    distinct = data.groupby("series")[[*CONFIGURATION]].nunique(dropna=False)
    varying = [name for name in CONFIGURATION if (distinct[name] > 1).any()]
    labels = series_labels(data, varying)[1]
    found = data.drop(columns="x").dropna(axis="columns", how="all")
    found.insert(1, "legend", [labels[number] for number in data["series"]])
    found.insert(2, "device", [device_name(row) for row in rows])
    return found
