"""A pool's jobs for dask-jobqueue: what a job asks for."""

import contextlib
import importlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dask
import dask_jobqueue
import yaml
from dask_jobqueue.core import JobQueueCluster
from distributed.security import Security

from hpcbench.cluster import job, tls
from hpcbench.cluster.batch import CONDOR_RUN
from hpcbench.cluster.reporting import Desk, reporting
from hpcbench.config.site import Pool, Site, excluded_nodes, format_walltime, requests_gpus
from hpcbench.errors import SiteError

DEATH_TIMEOUT_S = 60
"""How long a job looks for its scheduler before it ends."""


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """dask-jobqueue without what a user's own jobqueue.yaml says: the site file says it all."""
    with dask.config.set(_shipped_settings()):
        yield


@cache
def _shipped_settings() -> dict[str, Any]:
    shipped = yaml.safe_load(Path(dask_jobqueue.__file__).with_name("jobqueue.yaml").read_text())
    sections = {name: shipped["jobqueue"][name] for name in ("slurm", "htcondor")}
    sections["slurm"]["walltime"] = None
    return {f"jobqueue.{name}": section for name, section in sections.items()}


def cluster_class(site: Site) -> Any:
    """dask-jobqueue's class for the site's batch system, or the site's own."""
    name = site.cluster_class or {
        "slurm": "dask_jobqueue:SLURMCluster",
        "htcondor": "dask_jobqueue:HTCondorCluster",
    }.get(site.scheduler, "")
    module, _, attribute = name.partition(":")
    hint = "install the package that brings it, or correct it"
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise SiteError(f"cluster_class: {name}: {error}", hint) from error
    if not (isinstance(found, type) and issubclass(found, JobQueueCluster)):
        raise SiteError(f"cluster_class: {name}: is not one of dask-jobqueue's classes", hint)
    return found


def settings(
    site: Site,
    pool: Pool,
    *,
    run: str,
    account: str | None,
    logs: Path,
    excluded: Sequence[str] = (),
    key_files: Sequence[Path] = (),
) -> dict[str, Any]:
    """The arguments of dask-jobqueue's cluster classes for a job of this pool."""
    ports = site.network.ports
    listening = ["--worker-port", ports, "--nanny-port", ports] if ports else []
    limit = [f"export {job.WALLTIME}={pool.walltime}"] if pool.walltime else []
    # A prologue that failed would else end in a worker that fails in some later place.
    prologue = ["set -e", *pool.prologue, *limit]
    python = shlex.quote(site.python or sys.executable)
    if site.scheduler == "htcondor":
        # They become one line, in which a comment would hide what follows.
        evaluated = [f"eval {shlex.quote(line)}" for line in pool.prologue]
        prologue = [_escaped(line, "$") for line in ("set -e", *evaluated, *limit)]
        python = _escaped(python, "$")
    charged = _charged(account, pool)
    common = {
        "cores": 1,
        "processes": 1,
        "memory": f"{pool.memory or 2**30} B",
        "worker_command": "hpcbench.cluster.job",
        "worker_extra_args": ["--dashboard-address", "127.0.0.1:0", *listening],
        "death_timeout": DEATH_TIMEOUT_S,
        "python": python,
        "job_script_prologue": prologue,
        "log_directory": None,
        "local_directory": None,
    }
    if site.scheduler == "slurm":
        return common | _slurm(pool, run, charged, logs, excluded)
    return common | _condor(site, pool, run, charged, logs, excluded, key_files)


def _charged(account: str | None, pool: Pool) -> str | None:
    suffix = pool.account_suffix or ""
    return account if not account or account.endswith(suffix) else f"{account}{suffix}"


def _slurm(
    pool: Pool, run: str, account: str | None, logs: Path, excluded: Sequence[str]
) -> dict[str, Any]:
    given = tuple(pool.directives)
    directives = [f"--output={_escaped(logs, '%')}/job-%j.log", "--no-requeue"]
    if pool.qos:
        directives.append(f"--qos={pool.qos}")
    if pool.constraint:
        directives.append(f"--constraint={pool.constraint}")
    if pool.gpus_per_job and not any(requests_gpus(line) for line in given):
        directives.append(f"--gres=gpu:{pool.gpus_per_job}")
    # Of several --exclude, sbatch takes the last.
    away = [nodes for line in given if (nodes := excluded_nodes(line))]
    directives += [line for line in given if not excluded_nodes(line)]
    if away or excluded:
        directives.append(f"--exclude={','.join([*away, *excluded])}")
    return {
        "queue": pool.partition,
        "account": account,
        "walltime": format_walltime(pool.walltime) if pool.walltime else None,
        "job_cpu": pool.cpus or 1,
        "job_mem": f"{pool.memory >> 20}M" if pool.memory else None,
        "job_directives_skip": [] if pool.memory else ["--mem="],
        "job_name": run,
        "job_extra_directives": directives,
        "shebang": "#!/bin/bash",
    }


def _condor(
    site: Site,
    pool: Pool,
    run: str,
    account: str | None,
    logs: Path,
    excluded: Sequence[str],
    key_files: Sequence[Path],
) -> dict[str, Any]:
    given = dict(pool.directives) if isinstance(pool.directives, Mapping) else {}
    named = {key.lower() for key in given}
    where = _escaped(logs, "$")
    away = [f'(TARGET.Machine =!= "{node}")' for node in excluded]
    # Of two lines for the same thing, HTCondor takes the last.
    demands = [f"({text})" for text in (pool.requirements, *_taken(given, "requirements")) if text]
    directives: dict[str, Any] = {
        f"MY.{CONDOR_RUN}": f'"{run}"',
        "Output": f"{where}/job-$(ClusterId).$(ProcId).out",
        "Error": f"{where}/job-$(ClusterId).$(ProcId).log",
        "Log": f"{where}/job-$(ClusterId).events",
        "RequestCpus": pool.cpus or 1,
        "transfer_output_files": '""',
    }
    if pool.gpus_per_job and not named & {"request_gpus", "requestgpus"}:
        directives["request_gpus"] = pool.gpus_per_job
    if demands or away:
        directives["Requirements"] = " && ".join([*demands, *away])
    if pool.walltime:
        directives["allowed_job_duration"] = pool.walltime
    if account:
        directives["accounting_group"] = account
    if not site.shared_filesystem:
        carried = [_escaped(path, "$") for path in key_files]
        carried += _taken(given, "transfer_input_files")
        directives["should_transfer_files"] = "YES"
        directives["transfer_input_files"] = ",".join(carried)
    skip = [] if pool.memory else ["RequestMemory"]
    return {
        "disk": f"{pool.disk or 2**30} B",
        "job_directives_skip": skip if pool.disk else [*skip, "RequestDisk"],
        "job_extra_directives": {**directives, **given},
    }


def _taken(given: dict[str, str], name: str) -> list[str]:
    return [given.pop(key) for key in list(given) if key.lower() == name]


def _escaped(text: str | Path, character: str) -> str:
    return str(text).replace(character, "$(DOLLAR)" if character == "$" else character * 2)


def script(site: Site, pool: Pool, *, account: str | None = None) -> str:
    """The job script of a pool, with words in capitals for what is known only in a run.

    A site's own ``cluster_class`` may add to it when it starts.
    """
    made = tls.Keys(Path("RESULTS/.keys")) if site.network.tls else None
    jobs = reporting(cluster_class(site), Desk(lambda *_: None)).job_cls
    protocol = "tls://" if made else "tcp://"
    with own_settings():
        job_ = jobs(
            f"{protocol}SCHEDULER:PORT",
            name="hpcbench-RUN",
            interface=site.network.interface,
            protocol=protocol,
            security=key_security(site, made),
            **settings(
                site,
                pool,
                run="hpcbench-RUN",
                account=account,
                logs=Path("RESULTS/logs"),
                key_files=made.files if made else (),
            ),
        )
        return str(job_.job_script())


def key_security(site: Site, made: tls.Keys | None) -> Security | None:
    """Where the jobs find the keys: where files are carried, in the folder that they start in."""
    if made is None or not site.network.tls:
        return None
    return made.security(None if site.shared_filesystem else Path())
