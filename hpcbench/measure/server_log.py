"""What Triton's log says: why a model did not load, and whether an accelerator is used.

Triton's HTTP answers have neither: a server that could not load its models is gone, and one that
loaded a model without its accelerator reports that model as ready.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcbench.errors import ServerFailed
from hpcbench.plan.accelerators import PROVIDERS

NOT_APPLICABLE = "hpcbench: not applicable: "
"""The prefix with which backends of the native runtime report what they can never do."""

_BUILT_BY_TENSORFLOW = "Building a new TensorRT engine for"
"""TensorFlow logs this for each engine that it builds."""

_IGNORED = (
    "Execution Accelerator will be ignored",
    "is set, but platform doesn't support",
    "is set, but GPU doesn't support",
)
"""Warnings of backends that load the model without the accelerator."""

_REFUSED = (
    r"unknown Execution Accelerator '\w+' is requested",
    r"unknown parameter '\w+' is provided for \w+ Execution Accelerator",
    r"unsupported precision mode '\w+' is requested",
    r"[GC]PU Execution Accelerator (can only be set|is not supported) .*",
)
"""Errors of backends that do not have the accelerator, or not in this form."""


def load_failure(text: str) -> ServerFailed:
    """Return why Triton ended before it was ready, in the words of its log.

    Parameters
    ----------
    text
        What this Triton has logged.

    Returns
    -------
    ServerFailed
        To be raised. It is not applicable if the backend can never do what was asked for.
    """
    # The first message names the cause; what follows in the log are its consequences.
    match = re.search(r"failed to load '[^']*' version \d+: (.*)", text)
    if match:
        # The Python backend appends a traceback, and Triton's log writes newlines as \n.
        reason = match[1].strip().strip('"').split("\\n\\nAt:")[0].replace("\\n", "\n").strip()
        if NOT_APPLICABLE in reason:
            return ServerFailed(reason.split(NOT_APPLICABLE)[1], last_lines(text), True)
        refused = accelerator_refusal(reason)
        if refused:
            return ServerFailed(refused, last_lines(text), True)
        return ServerFailed(f"the model did not load: {reason}", last_lines(text))
    match = re.search(r"Poll failed for model directory '[^']*': (.*)", text)
    if match:
        # Triton checks a configuration before it asks the backend.
        reason = match[1].strip().strip('"')
        return ServerFailed(f"Triton refuses the configuration: {reason}", last_lines(text))
    lines = [
        line
        for line in text.splitlines()
        if line.startswith(("error:", "cannot start", "FATAL:")) or re.match(r"E\d{4} ", line)
    ]
    # The words of getopt_long; all options with their descriptions follow them.
    if match := re.search(r"tritonserver: ((unrecognized )?option '.*)", text):
        lines = [match[1]]
    reason = lines[-1] if lines else "its log does not say why"
    return ServerFailed(f"the server ended before it was ready: {reason}", last_lines(text))


def still_loading(text: str) -> str:
    """Return what a Triton that does not become ready is waiting for.

    Parameters
    ----------
    text
        What it has logged since it began to load.

    Returns
    -------
    str
        The models that began to load and did not end, with the last line of the log; empty where
        there is none.
    """
    loaded = set(re.findall(r"successfully loaded '([^']+)'", text))
    begun = re.findall(r'"loading: ([^:"]+):\d+"', text)
    waiting = [name for name in dict.fromkeys(begun) if name not in loaded]
    if not waiting:
        return ""
    # Models print into the same log, and whoever hangs printed last.
    last = _message(last_lines(text, 1))
    names = " and ".join(f"'{name}'" for name in waiting)
    return f"{names} did not load, and the last line of the log is: {last}"


MAX_BYTES = 50_000_000
"""A log that is longer is cut at its beginning, between two points."""

CUT = "(what stood here was cut: the log had grown too long)"


def cut(path: Path) -> None:
    """Keep the end of a log that has grown beyond `MAX_BYTES`.

    Parameters
    ----------
    path
        The log, to which a server appends meanwhile: what it writes during the cut may be lost.
    """
    # Where the folder is away for a moment, the next point may find it again.
    with contextlib.suppress(OSError):
        if path.stat().st_size <= MAX_BYTES:
            return
        end = read_end(path, MAX_BYTES // 10)
        # In place: the server writes to the end of the file that it has open.
        with path.open("r+", encoding="utf-8") as stream:
            stream.truncate()
            stream.write(f"{CUT}\n{end}")


def tail(path: Path, lines: int = 30) -> str:
    """Return the last lines of a log.

    Parameters
    ----------
    path
        The log.
    lines
        How many lines at most.

    Returns
    -------
    str
        Empty if the file cannot be read.
    """
    try:
        return last_lines(read_end(path), lines)
    except OSError:
        return ""


def last_lines(text: str, lines: int = 30) -> str:
    """Return the end of a text, readable in a record.

    Parameters
    ----------
    text
        What a program printed.
    lines
        How many lines at most.

    Returns
    -------
    str
        Without Triton's tables of models and options, each line cut after 400 characters.
    """
    kept = [line[:400] for line in text.splitlines() if not line.startswith(("|", "+-"))]
    return "\n".join(kept[-lines:])


def read_end(path: Path, size: int = 20_000) -> str:
    """Return the end of a log without reading all of it: a verbose one may have gigabytes.

    Parameters
    ----------
    path
        The log.
    size
        How much of it to read, in bytes.

    Returns
    -------
    str
        Its first line may be cut.
    """
    return read_from(path, max(0, path.stat().st_size - size))


def read_from(path: Path, position: int) -> str:
    """Return what was appended to a file.

    Parameters
    ----------
    path
        The file, to which a server may still write.
    position
        Where to begin, in bytes.

    Returns
    -------
    str
        Bytes that are no UTF-8 are replaced.
    """
    with path.open("rb") as stream:
        stream.seek(position)
        return stream.read().decode(errors="replace")


@dataclass(frozen=True)
class AcceleratorUse:
    """What a server made of an accelerator.

    Attributes
    ----------
    nodes
        Number of the model's nodes by ONNX Runtime's name of what runs them; empty for other
        backends.
    fell_back
        Why the accelerator is not used; None where it is.
    """

    nodes: Mapping[str, int]
    fell_back: str | None


def accelerator_use(log: str, accelerator: str) -> AcceleratorUse:
    """Find out whether a server really uses an accelerator.

    ONNX Runtime logs after each optimization where it placed the nodes, one line per provider;
    TensorFlow logs each engine that it builds.

    Parameters
    ----------
    log
        What the server logged verbosely while it loaded the model.
    accelerator
        Triton's name of the accelerator.

    Returns
    -------
    AcceleratorUse
        A log that says nothing about it counts as not used.
    """
    for line in log.splitlines():
        if any(words in line for words in _IGNORED):
            return AcceleratorUse({}, f"the backend loaded the model without it: {_message(line)}")
    provider = PROVIDERS[accelerator]
    nodes = _placement(log, provider)
    if nodes.get(provider) or (not nodes and _BUILT_BY_TENSORFLOW in log):
        return AcceleratorUse(nodes, None)
    if nodes:
        placed = ", ".join(f"{count} on {name}" for name, count in nodes.items())
        return AcceleratorUse(
            nodes, f"no part of the model runs on {provider}; its nodes: {placed}"
        )
    return AcceleratorUse({}, f"the server's log does not say that anything runs on {provider}")


_PLACED = re.compile(
    r"(?:Node\(s\)|All nodes)(?: have been)? placed on \[(\w+)\](?:\. Number of nodes: (\d+))?"
)


def _placement(log: str, provider: str) -> dict[str, int]:
    """Return nodes by provider: of the last list with ``provider``, else of the last list."""
    # Parts of a model, and a session that only reads its inputs, have lists of their own.
    lists: list[dict[str, int]] = []
    for line in log.splitlines():
        if "] Node placements" in line:
            lists.append({})
        found = _PLACED.search(line)
        if found and lists:
            lists[-1][found[1]] = int(found[2] or 1)
    ours = [each for each in lists if provider in each]
    return (ours or lists or [{}])[-1]


def accelerator_refusal(message: str) -> str | None:
    """Return why a backend does not have the accelerator that a model asks for.

    Parameters
    ----------
    message
        Error of a model that did not load.

    Returns
    -------
    str or None
        None where the load failed for another reason.
    """
    for pattern in _REFUSED:
        if found := re.search(pattern, message):
            hint = (
                "; with profiles: false and engine_cache: false the accelerator gets no such "
                "parameter from hpcbench"
                if "unknown parameter 'trt_" in found[0]
                else ""
            )
            return f"this server's backend refuses it: {found[0]}{hint}"
    return None


def _message(line: str) -> str:
    """Return a line of a log without its time and source."""
    return re.sub(r"^.*?\] ", "", line).strip().strip('"')
