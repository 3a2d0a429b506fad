"""What a batch job runs, with Dask's real worker where it cannot start: its log says why."""

import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from hpcbench.cluster import batch, start_worker, submission
from hpcbench.cluster.batch import ThisJob
from hpcbench.config.site import Site


def last_line(*arguments: str) -> str:
    """The end of the log of a job that fails, which knows of a scheduler at which nobody is."""
    command = [
        sys.executable,
        "-m",
        "hpcbench.cluster.start_worker",
        "tcp://127.0.0.1:1",
        "--name",
        "w",
    ]
    command += ["--nthreads", "1", "--dashboard-address", "127.0.0.1:0", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_an_interface_that_a_node_lacks_is_named() -> None:
    line = last_line("--interface", "ib7")
    assert line.startswith("the worker failed: ")
    assert "'ib7' is not a valid network interface" in line


def test_a_port_that_is_in_use_is_reported() -> None:
    with closing(socket.socket()) as entry:
        entry.bind(("127.0.0.1", 0))
        entry.listen()
        port = str(entry.getsockname()[1])
        line = last_line("--host", "127.0.0.1", "--nanny-port", port)
    assert "Address already in use" in line


def test_a_scheduler_that_is_not_reached_is_named() -> None:
    line = last_line("--death-timeout", "1")
    assert line.endswith("timed out before it was connected to tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("ends_in_s", "walltime_s", "left_s"),
    [
        (90, "600", 90),
        (None, "600", 600),
        (90, None, 90),
        # The clock of the node is an hour ahead, and an hour behind.
        (600 - 3600, "600", 600),
        (600 + 3600, "600", 600),
    ],
)
def test_a_job_ends_when_its_batch_system_says_or_by_its_walltime_where_its_clock_is_wrong(
    monkeypatch: pytest.MonkeyPatch, ends_in_s: int | None, walltime_s: str | None, left_s: float
) -> None:
    monkeypatch.delenv(batch.WALLTIME, raising=False)
    if walltime_s:
        monkeypatch.setenv(batch.WALLTIME, walltime_s)
    # The process that stands for the shell of a job was started now.
    now = time.time()
    monkeypatch.setattr(start_worker.psutil.Process, "create_time", lambda _: now)
    job = ThisJob("1", "n1", None if ends_in_s is None else now + ends_in_s)
    assert left_s - 20 < start_worker._time_left_s(job) <= left_s


def test_a_job_that_nothing_ends_has_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(batch.WALLTIME, raising=False)
    assert start_worker._time_left_s(None) == float("inf")


def test_a_module_that_somebody_has_put_into_the_jobs_folder_does_not_run(tmp_path: Path) -> None:
    """Slurm starts a job in the folder that it was submitted from."""
    ran = tmp_path / "ran"
    for name in ("psutil", "dask", "logging"):
        (tmp_path / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write(__name__)")
    script = submission.job_script(Site.load("expanse"), "v100", account="phy1")
    (line,) = (line for line in script.splitlines() if "start_worker" in line)
    done = subprocess.run(
        [*line.partition("tls://")[0].split(), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert "--death-timeout" in done.stdout
    assert not ran.exists()
