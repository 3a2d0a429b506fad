"""What a site file may put into a job script: always on the line, and to the effect, that it says.

A job script is lines. A value with a newline, a trailing backslash or a word of its own like
HTCondor's ``queue`` would make other lines than those that were meant.
"""

import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator


def _line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be one line of printable characters")
    if value.endswith("\\"):
        raise ValueError("must not end with a backslash, which would draw the next line into it")
    return value


def like(pattern: str, words: str) -> AfterValidator:
    """A text that matches ``pattern`` from end to end, else ``words`` say what it must be."""

    def check(value: str) -> str:
        if not value.isprintable() or not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(words)
        return value

    return AfterValidator(check)


Line = Annotated[str, AfterValidator(_line)]
"""Text that goes into a job script as one line."""

Word = Annotated[
    str, like(r"[^\s\"'`\\;#]+", "must be one word, without quotes, backslash, ; and #")
]
"""Text that stands in a directive without quotes."""


def _directives(value: Any) -> tuple[str, ...] | dict[str, str]:
    if isinstance(value, list | tuple):
        return tuple(_option(option) for option in value)
    if isinstance(value, Mapping):
        return {_attribute(key): _setting(key, setting) for key, setting in value.items()}
    raise ValueError("must be a list of options for Slurm, a mapping for HTCondor")


Directives = Annotated[tuple[str, ...] | dict[str, str], BeforeValidator(_directives)]
"""Options of sbatch as a list, or attributes of an HTCondor job with their values."""

SBATCH_OWN = {
    **dict.fromkeys(("-J", "--job-name"), "jobs are told from others by it"),
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
    "my.hpcbenchrun": "jobs are told from others by it",
}


def _option(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r}: must be a text, such as --exclusive")
    try:
        line = _line(value)
    except ValueError as error:
        raise ValueError(f"{value!r}: {error}") from None
    if not line.startswith("-"):
        raise ValueError(f"{value!r} must be an option of sbatch, such as --exclusive")
    try:
        shlex.split(line, comments=True)
    except ValueError as error:
        raise ValueError(f"{value!r}: sbatch could not read it: {error}") from None
    for word in line.split():
        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        if name in SBATCH_OWN:
            raise ValueError(f"{name} is hpcbench's own: {SBATCH_OWN[name]}")
    return line


def _attribute(key: Any) -> str:
    if not isinstance(key, str) or not _ATTRIBUTE.fullmatch(key) or key.lower() in _STATEMENTS:
        raise ValueError(
            f"{key!r} must be a command or an attribute of an HTCondor job, such as "
            "request_gpus or MY.JobFlavour"
        )
    own = _CONDOR_OWN.get(re.sub(r"^\+", "my.", key.lower()))
    if own:
        raise ValueError(f"{key} is hpcbench's own: {own}")
    return key


def _setting(key: Any, value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise ValueError(f"{key}: {value!r} must be a text, a number, true or false")
    try:
        return _line(str(value))
    except ValueError as error:
        raise ValueError(f"{key}: {value!r} {error}") from None


def asks_for_gpus(option: str) -> bool:
    """Whether an option of sbatch says which GPUs a job gets."""
    return bool(re.search(r"(^|\s)(-G|--gpus\b|--gres[= ]gpu\b|--tres-per-\w+[= ]\S*gpu)", option))


def excluded_nodes(option: str) -> str | None:
    """The nodes that an option of sbatch keeps jobs away from; None where it is another one."""
    found = re.fullmatch(r"\s*(?:--exclude[= ]|-x ?)\s*(\S+)\s*", option)
    return found[1] if found else None
