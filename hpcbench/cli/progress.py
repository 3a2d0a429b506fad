"""Shows a run on the terminal: a bar, and a line for each measurement."""

import math
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

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

from hpcbench.cli import point_text
from hpcbench.cluster.run_state import Callback, PoolJobs
from hpcbench.doctor.findings import Check, State, Tell
from hpcbench.plan.plan import Plan
from hpcbench.records.columns import Status
from hpcbench.records.store import PLAN_SCHEMA

COLOURS = {
    Status.OK: "green",
    Status.UNSTABLE: "yellow",
    Status.FAILED: "red",
    Status.TIMEOUT: "red",
    Status.NOT_APPLICABLE: "cyan",
}


@contextmanager
def shown(console: Console) -> Iterator[Callback]:
    """A listener for `hpcbench.cluster.driver.run` that shows what it hears while the block
    lasts.
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
        yield view.hear


@contextmanager
def examined(console: Console) -> Iterator[Tell]:
    """A listener for `hpcbench.doctor.doctor.examine` that prints a line for each check."""
    status = console.status("checking")
    last = ""

    def tell(news: Check | str) -> None:
        nonlocal last
        if isinstance(news, Check):
            status.update("checking")
            console.print(check_text(news), soft_wrap=not console.is_terminal)
        elif news != last:
            status.update(escape(news))
            if not console.is_terminal:
                console.print(news, style="dim", highlight=False, markup=False, soft_wrap=True)
            last = news

    with status:
        yield tell


def check_text(check: Check) -> Text:
    """What was checked, what was found, and below it what to do."""
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
        self._total = 0
        self._told = ""

    def hear(self, event: Mapping[str, Any]) -> None:
        match event["kind"]:
            case "planned":
                self._planned(event["plan"])
            case "pull":
                self._console.print(
                    f"pulling {event['image']}: once, for all nodes",
                    highlight=False,
                    soft_wrap=True,
                )
            case "workers" if self._task is not None:
                self._bar.update(self._task, description="starting the server")
            case "started" if self._task is not None:
                self._bar.update(self._task, description=self._description())
            case "note":
                text = event["text"]
                self._console.print(
                    text, style="yellow", highlight=False, markup=False, soft_wrap=True
                )
            case "jobs":
                self._jobs(event["pools"])
            case "retry":
                left = len(event["placement"].points)
                self._console.print(
                    f"[yellow]worker lost[/] ({escape(event['reason'])}); "
                    f"{left} points are tried again",
                    highlight=False,
                )
            case "record":
                self._record(event)

    def _planned(self, plan: Plan) -> None:
        self._total = plan.measurements
        left = self._total - plan.done
        kept = f", {plan.done} of them are there already" if plan.done else ""
        self._console.print(
            f"[bold]{plan.campaign.name}[/] on {plan.site.name}: {self._total} measurements{kept}"
            + (f"; about {duration(plan.estimate_s)}" if left else ""),
            highlight=False,
        )
        if left:
            self._task = self._bar.add_task(
                "starting workers", total=self._total, completed=plan.done
            )

    def _jobs(self, pools: Mapping[str, PoolJobs]) -> None:
        """Says how jobs stand when that has changed, where they stand in a queue at all."""
        told = "; ".join(f"{pool}: {jobs_text(asdict(jobs))}" for pool, jobs in pools.items())
        if told != self._told and any(jobs.batch for jobs in pools.values()):
            line = f"{time.strftime('%H:%M:%S')} {told}"
            self._console.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)
        self._told = told

    def _record(self, event: Mapping[str, Any]) -> None:
        status = event["status"]
        self._counts[status] += 1
        if self._task is not None:
            self._bar.update(self._task, advance=1, description=self._description())
        throughput = event.get("throughput_infer_per_s")
        figure = f"{throughput:10.1f} infer/s" if throughput is not None else " " * 18
        reason = event.get("reason") or ""
        words = (
            f"{time.strftime('%H:%M:%S')} [{COLOURS[status]}]{status:<14}[/] "
            f"batch {event['batch_size']:<4} {point_text.loop_text(event):<16}"
            f"{figure}  {escape(event['model_label'])}"
        )
        self._console.print(words, highlight=False, soft_wrap=True)
        if reason and status != Status.UNSTABLE:
            self._console.print(
                f"         {reason}", style="dim", highlight=False, markup=False, soft_wrap=True
            )

    def _description(self) -> str:
        told = [f"{count} {status}" for status, count in sorted(self._counts.items())]
        return "measuring" + (f" ({', '.join(told)})" if told else "")


def jobs_text(jobs: Mapping[str, Any]) -> str:
    """How a pool's jobs stand, with the batch system's own word for why some wait."""
    words = _counted(jobs["running"], "worker")
    if jobs["waiting"]:
        why = f" ({jobs['reason']})" if jobs["reason"] else ""
        words += f", {_counted(jobs['waiting'], 'job')} waiting{why}"
    return words


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds in words that a person reads at a glance."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


_LONG = ("model", "server variant", "together")
"""Columns of words that may take several lines: figures are never cut."""


def results_table(frame: Any) -> Table:
    """The figures of a results table for the terminal, one line per measurement.

    What is the same in all lines is left out.
    """
    told = frame[PLAN_SCHEMA.names].astype(object)
    # The label of a model that an ensemble called says what it is.
    told["model_version"] = told["model_version"].mask(frame["part_of"].notna())
    rows = told.where(told.notna(), None).to_dict("records")
    shown = [(name, list(map(escape, texts))) for name, texts in point_text.columns(rows).items()]
    for name, column, divisor in (
        ("infer/s", "throughput_infer_per_s", 1),
        ("mean ms", "latency_avg_us", 1000),
        ("p95 ms", "latency_p95_us", 1000),
        ("p99 ms", "latency_p99_us", 1000),
    ):
        shown.append((name, [_number(value, divisor) for value in frame[column]]))
    shown.append(("status", [f"[{COLOURS[s]}]{s}[/]" for s in frame["status"]]))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, _ in shown:
        left = name in (*_LONG, "pool", "variant", "status")
        table.add_column(name, justify="left" if left else "right", no_wrap=name not in _LONG)
    for row in zip(*(values for _, values in shown), strict=True):
        table.add_row(*row)
    return table


def _number(value: Any, divisor: int) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value / divisor:,.{1 if divisor == 1 else 2}f}"
