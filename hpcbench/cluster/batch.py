"""Asks the batch system about the jobs of one run, and cancels them: one command for all.

A run's jobs share a name of their own, so that they can be told from all others even where the
driver was killed before it could write down a job's id.
"""

import getpass
import json
import logging
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from hpcbench.errors import SiteError
from hpcbench.runtime import process

log = logging.getLogger(__name__)

BatchSystem = Literal["slurm", "htcondor"]

COMMANDS: Mapping[BatchSystem, Sequence[str]] = {
    "slurm": ("sbatch", "squeue", "scancel"),
    "htcondor": ("condor_submit", "condor_q", "condor_rm"),
}
"""What hpcbench calls of each: to submit, to ask and to cancel."""

COMMAND_TIMEOUT_S = 60.0
CONDOR_RUN = "HpcbenchRun"
"""The attribute in which HTCondor keeps a run's name."""


class JobState(StrEnum):
    """What matters of a job's state."""

    WAITING = "waiting"
    RUNNING = "running"
    HELD = "held"
    ENDED = "ended"


@dataclass(frozen=True)
class Job:
    """A job as the batch system sees it; ``reason`` is in its own words.

    ``starts`` counts how often HTCondor has started it; it starts again what it has pushed aside.
    """

    id: str
    state: JobState
    reason: str = ""
    node: str = ""
    starts: int = 0


def version(system: BatchSystem) -> str:
    """What the commands say of their version. Raises SiteError where they do not run."""
    words = _said([COMMANDS[system][1], "--version" if system == "slurm" else "-version"])
    return words.strip().partition("\n")[0].strip("$ ")


def jobs(system: BatchSystem, run: str) -> dict[str, Job]:
    """The jobs of a run by their ids; those that ended may be missing.

    Raises SiteError where the batch system does not answer.
    """
    found = _slurm_jobs(run) if system == "slurm" else _condor_jobs(run)
    return {job.id: job for job in found}


def cancel(system: BatchSystem, run: str, ids: Iterable[str] = ()) -> None:
    """Cancels the jobs ``ids``, by default all of the run; that there are none is no error."""
    chosen = list(ids)
    if system == "slurm":
        whom = chosen or [f"--user={getpass.getuser()}", f"--name={run}"]
        _said(["scancel", *whom], also=("Invalid job id", "already completing or completed"))
    else:
        whom = chosen or ["-constraint", f'{CONDOR_RUN} == "{run}"']
        _said(["condor_rm", *whom], also=("Couldn't find/remove",))


def active(found: Mapping[str, Job]) -> list[str]:
    """The ids of those jobs that wait, run or are held."""
    return [job.id for job in found.values() if job.state is not JobState.ENDED]


def wait_for_end(system: BatchSystem, run: str, seconds: float = 30.0) -> list[str]:
    """Waits until no job of the run is left, at most so long; the ids of those that are."""
    deadline = time.monotonic() + seconds
    while True:
        left = active(jobs(system, run))
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(1)


def has_other_nodes(system: BatchSystem, excluded: Sequence[str], *, gpus: bool) -> bool:
    """Whether there is any node beside those ``excluded``; True where that cannot be told.

    Slurm refuses a job that no node is left for. HTCondor lets it wait for ever.
    """
    if system == "slurm":
        return True
    wanted = [f'Machine =!= "{node}"' for node in excluded] + ["TotalGPUs > 0"] * gpus
    command = ["condor_status", "-limit", "1", "-autoformat", "Machine"]
    try:
        return bool(_said([*command, "-constraint", " && ".join(wanted)]).strip())
    except SiteError as error:
        log.warning("whether there are other nodes is not known: %s", error)
        return True


def _said(argv: Sequence[str], also: Sequence[str] = ()) -> str:
    """What a command printed. A failure whose words are among ``also`` is none."""
    with tempfile.TemporaryDirectory(prefix="hpcbench-") as folder:
        try:
            done = process.run(argv, folder=Path(folder), timeout_s=COMMAND_TIMEOUT_S)
        except OSError as error:
            raise SiteError(f"{argv[0]}: {error.strerror}") from error
    words = (done.stderr or done.stdout).strip()
    if done.timed_out:
        raise SiteError(
            f"{argv[0]} gave no answer within {COMMAND_TIMEOUT_S:.0f} s",
            "the batch system may be down; the same command goes on where this one stopped",
        )
    if done.returncode and not any(text in words for text in also):
        hint = (
            "" if done.returncode != 127 else "run hpcbench where the batch system's commands are"
        )
        raise SiteError(f"{argv[0]}: {words or f'exit code {done.returncode}'}", hint)
    return done.stdout


_SLURM_STATES = {
    **dict.fromkeys(("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"), JobState.WAITING),
    **dict.fromkeys(
        ("RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "COMPLETING", "SIGNALING", "STAGE_OUT"),
        JobState.RUNNING,
    ),
}
"""All other states of Slurm are ends. Until a job is one, its programs may still write."""


def _slurm_jobs(run: str) -> list[Job]:
    whose = [f"--user={getpass.getuser()}", f"--name={run}"]
    text = _said(["squeue", *whose, "--noheader", "--states=all", "--format=%i|%T|%N|%r"])
    found = []
    for line in text.splitlines():
        id_, name, node, reason = line.split("|", maxsplit=3)
        state = _SLURM_STATES.get(name, JobState.ENDED)
        ended = f"{name} ({reason})" if reason not in ("None", "") else name
        waits = reason if reason != "None" else ""
        found.append(Job(id_, state, ended if state is JobState.ENDED else waits, node))
    return found


_CONDOR_STATES = {
    1: JobState.WAITING,
    2: JobState.RUNNING,
    3: JobState.RUNNING,  # removed, and gone from the queue once its programs are gone
    5: JobState.HELD,
    6: JobState.RUNNING,
    7: JobState.RUNNING,
}
_CONDOR_ATTRIBUTES = (
    "ClusterId,ProcId,JobStatus,HoldReason,RemoteHost,LastRejMatchReason,NumJobStarts"
)


def _condor_jobs(run: str) -> list[Job]:
    chosen = ["-constraint", f'{CONDOR_RUN} == "{run}"']
    text = _said(["condor_q", *chosen, "-json", "-attributes", _CONDOR_ATTRIBUTES])
    found = []
    for ad in json.loads(text) if text.strip() else ():
        state = _CONDOR_STATES.get(ad["JobStatus"], JobState.ENDED)
        reason = ad.get("HoldReason") if state is JobState.HELD else ad.get("LastRejMatchReason")
        node = ad.get("RemoteHost", "").partition("@")[2]
        waits = state in (JobState.HELD, JobState.WAITING)
        id_ = f"{ad['ClusterId']}.{ad['ProcId']}"
        why = (reason or "").strip() if waits else ""
        found.append(Job(id_, state, why, node, ad.get("NumJobStarts", 0)))
    return found
