"""Small real models of every shape, made when a test needs them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DEEPTAU = {
    "input_tau": (47,),
    **{
        f"input_{ring}_{kind}": (cells, cells, features)
        for ring, cells in (("inner", 11), ("outer", 21))
        for kind, features in (("egamma", 86), ("muon", 64), ("hadrons", 38))
    },
}
"""The inputs of SONIC's deeptau_nosplit: 0.42 MB for each inference."""

Tensor = tuple[str, Sequence[int]]


def write(
    repository: Path,
    name: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    max_batch_size: int = 64,
    kind: str = "TYPE_FP32",
    platform: str = 'platform: "onnxruntime_onnx"',
    extra: str = "",
) -> Path:
    """A model's folder with its config.pbtxt and an empty version; gives the version's folder."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    described = [
        f'{word} {{ name: "{tensor}" data_type: {kind} dims: {list(dims)} }}'
        for word, tensors in (("input", inputs), ("output", outputs))
        for tensor, dims in tensors
    ]
    text = "\n".join([platform, f"max_batch_size: {max_batch_size}", *described, extra])
    (version.parent / "config.pbtxt").write_text(text)
    return version


def save(
    version: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    weights: Sequence[onnx.TensorProto] = (),
) -> None:
    def values(tensors: Sequence[Tensor]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *dims])
            for name, dims in tensors
        ]

    graph = helper.make_graph(list(nodes), "g", values(inputs), values(outputs), list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, version / "model.onnx")


def one_step(repository: Path, name: str, operator: str = "Relu") -> None:
    """A model of 16 numbers to 16 numbers."""
    tensors = [("x", (16,))], [("y", (16,))]
    save(write(repository, name, *tensors), [helper.make_node(operator, ["x"], ["y"])], *tensors)


def without_batch(repository: Path, name: str = "flat") -> None:
    """max_batch_size 0: rows of 16 numbers, as many as there are."""
    version = write(repository, name, [("x", (-1, 16))], [("y", (-1, 16))], max_batch_size=0)
    save(version, [helper.make_node("Relu", ["x"], ["y"])], [("x", (16,))], [("y", (16,))])


def ensemble(repository: Path, name: str = "chain", steps: Sequence[str] = ("scale", "shift")):
    """An ensemble of two models of `one_step`."""
    for step, operator in zip(steps, ("Relu", "Neg"), strict=True):
        one_step(repository, step, operator)
    names = ["x", "between", "y"]
    described = " ".join(
        f'step {{ model_name: "{step}" model_version: -1 input_map {{ key: "x" value: "{a}" }} '
        f'output_map {{ key: "y" value: "{b}" }} }}'
        for step, a, b in zip(steps, names, names[1:], strict=False)
    )
    write(
        repository,
        name,
        [("x", (16,))],
        [("y", (16,))],
        platform='platform: "ensemble"',
        extra=f"ensemble_scheduling {{ {described} }}",
    )


ECHO = """
import triton_python_backend_utils as utils
from pathlib import Path

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            texts = utils.get_input_tensor_by_name(request, "text").as_numpy()
            Path({seen!r}).write_bytes(b"\\n".join(texts.reshape(-1)))
            answers.append(utils.InferenceResponse([utils.Tensor("back", texts)]))
        return answers
"""


def of_strings(repository: Path, seen: Path, name: str = "words") -> None:
    """A model that gives texts back, and leaves those of its newest request in ``seen``."""
    version = write(
        repository,
        name,
        [("text", (-1,))],
        [("back", (-1,))],
        max_batch_size=8,
        kind="TYPE_STRING",
        platform='backend: "python"',
    )
    (version / "model.py").write_text(ECHO.format(seen=str(seen)))


SLEEP = """
import time
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            time.sleep({seconds})
            x = utils.get_input_tensor_by_name(request, "x").as_numpy()
            answers.append(utils.InferenceResponse([utils.Tensor("y", x)]))
        return answers
"""


def sleeping(repository: Path, seconds: float, name: str = "sleeper") -> None:
    """A model that takes so long for each request, one after the other, and no CPU."""
    tensors = [("x", (16,))], [("y", (16,))]
    version = write(repository, name, *tensors, platform='backend: "python"')
    (version / "model.py").write_text(SLEEP.format(seconds=seconds))


GROW = """
import time
from pathlib import Path
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            # All instances count from the first request of any.
            begun = Path({begun!r})
            begun.touch() if not begun.exists() else None
            time.sleep({growth} * (time.time() - begun.stat().st_mtime) + 0.05)
            x = utils.get_input_tensor_by_name(request, "x").as_numpy()
            answers.append(utils.InferenceResponse([utils.Tensor("y", x)]))
        return answers
"""


def growing(
    repository: Path, begun: Path, growth: float, instances: int, name: str = "grower"
) -> None:
    """A model whose latency grows by so many seconds in each second, and that takes no CPU.

    Each of its instances is busy with one request. ``begun`` is a file that the first one makes.
    """
    tensors = [("x", (16,))], [("y", (16,))]
    groups = f"instance_group {{ count: {instances} kind: KIND_CPU }}"
    version = write(repository, name, *tensors, platform='backend: "python"', extra=groups)
    (version / "model.py").write_text(GROW.format(begun=str(begun), growth=growth))


def in_half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in FP16 with the same inputs and outputs: weights, and all that is computed.

    Parameters
    ----------
    model
        A model whose tensors are FP32.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32:
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), weight.name))
    inputs, outputs = ([each.name for each in some] for some in (graph.input, graph.output))
    for node in graph.node:
        for names, changed in ((node.input, inputs), (node.output, outputs)):
            names[:] = [f"{name}_half" if name in changed else name for name in names]
    casts = [
        *(("Cast", name, f"{name}_half", TensorProto.FLOAT16) for name in inputs),
        *(("Cast", f"{name}_half", name, TensorProto.FLOAT) for name in outputs),
    ]
    made = [helper.make_node(kind, [a], [b], to=to) for kind, a, b, to in casts]
    nodes = [*made[: len(inputs)], *graph.node, *made[len(inputs) :]]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(found)
    return found


def deeptau(repository: Path, name: str = "deeptau_nosplit") -> None:
    """Inputs and outputs of DeepTau's, with next to nothing between them."""
    inputs, outputs = list(DEEPTAU.items()), [("main_output/Softmax", (4,))]
    version = write(repository, name, inputs, outputs, max_batch_size=1000)
    nodes, means, width = [], [], 0
    for tensor, dims in inputs:
        axes = list(range(1, len(dims)))
        mean = f"{tensor}_mean"
        if axes:
            nodes.append(helper.make_node("ReduceMean", [tensor], [mean], axes=axes, keepdims=0))
        else:
            nodes.append(helper.make_node("Identity", [tensor], [mean]))
        means.append(mean)
        width += dims[-1]
    random = np.random.default_rng(1)
    weight = numpy_helper.from_array(random.normal(size=(width, 4)).astype(np.float32), "w")
    nodes.append(helper.make_node("Concat", means, ["all"], axis=1))
    nodes.append(helper.make_node("MatMul", ["all", "w"], ["logits"]))
    nodes.append(helper.make_node("Softmax", ["logits"], [outputs[0][0]], axis=1))
    save(version, nodes, inputs, outputs, [weight])
