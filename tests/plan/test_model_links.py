"""A model repository of somebody else's: its names and links reach nothing outside of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hpcbench.config.container import Container
from hpcbench.errors import BadInput
from hpcbench.measure.model_repository import paths_to_mount
from hpcbench.plan.model import read_model
from hpcbench.plan.model_links import bound_folders
from tests.helpers.builders import refusal, variant, write_model

ENSEMBLE = """
platform: "ensemble"
input { name: "x" data_type: TYPE_FP32 dims: 16 }
ensemble_scheduling { step { model_name: "%s" model_version: -1 } }
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder of the user's who measures."""
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(parents=True)
    (folder / "id_ed25519").write_text("secret")
    return folder


@pytest.mark.parametrize(
    "name", ["../home/thief", "..", ".", "", "/etc", "a/b", "a\\nb", "\\033]0;title\\007"]
)
def test_an_ensemble_calls_no_model_outside_of_its_repository(tmp_path: Path, name: str) -> None:
    """Its overlay would be a link of that name."""
    write_model(tmp_path / "home", "thief")
    folder = write_model(tmp_path / "models")
    (folder / "config.pbtxt").write_text(ENSEMBLE % name)
    message = refusal(read_model, tmp_path / "models", "tagger")
    assert "cannot be the name of a folder" in message


@pytest.mark.parametrize("place", ["1/weights", "1/deep/weights", "labels"])
def test_a_link_to_files_of_the_user_is_refused(tmp_path: Path, secret: Path, place: str) -> None:
    link = write_model(tmp_path / "models") / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(secret)
    message = refusal(read_model, tmp_path / "models", "tagger", bound=())
    assert f"{link} leads to {secret}, outside of the model repository" in message
    assert "container.binds" in message


def test_a_model_that_is_itself_a_link_out_of_the_repository_is_refused(
    tmp_path: Path, secret: Path
) -> None:
    (tmp_path / "models").mkdir()
    (secret / "1").mkdir()
    (tmp_path / "models" / "tagger").symlink_to(secret)
    assert "leads to" in refusal(read_model, tmp_path / "models", "tagger", bound=())


def test_a_link_by_way_of_a_bound_folder_is_refused_as_well(tmp_path: Path, secret: Path) -> None:
    folder = write_model(tmp_path / "models")
    (tmp_path / "cvmfs").mkdir()
    (folder / "1" / "data").symlink_to(tmp_path / "cvmfs")
    read_model(tmp_path / "models", "tagger", bound=(tmp_path / "cvmfs",))
    (tmp_path / "cvmfs" / "back").symlink_to(secret)
    with pytest.raises(BadInput, match="back leads to"):
        read_model(tmp_path / "models", "tagger", bound=(tmp_path / "cvmfs",))


def test_links_within_the_repository_and_to_bound_folders_are_followed(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models")
    (tmp_path / "models" / "shared").mkdir()
    (tmp_path / "cvmfs").mkdir()
    (folder / "1" / "a").symlink_to("../../shared")
    (folder / "1" / "b").symlink_to(tmp_path / "cvmfs")
    (folder / "1" / "loop").symlink_to("..")
    (folder / "1" / "dead").symlink_to("/nowhere/at/all")
    container = Container(prefix=tmp_path, binds=(f"{tmp_path}/cvmfs:/data",))
    bound = bound_folders(container)
    model = read_model(tmp_path / "models", "tagger", bound=bound)
    assert paths_to_mount(variant(model), container)


def test_a_link_that_comes_after_the_plan_is_refused_before_anything_is_mounted(
    tmp_path: Path, secret: Path
) -> None:
    folder = write_model(tmp_path / "models")
    model = read_model(tmp_path / "models", "tagger", bound=())
    (folder / "1" / "weights").symlink_to(secret)
    with pytest.raises(BadInput, match="outside of the model repository"):
        paths_to_mount(variant(model), Container(prefix=tmp_path))


def test_a_link_to_the_whole_file_system_is_refused_before_it_is_hashed(tmp_path: Path) -> None:
    (write_model(tmp_path / "models") / "1" / "all").symlink_to("/")
    started = time.process_time()
    assert "leads to /," in refusal(read_model, tmp_path / "models", "tagger", bound=())
    assert time.process_time() - started < 5


def test_a_file_name_that_is_no_text_is_hashed_like_others(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models")
    before = read_model(tmp_path / "models", "tagger").digest
    with open(os.fsencode(folder) + b"/1/\xff\xfe", "wb") as stream:  # noqa: PTH123
        stream.write(b"weights")
    assert read_model(tmp_path / "models", "tagger").digest != before
