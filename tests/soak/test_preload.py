"""The library that steps clocks and refuses new files, in a program that runs meanwhile."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.soak.preload import Preload, make_preload

# It takes a C compiler.
pytestmark = pytest.mark.soak

ANSWER = """
import sys, time
for line in sys.stdin:
    try:
        open(line.strip(), "w").close()
        made = "made"
    except OSError as error:
        made = error.strerror
    print(time.time(), made, flush=True)
"""


@pytest.fixture
def preload(tmp_path: Path) -> Preload:
    (tmp_path / "results").mkdir()
    return make_preload(tmp_path, tmp_path / "results")


@contextmanager
def program(preload: Preload) -> Iterator["subprocess.Popen[str]"]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    env = preload.variables(preload.driver)
    with subprocess.Popen([sys.executable, "-IS", "-c", ANSWER], env=env, **pipes) as process:
        yield process


def ask(process: "subprocess.Popen[str]", path: Path) -> tuple[float, str]:
    """How far its clock is ahead of this one, and what came of a new file."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{path}\n")
    process.stdin.flush()
    now, _, made = process.stdout.readline().strip().partition(" ")
    return float(now) - time.time(), made


def test_the_clock_of_one_machine_is_set_and_set_right(preload: Preload, tmp_path: Path) -> None:
    with program(preload) as process:
        for step_s in (0, 3600, -3600, 0):
            preload.driver.set_state(step_s=step_s)
            preload.jobs.set_state(step_s=7200)
            assert abs(ask(process, tmp_path / "file")[0] - step_s) < 60


def test_a_used_up_quota_refuses_new_files_in_the_results_only(
    preload: Preload, tmp_path: Path
) -> None:
    inside, outside = tmp_path / "results" / "file", tmp_path / "file"
    with program(preload) as process:
        preload.driver.set_state(quota_is_used_up=True)
        assert ask(process, inside)[1] == "Disk quota exceeded"
        assert ask(process, outside)[1] == "made"
        preload.driver.set_state()
        assert ask(process, inside)[1] == "made"
