"""Spreads a campaign over the pools of a site, stores what arrives, and resumes."""

import contextlib
import json
import logging
import os
import queue
import signal
import socket
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from distributed import Client, Future, KilledWorker
from pydantic import BaseModel

from hpcbench import images, process, store
from hpcbench.campaign import Campaign
from hpcbench.cluster import cluster_client
from hpcbench.errors import Interrupted, SiteError, UnusableNode
from hpcbench.measure import unmeasured
from hpcbench.placement import Placement
from hpcbench.planning import Plan, plan, plan_rows
from hpcbench.records import Status
from hpcbench.site import Site
from hpcbench.store import Results
from hpcbench.worker import TOPIC, told, work

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""How often a placement may take its worker down with it before its points are given up."""

Listener = Callable[[Mapping[str, Any]], None]
"""Told about everything that happens in a run, for progress bars and logs."""


@dataclass(frozen=True)
class Summary:
    """How a run ended: how many measurements have which status, and how many were made now."""

    results: Path
    counts: Mapping[str, int]
    missing: int
    measured_now: int
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 where every point has its record and none failed."""
        bad = self.counts.get(Status.FAILED, 0) + self.counts.get(Status.TIMEOUT, 0)
        return 1 if bad or self.missing else 0


def run(
    campaign: Campaign,
    site: Site,
    results: str | Path,
    *,
    pools: Sequence[str] = (),
    listener: Listener | None = None,
) -> Summary:
    """Measures what ``results`` does not hold yet, and returns how it ended.

    Killed at any moment, the same call goes on where it stopped. Raises BadInput before
    anything is started, SiteError where the site refuses, Interrupted after SIGINT, SIGTERM or
    SIGHUP, when all workers and their programs are gone.
    """
    where = Results(Path(results).absolute())
    try:
        return _run(campaign, site, where, pools, listener or (lambda _: None))
    except OSError as error:
        raise SiteError(
            f"{error.filename or where.folder}: {error.strerror or error}",
            "what was measured is kept; mend this and run the same command again",
        ) from error


def _run(
    campaign: Campaign, site: Site, where: Results, pools: Sequence[str], tell: Listener
) -> Summary:
    started = time.monotonic()
    todo = plan(campaign, site, pools=pools)
    where.create()
    with store.locked(where), _log_file(where):
        store.merge_leftovers(where)
        todo = todo.without(store.done(where))
        write_yaml(where.campaign, campaign)
        write_yaml(where.site, site)
        store.write_plan(where, plan_rows(todo))
        tell({"kind": "planned", "plan": todo})
        if any(todo.placements.values()):
            images.pull(todo.site.container, lambda image: tell({"kind": "pull", "image": image}))
            _drive(todo, where, tell)
        store.merge_leftovers(where)
        where.state.unlink(missing_ok=True)
    return summarise(where, started=started, done_before=todo.done)


def summarise(where: Results, *, started: float = 0.0, done_before: int = 0) -> Summary:
    """Counts what the folder holds against what the newest run set out to measure."""
    found = store.statuses(where)
    wanted = [(row["point_id"], row["pool"], row["repeat"]) for row in store.read_plan(where)]
    counts = Counter(found[key][0] for key in wanted if key in found)
    return Summary(
        results=where.folder,
        counts=dict(counts),
        missing=sum(key not in found for key in wanted),
        measured_now=max(0, counts.total() - done_before),
        seconds=time.monotonic() - started,
    )


def write_yaml(path: Path, model: BaseModel) -> None:
    """Writes a campaign or a site so that it can be read again from anywhere."""
    data = model.model_dump(mode="json", by_alias=True, exclude_none=False, exclude_unset=True)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    store.write_atomically(path, text.encode())


@contextmanager
def _log_file(where: Results) -> Iterator[None]:
    handler = logging.FileHandler(where.logs / "driver.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("hpcbench")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


@dataclass
class _Pool:
    """One pool while the run lasts. ``flying`` maps what is on a worker to its attempt."""

    client: Client
    cluster: Any
    waiting: deque[tuple[Placement, int]]
    flying: dict[Future[Any], tuple[Placement, int]] = field(default_factory=dict)

    @property
    def window(self) -> int:
        """Placements in flight: one per live worker, so that a dead one takes no other along."""
        return max(1, len(self.cluster.scheduler.workers))


def _drive(todo: Plan, where: Results, tell: Listener) -> None:
    events: queue.SimpleQueue[Future[Any] | Mapping[str, Any]] = queue.SimpleQueue()
    with ExitStack() as stack:
        stack.enter_context(_signals_interrupt())
        pools = []
        for name, placements in todo.placements.items():
            if placements:
                client = stack.enter_context(cluster_client(todo.site.pools[name]))
                client.subscribe_topic(TOPIC, lambda event: events.put(event[1]))
                pools.append(_Pool(client, client.cluster, deque((p, 1) for p in placements)))
        tell({"kind": "workers"})
        written = 0.0
        try:
            while any(pool.waiting or pool.flying for pool in pools):
                for pool in pools:
                    _submit(pool, todo.site, where, events)
                if time.monotonic() > written + 1:
                    _write_state(where, pools)
                    written = time.monotonic()
                event = events.get()
                if isinstance(event, Future):
                    _finish(event, pools, todo.site, where, tell)
                else:
                    tell(event)
        except BaseException:
            for pool in pools:
                _stop_programs(pool.client)
            raise


def _submit(pool: _Pool, site: Site, where: Results, events: "queue.SimpleQueue[Any]") -> None:
    while pool.waiting and len(pool.flying) < pool.window:
        placement, attempt = pool.waiting.popleft()
        future = pool.client.submit(
            work,
            placement,
            site,
            str(where.folder),
            key=f"{placement.id}-{attempt}",
            pure=False,
        )
        pool.flying[future] = placement, attempt
        future.add_done_callback(events.put)


def _finish(
    future: "Future[Any]",
    pools: Sequence[_Pool],
    site: Site,
    where: Results,
    tell: Listener,
) -> None:
    pool = next(pool for pool in pools if future in pool.flying)
    placement, attempt = pool.flying.pop(future)
    error = future.exception()
    if error is None:
        return
    if isinstance(error, UnusableNode):
        raise error
    killed = isinstance(error, KilledWorker)
    reason = "it was killed" if killed else f"{type(error).__name__}: {error}".splitlines()[0]
    log.error("placement %s, attempt %d: %s", placement.id, attempt, reason)
    left = placement.without(store.parts_of(where, placement.id))
    if left is None:
        return
    if killed and attempt < ATTEMPTS:
        tell({"kind": "retry", "placement": left, "reason": reason})
        pool.waiting.appendleft((left, attempt + 1))
        return
    trace = "".join(traceback.format_exception(error))[-4000:]
    told_reason = f"its worker died {ATTEMPTS} times: {reason}" if killed else reason
    for point in left.points:
        record = unmeasured(point, left, site, Status.FAILED, told_reason)
        store.write_point(where, record)
        tell(told(record))
    log.error("given up: %s", trace)


def _stop_programs(client: Client) -> None:
    """Ends Triton and perf_analyzer on the workers, before the workers go."""
    with contextlib.suppress(Exception):
        client.run(process.stop_all, nanny=False, on_error="ignore")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and any(client.processing().values()):
            time.sleep(0.1)


def _write_state(where: Results, pools: Sequence[_Pool]) -> None:
    state = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "running": [key for pool in pools for p, _ in pool.flying.values() for key in p.keys],
    }
    store.write_atomically(where.state, json.dumps(state).encode())


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Turns SIGINT, SIGTERM and SIGHUP into Interrupted; a second one changes nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, _: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(
            f"stopped by {signal.Signals(number).name}; what was measured is kept",
            "the same command goes on where this one stopped",
        )

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
