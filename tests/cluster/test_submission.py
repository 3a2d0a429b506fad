"""Job scripts: what a site file says is in them, and nothing that it did not say."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcbench.cluster import run_state, submission
from hpcbench.cluster.ledger import Run
from hpcbench.cluster.submission import Submission
from hpcbench.cluster.tls import Keys
from hpcbench.config.site import Site
from hpcbench.errors import BadInput
from hpcbench.records.folder import Results
from tests.box.fixture import Box, in_time
from tests.helpers.builders import batch_site
from tests.helpers.paths import CHECKOUT

EVERY_LINE_END = re.compile(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
EXPORT = "export HPCBENCH_BATCH_SYSTEM=hpcbench.cluster.htcondor"
WORKER = [
    "-P",
    "-m",
    "hpcbench.cluster.start_worker",
    "tls://SCHEDULER:PORT",
    "--name",
    "hpcbench-RUN",
]


def script(site: Site, account: str | None = None) -> str:
    """The job script of the one pool."""
    return submission.job_script(site, "gpu", account=account)


def submission_of(site: Site, results: Path = Path("/r"), keys: Keys | None = None) -> Submission:
    """A run into a folder, and who is charged is not said."""
    run = Run("hpcbench-RUN", site.scheduler, "")
    return Submission(site, Results(results), run, None, keys)


hostile = st.text(
    st.sampled_from("ab1-=_/,:.&|<>(){}[]*?~$`'\"\\;#%@+! \t\n\r\x0b\x0c\x1c\x00\x85\u2028é"),
    min_size=1,
    max_size=8,
) | st.sampled_from(
    [
        "a\n#SBATCH --wrap=evil",
        "a\nqueue 100",
        "$(touch evil)",
        "`touch evil`",
        "a; touch evil",
        "a' ; touch evil ; '",
        'a" touch evil "',
        "a\\",
        "$ENV(HOME)",
        "%j",
        "a && b",
        "#",
        "include : evil |",
    ]
)


def accepted(*arguments: Any, **options: Any) -> Site | None:
    """The site, where validation takes it."""
    with contextlib.suppress(BadInput):
        return batch_site(*arguments, **options)
    return None


def of_slurm(text: str) -> tuple[list[list[str]], list[str]]:
    """(options of sbatch, commands) of a job script, as Slurm and the shell take it apart."""
    first, *lines = [line for line in EVERY_LINE_END.split(text) if line]
    assert first == "#!/bin/bash"
    options = []
    while lines and lines[0].startswith("#SBATCH"):
        options.append(shlex.split(lines.pop(0).removeprefix("#SBATCH"), comments=True))
    return options, lines


def of_condor(text: str) -> tuple[dict[str, str], str]:
    """(attributes, command) of a job description, as condor_submit takes it apart."""
    first, *lines = [line for line in EVERY_LINE_END.split(text) if line]
    assert first == "#!/usr/bin/env condor_submit"
    assert lines.pop() == "Queue"
    assert not [line for line in lines if line.endswith("\\")]
    pairs = [line.split(" = ", maxsplit=1) for line in lines]
    keys = [key.lower() for key, _ in pairs]
    assert len(keys) == len(set(keys)), "of two lines for the same thing, the last counts"
    found = dict(pairs)
    assert found.pop("Executable") == "/bin/bash"
    arguments = found.pop("Arguments")
    assert arguments[:5] + arguments[-2:] == "\"-c ''\""
    command = arguments[5:-2].replace("''", "'").replace('""', '"')
    assert "$" not in command.replace("$(DOLLAR)", "")
    return found, command.replace("$(DOLLAR)", "$")


def words(command: str) -> list[str]:
    """The words of one simple command; fails where the shell would see more than that."""
    bare = re.sub(r"'[^']*'", "", command)
    assert not re.search(r"[][$`(){}<>|&;\\\"*?~#!]", bare)
    return shlex.split(command)


class TestSlurm:
    def test_a_pool_becomes_options_of_sbatch_and_a_worker(self) -> None:
        pool = {
            "gpus_per_job": 1,
            "cpus": 32,
            "memory": "64GiB",
            "walltime": "1-02:00:00",
            "partition": "gpu",
            "qos": "regular",
            "constraint": "gpu&hbm80g",
            "directives": ["--licenses=scratch", "--exclude=n1"],
            "prologue": ["module load python"],
        }
        site = batch_site(pool=pool, network={"interface": "hsn0", "ports": "10000:10100"})
        options, commands = of_slurm(script(site, account="physics"))
        assert options == [
            ["-J", "hpcbench-RUN"],
            ["-p", "gpu"],
            ["-A", "physics"],
            ["-n", "1"],
            ["--cpus-per-task=32"],
            ["--mem=65536M"],
            ["-t", "26:00:00"],
            ["--output=RESULTS/logs/job-%j.log"],
            ["--no-requeue"],
            ["--qos=regular"],
            ["--constraint=gpu&hbm80g"],
            ["--gres=gpu:1"],
            ["--licenses=scratch"],
            ["--exclude=n1"],
        ]
        assert commands[:3] == [
            "set -e",
            "module load python",
            "export HPCBENCH_WALLTIME_S=93600 HPCBENCH_BATCH_SYSTEM=hpcbench.cluster.slurm",
        ]
        worker = words(commands[3])
        assert worker[:7] == ["/venv/bin/python", *WORKER]
        assert " ".join(worker).count("10000:10100") == 2
        assert worker[worker.index("--interface") + 1] == "hsn0"
        assert not commands[4:]

    @given(pool=st.fixed_dictionaries({}, optional={
        "partition": hostile,
        "qos": hostile,
        "constraint": hostile,
        "directives": st.lists(hostile.map("--comment={}".format), max_size=3),
        "account_suffix": hostile,
    }))  # fmt: skip
    def test_no_value_of_a_pool_begins_a_line_or_a_command(self, pool: dict[str, Any]) -> None:
        site = accepted(pool=pool)
        if site is None:
            return
        options, commands = of_slurm(script(site, account="a"))
        expected = [["-J", "hpcbench-RUN"]]
        expected += [["-p", pool["partition"]]] if "partition" in pool else []
        suffix = pool.get("account_suffix", "")
        expected += [["-A", "a" if suffix == "a" else "a" + suffix]]
        expected += [["-n", "1"], ["--cpus-per-task=1"], ["--output=RESULTS/logs/job-%j.log"]]
        expected += [["--no-requeue"]]
        expected += [[f"--{key}={pool[key]}"] for key in ("qos", "constraint") if key in pool]
        assert options[: len(expected)] == expected
        assert len(options) == len(expected) + len(pool.get("directives", ()))
        assert commands[0] == "set -e"
        assert commands[1] == "export HPCBENCH_BATCH_SYSTEM=hpcbench.cluster.slurm"
        assert words(commands[2])[:7] == ["/venv/bin/python", *WORKER]
        assert not commands[3:]

    @given(hostile, hostile)
    def test_neither_the_interpreter_nor_the_interface_is_more_than_one_word(
        self, python: str, interface: str
    ) -> None:
        site = accepted(python=python, network={"interface": interface})
        if site is not None:
            _, (*_, command) = of_slurm(script(site))
            worker = words(command)
            assert worker[:7] == [python, *WORKER]
            assert worker[worker.index("--interface") + 1] == interface

    @given(hostile.map("/results/{}".format))
    def test_no_results_folder_that_a_run_takes_begins_a_line_or_a_command(self, path: str) -> None:
        site = batch_site()
        results = Results(Path(path))
        try:
            run_state.check_results_path(results, site)
        except BadInput:
            return
        options, _ = of_slurm(submission_of(site, results.folder).script("gpu"))
        written = str(results.logs).replace("%", "%%")
        assert [f"--output={written}/job-%j.log"] in options

    def test_lists_of_nodes_to_stay_away_from_become_one(self) -> None:
        """Of several, sbatch takes the last."""
        given_ = ["--exclude=n1,n2", "-x n3", "-xn4", "--exclude n5", "--exclusive"]
        site = batch_site(pool={"directives": given_})
        found = submission_of(site).settings("gpu", ["n6"])["job_extra_directives"]
        assert found[2:] == ["--exclusive", "--exclude=n1,n2,n3,n4,n5,n6"]

    @pytest.mark.parametrize(
        ("directive", "asked"),
        [
            ("--gres=gpu:a100:1", True),
            ("--gpus=1", True),
            ("--gpus-per-task=1", True),
            ("-G 1", True),
            ("--exclude=gpu17", False),
            ("--comment=gpu", False),
            ("--gres=lustre:1", False),
        ],
    )
    def test_gpus_are_asked_for_once(self, directive: str, asked: bool) -> None:
        site = batch_site(pool={"gpus_per_job": 2, "directives": [directive]})
        assert ("#SBATCH --gres=gpu:2" in script(site)) != asked

    def test_the_accounts_suffix_is_added_once_and_to_no_account_not(self) -> None:
        site = batch_site(pool={"account_suffix": "-gpu"})
        assert "#SBATCH -A phy1-gpu\n" in script(site, account="phy1")
        assert "#SBATCH -A phy1-gpu\n" in script(site, account="phy1-gpu")
        assert "-A" not in script(site)


class TestHTCondor:
    def test_a_pool_becomes_attributes_and_a_worker(self) -> None:
        pool = {
            "gpus_per_job": 1,
            "cpus": 4,
            "memory": "8GiB",
            "disk": "2GiB",
            "walltime": "02:00:00",
            "requirements": 'regexp("V100", TARGET.GPUs_DeviceName)',
            "directives": {"+MaxRuntime": 7200, "Requirements": "a || b", "getenv": True},
            "prologue": ["export A=$(date)  # now"],
        }
        site = batch_site("htcondor", pool)
        found, command = of_condor(script(site, account="physics"))
        assert {key: value for key, value in found.items() if not key.startswith("MY.Dask")} == {
            "batch_name": "hpcbench-RUN",
            "MY.JobId": '"$(ClusterId).$(ProcId)"',
            "MY.HpcbenchRun": '"hpcbench-RUN"',
            "RequestCpus": "4",
            "RequestMemory": "floor(MY.DaskWorkerMemory / 1048576)",
            "RequestDisk": "floor(MY.DaskWorkerDisk / 1024)",
            "request_gpus": "1",
            "Output": "RESULTS/logs/job-$(ClusterId).$(ProcId).out",
            "Error": "RESULTS/logs/job-$(ClusterId).$(ProcId).log",
            "Log": "RESULTS/logs/job-$(ClusterId).events",
            "transfer_output_files": '""',
            "allowed_job_duration": "7200",
            "accounting_group": "physics",
            "Requirements": '(regexp("V100", TARGET.GPUs_DeviceName)) && (a || b)',
            "+MaxRuntime": "7200",
            "getenv": "True",
        }
        before, _, worker = command.rpartition("; ")
        assert before == (
            "set -e; eval 'export A=$(date)  # now'; "
            "export HPCBENCH_WALLTIME_S=7200 HPCBENCH_BATCH_SYSTEM=hpcbench.cluster.htcondor"
        )
        assert words(worker)[:7] == ["/venv/bin/python", *WORKER]

    def test_nodes_to_stay_away_from_join_the_requirements(self) -> None:
        site = batch_site("htcondor", {"requirements": "a || b"})
        found = submission_of(site).settings("gpu", ["n1", "n2"])["job_extra_directives"]
        away = '(TARGET.Machine =!= "n1") && (TARGET.Machine =!= "n2")'
        assert found["Requirements"] == f"(a || b) && {away}"

    def test_files_that_the_site_carries_do_not_replace_the_keys(self) -> None:
        pool = {"directives": {"Transfer_Input_Files": ".env"}}
        site = batch_site("htcondor", pool, shared_filesystem=False)
        keys = Keys(Path("/k"))
        found = submission_of(site, keys=keys).settings("gpu")["job_extra_directives"]
        certificate, key = keys.files
        assert found["transfer_input_files"] == f"{certificate},{key},.env"

    @given(pool=st.fixed_dictionaries({}, optional={
        "requirements": hostile,
        "directives": st.dictionaries(hostile | st.just("MY.Plain"), hostile, max_size=3),
        "prologue": st.lists(hostile, max_size=2),
    }))  # fmt: skip
    def test_no_value_of_a_pool_begins_a_line_or_a_command(self, pool: dict[str, Any]) -> None:
        site = accepted("htcondor", pool)
        if site is None:
            return
        found, command = of_condor(script(site))
        added = dict(pool.get("directives", {}))
        own = [added.pop(key) for key in list(added) if key.lower() == "requirements"]
        demands = [pool["requirements"]] if "requirements" in pool else []
        expected = " && ".join(f"({text})" for text in [*demands, *own])
        assert found.pop("Requirements", "") == expected
        assert {key: found.pop(key) for key in added} == added
        plain = batch_site("htcondor")
        assert found == of_condor(script(plain))[0]
        prologue = [f"eval {shlex.quote(line)}" for line in pool.get("prologue", ())]
        start = "; ".join(
            ["set -e", *prologue, EXPORT, "/venv/bin/python -P -m hpcbench.cluster.start_worker "]
        )
        assert command.startswith(start)
        words(command[len(start) :])

    @given(hostile)
    def test_the_interpreter_is_one_word(self, python: str) -> None:
        site = accepted("htcondor", python=python)
        if site is not None:
            _, command = of_condor(script(site))
            assert words(command.removeprefix(f"set -e; {EXPORT}; "))[:7] == [python, *WORKER]


PROLOGUE = [
    "export A='one;two'  # a comment; exit 7",
    'B="$(echo "it\'s")"; export B',
    "export C=${A#one;}",
]


@pytest.mark.parametrize("scheduler", ["slurm", "htcondor"])
class TestInAShell:
    """The script is run by a real shell, with a program that prints in the worker's place."""

    def shell(self, site: Site) -> subprocess.CompletedProcess[str]:
        text = script(site)
        if site.scheduler == "htcondor":
            text = of_condor(text)[1]
        return subprocess.run(
            ["/bin/bash", "-c", text], capture_output=True, text=True, check=False, timeout=20
        )

    def test_the_prologue_is_taken_line_by_line_as_it_is_written(self, scheduler: str) -> None:
        pool = {"prologue": [*PROLOGUE, 'echo "$A $B $C"']}
        done = self.shell(batch_site(scheduler, pool, python="/bin/echo"))
        assert done.returncode == 0, done.stderr
        printed, worker = done.stdout.splitlines()
        assert printed == "one;two it's two"
        assert worker.startswith("-P -m hpcbench.cluster.start_worker tls://SCHEDULER:PORT")

    def test_a_prologue_that_fails_ends_the_job(self, scheduler: str) -> None:
        done = self.shell(batch_site(scheduler, {"prologue": ["false"]}, python="/bin/echo"))
        assert done.returncode == 1
        assert not done.stdout

    def test_a_quote_that_is_not_closed_does_not_start_a_worker(self, scheduler: str) -> None:
        site = batch_site(scheduler, {"prologue": ["echo 'oh"]}, python="/bin/echo")
        done = self.shell(site)
        assert done.returncode != 0
        assert "hpcbench.cluster.start_worker" not in done.stdout


@pytest.mark.box
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("scheduler", "pool", "submit"),
    [
        ("slurm", {"constraint": "gpu&v100", "directives": ["-x n1"]}, "sbatch {file}"),
        (
            "htcondor",
            {"requirements": 'regexp("c1", TARGET.Machine)', "directives": {"MY.Flavour": '"a b"'}},
            "condor_submit {file}",
        ),
    ],
)
def test_a_real_batch_system_takes_the_script_as_it_is_meant(
    box: Box, scheduler: str, pool: dict[str, Any], submit: str
) -> None:
    lines = [*PROLOGUE, 'echo "$A $B $C"']
    pool |= {"gpus_per_job": 1, "memory": "1GiB", "walltime": "00:05:00", "prologue": lines}
    site = batch_site(scheduler, pool, python="/bin/echo")
    folder = f"/home/physicist/script-{os.getpid()}-{scheduler}"
    box.said("mkdir", "-p", f"{folder}/logs")
    text = script(site).replace("RESULTS", folder)
    box.said("tee", f"{folder}/job", stdin=text)
    box.said(*submit.format(file=f"{folder}/job").split())
    said = f"cat {folder}/logs/job-*.{'log' if scheduler == 'slurm' else 'out'}"
    assert in_time(lambda: WORKER[2] in box.exec("bash", "-c", said).stdout, 240)
    printed, worker = box.said("bash", "-c", said).splitlines()
    assert printed == "one;two it's two"
    assert worker.startswith(
        "-P -m hpcbench.cluster.start_worker tls://SCHEDULER:PORT --name hpcbench-RUN"
    )


@pytest.fixture
def own_jobqueue_yaml(tmp_path: Path) -> Path:
    """A home with settings of its user's own for dask-jobqueue."""
    folder = tmp_path / ".config" / "dask"
    folder.mkdir(parents=True)
    settings_ = """
      queue: evil
      account: evil
      walltime: '99:00:00'
      disk: 1 TB
      interface: evil0
      log-directory: /tmp/evil
      shebang: '#!/usr/bin/evil'
      python: evil
      worker-command: evil
      worker-extra-args: [--evil]
      job-extra-directives: [--evil]
      job-directives-skip: ['-n']
      job-script-prologue: [evil]
      submit-command-extra: [--evil]
      death-timeout: 1
    """
    sections = "".join(f"  {name}:{settings_}\n" for name in ("slurm", "htcondor"))
    (folder / "jobqueue.yaml").write_text(f"jobqueue:\n{sections}")
    return tmp_path


def test_a_users_own_jobqueue_yaml_changes_nothing(own_jobqueue_yaml: Path) -> None:
    code = (
        "import dask; from hpcbench.cluster import submission; "
        "from tests.helpers.builders import batch_site\n"
        "import dask_jobqueue; assert dask.config.get('jobqueue.slurm.queue') == 'evil'\n"
        "for system in ('slurm', 'htcondor'):\n"
        "    site = batch_site(system)\n"
        "    print(submission.job_script(site, 'gpu'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={**os.environ, "HOME": str(own_jobqueue_yaml)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    plain = [batch_site(system) for system in ("slurm", "htcondor")]
    assert done.stdout == "".join(f"{script(site)}\n" for site in plain)
    assert "evil" not in done.stdout


def test_a_cluster_class_that_cannot_be_imported_is_named() -> None:
    site = batch_site(cluster_class="no_such_package:Cluster")
    with pytest.raises(Exception, match="cluster_class: no_such_package:Cluster: No module named"):
        submission.cluster_class(site)
