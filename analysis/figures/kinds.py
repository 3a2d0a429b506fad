"""Every figure of results: which there are, which of them apply, and their files.

From a notebook one figure at a time, with matplotlib alone:

    points = summarise(load_results("results/demo"))
    FIGURES["latency_vs_throughput"].of(points)

Nothing here touches pyplot or matplotlib's global settings, so that it works the same in a
notebook, in a script and without a display.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from hpcbench.analysis.figures import (
    breakdown,
    captions,
    devices,
    heat_map,
    scaling,
    scan,
    status_map,
    tradeoff,
)
from hpcbench.analysis.figures.styles import DEFAULT, preset
from hpcbench.analysis.summary.axis_names import file_name_part
from hpcbench.analysis.summary.configuration import CONFIGURATION
from hpcbench.analysis.summary.configuration_names import device_name
from hpcbench.analysis.summary.figure_tables import FigureTables, single_figure
from hpcbench.analysis.summary.points import row_dicts, summarise
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import BATCH_SIZE, CONCURRENCY, REQUEST_RATE, Axis
from hpcbench.errors import BadInput

FORMATS = ("png", "pdf")


@dataclass(frozen=True)
class Kind:
    """One kind of figure.

    ``pictures`` gives, from a table of `summarise`, the numbers of each of its pictures with
    the words that tell these apart, or raises DoesNotApply. ``draw`` makes a Figure of one of them
    in a style. ``shows`` says what it is good for.
    """

    name: str
    shows: str
    pictures: Callable[[pd.DataFrame], FigureTables]
    draw: Callable[[pd.DataFrame, str], Figure]

    def of(self, points: pd.DataFrame, style: str = DEFAULT) -> Figure:
        """The figure, where the points make one picture of it. Raises DoesNotApply otherwise."""
        return self.draw(single_figure(self.pictures(points)), style)


@dataclass(frozen=True)
class Picture:
    """One picture that can be drawn: ``name`` is that of its files, ``numbers`` what it shows."""

    kind: Kind
    name: str
    numbers: pd.DataFrame

    def draw(self, style: str = DEFAULT) -> Figure:
        """The picture in that style."""
        return self.kind.draw(self.numbers, style)


@dataclass(frozen=True)
class Drawn:
    """What `draw_all` did: the files it wrote, and why other figures do not apply."""

    files: list[Path] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def _scan(axis: Axis, shows: str, suffix: str) -> Kind:
    return Kind(
        f"throughput_latency_vs_{suffix}",
        shows,
        partial(scan.scan, axis=axis),
        lambda numbers, style: scan.scan_figure(numbers, axis, style),
    )


KINDS = (
    _scan(BATCH_SIZE, "throughput and latency against batch size, with ratios", "batch"),
    _scan(CONCURRENCY, "throughput and latency against concurrency, with ratios", "concurrency"),
    _scan(REQUEST_RATE, "throughput and latency against request rate, with ratios", "rate"),
    Kind(
        "latency_vs_throughput",
        "the latency-throughput curve: what latency each throughput costs as the load grows",
        scan.curves,
        scan.curve_figure,
    ),
    Kind(
        "heat_map",
        "throughput and latency as colours over two axes",
        heat_map.maps,
        heat_map.map_figure,
    ),
    Kind(
        "latency_breakdown",
        "where the time of a request goes, against batch size",
        breakdown.breakdowns,
        breakdown.breakdown_figure,
    ),
    Kind(
        "device_comparison",
        "the best of each GPU or pool for each model, with ratios and inferences per joule",
        devices.comparisons,
        devices.comparison_figure,
    ),
    Kind(
        "pareto_front",
        "throughput against p99 latency of all configurations, and those that none beats",
        tradeoff.fronts,
        tradeoff.front_figure,
    ),
    Kind(
        "throughput_utilisation_vs_instances",
        "throughput and GPU utilisation against the number of model instances",
        scaling.instances,
        scaling.instances_figure,
    ),
    Kind(
        "gpu_scaling",
        "throughput and its efficiency against the GPUs of one server",
        scaling.scaling,
        scaling.scaling_figure,
    ),
    Kind(
        "precision_accuracy",
        "throughput of each precision against the difference of its outputs",
        tradeoff.precisions,
        tradeoff.precision_figure,
    ),
    Kind(
        "status_map",
        "what failed or did not settle, and why",
        status_map.states,
        status_map.state_figure,
    ),
)
FIGURES = {kind.name: kind for kind in KINDS}


def pictures(
    points: pd.DataFrame, names: Collection[str] = ()
) -> tuple[list[Picture], dict[str, str]]:
    """The pictures that apply to a table of `summarise`, and why other figures do not.

    ``names`` are those of FIGURES to make, all where there are none. Raises BadInput for others.
    """
    for name in names:
        if name not in FIGURES:
            raise BadInput(f"no figure is called {name!r}", f"take one of {', '.join(FIGURES)}")
    found: dict[str, Picture] = {}
    left_out: dict[str, str] = {}
    for kind in (kind for kind in KINDS if not names or kind.name in names):
        try:
            parts = kind.pictures(points)
        except DoesNotApply as reason:
            left_out[kind.name] = reason.message
            continue
        for told, numbers in parts:
            # File systems take names of 255 bytes.
            name = "_".join(filter(None, [kind.name, file_name_part(told)]))[:120]
            if name in found:
                # Names that differ in letters which file names do without.
                name += f"_{len(found)}"
            found[name] = Picture(kind, name, numbers)
    return list(found.values()), left_out


def draw_all(
    frame: pd.DataFrame, out: Path, *, style: str = DEFAULT, names: Collection[str] = ()
) -> Drawn:
    """Writes every figure that applies to ``frame``, as `load_results` gives it, into ``out``.

    Each is a PNG, a PDF and, under the same name, a CSV of the numbers in it. Raises BadInput
    where there are no results, for a style or a name that is not there, or if ``out`` cannot be
    written.
    """
    preset(style)
    if frame.empty:
        raise BadInput("there are no results to draw", "hpcbench run measures them")
    found, left_out = pictures(summarise(frame), names)
    files = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for picture in found:
            files += write(picture, out, style)
    except OSError as error:
        raise BadInput(
            f"--out {out}: cannot be written: {error.strerror}",
            "name a folder in which you may create files",
        ) from error
    return Drawn(files, left_out)


def write(picture: Picture, out: Path, style: str = DEFAULT) -> list[Path]:
    """Writes one picture and its numbers into the folder ``out``; gives the files."""
    paths = [out / f"{picture.name}.{suffix}" for suffix in (*FORMATS, "csv")]
    figure = picture.draw(style)
    with preset(style).active():
        figure.savefig(paths[0], dpi=100)
        figure.savefig(paths[1])
    plotted(picture.numbers).to_csv(paths[2], index=False)
    return paths


def plotted(numbers: pd.DataFrame) -> pd.DataFrame:
    """The numbers of a picture for a reader: with the device in words, without empty columns."""
    rows = row_dicts(numbers)
    # What differs within a series, as the load along a line does, names no series.
    varying = [
        name
        for name in CONFIGURATION
        if numbers[["series", name]].drop_duplicates()["series"].duplicated().any()
    ]
    texts = captions.legend(numbers, varying)[1]
    found = numbers.drop(columns="x").dropna(axis="columns", how="all")
    found.insert(1, "legend", [texts[number] for number in numbers["series"]])
    found.insert(2, "device", [device_name(row) for row in rows])
    return found
