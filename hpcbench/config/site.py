"""The site file: one HPC machine, its pools, and where Triton and perf_analyzer come from.

Values of the file go into job scripts, which consist of lines. A value with a newline, with a
backslash at its end, or with a word like HTCondor's ``queue`` would make other lines than those
that were meant: so the kinds of values here refuse it.
"""

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from hpcbench.config import yaml_model
from hpcbench.config.container import Container
from hpcbench.config.cpu_shares import Cpus, CpuShares
from hpcbench.config.network import Network
from hpcbench.config.values import Bytes, Count, Name, OneLine, Seconds, Word, check_line, matching
from hpcbench.config.yaml_model import FileSection
from hpcbench.errors import BadInput, did_you_mean


def _directives(value: Any) -> tuple[str, ...] | dict[str, str]:
    """Check what holds for every batch system: strings, each of them one line."""
    if isinstance(value, list | tuple):
        return tuple(_option(option) for option in value)
    if isinstance(value, Mapping):
        return {_key(key): _setting(key, setting) for key, setting in value.items()}
    raise ValueError("must be a list of options for Slurm, a mapping for HTCondor")


def _option(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r}: must be a string, such as --exclusive")
    try:
        return check_line(value)
    except ValueError as error:
        raise ValueError(f"{value!r}: {error}") from None


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{key!r}: must be a string, such as request_gpus")
    return key


def _setting(key: Any, value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise ValueError(f"{key}: {value!r} must be a string, a number, true or false")
    try:
        return check_line(str(value))
    except ValueError as error:
        raise ValueError(f"{key}: {value!r} {error}") from None


Directives = Annotated[tuple[str, ...] | dict[str, str], BeforeValidator(_directives)]
"""Options of sbatch as a list, or attributes of an HTCondor job with their values."""

SBATCH_OWN = {
    **dict.fromkeys(("-J", "--job-name"), "hpcbench finds its jobs by it"),
    **dict.fromkeys(("-o", "--output", "-e", "--error"), "the log is in the results folder"),
    **dict.fromkeys(("-a", "--array"), "each job is submitted by itself"),
    **dict.fromkeys(("-W", "--wait"), "the driver watches the jobs"),
    **dict.fromkeys(("--requeue",), "a job that ended is replaced by another one"),
}
"""Options that hpcbench gives itself, or could not work with, and why."""

_ATTRIBUTE = re.compile(r"\+?[A-Za-z_][A-Za-z0-9_.]*")
_STATEMENTS = {"queue", "include", "if", "elif", "else", "endif", "use", "warning"}
_CONDOR_OWN = {
    **dict.fromkeys(("executable", "arguments", "universe"), "the job is a worker"),
    **dict.fromkeys(("output", "error", "log"), "logs are in the results folder"),
    "my.hpcbenchrun": "hpcbench finds its jobs by it",
}


def _check_sbatch(directives: tuple[str, ...] | dict[str, str]) -> None:
    if not isinstance(directives, tuple):
        raise ValueError("slurm wants a list")
    for option in directives:
        if not option.startswith("-"):
            raise ValueError(f"{option!r} must be an option of sbatch, such as --exclusive")
        try:
            shlex.split(option, comments=True)
        except ValueError as error:
            raise ValueError(f"{option!r}: sbatch could not read it: {error}") from None
        for word in option.split():
            name = word.partition("=")[0] if word.startswith("--") else word[:2]
            if name in SBATCH_OWN:
                raise ValueError(f"{name} is hpcbench's own: {SBATCH_OWN[name]}")


def _check_condor(directives: tuple[str, ...] | dict[str, str]) -> None:
    if not isinstance(directives, dict):
        raise ValueError("htcondor wants a mapping")
    for key in directives:
        if not _ATTRIBUTE.fullmatch(key) or key.lower() in _STATEMENTS:
            raise ValueError(
                f"{key!r} must be a command or an attribute of an HTCondor job, such as "
                "request_gpus or MY.JobFlavour"
            )
        own = _CONDOR_OWN.get(re.sub(r"^\+", "my.", key.lower()))
        if own:
            raise ValueError(f"{key} is hpcbench's own: {own}")


_SBATCH_GPUS = re.compile(
    r"(?<!\S)(-G|--gpus|--gpus-per-\w+|--gres|--tres-per-\w+)(?:[= ]+|(?<=-G))(\S+)"
)


def _sbatch_gpus(directives: tuple[str, ...] | dict[str, str]) -> dict[str, int | None]:
    """See `SystemEntry.asked_gpus`. Slurm takes ``2``, ``a100:2``, ``gpu:a100:2,lustre:1``."""
    found: dict[str, int | None] = {}
    for option, value in _SBATCH_GPUS.findall(" ".join(directives)):
        parts = value.strip("\"'").split(",")
        if option == "--gres" or option.startswith("--tres"):
            parts = [part for part in parts if re.match(r"(gres[/:])?gpu\b", part)]
        if not parts:
            continue
        # How many tasks and sockets a node has is not said.
        each = None if option.endswith(("-task", "-socket")) else sum(map(_number, parts))
        found[f"{option} {value}" if option == "-G" else f"{option}={value}"] = each
    return found


def _number(part: str) -> int:
    last = re.split("[:=]", part)[-1]
    return int(last) if last.isdecimal() else 1


def _condor_gpus(directives: tuple[str, ...] | dict[str, str]) -> dict[str, int | None]:
    """See `SystemEntry.asked_gpus`."""
    keys = {"request_gpus", "requestgpus", "my.requestgpus", "+requestgpus"}
    return {
        f"{key}: {value}": int(value) if value.strip().isdecimal() else None
        for key, value in (directives.items() if isinstance(directives, dict) else ())
        if key.lower() in keys
    }


SHIPPED_SITES = Path(__file__).resolve().parents[1] / "site_configs"
"""The site files that come with hpcbench."""

TEMPLATE = "template"
"""The file among them that is copied to describe a site, and is none."""


class Pool(FileSection):
    """One kind of node: what one job gets, and how many jobs there may be.

    Attributes
    ----------
    gpu
        The name that NVML gives for the GPU, or the MIG instance, that the pool promises.
    gpus_per_job
        GPUs of one job: one Triton serves on all of them.
    cpus
        CPUs of one job; or how many of them the server and the client get.
    max_jobs
        The most jobs at the same time.
    memory, disk
        Bytes of one job; ``disk`` is HTCondor's.
    walltime
        Seconds that one job may last.
    partition, qos, constraint
        Slurm's.
    requirements
        HTCondor's.
    account_suffix
        What the site appends to a project's name for the account that pays for these nodes.
    directives
        Further lines of the job: a list for Slurm, a mapping for HTCondor.
    prologue
        Shell commands, each complete in itself, that run in the job before the worker. The first
        that fails ends the job.
    """

    gpu: OneLine | None = None
    gpus_per_job: Annotated[int, Field(strict=True, ge=0)] = 0
    cpus: Cpus | None = None
    max_jobs: Count = 1
    memory: Bytes | None = None
    walltime: Seconds | None = None
    partition: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    requirements: OneLine | None = None
    disk: Bytes | None = None
    account_suffix: (
        Annotated[str, matching(r"[\w.@-]+", "allowed: letters, digits and _ . @ -")] | None
    ) = None
    directives: Directives = ()
    prologue: tuple[OneLine, ...] = ()

    @property
    def cpu_count(self) -> int | None:
        """CPUs of one job; None where the site file does not say."""
        shares = self.cpus
        return shares.server + shares.client if isinstance(shares, CpuShares) else shares


@dataclass(frozen=True)
class SystemEntry:
    """What a site file may say about one batch system, and where its code is.

    Attributes
    ----------
    module
        The module whose ``SYSTEM`` implements `hpcbench.cluster.batch.BatchSystem`. Its name only:
        reading a site file must not load what submits jobs.
    pool_keys
        The keys of a pool that mean something to it, besides those that mean something everywhere.
    check_directives
        Raises ValueError where its job scripts could not hold these lines.
    asked_gpus
        Returns the directives that say which GPUs a job gets, each with their number; None where
        it does not say how many.
    carries_files
        Whether it can bring files to a node, so that a site may have no shared file system.
    """

    module: str
    pool_keys: tuple[str, ...]
    check_directives: Callable[[tuple[str, ...] | dict[str, str]], None]
    asked_gpus: Callable[[tuple[str, ...] | dict[str, str]], dict[str, int | None]]
    carries_files: bool


_BATCH = ("memory", "walltime", "account_suffix", "directives", "prologue")

# A process asks in this order whose job it is in. HTCondor comes first: its jobs may have
# inherited the variables of a Slurm job in which they were submitted.
SYSTEMS: dict[str, SystemEntry] = {
    "htcondor": SystemEntry(
        module="hpcbench.cluster.htcondor",
        pool_keys=("requirements", "disk", *_BATCH),
        check_directives=_check_condor,
        asked_gpus=_condor_gpus,
        carries_files=True,
    ),
    "slurm": SystemEntry(
        module="hpcbench.cluster.slurm",
        pool_keys=("partition", "qos", "constraint", *_BATCH),
        check_directives=_check_sbatch,
        asked_gpus=_sbatch_gpus,
        carries_files=False,
    ),
}
"""The batch systems, by the name that ``scheduler`` has in a site file. There is no other list."""


def _scheduler(value: str) -> str:
    allowed = ("local", *SYSTEMS)
    if value not in allowed:
        raise PydanticKnownError(
            "literal_error", {"expected": ", ".join(f"'{name}'" for name in allowed)}
        )
    return value


class Site(FileSection):
    """One HPC machine.

    Attributes
    ----------
    name
        Its name, in records and on the command line.
    scheduler
        Its batch system; ``local`` starts workers as processes of this computer.
    shared_filesystem
        Whether nodes and driver see the same files. Otherwise records and logs travel to the
        driver through Dask.
    network
        How workers reach the driver.
    python
        The interpreter of the jobs; that of the driver by default.
    cluster_class
        "package.module:Class", a class of the site's own that is derived from dask-jobqueue's.
    container
        Where Triton and perf_analyzer come from.
    pools
        The kinds of nodes by name.
    """

    name: Name
    scheduler: Annotated[str, AfterValidator(_scheduler)] = "local"
    shared_filesystem: bool = True
    network: Network = Network()
    python: Word | None = None
    cluster_class: (
        Annotated[str, matching(r"[\w.]+:\w+", 'must be "package.module:Class"')] | None
    ) = None
    container: Container
    pools: Annotated[dict[Name, Pool], Field(min_length=1)]

    @model_validator(mode="after")
    def _keys_mean_something(self) -> "Site":
        entry = SYSTEMS.get(self.scheduler)
        here = entry.pool_keys if entry else ()
        known = {key for each in SYSTEMS.values() for key in each.pool_keys}
        for name, pool in self.pools.items():
            for key in sorted(pool.model_fields_set & (known - set(here))):
                raise yaml_model.mistake(
                    ("pools", name, key),
                    f"means nothing where scheduler is {self.scheduler}; "
                    "take it out, or correct the scheduler",
                )
            if entry and pool.directives:
                try:
                    entry.check_directives(pool.directives)
                except ValueError as error:
                    raise yaml_model.mistake(("pools", name, "directives"), str(error)) from None
        if not self.shared_filesystem and entry and not entry.carries_files:
            raise yaml_model.mistake(
                ("shared_filesystem",),
                f"must be true: {self.scheduler} carries no files to its nodes",
            )
        if self.cluster_class and self.scheduler == "local":
            raise ValueError("cluster_class: means nothing where scheduler is local")
        return self

    def with_server_image(self, name: str | None) -> "Site":
        """Return the site for a server that runs in another image.

        Parameters
        ----------
        name
            One of the ``server_images``; None for the usual image.

        Returns
        -------
        Site
            A copy.
        """
        container = self.container.with_server_image(name)
        # Not checked once more: a worker need not know the batch system that started it.
        return BaseModel.model_copy(self, update={"container": container})

    @classmethod
    def load(cls, name_or_path: str | Path) -> "Site":
        """Read a site file.

        Parameters
        ----------
        name_or_path
            The path of a file; or the name of a site that comes with hpcbench.

        Returns
        -------
        Site
            Its content.

        Raises
        ------
        BadInput
            With every mistake, or the names of the sites that there are.
        """
        given = str(name_or_path)
        if given.endswith((".yaml", ".yml")) or os.sep in given:
            return yaml_model.load_yaml(Path(given), cls)
        # A site file names programs that run as the user. So none is taken from the working folder
        # by a mere name: it may be somebody else's.
        here = Path("site_configs") / f"{given}.yaml"
        shipped = SHIPPED_SITES / f"{given}.yaml"
        if shipped.is_file() and given != TEMPLATE:
            if here.is_file() and here.read_bytes() != shipped.read_bytes():
                raise BadInput(
                    f"site '{given}': {here} is another file than the one that comes with hpcbench",
                    f"say which you mean: --site {here}, or --site {shipped}",
                )
            return yaml_model.load_yaml(shipped, cls)
        known = sorted(path.stem for path in SHIPPED_SITES.glob("*.yaml") if path.stem != TEMPLATE)
        raise BadInput(
            f"site '{given}': no site of this name comes with hpcbench;"
            f"{did_you_mean(given, known)} known sites: {', '.join(known) or 'none'}",
            f"to use {here}, give its path: --site {here}"
            if here.is_file() and given != TEMPLATE
            else "name one of these, or give the path of a site file",
        )
