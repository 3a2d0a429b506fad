"""Shows the progress of a run, and the checks of a site, on the terminal."""

import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from hpcbench.cli.console import SafeConsole, line_width, print_folded, print_lines
from hpcbench.cli.lines import folded_phrases
from hpcbench.cli.notebook import notebook_display, notebook_progress
from hpcbench.cli.point_text import (
    POINT,
    Row,
    counted,
    differing,
    differs,
    duration,
    jobs_text,
    point_phrases,
    pulled_text,
    retried_text,
    texts_of,
)
from hpcbench.cli.table import COLOURS
from hpcbench.cli.time_left import TimeLeft
from hpcbench.cluster.events import (
    Event,
    JobsSeen,
    Listener,
    Note,
    PlacementRetried,
    PlacementStarted,
    Planned,
    PointMeasured,
    PullsImage,
    StartsWorkers,
    Stopping,
)
from hpcbench.doctor.findings import Check, CheckListener, State
from hpcbench.plan.initial_record import plan_rows
from hpcbench.records.columns import Key, Status

if TYPE_CHECKING:
    # Only for annotations: these import Dask, which the checks of a site here do not need.
    from hpcbench.cluster.run_state import PoolJobs
    from hpcbench.plan.plan import Plan

_SERVER = ("server variant", "pool")
"""What each line of progress says besides the load: it may be all that is read of a run."""

_REASON = len("00:00 ")
"""How far reasons are indented: so that the times stand out."""

_BEFORE = len("00:00 unstable 10,000.0 infer/s  ")
"""What stands before the words for a point, as in most lines."""


@contextmanager
def progress(console: Console | None = None) -> Iterator[Listener]:
    """Show the progress of a run while the block lasts, as the command does.

    It gives the ``listener`` of the run::

        with progress() as listener:
            run(campaign, site, "results", listener=listener)

    Parameters
    ----------
    console
        Where to show it; by default below the cell of a notebook, else stderr. Only a terminal
        gets a bar; a file gets the lines.

    Yields
    ------
    callable
        The ``listener`` for `hpcbench.run`.
    """
    if console is None and (display := notebook_display()):
        with notebook_progress(display) as listener:
            yield listener
        return
    console = console or SafeConsole(stderr=True)
    time_left = TimeLeft()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        # Where it is narrow the bar becomes shorter, and no number.
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        time_left,
        console=console,
        expand=True,
        disable=not console.is_terminal,
    )
    view = _View(console, bar, time_left)
    with bar:
        yield view.report


@contextmanager
def show_checks(console: Console) -> Iterator[CheckListener]:
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


def said_of_points(rows: Sequence[Row], width: int | None) -> tuple[list[str], tuple[str, ...]]:
    """Return what a run says once of all its points, and what it says of each.

    Parameters
    ----------
    rows
        What the run sets out to measure.
    width
        How wide a line may be; None for any width.

    Returns
    -------
    tuple
        Phrases, and names of `point_text.TEXTS`. Each line says point, server variant and pool
        where that fits; else what is the same for all is said once.
    """
    one_model = not differs("model", rows)
    more = [name for name in differing(rows) if name not in _SERVER]
    names = (*POINT[one_model:], *_SERVER, *more)
    varying = tuple(name for name in names if differs(name, rows))
    if width is None or not varying:
        return [], names
    longest = [max(map(len, texts_of(name, rows))) for name in names]
    if _BEFORE + len(", ".join("x" * length for length in longest if length)) <= width:
        return [], names
    same = [name for name in (*POINT, *_SERVER) if name not in varying]
    return point_phrases(rows[0], same), varying


class _View:
    def __init__(self, console: Console, bar: Progress, time_left: TimeLeft) -> None:
        self._console = console
        self._bar = bar
        self._time_left = time_left
        self._planned_keys: frozenset[Key] = frozenset()
        self._task: TaskID | None = None
        self._counts: Counter[str] = Counter()
        self._last_jobs = ""
        self._last_reason = ""
        self._is_stopping = False
        self._rows: dict[Key, Row] = {}
        self._said: tuple[str, ...] = POINT

    def report(self, event: Event) -> None:
        match event:
            case Planned():
                self._planned(event.plan)
            case PullsImage():
                self._print(pulled_text(event))
            case StartsWorkers():
                self._describe("starting Triton")
            case PlacementStarted():
                self._describe(self._description())
            case Note():
                self._print(event.text, style="yellow")
            case Stopping():
                # What the rest would take is no time that anybody waits.
                self._time_left.start(0.0, 0)
                self._is_stopping = True
                self._print(event.text, style="bold yellow")
                self._describe(self._description())
            case JobsSeen():
                self._jobs(event.pools)
            case PlacementRetried():
                self._print(retried_text(event), style="yellow")
            case PointMeasured(is_part=False):
                self._record(event)

    def _print(self, text: str, style: str = "") -> None:
        print_folded(self._console, text, style)

    def _describe(self, text: str, advance: int = 0) -> None:
        if self._task is not None:
            self._bar.update(self._task, description=text, advance=advance)

    def _planned(self, plan: "Plan") -> None:
        total, left = plan.measurements, plan.measurements - plan.done
        done = f", {plan.done} of them already done" if plan.done else ""
        time_left = f", about {duration(plan.estimate_s)}" if left else ""
        text = f"{plan.campaign.name} on {plan.site.name}: {counted(total, 'measurement')}"
        self._print(text + done + time_left, "bold")
        rows = plan_rows(plan)
        self._rows = {(row["point_id"], row["pool"], row["repeat"]): row for row in rows}
        same, self._said = said_of_points(rows, line_width(self._console))
        if same:
            self._print(f"all points: {', '.join(same)}", "bold")
        if left:
            self._planned_keys = plan.keys_left
            self._time_left.start(plan.estimate_s, len(self._planned_keys))
            self._task = self._bar.add_task("starting workers", total=total, completed=plan.done)

    def _jobs(self, pools: Mapping[str, "PoolJobs"]) -> None:
        """Print the state of the jobs when it has changed, on sites with a batch system."""
        text = "; ".join(f"{pool}: {jobs_text(asdict(jobs))}" for pool, jobs in pools.items())
        if text != self._last_jobs and any(jobs.batch for jobs in pools.values()):
            self._print(f"{time.strftime('%H:%M')} {text}", style="dim")
        self._last_jobs = text

    def _record(self, event: PointMeasured) -> None:
        status = event.status
        self._counts[status] += 1
        self._describe(self._description(), advance=1)
        if event.key in self._planned_keys:
            # The others apply nowhere, and take no time.
            self._time_left.advance()
        throughput = event.throughput_infer_per_s
        metric = f"{throughput:,.1f} infer/s" if throughput is not None else ""
        # A number of many digits begins where a short status leaves space.
        first = f"{time.strftime('%H:%M')} {status} {metric:>{24 - len(status)}}  "
        width = line_width(self._console)
        # Below the first words, unless the terminal is too narrow for that.
        indent = len(first) if width is None or width > 2 * len(first) else _REASON
        text = Text(folded_phrases(self._phrases(event), width, first, indent))
        text.stylize(COLOURS[status], _REASON, _REASON + len(status))
        print_lines(self._console, [text])
        reason = event.reason or ""
        # How far an unstable point was from stable is in the results; a run shows many of them. A
        # line without a reason has that of the last one: a server that fails does so at each point.
        if reason not in ("", self._last_reason) and status != Status.UNSTABLE:
            self._print(textwrap.indent(reason, " " * _REASON), style="dim")
            self._last_reason = reason

    def _phrases(self, event: PointMeasured) -> list[str]:
        """Return what was measured, as the plan says it."""
        row = self._rows.get(event.key)
        return point_phrases(vars(event), POINT) if row is None else point_phrases(row, self._said)

    def _description(self) -> str:
        counts = [f"{count} {status}" for status, count in sorted(self._counts.items())]
        return ("stopping" if self._is_stopping else "measuring") + (
            f" ({', '.join(counts)})" if counts else ""
        )
