"""Programs that stand for those of a batch system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbench.records.folder import Results


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first in PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.fixture
def program(programs: Path) -> Callable[[str, str], None]:
    """Writes a shell script of that name into the folder."""

    def write(name: str, script: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)

    return write


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """An empty results folder."""
    (tmp_path / "results").mkdir()
    return Results(tmp_path / "results")


@pytest.fixture
def queue(programs: Path, program: Callable[[str, str], None]) -> Path:
    """A Slurm whose one job is there until it is cancelled; then this file is there."""
    gone = programs / "gone"
    program("squeue", f"test -e {gone} || echo '7|RUNNING|n1|None'")
    program("scancel", f"touch {gone}")
    return gone
