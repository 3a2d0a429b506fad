"""The site files that come with the project, and the job scripts that they make.

Where a script is meant to change, `python -m tests.site_configs.test_site_configs` writes all of
them anew into tests/data/job_scripts/; look at what git says about them before you commit it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from hpcbench.cluster import submission
from hpcbench.config.network import Network
from hpcbench.config.site import Container, Pool, Site
from hpcbench.config.values import format_walltime
from tests.helpers.builders import write_model
from tests.helpers.paths import CHECKOUT, DATA

FOLDER = CHECKOUT / "site_configs"
RENEW = "python -m tests.site_configs.test_site_configs renews it"
STORED = DATA / "job_scripts"
SITES = {path.stem: Site.load(path) for path in sorted(FOLDER.glob("*.yaml"))}
POOLS = [
    (name, pool) for name, site in SITES.items() if site.scheduler != "local" for pool in site.pools
]
MACHINES = ("perlmutter", "expanse", "anvil", "delta", "leonardo", "lxplus", "lpc", "chtc")
NVIDIA = "docker://nvcr.io/nvidia/tritonserver"
UNPACKED = "/cvmfs/unpacked.cern.ch/registry.hub.docker.com/fastml/triton-torchgeo"
CONTAINERS = dict.fromkeys(MACHINES, f"apptainer, {NVIDIA}:25.07-py3, {NVIDIA}:24.10-py3-sdk") | {
    "perlmutter": f"podman-hpc, {NVIDIA}:25.07-py3, {NVIDIA}:24.10-py3-sdk",
    "lpc": f"apptainer, {UNPACKED}:26.04-py3-geometric, {NVIDIA}:24.10-py3-sdk",
}
ACCOUNT = re.compile(r"(^|\s)(-A|--account)|acc(oun|t)\w*group", re.IGNORECASE)

every_pool = pytest.mark.parametrize(("name", "pool"), POOLS)


def script(name: str, pool: str, account: str | None = "ACCOUNT") -> str:
    """The job script of a pool, the same on every machine."""
    site = SITES[name].model_copy(update={"python": SITES[name].python or "/venv/bin/python"})
    return submission.job_script(site, pool, account=account)


def test_the_machines_that_are_spoken_of_are_there() -> None:
    assert {name for name, _ in POOLS} >= {*MACHINES, "box-slurm", "box-htcondor"}


@every_pool
def test_a_pools_job_script_is_the_stored_one(name: str, pool: str) -> None:
    stored = STORED / f"{name}-{pool}.txt"
    assert script(name, pool) == stored.read_text(), RENEW


def test_no_stored_script_is_of_a_pool_that_is_no_more() -> None:
    assert {path.name for path in STORED.iterdir()} == {f"{n}-{p}.txt" for n, p in POOLS}


@every_pool
def test_no_site_file_names_an_account(name: str, pool: str) -> None:
    directives = SITES[name].pools[pool].directives
    for line in directives.items() if isinstance(directives, dict) else directives:
        assert not ACCOUNT.search(str(line))
    assert not ACCOUNT.search(script(name, pool, account=None))
    assert ACCOUNT.search(script(name, pool))


@every_pool
def test_every_job_has_an_end_that_the_batch_system_and_the_worker_know(
    name: str, pool: str
) -> None:
    seconds = SITES[name].pools[pool].walltime
    assert seconds
    text = script(name, pool)
    assert f"export HPCBENCH_WALLTIME_S={seconds}" in text
    slurm = f"#SBATCH -t {format_walltime(seconds)}\n"
    condor = f"allowed_job_duration = {seconds}\n"
    assert (slurm in text) + (condor in text) == 1


@every_pool
def test_a_limit_that_is_written_twice_is_the_same_twice(name: str, pool: str) -> None:
    found = re.search(r"MaxRuntime = (\d+)", script(name, pool))
    assert not found or int(found[1]) == SITES[name].pools[pool].walltime


@every_pool
def test_what_a_pool_asks_for_is_in_its_job_script(name: str, pool: str) -> None:
    site, asked, text = SITES[name], SITES[name].pools[pool], script(name, pool)
    prefixes = {"partition": "-p ", "qos": "--qos=", "constraint": "--constraint="}
    for key, prefix in prefixes.items():
        value = getattr(asked, key)
        assert (f"#SBATCH {prefix}{value}\n" in text) == (value is not None)
    assert not asked.requirements or f"({asked.requirements})" in text
    assert not asked.gpus_per_job or re.search(r"^(#SBATCH --g|request_gpus)", text, re.MULTILINE)
    assert not asked.account_suffix or f"-A ACCOUNT{asked.account_suffix}\n" in text
    for value in (site.network.interface, site.network.ports):
        assert not value or f" {value} " in text
    for line in asked.directives:
        assert line in text


@pytest.mark.parametrize("name", [name for name in SITES if not name.startswith(("box", "local"))])
def test_connections_are_encrypted_everywhere(name: str) -> None:
    assert SITES[name].network.tls


@pytest.mark.parametrize("name", MACHINES)
def test_a_real_site_file_says_what_is_not_known(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    assert "unverified" in text
    assert "# Account: " in text
    assert "# Login nodes: " in text


@pytest.mark.parametrize("model", [Site, Network, Container, Pool])
def test_the_template_explains_every_key(model: type) -> None:
    text = (FOLDER / "template.yaml").read_text()
    for key in model.model_fields:  # type: ignore[attr-defined]
        assert re.search(rf"^ *(# )?{key}:", text, re.MULTILINE), key


PLAN_ALL = """
import json, sys
from click.testing import CliRunner
from hpcbench.cli.main import main
texts = {}
for site in sys.argv[2:]:
    ended = CliRunner().invoke(main, ["plan", sys.argv[1], "--site", site, "--account", "ACCOUNT"])
    assert ended.exit_code == 0, ended.output
    texts[site] = ended.output.replace(sys.executable, "/venv/bin/python")
images = ["--server-image", "docker://a/tritonserver:1", "--sdk-image", "docker://a/sdk:2"]
ended = CliRunner().invoke(main, ["plan", sys.argv[1], "--site", "delta", *images])
texts["other images"] = ended.output
print(json.dumps(texts))
"""


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `hpcbench plan jobs/particlenet.yaml` prints for each machine where nothing is there.

    No batch system, no runtime, no way to a registry, nothing but the models.
    """
    folder = tmp_path_factory.mktemp("laptop")
    content = yaml.safe_load((CHECKOUT / "jobs" / "particlenet.yaml").read_text())
    for model in content["models"]:
        shapes = {name: tuple(dims) for name, dims in model["shapes"].items()}
        write_model(folder / "models", model["name"], inputs=shapes)
    campaign = folder / "particlenet.yaml"
    campaign.write_text(yaml.safe_dump(content | {"model_repository": "models"}))
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-c", PLAN_ALL, str(campaign), *MACHINES],
        env=os.environ
        | nowhere
        | {"PATH": str(folder), "no_proxy": "", "USER": "ann"}
        | {"HOME": str(folder), "HPCBENCH_ACCOUNT": ""},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", MACHINES)
def test_a_plan_from_anywhere_has_the_stored_job_scripts_and_their_containers(
    plans: dict[str, str], name: str
) -> None:
    text = plans[name]
    assert f"containers: {CONTAINERS[name]}\n" in text
    for pool in SITES[name].pools:
        assert (STORED / f"{name}-{pool}.txt").read_text().strip() in text, RENEW
    assert "14 points x 1 repeat x " in text
    with_gpus = [pool for pool, asked in SITES[name].pools.items() if asked.gpus_per_job]
    cost = re.findall(r"^estimated cost: (\S+) GPU hours(?:: (.*))?$", text, re.MULTILINE)
    assert len(cost) == bool(with_gpus)
    # The same placements for each pool, each with one GPU.
    for total, parts in cost:
        assert float(total) > 0
        assert re.findall(r"(\S+) \S+", parts) == (with_gpus if len(with_gpus) > 1 else [])


def test_the_images_of_a_site_can_be_others_for_one_run(plans: dict[str, str]) -> None:
    expected = "containers: apptainer, docker://a/tritonserver:1, docker://a/sdk:2\n"
    assert expected in plans["other images"]


@pytest.mark.parametrize("name", MACHINES)
def test_a_plan_from_anywhere_says_what_it_could_not_check(
    plans: dict[str, str], name: str
) -> None:
    _, _, unchecked = plans[name].partition("not checked from here:\n")
    submit = {"slurm": "sbatch", "htcondor": "condor_submit"}[SITES[name].scheduler]
    assert f"the batch system: this host has no {submit}; " in unchecked
    what = "the image /cvmfs/unpacked" if name == "lpc" else "the registry nvcr.io does not answer"
    assert what in unchecked
    assert f"the runtime: {SITES[name].container.runtime} is not in PATH here" in unchecked


LEFT_TO_DO = {
    "lxplus": ["pools: v100, t4, a100 need a port each on this side, and the network of the site "],
    "lpc": ["python: ", f"sdk_image: {NVIDIA}:24.10-py3-sdk would be pulled into ", "models: "],
    "chtc": ["python: ", "models: "],
}
"""The beginnings of what each site leaves to its user; nothing besides the account elsewhere."""


@pytest.mark.parametrize("name", MACHINES)
def test_a_plan_says_what_a_site_leaves_to_its_user_before_a_run(
    plans: dict[str, str], name: str
) -> None:
    _, _, said = plans[name].partition("\nbefore a run:\n")
    lines = said.partition("\nnot checked from here:\n")[0].splitlines()
    # What does not fit on a line goes on, further in.
    begun = [line.strip() for line in lines if re.match(r"  \S", line)]
    expected = LEFT_TO_DO.get(name, [])
    assert len(begun) == len(expected)
    for line, beginning in zip(begun, expected, strict=True):
        assert line.startswith(beginning[: len(line)])


def test_a_plan_says_which_pools_lack_an_account(plans: dict[str, str]) -> None:
    assert "before a run:\n  no account: the jobs of a100, a40 are " in plans["other images"]


@pytest.mark.parametrize("name", MACHINES)
def test_pools_with_gpus_have_a_runtime_that_serves_on_them(name: str) -> None:
    assert not SITES[name].container.wastes_gpus


def renew() -> None:
    """Writes all job scripts anew."""
    STORED.mkdir(exist_ok=True)
    for path in STORED.iterdir():
        path.unlink()
    for name, pool in POOLS:
        (STORED / f"{name}-{pool}.txt").write_text(script(name, pool))


if __name__ == "__main__":
    renew()
