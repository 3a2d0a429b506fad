"""Waiting for what another program does."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object], timeout_s: float = 20.0, every_s: float = 0.05
) -> bool:
    """Return whether ``condition()`` became true in time; it is asked again ``every_s`` seconds."""
    deadline = time.monotonic() + timeout_s
    while not (met := bool(condition())) and time.monotonic() < deadline:
        time.sleep(every_s)
    return met
