"""The commands that read results, as functions for scripts and notebooks."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console

from hpcbench.analysis.decide import compare_text, deploy_configs, recommend_text
from hpcbench.analysis.decide.compare import Comparison, compare_results
from hpcbench.analysis.decide.recommend import Recommendation, recommend_on_all_servers
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.errors import BadInput, did_you_mean

if TYPE_CHECKING:
    from hpcbench.analysis.figures.shown import Figures

_WIDTH = 120


@dataclass(frozen=True)
class Advice(Recommendation):
    """A recommendation with the file that it is deployed with.

    Attributes
    ----------
    title
        The model and the device.
    config_pbtxt
        The config.pbtxt of the recommended configuration; None where nothing is recommended, or
        where results were imported without one. Empty where the model goes without one.
    others
        The config.pbtxt of each other model that the server has to hold, by its name: those that
        the model needs, and those that shared its server.
    """

    title: str
    config_pbtxt: str | None
    others: Mapping[str, str]


class Recommendations(tuple[Advice, ...]):
    """What to deploy for every model on every device; a notebook shows the command's tables."""

    __slots__ = ()

    def __str__(self) -> str:
        return _text(lambda console: recommend_text.print_recommendations([*self], console))

    def _repr_html_(self) -> str:
        return _html(lambda console: recommend_text.print_recommendations([*self], console))


@dataclass(frozen=True)
class ShownComparison(Comparison):
    """A comparison that a notebook shows as the command prints it."""

    def __str__(self) -> str:
        return _text(lambda console: compare_text.print_comparison(self, ("A", "B"), console))

    def _repr_html_(self) -> str:
        return _html(lambda console: compare_text.print_comparison(self, ("A", "B"), console))


def recommend(frame: pd.DataFrame, **limits: Any) -> Recommendations:
    """Return what to deploy for every model on every device, as `hpcbench recommend` does.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them. Models that shared a server are answered
        for after those alone, once for each load of the others.
    **limits
        ``max_latency_p99_ms`` [ms], ``max_gpu_memory_gib`` [GiB] and ``min_throughput`` [infer/s];
        ``objective``: "throughput", "latency", "energy" or "cost"; and the other options of the
        command, which are attributes of `hpcbench.analysis.summary.limits.Requirements`.

    Returns
    -------
    Recommendations
        A tuple of `Advice`. ``best`` is the configuration, None where none keeps the limits;
        ``config_pbtxt`` is the file to deploy.

    Raises
    ------
    BadInput
        Where there are no results, or a limit has another name or value.
    """
    known = [field.name for field in fields(Requirements)]
    for name in limits:
        if name not in known:
            guess = did_you_mean(name, known)
            raise BadInput(f"{name}: no such limit;{guess} allowed: {', '.join(known)}")
    advice = recommend_on_all_servers(frame, Requirements(**limits))
    points = [one.best["point_id"] for one in advice if one.best]
    texts = frame.loc[frame["point_id"].isin(points), list(deploy_configs.DEPLOY_COLUMNS)]
    configs = deploy_configs.configs_to_deploy(texts)
    deployed = [deploy_configs.config_to_deploy(one, configs) for one in advice]
    more = recommend_text.recommendation_distinctions(advice)
    return Recommendations(
        Advice(
            **vars(one),
            title=recommend_text.recommendation_title(one, words),
            config_pbtxt=config.text if config else None,
            others=config.others if config else {},
        )
        for one, words, config in zip(advice, more, deployed, strict=True)
    )


def compare(a: pd.DataFrame, b: pd.DataFrame, *, tolerance: float = 0.05) -> ShownComparison:
    """Return what changed from results A to results B, as `hpcbench compare` does.

    Parameters
    ----------
    a, b
        Results, as `hpcbench.load_results` returns them.
    tolerance
        A fraction: how much worse a metric may get before it counts.

    Returns
    -------
    ShownComparison
        ``rows`` has a row per pair of configurations and metric, with the verdict.

    Raises
    ------
    BadInput
        One of the two is empty, nothing was measured, or nothing of A has a counterpart in B.
    """
    return ShownComparison(**vars(compare_results(a, b, tolerance)))


def figures(frame: pd.DataFrame, *names: str, style: str = "cms") -> "Figures":
    """Return the figures of results, as `hpcbench plot` draws them.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them.
    *names
        Kinds of figures, as in "pareto_front"; by default all that apply.
    style
        "cms", "atlas", "lhcb" or "plain".

    Returns
    -------
    Figures
        By name. A notebook shows one, or all; ``figures(frame)["pareto_front"].figure`` is that of
        matplotlib, to change or to save.

    Raises
    ------
    BadInput
        Where there are no results, or a figure or a style has another name.
    """
    # Only here: matplotlib takes longer to import than all the rest.
    from hpcbench.analysis.figures.registry import check_names, prepare_figures
    from hpcbench.analysis.figures.shown import Figures, ShownFigure
    from hpcbench.analysis.figures.styles import get_style
    from hpcbench.analysis.summary.points import summarise

    get_style(style)
    check_names(names)
    if frame.empty:
        raise BadInput("there are no results to draw", "hpcbench run measures them")
    prepared, not_drawn = prepare_figures(summarise(frame), names)
    return Figures({each.name: ShownFigure(each, style) for each in prepared}, not_drawn)


def report(frame: pd.DataFrame, out: str | Path) -> Path:
    """Write a report on results as one HTML file, as `hpcbench report` does.

    Parameters
    ----------
    frame
        Results, as `hpcbench.load_results` returns them.
    out
        The file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    BadInput
        Where there are no results, or the file cannot be written.
    """
    from hpcbench.analysis.report.page import write_report

    return write_report(frame, Path(out))


def _text(show: Callable[[Console], None]) -> str:
    written = io.StringIO()
    show(Console(file=written, width=_WIDTH, force_jupyter=False))
    return written.getvalue().rstrip()


def _html(show: Callable[[Console], None]) -> str:
    console = Console(file=io.StringIO(), width=_WIDTH, record=True, force_jupyter=False)
    show(console)
    style = "font-family: monospace; line-height: 1.3; overflow-x: auto"
    code = console.export_html(code_format="{code}", inline_styles=True)
    return f'<pre style="{style}">{code}</pre>'
