"""`hpcbench doctor`: what is right is listed, what is wrong comes with a way out, nothing stays."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from rich.console import Console

from hpcbench.cli.main import main
from hpcbench.cli.progress import check_text, show_checks
from hpcbench.cluster import batch
from hpcbench.config.network import Network
from hpcbench.config.site import Pool, Site
from hpcbench.doctor import doctor, job_checks, worker_checks
from hpcbench.doctor.findings import Check, Findings, NotChecked, State
from hpcbench.doctor.gpu_checks import compare_gpus
from hpcbench.errors import Interrupted, SiteError, hint_for
from tests.box.fixture import BOX, Box, in_time
from tests.helpers.builders import write_prefix, write_site
from tests.helpers.paths import CHECKOUT
from tests.helpers.real import site_file
from tests.helpers.waiting import wait_until

SLURM = {"scheduler": "slurm", "pools": {"gpu": {"partition": "gpu", "walltime": "12:00:00"}}}


def site(**changes: Any) -> Site:
    settings: dict[str, Any] = {"name": "here", "container": {"prefix": "/opt/native"}, **SLURM}
    return Site(**(settings | changes))


def invoke(*words: object) -> Result:
    result = CliRunner().invoke(main, ["doctor", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def states(checks: list[dict[str, Any]]) -> dict[str, str]:
    """How each check ended, by its name, with its pool's before it."""
    return {": ".join(filter(None, (c["pool"], c["name"]))): c["state"] for c in checks}


def named(checks: list[dict[str, Any]], name: str, pool: str | None = None) -> dict[str, Any]:
    return next(c for c in checks if (c["name"], c["pool"]) == (name, pool))


# Findings


def raising(error: Exception) -> Any:
    def action() -> str:
        raise error

    return action


def test_a_failed_check_skips_only_those_that_need_it() -> None:
    findings = Findings(lambda _: None)
    findings.check("one", raising(SiteError("broken", "mend it")))
    findings.check("two", lambda: "fine")
    findings.check("three", lambda: "never asked", ["two", "one"])
    findings.check("four", lambda: "never asked", ["three"])
    findings.check("five", lambda: "fine, too", ["two"])
    found = [(c.name, c.state, c.found, c.todo) for c in findings.checks]
    assert found == [
        ("one", State.FAILED, "broken", "mend it"),
        ("two", State.OK, "fine", ""),
        ("three", State.SKIPPED, "needs one", ""),
        ("four", State.SKIPPED, "needs three", ""),
        ("five", State.OK, "fine, too", ""),
    ]


def test_a_check_of_one_pool_does_not_stop_another_but_one_of_this_host_stops_both() -> None:
    findings = Findings(lambda _: None)
    findings.check("job", raising(SiteError("refused")), pool="a")
    assert findings.failed(["job"], "a") == ["job"]
    assert findings.failed(["job"], "b") == []
    findings.check("queue", raising(SiteError("down")))
    assert findings.failed(["queue"], "b") == ["queue"]


def test_errors_of_the_system_are_reported_and_interruptions_passed_on() -> None:
    findings = Findings(lambda _: None)
    findings.check("disk", raising(OSError(28, "No space left on device", "/data")))
    findings.check("GPUs", raising(NotChecked("the pool asks for none")))
    assert [(c.state, c.found) for c in findings.checks] == [
        (State.FAILED, "/data: No space left on device"),
        (State.SKIPPED, "the pool asks for none"),
    ]
    with pytest.raises(Interrupted):
        findings.check("slow", raising(Interrupted("stopped")))


def test_every_check_is_a_line_and_what_to_do_is_another() -> None:
    check = Check("ports", State.FAILED, "none free\n    in 1:2\n      at all", "widen them", "gpu")
    assert str(check_text(check)).splitlines() == [
        "failed  gpu: ports               none free",
        "        in 1:2",
        "          at all",
        "        -> widen them",
    ]


def test_what_is_waited_for_is_reported_once_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with show_checks(Console(width=40)) as report:
        for _ in range(3):
            report("pool gpu: job 1 waits (Resources)")
        report(Check("ports", State.OK, "a line that is longer than the console is wide"))
    assert capsys.readouterr().out.splitlines() == [
        "pool gpu: job 1 waits (Resources)",
        "ok      ports                    a line that is longer than the console is wide",
    ]


# One job per pool


def test_the_job_of_an_examination_is_one_and_short() -> None:
    where = site(pools={"gpu": {"max_jobs": 9, "walltime": "12:00:00"}, "b": {"walltime": 60}})
    assert job_checks.with_one_short_job(where, "gpu").pools == {
        "gpu": Pool(max_jobs=1, walltime=job_checks.WALLTIME_S)
    }
    assert job_checks.with_one_short_job(where, "b").pools["b"].walltime == 60
    local = site(scheduler="local", pools={"cpu": {"max_jobs": 4}})
    assert job_checks.with_one_short_job(local, "cpu").pools == {"cpu": Pool(max_jobs=1)}


@pytest.mark.parametrize(
    ("log", "todo"),
    [
        ("/tmp/slurm_script: line 13: module: command not found", "of the prologue must exist"),
        ("/tmp/slurm_script: line 14: /usr/bin: Is a directory", "a path that every node sees"),
        ("OSError: [Errno 98] Address already in use", "two ports of network.ports"),
        ("the worker failed: timed out before it was connected to tls://10.1.2.3:80", "not reach"),
        ("ModuleNotFoundError: No module named 'dask'", "an interpreter that has hpcbench"),
        ("/bin/bash: line 9: /sw/py: No such file or directory", "a path that every node sees"),
        ("ValueError: 'ib0' is not a valid network interface.", "correct network.interface"),
        ("OSError: Timed out trying to connect to tls://10.1.2.3:80", "does not reach this host"),
        ("FAILED\n    (it left no log: No such file or directory)", "every node see this folder"),
    ],
)
def test_a_dead_jobs_log_leads_to_what_to_do(log: str, todo: str) -> None:
    assert todo in hint_for(f"a job died before it connected, 7: {log}", job_checks.HINTS)


def test_a_log_that_says_nothing_known_gives_no_wrong_advice() -> None:
    message = "a job died before it connected, 7: OUT_OF_MEMORY\nKilled"
    assert not hint_for(message, job_checks.HINTS)


def test_versions_that_differ_are_named_with_both_sides() -> None:
    here = {"python": "3.11.7", "dask": "2026.8.0"}
    assert worker_checks._differences(here, here) == []
    assert worker_checks._differences(here, here | {"dask": "None"}) == [
        "dask 2026.8.0 here, None there"
    ]


def facts(count: int, name: str | None = None, visible: str | None = None) -> Mapping[str, Any]:
    found = {"node": "n1", "gpu_count": count, "cuda_visible_devices": visible}
    return found | ({"gpu_name": name} if name else {})


A100 = "NVIDIA A100-SXM4-80GB"
SLICE = "NVIDIA A100-SXM4-80GB MIG 1g.10gb"


@pytest.mark.parametrize(
    ("pool", "found"),
    [
        (Pool(gpu=A100, gpus_per_job=1), facts(1, A100, "GPU-7f")),
        (Pool(gpu=A100, gpus_per_job=2), facts(2, A100, "GPU-7f,GPU-80")),
        (Pool(gpu=SLICE, gpus_per_job=1), facts(1, SLICE, "MIG-7f")),
        (Pool(gpus_per_job=2), facts(0, None, "0,1")),
        (Pool(gpus_per_job=4), facts(4, A100)),
    ],
)
def test_gpus_as_promised_are_named(pool: Pool, found: Mapping[str, Any]) -> None:
    assert str(found["cuda_visible_devices"] or "not set") in compare_gpus(pool, found)


@pytest.mark.parametrize(
    ("pool", "found", "todo"),
    [
        (Pool(gpu=A100, gpus_per_job=1), facts(1, "Tesla V100", "0"), "correct gpu"),
        (Pool(gpu=A100, gpus_per_job=2), facts(1, A100, "0"), "correct gpu"),
        (Pool(gpu=A100, gpus_per_job=1), facts(0, None, "0"), "correct gpu"),
        (Pool(gpus_per_job=1), facts(0), "was given no GPU"),
        (Pool(gpus_per_job=1), facts(0, None, "NoDevFiles"), "was given no GPU"),
        (Pool(gpus_per_job=1), facts(4, A100), "another job's"),
        (Pool(gpu=A100, gpus_per_job=1), facts(2, A100, "GPU-7f,GPU-80"), "correct gpus_per_job"),
        (Pool(gpu=A100, gpus_per_job=1), facts(1, SLICE, "MIG-7f"), "correct gpu, or"),
        (Pool(gpus_per_job=2), facts(1, SLICE, "MIG-7f,MIG-80"), "one MIG instance only"),
        (Pool(gpu=A100), facts(1, A100, "GPU-7f"), "leave gpu out"),
    ],
)
def test_gpus_that_are_not_as_promised_fail(
    pool: Pool, found: Mapping[str, Any], todo: str
) -> None:
    with pytest.raises(SiteError, match="promised") as error:
        compare_gpus(pool, found)
    assert todo in error.value.hint


def test_a_gpu_whose_driver_is_unloaded_while_it_is_idle_is_said_to_start_late() -> None:
    found = {**facts(1, A100, "GPU-7f"), "gpu_persistence_mode": False}
    assert "persistence mode is off" in compare_gpus(Pool(gpus_per_job=1), found)
    found["gpu_persistence_mode"] = True
    assert "persistence" not in compare_gpus(Pool(gpus_per_job=1), found)


class Answers:
    """A worker that gives the same answer to everything."""

    name = "cpu"

    def __init__(self, where: Site, folder: Path, answer: Any = None) -> None:
        self.site, self.folder, self.answer = where, folder, answer

    @property
    def pool(self) -> Pool:
        return next(iter(self.site.pools.values()))

    def call(self, function: Any, *arguments: Any, timeout_s: float = 0) -> Any:
        return self.answer(function, *arguments) if callable(self.answer) else self.answer


def test_clocks_that_differ_fail(tmp_path: Path) -> None:
    for offset_s in (60, -60):
        ahead = Answers(site(), tmp_path, lambda _, late=offset_s: time.time() + late)
        with pytest.raises(SiteError, match=r"is ([+-][\d.]+) s from this one") as error:
            worker_checks._clocks(ahead)
        said_s = re.search(r"[+-][\d.]+", error.value.message)
        assert said_s
        assert float(said_s[0]) == pytest.approx(offset_s, abs=1)
    assert worker_checks._clocks(Answers(site(), tmp_path, lambda _: time.time())).startswith("0.0")


def test_another_installation_on_the_node_fails(tmp_path: Path) -> None:
    where = site(container={"prefix": write_prefix(tmp_path, "0123")})
    assert worker_checks._software(Answers(where, tmp_path, "native:0123")) == "native:0123"
    with pytest.raises(SiteError, match="native:4567 there, native:0123 here"):
        worker_checks._software(Answers(where, tmp_path, "native:4567"))


def test_a_folder_that_the_node_writes_elsewhere_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_checks, "SHARED_S", 0.2)
    elsewhere = tmp_path / "of the node"
    elsewhere.mkdir()

    def on_the_node(function: Any, folder: str, word: str) -> Any:
        shutil.copy(Path(folder) / worker_checks.FROM_DRIVER, elsewhere)
        return function(str(elsewhere), word)

    with pytest.raises(SiteError, match="what the node wrote is not seen here") as error:
        worker_checks._shared_folder(Answers(site(), tmp_path, on_the_node))
    assert "a folder that every node sees" in error.value.hint


def test_a_worker_that_dies_fails_one_check_and_ends_nothing_else(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = ("worker connects",)
    dies = ("dies", needs, lambda worker: str(worker.call(os._exit, 1)))
    monkeypatch.setattr(job_checks, "CHECKS", (dies, ("goes on", needs, lambda _: "yes")))
    results = here.parent / "results"
    results.mkdir()
    checks = {check.name: check for check in doctor.check_site(Site.load(here), results)}
    assert (checks["dies"].state, checks["dies"].found) == (
        State.FAILED,
        "the worker died during this check",
    )
    assert checks["goes on"].state is checks["nothing is left"].state is State.OK
    assert list(results.iterdir()) == []


def test_pools_wait_together_and_all_are_closed_when_one_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    def job(name: str, turns: int) -> Iterator[str]:
        try:
            for turn in range(turns):
                yield f"{name}{turn}"
            if name == "bad":
                raise Interrupted("stopped")
        finally:
            said.append(f"{name} closed")

    monkeypatch.setattr(doctor, "TURN_S", 0.0)
    with pytest.raises(Interrupted):
        doctor._take_turns([job("a", 9), job("bad", 2)], lambda words: said.append(str(words)))
    assert said == ["a0", "bad0", "a1", "bad1", "a2", "bad closed", "a closed"]


# This host


def test_an_interface_that_is_not_there_is_reported_with_those_that_are() -> None:
    assert doctor._interface(Network(interface="lo")) == "lo is 127.0.0.1 (this host only)"
    with pytest.raises(SiteError, match=r"ib7 has no IPv4 address here; with one: .*lo \(127"):
        doctor._interface(Network(interface="ib7"))


def _both_are_free(port: int) -> bool:
    with contextlib.suppress(OSError), closing(socket.socket()) as one:
        one.bind(("127.0.0.1", port - 1))
        with closing(socket.socket()) as other:
            other.bind(("127.0.0.1", port))
            return True
    return False


def test_ports_that_are_taken_are_counted() -> None:
    with closing(socket.socket()) as entry:
        # Below the ports that Linux gives to whoever asks for any, which other tests do.
        port = next(port for port in range(20_001, 30_000, 2) if _both_are_free(port))
        entry.bind(("127.0.0.1", port))
        entry.listen()
        network = Network(interface="lo", ports=f"{port - 1}:{port}")
        assert doctor._ports(network, 1) == f"1 of 2 free in {port - 1}:{port}"
        with pytest.raises(SiteError, match=r"1 of .* free, 2 wanted"):
            doctor._ports(network, 2)
        network = Network(interface="lo", scheduler_ports=f"{port}:{port}")
        with pytest.raises(SiteError, match=r"0 of .* free, 1 wanted") as error:
            doctor._ports(network, 1)
        assert "widen network.scheduler_ports" in error.value.hint
    assert "names no range" in doctor._ports(Network(), 1)


def test_commands_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if "cancel" in name else f"/bin/{name}")
    with pytest.raises(SiteError, match="not found: scancel") as error:
        doctor._commands(site(), batch.system("slurm"))
    assert "login node" in error.value.hint


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "GB free" in doctor._free_space(tmp_path)
    monkeypatch.setattr(doctor, "FREE_BYTES", 1e18)
    with pytest.raises(SiteError, match="GB free"):
        doctor._free_space(tmp_path)


def test_without_a_batch_system_nothing_is_submitted_and_all_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves_nothing: None
) -> None:
    write_prefix(tmp_path)
    write_site(tmp_path, **SLURM, network={"interface": "ib7"})
    (tmp_path / "results").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["--site", tmp_path / "site.yaml", "--results", tmp_path / "results"]
    result = invoke(*words, "--json")
    assert result.exit_code == 3
    output = json.loads(result.stdout)
    assert not output["ok"]
    found = states(output["checks"])
    assert found["batch commands"] == found["network interface"] == "failed"
    assert found["batch system"] == found["ports"] == "skipped"
    assert found["software here"] == found["results folder"] == found["nothing is left"] == "ok"
    in_jobs = {name for name in found if name.startswith("gpu: ")}
    assert {found[name] for name in in_jobs} == {"skipped"}
    assert len(in_jobs) == 3 + len(job_checks.CHECKS)
    assert list((tmp_path / "results").iterdir()) == []


# Bad input


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A site of this computer whose prefix is complete, but empty."""
    write_prefix(tmp_path)
    return write_site(tmp_path)


def test_a_pool_that_is_not_there_is_bad_input(here: Path) -> None:
    result = invoke("--site", here, "--pool", "gpus")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "has no such pool" in result.stderr


def test_a_folder_that_cannot_be_made_is_bad_input(here: Path) -> None:
    result = invoke("--site", here, "--results", here / "none")
    assert result.exit_code == 2
    assert "no folder can be created there: Not a directory" in result.stderr


def test_a_folder_that_is_not_there_yet_is_made_and_deleted_again(tmp_path: Path) -> None:
    own = tmp_path / "results" / "scan" / "own"
    with doctor._temporary_folder(own):
        assert own.is_dir()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_there_is_kept_and_so_is_what_somebody_put_into_a_new_one(
    tmp_path: Path,
) -> None:
    with doctor._temporary_folder(tmp_path / "new" / "own"):
        (tmp_path / "new" / "theirs").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "theirs"]


def test_a_folder_that_a_job_script_cannot_take_is_bad_input(tmp_path: Path) -> None:
    odd = tmp_path / "my results"
    odd.mkdir()
    result = invoke("--site", write_site(tmp_path, **SLURM), "--results", odd)
    assert result.exit_code == 2
    assert "characters that a job script cannot take" in result.stderr
    assert list(odd.iterdir()) == []


# This computer as a site


def test_a_missing_prefix_is_reported_twice_and_the_rest_goes_on(
    tmp_path: Path, leaves_nothing: None
) -> None:
    result = invoke("--site", write_site(tmp_path), "--results", tmp_path, "--json")
    assert result.exit_code == 3
    checks = json.loads(result.stdout)["checks"]
    assert {name for name, state in states(checks).items() if state != "ok"} == {
        *("software here", "files as installed", "perf_analyzer here"),
        *("cpu: GPUs", "cpu: software", "cpu: perf_analyzer", "cpu: Triton starts"),
    }
    assert "hpcbench native" in named(checks, "software", "cpu")["todo"]
    assert [path.name for path in tmp_path.iterdir()] == ["site.yaml"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_end_by_a_signal_leaves_nothing(
    here: Path, number: signal.Signals, leaves_nothing: None
) -> None:
    results = here.parent / "results"
    results.mkdir()
    command = [sys.executable, "-m", "hpcbench", "doctor", "--site", here, "--results", results]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        # The pool's own folder is made right before its worker is started.
        assert wait_until(lambda: list(results.glob("hpcbench-doctor-*/cpu")), 240)
        time.sleep(1)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=240)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert b"no job, no process and no file is left" in stderr
    assert wait_until(lambda: not list(results.iterdir()), 120)


@pytest.mark.native
def test_a_computer_on_which_all_is_well_passes(
    tmp_path: Path, native_prefix: Path, leaves_nothing: None
) -> None:
    where = site_file(tmp_path, native_prefix)
    before = sorted(tmp_path.iterdir())
    result = invoke("--site", where, "--results", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    output = json.loads(result.stdout)
    assert output["ok"]
    assert {name for name, state in states(output["checks"]).items() if state != "ok"} == {
        "cpu: GPUs"
    }
    assert "ready after" in named(output["checks"], "Triton starts", "cpu")["found"]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.native
def test_a_triton_that_does_not_start_is_reported_in_its_own_words(
    tmp_path: Path, native_prefix: Path, leaves_nothing: None
) -> None:
    broken = tmp_path / "native"
    (broken / "bin").mkdir(parents=True)
    for path in [*native_prefix.iterdir(), *(native_prefix / "bin").iterdir()]:
        if path.name not in ("bin", "tritonserver"):
            (broken / path.relative_to(native_prefix)).symlink_to(path)
    server = broken / "bin" / "tritonserver"
    server.write_text("#!/bin/sh\necho 'error: libcuda.so.1: cannot open shared object file'\n")
    server.chmod(0o755)
    result = invoke("--site", site_file(tmp_path, broken), "--results", tmp_path)
    assert result.exit_code == 3
    wrong = [line for line in result.stdout.splitlines() if line.startswith("failed")]
    *changed, start = wrong
    assert "Triton starts" in start
    assert "libcuda.so.1: cannot open shared object file" in start
    # Its files are not those that were installed, which a prefix with hashes says first.
    assert all("files as installed" in line for line in changed)


# The cluster on one machine

in_the_box = [pytest.mark.box, pytest.mark.timeout(1200)]
HOME = "/home/physicist"


class Place:
    """A folder in the box's home for results, and site files beside it."""

    def __init__(self, box: Box, name: str) -> None:
        self.box = box
        self.folder = f"{HOME}/{name}/results"
        box.said("mkdir", "-p", self.folder)

    def site(self, name: str, **changes: Any) -> str:
        """The path of a site file: the box's, with some keys replaced."""
        content = yaml.safe_load((CHECKOUT / "site_configs" / f"{name}.yaml").read_text())
        path = f"{self.folder}/../site.yaml"
        self.box.said("sh", "-c", f"cat >{path}", stdin=yaml.safe_dump(content | changes))
        return path

    def command(self, where: str, *words: str, results: str = "") -> list[str]:
        return ["hpcbench", "doctor", "--site", where, "--results", results or self.folder, *words]

    def examine(self, where: str, *words: str, results: str = "") -> tuple[int, list[Any]]:
        """(exit code, checks) of one examination, after which nothing is left."""
        command = self.command(where, *words, "--json", results=results)
        done = self.box.exec(*command, timeout_s=300)
        assert done.stdout, done.stderr
        assert self.left() == ""
        assert self.box.said("ls", "-A", results or self.folder) == ""
        checks = json.loads(done.stdout)["checks"]
        assert named(checks, "nothing is left")["state"] == "ok"
        return done.returncode, checks

    def left(self) -> str:
        """Jobs of hpcbench in either queue, and files in the folder."""
        slurm = self.box.said("squeue", "--noheader", "--format=%j")
        condor = self.box.said("condor_q", "-autoformat", "HpcbenchRun")
        files = self.box.said("ls", "-A", self.folder)
        jobs = [name for name in (slurm + "\n" + condor).split() if name.startswith("hpcbench")]
        return " ".join([*jobs, files]).strip()


@pytest.fixture
def ward(box: Box, request: pytest.FixtureRequest) -> Iterator[Place]:
    name = f"doctor-{os.getpid()}-{abs(hash(request.node.name)) % 10**8}"
    place = Place(box, name)
    yield place
    box.said("rm", "-r", f"{HOME}/{name}")


def failures(checks: list[Any]) -> dict[str, Any]:
    return {
        name: c for name, c in zip(states(checks), checks, strict=True) if c["state"] == "failed"
    }


class TestInTheBox:
    pytestmark = in_the_box

    @pytest.mark.parametrize("name", ["box-slurm", "box-htcondor"])
    def test_all_is_well(self, ward: Place, name: str) -> None:
        code, checks = ward.examine(name)
        assert set(states(checks).values()) == {"ok"}, checks
        assert code == 0
        node = {"box-slurm": "node n", "box-htcondor": "node c1"}[name]
        assert node in named(checks, "worker connects", "gpu")["found"]
        assert "CUDA_VISIBLE_DEVICES=" in named(checks, "GPUs", "gpu")["found"]
        assert "both sides see it" in named(checks, "shared folder", "gpu")["found"]

    def test_records_travel_where_no_file_system_is_shared(self, ward: Place) -> None:
        code, checks = ward.examine(ward.site("box-htcondor", shared_filesystem=False))
        assert code == 0, checks
        assert "records travel" in named(checks, "shared folder", "gpu")["found"]

    def test_a_pool_that_is_refused_does_not_stop_another(self, ward: Place) -> None:
        pools = {"lost": {"partition": "nowhere"}, "good": {"partition": "gpu", "gpus_per_job": 1}}
        code, checks = ward.examine(ward.site("box-slurm", pools=pools))
        assert code == 3
        assert list(failures(checks)) == ["lost: job accepted"]
        refused = named(checks, "job accepted", "lost")
        assert "invalid partition specified: nowhere" in refused["found"]
        assert "correct the pool" in refused["todo"]
        assert named(checks, "Triton starts", "lost")["state"] == "skipped"
        assert named(checks, "Triton starts", "good")["state"] == "ok"

    def test_an_interface_that_does_not_exist(self, ward: Place) -> None:
        code, checks = ward.examine(ward.site("box-slurm", network={"interface": "ib7"}))
        assert code == 3
        assert list(failures(checks)) == ["network interface"]
        assert named(checks, "job accepted", "gpu")["found"] == "needs network interface"

    def test_a_python_that_cannot_import_hpcbench(self, ward: Place) -> None:
        code, checks = ward.examine(ward.site("box-slurm", python="/usr/bin/python3"))
        assert code == 3
        assert list(failures(checks)) == ["gpu: worker connects"]
        died = named(checks, "worker connects", "gpu")
        assert "No module named" in died["found"]
        assert "python in the site file" in died["todo"]

    def test_a_prefix_that_is_missing_on_the_node(self, box: Box, ward: Place) -> None:
        prefix = f"/tmp/native-{os.getpid()}"
        box.said("sh", "-c", f"mkdir {prefix} && ln -s /opt/native/* {prefix}")
        container = {"runtime": "native", "cpus_only": True, "prefix": prefix}
        try:
            code, checks = ward.examine(ward.site("box-slurm", container=container))
        finally:
            box.said("rm", "-r", prefix)
        assert code == 3
        assert named(checks, "software here")["state"] == "ok"
        # Links are not the files that were installed, and a prefix with hashes says so.
        assert set(failures(checks)) - {"files as installed"} == {"gpu: software"}
        assert named(checks, "Triton starts", "gpu")["found"] == "needs software"

    def test_a_results_folder_that_the_node_does_not_see(self, box: Box, ward: Place) -> None:
        unseen = f"/tmp/results-{os.getpid()}"
        box.said("mkdir", unseen)
        try:
            code, checks = ward.examine("box-slurm", results=unseen)
        finally:
            box.said("rmdir", unseen)
        assert code == 3
        assert list(failures(checks)) == ["gpu: worker connects"]
        assert "give --results one" in named(checks, "worker connects", "gpu")["todo"]

    def test_a_job_that_does_not_start_is_cancelled_with_the_reason(
        self, ward: Place, full: None
    ) -> None:
        code, checks = ward.examine("box-slurm", "--wait", "0.2")
        assert code == 3
        assert list(failures(checks)) == ["gpu: job starts"]
        found = named(checks, "job starts", "gpu")["found"]
        assert found.startswith("not started within 0.2 min (")
        assert found.endswith(("(Resources)", "(Priority)"))

    def test_a_job_that_waits_goes_with_its_driver(self, ward: Place, full: None) -> None:
        command = [BOX, "exec", *ward.command("box-slurm")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert in_time(lambda: "hpcbench-" in ward.left(), 240)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=240)
        assert process.returncode == 130
        assert in_time(lambda: ward.left() == "", 60)

    def test_a_job_at_work_goes_with_its_driver(self, box: Box, ward: Place) -> None:
        command = [BOX, "exec", *ward.command("box-slurm")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if b"worker connects" in line:
                    break
            process.kill()
            process.communicate(timeout=240)
        assert in_time(lambda: ward.left() == "", 60)
        programs = "hpcbench.cluster.start_worker|tritonserver|cancel_jobs_of"
        gone = lambda: box.exec("pgrep", "-f", programs, root=True).returncode == 1  # noqa: E731
        assert in_time(gone, 200)


@pytest.fixture
def full(box: Box) -> Iterator[None]:
    """All GPUs of the box's Slurm are taken."""
    options = ["--parsable", "-N2", "--ntasks-per-node=1", "--gres=gpu:2", "-o", "/dev/null"]
    number = box.said("sbatch", *options, "--wrap", "sleep 600")
    assert in_time(lambda: box.said("squeue", "-h", "-j", number, "-o", "%t") == "R", 240)
    yield
    box.said("scancel", number)
