"""Waiting for what another program does."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object], timeout_s: float = 60.0, every_s: float = 0.05
) -> bool:
    """Return whether ``condition()`` became true in time; it is asked again ``every_s`` seconds.

    The limit is for what never comes: five other groups of tests may have the CPUs meanwhile.
    """
    deadline = time.monotonic() + timeout_s
    while not (met := bool(condition())) and time.monotonic() < deadline:
        time.sleep(every_s)
    return met
