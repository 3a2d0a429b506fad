"""Images are known again, or not, by a small part of them."""

import os
import shutil
from pathlib import Path

import pytest

from hpcbench.runtime import images


def write_file(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


CONTENT = bytes(range(200)) * 1500


def test_a_copy_of_a_file_has_its_fingerprint_at_another_time(tmp_path: Path) -> None:
    one = write_file(tmp_path / "one", CONTENT)
    other = shutil.copyfile(one, tmp_path / "other")
    os.utime(other, (0, 0))
    assert images.image_fingerprint(one) == images.image_fingerprint(str(other))


@pytest.mark.parametrize(
    "content",
    [b"x" + CONTENT[1:], CONTENT[:-1] + b"x", CONTENT + b"x", CONTENT[:1000], b""],
    ids=["begins otherwise", "ends otherwise", "longer", "short", "empty"],
)
def test_another_file_has_another_fingerprint(tmp_path: Path, content: bytes) -> None:
    one, other = (write_file(tmp_path / name, it) for name, it in (("a", CONTENT), ("b", content)))
    assert images.image_fingerprint(one) != images.image_fingerprint(other)


def write_folder(folder: Path) -> Path:
    (folder / "usr" / "bin").mkdir(parents=True)
    (folder / ".singularity.d").mkdir()
    (folder / ".singularity.d" / "labels.json").write_text("built on Monday")
    (folder / "bin").symlink_to("usr/bin")
    return folder


def test_a_folder_that_was_built_again_has_another_fingerprint(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "image")
    before = images.image_fingerprint(str(folder))
    assert images.image_fingerprint(str(folder)) == before
    copy = shutil.copytree(folder, tmp_path / "copy", symlinks=True)
    assert images.image_fingerprint(str(copy)) == before, "times were kept"
    shutil.rmtree(folder)
    assert images.image_fingerprint(str(write_folder(folder))) != before


def test_a_folder_of_cvmfs_is_known_by_its_name(tmp_path: Path) -> None:
    name = "ab" * 32
    folder = tmp_path / ".flat" / "ab" / name
    folder.mkdir(parents=True)
    (tmp_path / "tritonserver:22.07-py3").symlink_to(folder)
    assert images.image_fingerprint(str(tmp_path / "tritonserver:22.07-py3")) == name


def test_an_image_that_is_gone_has_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        images.image_fingerprint(str(tmp_path / "none.sif"))


def test_a_reference_needs_none() -> None:
    assert images.image_fingerprint("docker://registry/name:tag") == ""
