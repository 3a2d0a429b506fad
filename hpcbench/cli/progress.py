"""Show a plan, the progress of a run, its results, and the checks of a site on the terminal."""

import importlib
import json
import math
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from hpcbench.cli.point_text import (
    NONE,
    columns,
    counted,
    duration,
    jobs_text,
    loop_text,
    served_text,
    variant_text,
)
from hpcbench.doctor.findings import Check, Report, State
from hpcbench.records.columns import Status
from hpcbench.records.store import PLAN_SCHEMA

if TYPE_CHECKING:
    # Only for annotations: these import Dask and pandas, which `hpcbench plan` does not need.
    import pandas as pd

    from hpcbench.cluster.run_state import PoolJobs
    from hpcbench.plan.grid import Grid
    from hpcbench.plan.plan import Plan
    from hpcbench.plan.point import Point

COLOURS = {
    Status.OK: "green",
    Status.UNSTABLE: "yellow",
    Status.FAILED: "red",
    Status.TIMEOUT: "red",
    Status.NOT_APPLICABLE: "cyan",
}


@contextmanager
def show_progress(console: Console) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Show the progress of a run while the block lasts.

    Parameters
    ----------
    console
        Where to show it. Only a terminal gets a bar; a file gets the lines.

    Yields
    ------
    callable
        The ``listener`` for `hpcbench.run`.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    view = _View(console, bar)
    with bar:
        yield view.report


def load_pandas_at_the_end(
    report: Callable[[Mapping[str, Any]], None],
) -> Callable[[Mapping[str, Any]], None]:
    """Return a listener that imports pandas while the last server stops, which takes seconds.

    Parameters
    ----------
    report
        The listener that shows each event.

    Returns
    -------
    callable
        The same, and more.
    """
    waiting: set[Any] = set()

    def listener(event: Mapping[str, Any]) -> None:
        report(event)
        if event["kind"] == "planned":
            placements = chain.from_iterable(event["plan"].placements.values())
            waiting.update(key for placement in placements for key in placement.keys)
        elif event["kind"] == "record":
            waiting.discard(tuple(event["key"]))
            if not waiting:
                importlib.import_module("hpcbench.records.frame")

    return listener


@contextmanager
def show_checks(console: Console) -> Iterator[Report]:
    """Print a line for each check of `hpcbench.doctor.doctor.check_site` while the block lasts.

    Parameters
    ----------
    console
        Where to print them.

    Yields
    ------
    callable
        Takes each check, and between them what is waited for.
    """
    status = console.status("checking")
    last = ""

    def report(news: Check | str) -> None:
        nonlocal last
        if isinstance(news, Check):
            status.update("checking")
            console.print(check_text(news), soft_wrap=not console.is_terminal)
        elif news != last:
            # Asked every second; a log file gets each message once.
            status.update(escape(news))
            if not console.is_terminal:
                console.print(news, style="dim", highlight=False, markup=False, soft_wrap=True)
            last = news

    with status:
        yield report


def check_text(check: Check) -> Text:
    """Return a check as a line, with a line below it for what to do.

    Parameters
    ----------
    check
        A finished check.

    Returns
    -------
    rich.text.Text
        State, pool, name and finding, in colour.
    """
    colour = {State.OK: "green", State.FAILED: "bold red", State.SKIPPED: "yellow"}[check.state]
    name = f"{check.pool}: {check.name}" if check.pool else check.name
    first, *more = check.found.splitlines() or [""]
    text = Text.assemble((f"{check.state:8}", colour), f"{name:24} ", first)
    if more:
        text.append("\n" + textwrap.indent(textwrap.dedent("\n".join(more)), " " * 8))
    return text.append(f"\n        -> {check.todo}", style="bold") if check.todo else text


class _View:
    def __init__(self, console: Console, bar: Progress) -> None:
        self._console = console
        self._bar = bar
        self._task: TaskID | None = None
        self._counts: Counter[str] = Counter()
        self._last_jobs = ""

    def report(self, event: Mapping[str, Any]) -> None:
        match event["kind"]:
            case "planned":
                self._planned(event["plan"])
            case "pull":
                self._print(f"pulling {event['image']} (once, for all nodes)")
            case "workers" if self._task is not None:
                self._bar.update(self._task, description="starting Triton")
            case "started" if self._task is not None:
                self._bar.update(self._task, description=self._description())
            case "note":
                self._print(event["text"], style="yellow")
            case "jobs":
                self._jobs(event["pools"])
            case "retry":
                points = len(event["placement"].points)
                self._console.print(
                    f"[yellow]worker lost[/] ({escape(event['reason'])}), "
                    f"trying {counted(points, 'point')} again",
                    highlight=False,
                )
            case "record":
                self._record(event)

    def _print(self, text: str, style: str | None = None) -> None:
        # As it is: labels and messages of others may hold brackets, which are rich's markup.
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def _planned(self, plan: "Plan") -> None:
        total, left = plan.measurements, plan.measurements - plan.done
        done = f", {plan.done} of them already done" if plan.done else ""
        time_left = f", about {duration(plan.estimate_s)}" if left else ""
        self._console.print(
            f"[bold]{plan.campaign.name}[/] on {plan.site.name}: "
            f"{counted(total, 'measurement')}{done}{time_left}",
            highlight=False,
        )
        if left:
            self._task = self._bar.add_task("starting workers", total=total, completed=plan.done)

    def _jobs(self, pools: Mapping[str, "PoolJobs"]) -> None:
        """Print the state of the jobs when it has changed, on sites with a batch system."""
        text = "; ".join(f"{pool}: {jobs_text(asdict(jobs))}" for pool, jobs in pools.items())
        if text != self._last_jobs and any(jobs.batch for jobs in pools.values()):
            self._print(f"{time.strftime('%H:%M:%S')} {text}", style="dim")
        self._last_jobs = text

    def _record(self, event: Mapping[str, Any]) -> None:
        status = event["status"]
        self._counts[status] += 1
        if self._task is not None:
            self._bar.update(self._task, advance=1, description=self._description())
        throughput = event.get("throughput_infer_per_s")
        metric = f"{throughput:10.1f} infer/s" if throughput is not None else " " * 18
        self._console.print(
            f"{time.strftime('%H:%M:%S')} [{COLOURS[status]}]{status:<14}[/] "
            f"batch {event['batch_size']:<4} {loop_text(event):<16}"
            f"{metric}  {escape(event['model_label'])}",
            highlight=False,
            soft_wrap=True,
        )
        reason = event.get("reason") or ""
        # How far an unstable point was from stable is in the results; a run shows many of them.
        if reason and status != Status.UNSTABLE:
            self._print(f"         {reason}", style="dim")

    def _description(self) -> str:
        counts = [f"{count} {status}" for status, count in sorted(self._counts.items())]
        return "measuring" + (f" ({', '.join(counts)})" if counts else "")


# Results

_LONG = ("model", "server variant", "together")
"""Columns that may wrap; numbers never do."""


def results_table(frame: "pd.DataFrame") -> Table:
    """Return a table with throughput and latency, one line per measurement.

    Parameters
    ----------
    frame
        Measurements as `hpcbench.records.frame.load_results` returns them.

    Returns
    -------
    rich.table.Table
        Columns that are the same in all lines are left out.
    """
    points = frame[PLAN_SCHEMA.names].astype(object)
    # The label of a model that an ensemble calls has its version already.
    points["model_version"] = points["model_version"].mask(frame["part_of"].notna())
    rows = points.where(points.notna(), None).to_dict("records")
    cells = [(name, list(map(escape, texts))) for name, texts in columns(rows).items()]
    for name, column, divisor in (
        ("infer/s", "throughput_infer_per_s", 1),
        ("mean ms", "latency_avg_us", 1000),
        ("p95 ms", "latency_p95_us", 1000),
        ("p99 ms", "latency_p99_us", 1000),
    ):
        cells.append((name, [_number(value, divisor) for value in frame[column]]))
    cells.append(("status", [f"[{COLOURS[s]}]{s}[/]" for s in frame["status"]]))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, _ in cells:
        left = name in (*_LONG, "pool", "variant", "status")
        table.add_column(name, justify="left" if left else "right", no_wrap=name not in _LONG)
    for row in zip(*(values for _, values in cells), strict=True):
        table.add_row(*row)
    return table


def _number(value: Any, divisor: int) -> str:
    if value is None or math.isnan(value):
        return NONE
    return f"{value / divisor:,.{1 if divisor == 1 else 2}f}"


# Plans


def print_plan(todo: "Plan", console: Console) -> None:
    """Print what a plan measures, what it leaves out and why, and how long it takes.

    Parameters
    ----------
    todo
        The plan.
    console
        Where to print.
    """
    console.print(
        f"[bold]{todo.campaign.name}[/] on {todo.site.name}: "
        f"{counted(len(todo.grid.points), 'point')} x "
        f"{counted(todo.campaign.repeats, 'repeat')} x "
        f"{counted(len(todo.placements), 'pool')} = "
        f"{counted(todo.measurements, 'measurement')}",
        highlight=False,
    )
    console.print(_plan_table(todo))
    _print_grid(todo.grid, console)
    _print_inapplicable(todo, console)
    gpu = f", {duration(todo.gpu_s)} of GPU time" if todo.gpu_s else ""
    console.print(
        f"estimated time: {duration(todo.estimate_s)}{gpu}; unstable points take longer",
        highlight=False,
    )


def _plan_table(todo: "Plan") -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("pool", "model", "server variant", "batch size", _load_name(todo.grid.points)):
        table.add_column(name)
    table.add_column("placements", justify="right", no_wrap=True)
    for pool, placements in todo.placements.items():
        groups: dict[Any, list[Any]] = {}
        for placement in placements:
            for served, member in placement.by_served:
                groups.setdefault(served, []).append(member)
        for served, members in groups.items():
            points = [point for member in members for point in member.points]
            table.add_row(
                pool,
                escape(" + ".join(map(served_text, served))),
                escape(" + ".join(variant_text(json.dumps(each.axes)) for each in served)),
                " ".join(str(b) for b in sorted({p.load.batch_size for p in points})),
                " ".join(_loads(points)),
                f"{len(members)} x {duration(members[0].estimate_s)}",
            )
    return table


def _load_name(points: Iterable["Point"]) -> str:
    closed = {point.load.concurrency is not None for point in points}
    return "load" if len(closed) > 1 else "concurrency" if True in closed else "request rate"


def _loads(points: Iterable["Point"]) -> list[str]:
    """The loads of some points: concurrencies, then request rates with their unit."""
    loads = {(p.load.concurrency, p.load.request_rate) for p in points}
    closed = sorted(concurrency for concurrency, _ in loads if concurrency is not None)
    rates = sorted(rate for _, rate in loads if rate is not None)
    return [*map(str, closed), *(f"{rate:g}/s" for rate in rates)]


def _print_grid(grid: "Grid", console: Console) -> None:
    """Combinations of the axes that are no points, and parts of the campaign without effect."""
    if grid.merged:
        console.print(
            f"{counted(grid.merged, 'combination')} equal to another one, measured once "
            "(the queue delay has no effect without dynamic batching)",
            highlight=False,
        )
    for rule, count in grid.excluded:
        text = f"{counted(count, 'combination')} excluded by the rule {{{rule}}}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    for text in grid.no_effect:
        console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)


def _print_inapplicable(todo: "Plan", console: Console) -> None:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for each in todo.inapplicable:
        (served,) = each.placement.served
        axes = " + ".join(variant_text(json.dumps(variant.axes)) for variant in served)
        label = " + ".join(map(served_text, served))
        counts[each.placement.pool, label, axes, each.reason] += len(each.placement.points)
    if counts:
        console.print(f"not applicable, {counted(counts.total(), 'measurement')}:", highlight=False)
    for (pool, label, axes, reason), count in counts.items():
        text = f"  {pool}, {label}, {axes}, {count}: {reason}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
