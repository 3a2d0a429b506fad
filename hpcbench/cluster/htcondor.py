"""HTCondor: its commands, job states, attributes and environment variables."""

import json
import logging
import os
import shlex
import socket
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
from hpcbench.errors import SiteError

log = logging.getLogger(__name__)

_RUN = "HpcbenchRun"
"""The attribute that keeps a run's name: batch_name is the user's to set."""

# JobStatus of the job ClassAd.
_STATES = {
    1: JobState.WAITING,
    2: JobState.RUNNING,
    3: JobState.RUNNING,  # removed; it leaves the queue when its programs are gone
    5: JobState.HELD,
    6: JobState.RUNNING,
    7: JobState.RUNNING,
}
_ATTRIBUTES = "ClusterId,ProcId,JobStatus,HoldReason,RemoteHost,LastRejMatchReason,NumJobStarts"


class _HTCondor:
    """HTCondor, by its commands; see `BatchSystem` for what each method is for."""

    commands = ("condor_submit", "condor_q", "condor_rm")
    temporary_failures = ()
    cluster_class = "dask_jobqueue:HTCondorCluster"

    def version(self) -> str:
        return command_output(["condor_q", "-version"]).strip().partition("\n")[0].strip("$ ")

    def jobs(self, run: str) -> dict[str, Job]:
        chosen = ["-constraint", f'{_RUN} == "{run}"']
        text = command_output(["condor_q", *chosen, "-json", "-attributes", _ATTRIBUTES])
        # An empty queue prints nothing, which is not JSON.
        return {job.id: job for job in map(_job, json.loads(text) if text.strip() else ())}

    def cancel(self, run: str, ids: Iterable[str] = ()) -> None:
        whom = list(ids) or ["-constraint", f'{_RUN} == "{run}"']
        command_output(["condor_rm", *whom], harmless=("Couldn't find/remove",))

    def has_other_nodes(self, excluded: Sequence[str], *, gpus: bool) -> bool:
        # A job that no node is left for would wait for ever: HTCondor refuses none.
        wanted = [f'Machine =!= "{node}"' for node in excluded] + ["TotalGPUs > 0"] * gpus
        command = ["condor_status", "-limit", "1", "-autoformat", "Machine"]
        try:
            return bool(command_output([*command, "-constraint", " && ".join(wanted)]).strip())
        except SiteError as error:
            log.warning("cannot ask whether there are other nodes: %s", error)
            return True

    def sees_queue_of(self, host: str) -> bool:
        # Each schedd has a queue of its own, and most login nodes a schedd.
        return host == socket.gethostname()

    def job_settings(self, request: JobRequest) -> dict[str, Any]:
        pool = request.pool
        # dask-jobqueue joins the lines to one, in which a comment would hide what follows.
        prologue = [f"eval {shlex.quote(line)}" for line in pool.prologue]
        skip = [] if pool.memory else ["RequestMemory"]
        given = dict(pool.directives) if isinstance(pool.directives, Mapping) else {}
        return {
            "python": _escaped(request.python),
            "job_script_prologue": [
                _escaped(line) for line in ("set -e", *prologue, request.exports)
            ],
            "disk": f"{pool.disk or 2**30} B",
            "job_directives_skip": skip if pool.disk else [*skip, "RequestDisk"],
            # Last come those of the site file, without what was joined with hpcbench's own.
            "job_extra_directives": {**_directives(request, given), **given},
        }

    def submission_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        return dict(environment)

    def this_job(self) -> ThisJob | None:
        job, machine = _ad("_CONDOR_JOB_AD"), _ad("_CONDOR_MACHINE_AD")
        if job is None and machine is None:
            return None
        id_ = f"{job.get('ClusterId')}.{job.get('ProcId')}" if job else None
        name = (machine or {}).get("Machine")
        return ThisJob(id_, name.strip('"') if name else None)


def _job(ad: Mapping[str, Any]) -> Job:
    state = _STATES.get(ad["JobStatus"], JobState.ENDED)
    reason = ad.get("HoldReason") if state is JobState.HELD else ad.get("LastRejMatchReason")
    waits = state in (JobState.HELD, JobState.WAITING)
    return Job(
        id=f"{ad['ClusterId']}.{ad['ProcId']}",
        state=state,
        reason=(reason or "").strip() if waits else "",
        # slot1_1@node
        node=ad.get("RemoteHost", "").partition("@")[2],
        starts=ad.get("NumJobStarts", 0),
    )


def _ad(variable: str) -> dict[str, str] | None:
    """Read the ClassAd to whose file a variable of the job's environment points."""
    path = os.environ.get(variable)
    if not path or not Path(path).is_file():
        return None
    pairs = (line.partition("=") for line in Path(path).read_text().splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _directives(request: JobRequest, given: dict[str, str]) -> dict[str, Any]:
    """Return hpcbench's own attributes; takes from ``given`` what it joins with them."""
    pool = request.pool
    logs = _escaped(request.logs)
    away = [f'(TARGET.Machine =!= "{node}")' for node in request.excluded]
    # Of two lines for the same thing, HTCondor takes the last.
    demands = [f"({text})" for text in (pool.requirements, *_taken(given, "requirements")) if text]
    directives: dict[str, Any] = {
        f"MY.{_RUN}": f'"{request.run}"',
        "Output": f"{logs}/job-$(ClusterId).$(ProcId).out",
        "Error": f"{logs}/job-$(ClusterId).$(ProcId).log",
        "Log": f"{logs}/job-$(ClusterId).events",
        "RequestCpus": pool.cpu_count or 1,
        # Else all that the job leaves in its folder on the node is carried back.
        "transfer_output_files": '""',
    }
    if pool.gpus_per_job and not SYSTEMS["htcondor"].asked_gpus(given):
        directives["request_gpus"] = pool.gpus_per_job
    if demands or away:
        directives["Requirements"] = " && ".join([*demands, *away])
    if pool.walltime:
        directives["allowed_job_duration"] = pool.walltime
    if request.account:
        directives["accounting_group"] = request.account
    if not request.site.shared_filesystem:
        carried = [_escaped(path) for path in request.key_files]
        carried += _taken(given, "transfer_input_files")
        directives["should_transfer_files"] = "YES"
        directives["transfer_input_files"] = ",".join(carried)
    return directives


def _taken(given: dict[str, str], name: str) -> list[str]:
    return [given.pop(key) for key in list(given) if key.lower() == name]


def _escaped(text: str | Path) -> str:
    # In a job description, $ begins a macro.
    return str(text).replace("$", "$(DOLLAR)")


SYSTEM: BatchSystem = _HTCondor()
