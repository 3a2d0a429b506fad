"""The CPUs that this process may use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_one() -> Iterator[int]:
    """Keep this process, and what it starts meanwhile, on one of its CPUs; the CPU's number."""
    allowed = os.sched_getaffinity(0)
    cpu = min(allowed)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, allowed)
