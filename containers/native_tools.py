"""Running programs, pip and Debian's package files for the native prefix: the I/O and its errors.

Standard library only. Everything that fails raises ``pins.CannotServeError`` with what to do.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pins import CannotServeError, Pins, Wheel

NO_NETWORK_SIGNS = (
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "Max retries exceeded",
    "Connection refused",
    "Network is unreachable",
    "Temporary failure in name resolution",
)
CHECK_TIMEOUT_S = 300
FULL_DISK_SIGNS = ("No space left on device", "Disk quota exceeded")


def say(text: str) -> None:
    """One line of progress on stderr."""
    print(f"native: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Result:
    """How a program ended: ``code`` as in subprocess, ``text`` of stdout and stderr together."""

    code: int
    text: str

    def tail(self, lines: int = 12) -> str:
        return "\n".join(self.text.strip().splitlines()[-lines:])


def die_with_parent() -> None:
    """To be called in a new child: the kernel kills it when this process dies, however it dies."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def run(
    argv: Sequence[str | Path],
    *,
    lock_fd: int,
    cwd: Path | None = None,
    timeout_s: float = 3600,
    extra_env: dict[str, str] | None = None,
) -> Result:
    """Run a program to its end. It dies with this process and holds the lock until it is dead."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    env.update(LC_ALL="C", ORT_DISABLE_TELEMETRY="1", **(extra_env or {}))
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            timeout=timeout_s,
            check=False,
            text=True,
            errors="replace",
            # A killed installer may leave its pip alive for a moment; while that holds the lock,
            # the next installer can't build under its feet.
            pass_fds=(lock_fd,),
            preexec_fn=die_with_parent,
        )
    except subprocess.TimeoutExpired as error:
        raise CannotServeError(f"{argv[0]} did not end within {timeout_s:.0f} s.") from error
    except FileNotFoundError as error:
        return Result(127, str(error))
    except PermissionError as error:
        return Result(126, str(error))
    return Result(done.returncode, done.stdout)


def explain_os_error(error: OSError, prefix: Path) -> str:
    """What an OSError during the installation means to the user."""
    where = error.filename or prefix
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk of {prefix} is full ({error.strerror}). Free some space, or choose another "
            "folder, and run the same command again: it goes on where it stopped."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"Cannot write {where} ({error.strerror}). Choose a folder that you own as PREFIX."
    return f"{where}: {error.strerror or error}."


def explain_pip(what: str, result: Result, prefix: Path) -> str:
    """What pip's output means to the user."""
    if any(sign in result.text for sign in FULL_DISK_SIGNS):
        return f"The disk of {prefix} filled up while pip fetched {what}. Free space and rerun."
    if any(sign in result.text for sign in NO_NETWORK_SIGNS):
        return (
            f"pip cannot reach its package index to fetch {what}. Check the network, or set "
            "PIP_INDEX_URL, PIP_PROXY or PIP_FIND_LINKS (a folder of wheels fetched elsewhere with "
            f"'pip download'), and run the same command again. pip said:\n{result.tail(3)}"
        )
    if "DO NOT MATCH THE HASHES" in result.text:
        return (
            f"A wheel of {what} is not the one whose hash is in containers/wheels-*.txt. A mirror "
            f"may have rebuilt it, or somebody may have replaced it. pip said:\n{result.tail(8)}"
        )
    return f"pip could not fetch {what}. It said:\n{result.tail()}"


@dataclass(frozen=True)
class Workplace:
    """The prefix under construction: ``scratch`` lies in it, ``lock_fd`` is the held lock."""

    prefix: Path
    scratch: Path
    lock_fd: int
    pins: Pins

    @property
    def python(self) -> Path:
        return self.prefix / "python/bin/python3"

    def run(self, *argv: str | Path, timeout_s: float = CHECK_TIMEOUT_S) -> Result:
        return run(argv, lock_fd=self.lock_fd, timeout_s=timeout_s)

    def pip_install_locked(self, name: str, what: str) -> None:
        """Install exactly the wheels of wheels-NAME.txt, which are known by their hashes."""
        pip(self, ["install", "-q", "--require-hashes", "-r", lock_file(name)], what)

    def pip_install(self, packages: Mapping[str, str], what: str) -> None:
        words = ["install", "-q", *(f"{name}=={version}" for name, version in packages.items())]
        pip(self, words, what)


def lock_file(name: str) -> Path:
    """The file with the hashes of the wheels of an extra, or of ``base``."""
    return Path(__file__).resolve().parent / f"wheels-{name}.txt"


def running_python() -> str:
    """The running Python's version as the stub and the pins name it, e.g. "3.11"."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def pip(place: Workplace, words: Sequence[str | Path], what: str) -> None:
    """Run pip quietly. Raises CannotServeError with what to do about its failure."""
    settings = {
        "PIP_USER": "0",
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "TMPDIR": str(place.scratch),
    }
    argv = [place.python, "-I", "-m", "pip", *words, "--only-binary", ":all:", "--retries", "3"]
    result = run(argv, lock_fd=place.lock_fd, extra_env=settings)
    if result.code != 0:
        raise CannotServeError(explain_pip(what, result, place.prefix))


def fetch_wheel(place: Workplace, wheel: Wheel) -> Path:
    """Download one pinned wheel into the scratch folder and check that it is the pinned file."""
    what = f"{wheel.package} {wheel.package_version}"
    say(f"fetching {what} ({wheel.megabytes} MB)")
    into = place.scratch / f"wheel-{wheel.package}-{wheel.package_version}"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    requirement = f"{wheel.package}=={wheel.package_version}"
    words: list[str | Path] = ["download", "-q", "--no-deps", "-d", into, requirement]
    pip(place, words, what)
    found = list(into.glob("*.whl"))
    if len(found) != 1:
        raise CannotServeError(
            f"pip left {len(found)} files in {into} instead of the wheel of {what}."
        )
    seen = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if seen != wheel.sha256:
        raise CannotServeError(
            f"The wheel of {what} that pip fetched is not the pinned file: its sha256 is {seen}, "
            f"containers/versions.toml says {wheel.sha256}. A mirror may have rebuilt it."
        )
    return found[0]


def unzip(archive: Path, into: Path, keep: Callable[[str], str | None]) -> None:
    """Unpack the members for which ``keep`` gives a path below ``into``; programs stay programs."""
    with zipfile.ZipFile(archive) as bundle:
        for member in bundle.infolist():
            name = keep(member.filename)
            if name is None or member.is_dir():
                continue
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with bundle.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            target.chmod(0o755 if (member.external_attr >> 16) & 0o111 else 0o644)


def fetch_deb(names: Sequence[str], into: Path, scratch: Path, lock_fd: int) -> bool:
    """Unpack the first of these Debian packages that apt knows into a folder; needs no root.

    Where apt has no lists yet, they are fetched into ``scratch``, not into the system.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return False
    own = scratch / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (own / folder).mkdir(parents=True, exist_ok=True)
    private = ["-o", f"Dir::State::lists={own}/lists", "-o", f"Dir::Cache={own}/cache"]
    for options in ([], private):
        if options and run(["apt-get", *options, "update", "-q"], lock_fd=lock_fd).code != 0:
            return False
        for name in names:
            argv = ["apt-get", *options, "download", "-q", name]
            if run(argv, lock_fd=lock_fd, cwd=own).code != 0:
                continue
            for package in own.glob(f"{name}_*.deb"):
                return run(["dpkg-deb", "-x", package, into], lock_fd=lock_fd).code == 0
    return False
