"""TensorFlow models behind Triton on the CPU, configured as for NVIDIA's tensorflow backend."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from hpcbench_serving import (
    Array,
    BatchedModel,
    ModelError,
    Settings,
    Tensors,
    lacks,
    model_file,
)
from hpcbench_signature import Spec, Specs, check, complete, need_tensors

GRAPHDEF, SAVEDMODEL = "tensorflow_graphdef", "tensorflow_savedmodel"

TRITON_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "string": "TYPE_STRING",
}


@cache
def tensorflow() -> Any:
    """TensorFlow's v1 interface, imported when it is needed: that takes several seconds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        # It prints a stack of calls where the stub's Python and the environment's ssl do not match,
        # and does without.
        with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            import tensorflow.compat.v1 as tf
    except ModuleNotFoundError as missing:
        if missing.name != "tensorflow":
            raise
        raise ModelError(lacks("TensorFlow", "tensorflow")) from missing
    return tf


def platform(config: Mapping[str, Any]) -> str:
    """Which of the two formats it is. Raises ModelError if the configuration does not say it."""
    name: str = config["platform"]
    if name not in (GRAPHDEF, SAVEDMODEL):
        raise ModelError(
            f"model {config['name']!r}: config.pbtxt has platform {name!r}; allowed are {GRAPHDEF} "
            f"and {SAVEDMODEL}"
        )
    return name


def session_config(settings: Settings) -> Any:
    """The session's settings that the model's configuration asks for."""
    config = tensorflow().ConfigProto(allow_soft_placement=True)
    config.intra_op_parallelism_threads = settings.threads
    config.inter_op_parallelism_threads = (
        settings.number("TF_NUM_INTER_THREADS") or settings.threads
    )
    config.use_per_session_threads = settings.flag("TF_USE_PER_SESSION_THREADS", False)
    # perf_analyzer needs the same CPUs.
    config.experimental.disable_thread_spinning = True
    level = int(settings.config.get("optimization", {}).get("graph", {}).get("level", 0))
    config.graph_options.optimizer_options.global_jit_level = max(-1, min(level, 2))
    return config


def one_line(error: Exception) -> str:
    """TensorFlow's words without where the graph's own code was, and without line breaks."""
    text = getattr(error, "message", None) or str(error)
    text = text.partition("Original stack trace")[0].partition("Errors may have originated")[0]
    stack = r"defined at \(most recent call last\):.*^Node: '[^']*'$"
    text = re.split(stack, text, flags=re.MULTILINE | re.DOTALL)[-1]
    return " ".join(text.split()) or type(error).__name__


@dataclass(frozen=True)
class Graph:
    """A session, and the tensors in it that requests name; ``needed`` must all be given."""

    session: Any
    feeds: Mapping[str, str]
    fetches: Mapping[str, str]
    needed: Specs
    optional: Specs
    outputs: Specs


def spec(data_type: Any, shape: Any) -> Spec:
    """A tensor of TensorFlow: its type is a DType, its shape a TensorShape."""
    name = data_type.base_dtype.name
    dims = None if shape.rank is None else tuple(-1 if d is None else d for d in shape.as_list())
    return Spec(TRITON_TYPES.get(name, name), dims)


def load_graphdef(settings: Settings) -> Graph:
    """A graph names its tensors itself; configurations leave out the ":0" of an operation."""
    tf = tensorflow()
    graph_def = tf.GraphDef()
    graph_def.ParseFromString(settings.path.read_bytes())
    session = tf.Session(graph=tf.Graph(), config=session_config(settings))
    with session.graph.as_default():
        tf.import_graph_def(graph_def, name="")
    inputs = _configured(session.graph, settings.config["input"])
    outputs = _configured(session.graph, settings.config["output"])
    ends = [
        operation.outputs[0]
        for operation in session.graph.get_operations()
        if operation.outputs and not any(tensor.consumers() for tensor in operation.outputs)
    ]
    return Graph(
        session,
        feeds={name: tensor.name for name, tensor in inputs.items()},
        fetches={name: tensor.name for name, tensor in outputs.items()},
        needed=_specs(_placeholders(outputs.values(), inputs.values())),
        optional=_specs(inputs),
        outputs=_specs({tensor.op.name: tensor for tensor in ends} | outputs),
    )


def _configured(graph: Any, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tensors that these inputs or outputs of a configuration name, where they exist."""
    found = {}
    for name in (entry["name"] for entry in entries):
        with suppress(KeyError, ValueError):
            found[name] = graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
    return found


def _placeholders(outputs: Iterable[Any], fed: Iterable[Any]) -> dict[str, Any]:
    """What the outputs depend on and nothing feeds."""
    seen = {tensor.op for tensor in fed}
    waiting = [tensor.op for tensor in outputs]
    found = {}
    while waiting:
        operation = waiting.pop()
        if operation in seen:
            continue
        seen.add(operation)
        if operation.type == "Placeholder":
            found[operation.name] = operation.outputs[0]
        waiting += [tensor.op for tensor in operation.inputs]
        waiting += operation.control_inputs
    return found


def _specs(tensors: Mapping[str, Any]) -> dict[str, Spec]:
    return {name: spec(tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


def load_saved_model(settings: Settings) -> Graph:
    """A SavedModel has a signature, which maps names to the tensors of its graph."""
    tf = tensorflow()
    session = tf.Session(graph=tf.Graph(), config=session_config(settings))
    tag = settings.parameter("TF_GRAPH_TAG") or "serve"
    with session.graph.as_default():
        loaded = tf.saved_model.loader.load(session, [tag], str(settings.path))
    signature = loaded.signature_def[_signature_key(settings, loaded.signature_def)]
    return Graph(
        session,
        feeds={name: info.name for name, info in signature.inputs.items()},
        fetches={name: info.name for name, info in signature.outputs.items()},
        needed=_signed(signature.inputs),
        optional={},
        outputs=_signed(signature.outputs),
    )


def _signature_key(settings: Settings, present: Iterable[str]) -> str:
    """The signature asked for, else the one for serving, else the first."""
    names = sorted(name for name in present if not name.startswith("__saved_model_"))
    wanted = settings.parameter("TF_SIGNATURE_DEF")
    if not names or (wanted and wanted not in names):
        asked = f" TF_SIGNATURE_DEF {wanted!r}" if wanted else ""
        raise ModelError(
            f"model {settings.name!r}: the SavedModel has no signature{asked}; it has {names}"
        )
    return wanted or ("serving_default" if "serving_default" in names else names[0])


def _signed(infos: Mapping[str, Any]) -> dict[str, Spec]:
    tf = tensorflow()
    return {
        name: spec(tf.as_dtype(info.dtype), tf.TensorShape(info.tensor_shape))
        if info.WhichOneof("encoding") == "name"
        else Spec("a sparse or composite tensor", None)
        for name, info in sorted(infos.items())  # a map of protobuf has no order
    }


def load_graph(settings: Settings) -> Graph:
    """Load either format. Raises ModelError in TensorFlow's words."""
    load = {GRAPHDEF: load_graphdef, SAVEDMODEL: load_saved_model}[platform(settings.config)]
    tensorflow()
    try:
        return load(settings)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"model {settings.name!r}: tensorflow cannot load {settings.path}: {one_line(error)}"
        ) from error


def initialize(settings: Settings, session: Any) -> None:
    """Run the operations that the file of TF_INIT_OPS_FILE lists, where there is one."""
    name = settings.parameter("TF_INIT_OPS_FILE")
    version = settings.path.parent
    for path in (version / name, version.parent / name) if name else ():
        if path.is_file():
            session.run(json.loads(path.read_text(encoding="utf-8"))["init_ops"])
            return


class TritonPythonModel(BatchedModel):
    """One instance: one session."""

    threads_parameter = "TF_NUM_INTRA_THREADS"

    @staticmethod
    def find(folder: Path, config: Mapping[str, Any]) -> Path:
        """The graph's file, or the folder of the SavedModel. Raises ModelError if there is none."""
        if platform(config) == GRAPHDEF:
            return model_file(folder, config, "model.graphdef")
        path = folder / (config.get("default_model_filename") or "model.savedmodel")
        if not any((path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
            raise ModelError(f"model {config['name']!r}: there is no saved_model.pb in {path}")
        return path

    @staticmethod
    def complete(auto: Any) -> None:
        """A SavedModel tells its tensors in its signature, a graph does not."""
        config = auto.as_dict()
        if config["input"] and config["output"]:
            return
        if platform(config) == GRAPHDEF:
            need_tensors(config, "TensorFlow graph")
        path = TritonPythonModel.find(Path(pb_utils.get_model_dir()), config)
        graph = load_graph(Settings(config["name"], path, config, config["max_batch_size"], 1))
        complete(auto, graph.needed, graph.outputs)

    def load(self, settings: Settings) -> None:
        """Make the session and compare the model with its configuration."""
        key = "MAX_SESSION_SHARE_COUNT"
        settings.warn_not_shared(key, (settings.number(key) or 1) > 1)
        for library in settings.config.get("model_operations", {}).get("op_library_filename", ()):
            tensorflow().load_op_library(library)
        self._graph = load_graph(settings)
        check(settings.config, self._graph.needed, self._graph.outputs, self._graph.optional)
        initialize(settings, self._graph.session)
        self._calls: dict[tuple[tuple[str, ...], tuple[str, ...]], Callable[..., Any]] = {}

    def infer(self, inputs: Tensors, outputs: Sequence[str]) -> Sequence[Array]:
        """Run the session; a callable of it is kept for each set of inputs and outputs."""
        key = tuple(inputs), tuple(outputs)
        try:
            if key not in self._calls:
                self._calls[key] = self._graph.session.make_callable(
                    [self._graph.fetches[name] for name in outputs],
                    feed_list=[self._graph.feeds[name] for name in inputs],
                )
            result: Sequence[Array] = self._calls[key](*inputs.values())
        except Exception as error:
            raise ModelError(f"tensorflow: {one_line(error)}") from error
        return result
