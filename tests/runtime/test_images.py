"""Digests of images, and what is refused before anything is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcbench.config.container import Container, ResolvedContainer
from hpcbench.errors import SiteError
from hpcbench.runtime import images
from tests.helpers.sif import write_sif


def write_sandbox(folder: Path, content: str = "triton") -> Path:
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "usr/bin/tritonserver").write_text(content)
    (folder / "bin").symlink_to("usr/bin")
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def refused(image: Path, cache: Path) -> str:
    with pytest.raises(SiteError) as caught:
        images.image_digest(str(image), cache)
    return str(caught.value)


def test_the_digest_of_a_sif_is_that_of_its_content(tmp_path: Path, cache: Path) -> None:
    one, same = write_sif(tmp_path / "one.sif"), write_sif(tmp_path / "same.sif")
    other = write_sif(tmp_path / "other.sif", b"squashfz")
    digests = [images.image_digest(str(path), cache) for path in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]
    assert digests[0].startswith("sif:")


def test_the_digest_of_a_sandbox_is_that_of_its_files_names_modes_and_links(
    tmp_path: Path, cache: Path
) -> None:
    folders = [write_sandbox(tmp_path / name) for name in "abcde"]
    (folders[2] / "usr/bin/tritonserver").write_text("TRITON")
    (folders[3] / "usr/bin/tritonserver").chmod(0o700)
    (folders[4] / "bin").unlink()
    (folders[4] / "bin").symlink_to("usr")
    digests = [images.image_digest(str(folder), cache) for folder in folders]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4
    assert digests[0].startswith("sandbox:")


def test_a_sandbox_may_hold_files_that_nobody_may_read(tmp_path: Path, cache: Path) -> None:
    folder = write_sandbox(tmp_path / "image")
    os.mkfifo(folder / "usr/pipe")
    (folder / "dead").symlink_to("nowhere")
    assert images.image_digest(str(folder), cache).startswith("sandbox:")


def test_an_unpacked_image_of_cvmfs_is_not_read_to_know_its_digest(
    tmp_path: Path, cache: Path
) -> None:
    name = "ab" * 32
    folder = tmp_path / ".flat" / "ab" / name
    folder.mkdir(parents=True)
    (tmp_path / "tritonserver:22.07-py3").symlink_to(folder)
    found = images.image_digest(str(tmp_path / "tritonserver:22.07-py3"), cache)
    assert found == f"unpacked:{name}"


def test_an_image_that_did_not_change_is_hashed_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_sif(tmp_path / "image.sif")
    before = images.image_digest(str(image), cache)
    monkeypatch.setattr(images, "_content", lambda path: pytest.fail("it was hashed again"))
    assert images.image_digest(str(image), cache) == before
    monkeypatch.undo()
    write_sif(image, b"new and longer")
    assert images.image_digest(str(image), cache) != before


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert images.image_digest(str(write_sif(tmp_path / "i.sif")), tmp_path / "cache").startswith(
        "sif:"
    )


def test_a_missing_image_is_named(tmp_path: Path, cache: Path) -> None:
    message = refused(tmp_path / "none.sif", cache)
    assert f"the image {tmp_path / 'none.sif'} cannot be read: No such file" in message
    assert "make images" in message


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_an_image_of_which_the_end_is_missing_is_refused(
    tmp_path: Path, cache: Path, share: float
) -> None:
    image = write_sif(tmp_path / "image.sif", os.urandom(20_000))
    whole = image.stat().st_size
    os.truncate(image, int(whole * share))
    assert f"is damaged: it has {int(whole * share)} bytes of {whole}" in refused(image, cache)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 5000])
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, cache: Path, content: bytes) -> None:
    (tmp_path / "image.sif").write_bytes(content)
    assert "is no SIF image" in refused(tmp_path / "image.sif", cache)


def test_a_folder_that_is_no_image_is_refused(tmp_path: Path, cache: Path) -> None:
    assert "no unpacked image" in refused(tmp_path, cache)


def test_the_driver_resolves_both_images_and_the_workers_never_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, sdk = write_sif(tmp_path / "a.sif", b"a"), write_sif(tmp_path / "b.sif", b"b")
    container = Container.model_validate(
        {"runtime": "apptainer", "server_image": str(server), "sdk_image": str(sdk), "cache": cache}
    )
    resolved = images.resolve_images(container)
    assert isinstance(resolved, ResolvedContainer)
    assert resolved.server_digest != resolved.sdk_digest
    assert resolved.images == (str(server), str(sdk))
    assert resolved.with_server_image(None) is resolved
    monkeypatch.setattr(images, "image_digest", lambda *_: pytest.fail("it was resolved again"))
    assert images.resolve_images(resolved) is resolved


def test_a_named_image_takes_the_place_of_the_servers_with_its_digest(
    tmp_path: Path, cache: Path
) -> None:
    paths = {name: str(write_sif(tmp_path / name, name.encode())) for name in "abcd"}
    keys = {"runtime": "apptainer", "server_image": paths["a"], "sdk_image": paths["b"]}
    named = {"old": paths["c"], "older": paths["d"]}
    container = Container.model_validate({**keys, "server_images": named, "cache": cache})
    resolved = images.resolve_images(container, ["old"])
    other = resolved.with_server_image("old")
    assert isinstance(other, ResolvedContainer)
    assert other.images == (paths["c"], paths["b"])
    assert other.server_digest == images.image_digest(paths["c"], cache) != resolved.server_digest
    assert other.with_server_image("old") == other
    assert hash(other) != hash(resolved)
    assert dict(resolved.server_images) == {"old": paths["c"]}, "only what is asked for is resolved"
