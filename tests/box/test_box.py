"""The cluster on one machine, `tests/box/box`: what it promises to the tests that use it."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.box.fixture import BOX, Box, in_time
from tests.box.paths import Places
from tests.helpers.waiting import wait_until

# The first test waits for the box, which may have to be built.
pytestmark = [pytest.mark.box, pytest.mark.timeout(1200)]
HOME = Path("/home/physicist")
DAEMONS = {
    *("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd"),
    *("condor_master", "condor_schedd", "condor_startd", "condor_collector", "condor_negotiator"),
}
numbers = itertools.count()


@pytest.fixture
def folder(box: Box) -> str:
    """A new folder in the user's home, which every node sees."""
    path = f"{HOME}/test-{os.getpid()}-{next(numbers)}"
    box.said("mkdir", path)
    return path


def sbatch(box: Box, *options: str, script: str) -> str:
    return box.said("sbatch", "--parsable", *options, stdin=f"#!/bin/bash\n{script}\n")


def job(box: Box, number: str) -> str:
    words = box.said("scontrol", "--oneliner", "show", "job", number).split()
    return dict(word.partition("=")[::2] for word in words)["JobState"]


def node(box: Box, name: str) -> str:
    words = box.said("scontrol", "--oneliner", "show", "node", name).split()
    return dict(word.partition("=")[::2] for word in words)["State"]


def text(box: Box, file: str) -> str:
    return box.exec("cat", file).stdout


class TestExec:
    def test_runs_as_the_user_in_the_projects_folder_with_hpcbench(self, box: Box) -> None:
        code = (
            "import os, getpass, hpcbench; print(getpass.getuser(), os.getcwd(), hpcbench.__file__)"
        )
        checkout = BOX.parent.parent.parent
        expected = f"physicist {checkout} {checkout}/hpcbench/__init__.py"
        assert box.said("python", "-c", code) == expected
        assert box.said("hpcbench", "--version")
        assert box.said("id", "-u", root=True) == "0"
        assert box.stranger_said("sh", "-c", "id -un; id -Gn; pwd; echo $HOME").split() == [
            *("stranger", "stranger", str(checkout), "/home/stranger"),
        ]

    def test_passes_arguments_as_they_are(self, box: Box) -> None:
        odd = ["", "two words", "$HOME", "'", '"', "*", "new\nline", "--root", "-", "\\", "ä"]
        code = "import json, sys; print(json.dumps(sys.argv[1:]))"
        assert json.loads(box.said("python", "-c", code, *odd)) == odd

    def test_passes_exit_codes_streams_and_input(self, box: Box) -> None:
        done = box.exec("sh", "-c", "cat; echo no >&2; exit 41", stdin="what came in")
        assert (done.returncode, done.stdout, done.stderr) == (41, "what came in", "no\n")
        assert box.exec("sh", "-c", "kill -9 $$").returncode == 128 + 9
        assert box.exec("no-such-command").returncode == 127

    def test_hands_signals_on_and_does_not_leave_its_command_behind(self, box: Box) -> None:
        trap = 'trap "echo asked; exit 5" TERM; echo ready; while :; do sleep 0.1; done'
        with subprocess.Popen([BOX, "exec", "bash", "-c", trap], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 5
        with subprocess.Popen([BOX, "exec", "sleep", "86399"]) as process:
            assert wait_until(lambda: box.exec("pgrep", "-f", "^sleep 86399").returncode == 0)
            process.kill()
        assert wait_until(lambda: box.exec("pgrep", "-f", "^sleep 86399").returncode == 1)

    def test_keeps_the_checkout_read_only_but_results_writable(self, box: Box) -> None:
        assert box.exec("touch", "pyproject.toml", root=True).returncode == 1
        name = f"results/box-{os.getpid()}"
        box.said("mkdir", name)
        try:
            assert (BOX.parent.parent.parent / name).is_dir()
        finally:
            box.said("rmdir", name)


class TestSlurm:
    @pytest.mark.parametrize("partition", ["gpu", "debug"])
    def test_gives_each_job_a_gpu_of_its_own(self, box: Box, folder: str, partition: str) -> None:
        options = ["-p", partition, "-w", "n2", "--gres=gpu:1", "-o", f"{folder}/%j"]
        # Each waits until both have begun: one that is over gives its GPU to the other.
        both = f"until [ $(ls {folder}/began-* | wc -l) = 2 ]; do sleep 0.2; done"
        script = (
            f'echo "$(hostname) $CUDA_VISIBLE_DEVICES"; touch {folder}/began-$SLURM_JOB_ID; {both}'
        )
        jobs = [sbatch(box, *options, script=script) for _ in range(2)]
        assert in_time(lambda: {job(box, number) for number in jobs} == {"COMPLETED"}, 180)
        assert {text(box, f"{folder}/{number}") for number in jobs} == {"n2 0\n", "n2 1\n"}

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("--partition=nowhere", "invalid partition specified: nowhere"),
            ("--qos=premium", "Invalid qos specification"),
            ("--account=chemistry", "Invalid account or account/partition combination"),
            ("--gres=gpu:3", "Requested node configuration is not available"),
        ],
    )
    def test_refuses_with_its_own_words(self, box: Box, option: str, message: str) -> None:
        done = box.exec("sbatch", option, "--wrap", "true")
        assert done.returncode == 1
        assert message in done.stderr

    def test_a_failed_node_is_down_and_its_job_dead_until_it_is_restored(
        self, box: Box, folder: str
    ) -> None:
        # A child that left its session is part of the node, too.
        script = f"touch {folder}/began; setsid sleep 86398 & sleep 86398"
        doomed = sbatch(box, "-w", "n1", "--no-requeue", "-o", "/dev/null", script=script)
        assert in_time(lambda: box.exec("test", "-e", f"{folder}/began").returncode == 0, 120)
        assert in_time(lambda: box.exec("pgrep", "-fc", "^sleep 86398").stdout == "2\n", 60)
        box.do("fail", "n1")
        assert box.exec("pgrep", "-f", "^sleep 86398|slurmd -D -N n1").returncode == 1
        assert box.said("pgrep", "-fc", "^slurmd -D -N n2") == "1"
        assert in_time(lambda: "DOWN" in node(box, "n1"), 180)
        assert "NOT_RESPONDING" in node(box, "n1")
        assert in_time(lambda: job(box, doomed) == "NODE_FAIL", 120)
        box.do("restore", "n1")
        assert node(box, "n1") == "IDLE"
        again = sbatch(box, "-w", "n1", "-o", "/dev/null", script="true")
        assert in_time(lambda: job(box, again) == "COMPLETED", 120)

    def test_a_node_restored_at_once_does_not_keep_its_dead_job(
        self, box: Box, folder: str
    ) -> None:
        script = f"touch {folder}/began; sleep 86397"
        doomed = sbatch(box, "-w", "n2", "--no-requeue", "-o", "/dev/null", script=script)
        assert in_time(lambda: box.exec("test", "-e", f"{folder}/began").returncode == 0, 120)
        box.do("fail", "n2")
        box.do("restore", "n2")
        assert in_time(lambda: job(box, doomed) == "NODE_FAIL", 120)


class TestHTCondor:
    def test_gives_each_job_a_gpu_of_its_own(self, box: Box, folder: str) -> None:
        lines = ["executable = /bin/sh", "request_gpus = 1", "request_memory = 100", "queue 2"]
        # $(...) is condor_submit's own. Each waits until both have begun, as above.
        both = f"until test -e {folder}/began-0 -a -e {folder}/began-1; do sleep 0.2; done"
        shell = "echo `hostname` $_CONDOR_AssignedGPUs $CUDA_VISIBLE_DEVICES"
        shell += f"; touch {folder}/began-$(Process); {both}"
        lines[1:1] = [f"arguments = \"-c '{shell}'\"", f"output = {folder}/$(Process)"]
        lines[1:1] = [f"log = {folder}/log"]
        box.said("condor_submit", "-", stdin="\n".join(lines))
        box.said("condor_wait", "-wait", "200", f"{folder}/log")
        given = {text(box, f"{folder}/{number}") for number in range(2)}
        assert given == {"c1 CUDA0 CUDA0\n", "c1 CUDA1 CUDA1\n"}

    def test_a_job_of_a_failed_node_starts_again_when_it_is_restored(
        self, box: Box, folder: str
    ) -> None:
        shell = f"echo began >>{folder}/began; test `wc -l <{folder}/began` = 2 || sleep 86396"
        lines = ["executable = /bin/sh", f"arguments = \"-c '{shell}'\"", f"log = {folder}/log"]
        box.said("condor_submit", "-", stdin="\n".join([*lines, "queue"]))
        assert in_time(lambda: text(box, f"{folder}/began") == "began\n", 180)
        box.do("fail", "c1")
        assert box.exec("pgrep", "-f", "sleep 86396|condor_startd").returncode == 1
        box.do("restore", "c1")
        box.said("condor_wait", "-wait", "200", f"{folder}/log")


def test_apptainer_runs_an_image_as_the_user_inside_a_job(box: Box, folder: str) -> None:
    # A shell, the libraries it needs, and the folders that apptainer mounts on.
    make = """
    set -e; root=$(mktemp -d); cd "$root"; chmod 755 .
    mkdir -p bin lib64 lib/x86_64-linux-gnu etc proc sys dev tmp home usr/bin var/tmp
    cp /bin/dash bin/sh; cp /usr/bin/id /usr/bin/cat bin/
    for program in bin/*; do ldd $program; done | grep -o '/lib[^ ]*' | sort -u |
        while read -r library; do mkdir -p .${library%/*}; cp -L $library .$library; done
    touch etc/passwd etc/group etc/hosts etc/resolv.conf
    echo in the image >etc/where
    apptainer -q build "$0/image.sif" "$root"
    chmod 644 "$0/image.sif"; rm -rf "$root"
    """
    box.said("bash", "-c", make, folder, root=True)
    script = f"apptainer -q exec {folder}/image.sif sh -c 'cat /etc/where; id -un'"
    number = sbatch(box, "--gres=gpu:1", "-o", f"{folder}/out", script=script)
    assert in_time(lambda: job(box, number) in {"COMPLETED", "FAILED"}, 180)
    assert text(box, f"{folder}/out") == "in the image\nphysicist\n"


def running(names: set[str]) -> dict[int, str]:
    """The programs of these names in this box; another one may be up on the same machine."""
    first = psutil.Process(json.loads(Places.here().running.read_text())["pid"])
    found = {}
    for process in first.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found[process.pid] = process.name()
    return {pid: name for pid, name in found.items() if name in names}


def alive(pid: int) -> bool:
    # None where it is gone, and empty while it is being taken away.
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).cmdline())
    return False


def test_down_leaves_no_daemon_no_job_and_no_mount(box: Box, folder: str) -> None:
    script = f"touch {folder}/began; setsid sleep 86395 & sleep 86395"
    sbatch(box, "-o", "/dev/null", script=script)
    assert in_time(lambda: box.exec("test", "-e", f"{folder}/began").returncode == 0, 120)
    wanted = {*DAEMONS, "sleep"}
    assert in_time(lambda: set(running(wanted).values()) >= wanted, 60)
    before = running(wanted)
    box.do("down")
    try:
        assert not [name for pid, name in before.items() if alive(pid)]
        root = str(Places.here().root)
        assert root not in Path("/proc/self/mountinfo").read_text()
        box.do("down")
        done = box.exec("true")
        assert done.returncode == 3
        assert "tests/box/box up" in done.stderr
    finally:
        box.do("up")
    assert box.said("squeue", "--noheader") == ""


def test_two_ups_at_once_make_one_box(box: Box) -> None:
    box.do("down")
    ups = [subprocess.Popen([sys.executable, BOX, "up"], stderr=subprocess.PIPE) for _ in range(2)]
    said = [up.communicate(timeout=240)[1].decode() for up in ups]
    assert [up.returncode for up in ups] == [0, 0]
    assert sum("already up" in words for words in said) == 1
    assert list(running(DAEMONS).values()).count("slurmctld") == 1
