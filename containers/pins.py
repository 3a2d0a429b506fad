"""What the native prefix is made of on a given machine: pure functions on versions and facts.

Standard library only and no I/O but reading ``versions.toml``, so that the choices can be tested
with invented machines.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSIONS_FILE = Path(__file__).resolve().parent / "versions.toml"

# To be raised when the programs around Triton and perf_analyzer change in the same versions.
LAYOUT = 2

Version = tuple[int, ...]


class CannotServeError(Exception):
    """The machine, or its state, does not allow the installation; the text says what to do."""


@dataclass(frozen=True)
class Wheel:
    """One pinned wheel that holds a program. ``megabytes`` is the size of the download."""

    version: str
    package: str
    package_version: str
    glibc: Version
    megabytes: int
    sha256: str


@dataclass(frozen=True)
class Pins:
    """The content of ``versions.toml``; ``perf_analyzer`` is newest first."""

    pythons: tuple[str, ...]
    triton: Wheel
    perf_analyzer: tuple[Wheel, ...]
    packages: Mapping[str, str]
    numpy: Mapping[str, str]
    extras: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Machine:
    """The facts that the choices need. ``glibc`` is None where the C library is another one."""

    system: str
    architecture: str
    glibc: Version | None
    python: str


def parse_version(text: str) -> Version:
    """``"2.36"`` as ``(2, 36)``; anything after the numbers is dropped."""
    numbers: list[int] = []
    for part in text.split("."):
        digits = "".join(c for c in part if c.isdigit())
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def show_version(version: Version) -> str:
    return ".".join(str(part) for part in version)


def load_pins(path: Path = VERSIONS_FILE) -> Pins:
    """Read the versions file. Raises KeyError or tomllib.TOMLDecodeError if it is damaged."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return Pins(
        pythons=tuple(data["python"]["supported"]),
        triton=_wheel(data["triton"]),
        perf_analyzer=tuple(_wheel(entry) for entry in data["perf_analyzer"]),
        packages=dict(data["packages"]),
        numpy=dict(data["numpy"]),
        extras={name: dict(packages) for name, packages in data["extras"].items()},
    )


def _wheel(entry: Mapping[str, Any]) -> Wheel:
    return Wheel(
        version=entry["version"],
        package=entry["package"],
        package_version=entry["package_version"],
        glibc=parse_version(entry["glibc"]),
        megabytes=entry["megabytes"],
        sha256=entry["sha256"],
    )


def python_packages(pins: Pins, python: str) -> dict[str, str]:
    """What the environment of this Python, e.g. "3.11", holds."""
    return {"numpy": pins.numpy[python], **pins.packages}


def module_name(package: str) -> str:
    """What a package is imported as."""
    return {"tensorflow-cpu": "tensorflow"}.get(package, package)


def choose_perf_analyzer(pins: Pins, glibc: Version) -> Wheel:
    """The newest perf_analyzer that a machine with this glibc runs. Raises CannotServeError."""
    for wheel in pins.perf_analyzer:
        if glibc >= wheel.glibc:
            return wheel
    oldest = min(wheel.glibc for wheel in pins.perf_analyzer)
    raise CannotServeError(
        f"This machine has glibc {show_version(glibc)}; the oldest that any pinned "
        f"perf_analyzer runs on is {show_version(oldest)}. Use a newer system, or a container "
        "(runtime: apptainer in the site file)."
    )


def check_machine(machine: Machine, pins: Pins) -> None:
    """Raise CannotServeError with what is needed if the pinned programs cannot run here."""
    container = "Use a container instead (runtime: apptainer in the site file)."
    if machine.system != "Linux":
        raise CannotServeError(
            f"This machine runs {machine.system}; Triton's wheel is for Linux only. {container}"
        )
    if machine.architecture not in ("x86_64", "amd64"):
        raise CannotServeError(
            f"This machine is {machine.architecture}; the pinned Triton and perf_analyzer are "
            f"built for x86_64 only. {container}"
        )
    if machine.glibc is None:
        raise CannotServeError(
            "This machine's C library is not glibc (Alpine's musl?); Triton needs glibc "
            f"{show_version(pins.triton.glibc)} or newer. {container}"
        )
    if machine.glibc < pins.triton.glibc:
        raise CannotServeError(
            f"This machine has glibc {show_version(machine.glibc)}; Triton {pins.triton.version} "
            f"needs {show_version(pins.triton.glibc)} or newer (Debian 12, Ubuntu 22.04, Fedora "
            f"36). {container}"
        )
    if machine.python not in pins.pythons:
        raise CannotServeError(
            f"This is Python {machine.python}; Triton's Python stub comes for "
            f"{', '.join(pins.pythons)}. Run the script with one of these, e.g. "
            f"python{pins.pythons[0]}."
        )
    choose_perf_analyzer(pins, machine.glibc)


def components(
    pins: Pins, machine: Machine, extras: Iterable[str], backends: Mapping[str, str]
) -> dict[str, str]:
    """What must be installed: a text per component that changes whenever it must be redone.

    ``backends`` maps a backend's name to the sha256 of its files. An extra's text contains the
    environment's, because a new environment starts without it.
    """
    check_machine(machine, pins)
    assert machine.glibc is not None
    analyzer = choose_perf_analyzer(pins, machine.glibc)
    wheel = f"{pins.triton.package} {pins.triton.package_version}"
    triton = f"{wheel} python {machine.python} layout {LAYOUT}"
    python = _list_packages({"python": machine.python, **python_packages(pins, machine.python)})
    parts = {
        "python": python,
        "triton": triton,
        "perf_analyzer": f"{analyzer.package} {analyzer.package_version} beside {triton}",
    }
    for extra in sorted(set(extras)):
        parts[extra] = f"{_list_packages(pins.extras[extra])} in {python}"
    parts["backends"] = _list_packages(backends)
    return parts


def _list_packages(packages: Mapping[str, str]) -> str:
    return " ".join(f"{name}=={version}" for name, version in sorted(packages.items()))


def missing_components(wanted: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """The components to install again, in the order of ``wanted``."""
    return [name for name, text in wanted.items() if present.get(name) != text]


def digest(content: Mapping[str, Any]) -> str:
    """A short sha256 (16 hex digits) of anything that JSON can hold."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_complete(manifest: Mapping[str, Any] | None, wanted: Mapping[str, str]) -> bool:
    """Whether the manifest says that everything wanted is there; more may be."""
    if manifest is None:
        return False
    return not missing_components(wanted, manifest.get("components", {}))
