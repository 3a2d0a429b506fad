"""What tests of Apptainer need in the box: images, sites that use them, runs, a look at nodes."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from hpcbench import load_results
from tests.box.fixture import Box, in_time
from tests.box.paths import Places
from tests.box.registry import HOST
from tests.helpers.real import QUICK, SHAPES, UNHURRIED

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
HOME = Path("/home/physicist")
SERVER, SDK = "/opt/images/server-cpu.sif", "/opt/images/sdk-cpu.sif"
OURS = (
    "tritonserver|perf_analyzer|python_backend|squashfuse|runtime parent|supervisor.py"
    "|hpcbench-guard|podman-hpc|bin/podman|conmon|fuse-overlayfs"
)


def base_sites() -> list[Path]:
    """The box's sites: one of each scheduler."""
    names = ("box-slurm", "box-htcondor")
    batch = [CHECKOUT / "site_configs" / f"{name}.yaml" for name in names]
    return [HERE / "sites" / "local-native.yaml", *batch]


class Place:
    """A folder in the home of the box's user, with a campaign and a site of its own."""

    def __init__(self, box: Box, base: Path | None = None) -> None:
        self.box = box
        self.folder = HOME / f"test-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.results = self.folder / "results"
        self._runs: list[subprocess.Popen[str]] = []
        box.said("mkdir", str(self.folder))
        self._base = base or HERE / "sites" / "local-native.yaml"
        self.site()
        self.campaign()

    def write(self, name: str, content: object) -> Path:
        path = self.folder / name
        self.box.said("tee", str(path), stdin=yaml.safe_dump(content))
        return path

    def site(self, **container: Any) -> None:
        """The site in Apptainer, with some keys of its container replaced."""
        content = yaml.safe_load(self._base.read_text())
        kept = {k: v for k, v in content["container"].items() if k == "scratch"}
        content["container"] = kept | {
            "runtime": "apptainer",
            "server_image": SERVER,
            "sdk_image": SDK,
            "cache": str(self.folder / "cache"),
            **container,
        }
        self.write("site.yaml", content)

    def campaign(self, **changes: Any) -> None:
        content = {
            "name": "test",
            "model_repository": str(CHECKOUT / "jobs" / "demo" / "models"),
            "models": [{"name": "jet_tagger", "shapes": SHAPES}],
            "load": {"batch_size": [1, 4], "concurrency": 2},
            "measurement": QUICK,
            **({} if "models" in changes else {"server": UNHURRIED}),
            **changes,
        }
        self.write("campaign.yaml", content)

    def words(self, *before: str, results: Path | None = None) -> list[str]:
        return [
            *before,
            *("hpcbench", "run", str(self.folder / "campaign.yaml")),
            *("--site", str(self.folder / "site.yaml"), "--results", str(results or self.results)),
        ]

    def run(self, *before: str, timeout_s: float = 500) -> "subprocess.CompletedProcess[str]":
        """`hpcbench run` to its end; ``before`` is what stands before it in the command."""
        return self.box.exec(*self.words(*before), timeout_s=timeout_s)

    def start(self, *before: str, results: Path | None = None) -> "subprocess.Popen[str]":
        """`hpcbench run` beside the test; ``before`` stands before it in the command."""
        run = subprocess.Popen(
            [sys.executable, HERE / "box", "exec", *self.words(*before, results=results)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._runs.append(run)
        return run

    def end(self) -> None:
        """Ends the runs that a test which failed left behind."""
        for run in self._runs:
            if run.poll() is None:
                run.terminate()
                run.communicate(timeout=240)

    def rows(self, results: Path | None = None) -> list[dict[str, Any]]:
        """The records, read from outside: it takes no Python to be started in the box."""
        return rows_of(load_results(host_path(results or self.results)))


@contextmanager
def registry_of(box: Box, names: Mapping[str, str], needless: str = "") -> Iterator[Path]:
    """A registry that holds images as tools/NAME:1: the folder of its files, digests and log.

    ``needless`` are folders of /usr that none of them needs.
    """
    folder = Place(box).folder / "registry"
    tool = f"{CHECKOUT}/tests/box/registry.py"
    box.said("python", tool, "prepare", str(folder))
    serve = f"cd {folder} && exec docker-registry serve config.yml >log 2>&1"
    server = subprocess.Popen([sys.executable, HERE / "box", "exec", "sh", "-c", serve])
    try:
        answers = ["sh", "-c", f"ss -ltn | grep -q {HOST}"]
        assert in_time(lambda: box.exec(*answers).returncode == 0, 120)
        for name, image in names.items():
            root = f"{folder}/root"
            box.said("apptainer", "-q", "build", "--sandbox", root, image)
            box.said("sh", "-c", f"cd {root}/usr && rm -rf {needless}")
            path = box.said("apptainer", "-q", "exec", "--containall", image, "printenv", "PATH")
            words = [str(folder), f"tools/{name}", "1", root, path]
            digest = box.exec("python", tool, "push", *words, timeout_s=500)
            assert digest.returncode == 0, digest.stderr
            box.said(
                "sh", "-c", f"printf %s {digest.stdout} >{folder}/{name}.digest; rm -rf {root}"
            )
        yield folder
    finally:
        server.terminate()
        server.wait(120)


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: missing is None, and tuples are lists."""
    found: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", date_format="iso"))
    return found


def host_path(path: Path) -> Path:
    """A path of the box on this machine."""
    return Places.here().root / path.relative_to("/")


def running(box: Box, pattern: str = OURS) -> list[str]:
    """Command lines in the box, of all its nodes, in which a word of ours stands."""
    done = box.exec("pgrep", "-u", "physicist", "-a", "-f", pattern, root=True)
    return [line for line in done.stdout.splitlines() if "pgrep" not in line]


def traces(box: Box) -> list[str]:
    """Folders of hpcbench on scratch disks and in shared memory, and images that are mounted."""
    nodes = [["sh", "-c"], *(["srun", "-w", n, "sh", "-c"] for n in ("n1", "n2"))]
    look = "ls -d /tmp/hpcbench-* /dev/shm/hpcbench-* 2>/dev/null; grep fuse.squash /proc/mounts"
    return [line for node in nodes for line in box.exec(*node, look).stdout.splitlines()]
