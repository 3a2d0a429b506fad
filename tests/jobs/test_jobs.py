"""The scripts in jobs/: as documentation, and as what a user starts."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from hpcbench import Campaign
from tests.box.fixture import Box, in_time
from tests.helpers.paths import CHECKOUT
from tests.helpers.real import SHAPES, UNHURRIED

JOBS = CHECKOUT / "jobs"
numbers = itertools.count()


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.py")), ids=lambda path: path.name)
def test_a_script_can_be_read_at_a_glance(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) < 60
    assert f"python jobs/{path.name} " in "\n".join(lines[:5])


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.name)
def test_a_campaign_file_beside_them_is_valid(path: Path) -> None:
    assert Campaign.load(path).models


def test_throughputs_are_compared_point_by_point_with_those_of_the_first_pool() -> None:
    spec = importlib.util.spec_from_file_location("gpu_comparison", JOBS / "gpu_comparison.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    gpus = {"v100": None, "a100": "NVIDIA A100"}
    speeds = {"v100": [90.0, 100.0, 500.0], "a100": [250.0, 250.0, None]}
    frame = pd.DataFrame(
        {
            "pool": pool,
            "gpu_name": gpus[pool],
            "model_label": "Tagger",
            "variant": json.dumps({"instance_count": 2}),
            "batch_size": batch_size,
            "concurrency": 4,
            "throughput_infer_per_s": speed and speed * batch_size,
        }
        for pool in ("v100", "a100")
        for batch_size in (1, 8)
        for speed in speeds[pool]
    )
    frame.loc[len(frame)] = {**frame.loc[0], "batch_size": 16, "throughput_infer_per_s": None}
    table = module.compared(frame, ["v100", "a100"])
    assert list(table) == [
        ("v100, no GPU", "infer/s"),
        ("v100, no GPU", "ratio"),
        ("a100, NVIDIA A100", "infer/s"),
        ("a100, NVIDIA A100", "ratio"),
    ]
    assert table.loc[("Tagger", "instances 2", 1, 4)].to_list() == [100, 1, 250, 2.5]
    assert table.loc[("Tagger", "instances 2", 8, 4)].to_list() == [800, 1, 2000, 2.5]
    assert len(table) == 2


class TestDriverSbatch:
    """What the shell makes of jobs/driver.sbatch."""

    def run(self, folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        (folder / ".venv" / "bin").mkdir(parents=True)
        program = folder / ".venv" / "bin" / "hpcbench"
        shown = 'for word; do echo "$word"; done; echo "($HPCBENCH_ACCOUNT)"'
        program.write_text(f"#!/bin/sh\n{shown}; kill -TERM $$\n")
        program.chmod(0o755)
        command = ["/bin/bash", JOBS / "driver.sbatch", *words]
        return subprocess.run(
            command,
            cwd=folder,
            env={"PATH": os.environ["PATH"], **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def test_has_no_mistake_in_its_syntax(self) -> None:
        subprocess.run(["/bin/bash", "-n", JOBS / "driver.sbatch"], check=True, timeout=240)

    def test_becomes_the_driver_with_its_arguments_as_they_are(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "a b.yaml", "$HOME", "re'sults", "--pool", "*")
        assert done.stdout.splitlines() == [
            *("run", "a b.yaml", "--site", "$HOME", "--results", "re'sults", "--pool", "*"),
            "()",
        ]
        # A signal reaches the driver itself, not a shell around it.
        assert done.returncode == -15

    @pytest.mark.parametrize(
        ("env", "account"),
        [
            ({"SLURM_JOB_ACCOUNT": "phy"}, "phy"),
            ({"SLURM_JOB_ACCOUNT": "phy", "HPCBENCH_ACCOUNT": "own"}, "own"),
        ],
    )
    def test_its_jobs_are_charged_as_it_is_itself(
        self, tmp_path: Path, env: dict[str, str], account: str
    ) -> None:
        done = self.run(tmp_path, "campaign.yaml", "site", "results", **env)
        assert done.stdout.splitlines()[-1] == f"({account})"

    def test_says_what_it_wants(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "campaign.yaml")
        assert done.returncode == 2
        assert "CAMPAIGN SITE RESULTS" in done.stderr


@pytest.fixture
def study(box: Box, demo_models: Path) -> Callable[..., str]:
    """Writes a short campaign on the demo's model into a new folder of the box's user."""

    def write(**changes: Any) -> str:
        data = {
            "name": "short",
            "model_repository": str(demo_models),
            "models": [{"name": "jet_tagger", "shapes": SHAPES}],
            "load": {"batch_size": [1, 8], "concurrency": 1},
            "measurement": {
                "measurement_interval_ms": 600,
                "max_trials": 3,
                "stability_percentage": 50,
            },
            "server": UNHURRIED,
        }
        folder = f"/home/physicist/jobs-{os.getpid()}-{next(numbers)}"
        box.said("mkdir", folder)
        box.said("tee", f"{folder}/campaign.yaml", stdin=yaml.safe_dump(data | changes))
        return folder

    return write


def records(box: Box, results: str) -> pd.DataFrame:
    code = "import hpcbench, sys; print(hpcbench.load_results(sys.argv[1]).to_json())"
    return pd.DataFrame(json.loads(box.said("python", "-W", "ignore", "-c", code, results)))


class Slurm:
    site = "box-slurm"
    submit = "sbatch --parsable --time=20 {script}.sbatch campaign.yaml box-slurm results"
    end = "scancel --batch --signal=TERM {job}"
    queue = "squeue --noheader"


class HTCondor:
    site = "box-htcondor"
    submit = (
        "condor_submit -terse campaign=campaign.yaml site=box-htcondor results=results {script}.sub"
    )
    end = "condor_rm {job}"
    queue = "condor_q -allusers -autoformat ClusterId"


@pytest.mark.box
@pytest.mark.timeout(1800)
class TestInTheBox:
    @pytest.mark.parametrize("system", [Slurm, HTCondor])
    def test_a_driver_in_a_job_ends_its_jobs_with_itself_and_goes_on_when_submitted_again(
        self, box: Box, study: Callable[..., str], system: type[Slurm | HTCondor]
    ) -> None:
        sizes = list(range(1, 8))
        # So long that some points are left when the batch system has ended the driver.
        windows = {"measurement_interval_ms": 1500, "max_trials": 3, "stability_percentage": 50}
        folder = study(load={"batch_size": sizes, "concurrency": 1}, measurement=windows)

        def shell(command: str) -> str:
            words = command.format(script=JOBS / "driver", job=job)
            return box.said("bash", "-c", f"cd {folder} && {words}")

        def over() -> bool:
            return not shell(system.queue)

        job = ""
        job = shell(system.submit).split()[0]
        assert in_time(lambda: shell("ls results/records || true"), 300)
        shell(system.end)
        assert in_time(over, 240), shell(system.queue)
        log = shell("cat hpcbench-driver-*.log")
        assert "stopped by SIGTERM; what was measured is kept" in log
        before = records(box, f"{folder}/results")
        assert 0 < len(before) < len(sizes)
        first = job

        job = shell(system.submit).split()[0]
        assert in_time(over, 600), shell("cat hpcbench-driver-*.log")
        frame = records(box, f"{folder}/results")
        assert sorted(frame["batch_size"]) == sizes
        assert set(frame["status"]) <= {"ok", "unstable"}, set(frame["reason"])
        kept = frame[frame["point_id"].isin(before["point_id"])]
        assert sorted(kept["ended_at"]) == sorted(before["ended_at"])
        assert not set(frame["job_id"]) & {first, job}
        assert len(set(frame["job_id"])) > 1

    def test_one_campaign_compares_several_pools_and_records_say_where_they_are_from(
        self, box: Box, study: Callable[..., str]
    ) -> None:
        folder = study()
        script = JOBS / "gpu_comparison.py"
        words = [str(script), f"{folder}/campaign.yaml", "box-slurm-pools", f"{folder}/results"]
        done = box.exec("python", *words, timeout_s=300)
        assert done.returncode == 0, done.stderr
        table, *means = done.stdout.rsplit("\n", maxsplit=3)[:3]
        assert "a100, no GPU" in table
        assert "v100, no GPU" in table
        assert means[0] == "a100, no GPU: 1.00 in the geometric mean"
        assert means[1].startswith("v100, no GPU: ")
        frame = records(box, f"{folder}/results").sort_values(["pool", "batch_size"])
        assert frame["pool"].to_list() == ["a100", "a100", "v100", "v100"]
        assert frame["node"].to_list() == ["n1", "n1", "n2", "n2"]
        assert frame["batch_size"].to_list() == [1, 8, 1, 8]
        assert set(frame["cuda_visible_devices"]) <= {"0", "1"}
        assert len(set(frame["job_id"])) == 2
        assert not box.said("squeue", "--noheader")
