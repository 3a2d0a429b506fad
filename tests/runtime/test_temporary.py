"""Temporary folders go with their process, however it ends, and never before it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from hpcbench.runtime import process, supervisor, temporary
from tests.helpers.stranger import UID, needs_root
from tests.helpers.waiting import wait_until

HOLDS_ONE = """
import sys, time
from pathlib import Path
from hpcbench.runtime.temporary import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "models").mkdir()
    print(folder, flush=True)
    time.sleep(300)
"""


@pytest.fixture(autouse=True)
def own_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a folder."""
    words = [sys.executable, "-c", HOLDS_ONE, str(parent)]
    program = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    with program.stdout as stream:
        return program, Path(stream.readline().strip())


def kill(program: subprocess.Popen[str]) -> None:
    program.kill()
    program.wait()


def test_what_a_killed_process_has_left_is_deleted_and_what_a_living_one_holds_is_kept(
    tmp_path: Path,
) -> None:
    dead, abandoned = holder(tmp_path)
    living, kept = holder(tmp_path)
    kill(dead)
    foreign = tmp_path / f"{supervisor.FOLDER_PREFIX}foreign"
    foreign.symlink_to(kept)
    temporary.sweep(tmp_path)
    try:
        assert not abandoned.exists()
        assert (kept / "models").is_dir()
        assert foreign.is_symlink()
    finally:
        kill(living)


def test_the_end_of_a_program_is_the_occasion_also_where_its_supervisor_was_killed(
    tmp_path: Path,
) -> None:
    command = process.Command(["sleep", "300"], sweep=[str(tmp_path)])
    for kills in (False, True):
        dead, abandoned = holder(tmp_path)
        kill(dead)
        nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with process.running(command, **nowhere) as program:
            assert abandoned.exists()
            if kills:
                os.kill(program.pid, 9)
        assert not abandoned.exists()


def test_the_folder_of_a_block_is_gone_after_it_and_is_nobody_elses(tmp_path: Path) -> None:
    with temporary.temporary_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o077 == 0
        temporary.sweep(tmp_path)
        (folder / "file").write_text("x")
    assert not folder.exists()


@needs_root
def test_the_folder_of_a_stranger_is_kept(tmp_path: Path) -> None:
    foreign = tmp_path / f"{supervisor.FOLDER_PREFIX}foreign"
    foreign.mkdir()
    os.chown(foreign, UID, UID)
    temporary.sweep(tmp_path)
    assert foreign.is_dir()


def test_empty_folders_of_the_python_backend_go_with_the_servers_that_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed Triton leaves one. One that a server may still need stays."""
    began = time.time()
    monkeypatch.setattr(supervisor, "_started_at", began)
    # Servers of other tests end at this moment, too, and with them what nobody needs in /tmp.
    monkeypatch.setattr(supervisor, "ENVIRONMENTS", f"{tmp_path}/python_env_*")
    server = tmp_path / "tritonserver"
    server.symlink_to(sys.executable)
    made = Path(tempfile.mkdtemp(prefix="python_env_", dir=tmp_path))
    os.utime(made, (began + 5, began + 5))
    words = [server, "-c", "import sys, time; print(flush=True); time.sleep(300)"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        supervisor.remove_abandoned(str(tmp_path))
        assert made.is_dir(), "a server that is older may have made it"
        program.kill()
    assert wait_until(lambda: program.poll() is not None)
    (made / "0").mkdir()
    supervisor.remove_abandoned(str(tmp_path))
    assert made.is_dir(), "it has an environment in it"
    (made / "0").rmdir()
    os.utime(made, (began - 60, began - 60))
    supervisor.remove_abandoned(str(tmp_path))
    assert made.is_dir(), "it is older than the program, and not old"
    os.utime(made, (began - 7200, began - 7200))
    supervisor.remove_abandoned(str(tmp_path))
    assert not made.exists()
