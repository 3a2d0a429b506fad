"""Slurm: its commands, job states, options and environment variables."""

import getpass
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcbench.cluster.batch import (
    BatchSystem,
    Job,
    JobRequest,
    JobState,
    ThisJob,
    command_output,
)
from hpcbench.config.site import SYSTEMS
from hpcbench.config.values import format_walltime

# All other states are ends. Until a job is in one of those, its programs may still write: so a
# job that is COMPLETING still runs.
_STATES = {
    **dict.fromkeys(("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"), JobState.WAITING),
    **dict.fromkeys(
        ("RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "COMPLETING", "SIGNALING", "STAGE_OUT"),
        JobState.RUNNING,
    ),
}

NEVER_STARTS = frozenset(
    {
        "AssocMaxWallDurationPerJobLimit",
        "BadConstraints",
        "DependencyNeverSatisfied",
        "InvalidAccount",
        "InvalidQOS",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "QOSMaxWallDurationPerJobLimit",
    }
)
"""The reasons of squeue (%r) for which a pending job waits for ever."""


class _Slurm:
    """Slurm, by its commands; see `BatchSystem` for what each method is for."""

    commands = ("sbatch", "squeue", "scancel")
    temporary_failures = ("Unable to contact",)
    cluster_class = "dask_jobqueue:SLURMCluster"

    def version(self) -> str:
        return command_output(["squeue", "--version"]).strip().partition("\n")[0]

    def jobs(self, run: str) -> dict[str, Job]:
        whose = [f"--user={getpass.getuser()}", f"--name={run}"]
        # By default squeue leaves out the jobs that have ended, and with them why they did.
        text = command_output(
            ["squeue", *whose, "--noheader", "--states=all", "--format=%i|%T|%N|%r"]
        )
        return {job.id: job for job in map(_job, text.splitlines())}

    def cancel(self, run: str, ids: Iterable[str] = ()) -> None:
        whom = list(ids) or [f"--user={getpass.getuser()}", f"--name={run}"]
        gone = ("Invalid job id", "already completing or completed")
        command_output(["scancel", *whom], harmless=gone)

    def has_other_nodes(self, excluded: Sequence[str], *, gpus: bool) -> bool:  # noqa: ARG002
        # sbatch refuses a job that no node is left for.
        return True

    def sees_queue_of(self, host: str) -> bool:  # noqa: ARG002 - slurmctld keeps one queue
        return True

    def job_settings(self, request: JobRequest) -> dict[str, Any]:
        pool = request.pool
        return {
            "queue": pool.partition,
            "account": request.account,
            "walltime": format_walltime(pool.walltime) if pool.walltime else None,
            "job_cpu": pool.cpu_count or 1,
            "job_mem": f"{pool.memory >> 20}M" if pool.memory else None,
            # Else dask-jobqueue asks for the memory that it names to the worker.
            "job_directives_skip": [] if pool.memory else ["--mem="],
            "job_name": request.run,
            "job_extra_directives": _directives(request),
            "shebang": "#!/bin/bash",
        }

    def submission_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        # SBATCH_* are options of sbatch, which go before those of the job script; SLURM_* belong
        # to the job that the driver is in, and sbatch would hand them on.
        return {
            name: value
            for name, value in environment.items()
            if name == "SLURM_CONF" or not name.startswith(("SLURM_", "SBATCH_"))
        }

    def this_job(self) -> ThisJob | None:
        id_ = os.environ.get("SLURM_JOB_ID")
        if id_ is None:
            return None
        end = os.environ.get("SLURM_JOB_END_TIME")
        return ThisJob(id_, os.environ.get("SLURMD_NODENAME"), float(end) if end else None)


def _job(line: str) -> Job:
    # The reason comes last, because it is free text.
    id_, name, node, reason = line.split("|", maxsplit=3)
    state = _STATES.get(name, JobState.ENDED)
    reason = "" if reason == "None" else reason
    hopeless = state is JobState.WAITING and reason in NEVER_STARTS
    if state is JobState.ENDED:
        reason = f"{name} ({reason})" if reason else name
    return Job(id_, state, reason, node, never_starts=hopeless)


def _directives(request: JobRequest) -> list[str]:
    pool, given = request.pool, tuple(request.pool.directives)
    # A job that sbatch requeues would start beside the one that replaces it.
    directives = [f"--output={_escaped(request.logs)}/job-%j.log", "--no-requeue"]
    if pool.qos:
        directives.append(f"--qos={pool.qos}")
    if pool.constraint:
        directives.append(f"--constraint={pool.constraint}")
    if pool.gpus_per_job and not SYSTEMS["slurm"].asked_gpus(given):
        directives.append(f"--gres=gpu:{pool.gpus_per_job}")
    # Of several --exclude, sbatch takes the last.
    away = [nodes for line in given if (nodes := excluded_nodes(line))]
    directives += [line for line in given if not excluded_nodes(line)]
    if away or request.excluded:
        directives.append(f"--exclude={','.join([*away, *request.excluded])}")
    return directives


def _escaped(path: Path) -> str:
    # In the name of a log, sbatch replaces %j and the like.
    return str(path).replace("%", "%%")


def excluded_nodes(option: str) -> str | None:
    """Return the nodes that an option of sbatch excludes.

    Parameters
    ----------
    option
        A line of the directives.

    Returns
    -------
    str or None
        Slurm's list of nodes; None where the option is another one.
    """
    found = re.fullmatch(r"\s*(?:--exclude[= ]|-x ?)\s*(\S+)\s*", option)
    return found[1] if found else None


SYSTEM: BatchSystem = _Slurm()
