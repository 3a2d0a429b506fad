"""The CPUs that this process may use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_one() -> Iterator[int]:
    """Keep this process, and what it starts meanwhile, on one of its CPUs; the CPU's number."""
    with at_most(1) as (cpu,):
        yield cpu


@contextmanager
def at_most(count: int) -> Iterator[tuple[int, ...]]:
    """Keep this process, and what it starts meanwhile, on so many of its CPUs; their numbers."""
    allowed = os.sched_getaffinity(0)
    cpus = tuple(sorted(allowed)[:count])
    os.sched_setaffinity(0, cpus)
    try:
        yield cpus
    finally:
        os.sched_setaffinity(0, allowed)
