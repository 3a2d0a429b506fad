"""How long a run still takes: what its plan says, corrected by how long its points really took."""

import time
from collections.abc import Callable
from datetime import timedelta

from rich.progress import ProgressColumn, Task
from rich.table import Column
from rich.text import Text

TRUST = 0.1
"""The plan counts as much as a measurement of this share of it."""


def time_left_s(estimate_s: float, points: int, done: int, took_s: float, since_s: float) -> float:
    """Return how long a run still takes.

    Parameters
    ----------
    estimate_s
        What the plan says for all its points, on all its workers together, in seconds of the clock.
    points
        How many points that are.
    done
        How many of them are there.
    took_s
        How long those after the first one took, likewise. So the time in a batch system's queue
        makes nothing slow, and workers that come late, or points that do not settle, do.
    since_s
        How long ago the last one came.

    Returns
    -------
    float
        In seconds; never less than one point takes on the average, as long as one is missing.
    """
    if done >= points:
        return 0.0
    each_s = estimate_s / points
    known = max(0, done - 1)
    each_s *= (took_s + TRUST * estimate_s) / max(known * each_s + TRUST * estimate_s, 1e-9)
    return max((points - done) * each_s - since_s, each_s)


class TimeLeft(ProgressColumn):
    """The time that a run still takes, beside its bar.

    Parameters
    ----------
    now
        The clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(Column(no_wrap=True))
        self._now = now
        self._estimate_s = 0.0
        self._points = self._done = 0
        self._first = self._last = 0.0

    def start(self, estimate_s: float, points: int) -> None:
        """Take over what a plan says.

        Parameters
        ----------
        estimate_s
            How long it takes, in seconds.
        points
            How many points it has left.
        """
        self._estimate_s, self._points = estimate_s, points

    def advance(self) -> None:
        """Count a point that has come."""
        self._last = self._now()
        self._first = self._first or self._last
        self._done += 1

    @property
    def left_s(self) -> float:
        """The time that is left [s]."""
        since_s = self._now() - self._last if self._done else 0.0
        took_s = self._last - self._first
        return time_left_s(self._estimate_s, self._points, self._done, took_s, since_s)

    def render(self, task: Task) -> Text:  # noqa: ARG002 - rich gives it
        """Return the time that is left.

        Parameters
        ----------
        task
            Rich's own; it knows how many points have come, but not how long they were to take.

        Returns
        -------
        rich.text.Text
            As in "0:03:20 left"; empty at the end.
        """
        left_s = round(self.left_s)
        text = f"{timedelta(seconds=left_s)} left" if left_s else ""
        return Text(text, style="progress.remaining")
