"""ONNX models behind Triton on the CPU, configured as for NVIDIA's onnxruntime backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils
from hpcbench_serving import (
    Array,
    BatchedModel,
    ModelError,
    Settings,
    Tensors,
    model_file,
)
from hpcbench_signature import Spec, check, complete

TRITON_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}

# As NVIDIA's backend maps optimization.graph.level; any other level means everything.
GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

SHRINK_ARENA = "memory.enable_memory_arena_shrinkage"


def session_options(settings: Settings) -> Any:
    """The session options that the model's configuration asks for."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    level = settings.config.get("optimization", {}).get("graph", {}).get("level", 0)
    options.graph_optimization_level = GRAPH_LEVELS.get(
        int(level), ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    )
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = settings.number("inter_op_thread_count") or 0
    # perf_analyzer needs the same CPUs: with one core of two taken, spinning threads took twice as
    # long for particlenet_AK4 as sleeping ones.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    mode = settings.number("execution_mode") or 0
    if mode not in (0, 1):
        raise ModelError(
            f"model {settings.name!r}: parameter 'execution_mode' is {mode}; allowed are 0 "
            "(sequential) and 1 (parallel)"
        )
    if mode == 1:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.enable_cpu_mem_arena = settings.flag("enable_mem_arena", True)
    options.enable_mem_pattern = settings.flag("enable_mem_pattern", True)
    for library in settings.config.get("model_operations", {}).get("op_library_filename", ()):
        options.register_custom_ops_library(library)
    return options


def specs(nodes: Iterable[Any]) -> dict[str, Spec]:
    """ONNX inputs or outputs by name."""
    return {
        node.name: Spec(
            TRITON_TYPES.get(node.type, node.type),
            tuple(d if isinstance(d, int) and d >= 0 else -1 for d in node.shape),
        )
        for node in nodes
    }


class TritonPythonModel(BatchedModel):
    """One instance: one onnxruntime session."""

    threads_parameter = "intra_op_thread_count"

    @staticmethod
    def find(folder: Path, config: Mapping[str, Any]) -> Path:
        """The model's file in its version folder. Raises ModelError if it is not there."""
        return model_file(folder, config, "model.onnx")

    @staticmethod
    def complete(auto: Any) -> None:
        """What the configuration leaves out is in the model."""
        config = auto.as_dict()
        if config["input"] and config["output"]:
            return
        path = TritonPythonModel.find(Path(pb_utils.get_model_dir()), config)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = _open(config["name"], path, options)
        complete(auto, specs(session.get_inputs()), specs(session.get_outputs()))

    def load(self, settings: Settings) -> None:
        """Make the session and compare the model with its configuration."""
        key = "share_session_between_instances"
        settings.warn_not_shared(key, settings.flag(key, False))
        self._session = _open(settings.name, settings.path, session_options(settings))
        check(
            settings.config,
            specs(self._session.get_inputs()),
            specs(self._session.get_outputs()),
            optional=specs(self._session.get_overridable_initializers()),
        )
        self._strings = {n.name for n in self._session.get_inputs() if n.type == "tensor(string)"}
        self._run_options = None
        shrink = settings.parameter(SHRINK_ARENA)
        if shrink is not None:
            self._run_options = ort.RunOptions()
            self._run_options.add_run_config_entry(SHRINK_ARENA, shrink)

    def infer(self, inputs: Tensors, outputs: Sequence[str]) -> Sequence[Array]:
        """Run the session. Text must be UTF-8, as ONNX defines it."""
        for name in self._strings & inputs.keys():
            array = inputs[name]
            text = [word.decode() if isinstance(word, bytes) else word for word in array.flat]
            inputs[name] = np.array(text, dtype=object).reshape(array.shape)
        result: Sequence[Array] = self._session.run(outputs, inputs, self._run_options)
        return result


def _open(model: str, path: Path, options: Any) -> Any:
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"model {model!r}: onnxruntime cannot load {path}: {error}") from error
