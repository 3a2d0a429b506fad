"""Shared libraries that the prefix's programs need and the machine may lack.

Standard library only. Triton's wheel carries most of them under other names; libpython comes from
the machine, or from Debian's package, unpacked into the prefix.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

from native_tools import Workplace, fetch_deb, say
from pins import CannotServeError

WHEEL_LIBRARIES = Path("triton/nvidia_pytriton.libs")
WHEEL_TRITON = Path("triton/pytriton/tritonserver")
STUB = WHEEL_TRITON / "backends/python/triton_python_backend_stub"
MISSING_LIBRARY = re.compile(r"error while loading shared libraries: (\S+): cannot open")
MOST_LIBRARIES = 20
OPENED_LATER = "libcudart.so"
"""What perf_analyzer opens by itself for shared memory of any kind, without a GPU too."""


def missing_library(output: str) -> str | None:
    """The library that the loader names in a program's output, or None."""
    found = MISSING_LIBRARY.search(output)
    return found.group(1) if found else None


def link_analyzer_libraries(place: Workplace) -> None:
    """Give perf_analyzer the libraries that the machine lacks and Triton's wheel has."""
    folder = place.prefix / "perf_analyzer/lib"
    libraries = place.prefix / WHEEL_LIBRARIES
    if not _link_bundled(OPENED_LATER, folder, libraries):
        raise CannotServeError(_missing_library("perf_analyzer", OPENED_LATER))
    for _ in range(MOST_LIBRARIES):
        name = missing_library(place.run(place.prefix / "bin/perf_analyzer", "--version").text)
        if name is None:
            return
        if not _link_bundled(name, folder, libraries):
            raise CannotServeError(_missing_library("perf_analyzer", name))


def _link_bundled(name: str, folder: Path, libraries: Path) -> bool:
    """Whether the wheel has a library that was not linked before; it is now."""
    stem, _, suffix = name.partition(".so")
    # Wheels carry their libraries as NAME-HASH.so.VERSION.
    found = sorted(libraries.glob(f"{stem}-*.so{suffix}*"))
    if not found or (folder / name).is_symlink():
        return False
    (folder / name).symlink_to(os.path.relpath(found[0], folder))
    return True


def link_stub_libraries(place: Workplace) -> None:
    """Give Triton's Python stub the libpython that goes with the environment's Python."""
    libraries = place.prefix / WHEEL_LIBRARIES
    major, minor = sys.version_info[:2]
    name = f"libpython{major}.{minor}.so.1.0"
    for bundled in libraries.glob(f"libpython{major}-*.{minor}.so.1.0"):
        # Debian builds modules such as _datetime into its Python, so the files that the library in
        # Triton's wheel would load do not exist; only Debian's own library has them.
        if "_datetime" in sys.builtin_module_names:
            found = _find_libpython(place, name)
            if found is None:
                raise CannotServeError(_missing_library("Triton's Python stub", name))
            bundled.unlink()
            bundled.symlink_to(found)
    for _ in range(MOST_LIBRARIES):
        wanted = missing_library(place.run(place.prefix / STUB).text)
        if wanted is None:
            return
        found = _find_libpython(place, wanted) if wanted.startswith("libpython") else None
        link = libraries / wanted
        if found is None or link.is_symlink():
            raise CannotServeError(_missing_library("Triton's Python stub", wanted))
        link.symlink_to(found)


def _find_libpython(place: Workplace, name: str) -> str | None:
    for variable in ("LIBDIR", "LIBPL"):
        path = Path(str(sysconfig.get_config_var(variable) or "/nowhere")) / name
        if path.is_file():
            return str(path)
    own = place.prefix / "libpython"
    base = name.partition(".so")[0]
    say(f"fetching Debian's package {base}, which is not installed here (2 MB)")
    shutil.rmtree(own, ignore_errors=True)
    if fetch_deb((base, f"{base}t64"), own, place.scratch, place.lock_fd):
        for path in own.rglob(name):
            return os.path.relpath(path, place.prefix / WHEEL_LIBRARIES)
    return None


def _missing_library(program: str, name: str) -> str:
    hints = {
        "libstdc++.so.6": "Install libstdc++ (Debian: libstdc++6, Fedora: libstdc++).",
        "libz.so.1": "Install zlib (Debian: zlib1g, Fedora: zlib).",
    }
    if name.startswith("libpython"):
        package = name.partition(".so")[0]
        hint = (
            f"This Python was built without a shared library. Install it (Debian, Ubuntu: apt-get "
            f"install {package}; Fedora: python3-libs), or run this with Python 3.13, whose "
            "library comes with Triton."
        )
    else:
        hint = hints.get(name, f"Find its package (Debian: apt-file search {name}) and install it.")
    return f"{program} needs the shared library {name}, which is not on this machine. {hint}"
