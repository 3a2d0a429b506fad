"""A small model of each kind that public repositories hold, and a campaign over all of them.

    python -m tests.helpers.model_kinds FOLDER [--prefix PREFIX]

Signatures and configurations are those of fastmachinelearning/sonic-models, of the examples of
Model Analyzer and of Triton's quick start; what they compute is next to nothing. Nothing is
fetched.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import yaml
from onnx import TensorProto, helper

from tests.helpers import models
from tests.helpers.backend_server import versions
from tests.helpers.paths import CHECKOUT
from tests.helpers.real import PARTICLENET_SHAPES, QUICK
from tests.helpers.tensorflow_models import small_models

OFTEN: tuple[dict[str, Any], ...] = (
    {"name": "add_sub_auto"},
    {"name": "deeptau", "shapes": {"input_tau": [3]}},
    {"name": "bls", "needs": ["add", "sub"]},
    {"name": "repeat", "measurement": {"streaming": True}},
)
"""As a campaign names them: those that say most where a server costs much, as in images.

A model in Python and an ensemble come first, so that a run can be interrupted behind them.
"""

MEASURED: tuple[dict[str, Any], ...] = (
    *OFTEN,
    # Triton's quick start
    {"name": "simple"},
    {"name": "simple_int8"},
    {"name": "simple_string", "measurement": {"string_data": "7"}},
    {"name": "densenet_onnx"},
    {"name": "layer_savedmodel"},
    {"name": "strings_graphdef"},
    # Model Analyzer's examples
    {"name": "add_sub"},
    {"name": "add_sub_torch"},
    {"name": "ensemble_add_sub"},
    # SONIC's
    {"name": "particlenet_AK4", "shapes": {k: list(v) for k, v in PARTICLENET_SHAPES.items()}},
    {"name": "two_versions", "version": [1, 2]},
    {"name": "bare_onnx", "shapes": {"x": [4]}},
)
"""All that a prefix can serve."""

NOT_HERE = {
    "resnet50_plan": "tensorrt",
    "dali_preprocess": "dali",
    "gpu_instances": "instances on GPUs",
}
"""What a prefix for CPUs cannot serve, with a word of the reason."""

NAMED_NOT_HERE = tuple({"name": name} for name in NOT_HERE)

LACKING = dict.fromkeys(("layer_savedmodel", "strings_graphdef", "add_sub_torch"), "installs it")
"""What some prefixes do not serve, with words of the reason."""

IN_IMAGES = (
    *(entry for entry in MEASURED if entry["name"] not in LACKING),
    {"name": "gpu_instances"},
)
"""What our images for CPUs serve: all but other frameworks, and one that they cannot."""

REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"name": "simple_sequence"}, "has sequence_batching"),
    ({"name": "simple_dyna_sequence"}, "has sequence_batching"),
    ({"name": "repeat"}, "set streaming: true"),
    ({"name": "no_file"}, "version 1 has no model file"),
    ({"name": "two_versions", "version": 3}, "version: 3 is not there; it has: 1, 2"),
    ({"name": "particlenet_AK4"}, "say how long it is, e.g. shapes: {pf_points: [2, 50]}"),
    ({"name": "densenet_onnx", "load": {"batch_size": 2}}, "the model has max_batch_size 0"),
    ({"name": "bls", "needs": ["ad"]}, "'bls' needs 'ad': there is no model 'ad'"),
)
"""What no campaign may ask for, with words of the refusal."""

ADD_SUB = """
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            a, b = (utils.get_input_tensor_by_name(request, f"INPUT{i}").as_numpy() for i in (0, 1))
            if a.dtype == object:
                a, b = a.astype(int), b.astype(int)
                outputs = [(a + b).astype(str).astype(object), (a - b).astype(str).astype(object)]
            else:
                outputs = [a + b, a - b]
            tensors = [utils.Tensor(f"OUTPUT{i}", each) for i, each in enumerate(outputs)]
            answers.append(utils.InferenceResponse(tensors))
        return answers
"""

AUTO = """
    @staticmethod
    def auto_complete_config(config):
        for name in ("INPUT0", "INPUT1"):
            config.add_input({"name": name, "data_type": "TYPE_FP32", "dims": [4]})
        for name in ("OUTPUT0", "OUTPUT1"):
            config.add_output({"name": name, "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(8)
        return config
"""

BLS = """
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            tensor = utils.get_input_tensor_by_name(request, "x")
            for name in ("add", "sub"):
                called = utils.InferenceRequest(
                    model_name=name, requested_output_names=["y"], inputs=[tensor]
                )
                answer = called.exec()
                if answer.has_error():
                    raise utils.TritonModelException(answer.error().message())
                tensor = utils.Tensor("x", utils.get_output_tensor_by_name(answer, "y").as_numpy())
            answers.append(utils.InferenceResponse([utils.Tensor("y", tensor.as_numpy())]))
        return answers
"""

REPEAT = """
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            tensor = utils.Tensor("OUT", utils.get_input_tensor_by_name(request, "IN").as_numpy())
            for _ in range(2):
                sender.send(utils.InferenceResponse([tensor]))
            sender.send(flags=utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None
"""

IDENTITY = """
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        taus = [utils.get_input_tensor_by_name(each, "input_tau").as_numpy() for each in requests]
        return [utils.InferenceResponse([utils.Tensor("features", each)]) for each in taus]
"""

TORCH = """
import sys, torch
class AddSub(torch.nn.Module):
    def forward(self, a, b):
        return a + b, a - b
torch.jit.script(AddSub()).save(sys.argv[1])
"""

PYTHON = 'backend: "python"'
PAIR = [("INPUT0", (16,)), ("INPUT1", (16,))], [("OUTPUT0", (16,)), ("OUTPUT1", (16,))]
SEQUENCE = """
sequence_batching {{ {strategy}
  control_input {{ name: "START"
    control {{ kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] }} }}
}}
"""
TUNED = """
default_model_filename: "net.onnx"
version_policy { all { } }
instance_group { count: 2 kind: KIND_CPU }
dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 100 }
optimization { graph { level: 1 } }
model_warmup { name: "zeros" batch_size: 1 inputs { key: "x"
  value { data_type: TYPE_FP32 dims: 16 zero_data: true } } }
parameters { key: "note" value { string_value: "kept" } }
metric_tags { key: "owner" value: "cms" }
"""


def build(repository: Path, prefix: Path | None = None) -> None:
    """Make the models in a new folder.

    Those of TensorFlow and TorchScript are made with the prefix's own; where it has none, they are
    empty files, which a native server does not serve anyhow.
    """
    _onnx_models(repository)
    _python_models(repository)
    _framework_models(repository, prefix)
    models.write(repository, "resnet50_plan", *PAIR, platform='platform: "tensorrt_plan"')
    (repository / "resnet50_plan" / "1" / "model.plan").touch()
    models.write(repository, "dali_preprocess", *PAIR, platform='backend: "dali"')
    models.one_step(repository, "gpu_instances")
    _add(repository, "gpu_instances", "instance_group { kind: KIND_GPU }")
    for name, strategy in (
        ("simple_sequence", "direct { }"),
        ("simple_dyna_sequence", "oldest { }"),
    ):
        models.one_step(repository, name)
        _add(repository, name, SEQUENCE.format(strategy=strategy))
    models.write(repository, "no_file", *PAIR)


def _add(repository: Path, name: str, text: str) -> None:
    with (repository / name / "config.pbtxt").open("a", encoding="utf-8") as stream:
        stream.write(f"\n{text}\n")


def _onnx_models(repository: Path) -> None:
    _typed(repository, "simple", "TYPE_INT32", TensorProto.INT32)
    _typed(repository, "simple_int8", "TYPE_INT8", TensorProto.INT8)
    densenet = models.write(repository, "densenet_onnx", [], [], max_batch_size=0)
    for word, name, dims, shape in (
        ("input", "data_0", [3, 8, 8], [1, 3, 8, 8]),
        ("output", "fc6_1", [3], [1, 3, 1, 1]),
    ):
        reshape = f"reshape {{ shape: {shape} }}"
        _add(
            repository,
            "densenet_onnx",
            f'{word} {{ name: "{name}" data_type: TYPE_FP32 dims: {dims} {reshape} }}',
        )
    pool = [helper.make_node("GlobalAveragePool", ["data_0"], ["fc6_1"])]
    _save(densenet / "model.onnx", pool, [("data_0", (1, 3, 8, 8))], [("fc6_1", (1, 3, 1, 1))])
    _particlenet(repository)
    models.ensemble(repository, "ensemble_add_sub", ("add", "sub"))
    models.one_step(repository, "two_versions")
    _add(repository, "two_versions", TUNED)
    first = repository / "two_versions" / "1" / "model.onnx"
    second = repository / "two_versions" / "2" / "net.onnx"
    second.parent.mkdir()
    # As data managers do: a file of all models, and a link to it.
    (repository / "store").mkdir()
    first.rename(repository / "store" / "net.onnx")
    for link in (first.with_name("net.onnx"), second):
        link.symlink_to("../../store/net.onnx")
    (repository / "bare_onnx" / "1").mkdir(parents=True)
    _save(
        repository / "bare_onnx" / "1" / "model.onnx",
        [helper.make_node("Relu", ["x"], ["y"])],
        [("x", ("n", "m"))],
        [("y", ("n", "m"))],
    )


def _typed(repository: Path, name: str, kind: str, element: int) -> None:
    version = models.write(repository, name, *PAIR, max_batch_size=8, kind=kind)
    nodes = [
        helper.make_node(operator, ["INPUT0", "INPUT1"], [f"OUTPUT{i}"])
        for i, operator in enumerate(("Add", "Sub"))
    ]
    inputs, outputs = ([(n, ("n", *dims)) for n, dims in side] for side in PAIR)
    _save(version / "model.onnx", nodes, inputs, outputs, element)


def _save(
    file: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, Any]],
    outputs: Sequence[tuple[str, Any]],
    element: int = TensorProto.FLOAT,
) -> None:
    sides = (
        [helper.make_tensor_value_info(name, element, dims) for name, dims in side]
        for side in (inputs, outputs)
    )
    model = helper.make_model(
        helper.make_graph(list(nodes), "g", *sides), opset_imports=[helper.make_opsetid("", 14)]
    )
    model.ir_version = 8
    onnx.save(model, file)


def _particlenet(repository: Path) -> None:
    inputs = [(name, (dims[0], -1)) for name, dims in PARTICLENET_SHAPES.items()]
    outputs = [("softmax", (2,))]
    batching = "dynamic_batching { preferred_batch_size: [200] }"
    version = models.write(
        repository, "particlenet_AK4", inputs, outputs, max_batch_size=500, extra=batching
    )
    means = [
        helper.make_node("ReduceMean", [name], [f"{name}_mean"], axes=[1, 2], keepdims=0)
        for name, _ in inputs
    ]
    columns = [
        helper.make_node("Unsqueeze", [f"{name}_mean", "axis"], [f"{name}_column"])
        for name, _ in inputs
    ]
    first_two = [f"{name}_column" for name, _ in inputs[:2]]
    nodes = [
        *means,
        *columns,
        helper.make_node("Sum", [f"{name}_column" for name, _ in inputs], ["all"]),
        helper.make_node("Concat", [first_two[0], "all"], ["both"], axis=1),
        helper.make_node("Softmax", ["both"], ["softmax"], axis=1),
    ]
    axis = onnx.numpy_helper.from_array(np.array([1], np.int64), "axis")
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", dims[0], f"{n}_length"])
            for n, dims in inputs
        ],
        [helper.make_tensor_value_info("softmax", TensorProto.FLOAT, ["n", 2])],
        [axis],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    model.ir_version = 8
    onnx.save(model, version / "model.onnx")


def _python_models(repository: Path) -> None:
    four = [[(name, (4,)) for name, _ in side] for side in PAIR]
    written = {
        "add_sub": (four, {}, ADD_SUB),
        "simple_string": (PAIR, {"kind": "TYPE_STRING", "max_batch_size": 8}, ADD_SUB),
        "bls": (([("x", (16,))], [("y", (16,))]), {}, BLS),
        "repeat": (
            ([("IN", (4,))], [("OUT", (4,))]),
            {"extra": "model_transaction_policy { decoupled: true }"},
            REPEAT,
        ),
        "tau_inputs": (([("input_tau", (-1,))], [("features", (-1,))]), {}, IDENTITY),
    }
    for name, (sides, settings, source) in written.items():
        version = models.write(repository, name, *sides, platform=PYTHON, **settings)
        (version / "model.py").write_text(source)
    (repository / "add_sub_auto" / "1").mkdir(parents=True)
    (repository / "add_sub_auto" / "1" / "model.py").write_text(ADD_SUB + AUTO)
    _deeptau(repository)


def _deeptau(repository: Path) -> None:
    """Python prepares what a network takes."""
    tensors = [("features", (-1,))], [("main_output/Softmax", (-1,))]
    version = models.write(repository, "tau_core", *tensors)
    softmax = helper.make_node("Softmax", ["features"], ["main_output/Softmax"], axis=1)
    sides = [[(name, ("n", "m")) for name, _ in side] for side in tensors]
    _save(version / "model.onnx", [softmax], *sides)
    steps = [
        ("tau_inputs", "input_tau", "features"),
        ("tau_core", "features", "main_output/Softmax"),
    ]
    described = " ".join(
        f'step {{ model_name: "{model}" model_version: -1 input_map {{ key: "{a}" value: "{a}" }} '
        f'output_map {{ key: "{b}" value: "{b}" }} }}'
        for model, a, b in steps
    )
    models.write(
        repository,
        "deeptau",
        [("input_tau", (-1,))],
        [("main_output/Softmax", (-1,))],
        platform='platform: "ensemble"',
        extra=f"ensemble_scheduling {{ {described} }}",
    )


def _framework_models(repository: Path, prefix: Path | None) -> None:
    def of(name: str, platform: str, sides: Any, **settings: Any) -> Path:
        return models.write(
            repository, name, *sides, platform=f'platform: "{platform}"', **settings
        )

    pair = [(f"INPUT__{i}", (4,)) for i in (0, 1)], [(f"OUTPUT__{i}", (4,)) for i in (0, 1)]
    torch = of("add_sub_torch", "pytorch_libtorch", pair) / "model.pt"
    saved = of("layer_savedmodel", "tensorflow_savedmodel", ([("x", (3,))], [("y", (2,))]))
    strings = ([("x", (2,))], [("y", (2,))])
    graph = of("strings_graphdef", "tensorflow_graphdef", strings, kind="TYPE_STRING")
    has = versions(prefix) if prefix else {}
    made = repository.parent / "made"
    made.mkdir()
    if prefix and "torch" in has:
        # TorchScript reads the source of what it compiles.
        script = made / "add_sub.py"
        script.write_text(TORCH)
        python = prefix / "python" / "bin" / "python3"
        subprocess.run([python, "-W", "ignore", script, torch], check=True)
    else:
        torch.touch()
    if prefix and "tensorflow" in has:
        small_models(prefix, made)
        (made / "layer.savedmodel").rename(saved / "model.savedmodel")
        (made / "strings.graphdef").rename(graph / "model.graphdef")
    else:
        (saved / "model.savedmodel").mkdir()
        (graph / "model.graphdef").touch()


def lock(repository: Path, owner: int | None) -> None:
    """Let nobody write into a repository, and give it to somebody else."""
    for path in [*repository.rglob("*"), repository]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
            if owner is not None:
                os.chown(path, owner, owner)


def campaign(repository: Path, named: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A campaign over all models that can be asked for, also those that do not apply here."""
    return {
        "name": "kinds",
        "model_repository": str(repository),
        "models": list(named or (*MEASURED, *NAMED_NOT_HERE)),
        "load": {"batch_size": 1, "concurrency": 1},
        "measurement": QUICK,
    }


def tree(repository: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time of the last change and content of everything below a folder."""
    return {
        str(path.relative_to(repository)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [repository, *repository.rglob("*")]
    }


def wrong_rows(
    frame: pd.DataFrame, entries: Sequence[dict[str, Any]], lacking: Mapping[str, str]
) -> list[str]:
    """What is wrong with the rows of a campaign over these models; nothing, if all is well.

    Each point has one row: it was measured, or a sentence says why not. Of ``lacking`` it may do
    so, of `NOT_HERE` it must.
    """
    versions = [(entry["name"], entry.get("version")) for entry in entries]
    asked = [name for name, listed in versions for _ in listed or [None]]
    found = sorted(frame.loc[frame["part_of"].isna(), "model"])
    wrong = [] if found == sorted(asked) else [f"rows of {found}, not of {sorted(asked)}"]
    if frame.duplicated(["point_id", "repeat"]).any():
        wrong.append("a point has two rows")
    for row in frame.to_dict("records"):
        model, status, reason = row["model"], row["status"], str(row["reason"])
        if status == "not_applicable":
            words = {**lacking, **NOT_HERE}.get(model)
            fine = words is not None and words in reason
        else:
            fine = status in ("ok", "unstable") and model not in NOT_HERE
            fine = fine and row["throughput_infer_per_s"] > 0
        if not fine or (status != "ok" and len(reason.split()) < 4):
            wrong.append(f"{model}: {status}, {reason}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prefix", type=Path, default=CHECKOUT / ".native")
    options = parser.parse_args()
    repository = options.folder.resolve() / "models"
    build(repository, options.prefix)
    (options.folder / "campaign.yaml").write_text(yaml.safe_dump(campaign(repository)))


if __name__ == "__main__":
    main()
