"""The Python-based Triton backends, served by the real tritonserver of the native prefix."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.helpers.backend_server import (
    NOT_APPLICABLE,
    SLOW_BATCHES,
    Server,
    versions,
)
from tests.helpers.paths import CHECKOUT
from tests.helpers.real import PARTICLENET_SHAPES

SHARED_MODELS = CHECKOUT.parent / "shared/models"
native = pytest.mark.native


def _model(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Sequence[Any] = ()
) -> bytes:
    helper = onnx.helper
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def _value(name: str, kind: int, shape: list[Any]) -> Any:
    return onnx.helper.make_tensor_value_info(name, kind, shape)


FLOAT, INT64, STRING = 1, 7, 8


def _linear(batch: Any = "n") -> bytes:
    """y = x W of 3 to 2 numbers, and z = -x; W from a fixed seed."""
    weights = np.random.default_rng(7).normal(size=(3, 2)).astype(np.float32)
    node = onnx.helper.make_node
    return _model(
        [node("MatMul", ["x", "w"], ["y"]), node("Neg", ["x"], ["z"])],
        [_value("x", FLOAT, [batch, 3])],
        [_value("y", FLOAT, [batch, 2]), _value("z", FLOAT, [batch, 3])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )


WEIGHTS = np.random.default_rng(7).normal(size=(3, 2)).astype(np.float32)
LINEAR_IO = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] },
         { name: "z" data_type: TYPE_FP32 dims: [ 3 ] } ]
"""
LINEAR = f'platform: "onnxruntime_onnx"\nmax_batch_size: 8\n{LINEAR_IO}'


def _batch_counter() -> bytes:
    """y = the number of rows that were run together, for every row."""
    node = onnx.helper.make_node
    return _model(
        [
            node("Shape", ["x"], ["s"], start=0, end=1),
            node("Cast", ["s"], ["n"], to=FLOAT),
            node("Mul", ["x", "zero"], ["o"]),
            node("Add", ["o", "n"], ["y"]),
        ],
        [_value("x", FLOAT, ["b", 1])],
        [_value("y", FLOAT, ["b", 1])],
        [onnx.numpy_helper.from_array(np.zeros(1, np.float32), "zero")],
    )


@native
def test_a_batched_onnx_model_answers_as_numpy_does(server: Server) -> None:
    """Both outputs are right, for a batch of five."""
    server.add("linear", LINEAR, _linear())
    x = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    answer = server.infer("linear", {"x": x})
    np.testing.assert_allclose(answer["y"], x @ WEIGHTS, rtol=1e-5)
    np.testing.assert_allclose(answer["z"], -x)


@native
def test_nothing_is_printed_for_a_request_that_is_answered(server: Server) -> None:
    """A line of its log for each would cost more than the model."""
    server.add("silent", LINEAR, _linear())
    before = server.log.stat().st_size
    for _ in range(3):
        server.infer("silent", {"x": np.ones((1, 3), np.float32)})
    with server.log.open("rb") as log:
        log.seek(before)
        assert log.read() == b""


@native
def test_only_requested_outputs_come_back(server: Server) -> None:
    """A request for one of two outputs gets that one."""
    server.add("linear_one", LINEAR, _linear())
    assert list(server.infer("linear_one", {"x": np.ones((1, 3), np.float32)}, ["z"])) == ["z"]


@native
def test_a_model_without_batching_is_served(server: Server) -> None:
    """max_batch_size 0: the configured dims are the whole shape, here a fixed one."""
    config = LINEAR.replace("max_batch_size: 8", "max_batch_size: 0").replace("[ 3 ]", "[ 4, 3 ]")
    server.add("fixed", config.replace("[ 2 ]", "[ 4, 2 ]"), _linear(4))
    x = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(server.infer("fixed", {"x": x})["y"], x @ WEIGHTS, rtol=1e-5)


@native
def test_free_dimensions_take_any_length(server: Server) -> None:
    """dims of -1 accept requests of different lengths one after another."""
    node = onnx.helper.make_node
    model = _model(
        [node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
        [_value("x", FLOAT, ["b", 2, "length"])],
        [_value("y", FLOAT, ["b", 2])],
        [onnx.numpy_helper.from_array(np.array([2], np.int64), "axes")],
    )
    config = """backend: "onnxruntime" max_batch_size: 8
    input [ { name: "x" data_type: TYPE_FP32 dims: [ 2, -1 ] } ]
    output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]"""
    server.add("lengths", config, model)
    for length in (1, 7, 50):
        x = np.random.default_rng(length).normal(size=(3, 2, length)).astype(np.float32)
        answer = server.infer("lengths", {"x": x})["y"]
        np.testing.assert_allclose(answer, x.sum(axis=2), rtol=1e-4, atol=1e-5)


@native
def test_requests_that_wait_together_run_as_one_batch(server: Server) -> None:
    """Four requests of one row reach the model as four rows, and each gets its own row back."""
    config = f"""platform: "onnxruntime_onnx" max_batch_size: 4 {SLOW_BATCHES}
    input [ {{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }} ]
    output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }} ]"""
    server.add("counter", config, _batch_counter())
    one = np.ones((1, 1), np.float32)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.infer("counter", {"x": one})["y"], range(4)))
    assert [answer.tolist() for answer in answers] == [[[4.0]]] * 4


@native
def test_a_bad_request_in_a_batch_fails_alone(server: Server) -> None:
    """An index out of range fails with onnxruntime's words; its neighbours get their answers."""
    node = onnx.helper.make_node
    table = np.arange(10, dtype=np.float32)
    model = _model(
        [node("Gather", ["table", "x"], ["y"])],
        [_value("x", INT64, ["b", 1])],
        [_value("y", FLOAT, ["b", 1])],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    config = f"""platform: "onnxruntime_onnx" max_batch_size: 4 {SLOW_BATCHES}
    input [ {{ name: "x" data_type: TYPE_INT64 dims: [ 1 ] }} ]
    output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }} ]"""
    server.add("gather", config, model)

    first, bad, second, third = server.answers("gather", "x", [[3], [99], [5], [0]])
    assert [first, second, third] == [[[3.0]], [[5.0]], [[0.0]]]
    assert "out of data bounds" in bad


@native
def test_strings_go_in_and_out_or_are_refused(server: Server, native_prefix: Path) -> None:
    """TYPE_STRING keeps text beyond ASCII; where only numpy 2 can be had, it is refused."""
    node = onnx.helper.make_node
    model = _model(
        [node("Identity", ["x"], ["y"])],
        [_value("x", STRING, ["b", 2])],
        [_value("y", STRING, ["b", 2])],
    )
    config = """platform: "onnxruntime_onnx" max_batch_size: 4
    input [ { name: "x" data_type: TYPE_STRING dims: [ 2 ] } ]
    output [ { name: "y" data_type: TYPE_STRING dims: [ 2 ] } ]"""
    if int(versions(native_prefix)["numpy"].split(".")[0]) > 1:
        assert f"{NOT_APPLICABLE}model 'strings'" in server.refused("strings", config, model)
        return
    server.add("strings", config, model)
    x = np.array([["tau", "μ"], ["", "jet 2"]], dtype=object)
    assert server.infer("strings", {"x": x})["y"] == ["tau", "μ", "", "jet 2"]


@native
def test_a_plain_python_model_is_served_or_refused(server: Server, native_prefix: Path) -> None:
    """Triton's own python backend computes with numpy 1, and is refused with numpy 2."""
    code = b"""
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        x = [request.inputs()[0].as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("z", -array)]) for array in x]
"""
    config = """backend: "python" max_batch_size: 0
    input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]
    output [ { name: "z" data_type: TYPE_FP32 dims: [ 3 ] } ]"""
    if int(versions(native_prefix)["numpy"].split(".")[0]) > 1:
        assert NOT_APPLICABLE in server.refused("plain", config, code, file="model.py")
        return
    server.add("plain", config, code, file="model.py")
    answer = server.infer("plain", {"x": np.array([1, 2, 3], np.float32)})
    assert answer["z"].tolist() == [-1.0, -2.0, -3.0]


@native
def test_each_instance_is_a_process_with_a_session_of_its_own(server: Server) -> None:
    """instance_group count 2 starts two stubs, and the model answers."""
    config = f"{LINEAR}\ninstance_group [ {{ count: 2 kind: KIND_CPU }} ]"
    server.add("twice", config, _linear())
    lines = [_command_line(pid) for pid in _children(server.pid)]
    assert sum("/twice/1" in line for line in lines) == 2
    x = np.ones((1, 3), np.float32)
    np.testing.assert_allclose(server.infer("twice", {"x": x})["z"], -x)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for task in tasks for word in task.read_text().split()]


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@native
@pytest.mark.parametrize(
    "config",
    [
        None,
        'platform: "onnxruntime_onnx"',
        f'platform: "onnxruntime_onnx" {LINEAR_IO.partition("output")[0]}',
    ],
    ids=["no configuration", "only a platform", "inputs without outputs"],
)
def test_what_the_configuration_leaves_out_is_taken_from_the_model(
    server: Server, config: str | None, request: pytest.FixtureRequest
) -> None:
    """As NVIDIA's backend: max_batch_size 4, dynamic batching, and the model's tensors."""
    name = "auto_" + request.node.callspec.id.replace(" ", "_")
    server.add(name, config, _linear())
    seen = server.call(f"models/{name}/config")
    assert seen["max_batch_size"] == 4
    assert "dynamic_batching" in seen
    assert [(io["name"], io["data_type"], io["dims"]) for io in seen["input"]] == [
        ("x", "TYPE_FP32", [3])
    ]
    assert [(io["name"], io["dims"]) for io in seen["output"]] == [("y", [2]), ("z", [3])]
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(server.infer(name, {"x": x})["y"], x @ WEIGHTS, rtol=1e-5)


@native
def test_a_fixed_first_dimension_is_completed_without_batching(server: Server) -> None:
    """A model that cannot be batched gets max_batch_size 0 and its whole shape."""
    server.add("auto_fixed", None, _linear(4))
    seen = server.call("models/auto_fixed/config")
    assert seen["max_batch_size"] == 0
    assert seen["input"][0]["dims"] == [4, 3]


@native
def test_one_number_per_row_is_completed_with_a_reshape(server: Server) -> None:
    """An output of shape [batch] has no dims of its own, which Triton cannot write."""
    node = onnx.helper.make_node
    model = _model(
        [node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
        [_value("x", FLOAT, ["b", 3])],
        [_value("y", FLOAT, ["b"])],
        [onnx.numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    server.add("auto_scalar", None, model)
    answer = server.infer("auto_scalar", {"x": np.ones((2, 3), np.float32)})
    assert answer["y"].tolist() == [[3.0], [3.0]]


@native
def test_a_given_configuration_is_left_alone(server: Server) -> None:
    """No dynamic batching appears where none was asked for."""
    server.add("as_given", LINEAR, _linear())
    seen = server.call("models/as_given/config")
    assert "dynamic_batching" not in seen
    assert seen["max_batch_size"] == 8


@native
def test_another_file_name_is_honoured(server: Server) -> None:
    """default_model_filename names the file in the version folder."""
    config = f'{LINEAR}\ndefault_model_filename: "other.onnx"'
    server.add("renamed", config, _linear(), file="other.onnx")
    server.infer("renamed", {"x": np.ones((1, 3), np.float32)})


@native
def test_a_corrupted_file_is_refused_in_onnxruntimes_words(server: Server) -> None:
    """The error names the file and says what onnxruntime said."""
    error = server.refused("corrupted", LINEAR, _linear()[:40])
    assert "corrupted/1/model.onnx" in error
    assert "Protobuf" in error or "INVALID" in error


@native
@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_an_accelerator_is_refused_not_ignored(server: Server, kind: str) -> None:
    """The error begins with the marker that makes a record not_applicable; so does the log's."""
    entry = f'{kind}_execution_accelerator: [ {{ name: "tensorrt" }} ]'
    config = f"{LINEAR}\noptimization {{ execution_accelerators {{ {entry} }} }}"
    error = server.refused(f"accelerated_{kind}", config, _linear())
    assert NOT_APPLICABLE in error
    assert "tensorrt" in error
    assert f"{NOT_APPLICABLE}model 'accelerated_{kind}'" in server.log.read_text()


@native
@pytest.mark.parametrize(
    ("wrong", "both"),
    [
        (('name: "x"', 'name: "w"'), ("'w'", "['x']")),
        (('"x" data_type: TYPE_FP32', '"x" data_type: TYPE_INT64'), ("TYPE_INT64", "TYPE_FP32")),
        (("dims: [ 2 ]", "dims: [ 5 ]"), ("[5]", "[-1, 2]")),
        (("dims: [ 3 ]", "dims: [ 3, 1 ]"), ("[3, 1]", "[-1, 3]")),
        (('name: "y"', 'name: "v"'), ("'v'", "['y', 'z']")),
    ],
    ids=["input name", "type", "output dims", "rank", "output name"],
)
def test_a_configuration_that_contradicts_the_model_is_refused(
    server: Server, wrong: tuple[str, str], both: tuple[str, str], request: pytest.FixtureRequest
) -> None:
    """The error says what the configuration has and what the model has."""
    name = "wrong_" + request.node.callspec.id.replace(" ", "_")
    error = server.refused(name, LINEAR.replace(*wrong), _linear())
    assert both[0] in error
    assert both[1] in error


@native
def test_a_fixed_batch_dimension_cannot_be_batched(server: Server) -> None:
    """The error says to set max_batch_size to 0."""
    assert "max_batch_size: 0" in server.refused("fixed_batch", LINEAR, _linear(4))


@native
@pytest.mark.skipif(not SHARED_MODELS.is_dir(), reason="the real models are not here")
def test_the_real_particlenet_is_served_unchanged(server: Server) -> None:
    """Six inputs, free lengths, labels: one set of probabilities per jet comes back."""
    inputs = _particles(np.random.default_rng(5), batch=3)
    shutil.copytree(SHARED_MODELS / "particlenet_AK4", server.repository / "particlenet_AK4")
    server.call("repository/models/particlenet_AK4/load", {})
    answer = server.infer("particlenet_AK4", inputs)["softmax"]
    assert answer.shape == (3, 8)
    np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=1e-4)
    assert not np.allclose(answer[0], answer[1])


@native
@pytest.mark.skipif(not SHARED_MODELS.is_dir(), reason="the real models are not here")
def test_the_real_torchscript_particlenet_is_served_unchanged(
    server: Server, native_prefix: Path
) -> None:
    """NAME__INDEX orders the inputs; the output is one of eight probabilities per jet."""
    _needs_torch(native_prefix)
    inputs = _particles(np.random.default_rng(5), batch=3)
    name = "particlenet_AK4_PT"
    shutil.copytree(SHARED_MODELS / name, server.repository / name)
    server.call(f"repository/models/{name}/load", {})
    numbered = {f"{key}__{i}": array for i, (key, array) in enumerate(inputs.items())}
    answer = server.infer(name, numbered)["softmax__0"]
    assert answer.shape == (3, 8)
    assert np.isfinite(answer).all()
    assert not np.allclose(answer[0], answer[1])


TORCH_SOURCE = """
import sys, torch
from typing import Dict
class Two(torch.nn.Module):
    def forward(self, left, right):
        return left - right, left + right
class Named(torch.nn.Module):
    def forward(self, x: Dict[str, torch.Tensor]):
        return {"sum": x["a"] + x["b"]}
for kind in (Two, Named):
    torch.jit.script(kind()).save(f"{sys.argv[1]}/{kind.__name__}.pt")
"""


@pytest.fixture(scope="module")
def torch_models(native_prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the TorchScript modules of TORCH_SOURCE, made with the prefix's torch."""
    _needs_torch(native_prefix)
    folder = tmp_path_factory.mktemp("torchscript")
    script = folder / "make.py"
    script.write_text(TORCH_SOURCE)
    python = native_prefix / "python/bin/python3"
    subprocess.run([python, "-W", "ignore", script, folder], check=True)
    return folder


def _torch_config(inputs: Sequence[str], outputs: Sequence[str]) -> str:
    def tensors(names: Sequence[str]) -> str:
        return ", ".join(f'{{ name: "{n}" data_type: TYPE_FP32 dims: [ 2 ] }}' for n in names)

    return f"""platform: "pytorch_libtorch" max_batch_size: 8
    input [ {tensors(inputs)} ] output [ {tensors(outputs)} ]"""


LEFT = np.array([[1, 2], [3, 4]], np.float32)
RIGHT = np.array([[10, 20], [30, 40]], np.float32)


@native
@pytest.mark.parametrize(
    ("first", "second"),
    [("B__1", "A__0"), ("right", "left"), ("B", "A")],
    ids=["by index", "by argument name", "as listed"],
)
def test_torchscript_inputs_find_their_arguments(
    server: Server, torch_models: Path, first: str, second: str, request: pytest.FixtureRequest
) -> None:
    """NAME__INDEX and forward's own names order the inputs; other names go as they are listed."""
    kind = request.node.callspec.id
    name = "torch_" + kind.replace(" ", "_")
    config = _torch_config([first, second], ["SUM__1", "DIFFERENCE__0"])
    server.add(name, config, (torch_models / "Two.pt").read_bytes(), file="model.pt")
    swapped = kind == "as listed"
    inputs = {first: LEFT if swapped else RIGHT, second: RIGHT if swapped else LEFT}
    answer = server.infer(name, inputs)
    np.testing.assert_allclose(answer["DIFFERENCE__0"], LEFT - RIGHT)
    np.testing.assert_allclose(answer["SUM__1"], LEFT + RIGHT)
    assert list(server.infer(name, inputs, ["SUM__1"])) == ["SUM__1"]


@native
def test_torchscript_dictionaries_go_by_name(server: Server, torch_models: Path) -> None:
    """A module that takes and returns dictionaries is served by their keys."""
    model = (torch_models / "Named.pt").read_bytes()
    server.add("torch_named", _torch_config(["a", "b"], ["sum"]), model, file="model.pt")
    answer = server.infer("torch_named", {"a": LEFT, "b": RIGHT})
    np.testing.assert_allclose(answer["sum"], LEFT + RIGHT)


@native
def test_a_torchscript_model_with_too_few_inputs_is_refused(
    server: Server, torch_models: Path
) -> None:
    """The error names what the configuration lists and what forward takes."""
    model = (torch_models / "Two.pt").read_bytes()
    config = _torch_config(["A__0"], ["SUM__1"])
    error = server.refused("torch_short", config, model, file="model.pt")
    assert "['A__0']" in error
    assert "['left', 'right']" in error


@native
def test_a_corrupted_torchscript_file_is_refused_in_torchs_words(
    server: Server, torch_models: Path
) -> None:
    """The error names the file."""
    model = (torch_models / "Two.pt").read_bytes()[:100]
    error = server.refused("torch_bad", _torch_config(["A"], ["B"]), model, file="model.pt")
    assert "torch cannot load" in error
    assert "torch_bad/1/model.pt" in error


def _particles(generator: np.random.Generator, batch: int) -> dict[str, Any]:
    inputs = {
        name: generator.normal(size=(batch, *shape)).astype(np.float32)
        for name, shape in PARTICLENET_SHAPES.items()
    }
    for name in ("pf_mask", "sv_mask"):
        inputs[name][:] = 1
    return inputs


def _needs_torch(prefix: Path) -> None:
    if "torch" not in versions(prefix):
        pytest.skip("the prefix was installed without PyTorch")


@pytest.fixture(scope="module")
def serving() -> Iterator[types.ModuleType]:
    """The module that both backends share, imported outside Triton."""
    fake = types.ModuleType("triton_python_backend_utils")
    path = CHECKOUT / "containers/backends/shared/hpcbench_serving.py"
    spec = importlib.util.spec_from_file_location("hpcbench_serving_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["triton_python_backend_utils"] = fake
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules["triton_python_backend_utils"]
        del sys.modules[spec.name]


@pytest.mark.parametrize(
    ("asked", "cpus", "instances", "threads"),
    [("3", "8", 2, 3), (None, "8", 2, 4), ("0", "8", 1, 8), (None, "2", 4, 1), (None, "5", 2, 2)],
)
def test_instances_share_the_cpus_unless_the_model_says_otherwise(
    serving: types.ModuleType, asked: str | None, cpus: str, instances: int, threads: int
) -> None:
    """The parameter wins; else HPCBENCH_CPUS over the instances, at least one."""
    config: dict[str, Any] = {"name": "m", "instance_group": [{"count": instances}]}
    if asked is not None:
        config["parameters"] = {"threads": {"string_value": asked}}
    assert serving.intra_op_threads(config, "threads", {"HPCBENCH_CPUS": cpus}) == threads


def test_without_a_cpu_count_the_allowed_cpus_are_counted(serving: types.ModuleType) -> None:
    """A batch system restricts a job by its CPU affinity."""
    allowed = len(os.sched_getaffinity(0))
    assert serving.intra_op_threads({"name": "m"}, "threads", {}) == allowed
