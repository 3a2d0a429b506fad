"""Turns (program, arguments) into a command line for the site's runtime."""

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hpcbench.errors import SiteError
from hpcbench.site import Container

SAFE = "letters, digits and . _ / + , @ % = -"
SAFE_PATH = re.compile(r"[A-Za-z0-9._/+,@%=-]+")
"""Triton starts its Python stubs through a shell, without quotes."""


@dataclass(frozen=True)
class Software:
    """What serves and measures: digests that stand for images, and the versions in them."""

    server_digest: str
    sdk_digest: str


def software(container: Container) -> Software:
    """What the container holds. Raises SiteError where it is missing or incomplete."""
    return _native(container.prefix)


@cache
def _native(prefix: Path) -> Software:
    try:
        digest = f"native:{json.loads((prefix / 'manifest.json').read_text())['digest']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _incomplete(prefix, "no manifest.json of a finished installation") from error
    if not SAFE_PATH.fullmatch(str(prefix)):
        raise SiteError(
            f"container.prefix: {prefix} has characters that Triton cannot take; allowed: {SAFE}",
            "install it into a folder with a plainer name",
        )
    for needed in ("bin/tritonserver", "bin/perf_analyzer", "python/bin/python3"):
        if not os.access(prefix / needed, os.X_OK):
            raise _incomplete(prefix, f"{needed} is not there, or may not be executed")
    if not (prefix / "backends" / "python").is_dir():
        raise _incomplete(prefix, "backends/python is not there")
    return Software(server_digest=digest, sdk_digest=digest)


def _incomplete(prefix: Path, what: str) -> SiteError:
    return SiteError(
        f"there is no complete Triton and perf_analyzer in {prefix}: {what}",
        f"install them: rm -r {prefix}; python3 containers/native.py {prefix} (or: make native)",
    )


def scratch(container: Container) -> Path:
    """The node's folder for what a placement needs: $SLURM_TMPDIR is known only there."""
    return Path(os.path.expandvars(container.scratch))


def server_argv(container: Container, arguments: list[str], shm_prefix: str) -> list[str]:
    """The command line of tritonserver. Its shared memory is named so that it can be removed."""
    backends = sorted(path.name for path in (container.prefix / "backends").iterdir())
    named = [f"--backend-config={name},shm-region-prefix-name={shm_prefix}" for name in backends]
    return [str(container.prefix / "bin" / "tritonserver"), *named, *arguments]


def sdk_argv(container: Container, arguments: list[str]) -> list[str]:
    """The command line of perf_analyzer."""
    return [str(container.prefix / "bin" / "perf_analyzer"), *arguments]
