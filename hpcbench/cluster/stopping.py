"""How a run is stopped by signals: the first Ctrl-C waits for the points under way.

What the user should read is said at once, in whatever the driver is about.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpcbench.cluster.events import Event, Stopping
from hpcbench.errors import Interrupted

WAITING = "stopping: waiting for the point under way, again to kill it"
ENDING = "stopping: ending what is at work"


def say_stopping(event: Event) -> None:
    """Say on stderr that a run is stopping: the listener of a run that was given none.

    Parameters
    ----------
    event
        An event of the run. All others pass in silence.
    """
    if isinstance(event, Stopping):
        # Not print: a signal may come while the program itself prints.
        with contextlib.suppress(OSError):
            os.write(2, f"{event.text}\n".encode())


class Stop:
    """Whether a run is to stop, and whether it may finish the points under way.

    Parameters
    ----------
    notify
        Called with what the user should read.
    """

    def __init__(self, notify: Callable[[Stopping], None]) -> None:
        self.is_asked = False
        self._notify = notify
        self._wait: Callable[[], bool] = lambda: False

    @contextmanager
    def after_points(self, wait: Callable[[], bool]) -> Iterator[None]:
        """Let the first Ctrl-C wait for the points under way while the block lasts.

        Parameters
        ----------
        wait
            Called by the signal's handler: tells the block that it is to end, and returns whether
            there is anything to wait for.

        Yields
        ------
        None
            A first Ctrl-C only sets ``is_asked``; a second one raises Interrupted.
        """
        self._wait = wait
        try:
            yield
        finally:
            self._wait = lambda: False

    def ask(self, number: int) -> bool:
        """Act upon a signal, and say so.

        Parameters
        ----------
        number
            The signal.

        Returns
        -------
        bool
            Whether the run goes on for a while; else Interrupted is to be raised.
        """
        # A batch system that sends SIGTERM, or a terminal that is gone, leaves no time to wait.
        waits = number == signal.SIGINT and not self.is_asked and self._wait()
        self.is_asked = True
        self._notify(Stopping(WAITING if waits else ENDING))
        return waits


def interrupted(number: int = signal.SIGINT) -> Interrupted:
    """Return the error with which a run ends that a signal has stopped.

    Parameters
    ----------
    number
        The signal.

    Returns
    -------
    Interrupted
        What happened, and how to go on.
    """
    return Interrupted(
        f"stopped by {signal.Signals(number).name}; what was measured is kept",
        "run the same command again: it goes on where this one stopped",
    )


@contextmanager
def signals_interrupt(notify: Callable[[Stopping], None] = lambda _: None) -> Iterator[Stop]:
    """Turn SIGINT, SIGTERM and SIGHUP into Interrupted; what comes after that changes nothing.

    A signal that this process was started to ignore stays ignored: that is what nohup is for.

    Parameters
    ----------
    notify
        Called with what the user should read, within the signal's handler.

    Yields
    ------
    Stop
        By which a part of the block finishes what it is about. The handlers before come back when
        the block is left.

    Raises
    ------
    Interrupted
        In the block, where a signal comes.
    """
    stop = Stop(notify)
    # Python lets only the main thread set handlers; a notebook may run campaigns in another one.
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    all_three = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [each for each in all_three if signal.getsignal(each) != signal.SIG_IGN]

    raised: list[int] = []

    def handle(number: int, _: object) -> None:
        if not stop.ask(number):
            for each in numbers:
                signal.signal(each, signal.SIG_IGN)
            raised.append(number)
            raise interrupted(number)

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    except Interrupted:
        raise
    except Exception as error:
        if raised:
            # Compiled code and Dask may take the error in the handler for one of their own.
            raise interrupted(raised[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
