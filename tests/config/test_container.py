"""The section `container:` of a site file."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

import pytest

from hpcbench.cluster import run_state
from hpcbench.config.site import Site
from tests.helpers.builders import refusal, write_site

APPTAINER = {"runtime": "apptainer", "server_image": "server.sif", "sdk_image": "sdk.sif"}
DIGEST = f"sha256:{'0' * 64}"
PODMAN = {
    "runtime": "podman-hpc",
    "server_image": "docker://registry.example/triton:1",
    "sdk_image": "docker://registry.example/triton:1-sdk",
}


def test_images_are_paths_relative_to_the_site_file_or_references(tmp_path: Path) -> None:
    reference = "docker://nvcr.io/nvidia/tritonserver:22.07-py3-sdk"
    path = write_site(tmp_path, container={**APPTAINER, "sdk_image": reference})
    assert Site.load(path).container.images == (str(tmp_path / "server.sif"), reference)


def test_a_path_like_the_name_of_a_registrys_image_is_a_path_where_it_is_there(
    tmp_path: Path,
) -> None:
    name = "images.d/triton:24.10"
    path = write_site(tmp_path, container={**APPTAINER, "server_image": f"./{name}"})
    assert Site.load(path).container.server_image == str(tmp_path / name)
    (tmp_path / name).mkdir(parents=True)
    path = write_site(tmp_path, container={**APPTAINER, "server_image": name})
    assert Site.load(path).container.server_image == str(tmp_path / name)


def test_a_link_to_an_image_keeps_its_name(tmp_path: Path) -> None:
    """On /cvmfs/unpacked.cern.ch, the link has name and tag, and its end a hash."""
    (tmp_path / "server.sif").symlink_to("0123abcd")
    path = write_site(tmp_path, container=APPTAINER)
    assert Site.load(path).container.server_image == str(tmp_path / "server.sif")


def test_variables_are_replaced_in_images_binds_and_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGES", "/cvmfs/images")
    changes = {"server_image": "$IMAGES/a", "binds": ["$IMAGES:/b"], "cache": "$IMAGES/cache"}
    container = Site.load(write_site(tmp_path, container={**APPTAINER, **changes})).container
    assert container.server_image == "/cvmfs/images/a"
    assert container.binds == ("/cvmfs/images:/b",)
    assert container.cache == Path("/cvmfs/images/cache")


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"runtime": "apptaner"}, "runtime", "did you mean 'apptainer'?"),
        ({"runtime": "docker"}, "runtime", "allowed: native, apptainer"),
        ({"sdk_image": None}, "sdk_image", "is missing"),
        ({"prefix": "/x"}, "prefix", "has no meaning with runtime: apptainer"),
        ({"server_image": "oras://x/y:1"}, "server_image", "must be the path of a SIF file"),
        ({"server_image": ""}, "server_image", "is empty: name a SIF file"),
        (
            {"sdk_image": "nvcr.io/nvidia/tritonserver:24.10-py3"},
            "sdk_image",
            "an image of a registry is docker://nvcr.io/nvidia/tritonserver:24.10-py3",
        ),
        ({"server_image": "docker://a b"}, "server_image", "docker://registry/name:tag"),
        ({"server_image": f"docker://a@{DIGEST}0"}, "server_image", "...@sha256:..."),
        ({"binds": ["data"]}, "binds", "must be an absolute path"),
        ({"binds": ["/a:b"]}, "binds", "must be an absolute path"),
        ({"binds": ["/a:/b:rw"]}, "binds", "two of them: /outside:/inside"),
        ({"binds": ["/tmp/"]}, "binds", "a container has a /tmp of its own"),
        ({"binds": ["/scratch:/dev/../dev/shm"]}, "binds", "a container has a /dev/shm of its own"),
        ({"binds": ["/a", "/b:/a"]}, "binds", "two of these would be /a inside"),
        ({"server_images": ["a.sif"]}, "server_images", "must be a mapping of names to images"),
        ({"server_images": {"a b": "a.sif"}}, "server_images", "letters, digits"),
        ({"bind": ["/a"]}, "bind", "did you mean 'binds'?"),
        ({"server_digest": "sif:0"}, "server_digest", "unknown key"),
        (
            {**PODMAN, "sdk_image": "a.sif"},
            "sdk_image",
            "podman-hpc runs images of registries only",
        ),
        (
            {**PODMAN, "server_images": {"old": "old.sif"}},
            "server_images",
            "must be docker://registry/name:tag",
        ),
    ],
)
def test_a_mistake_in_it_is_one_line_with_key_and_what_is_allowed(
    tmp_path: Path, changes: dict[str, Any], key: str, words: str
) -> None:
    message = refusal(Site.load, write_site(tmp_path, container={**APPTAINER, **changes}))
    assert f": container.{key}" in message
    assert words in message
    assert len(message.splitlines()) == 1


def test_images_have_no_meaning_without_a_container(tmp_path: Path) -> None:
    path = write_site(tmp_path, container={"prefix": "x", "sdk_image": "y"})
    assert "container.sdk_image: has no meaning with runtime: native" in refusal(Site.load, path)
    path = write_site(tmp_path, container={"prefix": "x", "server_images": {"old": "y"}})
    assert "server_images: has no meaning with runtime: native" in refusal(Site.load, path)


def test_other_images_than_those_of_the_site_are_checked_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    container = Site.load(write_site(tmp_path, container=APPTAINER)).container
    assert container.with_images(None, None) is container
    changed = container.with_images("mine.sif", None)
    assert changed.images == (str(tmp_path / "mine.sif"), container.images[1])
    empty = refusal(container.with_images, "", None)
    assert empty.startswith("--server-image: server_image: is empty")
    assert refusal(container.with_images, None, "docker://a b").startswith("--sdk-image: sdk_image")
    native = Site.load(write_site(tmp_path)).container
    assert "no meaning with runtime: native" in refusal(native.with_images, "mine.sif", None)


def test_a_cache_of_an_unset_variable_is_no_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan made on another host has no use for it."""
    where = write_site(tmp_path, container={**APPTAINER, "cache": "$SCRATCH/images"})
    monkeypatch.delenv("SCRATCH", raising=False)
    assert Site.load(where).container.cache == Path("$SCRATCH/images")
    monkeypatch.setenv("SCRATCH", "/scratch")
    assert Site.load(where).container.cache == Path("/scratch/images")


def test_cpus_only_is_for_a_runtime_without_gpus(tmp_path: Path) -> None:
    path = write_site(tmp_path, container={**APPTAINER, "cpus_only": True})
    assert "cpus_only: has no meaning with runtime: apptainer" in refusal(Site.load, path)


def test_a_run_can_be_repeated_from_the_site_that_it_wrote(tmp_path: Path) -> None:
    further = {"binds": ["/a", "/b:/c"], "server_images": {"old": "old.sif"}}
    site = Site.load(write_site(tmp_path, container={**APPTAINER, **further}))
    (tmp_path / "results").mkdir()
    run_state.write_yaml(tmp_path / "results" / "site.yaml", site)
    assert Site.load(tmp_path / "results" / "site.yaml") == site


def test_a_user_without_a_home_needs_a_cache_only_for_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_: int) -> None:
        raise KeyError("no such user")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    Site.load(write_site(tmp_path, container={"prefix": "x"}))
    Site.load(write_site(tmp_path, container={**APPTAINER, "cache": "cache"}))
    message = refusal(Site.load, write_site(tmp_path, container=APPTAINER))
    assert "container: cache: you have no home folder here; name a folder" in message
