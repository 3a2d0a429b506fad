"""What others see of a run while it lasts: its log, state and settings."""

import json
import logging
import logging.handlers
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from hpcbench.config.site import Site
from hpcbench.config.yaml_model import plain
from hpcbench.errors import BadInput, PrintableFormatter
from hpcbench.records.columns import Key
from hpcbench.records.folder import Results, is_folder_locked, write_atomically
from hpcbench.runtime.command import SAFE, SAFE_PATH

ACCOUNT = "HPCBENCH_ACCOUNT"
"""The variable that says who is charged for the jobs, where the command line does not."""

SHARE = 0.02
"""The part of the driver's time that may go into writing how the run stands."""


@dataclass(frozen=True)
class PoolJobs:
    """How the jobs of a pool stand.

    Attributes
    ----------
    running
        How many workers are connected.
    waiting
        How many jobs wait in the queue.
    reason
        Why they wait, in the batch system's words; empty where it says none.
    batch
        Whether they are jobs of a batch system.
    """

    running: int
    waiting: int = 0
    reason: str = ""
    batch: bool = True


def charged_account(given: str | None, site: Site) -> str | None:
    """Return who is charged for the jobs.

    Parameters
    ----------
    given
        What the user asks for; None to take what the environment says.
    site
        Where the jobs run.

    Returns
    -------
    str or None
        None where nobody is named, or nothing is charged.

    Raises
    ------
    BadInput
        Where it is more than a name: it becomes part of a job script.
    """
    chosen = given or os.environ.get(ACCOUNT)
    if site.scheduler == "local" or not chosen:
        return None
    if not re.fullmatch(r"\w[\w.@-]*", chosen, re.ASCII):
        raise BadInput(
            f"--account {chosen!r}: allowed are letters, digits and _ . @ -, and the first must be "
            "a letter, a digit or _",
            f"give the account's name, here or in {ACCOUNT}",
        )
    return chosen


def check_results_path(results: Results, site: Site) -> None:
    """Check that the name of a results folder can be part of a job script.

    Parameters
    ----------
    results
        The results folder.
    site
        Where the jobs run.

    Raises
    ------
    BadInput
        Where it has characters that mean something in a job script.
    """
    if site.scheduler != "local" and not SAFE_PATH.fullmatch(str(results.folder)):
        raise BadInput(
            f"--results {results.folder}: has characters that a job script cannot take; allowed: "
            f"{SAFE}",
            "name a folder with a plainer path",
        )


def write_yaml(path: Path, model: BaseModel) -> None:
    """Write a campaign or a site so that it can be read again from anywhere.

    Parameters
    ----------
    path
        The file; one that is there is replaced as a whole.
    model
        The campaign or the site.
    """
    text = yaml.safe_dump(plain(model), sort_keys=False, allow_unicode=True)
    write_atomically(path, text.encode())


class StateFile:
    """The file by which `hpcbench status` sees a run: written where something has changed.

    Parameters
    ----------
    results
        The results folder.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._last: dict[str, Any] = {}
        self._not_before = 0.0

    def write(self, running: Callable[[], Sequence[Key]], jobs: Mapping[str, PoolJobs]) -> None:
        """Write how the run stands; to be called about once a second.

        Parameters
        ----------
        running
            Returns the points that are being measured; called only where something is written.
        jobs
            How the jobs of each pool stand.
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
            driver = {
                "process": os.getpid(),
                "host": socket.gethostname(),
                "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            content = json.dumps({**driver, **state}).encode()
            # It is of use for seconds, and need not survive a crash of the machine.
            write_atomically(self._results.state, content, durable=False)
        self._not_before = begun + (time.monotonic() - begun) / SHARE


def read_state(results: Results) -> dict[str, Any]:
    """Read how the run at work in a results folder stands.

    Parameters
    ----------
    results
        The results folder.

    Returns
    -------
    dict of str to object
        What its driver has written last; empty lists where no run is at work.
    """
    if is_folder_locked(results) and results.state.is_file():
        state: dict[str, Any] = json.loads(results.state.read_text())
        return {"running": [], "jobs": {}, **state}
    return {"running": [], "jobs": {}}


DRIVER_LOG_BYTES = 10_000_000
"""The size of the driver's log, after which it is put aside for a new one; two are kept."""


class _LogFile(logging.handlers.RotatingFileHandler):
    def handleError(self, _: logging.LogRecord) -> None:  # noqa: N802
        """Say nothing: on a full disk, the run itself reports why it ends."""


@contextmanager
def log_file(results: Results) -> Iterator[None]:
    """Write what hpcbench logs to the driver's log, too.

    Parameters
    ----------
    results
        The results folder.

    Yields
    ------
    None
        The log is closed when the block is left.
    """
    handler = _LogFile(results.logs / "driver.log", maxBytes=DRIVER_LOG_BYTES, backupCount=1)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("hpcbench")
    logger.addHandler(handler)
    logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
