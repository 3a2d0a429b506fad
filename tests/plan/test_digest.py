"""A digest sees every change of what is served, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcbench.plan.digest import content_digest, model_digests
from tests.helpers.builders import write_model


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


@pytest.mark.parametrize(
    "path",
    [
        "1/__pycache__/model.cpython-310.pyc",
        "1/model.pyc",
        ".git/HEAD",
        ".gitignore",
        "1/.model.py.swp",
        "config.pbtxt~",
        "1/#model.py#",
        "1/.#model.py",
        "1/.ipynb_checkpoints/model-checkpoint.py",
        ".mypy_cache/3.12/cache.json",
        ".vscode/settings.json",
        ".DS_Store",
        ".gitlab-ci.yml",
        ".hgtags",
        ".dvc/config",
        ".editorconfig",
        "1/._model.py",
        "1/.~lock.model.py#",
        "1/.nfs00000000000a1b2c",
    ],
)
def test_caches_and_what_editors_and_version_control_leave_change_no_digest(
    tmp_path: Path, path: str
) -> None:
    folder = write_model(tmp_path)
    (folder / "1" / "model.py").write_text("pass")
    served, whole, sources = model_digests(folder)
    assert served == whole == sources == content_digest(folder)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(b"anything")
    former = content_digest(folder)
    assert former != whole
    compiled = path.endswith(".pyc")
    assert model_digests(folder) == (served, former, served if compiled else former)


@pytest.mark.parametrize("path", ["1/model.pyc", "git/HEAD", "1/pycache/x", "1/weights.cache"])
def test_what_a_model_may_need_is_part_of_its_digest(tmp_path: Path, path: str) -> None:
    """A compiled module without its source is no cache: it is what is run."""
    folder = write_model(tmp_path)
    before = model_digests(folder)[0]
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_bytes(b"anything")
    assert model_digests(folder)[0] != before


@pytest.mark.parametrize("order", [("1", "2"), ("2", "1")])
def test_a_digest_does_not_depend_on_the_order_in_which_a_folder_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    """Of two paths to one folder, the first in the alphabet counts."""
    folder = write_model(tmp_path)
    alone = model_digests(folder)
    (folder / "2").symlink_to("1")
    walk = os.walk

    def in_order(*arguments: Any, **options: Any) -> Iterator[Any]:
        for place, folders, names in walk(*arguments, **options):
            folders.sort(key=lambda name: order.index(name) if name in order else 2)
            yield place, folders, names

    monkeypatch.setattr(os, "walk", in_order)
    assert model_digests(folder) == alone
