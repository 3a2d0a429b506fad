"""What a node must have before anything is measured: a scratch folder and a perf_analyzer."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hpcbench.config.container import Container
from hpcbench.errors import UnusableNode
from hpcbench.measure import node, perf_analyzer
from hpcbench.runtime import command, process
from hpcbench.runtime.command import Room

SCRATCH_BYTES = 50_000_000


def check_scratch(scratch: Path) -> None:
    """Raises UnusableNode where a measurement could not keep its files; outputs would be cut."""
    problem = ""
    if not (scratch.is_dir() and os.access(scratch, os.W_OK)):
        problem = "is missing or not writable"
    elif not command.SAFE_PATH.fullmatch(str(scratch)):
        problem = f"has characters that Triton cannot take; allowed: {command.SAFE}"
    elif shutil.disk_usage(scratch).free < SCRATCH_BYTES:
        problem = f"has less than {SCRATCH_BYTES / 1e6:.0f} MB free"
    if problem:
        raise UnusableNode(
            f"{node.facts()['node']}: the scratch folder {scratch} {problem}",
            "set container.scratch in the site file to a folder on the node's own disk",
        )


@dataclass(frozen=True)
class Tool:
    """The installed perf_analyzer: its version, and the flags it knows."""

    version: str | None
    flags: frozenset[str]


@cache
def sdk_tool(sdk: Container) -> Tool:
    """The perf_analyzer of this node. Raises UnusableNode where it does not run."""
    with tempfile.TemporaryDirectory(prefix="hpcbench-", dir=command.scratch(sdk)) as folder:

        def said(*arguments: str) -> str:
            program = command.sdk(sdk, list(arguments), Room(folder=Path(folder)))
            answer = process.run(program.argv, folder=Path(folder), timeout_s=60, env=program.env)
            return answer.stdout + answer.stderr

        version = said("--version")
        # None of them has a flag for its usage text; all print it where the model is missing.
        usage = said()
    flags = perf_analyzer.known_flags(usage)
    if "-m" not in flags:
        raise UnusableNode(
            f"{node.facts()['node']}: perf_analyzer does not run here: {usage.strip()[:500]}",
            "start it there by hand, with --version",
        )
    words = version.split("Version")
    return Tool(words[1].split()[0] if len(words) > 1 else None, flags)
