"""The building of images: what they are made from, what is printed, and what is not built again."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.paths import CHECKOUT

CONTAINERS = CHECKOUT / "containers"


@pytest.fixture(scope="module")
def building() -> Iterator[ModuleType]:
    sys.path.insert(0, str(CONTAINERS))
    yield importlib.import_module("images")
    sys.path.remove(str(CONTAINERS))
    del sys.modules["images"]


def run(*words: object, path: str = "/nowhere") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, CONTAINERS / "images.py", *map(str, words)],
        env={"PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_an_image_is_built_anew_when_what_it_is_made_of_changes(
    building: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = building.definition("server-cpu", "")
    assert building.definition("server-cpu", "") == before
    assert building.definition("sdk-cpu", "") != before
    assert building.definition("server", "22.07-py3") != building.definition("server", "26.07-py3")
    for file in building.sources():
        with monkeypatch.context() as changed:
            others = [other for other in building.sources() if other != file]
            changed.setattr(building, "sources", lambda others=others: others)
            assert building.definition("server-cpu", "") != before


def test_an_image_that_is_there_is_not_built_again(
    building: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server-cpu.sif").touch()
    lock = {"server-cpu": {"definition": building.definition("server-cpu", "")}}
    (tmp_path / "images.lock").write_text(json.dumps(lock))
    monkeypatch.setattr(building, "build", lambda *_: pytest.fail("it was built"))
    building.make(tmp_path, ["server-cpu"], {})
    (tmp_path / "server-cpu.sif").unlink()
    monkeypatch.setattr(building, "stage", lambda _: pytest.fail("staged"))
    with pytest.raises(pytest.fail.Exception, match="staged"):
        building.make(tmp_path, ["server-cpu"], {})


def test_what_differs_from_the_tested_images_is_reported(
    building: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"debian": {"libc6": "2.41-12", "tar": "1"}, "wheels": {"a.whl": "00"}}
    found = {"debian": {"libc6": "2.41-13", "tar": "1"}, "wheels": {"a.whl": "00", "b.whl": "11"}}
    building.print_differences("server-cpu", known, found)
    said = capsys.readouterr().err
    assert "server-cpu: not as in images.lock: libc6" in said
    assert "server-cpu: not as in images.lock: b.whl" in said
    assert "tar" not in said


def test_the_lock_of_the_project_is_that_of_its_pins(building: ModuleType) -> None:
    lock = json.loads((CONTAINERS / "images.lock").read_text())
    pins = building.load_pins()
    glibc = building.settings()["glibc"]
    analyzer = building.choose_perf_analyzer(pins, building.parse_version(glibc))
    for image in building.FOR_CPUS:
        assert lock[image]["debian"]["libc6"].startswith(f"{glibc}-")
        assert analyzer.sha256 in lock[image]["wheels"].values()
        wheels = " ".join(lock[image]["wheels"])
        assert f"onnxruntime-{pins.packages['onnxruntime']}-" in wheels
        assert f"nvidia_pytriton-{pins.triton.package_version}-" in wheels
        assert pins.triton.sha256 in lock[image]["wheels"].values()
        assert lock[image]["debian"]["python3"].startswith(building.settings()["python"])


def test_the_python_of_images_has_numpy_1(building: ModuleType) -> None:
    """Else they would refuse models of Triton's python backend."""
    assert building.load_pins().numpy[building.settings()["python"]].startswith("1.")


def test_wheels_are_those_that_the_glibc_of_images_can_load(building: ModuleType) -> None:
    tags = building.platforms((2, 36))
    assert {"manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_36_x86_64"} <= set(tags)
    assert "manylinux_2_37_x86_64" not in tags


@pytest.mark.parametrize("name", ["server", "sdk"])
def test_nvidias_images_are_chosen_by_their_tag(building: ModuleType, name: str) -> None:
    """Nothing can be built from them without a registry; what is written is checked."""
    text = (CONTAINERS / f"{name}.def").read_text()
    tag = tomllib.loads((CONTAINERS / "versions.toml").read_text())["images"]["nvidia"][name]
    assert "\nFrom: nvcr.io/nvidia/tritonserver:{{ tag }}\n" in text
    assert f"\n    tag={tag}\n" in text


def test_without_its_tools_it_says_what_to_install(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 3
    assert "apt-get install mmdebstrap" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pull_from_nvidia_without_apptainer_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, "server")
    assert done.returncode == 3
    assert "Apptainer is not installed here" in done.stderr


def test_an_unknown_image_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    done = run(tmp_path, "client")
    assert done.returncode == 2
    assert "there are server-cpu, sdk-cpu, server, sdk" in done.stderr
