"""Command lines for the native runtime, and what stands for its image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hpcbench import container
from hpcbench.errors import SiteError
from hpcbench.site import Container
from tests.builders import write_prefix


@pytest.fixture
def native(tmp_path: Path) -> Container:
    return Container(prefix=write_prefix(tmp_path))


def test_the_digest_of_the_prefix_stands_for_both_images(native: Container) -> None:
    software = container.software(native)
    assert software.server_digest == "native:0123456789abcdef"
    assert software.sdk_digest == "native:0123456789abcdef"


def test_another_prefix_has_another_digest(tmp_path: Path) -> None:
    digests = {
        container.software(
            Container(prefix=write_prefix(tmp_path / name, digest=name))
        ).server_digest
        for name in ("one", "two")
    }
    assert digests == {"native:one", "native:two"}


def test_the_prefix_of_this_checkout_is_understood(native_prefix: Path) -> None:
    manifest = json.loads((native_prefix / "manifest.json").read_text())
    found = container.software(Container(prefix=native_prefix))
    assert found.server_digest == f"native:{manifest['digest']}"


def test_a_prefix_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SiteError) as caught:
        container.software(Container(prefix=tmp_path / "none"))
    assert caught.value.message.startswith(
        f"there is no complete Triton and perf_analyzer in {tmp_path / 'none'}"
    )
    assert f"python3 containers/native.py {tmp_path / 'none'}" in caught.value.hint


@pytest.mark.parametrize("lost", ["bin/tritonserver", "python", "backends"])
def test_a_prefix_of_which_a_part_is_lost_is_told_with_the_part(
    native: Container, lost: str
) -> None:
    path = native.prefix / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(SiteError, match=f"{lost}.* is not there"):
        container.software(native)


def test_a_prefix_with_a_space_in_its_path_is_refused_because_triton_cannot_take_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(SiteError, match="characters that Triton cannot take"):
        container.software(Container(prefix=write_prefix(tmp_path / "my folder")))


def test_the_server_is_started_from_the_prefix_with_memory_of_its_own(native: Container) -> None:
    argv = container.server_argv(native, ["--http-port=1"], "hpcbench-1-")
    assert argv == [
        f"{native.prefix}/bin/tritonserver",
        "--backend-config=onnxruntime,shm-region-prefix-name=hpcbench-1-",
        "--backend-config=python,shm-region-prefix-name=hpcbench-1-",
        "--http-port=1",
    ]


def test_perf_analyzer_gets_its_arguments_unchanged(native: Container) -> None:
    argv = container.sdk_argv(native, ["-m", "a model; rm -rf"])
    assert argv == [f"{native.prefix}/bin/perf_analyzer", "-m", "a model; rm -rf"]
