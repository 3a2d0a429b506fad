"""Install Triton and perf_analyzer, without a container, into a prefix of their own.

    python3 containers/native.py PREFIX [--with pytorch] [--with tensorflow]

Afterwards PREFIX/bin/tritonserver and PREFIX/bin/perf_analyzer are there, and
PREFIX/manifest.json, written last, says what they are. Standard library only, no root needed.

Exit codes: 0 complete; 2 wrong usage; 3 this machine or its network does not allow it;
130 interrupted. The same command again finishes what was left.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import native_steps as steps
from native_files import differences, digest_of, hash_files, write_list
from native_tools import Workplace, explain_os_error, say
from pins import (
    CannotServeError,
    Machine,
    Pins,
    choose_perf_analyzer,
    components,
    is_complete,
    load_pins,
    missing_components,
    parse_version,
)

EXIT_CANNOT = 3
EXIT_INTERRUPTED = 130
MOST_DIFFERENCES = 20
NEEDED_BYTES = 600_000_000
NEEDED_BYTES_EXTRAS = {"pytorch": 1_500_000_000, "tensorflow": 2_200_000_000}


def this_machine() -> Machine:
    """The facts of the machine that runs this."""
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        libc = ""
    name, _, version = libc.partition(" ")
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        glibc=parse_version(version) if name == "glibc" else None,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
    )


def backend_digests() -> dict[str, str]:
    """The sha256 over the files of each backend."""
    return {
        name: hashlib.sha256(
            b"".join(file.read_bytes() for file in steps.backend_files(name))
        ).hexdigest()
        for name in steps.backend_names()
    }


def read_manifest(prefix: Path) -> dict[str, Any] | None:
    """The manifest, or None where the installation is not complete."""
    try:
        content = json.loads((prefix / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def is_ready(prefix: Path, wanted: dict[str, str]) -> bool:
    """Whether everything wanted is installed; the environment's Python may have been removed."""
    return is_complete(read_manifest(prefix), wanted) and (prefix / "python/bin/python3").exists()


@contextmanager
def locked(prefix: Path) -> Iterator[int]:
    """Hold the prefix's lock; gives its file descriptor."""
    prefix.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(prefix / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another installation into {prefix} is running; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def read_stamps(prefix: Path) -> dict[str, str]:
    """What each component that was finished consists of."""
    folder = prefix / ".parts"
    if not folder.is_dir():
        return {}
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    new = path.parent.parent / f".{path.name}.new"
    new.write_text(text, encoding="utf-8")
    new.rename(path)


def install(prefix: Path, pins: Pins, extras: list[str]) -> None:
    """Bring the prefix to what is wanted, redoing only what changed or was not finished."""
    if not re.fullmatch(r"[A-Za-z0-9._/+,@%=-]+", str(prefix)):
        raise CannotServeError(
            f"Triton starts its Python stubs through a shell without quotes, and the path {prefix} "
            "has characters that do not survive this. Move the checkout, or name a prefix with "
            "letters, digits and . _ / + , @ % = - only (make NATIVE=/path/without/spaces)."
        )
    machine = this_machine()
    backends = backend_digests()
    if is_ready(prefix, components(pins, machine, extras, backends)):
        return
    with locked(prefix) as lock_fd:
        # What somebody added to this prefix before is kept up to date, not dropped.
        extras = sorted({*extras, *(read_stamps(prefix).keys() & pins.extras.keys())})
        wanted = components(pins, machine, extras, backends)
        if is_ready(prefix, wanted):
            return
        present = read_stamps(prefix)
        if not (prefix / "python/bin/python3").exists():
            present.pop("python", None)
        if present.get("python") != wanted["python"]:
            present = {name: text for name, text in present.items() if name not in pins.extras}
        todo = missing_components(wanted, present)
        _check_space(prefix, todo)
        shutil.rmtree(prefix / ".scratch", ignore_errors=True)
        (prefix / ".scratch").mkdir(exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=prefix / ".scratch"))
        (prefix / "manifest.json").unlink(missing_ok=True)
        place = Workplace(prefix, scratch, lock_fd, pins)
        makers = _makers(place, machine)
        for name in todo:
            (prefix / ".parts" / name).unlink(missing_ok=True)
            makers[name]()
            write_whole(prefix / ".parts" / name, wanted[name])
        versions = steps.check(place, extras)
        shutil.rmtree(prefix / ".scratch", ignore_errors=True)
        say("hashing what was installed")
        files = hash_files(prefix)
        write_list(prefix, files)
        identity = {"versions": versions, "backends": backends}
        manifest = {"digest": digest_of(files), **identity, "components": wanted}
        write_whole(prefix / "manifest.json", json.dumps(manifest, indent=2) + "\n")
        programs = ", ".join(f"{name} {version}" for name, version in versions.items())
        say(f"ready: {programs} in {prefix}")


def _makers(place: Workplace, machine: Machine) -> dict[str, Callable[[], None]]:
    assert machine.glibc is not None
    analyzer = choose_perf_analyzer(place.pins, machine.glibc)
    makers: dict[str, Callable[[], None]] = {
        "python": lambda: steps.make_environment(place),
        "triton": lambda: steps.make_triton(place),
        "perf_analyzer": lambda: steps.make_perf_analyzer(place, analyzer),
        "backends": lambda: steps.make_backends(place),
    }
    for extra in place.pins.extras:
        makers[extra] = lambda extra=extra: steps.make_extra(place, extra)  # type: ignore[misc]
    return makers


def _check_space(prefix: Path, todo: list[str]) -> None:
    needed = NEEDED_BYTES if {"python", "triton"} & set(todo) else 0
    needed += sum(NEEDED_BYTES_EXTRAS.get(name, 0) for name in todo)
    free = shutil.disk_usage(prefix).free
    if free < needed:
        raise CannotServeError(
            f"The disk of {prefix} has {free / 1e6:.0f} MB free; the installation needs "
            f"{needed / 1e6:.0f} MB. Free some space or choose another folder."
        )


def verify(prefix: Path) -> int:
    """Say what differs from what was installed; returns the exit code."""
    manifest = read_manifest(prefix)
    if manifest is None:
        say(f"error: {prefix} holds no finished installation")
        return EXIT_CANNOT
    found = differences(prefix, manifest.get("digest"))
    again = f"to install it again: rm -r {prefix}; hpcbench native {prefix}"
    if found is None:
        say(f"error: {prefix} was installed by a version that noted no hashes; {again}")
        return EXIT_CANNOT
    for line in found[:MOST_DIFFERENCES]:
        say(line)
    if len(found) > MOST_DIFFERENCES:
        say(f"and {len(found) - MOST_DIFFERENCES} more")
    if found:
        say(f"error: {len(found)} files of {prefix} differ from what was installed; {again}")
        return EXIT_CANNOT
    say(f"{prefix} is as it was installed, digest {manifest['digest']}")
    return 0


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit code."""
    pins = load_pins()
    parser = argparse.ArgumentParser(
        prog="native.py", description="Install Triton and perf_analyzer into a prefix of their own."
    )
    parser.add_argument("prefix", metavar="PREFIX", type=Path, help="the folder to install into")
    parser.add_argument(
        "--with",
        dest="extras",
        action="append",
        default=[],
        choices=sorted(pins.extras),
        help="also serve TorchScript or TensorFlow models; may be given several times",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="install nothing; say which files differ from those that were installed",
    )
    options = parser.parse_args(arguments)
    prefix: Path = options.prefix.absolute()
    if options.verify:
        return verify(prefix)
    try:
        install(prefix, pins, options.extras)
    except CannotServeError as error:
        say(f"error: {error}")
        return EXIT_CANNOT
    except OSError as error:
        say(f"error: {explain_os_error(error, prefix)}")
        return EXIT_CANNOT
    except KeyboardInterrupt:
        say("interrupted; the same command again finishes the installation")
        return EXIT_INTERRUPTED
    return 0


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main(sys.argv[1:]))
