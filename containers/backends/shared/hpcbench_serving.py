"""What the Python-based backends share: settings, refusals, and batches made of requests.

This file is copied beside each backend's model.py. Triton starts one process per model instance,
and calls ``initialize`` once and ``execute`` with every batch that its scheduler formed.
"""

from __future__ import annotations

import ctypes
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# hpcbench looks for this in the server's log to tell "cannot be measured" from "failed".
NOT_APPLICABLE = "hpcbench: not applicable: "

# Triton's stub misreads and miswrites arrays of numpy 2; DLPack goes past that.
BY_DLPACK = int(np.__version__.split(".", maxsplit=1)[0]) > 1

TAKEN = b"used_dltensor"
"""How a DLPack capsule is called once its content belongs to someone else."""

_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.argtypes = [ctypes.py_object, ctypes.c_char_p]

Array = np.ndarray[Any, Any]
Tensors = dict[str, Array]


class ModelError(Exception):
    """Something about the model or a request that the user must see as it is written."""


@dataclass(frozen=True)
class Settings:
    """One model instance as its configuration asks for it. ``threads`` is within an operator."""

    name: str
    path: Path
    config: Mapping[str, Any]
    max_batch_size: int
    threads: int

    def parameter(self, key: str) -> str | None:
        """The string value of a model parameter, or None."""
        return parameter(self.config, key)

    def number(self, key: str) -> int | None:
        """A model parameter that must be an integer. Raises ModelError if it is not."""
        return number(self.config, key)

    def flag(self, key: str, default: bool) -> bool:
        """A model parameter that must be true or false. Raises ModelError if it is not."""
        text = self.parameter(key)
        if text is None:
            return default
        if text.strip().lower() in ("true", "1", "on", "yes"):
            return True
        if text.strip().lower() in ("false", "0", "off", "no"):
            return False
        raise ModelError(f"model {self.name!r}: parameter {key!r} is {text!r}, not true or false")

    def warn_not_shared(self, key: str, asked: bool) -> None:
        """Tell in the log, where a parameter asks that instances share what they load."""
        if asked:
            pb_utils.Logger.log_warn(
                f"model {self.name!r}: {key} has no effect here, each instance is a process of its "
                "own"
            )


def parameter(config: Mapping[str, Any], key: str) -> str | None:
    """The string value of a model parameter, or None."""
    value = config.get("parameters", {}).get(key)
    return None if value is None else str(value.get("string_value", ""))


def number(config: Mapping[str, Any], key: str) -> int | None:
    """A model parameter that must be an integer. Raises ModelError if it is not."""
    text = parameter(config, key)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        name = config["name"]
        raise ModelError(f"model {name!r}: parameter {key!r} is {text!r}, not a number") from None


def refuse(config: Mapping[str, Any]) -> None:
    """Raise ModelError for what a CPU behind Python cannot do, rather than ignore it."""
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    names = [entry["name"] for group in accelerators.values() for entry in group]
    if names:
        raise ModelError(
            f"{NOT_APPLICABLE}model {config['name']!r} asks for the execution accelerator "
            f"{', '.join(names)}; this server runs on the CPU without accelerators"
        )
    unsupported = {
        "batch_input": bool(config.get("batch_input")),
        "batch_output": bool(config.get("batch_output")),
        "allow_ragged_batch": any(io.get("allow_ragged_batch") for io in config["input"]),
        "sequence_batching state": bool(config.get("sequence_batching", {}).get("state")),
        "decoupled": bool(config.get("model_transaction_policy", {}).get("decoupled")),
        "TYPE_BF16": any(
            io["data_type"] == "TYPE_BF16" for io in (*config["input"], *config["output"])
        ),
    }
    if BY_DLPACK:
        unsupported["TYPE_STRING (which needs a native prefix of Python 3.11 or 3.12)"] = any(
            io["data_type"] == "TYPE_STRING" for io in (*config["input"], *config["output"])
        )
    for what, asked in unsupported.items():
        if asked:
            raise ModelError(
                f"{NOT_APPLICABLE}model {config['name']!r} uses {what}, which this server's "
                "Python-based backends do not implement"
            )


def intra_op_threads(config: Mapping[str, Any], key: str, environment: Mapping[str, str]) -> int:
    """Threads of one instance: the parameter ``key``, else this instance's share of the CPUs.

    The CPUs are HPCBENCH_CPUS, else those that the process may use.
    """
    asked = number(config, key)
    if asked is not None and asked > 0:
        return asked
    text = environment.get("HPCBENCH_CPUS", "")
    if text and not text.isdigit():
        raise ModelError(f"HPCBENCH_CPUS is {text!r}, not a number of CPUs")
    cpus = int(text) if text else len(os.sched_getaffinity(0))
    instances = sum(int(group.get("count", 1)) for group in config.get("instance_group", ()))
    return max(1, cpus // max(1, instances))


def model_file(folder: Path, config: Mapping[str, Any], default: str) -> Path:
    """The model's file in its version folder. Raises ModelError if it is not there."""
    path = folder / (config.get("default_model_filename") or default)
    if path.is_dir():
        path = path / default
    if not path.exists():
        raise ModelError(f"model {config['name']!r}: there is no file {path}")
    return path


def read_tensor(tensor: Any) -> tuple[str, Array]:
    """Name and values of a request's tensor, without a copy."""
    return tensor.name(), np.from_dlpack(tensor) if BY_DLPACK else tensor.as_numpy()


def make_tensor(name: str, array: Array) -> Any:
    """An array as Triton's tensor."""
    if not BY_DLPACK:
        return pb_utils.Tensor(name, array)
    capsule = np.ascontiguousarray(array).__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    # The stub gives what it has taken a name of its own, and numpy, which knows another one, then
    # prints an error for every tensor.
    _rename(capsule, TAKEN)
    return tensor


def lacks(framework: str, extra: str) -> str:
    """What to say where an extra was not installed."""
    return (
        f"this Triton was installed without {framework}; add it with 'python3 containers/native.py "
        f"PREFIX --with {extra}' (or: make native WITH={extra})"
    )


def show_error(error: Exception) -> str:
    """An exception as one readable text; the model's own errors pass unchanged."""
    return str(error) or type(error).__name__


class BatchedModel(ABC):
    """A Triton model whose ``infer`` is called with the requests of a batch put together.

    A subclass says where the model's file is, what the file adds to its configuration, how to load
    it and how to run it on named arrays.
    """

    threads_parameter = ""

    @staticmethod
    @abstractmethod
    def find(folder: Path, config: Mapping[str, Any]) -> Path:
        """The model's file in its version folder. Raises ModelError if it is not there."""

    @staticmethod
    @abstractmethod
    def complete(auto: Any) -> None:
        """Write into the configuration what it leaves out. Raises any exception to refuse."""

    @classmethod
    def auto_complete_config(cls, auto: Any) -> Any:
        """Called by Triton before it checks the configuration."""
        try:
            refuse(auto.as_dict())
            cls.complete(auto)
        except Exception as error:
            raise pb_utils.TritonModelException(show_error(error)) from error
        return auto

    @abstractmethod
    def load(self, settings: Settings) -> None:
        """Load the model of one instance. Raises any exception to refuse."""

    @abstractmethod
    def infer(self, inputs: Tensors, outputs: Sequence[str]) -> Sequence[Array]:
        """Run the model; the results are in the order of ``outputs``."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Called by Triton once per instance."""
        config = json.loads(args["model_config"])
        try:
            refuse(config)
            folder = Path(args["model_repository"]) / args["model_version"]
            settings = Settings(
                name=config["name"],
                path=self.find(folder, config),
                config=config,
                max_batch_size=config["max_batch_size"],
                threads=intra_op_threads(config, self.threads_parameter, os.environ),
            )
            self._batched = settings.max_batch_size > 0
            self._scalar_shapes = {io["name"]: len(io["dims"]) * (1,) for io in config["output"]}
            self.load(settings)
        except Exception as error:
            raise pb_utils.TritonModelException(show_error(error)) from error

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Called by Triton with a batch; one response per request, in their order."""
        inputs = [dict(read_tensor(t) for t in request.inputs()) for request in requests]
        responses: list[Any] = [None] * len(requests)
        for group in self._groups(inputs):
            wanted = list(
                dict.fromkeys(n for i in group for n in requests[i].requested_output_names())
            )
            try:
                parts = self._run_group([inputs[i] for i in group], wanted)
            except Exception as error:  # noqa: BLE001 - a model may raise anything
                if len(group) == 1:
                    responses[group[0]] = _error_response(error)
                    continue
                # One of them is at fault; alone, only that one fails.
                for i in group:
                    responses[i] = self._respond_alone(requests[i], inputs[i])
                continue
            for i, part in zip(group, parts, strict=True):
                responses[i] = _response(requests[i], part)
        return responses

    def _respond_alone(self, request: Any, inputs: Tensors) -> Any:
        try:
            return _response(
                request, self._run_group([inputs], list(request.requested_output_names()))[0]
            )
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            return _error_response(error)

    def _groups(self, inputs: Sequence[Tensors]) -> list[list[int]]:
        """Indices of the requests that can run as one batch."""
        if len(inputs) == 1:
            return [[0]]
        if not self._batched:
            return [[i] for i in range(len(inputs))]
        groups: dict[Any, list[int]] = {}
        for i, tensors in enumerate(inputs):
            key = tuple(sorted((n, a.dtype.str, a.shape[1:]) for n, a in tensors.items()))
            groups.setdefault(key, []).append(i)
        return list(groups.values())

    def _run_group(self, group: Sequence[Tensors], wanted: Sequence[str]) -> list[Tensors]:
        if len(group) == 1:
            inputs = group[0]
        else:
            inputs = {name: np.concatenate([part[name] for part in group]) for name in group[0]}
        results = dict(zip(wanted, self.infer(inputs, wanted), strict=True))
        if not self._batched:
            # Triton has no tensors without dimensions.
            return [
                {
                    name: array if array.ndim else array.reshape(self._scalar_shapes[name])
                    for name, array in results.items()
                }
            ]
        sizes = [len(next(iter(part.values()))) for part in group]
        total = sum(sizes)
        for name, array in results.items():
            if array.ndim == 0 or len(array) != total:
                raise ModelError(
                    f"output {name!r} has shape {list(array.shape)} for a batch of {total}: its "
                    "first dimension is not the batch; set max_batch_size: 0 in config.pbtxt"
                )
        if len(group) == 1:
            return [results]
        parts: list[Tensors] = []
        start = 0
        for size in sizes:
            parts.append({name: array[start : start + size] for name, array in results.items()})
            start += size
        return parts


def _response(request: Any, arrays: Tensors) -> Any:
    names = request.requested_output_names()
    return pb_utils.InferenceResponse([make_tensor(name, arrays[name]) for name in names])


def _error_response(error: Exception) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(show_error(error)))
