"""Who is connected to a pool's scheduler, as other threads than Dask's own may ask."""

from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin


class Roster(SchedulerPlugin):
    """The workers of one scheduler, by their names.

    The scheduler's own table cannot be read from another thread: it is sorted by Python code, and
    going through it while a worker comes or leaves fails.
    """

    def __init__(self) -> None:
        self._workers: dict[str, Any] = {}
        self.ever: set[str] = set()

    def add_worker(self, scheduler: Any, worker: str) -> None:
        state = scheduler.workers[worker]
        self._workers[worker] = state
        self.ever.add(str(state.name))

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:  # noqa: ARG002
        self._workers.pop(worker, None)

    @property
    def connected(self) -> frozenset[str]:
        """Those that are there now."""
        return frozenset(str(state.name) for state in list(self._workers.values()))

    @property
    def idle(self) -> list[str]:
        """Those that have nothing to do."""
        workers = list(self._workers.values())
        return [str(state.name) for state in workers if not state.processing]
