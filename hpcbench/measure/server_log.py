"""What Triton's log tells."""

import re
from pathlib import Path

from hpcbench.errors import ServerFailed
from hpcbench.plan import accelerators

NOT_APPLICABLE = "hpcbench: not applicable: "
"""How a backend of the native runtime marks what it can never do, in its error."""


def load_failure(text: str) -> ServerFailed:
    """The error that Triton's log tells about, in its own words.

    ``text`` is what Triton printed before it exited.
    """
    match = re.search(r"failed to load '[^']*' version \d+: (.*)", text)
    if match:
        reason = match[1].strip().strip('"').split("\\n\\nAt:")[0].replace("\\n", "\n").strip()
        if NOT_APPLICABLE in reason:
            return ServerFailed(reason.split(NOT_APPLICABLE)[1], last_lines(text), True)
        refused = accelerators.accelerator_refusal(reason)
        if refused:
            return ServerFailed(refused, last_lines(text), True)
        return ServerFailed(f"the model did not load: {reason}", last_lines(text))
    match = re.search(r"Poll failed for model directory '[^']*': (.*)", text)
    if match:
        # Triton checks a configuration before it asks the backend.
        told = match[1].strip().strip('"')
        return ServerFailed(f"Triton refuses the configuration: {told}", last_lines(text))
    lines = [
        line
        for line in text.splitlines()
        if line.startswith(("error:", "cannot start", "FATAL:")) or re.match(r"E\d{4} ", line)
    ]
    said = lines[-1] if lines else "it printed nothing about it"
    return ServerFailed(f"the server ended before it was ready: {said}", last_lines(text))


def tail(path: Path, lines: int = 30) -> str:
    """The last lines of a log, without reading all of it."""
    try:
        size = path.stat().st_size
        return last_lines(read_from(path, max(0, size - 20_000)), lines)
    except OSError:
        return ""


def last_lines(text: str, lines: int = 30) -> str:
    """The end of a text without Triton's wide tables, its lines cut to a readable width."""
    told = [line[:400] for line in text.splitlines() if not line.startswith(("|", "+-"))]
    return "\n".join(told[-lines:])


def read_from(path: Path, position: int) -> str:
    """What stands in a file from ``position`` on."""
    with path.open("rb") as stream:
        stream.seek(position)
        return stream.read().decode(errors="replace")
