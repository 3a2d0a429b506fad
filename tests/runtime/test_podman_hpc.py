"""Runs with the real podman-hpc and a rootless Podman, as an ordinary user of the box."""

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.box.fixture import Box, in_time
from tests.box.images import CHECKOUT, SDK, SERVER, Place, base_sites, registry_of, running, traces
from tests.box.registry import HOST
from tests.helpers.real import QUICK, UNHURRIED
from tests.helpers.stranger import TRY_SERVERS

# The first test may have to wait for the box and for its images.
pytestmark = [pytest.mark.box, pytest.mark.images, pytest.mark.timeout(2400)]

LONG = {"measurement_interval_ms": 20_000, "stability_percentage": 900}
"""Windows in which there is time to kill something."""

LOOK = """
for pid in $(pgrep -u physicist -f '^/opt/(tritonserver|sdk)/'); do
    echo "program $(readlink /proc/$pid/exe) $(stat -c %U /proc/$pid)"
    tr '\\0' '\\n' </proc/$pid/environ | sed 's/^/variable /'
    awk '{print "mount", $5, $6}' /proc/$pid/mountinfo
    ls -d /proc/$pid/root/home/* 2>/dev/null | sed 's/^/home /'
    ls /proc/$pid/root/proc | grep -c '^[0-9]' | sed 's/^/processes /'
    echo "cpus $(grep -c . /dev/null) $(grep Cpus_allowed_list /proc/$pid/status)"
done
"""
"""What the programs of a measurement have: who they are, their variables, mounts and homes."""


@pytest.fixture(scope="module")
def registry(box: Box, demo_models: Path) -> Iterator[Path]:
    """A registry that holds the two images: the folder of its files and digests."""
    assert demo_models
    box.do("images", timeout_s=1200)
    with registry_of(box, {"server": SERVER, "sdk": SDK}) as folder:
        yield folder


@pytest.fixture
def clean(box: Box, registry: Path) -> Iterator[Box]:
    """The box, in which the test leaves no process, folder, memory or mount."""
    assert registry
    yield box
    assert in_time(lambda: not running(box), 60), running(box)
    assert in_time(lambda: not traces(box), 60), traces(box)
    left = "ls -d /tmp/*_hpc /tmp/storage-run-* /tmp/containers-user-* /tmp/podman-run-*"
    for node in ([], ["srun", "-w", "n1"], ["srun", "-w", "n2"]):
        look = (*node, "sh", "-c", f"{left} 2>/dev/null")
        assert in_time(lambda look=look: not box.exec(*look).stdout, 60), box.exec(*look).stdout


def placed(box: Box, registry: Path, base: Path | None = None) -> Place:
    """A campaign with both images from the registry, and a cache that all tests share."""
    place = Place(box, base)
    place.site(
        runtime="podman-hpc",
        server_image=f"docker://{HOST}/tools/server:1",
        sdk_image=f"docker://{HOST}/tools/sdk:1",
        cache=str(registry / "cache"),
    )
    return place


@pytest.fixture
def place(clean: Box, registry: Path) -> Iterator[Place]:
    made = placed(clean, registry)
    yield made
    made.end()


def trust(registry: Path) -> tuple[str, str]:
    return "env", f"SSL_CERT_FILE={registry}/cert.pem"


def test_the_demo_runs_on_slurm_from_images_that_are_migrated_once(
    clean: Box, registry: Path
) -> None:
    """Nothing of the session reaches it, nobody else its ports, and it cannot write a model."""
    place = placed(clean, registry, base_sites()[1])
    demo = yaml.safe_load((CHECKOUT / "jobs" / "demo" / "campaign.yaml").read_text())
    demo["measurement"] |= QUICK | {"measurement_interval_ms": 500}
    demo["server"] = UNHURRIED
    models = f"{place.folder}/a,b:c"
    clean.said("cp", "-r", str(CHECKOUT / "jobs" / "demo" / "models"), models)
    place.campaign(**{**demo, "model_repository": models})
    run = place.start(
        *trust(registry),
        *(
            "CONTAINERS_CONF=/nowhere",
            "CONTAINERS_STORAGE_CONF=/nowhere",
            "CONTAINER_HOST=unix://x",
        ),
        *("PODMANHPC_MODULES_DIR=/nowhere", "SQUASH_DIR=/nowhere", "MARK_OF_THE_SESSION=1"),
    )
    seen: set[str] = set()
    tried: set[str] = set()

    def both() -> bool:
        seen.update(clean.exec("sh", "-c", LOOK, root=True).stdout.splitlines())
        tried.update(clean.stranger_said("sh", "-c", TRY_SERVERS).splitlines())
        # A program that ends at this moment has no words any more.
        words = [line.split() for line in seen if line.startswith("program ")]
        programs = {its[1].rpartition("/")[2] for its in words if len(its) > 1}
        return programs >= {"tritonserver", "perf_analyzer"} and bool(tried)

    try:
        assert in_time(both, 400), seen
    finally:
        output = run.communicate(timeout=500)[0]
    assert run.returncode == 0, output
    assert tried == {"tried"}, tried
    assert not [line for line in seen if "MARK_OF_THE_SESSION" in line or "SLURM_" in line]
    assert not [line for line in seen if line.startswith("home ")]
    mounted = [line for line in seen if "jet_tagger" in line and line.startswith("mount ")]
    assert mounted
    assert all(" ro," in line for line in mounted), mounted

    rows = place.rows()
    pools = yaml.safe_load(base_sites()[1].read_text())["pools"]
    assert sorted((row["pool"], row["batch_size"]) for row in rows) == sorted(
        itertools.product(pools, demo["load"]["batch_size"])
    )
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["network_isolated"] for row in rows} == {True}
    digests = {name: clean.said("cat", f"{registry}/{name}.digest") for name in ("server", "sdk")}
    said = "".join(output.split("\n"))
    for name, digest in digests.items():
        assert said.count(f"pulling docker://{HOST}/tools/{name}@{digest}") == 1, output
    for row in rows:
        assert row["runtime"] == "podman-hpc"
        assert row["server_image_digest"] == digests["server"]
        assert row["sdk_image_digest"] == digests["sdk"]
        assert (row["triton_version"], row["perf_analyzer_version"]) == ("2.51.0", "2.51.0")
    kept = clean.said("ls", "-A", "--ignore=.lock-*", f"{registry}/cache")
    assert sorted(kept.split()) == sorted(f"{d.replace(':', '-')}.store" for d in digests.values())


def measuring(place: Place) -> list[int]:
    """Waits until perf_analyzer measures; the processes of the run's workers."""
    assert in_time(lambda: running(place.box, "^/opt/sdk.*-b [0-9]"), 400)
    found = pids(place, "multiprocessing.*(spawn_main|forkserver)")
    listed = place.box.said("ps", "-o", "ppid=", "-p", ",".join(map(str, found)), root=True)
    # Local workers have the command line of the fork server, which is their parent.
    return [pid for pid in found if str(pid) not in listed.split()]


def pids(place: Place, pattern: str) -> list[int]:
    return [int(line.split()[0]) for line in running(place.box, pattern)]


def test_nothing_is_left_of_a_killed_worker_nor_of_one_killed_with_its_supervisors(
    place: Place, registry: Path
) -> None:
    """Both in one run: Dask starts another worker in the place of the first."""
    place.campaign(measurement=LONG, load={"batch_size": 1, "concurrency": 2}, repeats=2)
    run = place.start(*trust(registry))
    containers = "tritonserver.*--id=|^/opt/sdk|conmon|squashfuse|fuse-overlayfs"
    workers = measuring(place)
    before = pids(place, containers)
    assert len(before) >= 6
    place.box.exec("kill", "-9", *map(str, workers))
    assert in_time(lambda: not set(before) & set(pids(place, containers)), 120), running(place.box)

    workers = measuring(place)
    before = pids(place, containers)
    assert len(before) >= 6
    place.box.exec("kill", "-9", *map(str, workers + pids(place, "supervisor.py")))
    assert in_time(lambda: not set(before) & set(pids(place, containers)), 120), running(place.box)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=500)
    assert in_time(lambda: not running(place.box), 120), running(place.box)
