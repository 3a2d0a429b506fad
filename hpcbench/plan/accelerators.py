"""Execution accelerators: what they are keyed by, and what a server's log tells about them.

Pure functions on configurations and on text, so that they need no GPU.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import ModelConfig

PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "openvino": "OpenVINOExecutionProvider"}
"""What onnxruntime calls what Triton calls an accelerator."""

BUILT_BY_TENSORFLOW = "Building a new TensorRT engine for"

IGNORED = (
    "Execution Accelerator will be ignored",
    "is set, but platform doesn't support",
    "is set, but GPU doesn't support",
)
"""Warnings of backends that go on without what was asked for."""

REFUSED = (
    r"unknown Execution Accelerator '\w+' is requested",
    r"unknown parameter '\w+' is provided for \w+ Execution Accelerator",
    r"unsupported precision mode '\w+' is requested",
    r"[GC]PU Execution Accelerator (can only be set|is not supported) .*",
)
"""How backends refuse to load a model with what they do not have."""


def compiling_accelerators(config: ModelConfig) -> tuple[str, ...]:
    """The accelerators of a configuration that compile a model, hence are slow at first."""
    both = config.optimization.execution_accelerators
    entries = (*both.gpu_execution_accelerator, *both.cpu_execution_accelerator)
    return tuple(entry.name for entry in entries if entry.name in PROVIDERS)


def cache_key(
    config: ModelConfig, *, digest: str, software: str, tensorrt: str | None, architecture: str
) -> str:
    """The name of a folder that engines share which may stand for each other, and no others.

    ``config`` is without the folder itself; ``digest`` is the model's, ``software`` the server
    image's. Precision, shapes and batch sizes are among the accelerator's parameters.
    """
    both = config.optimization.execution_accelerators
    entries = (*both.gpu_execution_accelerator, *both.cpu_execution_accelerator)
    versions = list(config.version_policy.specific.versions)
    identity = [
        *([entry.name, sorted(entry.parameters.items())] for entry in entries),
        *(digest, versions, software, tensorrt, architecture),
    ]
    hashed = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    return f"{architecture}-trt{tensorrt or '-unknown'}-{hashed}"


@dataclass(frozen=True)
class AcceleratorUse:
    """What a log tells: nodes of the model by what runs them, and why nothing was accelerated."""

    nodes: Mapping[str, int]
    fell_back: str | None


def accelerator_use(log: str, accelerator: str) -> AcceleratorUse:
    """Whether a server that logged verbosely while it loaded really uses the accelerator.

    onnxruntime lists after each optimization where the nodes were placed, one line for each
    provider; TensorFlow tells of each engine that it builds.
    """
    for line in log.splitlines():
        if any(words in line for words in IGNORED):
            return AcceleratorUse({}, f"the backend went on without it: {_message(line)}")
    provider = PROVIDERS[accelerator]
    nodes = _placement(log, provider)
    if nodes.get(provider) or (not nodes and BUILT_BY_TENSORFLOW in log):
        return AcceleratorUse(nodes, None)
    if nodes:
        placed = ", ".join(f"{count} on {name}" for name, count in nodes.items())
        return AcceleratorUse(
            nodes, f"no part of the model runs on {provider}; its nodes: {placed}"
        )
    return AcceleratorUse({}, f"the server's log does not tell that anything runs on {provider}")


_PLACED = re.compile(
    r"(?:Node\(s\)|All nodes)(?: have been)? placed on \[(\w+)\](?:\. Number of nodes: (\d+))?"
)


def _placement(log: str, provider: str) -> dict[str, int]:
    """Nodes by provider: of the last list that names ``provider``, else of the last of all."""
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
    """The part of a failed load's message that says that the backend has no such accelerator."""
    for pattern in REFUSED:
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
    """A line of a log without its time and place."""
    return re.sub(r"^.*?\] ", "", line).strip().strip('"')
