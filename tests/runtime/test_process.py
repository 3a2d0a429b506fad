"""Programs are run to their end, killed in time, and never outlive the one who started them."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from hpcbench.runtime import process
from hpcbench.runtime.process import Command
from tests.helpers.waiting import wait_until


def alive(pid_file: Path) -> bool:
    try:
        return psutil.Process(int(pid_file.read_text())).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]


def hung(argv: list[str], folder: Path) -> process.FinishedProgram:
    """The end of a program that writes the file ``pid`` and hangs, by a limit that lets it write.

    How long this machine takes until the program has begun, nobody knows.
    """
    for limit_s in (1.5, 10.0, 60.0):
        done = process.run(Command(argv), folder=folder, timeout_s=limit_s)
        if (folder / "pid").exists() and (folder / "pid").read_text():
            return done
    raise AssertionError(done)


SLEEPER_IN_ITS_OWN_SESSION = """
    import os, pathlib, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    time.sleep(600)
"""


def test_output_and_exit_code_of_a_program_are_returned(tmp_path: Path) -> None:
    argv = ["sh", "-c", "echo out; echo err >&2; exit 7"]
    done = process.run(Command(argv), folder=tmp_path, timeout_s=120)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert (done.returncode, done.timed_out) == (7, False)


def test_a_program_ended_by_a_signal_has_code_128_plus_signal(tmp_path: Path) -> None:
    done = process.run(Command(["sh", "-c", "kill -ABRT $$"]), folder=tmp_path, timeout_s=120)
    assert done.returncode == 128 + signal.SIGABRT


def test_a_program_that_is_not_there_is_reported_by_name(tmp_path: Path) -> None:
    done = process.run(Command(["no-such-program"]), folder=tmp_path, timeout_s=120)
    assert done.returncode == 127
    assert "cannot start no-such-program: No such file" in done.stderr


def test_arguments_reach_the_program_as_they_are(tmp_path: Path) -> None:
    words = ["$(touch x)", "a b", "--", ";", "*"]
    done = process.run(Command(["printf", "%s\n", *words]), folder=tmp_path, timeout_s=120)
    assert done.stdout.splitlines() == words
    assert not (tmp_path / "x").exists()


def test_a_program_gets_its_cpus_and_this_process_keeps_its_own(tmp_path: Path) -> None:
    own = os.sched_getaffinity(0)
    code = "import os, subprocess, sys; print(os.sched_getaffinity(0)); sys.stdout.flush();"
    code += "os.fork() or print(os.sched_getaffinity(0))"
    argv, first = python(code), min(own)
    done = process.run(Command(argv, cpus=[first]), folder=tmp_path, timeout_s=120)
    assert done.stdout.splitlines() == [str({first})] * 2
    assert os.sched_getaffinity(0) == own
    assert process.run(Command(argv), folder=tmp_path, timeout_s=120).stdout.startswith(f"{own}\n")


def test_a_hung_program_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    done = hung(python(SLEEPER_IN_ITS_OWN_SESSION, tmp_path / "pid"), tmp_path)
    assert done.timed_out
    assert not alive(tmp_path / "pid")


def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    argv = ["sh", "-c", "trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done"]
    done = hung(argv, tmp_path)
    assert done.timed_out
    assert not alive(tmp_path / "pid")


def test_a_program_that_is_stopped_at_once_does_not_take_its_grace() -> None:
    nowhere = subprocess.DEVNULL
    for wait_s in (0, 0.02, 0.05):
        started = time.monotonic()
        with process.running(Command(["sleep", "600"]), stdout=nowhere, stderr=nowhere, grace_s=99):
            time.sleep(wait_s)
        assert time.monotonic() - started < 90


def test_what_a_program_leaves_running_ends_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    argv = ["sh", "-c", f"setsid sleep 600 & echo $! > {pid_file}"]
    assert process.run(Command(argv), folder=tmp_path, timeout_s=120).returncode == 0
    assert not alive(pid_file)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_program_dies_with_the_process_that_started_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    starter = subprocess.Popen(
        python(
            """
            import sys
            from pathlib import Path
            from hpcbench.runtime import process
            argv = ["sh", "-c", 'echo $$ > "$0"; exec sleep 600', sys.argv[2]]
            process.run(process.Command(argv), folder=Path(sys.argv[1]), timeout_s=600)
            """,
            folder,
            tmp_path / "pid",
        )
    )
    assert wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    assert alive(tmp_path / "pid")
    starter.send_signal(number)
    starter.wait()
    assert wait_until(lambda: not alive(tmp_path / "pid"))
    assert wait_until(lambda: not folder.exists()), "its folder was left behind"


def test_a_program_dies_with_its_supervisor(tmp_path: Path) -> None:
    argv = ["sh", "-c", "echo $PPID > supervisor; echo $$ > pid; exec sleep 600"]
    nowhere = subprocess.DEVNULL
    with process.running(Command(argv), stdout=nowhere, stderr=nowhere, cwd=tmp_path):
        assert wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        os.kill(int((tmp_path / "supervisor").read_text()), signal.SIGKILL)
        assert wait_until(lambda: not alive(tmp_path / "pid"))


def test_a_killed_supervisor_leaves_neither_children_nor_files(tmp_path: Path) -> None:
    argv = python(
        """
        import os, pathlib, subprocess, sys, time
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        pathlib.Path("region-1").touch()
        pathlib.Path("pids").write_text(f"{os.getppid()} {child.pid}")
        time.sleep(600)
        """
    )
    with process.running(
        Command(argv, remove=[f"{tmp_path}/region-*"]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    ) as program:
        assert wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
        supervisor, child = map(int, (tmp_path / "pids").read_text().split())
        os.kill(supervisor, signal.SIGKILL)
        program.wait(120)
    (tmp_path / "pid").write_text(str(child))
    assert wait_until(lambda: not alive(tmp_path / "pid"))
    assert not (tmp_path / "region-1").exists()


def test_a_starter_and_a_supervisor_that_are_killed_at_once_leave_nothing(tmp_path: Path) -> None:
    """Nor a process that would not die with its parent, as those in containers do not."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    program = """
        import os, pathlib, subprocess, sys, time
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        pathlib.Path("region-1").touch()
        pathlib.Path(sys.argv[1]).write_text(f"{os.getppid()} {os.getpid()} {child.pid}")
        time.sleep(600)
    """
    starter = subprocess.Popen(
        python(
            """
            import subprocess, sys, time
            from pathlib import Path
            from hpcbench.runtime import process
            quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            own = Path(sys.argv[1])
            command = process.Command(sys.argv[2:], remove=[f"{own}/region-*"])
            with process.running(command, cwd=own, orphaned=[str(own)], **quiet):
                time.sleep(600)
            """,
            *(folder, *python(program, tmp_path / "pids")),
        )
    )
    try:
        pids = tmp_path / "pids"
        assert wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 3)
        supervisor, *left = map(int, pids.read_text().split())
        guards = [
            child.pid
            for child in psutil.Process(supervisor).children()
            if "hpcbench-guard" in child.cmdline()
        ]
        assert len(guards) == 1
        for pid in (supervisor, starter.pid):
            os.kill(pid, signal.SIGKILL)
    finally:
        starter.kill()
        starter.wait()
    for pid in (*left, *guards):
        pids.write_text(str(pid))
        assert wait_until(lambda: not alive(pids)), pid
    assert not folder.exists()


def test_programs_do_not_inherit_what_changes_every_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("APPTAINER_BIND", "APPTAINERENV_PATH", "SINGULARITY_NV", "SINGULARITYENV_A")
    for name in names:
        monkeypatch.setenv(name, "/nowhere")
    env = {"APPTAINERENV_OURS": "1"}
    done = process.run(Command(["env"], env), folder=tmp_path, timeout_s=120)
    printed = [line for line in done.stdout.splitlines() if line.startswith(("APPT", "SING"))]
    assert [line for line in printed if process.MARK not in line] == ["APPTAINERENV_OURS=1"]


def test_programs_do_not_inherit_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "grpc_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    done = process.run(Command(["env"]), folder=tmp_path, timeout_s=120)
    assert "PATH=" in done.stdout
    assert "127.0.0.1:9" not in done.stdout


def test_files_of_a_program_are_removed_when_it_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "left"
    folder.mkdir()
    for name in ("region-1", "region-2", "other"):
        (folder / name).touch()
    with process.running(
        Command(["true"], remove=[f"{folder}/region-*"]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        orphaned=[str(folder / "other")],
    ) as program:
        program.wait(120)
    assert [path.name for path in folder.iterdir()] == ["other"]


def test_stopping_all_programs_interrupts_whoever_waits_for_one(tmp_path: Path) -> None:
    code = """
        import sys, threading
        from pathlib import Path
        from hpcbench.runtime import process
        from hpcbench.errors import Interrupted
        threading.Timer(0.5, process.stop_all).start()
        for attempt in ("running", "new"):
            try:
                command = process.Command(["sleep", "600"])
                process.run(command, folder=Path(sys.argv[1]), timeout_s=600)
            except Interrupted:
                print(attempt, "interrupted")
    """
    answer = subprocess.run(
        python(code, tmp_path), capture_output=True, text=True, timeout=240, check=True
    )
    assert answer.stdout.splitlines() == ["running interrupted", "new interrupted"]


def test_an_interrupted_program_gets_sigint_and_goes_on_as_it_likes(tmp_path: Path) -> None:
    script = "trap 'echo interrupted' INT; echo ready; while :; do sleep 0.05; done"
    written = tmp_path / "out"
    with (
        written.open("wb") as out,
        process.running(Command(["sh", "-c", script]), stdout=out, stderr=out) as program,
    ):
        assert wait_until(lambda: "ready" in written.read_text())
        program.interrupt()
        assert wait_until(lambda: "interrupted" in written.read_text())
        assert program.poll() is None
