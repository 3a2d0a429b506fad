"""ONNX models behind Triton on the CPU, configured as for NVIDIA's onnxruntime backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils
from hpcbench_serving import (
    NOT_APPLICABLE,
    Array,
    BatchedModel,
    ModelError,
    Settings,
    Tensors,
    model_file,
    refuse,
    show_error,
)

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

# What Triton gives a model that can be batched and whose configuration says nothing.
DEFAULT_MAX_BATCH_SIZE = 4

SHRINK_ARENA = "memory.enable_memory_arena_shrinkage"


def triton_type(model: str, node: Any) -> str:
    """The Triton type of an ONNX input or output. Raises ModelError if there is none."""
    if node.type not in TRITON_TYPES:
        raise ModelError(
            f"{NOT_APPLICABLE}model {model!r}: {node.name!r} is {node.type}, a type that this "
            "server cannot carry"
        )
    return TRITON_TYPES[node.type]


def dimensions(node: Any) -> list[int]:
    """The shape of an ONNX input or output, -1 where it is free."""
    return [d if isinstance(d, int) and d >= 0 else -1 for d in node.shape]


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


def check_io(model: str, config: Mapping[str, Any], session: Any) -> None:
    """Raise ModelError where the configuration and the model disagree."""
    inputs = {node.name: node for node in session.get_inputs()}
    initializers = {node.name: node for node in session.get_overridable_initializers()}
    outputs = {node.name: node for node in session.get_outputs()}
    max_batch_size = config["max_batch_size"]
    for io in config["input"]:
        _check_tensor(model, "input", io, {**initializers, **inputs}, max_batch_size)
    for io in config["output"]:
        _check_tensor(model, "output", io, outputs, max_batch_size)
    given = {io["name"] for io in config["input"]}
    for control in config.get("sequence_batching", {}).get("control_input", ()):
        given.add(control["name"])
    missing = sorted(inputs.keys() - given)
    if missing:
        raise ModelError(
            f"model {model!r}: config.pbtxt lists the inputs {sorted(given)}, but the model also "
            f"needs {missing}"
        )


def _check_tensor(
    model: str, kind: str, io: Mapping[str, Any], nodes: Mapping[str, Any], max_batch_size: int
) -> None:
    name = io["name"]
    if name not in nodes:
        raise ModelError(
            f"model {model!r}: config.pbtxt has the {kind} {name!r}; the model's {kind}s are "
            f"{sorted(nodes)}"
        )
    node = nodes[name]
    seen = triton_type(model, node)
    if seen != io["data_type"]:
        raise ModelError(
            f"model {model!r}: config.pbtxt says {io['data_type']} for the {kind} {name!r}, the "
            f"model says {seen}"
        )
    asked = [int(d) for d in io.get("reshape", {}).get("shape", io["dims"])]
    if max_batch_size > 0:
        asked = [-1, *asked]
    shape = dimensions(node)
    scalar = not shape and max_batch_size == 0 and asked == [1]
    # An output whose shape the model leaves open altogether is shown without dimensions.
    if scalar or (kind == "output" and not shape):
        return
    same = len(asked) == len(shape)
    if not same or any(m not in (-1, c) for m, c in zip(shape, asked, strict=True)):
        batch = f" with max_batch_size {max_batch_size}" if max_batch_size > 0 else ""
        hint = ""
        if max_batch_size > 0 and shape and shape[0] != -1:
            hint = "; its first dimension is fixed, so it cannot be batched: max_batch_size: 0"
        raise ModelError(
            f"model {model!r}: config.pbtxt says dims {[int(d) for d in io['dims']]}{batch} for "
            f"the {kind} {name!r}, the model has {shape}{hint}"
        )


def complete(auto: Any, session: Any) -> None:
    """Fill in what the configuration leaves out, as NVIDIA's backend does."""
    config = auto.as_dict()
    inputs, outputs = session.get_inputs(), session.get_outputs()
    batchable = all(dimensions(node)[:1] == [-1] for node in (*inputs, *outputs))
    if batchable:
        if config["max_batch_size"] == 0:
            auto.set_max_batch_size(DEFAULT_MAX_BATCH_SIZE)
        if config["max_batch_size"] > 1 and not config.get("sequence_batching"):
            auto.set_dynamic_batching()
    elif config["max_batch_size"] > 0:
        raise ModelError(
            f"model {config['name']!r}: max_batch_size is {config['max_batch_size']}, but the "
            "model's inputs and outputs do not all have a free first dimension"
        )
    first = 1 if config["max_batch_size"] > 0 else 0
    for key, nodes in (("input", inputs), ("output", outputs)):
        if config[key]:
            continue
        for node in nodes:
            entry: dict[str, Any] = {
                "name": node.name,
                "data_type": triton_type(config["name"], node),
                "dims": dimensions(node)[first:],
            }
            if not entry["dims"]:
                entry["dims"] = [1]
                if first:
                    entry["reshape"] = {"shape": []}
            # add_input and add_output know no reshape.
            config[key].append(entry)


class TritonPythonModel(BatchedModel):
    """One instance: one onnxruntime session."""

    default_file = "model.onnx"
    threads_parameter = "intra_op_thread_count"

    @staticmethod
    def auto_complete_config(auto: Any) -> Any:
        """Called by Triton before it checks the configuration."""
        config = auto.as_dict()
        try:
            refuse(config)
            if not (config["input"] and config["output"]):
                path = model_file(Path(pb_utils.get_model_dir()), config, "model.onnx")
                options = ort.SessionOptions()
                options.log_severity_level = 3
                options.intra_op_num_threads = 1
                options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
                complete(auto, _open(config["name"], path, options))
        except Exception as error:
            raise pb_utils.TritonModelException(show_error(error)) from error
        return auto

    def load(self, settings: Settings) -> None:
        """Make the session and compare the model with its configuration."""
        self._session = _open(settings.name, settings.path, session_options(settings))
        check_io(settings.name, settings.config, self._session)
        self._strings = {n.name for n in self._session.get_inputs() if n.type == "tensor(string)"}
        self._run_options = None
        shrink = settings.parameter(SHRINK_ARENA)
        if shrink is not None:
            self._run_options = ort.RunOptions()
            self._run_options.add_run_config_entry(SHRINK_ARENA, shrink)
        if settings.flag("share_session_between_instances", False):
            pb_utils.Logger.log_warn(
                f"model {settings.name!r}: share_session_between_instances has no effect here, "
                "each instance is a process with a session of its own"
            )

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
