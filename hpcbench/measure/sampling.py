"""Readings of counters and sensors, taken at regular times while points are measured.

Which windows of a point count is known only when they are over. So everything is read all the
time, and the readings that lie within the counted windows are selected afterwards.

Times are seconds of `time.monotonic`.
"""

import logging
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

_CPU_SHARE = 0.01
"""The most that a source may take of one CPU."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """Something that can be read again and again.

    Attributes
    ----------
    period_s
        Seconds between two readings.
    """

    @property
    def period_s(self) -> float:
        """Seconds between two readings."""

    def read(self) -> T_co:
        """Return what it says now.

        Returns
        -------
        T_co
            Plain data.

        Raises
        ------
        Exception
            Where it cannot be read; it may be read again.
        """


@dataclass(frozen=True)
class Reading(Generic[T]):
    """What a source said, and when.

    Attributes
    ----------
    at
        When it was read, in seconds.
    value
        What it said.
    took_s
        How long reading took, half of it before ``at``.
    late_s
        By how much it began later than it was due.
    """

    at: float
    value: T
    took_s: float = 0.0
    late_s: float = 0.0


@dataclass(frozen=True)
class Energy:
    """Energy between two readings.

    Attributes
    ----------
    joules
        Summed over the devices.
    seconds
        The time between the readings.
    """

    joules: float
    seconds: float


class Sampler(AbstractContextManager["Sampler[T]"], Generic[T]):
    """A thread that reads a source while the ``with`` block lasts.

    Each source has a thread of its own, because one that answers late (an overloaded server, a busy
    driver) must not delay the others.

    Parameters
    ----------
    source
        What to read.
    """

    def __init__(self, source: Source[T]) -> None:
        self._source = source
        self._readings: list[Reading[T]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Sampler[T]":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        # A source that hangs, as a dying server may, is not waited for: the thread is a daemon.
        self._thread.join(1.0)

    def within(self, begin: float, end: float) -> tuple[Reading[T], ...]:
        """Return what was read in an interval.

        Parameters
        ----------
        begin, end
            The interval, in seconds.

        Returns
        -------
        tuple of Reading
            In the order of time. What counters say of the interval is the difference between the
            last and the first.
        """
        # A copy in one step: the thread may still append.
        return tuple(each for each in self._readings[:] if begin <= each.at <= end)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            before, cpu_s = time.monotonic(), time.thread_time()
            try:
                value = self._source.read()
                took_s = time.monotonic() - before
                at, late_s = before + took_s / 2, before - due
                self._readings.append(Reading(at, value, took_s, max(0.0, late_s)))
            except Exception as error:  # noqa: BLE001 - whatever a driver or a dying server raises
                log.debug("%s is not read: %s", type(self._source).__name__, error)
            # What is read must not disturb what is measured: on a node with hundreds of threads or
            # GPUs with a slow driver, it is read less often.
            period_s = max(self._source.period_s, (time.thread_time() - cpu_s) / _CPU_SHARE)
            due = max(due + period_s, time.monotonic())
