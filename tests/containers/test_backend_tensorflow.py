"""The Python-based TensorFlow backend, served by the real tritonserver of the native prefix."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.backend_server import (
    NOT_APPLICABLE,
    SLOW_BATCHES,
    Server,
    versions,
)
from tests.helpers.outside_triton import load_errors
from tests.helpers.tensorflow_models import small_models

pytestmark = pytest.mark.native

WEIGHTS = np.random.default_rng(7).normal(size=(3, 2)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
IO = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "layer/y" data_type: TYPE_FP32 dims: [ 2 ] },
         { name: "z" data_type: TYPE_FP32 dims: [ 3 ] } ]
"""
GRAPH = f'platform: "tensorflow_graphdef"\nmax_batch_size: 8\n{IO}'
SAVED = f'platform: "tensorflow_savedmodel"\nmax_batch_size: 8\n{IO.replace("layer/", "")}'
ROWS = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""


@pytest.fixture(scope="module")
def models(native_prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small models, made with the prefix's TensorFlow."""
    if "tensorflow" not in versions(native_prefix):
        pytest.skip("the prefix was installed without TensorFlow: make native WITH=tensorflow")
    folder = tmp_path_factory.mktemp("tensorflow")
    small_models(native_prefix, folder)
    return folder


def add_graph(server: Server, models: Path, name: str, config: str, file: str = "") -> None:
    graph = (models / f"{file or name}.graphdef").read_bytes()
    server.add(name, config, graph, file="model.graphdef")


def test_a_graph_answers_as_numpy_does(server: Server, models: Path) -> None:
    add_graph(server, models, "linear", GRAPH)
    answer = server.infer("linear", {"x": X})
    np.testing.assert_allclose(answer["layer/y"], X @ WEIGHTS, rtol=1e-5)
    np.testing.assert_allclose(answer["z"], -X)
    assert list(server.infer("linear", {"x": X}, ["z"])) == ["z"]


def test_a_graph_without_a_batch_dimension_is_served(server: Server, models: Path) -> None:
    config = GRAPH.replace("max_batch_size: 8", "max_batch_size: 0").replace("[ 3 ]", "[ 4, 3 ]")
    add_graph(server, models, "fixed", config.replace("[ 2 ]", "[ 4, 2 ]"))
    answer = server.infer("fixed", {"x": X[:4]})
    np.testing.assert_allclose(answer["layer/y"], X[:4] @ WEIGHTS, rtol=1e-5)


def test_a_saved_model_answers_with_its_variables(server: Server, models: Path) -> None:
    server.add("layer", SAVED, models / "layer.savedmodel", file="model.savedmodel")
    answer = server.infer("layer", {"x": X})
    np.testing.assert_allclose(answer["y"], X @ WEIGHTS, rtol=1e-5)
    np.testing.assert_allclose(answer["z"], -X)


def check_completed(server: Server, name: str, outputs: list[tuple[str, list[int]]]) -> None:
    seen = server.call(f"models/{name}/config")
    assert seen["platform"] == "tensorflow_savedmodel"
    assert seen["max_batch_size"] == 4
    assert "dynamic_batching" in seen
    for key, tensors in (("input", [("x", [3])]), ("output", outputs)):
        found = [(io["name"], io["data_type"], io["dims"]) for io in seen[key]]
        assert found == [(tensor, "TYPE_FP32", dims) for tensor, dims in tensors]


def test_a_saved_model_completes_its_configuration(server: Server, models: Path) -> None:
    server.add("auto", None, models / "layer.savedmodel", file="model.savedmodel")
    check_completed(server, "auto", [("y", [2]), ("z", [3])])
    np.testing.assert_allclose(server.infer("auto", {"x": X[:2]})["y"], X[:2] @ WEIGHTS, rtol=1e-5)


def asking_for(signature: str) -> str:
    value = f'{{ key: "TF_SIGNATURE_DEF" value: {{ string_value: "{signature}" }} }}'
    return f'platform: "tensorflow_savedmodel"\nparameters: {value}'


def test_another_signature_is_served_where_it_is_asked_for(server: Server, models: Path) -> None:
    """And completes a configuration that says no more."""
    folder = models / "layer.savedmodel"
    server.add("twice", asking_for("twice"), folder, file="model.savedmodel")
    check_completed(server, "twice", [("y", [2])])
    np.testing.assert_allclose(
        server.infer("twice", {"x": X[:2]})["y"], 2 * X[:2] @ WEIGHTS, rtol=1e-5
    )


def test_operations_that_initialise_a_graph_are_run(server: Server, models: Path) -> None:
    value = '{ key: "TF_INIT_OPS_FILE" value: { string_value: "init.json" } }'
    config = f'platform: "tensorflow_graphdef" max_batch_size: 4 {ROWS} parameters: {value}'
    (server.repository / "started").mkdir()
    (server.repository / "started" / "init.json").write_text('{"init_ops": ["init"]}')
    add_graph(server, models, "started", config)
    assert server.infer("started", {"x": np.ones((1, 1), np.float32)})["y"].tolist() == [[6.0]]


def test_requests_that_wait_run_as_one_batch_in_which_a_bad_one_fails_alone_and_on_one_line(
    server: Server, models: Path
) -> None:
    config = f"""platform: "tensorflow_graphdef" max_batch_size: 4 {SLOW_BATCHES}
    input [ {{ name: "x" data_type: TYPE_INT64 dims: [ 1 ] }} ]
    output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }},
             {{ name: "rows" data_type: TYPE_FP32 dims: [ 1 ] }} ]"""
    add_graph(server, models, "gather", config)

    def ask(x: int) -> tuple[float, float] | str:
        try:
            answer = server.infer("gather", {"x": np.array([[x]])})
        except AssertionError as error:
            return str(error)
        return answer["y"].item(), answer["rows"].item()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, [3, 5, 0, 9])) == [(3.0, 4.0), (5.0, 4.0), (0.0, 4.0), (9.0, 4.0)]
        first, bad, second, third = pool.map(ask, [3, 99, 5, 0])
    assert [first, second, third] == [(3.0, 1.0), (5.0, 1.0), (0.0, 1.0)]
    assert isinstance(bad, str)
    assert bad.startswith("tensorflow: indices[0,0] = 99 is not in [0, 10)")
    assert "\n" not in bad


def test_strings_go_in_and_out_or_are_refused(
    server: Server, models: Path, native_prefix: Path
) -> None:
    config = """platform: "tensorflow_graphdef" max_batch_size: 4
    input [ { name: "x" data_type: TYPE_STRING dims: [ 2 ] } ]
    output [ { name: "y" data_type: TYPE_STRING dims: [ 2 ] } ]"""
    graph = (models / "strings.graphdef").read_bytes()
    if int(versions(native_prefix)["numpy"].split(".")[0]) > 1:
        assert NOT_APPLICABLE in server.refused("strings", config, graph, file="model.graphdef")
        return
    server.add("strings", config, graph, file="model.graphdef")
    x = np.array([["tau", "μ"], ["", "jet 2"]], dtype=object)
    assert server.infer("strings", {"x": x})["y"] == ["tau!", "μ!", "!", "jet 2!"]


def test_a_configuration_that_contradicts_the_graph_is_refused(
    server: Server, models: Path
) -> None:
    graph = (models / "linear.graphdef").read_bytes()
    for name, wrong, message in (
        ("wrong", ('name: "x"', 'name: "w"'), "has the input 'w'; the model's inputs are ['x']"),
        ("nothing", (IO, ""), "a TensorFlow graph does not tell its tensors"),
    ):
        error = server.refused(name, GRAPH.replace(*wrong), graph, file="model.graphdef")
        assert message in error


def test_what_does_not_load_says_why(native_prefix: Path, models: Path, tmp_path: Path) -> None:
    """As it is said to Triton; each model there would import TensorFlow once more."""
    whole, cut = models / "linear.graphdef", tmp_path / "cut.graphdef"
    cut.write_bytes(whole.read_bytes()[:40])
    swapped = {
        "the model says TYPE_FP32": ('"x" data_type: TYPE_FP32', '"x" data_type: TYPE_INT64'),
        "the model has [-1, 2]": ("dims: [ 2 ]", "dims: [ 5 ]"),
        "has the output 'v'; the model's outputs are ['layer/y', 'z']": ('"z"', '"v"'),
        "but the model also needs ['x']": ('name: "x"', 'name: "z"'),
    }
    expected = {
        "": (whole, GRAPH),
        **{message: (whole, GRAPH.replace(*change)) for message, change in swapped.items()},
        f"tensorflow cannot load {cut}: ": (cut, GRAPH),
        "no signature TF_SIGNATURE_DEF 'thrice'; it has ['serving_default', 'twice']": (
            *(models / "layer.savedmodel", asking_for("thrice")),
        ),
    }
    found = load_errors(native_prefix, "tensorflow", list(expected.values()))
    assert found[0] == ""
    for message, error in zip(expected, found, strict=True):
        assert message in error
        assert "\n" not in error


def test_an_accelerator_of_gpus_is_refused_not_ignored(server: Server, models: Path) -> None:
    entry = '{ name: "auto_mixed_precision" }'
    config = (
        f"{GRAPH}\noptimization {{ execution_accelerators {{ gpu_execution_accelerator: "
        f"[ {entry} ] }} }}"
    )
    graph = (models / "linear.graphdef").read_bytes()
    error = server.refused("accelerated", config, graph, file="model.graphdef")
    assert f"{NOT_APPLICABLE}model 'accelerated'" in error
    assert "auto_mixed_precision" in error


def test_both_versions_of_the_real_deepmet_are_served_unchanged(
    server: Server, models: Path, shared_models: Path
) -> None:
    shutil.copytree(shared_models / "deepmet", server.repository / "deepmet")
    server.call("repository/models/deepmet/load", {})
    inputs = {"input": np.random.default_rng(3).normal(size=(2, 4500, 8)).astype(np.float32)}
    for name in ("input_cat0", "input_cat1", "input_cat2"):
        inputs[name] = np.ones((2, 4500, 1), np.float32)
    answers = [
        server.infer(f"deepmet/versions/{version}", inputs)["output/BiasAdd"] for version in (1, 2)
    ]
    assert [answer.shape for answer in answers] == [(2, 2), (2, 2)]
    assert np.isfinite(answers).all()
    assert not np.allclose(answers[0], answers[1])
