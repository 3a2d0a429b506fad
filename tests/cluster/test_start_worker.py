"""What a batch job runs, with Dask's real worker where it cannot start: its log says why."""

import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from hpcbench.cluster import submission
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
