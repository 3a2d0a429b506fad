"""Shows the progress of a run in a notebook: a bar, and a table that grows."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

from hpcbench.cli.point_text import NONE, jobs_text, pulled_text, retried_text
from hpcbench.cli.results_table import asked_columns
from hpcbench.cli.table import TableColumn
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
from hpcbench.config.html_tables import rows_html
from hpcbench.plan.initial_record import plan_rows
from hpcbench.records.columns import Key, Status

if TYPE_CHECKING:
    from hpcbench.plan.plan import Plan

MOST_ROWS = 12
"""How many measurements are shown, the newest; all are in the results."""

_PAUSE_S = 0.3
"""A notebook is drawn by a browser: points that need no server come by thousands in a second."""


class Shown(Protocol):
    """What IPython returns for something that was displayed, to replace it."""

    def update(self, obj: object) -> None:
        """Replace what is shown.

        Parameters
        ----------
        obj
            What to show instead.
        """


def notebook_display() -> Callable[[object], Shown] | None:
    """Return what shows something below the cell of a notebook.

    Returns
    -------
    callable or None
        None where this is no notebook, as rich finds out.
    """
    if not Console().is_jupyter:
        return None
    from IPython.display import display

    return lambda page: display(page, display_id=True)  # type: ignore[no-untyped-call]


@contextmanager
def notebook_progress(display: Callable[[object], Shown]) -> Iterator[Listener]:
    """Show the progress of a run below a cell while the block lasts.

    Parameters
    ----------
    display
        Shows something, and returns what replaces it.

    Yields
    ------
    callable
        The ``listener`` for `hpcbench.run`.
    """
    view = _View(display)
    try:
        yield view.report
    finally:
        view.end()


class _Page:
    """Shown as HTML; as text where there is no browser."""

    def __init__(self, text: str, html: str) -> None:
        self._text, self._html = text, html

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._html


class _View:
    def __init__(self, display: Callable[[object], Shown]) -> None:
        self._display = display
        self._shown: Shown | None = None
        self._began = self._drawn = time.monotonic()
        self._time_left = TimeLeft()
        self._title = self._doing = self._jobs = ""
        self._total = self._done = 0
        self._counts: Counter[str] = Counter()
        self._asked: list[TableColumn] = []
        self._rows: dict[Key, int] = {}
        self._planned: frozenset[Key] = frozenset()
        self._points: deque[PointMeasured] = deque(maxlen=MOST_ROWS)
        self._notes: dict[str, None] = {}

    def report(self, event: Event) -> None:
        self._doing = _doing(event) or self._doing
        match event:
            case Planned():
                self._plan(event.plan)
            case Note():
                self._notes[event.text] = None
            case JobsSeen():
                batch = {pool: jobs for pool, jobs in event.pools.items() if jobs.batch}
                texts = (f"{pool}: {jobs_text(asdict(jobs))}" for pool, jobs in batch.items())
                self._jobs = "; ".join(texts)
            case PlacementRetried():
                self._notes[retried_text(event)] = None
            case PointMeasured(is_part=False):
                self._record(event)
        pause_s = time.monotonic() - self._drawn
        if self._title and (isinstance(event, Planned | Stopping) or pause_s > _PAUSE_S):
            self._draw()

    def end(self) -> None:
        """Show how the run ended, whatever came last."""
        if self._title:
            self._jobs, self._planned = "", frozenset()
            self._doing = "done" if self._done == self._total else "ended"
            self._draw()

    def _plan(self, plan: "Plan") -> None:
        self._title = f"{plan.campaign.name} on {plan.site.name}"
        self._total, self._done = plan.measurements, plan.done
        rows = plan_rows(plan)
        self._rows = {
            (row["point_id"], row["pool"], row["repeat"]): i for i, row in enumerate(rows)
        }
        columns = asked_columns(rows)
        # What is the same for all points is in the campaign, which the notebook shows, too.
        self._asked = [each for each in columns if each.varies] or columns[-1:]
        self._planned = plan.keys_left
        self._time_left.start(plan.estimate_s, len(self._planned))

    def _record(self, event: PointMeasured) -> None:
        self._counts[event.status] += 1
        self._done += 1
        self._points.append(event)
        if event.key in self._planned:
            # The others apply nowhere, and take no time.
            self._time_left.advance()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        page = self._page()
        if self._shown is None:
            self._shown = self._display(page)
        else:
            self._shown.update(page)

    def _page(self) -> _Page:
        times = [_clock(self._drawn - self._began)]
        if self._planned:
            times.append(f"about {_clock(self._time_left.left_s)} left")
        counts = [f"{number} {status}" for status, number in sorted(self._counts.items())]
        count = f"{self._done}/{self._total}"
        bar = f'<progress value="{self._done}" max="{self._total}"></progress>'
        above = ", ".join(filter(None, [self._doing, *counts, *times]))
        text = "\n".join([f"{self._title}: {count} {above}", *self._notes, self._jobs])
        html = [
            f"<p><b>{escape(self._title)}</b></p><p>{bar} {count} {escape(above)}</p>",
            *(f"<p>{escape(each)}</p>" for each in (*self._notes, self._jobs) if each),
            self._table() if self._points else "",
        ]
        return _Page(text.rstrip(), "".join(html))

    def _table(self) -> str:
        """The newest measurement is the first row: what is new needs no scrolling."""
        newest = [*reversed(self._points)]
        # As on a terminal: how far an unstable point was from stable is in the results.
        reasons = ["" if e.status == Status.UNSTABLE else e.reason or "" for e in newest]
        head = [*(each.name for each in self._asked), "infer/s", "status"]
        rows = [self._row(event) for event in newest]
        if any(reasons):
            head.append("reason")
            rows = [[*row, reason] for row, reason in zip(rows, reasons, strict=True)]
        return rows_html(head, rows)

    def _row(self, event: PointMeasured) -> list[str]:
        row = self._rows.get(event.key)
        asked = [NONE if row is None else each.texts[row] for each in self._asked]
        throughput = event.throughput_infer_per_s
        metric = NONE if throughput is None else f"{throughput:,.1f}"
        return [*asked, metric, event.status]


def _doing(event: Event) -> str | None:
    """What the run is about from now on; None for what it was about before."""
    match event:
        case PullsImage():
            return pulled_text(event)
        case StartsWorkers():
            return "starting workers"
        case PlacementStarted():
            return "measuring"
        case Stopping():
            return event.text
    return None


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
