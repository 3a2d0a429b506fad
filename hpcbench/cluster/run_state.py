"""What others see of a run while it lasts: log, state, settings; and how they end it."""

import json
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from hpcbench.cluster.local import Jobs
from hpcbench.config.site import Site
from hpcbench.errors import BadInput, Interrupted
from hpcbench.records.columns import Key
from hpcbench.records.folder import Results, is_folder_locked, write_atomically
from hpcbench.runtime.command import SAFE, SAFE_PATH

ACCOUNT = "HPCBENCH_ACCOUNT"


def account(given: str | None, site: Site) -> str | None:
    """Whom the jobs are charged to: what was given, else what the environment says."""
    chosen = given or os.environ.get(ACCOUNT)
    if site.scheduler == "local" or not chosen:
        return None
    if not re.fullmatch(r"\w[\w.@-]*", chosen, re.ASCII):
        raise BadInput(
            f"--account {chosen}: allowed: letters, digits and _ . @ -, of which - . @ not first",
            f"give the account's name, here or in {ACCOUNT}",
        )
    return chosen


def check_folder(where: Results, site: Site) -> None:
    """Raises BadInput where the folder's name would not survive a job script."""
    if site.scheduler != "local" and not SAFE_PATH.fullmatch(str(where.folder)):
        raise BadInput(
            f"--results {where.folder}: has characters that a job script cannot take; allowed: "
            f"{SAFE}",
            "name a folder with a plainer path",
        )


def write_yaml(path: Path, model: BaseModel) -> None:
    """Writes a campaign or a site so that it can be read again from anywhere."""
    data = model.model_dump(mode="json", by_alias=True, exclude_none=False, exclude_unset=True)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    write_atomically(path, text.encode())


SHARE = 0.02
"""So much of the driver's time at most goes into telling others how the run stands."""


class State:
    """The file by which `hpcbench status` sees a run: written where something has changed.

    What it says is of use for seconds, so that it need not survive a crash of the machine.
    """

    def __init__(self, where: Results) -> None:
        self._where = where
        self._last: dict[str, Any] = {}
        self._not_before = 0.0

    def write(self, running: Callable[[], Sequence[Key]], jobs: Mapping[str, Jobs]) -> None:
        """Tells what is being measured, and how the jobs stand; to be called about once a second.

        ``running`` is asked only where something is written.
        """
        begun = time.monotonic()
        if begun < self._not_before:
            return
        state = {
            "running": running(),
            "jobs": {pool: asdict(its) for pool, its in jobs.items()},
        }
        if state != self._last:
            self._last = state
            whose = {
                "process": os.getpid(),
                "host": socket.gethostname(),
                "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            content = json.dumps({**whose, **state}).encode()
            write_atomically(self._where.state, content, durable=False)
        self._not_before = begun + (time.monotonic() - begun) / SHARE


def read(where: Results) -> dict[str, Any]:
    """The state that the run at work in the folder wrote last; empty where there is no such run."""
    if is_folder_locked(where) and where.state.is_file():
        state: dict[str, Any] = json.loads(where.state.read_text())
        return {"running": [], "jobs": {}, **state}
    return {"running": [], "jobs": {}}


class _LogFile(logging.FileHandler):
    def handleError(self, _: logging.LogRecord) -> None:  # noqa: N802
        """Says nothing: on a full disk, the run itself tells why it ends."""


@contextmanager
def log_file(where: Results) -> Iterator[None]:
    """What hpcbench logs goes to the driver's log, too, while the block lasts."""
    handler = _LogFile(where.logs / "driver.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("hpcbench")
    logger.addHandler(handler)
    logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Turns SIGINT, SIGTERM and SIGHUP into Interrupted; a second one changes nothing.

    One that this process was started to ignore stays ignored: that is what nohup is for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    all_three = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [each for each in all_three if signal.getsignal(each) != signal.SIG_IGN]

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
