"""The native prefix is known by the hashes of its files, and so is every wheel in it."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from hpcbench.config.container import Container
from hpcbench.doctor import doctor
from hpcbench.doctor.findings import NotChecked
from hpcbench.errors import SiteError
from tests.helpers.paths import CHECKOUT

CONTAINERS = CHECKOUT / "containers"
PYTHONS = ("3.11", "3.12", "3.13")


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    sys.path.insert(0, str(CONTAINERS))
    yield
    sys.path.remove(str(CONTAINERS))


@pytest.fixture(scope="module")
def native_files(_importable: None) -> ModuleType:
    return importlib.import_module("native_files")


@pytest.fixture
def prefix(tmp_path: Path, native_files: ModuleType) -> Path:
    """A small prefix with what makes two real ones differ, as the installer leaves it."""
    return installed(tmp_path / "prefix", native_files)


def installed(prefix: Path, native_files: ModuleType) -> Path:
    site = prefix / "python/lib/python3.11/site-packages"
    for folder in ("bin", "triton/lib", "python/bin", "perf_analyzer/lib"):
        (prefix / folder).mkdir(parents=True)
    for folder in ("numpy/__pycache__", "numpy-1.26.4.dist-info", "pip"):
        (site / folder).mkdir(parents=True)
    (prefix / "bin/tritonserver").write_text("#!/bin/sh")
    (prefix / "triton/lib/libtriton.so").write_bytes(b"ELF")
    (prefix / "perf_analyzer/lib/libb64.so").symlink_to("../../triton/lib/libtriton.so")
    (prefix / "python/bin/python3").symlink_to(f"{prefix}/elsewhere")
    (prefix / "python/pyvenv.cfg").write_text(f"home = {prefix}")
    (site / "numpy/core.so").write_bytes(b"numpy")
    (site / "numpy-1.26.4.dist-info/RECORD").write_text(str(prefix))
    (site / "numpy-1.26.4.dist-info/METADATA").write_text("Version: 1.26.4")
    files = native_files.hash_files(prefix)
    native_files.write_list(prefix, files)
    manifest = {"digest": native_files.digest_of(files), "versions": {}}
    (prefix / "manifest.json").write_text(json.dumps(manifest))
    # What comes later, by itself.
    (site / "numpy/__pycache__/core.pyc").write_bytes(b"compiled")
    return prefix


def verify(prefix: Path) -> tuple[int, str]:
    command = [sys.executable, str(CONTAINERS / "native.py"), "--verify", str(prefix)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    return done.returncode, done.stderr


def test_a_prefix_is_as_it_was_installed_also_after_python_has_compiled_it(prefix: Path) -> None:
    code, said = verify(prefix)
    assert code == 0
    assert "is as it was installed, digest " in said


def test_two_prefixes_with_the_same_files_have_one_digest_wherever_they_lie(
    tmp_path: Path, prefix: Path, native_files: ModuleType
) -> None:
    other = installed(tmp_path / "another/place", native_files)
    manifests = [json.loads((each / "manifest.json").read_text()) for each in (prefix, other)]
    assert manifests[0]["digest"] == manifests[1]["digest"]


def test_the_same_versions_in_other_files_have_another_digest(
    prefix: Path, native_files: ModuleType
) -> None:
    """A wheel that a mirror has built itself says the same version."""
    before = native_files.digest_of(native_files.hash_files(prefix))
    (prefix / "python/lib/python3.11/site-packages/numpy/core.so").write_bytes(b"rebuilt")
    assert native_files.digest_of(native_files.hash_files(prefix)) != before


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("triton/lib/libtriton.so", b"evil", "changed: triton/lib/libtriton.so"),
        ("bin/tritonserver", None, "missing: bin/tritonserver"),
        ("triton/lib/planted.so", b"evil", "not installed by hpcbench: triton/lib/planted.so"),
        ("python/lib/python3.11/site-packages/evil.pth", b"x", "site-packages/evil.pth"),
        ("files.sha256", b"", "changed: files.sha256"),
    ],
)
def test_what_somebody_has_changed_is_named(
    prefix: Path, path: str, content: bytes | None, said: str
) -> None:
    if content is None:
        (prefix / path).unlink()
    else:
        (prefix / path).write_bytes(content)
    code, printed = verify(prefix)
    assert code == 3
    assert said in printed
    assert "to install it again: rm -r" in printed


def test_a_list_that_was_changed_with_the_file_does_not_hide_it(
    prefix: Path, native_files: ModuleType
) -> None:
    (prefix / "triton/lib/libtriton.so").write_bytes(b"evil")
    native_files.write_list(prefix, native_files.hash_files(prefix))
    code, printed = verify(prefix)
    assert code == 3
    assert "changed: files.sha256" in printed


def test_a_link_that_leads_elsewhere_is_a_change(prefix: Path) -> None:
    link = prefix / "perf_analyzer/lib/libb64.so"
    link.unlink()
    link.symlink_to("/tmp/evil.so")
    assert "changed: perf_analyzer/lib/libb64.so" in verify(prefix)[1]


def test_doctor_says_what_differs(prefix: Path, tmp_path: Path) -> None:
    container = Container(prefix=prefix)
    assert "is as it was installed" in doctor._verify(container, tmp_path)
    (prefix / "triton/lib/libtriton.so").write_bytes(b"evil")
    with pytest.raises(SiteError, match=r"changed: triton/lib/libtriton\.so; .* 1 files of"):
        doctor._verify(container, tmp_path)
    (prefix / "files.sha256").unlink()
    with pytest.raises(NotChecked, match="noted no hashes"):
        doctor._verify(container, tmp_path)
    assert verify(prefix)[0] == 3


# Wheels


def locked(name: str) -> dict[str, list[tuple[Requirement, list[str]]]]:
    """The requirements of a lock file with their hashes, by the names of the packages."""
    text = (CONTAINERS / f"wheels-{name}.txt").read_text().replace("\\\n", " ")
    found: dict[str, list[tuple[Requirement, list[str]]]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line.partition("--hash")[0].strip())
            hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)", line)
            found.setdefault(requirement.name, []).append((requirement, hashes))
    return found


def versions(name: str, python: str) -> dict[str, str]:
    """The version of each package that a Python gets."""
    return {
        package: str(requirement.specifier).removeprefix("==")
        for package, entries in locked(name).items()
        for requirement, _ in entries
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python})
    }


@pytest.mark.parametrize("name", ["base", "tensorflow"])
def test_every_wheel_is_known_by_its_hash(name: str) -> None:
    for entries in locked(name).values():
        for requirement, hashes in entries:
            assert str(requirement.specifier).startswith("==")
            assert hashes, requirement


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locked_versions_are_those_of_the_pins(python: str) -> None:
    pins = importlib.import_module("pins")
    loaded = pins.load_pins()
    wanted = pins.python_packages(loaded, python)
    assert wanted.items() <= versions("base", python).items()
    both = wanted | dict(loaded.extras["tensorflow"])
    assert both.items() <= versions("tensorflow", python).items()
    assert versions("base", python).items() <= versions("tensorflow", python).items()


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path) -> None:
    """By pip itself; its message becomes advice."""
    tools = importlib.import_module("native_tools")
    wheel = tmp_path / "planted-1.0-py3-none-any.whl"
    wheel.write_bytes(b"PK evil")
    lock = tmp_path / "lock.txt"
    lock.write_text(f"planted==1.0 --hash=sha256:{'0' * 64}\n")
    words = ["install", "--no-index", "--find-links", tmp_path, "--dry-run", "--require-hashes"]
    command = [sys.executable, "-I", "-m", "pip", *words, "-r", lock]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    explained = tools.explain_pip("planted", tools.Result(1, done.stdout + done.stderr), tmp_path)
    assert "is not the one whose hash is in containers/wheels-*.txt" in explained


@pytest.mark.parametrize("python", PYTHONS)
def test_an_image_gets_the_wheels_of_its_own_python(python: str) -> None:
    """pip itself goes by the Python that it runs in."""
    images = importlib.import_module("images")
    lines = images.lock_for(python, (CONTAINERS / "wheels-base.txt").read_text())
    found = dict(line.partition(" ")[0].split("==") for line in lines)
    assert found == versions("base", python)
    assert all("--hash=sha256:" in line and ";" not in line for line in lines)
