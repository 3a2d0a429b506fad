"""Campaigns on the real Slurm and HTCondor of the box, also while things break."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from hpcbench import load_results
from hpcbench.cluster import start_worker
from tests.box.fixture import BOX, Box, in_time
from tests.box.stranger import planted, reached
from tests.helpers.paths import CHECKOUT
from tests.helpers.real import QUICK, UNHURRIED, campaign_file
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.box, pytest.mark.timeout(1200)]
USER = 20017
# The brackets keep pgrep from finding the shell that was given this pattern.
JOB = start_worker.__name__.replace(".", "[.]")
OURS = f"{JOB}|tritonserver|perf_analyzer|supervisor[.]py|hpcbench-guard|hpcbench run"
numbers = itertools.count()


class Study:
    """One campaign on one site, in a results folder that the whole box sees."""

    def __init__(self, box: Box, folder: Path, scheduler: str, models: Path) -> None:
        self.box = box
        self.folder = folder
        self.results = folder / "results"
        self.scheduler = scheduler
        self._models = models

    def write(self, *, site: dict[str, Any] | None = None, **campaign: Any) -> None:
        """The two files; a pool named in ``site`` is joined with the profile's own."""
        profile = yaml.safe_load((CHECKOUT / f"site_configs/box-{self.scheduler}.yaml").read_text())
        changes = dict(site or {})
        # Two workers show what four would, for half of the CPU.
        pool = profile["pools"]["gpu"] | {"max_jobs": 2} | changes.pop("pool", {})
        profile["pools"] = {"gpu": {key: value for key, value in pool.items() if value is not None}}
        content = yaml.safe_dump(profile | changes)
        (self.folder / "site.yaml").write_text(content)
        campaign_file(self.folder, self._models, **campaign)
        for path in self.folder.iterdir():
            os.chown(path, USER, USER)

    def command(self, verb: str = "run") -> list[str]:
        files = [str(self.folder / name) for name in ("campaign.yaml", "site.yaml")]
        if verb == "run":
            return ["hpcbench", verb, files[0], "--site", files[1], "--results", str(self.results)]
        return ["hpcbench", verb, str(self.results)]

    def run(self, timeout_s: float = 800) -> subprocess.CompletedProcess[str]:
        return self.box.exec(*self.command(), timeout_s=timeout_s)

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """The command in the background."""
        argv = [str(BOX), "exec", *self.command()]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, **pipes) as process:
            try:
                yield process
            finally:
                process.terminate()
                process.wait(240)

    def records(self) -> int:
        return len(list(self.results.glob("records/[!.]*.parquet")))

    def log(self) -> str:
        """What the driver has noted, for whoever must find out why a test failed."""
        return "\n" + "\n".join(path.read_text() for path in self.results.glob("logs/driver*.log"))

    def frame(self) -> pd.DataFrame:
        return load_results(self.results)

    def driver(self) -> list[str]:
        return self.box.exec(
            "pgrep", "-f", f"^[^ ]*python[^ ]* .*hpcbench run .*{self.folder}"
        ).stdout.split()

    def pids(self, pattern: str) -> list[str]:
        return self.box.exec("pgrep", "-f", pattern).stdout.split()

    def queue(self) -> str:
        if self.scheduler == "slurm":
            return self.box.said("squeue", "--noheader")
        return self.box.said("condor_q", "-af", "ClusterId")

    def check_nothing_is_left(self) -> None:
        assert in_time(lambda: not self.queue(), 45), self.queue()
        assert in_time(lambda: not self.pids(OURS), 45), self.box.exec("pgrep", "-fa", OURS).stdout
        assert not (self.results / ".keys").exists()

    def check_each_point_once(self, wanted: int) -> pd.DataFrame:
        """All are there, measured, and no row twice, also among those that load_results drops."""
        frame = self.frame()
        keys = ["point_id", "pool", "repeat"]
        raw = pd.concat(pd.read_parquet(p) for p in self.results.glob("records/[!.]*.parquet"))
        assert len(frame) == wanted
        twice = raw[raw.duplicated(keys, keep=False)]
        columns = [*keys, "job_id", "node", "status", "started_at", "ended_at"]
        assert twice.empty, twice[columns].sort_values(keys).to_string() + self.log()
        assert set(frame["status"]) <= {"ok", "unstable"}, list(frame["reason"])
        return frame


@pytest.fixture(params=["slurm", "htcondor"])
def scheduler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def study(box: Box, demo_models: Path, scheduler: str) -> Iterator[Study]:
    folder = CHECKOUT / "results" / f"box-{os.getpid()}-{next(numbers)}"
    folder.mkdir(parents=True)
    os.chown(folder, USER, USER)
    its = Study(box, folder, scheduler, demo_models)
    its.write()
    yield its
    its.check_nothing_is_left()
    shutil.rmtree(folder)


slurm_only = pytest.mark.parametrize("scheduler", ["slurm"], indirect=True)
condor_only = pytest.mark.parametrize("scheduler", ["htcondor"], indirect=True)

LONG: dict[str, Any] = {
    "server": UNHURRIED | {"max_queue_delay_us": [10_000, 20_000]},
    "load": {"batch_size": [1, 2], "concurrency": 2},
    "repeats": 2,
}
"""Four placements of two points."""

SLOW: dict[str, Any] = LONG | {"measurement": {**QUICK, "measurement_interval_ms": 400}}

LONGER: dict[str, Any] = SLOW | {
    "repeats": 1,
    "load": {"batch_size": [1, 2, 3, 4, 5, 6], "concurrency": 2},
}
"""Two placements of six points, a quarter of a minute each."""

ENDLESS: dict[str, Any] = SLOW | {"load": {"batch_size": list(range(1, 40)), "concurrency": 2}}
"""It is ended before it ends."""

ONE_JOB: dict[str, Any] = {"pool": {"max_jobs": 1}}
"""A second one would show nothing more, and costs ten seconds of CPU."""


def test_a_campaign_measures_each_point_once_on_several_workers(study: Study) -> None:
    """Each on a GPU that no other has at that time; afterwards there is nothing left to submit."""
    study.write(site={"pool": {"max_jobs": 4}}, **LONG)
    done = study.run()
    assert done.returncode == 0, done.stderr
    if study.scheduler == "htcondor":
        # There are two GPUs for four jobs. Slurm has four, and a test of its own.
        assert re.search(r"jobs? waiting", done.stderr)
    frame = study.check_each_point_once(8)
    assert frame["job_id"].nunique() >= 2
    assert set(frame["runtime"]) == {"native"}
    assert (frame["throughput_infer_per_s"] > 0).all()
    check_gpus_were_not_shared(frame)
    logs = [path.stat().st_size for path in study.results.glob("logs/*.server.log")]
    assert len(logs) == 4
    assert max(logs) < 100_000, "a server's log grows with its requests"

    jobs = (study.results / "jobs.jsonl").read_text()
    assert study.run().returncode == 0
    assert (study.results / "jobs.jsonl").read_text() == jobs


@slurm_only
def test_repeats_of_a_point_are_measured_on_different_nodes(study: Study) -> None:
    """By a first run, and by one that goes on with an interrupted session."""
    one_a_node = {"directives": ["--exclusive"], "max_jobs": 2}
    study.write(site={"pool": one_a_node}, **LONG | {"repeats": 1})
    assert study.run().returncode == 0
    study.write(site={"pool": one_a_node}, **LONG | {"repeats": 4})
    done = study.run()
    assert done.returncode == 0, done.stderr
    frame = study.check_each_point_once(16)
    assert set(frame["node"]) == {"n1", "n2"}
    # Not of the first two repeats: a job that starts late leaves more of them to the other node.
    counts = frame.groupby(["point_id", "node"]).size()
    assert (counts == 2).all(), counts


def check_gpus_were_not_shared(frame: pd.DataFrame) -> None:
    assert frame["cuda_visible_devices"].notna().all()
    spans = [
        (
            its["node"].iloc[0],
            set(its["cuda_visible_devices"]),
            its["started_at"].min(),
            its["ended_at"].max(),
        )
        for _, its in frame.groupby("job_id")
    ]
    for one, other in itertools.combinations(spans, 2):
        together = one[2] < other[3] and other[2] < one[3]
        assert not (together and one[0] == other[0] and one[1] & other[1])


class TestBreakage:
    @slurm_only
    def test_a_node_that_dies_costs_no_point(self, study: Study) -> None:
        study.write(**LONGER)
        try:
            with study.running() as process:
                assert in_time(lambda: study.records() >= 2, 300)
                study.box.do("fail", "n1")
                output, _ = process.communicate(timeout=500)
                assert process.returncode == 0, output
        finally:
            study.box.do("restore", "n1")
        frame = study.check_each_point_once(12)
        assert "n2" in set(frame["node"])

    @condor_only
    def test_a_node_that_dies_and_comes_back_costs_no_point(self, study: Study) -> None:
        study.write(**LONGER)
        with study.running() as process:
            try:
                assert in_time(lambda: study.records() >= 2, 300)
                study.box.do("fail", "c1")
            finally:
                study.box.do("restore", "c1")
            output, _ = process.communicate(timeout=800)
            assert process.returncode == 0, output
        study.check_each_point_once(12)

    @slurm_only
    def test_a_killed_worker_costs_the_point_it_was_in_and_nothing_else(self, study: Study) -> None:
        study.write(**LONGER)
        with study.running() as process:
            assert in_time(lambda: study.records() >= 2, 300)
            early = study.frame()
            before = set(early["point_id"] + early["repeat"].astype(str))
            study.box.said("bash", "-c", KILL_A_WORKER)
            output, _ = process.communicate(timeout=500)
            assert process.returncode == 0, output
        assert "worker lost" in output
        frame = study.check_each_point_once(12)
        assert before <= set(frame["point_id"] + frame["repeat"].astype(str))

    @pytest.mark.parametrize(
        ("scheduler", "patient"),
        [("slurm", False), ("htcondor", True)],
        ids=["slurm, at once", "htcondor, later"],
        indirect=["scheduler"],
    )
    def test_after_a_killed_driver_the_same_command_goes_on(
        self, study: Study, patient: bool
    ) -> None:
        study.write(**LONGER)
        with study.running():
            assert in_time(lambda: study.records() >= 2, 300)
            for pid in study.driver():
                study.box.said("kill", "-9", pid)
            before = study.records()
            if patient:
                # Without a driver the workers end by themselves, with their Triton.
                assert in_time(lambda: not study.pids(OURS), 240), study.pids(OURS)
                assert in_time(lambda: not study.queue(), 120)
                status = study.box.said(*study.command("status"))
                assert "the last driver was killed" in status
        assert before >= 2
        done = study.run()
        assert done.returncode == 0, done.stderr
        study.check_each_point_once(12)

    @slurm_only
    @pytest.mark.parametrize(
        ("minutes", "jobs", "delays", "changes"),
        [
            # A job of a minute would be over when a busy machine has started its worker and Triton.
            (2, 1, [20_000], {"measurement_interval_ms": 800}),
            pytest.param(
                *(2, 4, [10_000, 20_000, 30_000], {"measurement_interval_ms": 1000}),
                marks=pytest.mark.soak,
            ),
        ],
    )
    def test_a_campaign_outlasts_the_walltime_of_its_jobs(
        self, study: Study, minutes: int, jobs: int, delays: list[int], changes: dict[str, Any]
    ) -> None:
        study.write(
            site={"pool": {"walltime": f"00:0{minutes}:00", "max_jobs": jobs}},
            load={"batch_size": list(range(1, 42)), "concurrency": 1},
            measurement=QUICK | changes,
            server=UNHURRIED | {"max_queue_delay_us": delays},
        )
        plan = json.loads(
            study.box.said(*study.command()[:1], "plan", *study.command()[2:5], "--json")
        )
        assert sum(p["estimate_s"] for p in plan["placements"]) > 60 * minutes * jobs
        done = study.run(timeout_s=1000)
        assert done.returncode == 0, done.stderr
        frame = study.check_each_point_once(41 * len(delays))
        assert frame["job_id"].nunique() > jobs
        # On a busy machine a job that has nothing to do any more may still end by its walltime; a
        # point never does.
        log = study.log()
        assert "is nearly over" in log, log
        assert "its worker was killed" not in log, log


KILL_A_WORKER = rf"""
for job in $(pgrep -f -- '-m {JOB}'); do
    for worker in $(pgrep -P "$job" -f spawn_main); do
        kill -9 "$worker" && exit 0
    done
done
exit 1
"""


class TestEnding:
    @pytest.mark.parametrize(
        ("scheduler", "number"),
        [("slurm", signal.SIGINT), ("htcondor", signal.SIGTERM)],
        indirect=["scheduler"],
    )
    def test_a_signal_cancels_the_jobs(self, study: Study, number: signal.Signals) -> None:
        study.write(site=ONE_JOB, **ENDLESS)
        with study.running() as process:
            assert in_time(lambda: study.records() >= 1, 300)
            (pid, *_) = study.driver()
            study.box.said("kill", f"-{number.value}", pid)
            output, _ = process.communicate(timeout=500)
            assert process.returncode == 130, output
            assert "Traceback" not in output
        study.check_nothing_is_left()
        assert 1 <= len(study.frame()) < 4 * 39

    @slurm_only
    def test_a_run_that_is_stopped_while_it_submits_submits_nothing_more(
        self, study: Study
    ) -> None:
        delays = list(range(1, 121))
        study.write(
            site={"pool": {"max_jobs": len(delays)}},
            server={"preferred_batch_size": [[4]], "max_queue_delay_us": delays},
            load={"batch_size": [1], "concurrency": 1},
        )
        ledger = study.results / "jobs.jsonl"

        def jobs() -> int:
            return ledger.read_text().count('"job"') if ledger.exists() else 0

        with study.running() as process:
            assert wait_until(lambda: jobs() >= 5, 240)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=500)
            assert process.returncode == 130, output
        assert jobs() < len(delays)
        study.check_nothing_is_left()

    @slurm_only
    def test_cancel_ends_this_run_from_another_shell_and_no_other_job(self, study: Study) -> None:
        """Until then another user reaches nothing of it, on the login node and on the others."""
        study.write(site=ONE_JOB | {"network": {"interface": "eth0"}}, **ENDLESS)
        foreign = foreign_job(study)
        try:
            with planted(study.box, study.folder / "precious"), study.running() as process:
                assert in_time(lambda: study.records() >= 1, 300)
                check_that_nobody_else_can_talk_to(study)
                found = reached(study.box, study.results)
                # Triton's Python backend gives these a mode of its own (docs/security.md).
                assert not [line for line in found if " /dev/shm/hpcbench-" not in line], found
                state = json.loads(study.box.said(*study.command("status"), "--json"))
                assert state["active"]
                assert state["jobs"]["gpu"]["running"] >= 1
                study.box.said(*study.command("cancel"))
                output, _ = process.communicate(timeout=500)
                assert process.returncode == 130, output
            assert foreign in study.queue()
        finally:
            study.box.exec("scancel", foreign)

    @condor_only
    def test_cancel_ends_what_a_killed_driver_left_and_no_other_job(self, study: Study) -> None:
        study.write(site=ONE_JOB, **ENDLESS)
        foreign = foreign_job(study)
        with study.running():
            assert in_time(lambda: study.records() >= 1, 300)
            for pid in study.driver():
                study.box.said("kill", "-9", pid)
        study.box.said(*study.command("cancel"))
        assert in_time(lambda: study.queue().split() == [foreign], 45), study.queue()
        study.box.said("condor_rm", foreign)
        study.check_nothing_is_left()


def foreign_job(study: Study) -> str:
    """The id of a job that has nothing to do with hpcbench."""
    if study.scheduler == "slurm":
        return study.box.said("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 300")
    submit = "executable=/bin/sleep\narguments=300\nrequest_memory=10\nqueue\n"
    words = study.box.said("condor_submit", "-terse", "-", stdin=submit)
    return words.split(".")[0]


class TestRefusals:
    @slurm_only
    def test_a_refused_job_ends_the_run_in_slurms_own_words(self, study: Study) -> None:
        study.write(site={"pool": {"directives": ["--gres=gpu:h100:1"]}})
        begin = time.monotonic()
        done = study.run(timeout_s=300)
        assert done.returncode == 3
        assert "Requested node configuration is not available" in done.stderr
        assert "Traceback" not in done.stderr
        assert time.monotonic() - begin < 30

    @condor_only
    def test_a_refused_job_ends_the_run_in_htcondors_own_words(self, study: Study) -> None:
        study.write(site={"pool": {"requirements": "TARGET.Memory >"}})
        done = study.run(timeout_s=300)
        assert done.returncode == 3
        assert "requirements" in done.stderr.lower()

    @condor_only
    def test_a_python_without_hpcbench_ends_the_run_with_the_tail_of_the_jobs_log(
        self, study: Study
    ) -> None:
        study.write(site={"python": "/usr/bin/python3"})
        done = study.run(timeout_s=300)
        assert done.returncode == 3
        assert "No module named" in done.stderr
        assert "died before they connected" in done.stderr
        assert "Traceback" not in done.stderr.partition("died before")[0]

    @slurm_only
    def test_a_job_that_waits_is_shown_as_waiting_with_the_reason(self, study: Study) -> None:
        """Without encryption, which is reported, too."""
        pool = {"memory": "15GiB", "max_jobs": 4}
        study.write(site={"pool": pool, "network": {"interface": "lo", "tls": False}}, **LONG)
        done = study.run()
        assert done.returncode == 0, done.stderr
        assert re.search(r"jobs? waiting", done.stderr)
        assert "can run programs as you" in done.stderr
        study.check_each_point_once(8)

    @slurm_only
    def test_a_limit_on_jobs_is_reported_once_and_those_that_were_taken_do_the_work(
        self, study: Study
    ) -> None:
        """A QOS that takes two jobs of a user."""
        study.write(site={"pool": {"qos": "tiny", "max_jobs": 4}}, **LONG)
        done = study.run()
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("the batch system accepts no more jobs") == 1
        assert "QOSMaxSubmitJobPerUserLimit" in done.stderr
        assert study.check_each_point_once(8)["job_id"].nunique() == 2

    @slurm_only
    def test_an_unusable_node_is_reported_once_and_its_work_goes_elsewhere(
        self, study: Study
    ) -> None:
        scratch = f"/tmp/only-on-n2-{os.getpid()}"
        made = study.box.exec("srun", "-w", "n2", "mkdir", scratch)
        assert made.returncode == 0, made.stderr
        container = {"runtime": "native", "cpus_only": True, "prefix": "/opt/native"}
        container["scratch"] = scratch
        study.write(site={"container": container}, **LONG)
        done = study.run()
        assert done.returncode == 0, done.stderr
        assert set(study.check_each_point_once(8)["node"]) == {"n2"}
        assert done.stderr.count(f"the scratch folder {scratch} is missing") == 1
        study.box.said("srun", "-w", "n2", "rmdir", scratch)

    @condor_only
    def test_a_pool_whose_only_node_is_unusable_ends_with_the_reason(self, study: Study) -> None:
        container = {"runtime": "native", "cpus_only": True, "prefix": "/opt/native"}
        container["scratch"] = "/nowhere"
        study.write(site={"container": container})
        done = study.run(timeout_s=300)
        assert done.returncode == 3, done.stderr
        assert "c1: the scratch folder /nowhere is missing" in done.stderr


OWN_CLASS = """
from pathlib import Path
import dask_jobqueue
from dask_jobqueue.slurm import SLURMJob

class Job(SLURMJob):
    def job_script(self):
        with Path(__file__).with_name("results").joinpath("asked").open("a") as file:
            file.write(f"{self.name} ")
        return super().job_script()

class Cluster(dask_jobqueue.SLURMCluster):
    job_cls = Job
"""


@slurm_only
def test_a_sites_own_cluster_class_makes_the_jobs(study: Study) -> None:
    study.write(site={"cluster_class": "own_site:Cluster"})
    (study.folder / "own_site.py").write_text(OWN_CLASS)
    done = study.box.exec("env", f"PYTHONPATH={study.folder}", *study.command(), timeout_s=800)
    assert done.returncode == 0, done.stderr
    study.check_each_point_once(3)
    assert (study.results / "asked").read_text().startswith("hpcbench-")


@condor_only
def test_without_a_shared_file_system_the_same_folder_comes_out(study: Study) -> None:
    study.write(site={"shared_filesystem": False}, **LONG)
    hidden = f"/login-only/{study.folder.name}"
    command = [*study.command()[:-1], hidden]
    done = study.box.exec(*command, timeout_s=800)
    assert done.returncode == 0, done.stderr
    study.box.said("cp", "-r", hidden, str(study.results))
    study.check_each_point_once(8)
    assert len(list(study.results.glob("logs/*.server.log"))) >= 4
    assert not list(study.results.glob("records/*-*.parquet")), "points were not merged"


def check_that_nobody_else_can_talk_to(study: Study) -> None:
    keys = study.results / ".keys"
    assert keys.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in keys.iterdir()] == [0o600, 0o600]
    assert not listening_ports(study.box, "0.0.0.0") + listening_ports(study.box, "[::]")
    ports = listening_ports(study.box, "192.0.2.1")
    assert len(ports) >= 3, "a scheduler, a worker and its nanny at least"
    answers = json.loads(study.box.said("python", "-", *map(str, ports), stdin=INTRUDER))
    assert answers == {str(port): ["nothing", "refused", "no page"] for port in ports}


def listening_ports(box: Box, address: str) -> list[int]:
    """TCP ports on which the user's programs listen at an address."""
    found = set()
    for line in box.said("ss", "-Hltnp", root=True).splitlines():
        words = line.split()
        host, _, port = words[3].rpartition(":")
        if host == address and ("python" in words[-1] or "hpcbench" in words[-1]):
            found.add(int(port))
    return sorted(found)


INTRUDER = r"""
import asyncio, json, socket, ssl, sys
from distributed.security import Security
from distributed.core import rpc

def plain(port):
    with socket.create_connection(("192.0.2.1", port), 5) as sock:
        sock.settimeout(5)
        sock.sendall(b"\0" * 64)
        try:
            answer = sock.recv(1000)
        except OSError:
            answer = b""
    return "nothing" if b"compression" not in answer else "greeting"

def page(port):
    with socket.create_connection(("192.0.2.1", port), 5) as sock:
        sock.settimeout(5)
        sock.sendall(b"GET /info/main/workers.html HTTP/1.0\r\n\r\n")
        try:
            answer = sock.recv(1000)
        except OSError:
            answer = b""
    return "page" if answer.startswith(b"HTTP") else "no page"

async def other_key(port):
    args = Security.temporary().get_connection_args("client")
    try:
        async with asyncio.timeout(10):
            async with rpc(f"tls://192.0.2.1:{port}", connection_args=args, timeout=4) as r:
                await r.identity()
        return "answered"
    except (OSError, ssl.SSLError, TimeoutError):
        return "refused"

ports = [int(word) for word in sys.argv[1:]]
print(json.dumps({p: [plain(p), asyncio.run(other_key(p)), page(p)] for p in ports}))
"""
