"""The CPUs of this thread, and of what it starts."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager


@contextmanager
def on_cpus(cpus: Collection[int]) -> Iterator[None]:
    """Give what this thread starts in the block these CPUs; other threads keep theirs.

    Parameters
    ----------
    cpus
        Their numbers; empty for those that the thread has.

    Yields
    ------
    None
        Once.
    """
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    # Inherited by containers, too: a child has the CPUs of the thread that starts it.
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
