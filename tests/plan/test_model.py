"""Models are read as Triton sees them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbench.plan.model import read_model
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


def test_a_link_that_leads_back_to_itself_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "tagger").symlink_to("tagger")
    message = refusal(read_model, tmp_path, "tagger")
    assert message == f"models: {tmp_path}/tagger is a link that leads back to itself"
    assert "leads back to itself" in refusal(read_model, tmp_path / "tagger", "x")


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


def test_models_that_another_one_needs_are_read_with_it_and_are_part_of_its_digest(
    tmp_path: Path,
) -> None:
    for name in ("bls", "add", "sub"):
        write_model(tmp_path, name)
    alone, one, both = (
        read_model(tmp_path, "bls", needs=names) for names in ((), ("add",), ("add", "sub"))
    )
    assert [part.name for part in both.composing] == ["add", "sub"]
    assert len({alone.digest, one.digest, both.digest}) == 3
    assert alone.swappable
    assert not both.swappable
    (tmp_path / "sub" / "1" / "model.onnx").write_bytes(b"another network")
    assert read_model(tmp_path, "bls", needs=["add", "sub"]).digest != both.digest
    assert read_model(tmp_path, "bls", needs=["add"]).digest == one.digest
    swapped = read_model(tmp_path, "bls", needs=["sub", "add", "sub"])
    assert swapped == read_model(tmp_path, "bls", needs=["add", "sub"])


def test_an_ensemble_that_calls_a_model_in_python_needs_what_that_one_calls(tmp_path: Path) -> None:
    for name in ("bls", "add"):
        write_model(tmp_path, name)
    step = 'ensemble_scheduling { step { model_name: "bls" } }'
    write_model(tmp_path, "chain", extra=step)
    model = read_model(tmp_path, "chain", needs=["add"])
    assert [part.name for part in model.composing] == ["bls", "add"]
    assert model.needs == ("add",)


def test_a_needed_model_that_is_not_there_is_reported_with_who_needs_it(tmp_path: Path) -> None:
    write_model(tmp_path, "bls")
    write_model(tmp_path, "add")
    message = refusal(read_model, tmp_path, "bls", needs=["ad"])
    assert message.startswith("models: 'bls' needs 'ad': there is no model 'ad'")
    assert "did you mean 'add'?" in message


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.symlink_to(path), "a link that leads back to itself"),
        (lambda path: path.symlink_to("older"), "a link to older, which is not there"),
        (lambda path: path.mkdir(), "a folder"),
        (os.mkfifo, "a named pipe"),
    ],
)
def test_a_configuration_that_is_no_file_is_refused(
    tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    """Without one, the server would complete the model, which is something else."""
    path = write_model(tmp_path) / "config.pbtxt"
    path.unlink()
    make(path)
    assert f"{path}: is {words}, and Triton reads a file there" in refusal(
        read_model, tmp_path, "tagger"
    )
