"""The files of the native prefix and their hashes: what was installed, and what has changed since.

Standard library only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

LIST = "files.sha256"
"""In the prefix: a line "HASH  PATH" per file, as sha256sum writes it, and "link:END  PATH"."""

# What differs between two places, or between two patch versions of Python, and changes no
# measurement: links to the machine's Python, paths in pip's own notes, what Python compiles later.
_LEFT_OUT_FOLDERS = {"__pycache__", ".scratch", ".parts"}
_LEFT_OUT_NAMES = {".lock", LIST, "manifest.json", "pyvenv.cfg"}
_LEFT_OUT_NOTES = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
_INSTALLERS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")


def _files(prefix: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(prefix):
        where = Path(place)
        inside = where.relative_to(prefix)
        # A link to a folder is an entry of its own, and not followed.
        links = [name for name in folders if (where / name).is_symlink()]
        folders[:] = [
            name
            for name in folders
            if name not in _LEFT_OUT_FOLDERS
            and name not in links
            and not (inside.name == "site-packages" and name.startswith(_INSTALLERS))
            and (inside / name).parts != ("python", "bin")
        ]
        for name in (*names, *links):
            note = where.name.endswith(".dist-info") and name in _LEFT_OUT_NOTES
            installer = inside.name == "site-packages" and name.startswith(_INSTALLERS)
            if name not in _LEFT_OUT_NAMES and not note and not installer:
                yield where / name


def hash_files(prefix: Path) -> dict[str, str]:
    """The hash of each file by its path in the prefix; of a link, where it leads."""
    found = {}
    for path in _files(prefix):
        if path.is_symlink():
            text = f"link:{path.readlink()}"
        else:
            with path.open("rb") as stream:
                text = hashlib.file_digest(stream, "sha256").hexdigest()
        found[str(path.relative_to(prefix))] = text
    return dict(sorted(found.items()))


def digest_of(files: dict[str, str]) -> str:
    """A short sha256 (16 hex digits) of the files of a prefix, the same wherever it lies."""
    return hashlib.sha256(_text(files).encode(errors="surrogateescape")).hexdigest()[:16]


def write_list(prefix: Path, files: dict[str, str]) -> None:
    """Note the files of a prefix in it."""
    (prefix / LIST).write_text(_text(files), encoding="utf-8", errors="surrogateescape")


def _text(files: dict[str, str]) -> str:
    return "".join(f"{text}  {path}\n" for path, text in files.items())


def differences(prefix: Path, digest: str | None) -> list[str] | None:
    """What is not as it was installed, one line each; None where nobody noted how it was.

    ``digest`` is what the manifest says: a list that does not have it was changed itself.
    """
    try:
        text = (prefix / LIST).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    noted = dict(line.split("  ", 1)[::-1] for line in text.splitlines() if "  " in line)
    found = hash_files(prefix)
    changed = [f"changed: {path}" for path in noted if path in found and found[path] != noted[path]]
    missing = [f"missing: {path}" for path in noted if path not in found]
    added = [f"not installed by hpcbench: {path}" for path in found if path not in noted]
    listed = [f"changed: {LIST}"] if digest_of(noted) != digest else []
    return [*listed, *changed, *missing, *added]
