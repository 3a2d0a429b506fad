"""Models are read with a hash of what is served; input data is compared with them before a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from hpcbench.errors import BadInput
from hpcbench.plan.model import (
    TritonModel,
    content_digest,
    folder_problems,
    input_digest,
    read_model,
)
from tests.helpers.builders import parsed, refusal, write_model


def test_a_model_is_read_with_its_inputs_and_limits(tmp_path: Path) -> None:
    folder = write_model(tmp_path, inputs={"x": (16, -1), "mask": (1, -1)}, max_batch_size=64)
    (folder / "3").mkdir()
    (folder / "10").mkdir()
    model = read_model(tmp_path, "tagger")
    assert model.name == "tagger"
    assert model.folder == folder
    assert model.max_batch_size == 64
    assert model.inputs == (("x", (16, -1)), ("mask", (1, -1)))
    assert model.versions == (1, 3, 10)


@pytest.mark.parametrize(
    ("name", "limit", "inputs", "versions"),
    [
        ("particlenet_AK4", 500, ("pf_points", (2, -1)), (1,)),
        ("particlenet_AK4_PT", 500, ("pf_points__0", (2, -1)), (1,)),
        ("deepmet", 100, ("input", (4500, 8)), (1, 2)),
    ],
)
def test_the_models_of_cms_are_read(
    shared_models: Path,
    name: str,
    limit: int,
    inputs: tuple[str, tuple[int, ...]],
    versions: tuple[int, ...],
) -> None:
    model = read_model(shared_models, name)
    assert model.max_batch_size == limit
    assert model.inputs is not None
    assert model.inputs[0] == inputs
    assert model.versions == versions
    assert type(model).__name__ == "TritonModel"
    assert parsed((shared_models / name / "config.pbtxt").read_text()) == type(
        parsed("")
    ).FromString(model.config)


def test_a_model_without_a_configuration_leaves_its_limits_to_the_server(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    (folder / "config.pbtxt").unlink()
    model = read_model(tmp_path, "tagger")
    assert model.max_batch_size is None
    assert model.inputs is None
    assert model.config == b""


def test_a_configuration_without_inputs_leaves_them_to_the_server(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    (folder / "config.pbtxt").write_text('platform: "onnxruntime_onnx"\nmax_batch_size: 8\n')
    model = read_model(tmp_path, "tagger")
    assert model.max_batch_size is None
    assert model.inputs is None


def test_a_model_that_is_not_there_is_reported_with_the_nearest_one(tmp_path: Path) -> None:
    write_model(tmp_path, "particlenet")
    write_model(tmp_path, "deepmet")
    message = refusal(read_model, tmp_path, "particlnet")
    assert f"there is no model 'particlnet' in {tmp_path}" in message
    assert "did you mean 'particlenet'?" in message
    assert "it holds: deepmet, particlenet" in message


def test_an_empty_repository_says_so(tmp_path: Path) -> None:
    assert "it holds: nothing" in refusal(read_model, tmp_path, "tagger")


def test_a_repository_that_is_not_there_is_reported(tmp_path: Path) -> None:
    message = refusal(read_model, tmp_path / "none", "tagger")
    assert message == f"model_repository: {tmp_path / 'none'} is not a folder"


def test_a_model_without_a_version_cannot_be_served(tmp_path: Path) -> None:
    shutil.rmtree(write_model(tmp_path) / "1")
    message = refusal(read_model, tmp_path, "tagger")
    assert "has no version folder" in message
    assert "a folder named 1" in message


def test_a_folder_that_only_looks_like_a_number_is_no_version(tmp_path: Path) -> None:
    (write_model(tmp_path) / "²").mkdir()
    assert read_model(tmp_path, "tagger").versions == (1,)


@pytest.mark.parametrize(
    "text", ["max_batch_size: many", "nam: 1", "input {", 'name: "tagger" name: "tagger"']
)
def test_a_configuration_that_triton_could_not_read_is_named(tmp_path: Path, text: str) -> None:
    path = write_model(tmp_path) / "config.pbtxt"
    path.write_text(text)
    message = refusal(read_model, tmp_path, "tagger")
    assert message.startswith(f"{path}: is not a Triton model configuration: 1:")


def test_a_number_that_is_too_large_for_a_configuration_is_named(tmp_path: Path) -> None:
    path = write_model(tmp_path) / "config.pbtxt"
    path.write_text("max_batch_size: 99999999999999999999")
    assert refusal(read_model, tmp_path, "tagger").startswith(f"{path}: is not a Triton")


def test_a_configuration_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = write_model(tmp_path) / "config.pbtxt"
    path.write_bytes(b"\xff\xfe")
    assert refusal(read_model, tmp_path, "tagger").startswith(f"{path}: is not a Triton")


def test_a_configuration_under_another_name_is_refused_as_triton_would(
    tmp_path: Path,
) -> None:
    write_model(tmp_path, "other").rename(tmp_path / "tagger")
    message = refusal(read_model, tmp_path, "tagger")
    assert "says name: \"other\", but its folder is called 'tagger'" in message


def test_equal_models_in_different_places_have_equal_digests(tmp_path: Path) -> None:
    first, second = write_model(tmp_path / "a"), write_model(tmp_path / "b")
    assert content_digest(first) == content_digest(second)


@pytest.mark.parametrize("change", ["content", "name", "new", "config", "version"])
def test_a_digest_sees_every_change_of_a_file(tmp_path: Path, change: str) -> None:
    folder = write_model(tmp_path)
    before = content_digest(folder)
    network = folder / "1" / "model.onnx"
    match change:
        case "content":
            network.write_bytes(b"a different file!!")
        case "name":
            network.rename(network.with_name("other.onnx"))
        case "new":
            (folder / "labels.txt").write_text("")
        case "config":
            (folder / "config.pbtxt").write_text("max_batch_size: 2\n")
        case _:
            (folder / "1").rename(folder / "2")
    assert content_digest(folder) != before


def test_a_digest_sees_through_a_link_to_a_version(tmp_path: Path) -> None:
    """A version folder is often a link into /cvmfs: what it holds is what is served."""
    folder = write_model(tmp_path / "repository")
    (folder / "1").rename(tmp_path / "elsewhere")
    (folder / "1").symlink_to(tmp_path / "elsewhere")
    before = content_digest(folder)
    (tmp_path / "elsewhere" / "model.onnx").write_bytes(b"another network")
    assert content_digest(folder) != before


def test_a_digest_does_not_see_when_a_file_was_written(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    before = content_digest(folder)
    (folder / "1" / "model.onnx").write_bytes(b"not a real network")
    assert content_digest(folder) == before


def test_files_cannot_be_split_otherwise_to_the_same_digest(tmp_path: Path) -> None:
    for name, files in (("a", {"x": b"12", "y": b"3"}), ("b", {"x": b"1", "y": b"23"})):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_bytes(content)
    assert content_digest(tmp_path / "a") != content_digest(tmp_path / "b")


def test_a_single_file_has_a_digest_that_does_not_depend_on_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("{}")
    assert content_digest(tmp_path / "a.json") == content_digest(tmp_path / "b.json")


@pytest.fixture
def tagger(tmp_path: Path) -> TritonModel:
    version = tmp_path / "models" / "tagger" / "1"
    version.mkdir(parents=True)
    inputs = {"x": ("FP32", "2, -1"), "flavour": ("STRING", "1")}
    text = "".join(
        f'input {{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ] }}\n'
        for name, (kind, dims) in inputs.items()
    )
    (version.parent / "config.pbtxt").write_text(text)
    return read_model(tmp_path / "models", "tagger")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "x").write_bytes(np.zeros((2, 3), np.float32).tobytes())
    (folder / "flavour").write_text("b\n")
    return folder


def test_a_folder_with_a_file_for_each_input_has_no_problems(
    tagger: TritonModel, folder: Path
) -> None:
    assert folder_problems(folder, tagger, {"x": (2, 3)}) == []


def test_a_file_of_another_size_is_reported_with_both_sizes(
    tagger: TritonModel, folder: Path
) -> None:
    (problem,) = folder_problems(folder, tagger, {"x": (2, 4)})
    assert problem == (
        f"{folder}/x has 24 bytes; the input of model 'tagger' is FP32 [2, 4], which takes 32"
    )


def test_a_folder_does_not_say_shapes(tagger: TritonModel, folder: Path) -> None:
    (problem,) = folder_problems(folder, tagger, {})
    assert "its dims are [2, -1]; write shapes: into the campaign" in problem


def test_an_input_without_a_file_is_reported(tagger: TritonModel, folder: Path) -> None:
    (folder / "flavour").unlink()
    (problem,) = folder_problems(folder, tagger, {"x": (2, 3)})
    assert problem.startswith(f"{folder} has no file 'flavour' for that input of model 'tagger'")


def test_a_folder_counts_by_the_content_of_its_files(folder: Path) -> None:
    before = input_digest(str(folder), "here")
    (folder / "x").write_bytes(np.ones((2, 3), np.float32).tobytes())
    assert input_digest(str(folder), "here") != before


def test_what_perf_analyzer_could_not_read_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(BadInput) as caught:
        input_digest(str(tmp_path / "x.json"), "here")
    assert str(caught.value).startswith(f"here: {tmp_path}/x.json has no list 'data'")
    assert "random, zero, or the path of a JSON file or folder" in str(caught.value)
