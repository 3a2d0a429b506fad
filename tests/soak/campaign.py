"""One campaign of the soak: it is run again and again, under faults, until every point is there."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak import invariants, processes
from tests.soak.durable import Durable
from tests.soak.faults import FAULTS, MOVED
from tests.soak.schedule import Burst, Fault
from tests.soak.world import BOX, World, scratch_of

HANG_S = 240.0
"""So long without a row, a fault or an end of the driver is a hang."""

GONE_S = 60.0
"""Seconds after a run's end, in which what a killed driver has left ends by itself."""

_RUNS_WITHOUT_A_ROW = 6
"""So many runs in a row that measure nothing, without a fault, end the campaign."""

DRIVER_BYTES = 400_000_000
"""So much memory a driver may take."""

_TURN_S = 0.1

_REFUSALS = ("cannot be written", "another run is using it")
"""A run that is begun while a fault lasts may say so, and end with 2."""


@dataclass(frozen=True)
class Happened:
    """A fault that hit something.

    Attributes
    ----------
    kind, hit
        What it was, and whom it hit.
    at_once
        How many faults came with it.
    at
        When, by `time.monotonic`.
    recovered_s
        Seconds until the next row was durable, or the campaign was complete.
    failed_rows
        Rows that say failed or timeout until then.
    ended
        Exit codes of the runs that ended until then.
    """

    kind: str
    hit: str
    at_once: int
    at: float
    recovered_s: float | None
    failed_rows: int
    ended: tuple[int, ...]


@dataclass
class Outcome:
    """What became of a campaign."""

    scheduler: str
    seed: int
    points: int
    seconds: float = 0.0
    happened: list[Happened] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    runs: list[tuple[float, int]] = field(default_factory=list)
    driver_bytes: int = 0
    rows: int = 0


class _Driver:
    """The command of the campaign, begun again each time it ends."""

    def __init__(self, world: World, out: Path) -> None:
        self.world = world
        self.out = out
        self.started = time.monotonic()
        self.stream = out.open("ab")
        self.from_ = out.stat().st_size
        self.process = subprocess.Popen(
            [BOX, "exec", *world.run_command],
            stdin=subprocess.DEVNULL,
            stdout=self.stream,
            stderr=self.stream,
        )

    def said(self) -> str:
        """What this run printed."""
        return self.out.read_bytes()[self.from_ :].decode(errors="replace")


class Campaign:
    """A campaign while it lasts."""

    def __init__(self, world: World, seed: int, points: int, faults: int) -> None:
        self.world = world
        self.outcome = Outcome(world.scheduler, seed, points)
        self.wanted_faults = faults
        self.durable = Durable(world.results)
        self._bursts: list[tuple[float, list[tuple[Fault, str]]]] = []
        self._under_way = threading.Event()
        self._is_away = False
        self._complete = False

    def run(self, bursts: Iterator[Burst]) -> Outcome:
        """Let it come to its end."""
        started = time.monotonic()
        before = processes.files_of_user(self.world.first), processes.mounts(self.world.first)
        with ExitStack() as stack:
            stack.enter_context(self.durable)
            thread = threading.Thread(target=self._happen, args=(bursts,), daemon=True)
            thread.start()
            self._run_until_complete()
            self._complete = True
            thread.join(120)
            # What was written last.
            self.durable.look()
        self.outcome.seconds = time.monotonic() - started
        self.outcome.rows = len(self.durable.at)
        self._check(*before)
        self._sum_up()
        return self.outcome

    @property
    def _faults(self) -> int:
        return sum(len(faults) for _, faults in self._bursts)

    def _happen(self, bursts: Iterator[Burst]) -> None:
        """The thread of the faults."""
        rows = 0
        for burst in bursts:
            deadline = time.monotonic() + 45.0
            while burst.waits and len(self.durable.at) <= rows and time.monotonic() < deadline:
                if self._complete:
                    return
                time.sleep(_TURN_S)
            time.sleep(burst.pause_s)
            rows = len(self.durable.at)
            if self._complete or self._faults >= self.wanted_faults:
                return
            self._is_away = any(fault.kind == MOVED for fault in burst.faults)
            self._under_way.set()
            self._happen_at_once(burst)
            self._under_way.clear()
            self._is_away = False

    def _happen_at_once(self, burst: Burst) -> None:
        at = time.monotonic()
        hits: list[tuple[Fault, str]] = []

        def happen(fault: Fault) -> None:
            hit = FAULTS[fault.kind].happen(self.world, fault)
            if hit is not None:
                hits.append((fault, hit))

        threads = [threading.Thread(target=happen, args=(fault,)) for fault in burst.faults]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if hits:
            self._bursts.append((at, hits))

    def _run_until_complete(self) -> None:
        fruitless = 0
        while fruitless < _RUNS_WITHOUT_A_ROW:
            rows, faults = len(self.durable.at), self._faults
            driver = _Driver(self.world, self.world.folder / "output.txt")
            code = self._wait_for(driver)
            self.outcome.runs.append((time.monotonic(), code))
            self.durable.look()
            if code == 0:
                return
            quiet = len(self.durable.at) == rows and self._faults == faults
            fruitless = fruitless + 1 if quiet else 0
            while self._under_way.is_set() and code in (2, 3):
                time.sleep(_TURN_S)  # the site is broken while a fault lasts
        self.outcome.problems.append(f"{fruitless} runs in a row measured nothing")

    def _wait_for(self, driver: _Driver) -> int:
        last, rows = time.monotonic(), len(self.durable.at)
        while (code := driver.process.poll()) is None:
            time.sleep(_TURN_S)
            now = time.monotonic()
            if len(self.durable.at) > rows or self._under_way.is_set():
                last, rows = now, len(self.durable.at)
            for pid in self.world.pids("driver") if int(now * 10) % 20 == 0 else ():
                its = processes.memory_bytes(pid)
                self.outcome.driver_bytes = max(self.outcome.driver_bytes, its)
            if now - last > HANG_S:
                self.outcome.problems.append(f"no row for {HANG_S:.0f} s: {self._stacks()}")
                for pid in self.world.pids("driver"):
                    processes.signal_safely(processes.psutil.Process(pid), 9)
                last = now
        driver.stream.close()
        while self._is_away:
            time.sleep(_TURN_S)  # a run would begin with an empty folder
        self._check_code(driver, code)
        return code

    def _stacks(self) -> str:
        return ", ".join(
            f"{kind} {process.pid} {process.status()}"
            for kind in processes.KINDS
            for process in processes.of_kind(self.world.first, kind)
        )

    def _check_code(self, driver: _Driver, code: int) -> None:
        """An exit code is right where it says what the rows say, or why the run ended early."""
        said = driver.said()
        if "Traceback" in said:
            self.outcome.problems.append(f"exit code {code} with a traceback: {said[-1500:]}")
        if code in (0, 1):
            right = invariants.right_exit_code(self.world.results)
            if code != right:
                self.outcome.problems.append(f"exit code {code}, and not {right}: {said[-500:]}")
        elif code == 3 or (code == 2 and any(words in said for words in _REFUSALS)):
            if "hpcbench: " not in said:
                self.outcome.problems.append(f"exit code {code}, no message: {said[-500:]}")
        elif code != 137:
            self.outcome.problems.append(f"exit code {code}: {said[-800:]}")

    def _check(self, files: set[str], mounts: list[str]) -> None:
        world, found = self.world, self.outcome.problems
        deadline = time.monotonic() + GONE_S
        while time.monotonic() < deadline:
            running = processes.of_user(world.first)
            queue = world.queue()
            left = processes.files_of_user(world.first) - files
            if not running and not queue and not left:
                break
            time.sleep(1)
        for process in running:
            found.append(f"left: process {process.pid}: {_words(process)}")
        found += [f"left: job {job}" for job in queue]
        found += [f"left: file {name}" for name in sorted(left)]
        now = processes.mounts(world.first)
        found += [f"left: mount {name}" for name in now if now.count(name) > mounts.count(name)]
        found += [f"unreadable: {each}" for each in self.durable.unreadable]
        scratch = scratch_of(world.scratch.folder).iterdir()
        found += [f"left: scratch file {path.name}" for path in scratch]
        if self.outcome.driver_bytes > DRIVER_BYTES:
            found.append(f"a driver took {self.outcome.driver_bytes / 1e6:.0f} MB")
        found += invariants.problems(world.results, self.outcome.points, self.durable.measured)

    def _sum_up(self) -> None:
        rows = self.durable.at
        end = self.outcome.runs[-1][0]
        for at, hits in self._bursts:
            until = next((when for when, _ in rows if when > at), end if end > at else None)
            last = until if until is not None else at
            bad = sum(at < when <= last and its in ("failed", "timeout") for when, its in rows)
            ended = tuple(code for when, code in self.outcome.runs if at < when <= last and code)
            for fault, hit in hits:
                recovered_s = None if until is None else until - at
                self.outcome.happened.append(
                    Happened(fault.kind, hit, len(hits), at, recovered_s, bad, ended)
                )


def _words(process: "processes.psutil.Process") -> str:
    try:
        return " ".join(process.cmdline())[:200]
    except processes.psutil.Error:
        return "gone"
