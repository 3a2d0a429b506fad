"""The installation of the native prefix: its choices, its messages, and the real programs."""

from __future__ import annotations

import errno
import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.helpers.paths import CHECKOUT

CONTAINERS = CHECKOUT / "containers"
BACKENDS = {"onnxruntime": "aa", "pytorch": "bb"}
native_mark = pytest.mark.native


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    sys.path.insert(0, str(CONTAINERS))
    yield
    sys.path.remove(str(CONTAINERS))


@pytest.fixture(scope="module")
def pins(_importable: None) -> ModuleType:
    return importlib.import_module("pins")


@pytest.fixture(scope="module")
def tools(_importable: None) -> ModuleType:
    return importlib.import_module("native_tools")


@pytest.fixture(scope="module")
def libraries(_importable: None) -> ModuleType:
    return importlib.import_module("native_libraries")


@pytest.fixture
def debian(pins: ModuleType) -> Any:
    """An invented Debian 12."""
    return pins.Machine(system="Linux", architecture="x86_64", glibc=(2, 36), python="3.11")


def test_every_supported_python_has_its_numpy(pins: ModuleType) -> None:
    """A Python without an entry could not be installed."""
    loaded = pins.load_pins()
    assert set(loaded.pythons) == set(loaded.numpy)


def test_pythons_with_a_numpy_1_get_it(pins: ModuleType) -> None:
    """Triton's stub computes wrong with numpy 2."""
    loaded = pins.load_pins()
    assert {loaded.numpy[python].split(".")[0] for python in ("3.11", "3.12")} == {"1"}


@pytest.mark.parametrize(
    ("glibc", "version"),
    [((2, 34), "2.51.0"), ((2, 36), "2.51.0"), ((2, 38), "2.60.0"), ((2, 41), "2.60.0")],
)
def test_the_newest_perf_analyzer_that_the_glibc_runs_is_chosen(
    pins: ModuleType, glibc: tuple[int, int], version: str
) -> None:
    """2.60.0 from glibc 2.38 on, 2.51.0 before."""
    assert pins.choose_perf_analyzer(pins.load_pins(), glibc).version == version


def test_a_glibc_too_old_for_any_perf_analyzer_is_reported(pins: ModuleType) -> None:
    """The message has the machine's glibc and the one needed."""
    with pytest.raises(pins.CannotServeError, match=r"glibc 2\.31.*2\.34"):
        pins.choose_perf_analyzer(pins.load_pins(), (2, 31))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"system": "Darwin"}, "Darwin"),
        ({"architecture": "aarch64"}, "x86_64 only"),
        ({"glibc": None}, "not glibc"),
        ({"glibc": (2, 34)}, "needs 2.35 or newer"),
        ({"python": "3.10"}, "3.11, 3.12, 3.13"),
    ],
    ids=["macOS", "ARM", "musl", "old glibc", "old Python"],
)
def test_for_a_machine_that_cannot_be_served_the_message_says_why(
    pins: ModuleType, debian: Any, change: dict[str, Any], words: str
) -> None:
    """One message per reason, with what is needed."""
    with pytest.raises(pins.CannotServeError) as caught:
        pins.check_machine(replace(debian, **change), pins.load_pins())
    assert words in str(caught.value)


def test_a_debian_12_is_served(pins: ModuleType, debian: Any) -> None:
    """No error for the machine that most are like."""
    pins.check_machine(debian, pins.load_pins())


def test_the_same_versions_need_nothing(pins: ModuleType, debian: Any) -> None:
    """A manifest of the same components is complete."""
    wanted = pins.components(pins.load_pins(), debian, [], BACKENDS)
    assert pins.is_complete({"components": wanted}, wanted)
    assert not pins.is_complete(None, wanted)


def test_an_installed_extra_does_not_make_a_manifest_incomplete(
    pins: ModuleType, debian: Any
) -> None:
    """Who does not ask for PyTorch may have it all the same."""
    loaded = pins.load_pins()
    more = pins.components(loaded, debian, ["pytorch"], BACKENDS)
    assert pins.is_complete({"components": more}, pins.components(loaded, debian, [], BACKENDS))


def test_changed_backend_files_redo_only_the_backends(pins: ModuleType, debian: Any) -> None:
    """An edit of a model.py does not fetch Triton again."""
    loaded = pins.load_pins()
    before = pins.components(loaded, debian, [], BACKENDS)
    after = pins.components(loaded, debian, [], {**BACKENDS, "pytorch": "cc"})
    assert pins.missing_components(after, before) == ["backends"]


def test_another_onnxruntime_redoes_the_environment_and_its_extras(
    pins: ModuleType, debian: Any
) -> None:
    """A new environment starts without PyTorch."""
    loaded = pins.load_pins()
    newer = replace(loaded, packages={"onnxruntime": "9.9.9"})
    before = pins.components(loaded, debian, ["pytorch"], BACKENDS)
    after = pins.components(newer, debian, ["pytorch"], BACKENDS)
    assert pins.missing_components(after, before) == ["python", "pytorch"]


def test_an_extra_is_added_to_another(pins: ModuleType, debian: Any) -> None:
    """TensorFlow beside PyTorch fetches TensorFlow only."""
    loaded = pins.load_pins()
    before = pins.components(loaded, debian, ["pytorch"], BACKENDS)
    after = pins.components(loaded, debian, ["tensorflow", "pytorch"], BACKENDS)
    assert pins.missing_components(after, before) == ["tensorflow"]


def test_another_python_redoes_what_depends_on_it(pins: ModuleType, debian: Any) -> None:
    """The stub and the environment belong to one Python version; the backends' files do not."""
    loaded = pins.load_pins()
    before = pins.components(loaded, debian, [], BACKENDS)
    after = pins.components(loaded, replace(debian, python="3.13"), [], BACKENDS)
    assert pins.missing_components(after, before) == ["python", "triton", "perf_analyzer"]


def test_the_digest_is_short_and_depends_on_everything(pins: ModuleType) -> None:
    """The order of the keys does not matter, any value does."""
    one = pins.digest({"a": "1", "b": "2"})
    assert one == pins.digest({"b": "2", "a": "1"})
    assert one != pins.digest({"a": "1", "b": "3"})
    assert len(one) == 16


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NewConnectionError: Failed to establish a new connection", "cannot reach its package"),
        ("OSError: [Errno 28] No space left on device", "disk"),
        ("ERROR: something else", "something else"),
    ],
)
def test_pips_failures_become_advice(tools: ModuleType, text: str, words: str) -> None:
    """No network and a full disk are told apart; anything else is shown."""
    message = tools.explain_pip("numpy", tools.Result(1, text), Path("/data/prefix"))
    assert words in message
    assert "numpy" in message


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "full"), (errno.EACCES, "Cannot write"), (errno.EROFS, "")]
)
def test_a_bad_disk_becomes_advice(tools: ModuleType, number: int, words: str) -> None:
    """The message names the folder."""
    error = OSError(number, os.strerror(number), "/data/prefix/bin")
    message = tools.explain_os_error(error, Path("/data/prefix"))
    assert words in message
    assert "/data/prefix" in message


def test_the_loaders_complaint_gives_the_library(libraries: ModuleType) -> None:
    """The name is taken from the loader's line, and None from any other text."""
    line = "p: error while loading shared libraries: libb64.so.0d: cannot open shared object file"
    assert libraries.missing_library(line) == "libb64.so.0d"
    assert libraries.missing_library("Perf Analyzer Version 2.51.0") is None


def _call(*words: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(CONTAINERS / "native.py"), *map(str, words)]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=240, **settings, check=False
    )


def test_wrong_usage_exits_with_2() -> None:
    """Without a prefix, and with an unknown extra."""
    assert _call().returncode == 2
    done = _call("somewhere", "--with", "caffe")
    assert done.returncode == 2
    assert "pytorch" in done.stderr
    assert "tensorflow" in done.stderr


def test_a_prefix_that_cannot_be_made_exits_with_3(tmp_path: Path) -> None:
    """A file in the way is named, without a traceback."""
    (tmp_path / "file").write_text("")
    done = _call(tmp_path / "file/prefix")
    assert done.returncode == 3
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr


@native_mark
def test_a_second_call_does_nothing_quickly(native_prefix: Path) -> None:
    """The manifest is not written again."""
    before = (native_prefix / "manifest.json").stat().st_mtime_ns
    # Of its own CPU: how long it waits for it is the business of what else runs.
    begin = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = _call(native_prefix)
    assert done.returncode == 0, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begin < 3
    assert (native_prefix / "manifest.json").stat().st_mtime_ns == before


@native_mark
def test_the_programs_run_from_anywhere_and_through_links(
    native_prefix: Path, tmp_path: Path
) -> None:
    """The wrappers find their prefix, and pass the arguments and exit codes on."""
    for name in ("tritonserver", "perf_analyzer"):
        link = tmp_path / name
        link.symlink_to(native_prefix / "bin" / name)
        done = subprocess.run(
            [link, "--help"], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert "--model-repository" in done.stdout + done.stderr or name == "perf_analyzer"
    done = subprocess.run(
        [tmp_path / "perf_analyzer", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    manifest = json.loads((native_prefix / "manifest.json").read_text())
    assert manifest["versions"]["perf_analyzer"] in done.stdout + done.stderr


@native_mark
def test_the_prefix_stands_alone(native_prefix: Path) -> None:
    """Nothing in it links into the checkout."""
    links = [path for path in (native_prefix / "backends").rglob("*") if path.is_symlink()]
    links += (native_prefix / "perf_analyzer/lib").iterdir()
    for link in links:
        assert link.resolve().is_relative_to(native_prefix.resolve())
