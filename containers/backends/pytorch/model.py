"""TorchScript models behind Triton on the CPU, configured as for NVIDIA's pytorch backend."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from hpcbench_serving import (
    NOT_APPLICABLE,
    Array,
    BatchedModel,
    ModelError,
    Settings,
    Tensors,
    lacks,
    model_file,
)
from hpcbench_signature import need_tensors


@cache
def pytorch() -> Any:
    """PyTorch, imported when it is needed: that takes seconds, and a configuration needs none."""
    # OpenMP's threads spin while they wait, and perf_analyzer needs the same CPUs: with one core of
    # two taken, particlenet_AK4_PT took 870 ms with spinning and 10 ms without.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import torch
    except ModuleNotFoundError as missing:
        if missing.name != "torch":
            raise
        raise ModelError(lacks("PyTorch", "pytorch")) from missing
    return torch


def index_of(name: str) -> int | None:
    """The INDEX of a name like NAME__INDEX, or None."""
    head, separator, tail = name.rpartition("__")
    return int(tail) if head and separator and tail.isdigit() else None


def order_inputs(model: str, names: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """The configured inputs in the order of the model's arguments.

    By the names of ``forward``'s arguments, else by NAME__INDEX, else as they are listed.
    """
    if arguments and all(name in arguments for name in names):
        return sorted(names, key=list(arguments).index)
    indices = {name: index_of(name) for name in names}
    if any(index is None for index in indices.values()):
        return list(names)
    ordered = sorted(names, key=lambda name: indices[name] or 0)
    if [indices[name] for name in ordered] != list(range(len(names))):
        raise ModelError(
            f"model {model!r}: the inputs {ordered} must be numbered from 0 without gaps"
        )
    return ordered


def place_outputs(names: Sequence[str]) -> dict[str, int]:
    """Where in the model's results each configured output is."""
    indices = {name: index_of(name) for name in names}
    if any(index is None for index in indices.values()):
        return {name: position for position, name in enumerate(names)}
    return {name: index for name, index in indices.items() if index is not None}


class TritonPythonModel(BatchedModel):
    """One instance: one TorchScript module."""

    threads_parameter = "INTRA_OP_THREAD_COUNT"

    @staticmethod
    def find(folder: Path, config: Mapping[str, Any]) -> Path:
        """The model's file in its version folder. Raises ModelError if it is not there."""
        return model_file(folder, config, "model.pt")

    @staticmethod
    def complete(auto: Any) -> None:
        """TorchScript has nothing to add."""
        need_tensors(auto.as_dict(), "TorchScript file")

    def load(self, settings: Settings) -> None:
        """Load the module and settle the order of its inputs and outputs."""
        torch = pytorch()
        torch.set_num_threads(settings.threads)
        inter_op = settings.number("INTER_OP_THREAD_COUNT")
        if inter_op is not None and inter_op > 0:
            torch.set_num_interop_threads(inter_op)
        # torch has no public names for these switches of its TorchScript runtime.
        for key, switch in (
            ("ENABLE_JIT_EXECUTOR", "_jit_set_profiling_executor"),
            ("ENABLE_JIT_PROFILING", "_jit_set_profiling_mode"),
            ("ENABLE_TENSOR_FUSER", "_jit_set_texpr_fuser_enabled"),
        ):
            if settings.parameter(key) is not None:
                getattr(torch._C, switch)(settings.flag(key, True))  # noqa: SLF001
        self._inference_mode = settings.flag("INFERENCE_MODE", True)
        self._optimized = not settings.flag("DISABLE_OPTIMIZED_EXECUTION", False)
        key = "ENABLE_WEIGHT_SHARING"
        settings.warn_not_shared(key, settings.flag(key, False))
        try:
            self._module = torch.jit.load(str(settings.path), map_location="cpu").eval()
        except Exception as error:
            raise ModelError(
                f"model {settings.name!r}: torch cannot load {settings.path}: {error}"
            ) from error
        self._settle_names(settings)

    def _settle_names(self, settings: Settings) -> None:
        config: Mapping[str, Any] = settings.config
        for io in (*config["input"], *config["output"]):
            if io["data_type"] == "TYPE_STRING":
                raise ModelError(
                    f"{NOT_APPLICABLE}model {settings.name!r}: {io['name']!r} is TYPE_STRING, "
                    "which this pytorch backend does not carry"
                )
        arguments = list(self._module.forward.schema.arguments)[1:]
        required = [a.name for a in arguments if not a.has_default_value()]
        self._dictionary = len(arguments) == 1 and str(arguments[0].type).startswith("Dict[str")
        names = [io["name"] for io in config["input"]]
        self._inputs = names
        if not self._dictionary:
            self._inputs = order_inputs(settings.name, names, [a.name for a in arguments])
            if not len(required) <= len(names) <= len(arguments):
                raise ModelError(
                    f"model {settings.name!r}: config.pbtxt lists {len(names)} inputs {names}, the "
                    f"model's forward takes {len(arguments)}: {[a.name for a in arguments]}"
                )
        self._outputs = place_outputs([io["name"] for io in config["output"]])
        self._types = {
            io["name"]: np.dtype(pb_utils.triton_string_to_numpy(io["data_type"]))
            for io in config["output"]
        }

    def infer(self, inputs: Tensors, outputs: Sequence[str]) -> Sequence[Array]:
        """Run the module."""
        torch = pytorch()
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(self._inference_mode))
            stack.enter_context(torch.no_grad())
            if not self._optimized:
                stack.enter_context(torch.jit.optimized_execution(False))
            if self._dictionary:
                result = self._module(tensors)
            else:
                result = self._module(*(tensors[n] for n in self._inputs if n in tensors))
        return [self._pick(result, name) for name in outputs]

    def _pick(self, result: Any, name: str) -> Array:
        value = result
        if isinstance(result, dict):
            if name not in result:
                raise ModelError(f"output {name!r} is not among the model's: {sorted(result)}")
            value = result[name]
        elif isinstance(result, (tuple, list)):
            index = self._outputs[name]
            if index >= len(result):
                raise ModelError(
                    f"output {name!r} is number {index}, but the model returns {len(result)}"
                )
            value = result[index]
        elif self._outputs[name] != 0:
            raise ModelError(f"output {name!r} is asked for, but the model returns one tensor")
        if not isinstance(value, pytorch().Tensor):
            raise ModelError(f"output {name!r} is a {type(value).__name__}, not a tensor")
        array: Array = value.contiguous().numpy()
        if array.dtype != self._types[name]:
            raise ModelError(
                f"config.pbtxt says {self._types[name]} for the output {name!r}, the model "
                f"returned {array.dtype}"
            )
        return array
