"""A wheel in an environment of its own can do all that a checkout can, whatever lies beside it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.helpers.paths import CHECKOUT

native = pytest.mark.native


def built(kind: str, folder: Path, source: Path = CHECKOUT) -> Path:
    """The one wheel or sdist that was built in ``folder``, without a network."""
    code = f"import sys, hatchling.build as b; print(b.build_{kind}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=source,
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_wheel_has_one_package_and_takes_no_other_name(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in contents(wheel)}
    assert sorted(name.partition("-")[0] for name in tops) == ["hpcbench", "triton_hpcbench"]


@pytest.mark.parametrize("folder", ["analysis", "containers", "jobs", "site_configs"])
def test_a_wheel_has_the_files_of_the_checkout(wheel: Path, folder: str) -> None:
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=CHECKOUT, check=True, capture_output=True, text=True
    ).stdout.split()
    ours = {
        f"hpcbench/{name}": (CHECKOUT / name).read_bytes()
        for name in listed
        if not name.startswith("site_configs/box-")
    }
    shipped = {
        name: data
        for name, data in contents(wheel).items()
        if name.startswith(f"hpcbench/{folder}/")
    }
    assert shipped == ours


def test_a_wheel_built_from_the_sdist_is_the_same(wheel: Path, tmp_path: Path) -> None:
    sdist = built("sdist", tmp_path)
    subprocess.run(["tar", "-xzf", sdist, "-C", tmp_path], check=True)
    again = built("wheel", tmp_path, tmp_path / sdist.name.removesuffix(".tar.gz"))
    assert contents(again) == contents(wheel)


class Folder:
    """A physicist's folder with packages called as ours, and an environment with the wheel."""

    def __init__(self, path: Path, wheel: Path) -> None:
        self.path = path / "study"
        self.environment = path / "venv"
        for name in ("analysis", "site_configs"):
            (self.path / name).mkdir(parents=True)
            (self.path / name / "__init__.py").write_text(
                'raise ImportError("not the right one")\n'
            )
        subprocess.run([sys.executable, "-m", "venv", self.environment], check=True)
        requirement = f"triton-hpcbench[analysis,demo] @ {wheel.as_uri()}"
        # Python compiles what is imported, which is the least of it.
        options = ("-q", "--no-compile", "--disable-pip-version-check")
        self.python("-m", "pip", "install", *options, requirement)

    def python(self, *words: str) -> str:
        return self.run("python", *words)

    def hpcbench(self, *words: str) -> str:
        return self.run("hpcbench", *words)

    def run(self, program: str, *words: str) -> str:
        dropped = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "HPCBENCH_NATIVE")
        env = {name: value for name, value in os.environ.items() if name not in dropped}
        home = self.path.parent / "home"
        home.mkdir(exist_ok=True)
        env |= {"HOME": str(home), "XDG_DATA_HOME": str(home / "data")}
        if cache := self._pip_cache():
            env["PIP_CACHE_DIR"] = cache
        done = subprocess.run(
            [str(self.environment / "bin" / program), *words],
            cwd=self.path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=1200,
        )
        assert done.returncode == 0, f"{program} {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    @staticmethod
    def _pip_cache() -> str:
        """The user's, so that a second installation downloads nothing again."""
        command = [sys.executable, "-m", "pip", "cache", "dir"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return done.stdout.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Folder:
    return Folder(tmp_path_factory.mktemp("installed"), wheel)


@native
@pytest.mark.timeout(1800)
def test_the_demo_runs_from_a_wheel_beside_folders_of_the_same_names(folder: Folder) -> None:
    """From the installation of Triton to the recommendation, in the words of the README."""
    assert "ready: tritonserver" in folder.hpcbench("native")
    folder.hpcbench("example", "demo")
    folder.python("demo/make_model.py", "demo/models")
    campaign = yaml.safe_load((folder.path / "demo/campaign.yaml").read_text())
    campaign["load"]["batch_size"] = [1, 8]
    (folder.path / "demo/campaign.yaml").write_text(yaml.safe_dump(campaign))
    folder.hpcbench("plan", "demo/campaign.yaml")
    folder.hpcbench("run", "demo/campaign.yaml", "--results", "results")
    # What other tests do meanwhile is not the question.
    busy = [word for rule in ("DISTURBED", "CLIENT", "SHORT_WINDOW") for word in ("--accept", rule)]
    one = ("--figure", "throughput_latency_vs_batch")
    folder.hpcbench("plot", "results", "--out", "figures", *one, *busy)
    assert list((folder.path / "figures").glob("*.png"))
    folder.hpcbench("report", "results", "--out", "report.html")
    found = folder.hpcbench("recommend", "results", *busy)
    assert "Jet tagger ONNX" in found
    assert "2 measurements" in folder.python("-m", "hpcbench", "status", "results")
    code = "from hpcbench import load_results; print(len(load_results('results')), 'rows')"
    assert folder.python("-c", code) == "2 rows\n"


@native
def test_an_installation_brings_what_a_users_own_scripts_start_from(folder: Folder) -> None:
    listed = folder.hpcbench("example").split()
    assert {"demo", "driver.sbatch", "driver.sub", "batch_scan.py"} <= set(listed)
    assert (
        "#SBATCH" in (folder.path / folder.hpcbench("example", "driver.sbatch").strip()).read_text()
    )
    assert "perlmutter" in folder.python(
        "-c", "import hpcbench; print(hpcbench.Site.load('perlmutter').name)"
    )
    assert "_HPCBENCH_COMPLETE" in folder.hpcbench("completion", "bash")
