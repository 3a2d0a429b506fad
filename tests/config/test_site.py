"""The site file, and how a site is found by its name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hpcbench.cluster import run_state
from hpcbench.config import container
from hpcbench.config.network import Network
from hpcbench.config.site import Pool, Site
from hpcbench.errors import BadInput
from tests.helpers.builders import batch_site, refusal, write_site
from tests.helpers.paths import CHECKOUT


def test_the_local_site_comes_with_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPCBENCH_NATIVE", raising=False)
    site = Site.load("local")
    assert site.name == "local"
    assert site.scheduler == "local"
    assert site.container.prefix == (CHECKOUT / ".native").resolve()
    assert site.pools["cpu"].gpus_per_job == 0


def test_a_site_without_a_prefix_takes_the_one_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPCBENCH_NATIVE", str(tmp_path / "mine"))
    assert Site.load("local").container.prefix == tmp_path / "mine"
    named = write_site(tmp_path, container={"prefix": "own"})
    assert Site.load(named).container.prefix == tmp_path / "own"


def test_outside_a_checkout_the_default_prefix_is_in_the_users_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "hpcbench" / "config" / "container.py"
    monkeypatch.setattr(container, "__file__", str(installed))
    monkeypatch.delenv("HPCBENCH_NATIVE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert container.default_prefix() == tmp_path / "data" / "hpcbench" / "native"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert container.default_prefix() == tmp_path / ".local" / "share" / "hpcbench" / "native"


def test_every_site_of_the_project_can_be_read_and_is_called_as_its_file() -> None:
    paths = sorted((CHECKOUT / "site_configs").glob("*.yaml"))
    assert paths
    assert [Site.load(path).name for path in paths] == [path.stem for path in paths]


def test_a_site_file_in_the_working_folder_is_not_taken_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names programs to run, and the working folder may be a stranger's."""
    (tmp_path / "site_configs").mkdir()
    planted = write_site(tmp_path / "site_configs", name="planted")
    monkeypatch.chdir(tmp_path)
    planted = planted.rename(planted.with_name("mine.yaml"))
    assert "to use site_configs/mine.yaml, give its path" in refusal(Site.load, "mine")
    assert Site.load("site_configs/mine.yaml").name == "planted"
    planted.rename(planted.with_name("local.yaml"))
    assert "say which you mean: --site site_configs/local.yaml" in refusal(Site.load, "local")


def test_a_copy_of_a_site_that_comes_with_hpcbench_is_no_other_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(CHECKOUT / "site_configs", tmp_path / "site_configs")
    monkeypatch.chdir(tmp_path)
    assert Site.load("local").name == "local"


def test_an_unknown_site_is_answered_with_the_known_ones_and_the_nearest() -> None:
    message = refusal(Site.load, "locl")
    assert "no site of this name comes with hpcbench; did you mean 'local'?" in message
    assert "known sites: " in message
    assert "give the path of a site file" in message


@pytest.mark.parametrize("given", ["nowhere.yaml", "no/where", "./nowhere.yml"])
def test_a_path_that_does_not_exist_is_named(given: str) -> None:
    message = refusal(Site.load, given)
    assert message == f"{Path(given)}: cannot be read: No such file or directory"


def test_paths_are_relative_to_the_site_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site_configs"
    folder.mkdir()
    path = write_site(folder, container={"runtime": "native", "prefix": "../.native"})
    monkeypatch.chdir("/")
    assert Site.load(path).container.prefix == tmp_path / ".native"


def test_variables_and_home_are_replaced_in_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTWARE", "/cvmfs/software")
    monkeypatch.setenv("HOME", "/home/somebody")
    path = write_site(tmp_path, container={"prefix": "$SOFTWARE/triton", "scratch": "~/scratch"})
    container = Site.load(path).container
    assert container.prefix == Path("/cvmfs/software/triton")
    assert container.scratch == "/home/somebody/scratch"


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"pool": {}}, "pool", "unknown key; did you mean 'pools'?"),
        ({"scheduler": "slrum"}, "scheduler", "allowed: local"),
        ({"scheduler": "locl"}, "scheduler", "did you mean 'local'?"),
        ({"name": "a/b"}, "name", "allowed are letters, digits"),
        ({"pools": {}}, "pools", "is empty; give at least one"),
        ({"pools": {"a b": {}}}, "pools.a b", "allowed are letters, digits"),
        ({"pools": {"a": {"max_job": 1}}}, "pools.a.max_job", "did you mean 'max_jobs'?"),
        ({"pools": {"a": {"max_jobs": 0}}}, "pools.a.max_jobs", "greater than or equal to 1"),
        ({"pools": {"a": {"gpus_per_job": -1}}}, "pools.a.gpus_per_job", "equal to 0"),
        ({"pools": {"a": {"cpus": "many"}}}, "pools.a.cpus", "must be a whole number"),
        ({"pools": {"a": {"cpus": 0}}}, "pools.a.cpus", "greater than or equal to 1"),
        ({"pools": {"a": {"cpus": {"server": 6}}}}, "pools.a.cpus.client", "is missing"),
        (
            {"pools": {"a": {"cpus": {"server": 6, "client": 1, "clinet": 2}}}},
            "pools.a.cpus.clinet",
            "did you mean 'client'?",
        ),
        ({"pools": {"a": None}}, "pools.a", "must be a mapping"),
        ({"pools": ["a"]}, "pools", "must be a mapping"),
        ({"container": {"runtime": "nativ", "prefix": "x"}}, "container.runtime", "'native'"),
        ({"network": {"ports": "9:5"}}, "network.ports", 'a range such as "10000:10100"'),
        ({"network": {"ports": "1:99999"}}, "network.ports", "a range"),
        ({"network": {"scheduler_ports": 8786}}, "network.scheduler_ports", "must be a string"),
        ({"network": {"interface": "a b"}}, "network.interface", "such as ib0"),
        ({"cluster_class": "Cluster"}, "cluster_class", 'must be "package.module:Class"'),
        (
            {"container": {"runtime": "apptainer", "sdk_image": "x"}},
            "container.server_image",
            "is missing",
        ),
        ({"container": {"prefix": 5}}, "container.prefix", "(given: 5)"),
        ({"container": {"prefix": "x", "scratsh": "/"}}, "container.scratsh", "'scratch'"),
    ],
)
def test_a_mistake_in_a_site_is_one_line_with_key_and_what_is_allowed(
    tmp_path: Path, changes: dict[str, Any], key: str, words: str
) -> None:
    path = write_site(tmp_path, **changes)
    message = refusal(Site.load, path)
    assert message.startswith(f"{path}:")
    assert f": {key}: " in message
    assert words in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("name", ["gpu", "cpus", "a100"])
def test_a_pool_may_be_called_as_a_key_of_it(tmp_path: Path, name: str) -> None:
    """What is allowed in it is said all the same."""
    message = refusal(Site.load, write_site(tmp_path, pools={name: {"max_job": 1}}))
    assert f"pools.{name}.max_job: unknown key; did you mean 'max_jobs'?" in message
    assert "allowed here: gpu, gpus_per_job, cpus, max_jobs" in message


def test_a_home_of_nobody_is_a_mistake_in_the_file(tmp_path: Path) -> None:
    path = write_site(tmp_path, container={"prefix": "~no-such-user/x"})
    assert ": container.prefix: " in refusal(Site.load, path)


@pytest.mark.parametrize(
    ("network", "ports"),
    [
        ({}, range(1)),
        ({"ports": "10000:10100"}, range(10000, 10101)),
        ({"ports": "10000:10100", "scheduler_ports": "8786:8786"}, range(8786, 8787)),
    ],
)
def test_a_scheduler_listens_where_the_site_lets_it(network: dict[str, str], ports: range) -> None:
    assert Network(**network).port_range == ports


def test_a_range_for_jobs_that_one_job_could_not_use_is_refused(tmp_path: Path) -> None:
    path = write_site(tmp_path, scheduler="slurm", network={"ports": "10000:10000"})
    assert "network.ports: must be two ports at least" in refusal(Site.load, path)


@pytest.mark.parametrize(
    ("scheduler", "directives"),
    [("slurm", ["--exclusive"]), ("htcondor", {"+MaxRuntime": 60, "getenv": True})],
)
def test_a_batch_sites_settings_survive_being_written(
    tmp_path: Path, scheduler: str, directives: Any
) -> None:
    pool = {"memory": "2GiB", "walltime": "1-00:00:00", "directives": directives}
    site = batch_site(scheduler, pool)
    run_state.write_yaml(tmp_path / "site.yaml", site)
    assert Site.load(tmp_path / "site.yaml") == site


def test_a_run_can_be_repeated_from_the_site_that_it_wrote(tmp_path: Path) -> None:
    site = Site.load(write_site(tmp_path, pools={"cpu": {"max_jobs": 2, "cpus": 4}}))
    (tmp_path / "results").mkdir()
    run_state.write_yaml(tmp_path / "results" / "site.yaml", site)
    assert Site.load(tmp_path / "results" / "site.yaml") == site


def test_a_mistake_in_a_site_made_in_python_is_reported_as_one_in_a_file() -> None:
    with pytest.raises(BadInput) as caught:
        Site(name="x", scheduler="slrum", container={"prefix": "/x"}, pools={"a": {"qoss": "b"}})
    scheduler, qos = str(caught.value).splitlines()
    assert scheduler.startswith("Site: scheduler: allowed: local, htcondor, slurm; did you mean")
    assert qos.startswith("Site: pools.a.qoss: unknown key; did you mean 'qos'?")
    with pytest.raises(BadInput, match="Pool: walltime: must be"):
        Pool(walltime="soon")


def test_an_installed_wheel_brings_the_sites_of_real_machines(tmp_path: Path) -> None:
    """Built without a network, from what `make venv` installed."""
    build = "import sys, hatchling.build as b; b.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=CHECKOUT, check=True, timeout=120
    )
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-c", "import hpcbench; print(hpcbench.Site.load('perlmutter').name)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stdout) == (0, "perlmutter\n"), done.stderr
    shipped = {path.name for path in (tmp_path / "installed/hpcbench/site_configs").iterdir()}
    ours = {path.name for path in (CHECKOUT / "site_configs").iterdir()}
    assert shipped == {name for name in ours if not name.startswith("box-")}


def test_divided_cpus_are_those_of_the_job_together(tmp_path: Path) -> None:
    divided = {"cpus": {"server": 6, "client": 2}}
    site = Site.load(write_site(tmp_path, pools={"a": divided, "b": {"cpus": 4}, "c": {}}))
    counts = {name: pool.cpu_count for name, pool in site.pools.items()}
    assert counts == {"a": 8, "b": 4, "c": None}
    assert site.model_dump(mode="json", exclude_unset=True)["pools"]["a"] == divided
