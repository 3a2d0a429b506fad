"""All kinds of figures, in the order in which they are drawn.

A figure is drawn in two steps, one function each in a module that is named as the figure:
``prepare_...`` turns the table of points into the data of one or more figures, or raises
DoesNotApply; ``draw_...`` draws the data of one of them. FIGURES is the only list of them.

From a notebook, one figure at a time::

    points = summarise(load_results("results/demo"))
    FIGURES["latency_vs_throughput"].plot(points)

Nothing here uses pyplot or changes matplotlib's settings: it works the same in a notebook, in a
script and without a display.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from hpcbench.analysis.figures.capacity_search import (
    draw_capacity_search,
    prepare_capacity_search,
)
from hpcbench.analysis.figures.device_comparison import (
    draw_device_comparison,
    prepare_device_comparison,
)
from hpcbench.analysis.figures.gpu_scaling import draw_gpu_scaling, prepare_gpu_scaling
from hpcbench.analysis.figures.heat_map import draw_heat_map, prepare_heat_map
from hpcbench.analysis.figures.latency_breakdown import (
    draw_latency_breakdown,
    prepare_latency_breakdown,
)
from hpcbench.analysis.figures.latency_tails import draw_latency_tails, prepare_latency_tails
from hpcbench.analysis.figures.latency_vs_throughput import (
    draw_latency_vs_throughput,
    prepare_latency_vs_throughput,
)
from hpcbench.analysis.figures.pareto_front import draw_pareto_front, prepare_pareto_front
from hpcbench.analysis.figures.precision_accuracy import (
    draw_precision_accuracy,
    prepare_precision_accuracy,
)
from hpcbench.analysis.figures.status_map import draw_status_map, prepare_status_map
from hpcbench.analysis.figures.styles import DEFAULT_STYLE, Style, get_style
from hpcbench.analysis.figures.throughput_latency_vs_load import (
    draw_throughput_latency_vs_load,
    prepare_throughput_latency_vs_load,
)
from hpcbench.analysis.figures.throughput_utilisation_vs_instances import (
    draw_throughput_utilisation_vs_instances,
    prepare_throughput_utilisation_vs_instances,
)
from hpcbench.analysis.summary.axis_names import file_name_part
from hpcbench.analysis.summary.figure_tables import FigureTables, single_figure
from hpcbench.analysis.summary.series import DoesNotApply
from hpcbench.analysis.summary.varying_axes import BATCH_SIZE, CONCURRENCY, REQUEST_RATE, FigureAxis
from hpcbench.errors import BadInput

# File systems take names of 255 bytes; a suffix and the number of a twin must fit in, too.
_MOST_NAME_CHARACTERS = 120


@dataclass(frozen=True)
class FigureKind:
    """One kind of figure.

    Attributes
    ----------
    name
        Name that users give to ``--figure``, and beginning of the names of its files.
    description
        What the figure shows, as a phrase without a full stop.
    prepare
        Turns a table of `points.summarise` into the data of each figure, with the words that tell
        the figures apart; raises DoesNotApply if the table lacks what the figure shows.
    draw_in_style
        Draws the data of one figure while the settings of its style are active.
    """

    name: str
    description: str
    prepare: Callable[[pd.DataFrame], FigureTables]
    draw_in_style: Callable[[pd.DataFrame, Style], Figure]

    def draw(self, data: pd.DataFrame, style: str = DEFAULT_STYLE) -> Figure:
        """Draw the data of one figure.

        Parameters
        ----------
        data
            Data of one figure, as ``prepare`` returns it.
        style
            A key of `styles.STYLES`.

        Returns
        -------
        Figure
            A figure of matplotlib, not known to pyplot.
        """
        look = get_style(style)
        with look.context():
            return self.draw_in_style(data, look)

    def plot(self, points: pd.DataFrame, style: str = DEFAULT_STYLE) -> Figure:
        """Draw the one figure that a table of points makes.

        Parameters
        ----------
        points
            Table of `points.summarise`.
        style
            A key of `styles.STYLES`.

        Returns
        -------
        Figure
            A figure of matplotlib, not known to pyplot.

        Raises
        ------
        DoesNotApply
            If the points make no figure of this kind, or several.
        """
        return self.draw(single_figure(self.prepare(points)), style)


@dataclass(frozen=True)
class PreparedFigure:
    """A figure that is ready to be drawn.

    Attributes
    ----------
    kind
        Kind of the figure.
    name
        Name of its files, without suffix.
    data
        What it shows, one row for each point.
    """

    kind: FigureKind
    name: str
    data: pd.DataFrame

    def draw(self, style: str = DEFAULT_STYLE) -> Figure:
        """Draw the figure.

        Parameters
        ----------
        style
            A key of `styles.STYLES`.

        Returns
        -------
        Figure
            A figure of matplotlib, not known to pyplot.
        """
        return self.kind.draw(self.data, style)


def _load_scan(name: str, axis: FigureAxis) -> FigureKind:
    return FigureKind(
        name,
        f"throughput and latency against {axis.phrase}, with ratios",
        partial(prepare_throughput_latency_vs_load, axis=axis),
        partial(draw_throughput_latency_vs_load, axis=axis),
    )


_KINDS = (
    _load_scan("throughput_latency_vs_batch", BATCH_SIZE),
    _load_scan("throughput_latency_vs_concurrency", CONCURRENCY),
    _load_scan("throughput_latency_vs_rate", REQUEST_RATE),
    FigureKind(
        "latency_vs_throughput",
        "the latency that each throughput costs as the load grows",
        prepare_latency_vs_throughput,
        draw_latency_vs_throughput,
    ),
    FigureKind(
        "latency_tails",
        "median and p99 latency, and how high the p99 may be, as the load grows",
        prepare_latency_tails,
        draw_latency_tails,
    ),
    FigureKind(
        "capacity_search",
        "p99 latency at each rate that a search for a capacity tried, its limit and its answer",
        prepare_capacity_search,
        draw_capacity_search,
    ),
    FigureKind(
        "heat_map",
        "throughput and latency as colours over two axes",
        prepare_heat_map,
        draw_heat_map,
    ),
    FigureKind(
        "latency_breakdown",
        "where the time of a request goes, against batch size",
        prepare_latency_breakdown,
        draw_latency_breakdown,
    ),
    FigureKind(
        "device_comparison",
        "the best throughput of each model on each device, with ratios and inferences per joule",
        prepare_device_comparison,
        draw_device_comparison,
    ),
    FigureKind(
        "pareto_front",
        "throughput and p99 latency of all configurations, with the Pareto front",
        prepare_pareto_front,
        draw_pareto_front,
    ),
    FigureKind(
        "throughput_utilisation_vs_instances",
        "throughput and GPU utilisation against the number of model instances",
        prepare_throughput_utilisation_vs_instances,
        draw_throughput_utilisation_vs_instances,
    ),
    FigureKind(
        "gpu_scaling",
        "throughput and efficiency against the number of GPUs of one server",
        prepare_gpu_scaling,
        draw_gpu_scaling,
    ),
    FigureKind(
        "precision_accuracy",
        "throughput of each precision against the difference of its outputs",
        prepare_precision_accuracy,
        draw_precision_accuracy,
    ),
    FigureKind(
        "status_map",
        "which points failed or did not settle, and why",
        prepare_status_map,
        draw_status_map,
    ),
)
FIGURES = {kind.name: kind for kind in _KINDS}
"""Every kind of figure by its name."""


def check_names(names: Collection[str]) -> None:
    """Refuse names of figures that there are not.

    Parameters
    ----------
    names
        What the user calls figures.

    Raises
    ------
    BadInput
        If one is not a key of FIGURES.
    """
    for name in names:
        if name not in FIGURES:
            raise BadInput(f"no figure is called {name!r}", f"choose one of {', '.join(FIGURES)}")


def prepare_figures(
    points: pd.DataFrame, names: Collection[str] = ()
) -> tuple[list[PreparedFigure], dict[str, str]]:
    """Prepare every figure that applies to a table of points.

    Parameters
    ----------
    points
        Table of `points.summarise`.
    names
        Keys of FIGURES to prepare; all if empty.

    Returns
    -------
    tuple[list[PreparedFigure], dict[str, str]]
        The figures in the order of FIGURES, and for each kind that does not apply the reason.
    """
    found: dict[str, PreparedFigure] = {}
    reasons: dict[str, str] = {}
    for kind in (kind for kind in FIGURES.values() if not names or kind.name in names):
        try:
            parts = kind.prepare(points)
        except DoesNotApply as reason:
            reasons[kind.name] = reason.message
            continue
        for distinction, data in parts:
            name = "_".join(filter(None, [kind.name, file_name_part(distinction)]))
            name = name[:_MOST_NAME_CHARACTERS]
            if name in found:
                # "A b" and "A-b" make the same name of a file.
                name += f"_{len(found)}"
            found[name] = PreparedFigure(kind, name, data)
    return list(found.values()), reasons
