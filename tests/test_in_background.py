"""What runs with the CPUs that other tests leave."""

import os
import subprocess
import sys
from pathlib import Path

from tests import in_background
from tests.helpers.paths import CHECKOUT


def in_the_background(code: str) -> "subprocess.CompletedProcess[str]":
    program = CHECKOUT / "tests" / "in_background.py"
    words = [sys.executable, str(program), sys.executable, "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_a_command_in_the_background_keeps_its_exit_code() -> None:
    assert in_the_background("raise SystemExit(7)").returncode == 7


def test_a_command_in_the_background_has_less_of_the_cpus_than_others() -> None:
    code = "import os; print(os.nice(0), open('/proc/self/cgroup').read())"
    nice, _, groups = in_the_background(code).stdout.partition(" ")
    assert in_background.NAME in groups or int(nice) == os.nice(0) + in_background.NICE


def test_a_process_joins_the_group_by_the_files_of_either_version(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    (first / "cpu").mkdir(parents=True)
    second.mkdir()
    (second / "cgroup.controllers").write_text("cpu memory")
    for mounts, file in ((first, "cpu.shares"), (second, "cpu.weight")):
        group = in_background.join_group(mounts)
        assert group is not None
        assert (group / "cgroup.procs").read_text() == str(os.getpid())
        assert int((group / file).read_text()) < 1024
    assert in_background.join_group(tmp_path / "3") is None
