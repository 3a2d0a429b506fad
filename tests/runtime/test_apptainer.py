"""Runs in real images of the real Apptainer, as an ordinary user of the box."""

import itertools
import json
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.box.fixture import Box, in_time
from tests.box.images import (
    CHECKOUT,
    SDK,
    SERVER,
    Place,
    base_sites,
    host_path,
    registry_of,
    running,
    traces,
)
from tests.box.paths import USER_ID
from tests.box.registry import HOST
from tests.box.stranger import planted, reached
from tests.helpers import model_kinds
from tests.helpers.real import QUICK, SHAPES, UNHURRIED
from tests.helpers.stranger import TRY_SERVERS, UID

# The first test may have to wait for the box and for its images.
pytestmark = [pytest.mark.box, pytest.mark.images, pytest.mark.timeout(2400)]


LONG = {"measurement_interval_ms": 20_000, "stability_percentage": 900}
"""Windows in which there is time to kill something."""


@pytest.fixture(scope="module")
def images(box: Box, demo_models: Path) -> Box:
    """The box with images in /opt/images, and the demo's model in its checkout."""
    box.do("images", timeout_s=1200)
    return box


@pytest.fixture
def clean(images: Box) -> Iterator[Box]:
    """The box, in which the test leaves no process, folder, memory or mount."""
    yield images
    assert in_time(lambda: not running(images), 60), running(images)
    assert in_time(lambda: not traces(images), 60), traces(images)


@pytest.fixture
def place(clean: Box) -> Iterator[Place]:
    made = Place(clean)
    yield made
    made.end()


@pytest.mark.parametrize("base", base_sites(), ids=lambda path: path.stem)
def test_the_demo_gives_each_point_once_from_both_images(clean: Box, base: Path) -> None:
    """All of the demo's campaign, in short windows, beside a stranger."""
    place = Place(clean, base)
    demo = yaml.safe_load((CHECKOUT / "jobs" / "demo" / "campaign.yaml").read_text())
    # Ten windows in which a busy machine answers the largest batch, too.
    demo["measurement"] |= QUICK | {"measurement_interval_ms": 500}
    demo["server"] = UNHURRIED
    place.campaign(**{**demo, "model_repository": str(CHECKOUT / "jobs" / "demo" / "models")})
    seen: set[str] = set()
    tried: set[str] = set()
    expected = {
        "physicist /opt/tritonserver/triton/pytriton/tritonserver/bin/tritonserver",
        "physicist /opt/sdk/perf_analyzer/perf_analyzer",
    }

    def both() -> bool:
        seen.update(in_images(clean, "tritonserver") + in_images(clean, "perf_analyzer"))
        said = clean.stranger_said("sh", "-c", TRY_SERVERS)
        tried.update(said.splitlines())
        return seen >= expected and bool(tried)

    with planted(clean, place.folder / "precious"):
        run = place.start()
        try:
            assert in_time(both, 300), seen
            assert not reached(clean, place.results)
        finally:
            output = run.communicate(timeout=500)[0]
    assert run.returncode == 0, output
    assert tried == {"tried"}, tried
    logs = clean.said("sh", "-c", f"cat {place.results}/logs/*.server.log")
    assert "Traceback" not in logs, logs[-2000:]
    rows = place.rows()
    pools = yaml.safe_load(base.read_text())["pools"]
    assert sorted((row["pool"], row["batch_size"]) for row in rows) == sorted(
        itertools.product(pools, demo["load"]["batch_size"])
    )
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["network_isolated"] for row in rows} == {True}
    lock = json.loads(clean.said("cat", "/opt/images/images.lock"))
    for row in rows:
        assert (row["runtime"], row["server_image"], row["sdk_image"]) == ("apptainer", SERVER, SDK)
        assert row["server_image_digest"] == f"sif:{lock['server-cpu']['sha256']}"
        assert row["sdk_image_digest"] == f"sif:{lock['sdk-cpu']['sha256']}"
        assert (row["triton_version"], row["perf_analyzer_version"]) == ("2.51.0", "2.51.0")
        assert json.loads(row["backend_versions"])["onnxruntime"] == "1.28.0"
        assert row["cuda_version"] is row["tensorrt_version"] is None


def in_images(box: Box, name: str) -> list[str]:
    """(user, the program's file as its image names it) of each program in an image of ours."""
    script = (
        f'for pid in $(pgrep -u physicist -f "{name}.*-(b|-id)[= ]"); do '
        "[ -e /proc/$pid/root/.singularity.d ] && "
        "echo $(stat -c %U /proc/$pid) $(readlink /proc/$pid/exe); done"
    )
    return box.exec("sh", "-c", script, root=True).stdout.splitlines()


def test_variables_of_a_job_of_slurm_do_not_reach_a_measurement(place: Place) -> None:
    """Nor those of the session that it was submitted from."""
    done = place.run(
        *("srun", "-w", "n1", "--gres=gpu:1"),
        *("env", "APPTAINER_BIND=/no/such/path", "SINGULARITY_NV=1", "APPTAINERENV_LD_PRELOAD=/x"),
        *("APPTAINERENV_PATH=/nowhere", "LD_LIBRARY_PATH=/nowhere", "HPCBENCH_CPUS=77"),
        *("LD_PRELOAD=/no/such.so", "PYTHONPATH=/nowhere", "TMPDIR=/nowhere", "HOME=/nowhere"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = place.rows()
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["node"] for row in rows} == {"n1"}


def test_links_in_models_and_input_lead_to_their_ends_and_no_model_can_be_written(
    place: Place,
) -> None:
    """Links to a file, to a folder, and through another link."""
    make = """
    mkdir -p "$0/models/store,1:a/v" "$0/models/shared" "$0/input" "$0/x"
    cp -r jobs/demo/models/jet_tagger "$0/models/"; cd "$0/models/jet_tagger"
    mv 1/model.onnx ../shared/; rmdir 1
    ln -s "$0/models/store,1:a/v" 1; ln -s ../../shared/model.onnx 1/model.onnx
    cd "$0/input"; head -c 200 /dev/zero >pf_mask; head -c 16 /dev/zero >sv_mask
    head -c 3200 /dev/zero >"$0/models/store,1:a/pf_features"
    ln -s "$0/models/store,1:a/pf_features" pf_features
    head -c 160 /dev/zero >"$0/x/sv"; ln -s x/sv "$0/again"; ln -s ../again sv_features
    """
    place.box.said("bash", "-ec", make, str(place.folder))
    place.campaign(
        model_repository=str(place.folder / "models"),
        load={"batch_size": 1, "concurrency": 2},
        measurement={**QUICK, "input_data": str(place.folder / "input")},
    )
    done = place.run()
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = place.rows()
    assert (row["status"], row["input_data"]) == ("ok", str(place.folder / "input"))
    code = """
import sys
from pathlib import Path
from hpcbench import Campaign, Site, plan
from hpcbench.measure import model_repository
from hpcbench.runtime import apptainer, command as commands, process
folder = Path(sys.argv[1])
todo = plan(Campaign.load(folder / "campaign.yaml"), Site.load(folder / "site.yaml"))
(placement,) = todo.placements["cpu"]
mounts = model_repository.paths_to_mount(placement.points[0].variant, todo.site.container)
access = commands.NodeAccess(folder=folder / "access", mounts=mounts)
access.folder.mkdir()
model = placement.points[0].variant.model.folder
for path in (model / "config.pbtxt", model / "1" / "model.onnx"):
    words = ["sh", "-c", 'cat "$0" >/dev/null && ! echo x >>"$0"', str(path)]
    command = apptainer.RUNTIME.image_command(todo.site.container, "server", words, access)
    done = process.run(command, folder=access.folder, timeout_s=240)
    assert done.returncode == 0, done
    assert "Read-only file system" in done.stderr, done
"""
    done = place.box.exec("python", "-c", code, str(place.folder))
    assert done.returncode == 0, done.stderr


def test_variants_are_swapped_on_one_server(place: Place) -> None:
    place.campaign(
        server=UNHURRIED | {"instance_count": [1, 2]},
        fresh_servers=False,
        load={"batch_size": 1, "concurrency": 2},
    )
    done = place.run()
    assert done.returncode == 0, done.stdout + done.stderr
    rows = place.rows()
    assert {row["status"] for row in rows} == {"ok"}
    assert sorted(row["instance_count"] for row in rows) == [1, 2]
    assert sorted(row["server_fresh"] for row in rows) == [False, True]
    logs = place.box.said("sh", "-c", f"cat {place.results}/logs/*.server.log")
    assert logs.count("Started HTTPService") == 1


def test_divided_cpus_are_those_of_the_programs_in_both_images(place: Place) -> None:
    site = yaml.safe_load(place.box.said("cat", str(place.folder / "site.yaml")))
    site["pools"]["cpu"]["cpus"] = {"server": 1, "client": 1}
    place.write("site.yaml", site)
    # Windows in which a busy machine finds time to read the CPUs of both.
    long = {**QUICK, "measurement_interval_ms": 1500}
    place.campaign(load={"batch_size": [1, 4], "concurrency": 2}, measurement=long)
    # Those that serve and measure: before, each program is asked for its version on all CPUs.
    look = (
        'for pid in $(pgrep -u physicist -f -- " -(b|-id)[= ]"); do '
        "echo $(cat /proc/$pid/comm) $(grep Cpus_allowed_list /proc/$pid/status); done"
    )
    seen: set[tuple[str, str]] = set()

    def both() -> bool:
        lines = map(str.split, place.box.exec("sh", "-c", look, root=True).stdout.splitlines())
        found = [words for words in lines if words[0] in ("perf_analyzer", "tritonserver")]
        seen.update((words[0], words[2]) for words in found if len(words) == 3)
        return len({name for name, _ in seen}) == 2

    run = place.start()
    assert in_time(both, 300), seen
    output = run.communicate(timeout=500)[0]
    assert run.returncode == 0, output
    # One CPU each, and not the same one.
    assert sorted(name for name, _ in seen) == ["perf_analyzer", "tritonserver"]
    assert len({cpus for _, cpus in seen}) == 2
    assert all(cpus.isdigit() for _, cpus in seen), seen
    assert [(row["status"], row["cpus_shared"]) for row in place.rows()] == [("ok", False)] * 2


def test_server_and_client_share_memory_also_beside_another_such_pair(place: Place) -> None:
    """The segments of all perf_analyzers have the same names, those of the inputs."""
    site = yaml.safe_load(place.box.said("cat", str(place.folder / "site.yaml")))
    site["pools"]["cpu"]["max_jobs"] = 2
    place.write("site.yaml", site)
    place.campaign(
        load={"batch_size": [1, 4], "concurrency": 2},
        measurement={**QUICK, "measurement_interval_ms": 1500, "shared_memory": "system"},
        repeats=2,
    )
    done = place.run()
    assert done.returncode == 0, done.stdout + done.stderr
    rows = place.rows()
    assert [(row["status"], row["shared_memory"]) for row in rows] == [("ok", "system")] * 4
    assert all("--shared-memory system" in row["command"] for row in rows)
    spans = [(row["repeat"], row["started_at"], row["ended_at"]) for row in rows]
    assert any(
        one[0] != other[0] and one[1] < other[2] and other[1] < one[2]
        for one, other in itertools.combinations(spans, 2)
    ), "no two measured at the same time"


def test_a_response_cache_answers_only_where_it_was_asked_for(place: Place) -> None:
    place.campaign(
        server=UNHURRIED | {"response_cache": [True, False]},
        load={"batch_size": 1, "concurrency": 2},
    )
    done = place.run()
    assert done.returncode == 0, done.stdout + done.stderr
    found = {row["response_cache"]: row for row in place.rows()}
    assert {row["status"] for row in found.values()} == {"ok"}
    assert found[True]["server_cache_hit_us"] > 0
    assert found[False]["server_cache_hit_us"] is None


class TestAnotherImage:
    """At the path of the one that the driver hashed; no record may carry the digest of that one."""

    def test_that_comes_during_a_run_ends_it_and_is_measured_by_the_next(
        self, place: Place
    ) -> None:
        image, other = place.folder / "server.sif", place.folder / "other.sif"
        place.box.said("cp", SERVER, str(image))
        place.box.said("cp", SERVER, str(other))
        extra = str(place.folder / "extra")
        place.box.said("truncate", "-s", "4096", extra)
        place.box.said("apptainer", "sif", "add", "--datatype", "7", str(other), extra)
        place.site(server_image=str(image))
        # So long that the image is another one before the second point.
        place.campaign(measurement={**QUICK, "measurement_interval_ms": 3000})
        run = place.start()
        assert in_time(lambda: running(place.box, "perf_analyzer.*-b [0-9]"), 300)
        place.box.said("mv", str(other), str(image))
        output = run.communicate(timeout=500)[0]
        assert run.returncode == 3, output
        said = " ".join(output.split())
        assert f"{image} is not the image that this run began with" in said
        (first,) = place.rows()
        assert first["status"] == "ok"
        assert place.run().returncode == 0
        rows = place.rows()
        digests = [
            f"sif:{place.box.said('sha256sum', path).split()[0]}" for path in (SERVER, str(image))
        ]
        assert digests[0] != digests[1]
        found = {(row["server_image_digest"], row["batch_size"]) for row in rows}
        assert found == {(digests[0], first["batch_size"]), (digests[1], 1), (digests[1], 4)}
        assert {row["status"] for row in rows} == {"ok"}

    def test_on_one_node_makes_the_others_do_the_work(self, clean: Box) -> None:
        """Each node has a copy on its own disk; that of n1 is another one."""
        place = Place(clean, base_sites()[1])
        folder = Path(f"/tmp/{place.folder.name}")
        for node in ("n1", "n2"):
            copy = f"mkdir {folder}; cp {SDK} {folder}/sdk.sif"
            assert clean.exec("srun", "-w", node, "sh", "-c", copy).returncode == 0
        clean.said("sh", "-c", f"mkdir -p {folder}; cp {SDK} {folder}/sdk.sif")
        spoil = f"date >>{folder}/sdk.sif"
        assert clean.exec("srun", "-w", "n1", "sh", "-c", spoil).returncode == 0
        place.site(sdk_image=str(folder / "sdk.sif"))
        place.campaign(load={"batch_size": [1, 2, 3, 4], "concurrency": 2}, repeats=2)
        try:
            done = place.run(timeout_s=500)
        finally:
            for node in ("n1", "n2"):
                clean.exec("srun", "-w", node, "rm", "-r", str(folder))
            clean.said("rm", "-r", str(folder))
        said = " ".join((done.stdout + done.stderr).split())
        assert done.returncode == 0, said
        assert f"n1: {folder}/sdk.sif is not the image" in said
        assert {row["node"] for row in place.rows()} == {"n2"}
        assert len(place.rows()) == 8


def test_a_sandbox_serves_like_the_sif_it_was_unpacked_from(place: Place) -> None:
    folder = place.folder / "sandbox"
    made = place.box.exec(
        *("apptainer", "-q", "build", "--sandbox", str(folder), SERVER), timeout_s=800
    )
    assert made.returncode == 0, made.stderr
    place.site(server_images={"unpacked": str(folder)})
    model = {"name": "jet_tagger", "shapes": SHAPES}
    other = {**model, "label": "unpacked", "server_image": "unpacked"}
    place.campaign(
        models=[model, other], server=UNHURRIED, load={"batch_size": 1, "concurrency": 2}
    )
    done = place.run()
    assert done.returncode == 0, done.stdout + done.stderr
    found = {row["model_label"]: row for row in place.rows()}
    assert found["jet_tagger"]["server_image"] == SERVER
    assert found["jet_tagger"]["server_image_digest"].startswith("sif:")
    assert found["unpacked"]["server_image"] == str(folder)
    assert found["unpacked"]["server_image_digest"].startswith("sandbox:")
    place.box.said("rm", "-rf", str(folder))


def test_the_doctor_looks_at_the_images_here_and_on_the_node(place: Place) -> None:
    words = ("--site", str(place.folder / "site.yaml"), "--results", str(place.folder), "--json")
    done = place.box.exec("hpcbench", "doctor", *words, timeout_s=500)
    states = {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, done.stdout
    assert states["images"] == states["perf_analyzer here"] == states["Triton starts"] == "ok"
    place.site(server_image=SDK)
    done = place.box.exec("hpcbench", "doctor", *words, timeout_s=500)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 3
    assert "there is no tritonserver in the PATH" in checks["software"]["found"]
    assert checks["Triton starts"]["state"] == "skipped"


def test_a_site_with_awkward_names_and_binds_measures(place: Place) -> None:
    """Links with spaces and colons, a bind around the scratch folder, one within /tmp."""
    for name, image in (("a server:1, new.sif", SERVER), ("-sdk x.sif", SDK)):
        place.box.said("ln", "-s", image, str(place.folder / name))
    place.box.said("mkdir", str(place.folder / "scratch"))
    place.site(
        server_image="a server:1, new.sif",
        sdk_image="./-sdk x.sif",
        scratch=str(place.folder / "scratch"),
        binds=[str(place.folder), "/etc/hosts:/tmp/hosts"],
    )
    place.campaign(load={"batch_size": 1, "concurrency": 2})
    done = place.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["status"] for row in place.rows()] == ["ok"]


@pytest.fixture(scope="module")
def registry(images: Box) -> Iterator[Path]:
    """A registry that holds the SDK's image as tools/sdk:1: the folder of its files and log."""
    # Each pull compresses it anew; this is two thirds of it, and perf_analyzer needs none.
    with registry_of(images, {"sdk": SDK}, needless="lib/python3* share/* lib/apt") as folder:
        yield folder


class TestRegistry:
    """Images are found and pulled by the digests of a real registry."""

    def fetched(self, registry: Path, box: Box) -> list[str]:
        """The digests of what was fetched of the image, in its order."""
        log = box.said("cat", f"{registry}/log")
        return re.findall(r"GET /v2/tools/sdk/blobs/(sha256:[0-9a-f]{64}) .* 200 ", log)

    def test_an_image_is_pulled_once_for_two_runs_and_recorded_by_the_registrys_digest(
        self, place: Place, registry: Path
    ) -> None:
        """At the same time, and by none that comes later."""
        reference = f"docker://{HOST}/tools/sdk:1"
        place.site(sdk_image=reference)
        place.campaign(load={"batch_size": 1, "concurrency": 2}, repeats=2)
        trust = ("env", f"SSL_CERT_FILE={registry}/cert.pem")
        runs = [place.start(*trust, results=place.folder / name) for name in ("results", "other")]
        said = [run.communicate(timeout=500)[0] for run in runs]
        assert [run.returncode for run in runs] == [0, 0], said
        digest = place.box.said("cat", f"{registry}/sdk.digest")
        assert f"pulling docker://{HOST}/tools/sdk@{digest}" in "".join("".join(said).split("\n"))
        for name in ("results", "other"):
            rows = place.rows(place.folder / name)
            assert len(rows) == 2
            assert {(r["sdk_image"], r["sdk_image_digest"]) for r in rows} == {(reference, digest)}
        cache = place.box.said("ls", "-A", "--ignore=.lock-*", f"{place.folder}/cache")
        assert sorted(cache.split()) == ["digests", f"{digest.replace(':', '-')}.sif"]
        fetched = self.fetched(registry, place.box)
        assert len(set(fetched)) == len(fetched) > 0

        place.campaign(load={"batch_size": 1, "concurrency": 2}, repeats=3)
        again = place.run(*trust)
        assert again.returncode == 0, again.stderr
        assert "pulling" not in again.stderr
        assert self.fetched(registry, place.box) == fetched
        assert len(place.rows()) == 3, "what was measured before was not measured again"

    def test_a_tag_that_the_registry_does_not_have_is_refused_at_once(
        self, place: Place, registry: Path
    ) -> None:
        place.site(server_image=f"docker://{HOST}/tools/sdk:2")
        done = place.run("env", f"SSL_CERT_FILE={registry}/cert.pem", timeout_s=240)
        assert done.returncode == 3
        assert f"the registry {HOST} has no tools/sdk with 2" in done.stderr

    def test_a_registry_whose_certificate_is_unknown_is_not_trusted(
        self, place: Place, registry: Path
    ) -> None:
        place.site(server_image=f"docker://{HOST}/tools/sdk:1")
        done = place.run(timeout_s=240)
        assert done.returncode == 3
        assert "CERTIFICATE_VERIFY_FAILED" in done.stderr

    def test_a_pull_that_fails_leaves_no_file_and_is_reported_in_its_words(
        self, place: Place, registry: Path
    ) -> None:
        place.site(server_image=f"docker://{HOST}/tools/sdk@sha256:{'0' * 64}")
        done = place.run("env", f"SSL_CERT_FILE={registry}/cert.pem", timeout_s=240)
        assert done.returncode == 3
        assert "could not be pulled: " in done.stderr
        assert "manifest unknown" in done.stderr
        cache = place.box.said("ls", "-A", "--ignore=.lock-*", f"{place.folder}/cache")
        assert "sha" not in cache

    def test_a_run_that_is_killed_while_it_pulls_leaves_nothing_of_the_pull(
        self, place: Place, registry: Path
    ) -> None:
        place.site(sdk_image=f"docker://{HOST}/tools/sdk:1")
        run = place.start("env", f"SSL_CERT_FILE={registry}/cert.pem")
        assert in_time(lambda: running(place.box, "apptainer pull"), 300)
        driver = running(place.box, "^/opt/venv/bin/python.* /opt/venv/bin/hpcbench run")
        place.box.said("kill", "-9", *(line.split()[0] for line in driver))
        run.communicate(timeout=500)
        cache = ["ls", "-A", "--ignore=.lock-*", "--ignore=digests", f"{place.folder}/cache"]
        assert in_time(lambda: not place.box.said(*cache), 60), place.box.said(*cache)
        assert not running(place.box, "apptainer")
        # What the driver itself had in /tmp is deleted by the next one, also where that cannot run.
        place.site(sdk_image="/nowhere.sif")
        assert place.run(timeout_s=240).returncode == 3

    def test_the_definitions_for_gpus_build_from_images_that_are_here(
        self, place: Place, registry: Path
    ) -> None:
        """NVIDIA's cannot be had in a test: an SDK from this registry, and a server unpacked."""
        # Apptainer unpacks a SIF for --fakeroot only where root has its capabilities in containers.
        unpacked = str(place.folder / "unpacked")
        place.box.said("apptainer", "-q", "build", "--sandbox", unpacked, SERVER)
        nvidia = "nvcr.io/nvidia/tritonserver:{{ tag }}"
        here = {
            "sdk": [(nvidia, f"{HOST}/tools/sdk:{{{{ tag }}}}")],
            "server": [(nvidia, unpacked), ("Bootstrap: docker", "Bootstrap: localimage")],
        }
        for name, changes in here.items():
            text = (CHECKOUT / "containers" / f"{name}.def").read_text()
            for old, new in changes:
                assert old in text
                text = text.replace(old, new)
            file, image = place.folder / f"{name}.def", place.folder / name
            place.box.said("tee", str(file), stdin=text)
            trust = ("env", f"SSL_CERT_FILE={registry}/cert.pem", f"TMPDIR={place.folder}")
            # To compress them takes most of a build's time, and tells nothing of definitions.
            build = ("apptainer", "-q", "build", "--fakeroot", "--sandbox", "--build-arg", "tag=1")
            done = place.box.exec(*trust, *build, str(image), str(file), timeout_s=500)
            assert done.returncode == 0, done.stderr
            place.box.said("apptainer", "-q", "test", str(image))
        place.box.said("rm", "-rf", str(place.folder), root=True)

    def test_a_cache_that_cannot_be_written_is_reported(self, place: Place, registry: Path) -> None:
        place.site(sdk_image=f"docker://{HOST}/tools/sdk:1", cache="/opt/images")
        place.box.said("chown", "root", "/opt/images", root=True)
        try:
            done = place.run("env", f"SSL_CERT_FILE={registry}/cert.pem", timeout_s=240)
        finally:
            place.box.said("chown", "physicist", "/opt/images", root=True)
        assert done.returncode == 3
        assert "container.cache: /opt/images" in done.stderr
        assert "Permission denied" in done.stderr


class TestFailures:
    """Each ends within a minute in a sentence with the reason, and the rest goes on after it."""

    def refused(self, place: Place, *words: str) -> str:
        started = time.monotonic()
        done = place.run(timeout_s=240)
        seconds = time.monotonic() - started
        said = done.stdout + done.stderr
        assert seconds < 60, said
        assert done.returncode == 3, said
        assert "Traceback" not in said
        for each in words:
            assert each in " ".join(said.split()), said
        return said

    def test_an_image_that_is_not_there(self, place: Place) -> None:
        place.site(server_image="/opt/images/none.sif")
        self.refused(place, "the image /opt/images/none.sif cannot be read: No such file")

    def test_an_image_that_was_cut_half_way(self, place: Place) -> None:
        image = place.folder / "cut.sif"
        place.box.said("sh", "-c", f"head -c 60000000 {SERVER} >{image}")
        place.site(server_image=str(image))
        self.refused(place, f"{image} is damaged: it has 60000000 bytes of")

    def test_an_image_with_wrong_bytes_inside(self, place: Place) -> None:
        """Its length is right, so that only opening it shows it."""
        image = place.folder / "bad.sif"
        spoil = (
            f"cp {SDK} {image} && dd if=/dev/urandom of={image} bs=4k seek=8 count=12 conv=notrunc"
        )
        place.box.said("sh", "-c", f"{spoil} 2>/dev/null")
        place.site(sdk_image=str(image))
        self.refused(place, f"login: {image} does not open: ", "copy, pull or build it again")

    def test_a_bind_that_the_node_does_not_have(self, place: Place) -> None:
        place.site(binds=["/etc/hosts:/hosts", "/cvmfs/cms.cern.ch"])
        self.refused(place, "login: container.binds: /cvmfs/cms.cern.ch does not exist")

    def test_an_image_without_tritonserver(self, place: Place) -> None:
        place.site(server_image=SDK)
        self.refused(place, f"there is no tritonserver in the PATH of {SDK}", "right way round?")

    def test_a_node_whose_fuse_is_closed(self, place: Place) -> None:
        place.box.said("chmod", "600", "/dev/fuse", root=True)
        try:
            self.refused(place, f"login: {SERVER} does not open: ", "/dev/fuse", "--sandbox")
        finally:
            place.box.said("chmod", "666", "/dev/fuse", root=True)
        assert place.run().returncode == 0, "the same command goes on when it is mended"

    def test_a_node_without_apptainer(self, place: Place) -> None:
        # A PATH of links to all programs but these.
        links = "mkdir -p $0 && cd $0 && ln -sf /usr/bin/* . && rm -f apptainer singularity"
        place.box.said("sh", "-c", links, str(place.folder / "bin"))
        path = f"PATH={place.folder}/bin"
        done = place.run("env", path, "/opt/venv/bin/python", "-m")
        assert done.returncode == 3
        assert "neither apptainer nor singularity is in PATH" in done.stderr

    def test_a_scratch_disk_that_is_full(self, place: Place) -> None:
        disk = place.folder / "disk"
        place.box.said("mkdir", str(disk))
        options = f"size=40m,uid={USER_ID}"
        place.box.said("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk), root=True)
        place.site(scratch=str(disk))
        try:
            self.refused(place, f"login: the scratch folder {disk} has less than 50 MB free")
        finally:
            place.box.said("umount", str(disk), root=True)

    def test_a_scratch_disk_that_fills_up_while_it_measures(self, place: Place) -> None:
        disk = place.folder / "disk"
        place.box.said("mkdir", str(disk))
        options = f"size=70m,uid={USER_ID}"
        place.box.said("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk), root=True)
        place.site(scratch=str(disk))
        # So long that the disk is full before the last point.
        slower = {**QUICK, "measurement_interval_ms": 1000}
        place.campaign(load={"batch_size": [1, 2, 4, 8], "concurrency": 2}, measurement=slower)
        try:
            run = place.start()
            measuring = lambda: running(place.box, "perf_analyzer.*-b [0-9]")  # noqa: E731
            assert in_time(measuring, 300)
            place.box.exec("dd", "if=/dev/zero", f"of={disk}/fill", "bs=1M")
            output = run.communicate(timeout=500)[0]
        finally:
            place.box.said("umount", "-l", str(disk), root=True)
        assert run.returncode == 3, output
        assert "50 MB free" in output
        assert place.rows(), "what was measured is kept"
        place.site()
        assert place.run().returncode == 0
        assert sorted(row["batch_size"] for row in place.rows()) == [1, 2, 4, 8]

    def test_a_model_that_does_not_load_fails_alone(self, place: Place) -> None:
        make = 'cp -r jobs/demo/models "$0/models"; cp -r "$0/models/jet_tagger" "$0/models/broken"'
        spoil = (
            'cd "$0/models/broken"; echo no >1/model.onnx; sed -i s/jet_tagger/broken/ config.pbtxt'
        )
        place.box.said("sh", "-ec", f"{make}; {spoil}", str(place.folder))
        shapes = {"shapes": SHAPES}
        place.campaign(
            model_repository=str(place.folder / "models"),
            models=[{"name": "broken", **shapes}, {"name": "jet_tagger", **shapes}],
            server=UNHURRIED,
        )
        done = place.run()
        assert done.returncode == 1, done.stdout + done.stderr
        found = {(row["model"], row["status"]) for row in place.rows()}
        assert found == {("broken", "failed"), ("jet_tagger", "ok")}


class TestDeaths:
    """Whatever dies, nothing of a container is there soon after: a second, on a quiet machine."""

    def measuring(self, place: Place) -> "list[int]":
        """Waits until perf_analyzer measures; the processes of the run's workers."""
        assert in_time(lambda: running(place.box, "perf_analyzer.*-b [0-9]"), 300)
        found = self.pids(place, "multiprocessing.*(spawn_main|forkserver)")
        listed = place.box.said("ps", "-o", "ppid=", "-p", ",".join(map(str, found)), root=True)
        # Local workers have the command line of the fork server, which is their parent.
        return [pid for pid in found if str(pid) not in listed.split()]

    def pids(self, place: Place, pattern: str) -> "list[int]":
        return [int(line.split()[0]) for line in running(place.box, pattern)]

    def kill(self, place: Place, pids: "list[int]") -> None:
        place.box.exec(
            "kill", "-9", *map(str, pids)
        )  # some die with others before it is their turn

    def gone(self, place: Place) -> bool:
        return in_time(lambda: not running(place.box, "tritonserver|perf_analyzer|squashfuse"), 120)

    def test_of_the_worker_and_the_run(self, place: Place) -> None:
        place.campaign(measurement=LONG)
        run = place.start()
        workers = self.measuring(place)
        driver = self.pids(place, "^/opt/venv/bin/python.* /opt/venv/bin/hpcbench run")
        assert workers
        assert driver
        self.kill(place, driver + workers)
        assert self.gone(place), running(place.box)
        run.communicate(timeout=500)

    def test_of_the_worker_alone(self, place: Place) -> None:
        place.campaign(measurement=LONG, load={"batch_size": 1, "concurrency": 2})
        run = place.start()
        workers = self.measuring(place)
        servers = self.pids(place, "tritonserver.*--id=")
        self.kill(place, workers)
        ended = lambda: not set(servers) & set(self.pids(place, "tritonserver"))  # noqa: E731
        assert in_time(ended, 120)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=500)
        assert self.gone(place), running(place.box)

    def test_of_every_supervisor(self, place: Place) -> None:
        """Apptainer's image servers are then nobody's children, and know nothing of the run."""
        place.campaign(measurement=LONG, load={"batch_size": 1, "concurrency": 2})
        run = place.start()
        self.measuring(place)
        self.kill(place, self.pids(place, "supervisor.py"))
        output = run.communicate(timeout=500)[0]
        assert run.returncode == 1, output
        assert self.gone(place), running(place.box)

    @pytest.mark.parametrize("base", base_sites()[:2], ids=lambda path: path.stem)
    def test_of_workers_and_their_supervisors_at_once(self, clean: Box, base: Path) -> None:
        """A job is still there then, and a worker in the place of the one that died."""
        place = Place(clean, base)
        place.campaign(measurement=LONG, load={"batch_size": 1, "concurrency": 2})
        run = place.start()
        try:
            workers = self.measuring(place)
            before = self.pids(place, "tritonserver|/perf_analyzer|squashfuse|runtime parent")
            supervisors = self.pids(place, "supervisor.py")
            self.kill(place, workers + supervisors)
            ended = lambda: not set(before) & set(self.pids(place, "."))  # noqa: E731
            assert len(before) >= 6
            assert in_time(ended, 120), running(place.box)
            run.send_signal(signal.SIGTERM)
            run.communicate(timeout=500)
        finally:
            place.end()
        assert self.gone(place), running(place.box)

    def test_of_the_server(self, place: Place) -> None:
        place.campaign(measurement=LONG, load={"batch_size": 1, "concurrency": 2})
        run = place.start()
        self.measuring(place)
        self.kill(place, self.pids(place, "^/opt/tritonserver/.*tritonserver"))
        output = run.communicate(timeout=500)[0]
        assert run.returncode == 1, output
        assert "the server died during this point" in place.rows()[0]["reason"]

    def test_of_the_run_by_a_signal(self, place: Place) -> None:
        place.campaign(measurement=LONG)
        run = place.start()
        self.measuring(place)
        driver = self.pids(place, "^/opt/venv/bin/python.* /opt/venv/bin/hpcbench run")
        place.box.said("kill", "-TERM", *map(str, driver))
        output = run.communicate(timeout=500)[0]
        assert run.returncode == 130, output
        assert not running(place.box), "it was gone before the run ended"

    def test_of_the_processes_that_serve_the_images(self, place: Place) -> None:
        place.campaign(measurement=LONG, load={"batch_size": 1, "concurrency": 2})
        run = place.start()
        self.measuring(place)
        self.kill(place, self.pids(place, "squashfuse"))
        output = run.communicate(timeout=500)[0]
        assert run.returncode == 1, output
        assert place.rows()[0]["status"] == "failed"
        assert self.gone(place), running(place.box)

    def test_of_a_point_by_its_time_limit(self, place: Place) -> None:
        place.campaign(
            measurement={**LONG, "timeout_s": 3}, load={"batch_size": 1, "concurrency": 2}
        )
        done = place.run()
        assert done.returncode == 1, done.stdout + done.stderr
        assert [row["status"] for row in place.rows()] == ["timeout"]


def test_particlenet_runs_in_the_containers_with_its_own_configuration(
    place: Place, shared_models: Path
) -> None:
    models = host_path(place.folder) / "models"
    shutil.copytree(shared_models / "particlenet_AK4", models / "particlenet_AK4")
    shapes = {
        "pf_points": [2, 50],
        "pf_features": [20, 50],
        "pf_mask": [1, 50],
        "sv_points": [2, 4],
        "sv_features": [11, 4],
        "sv_mask": [1, 4],
    }
    place.campaign(
        model_repository=str(place.folder / "models"),
        models=[{"name": "particlenet_AK4", "shapes": shapes}],
        load={"batch_size": [1, 4], "concurrency": 4},
        measurement={"measurement_interval_ms": 600, "stability_percentage": 900},
    )
    done = place.run()
    assert done.returncode == 0, done.stdout + done.stderr
    rows = place.rows()
    assert [(row["batch_size"], row["status"]) for row in rows] == [(1, "ok"), (4, "ok")]
    assert {row["platform"] for row in rows} == {"onnxruntime_onnx"}
    assert all(row["throughput_infer_per_s"] > 10 for row in rows)


def test_each_kind_of_model_ends_with_a_row_and_an_interruption_repeats_none(place: Place) -> None:
    """Of a repository that belongs to somebody else, and that nobody may write to."""
    repository = host_path(place.folder) / "models"
    model_kinds.build(repository)
    model_kinds.lock(repository, UID)
    before = model_kinds.tree(repository)
    asked = model_kinds.IN_IMAGES
    place.campaign(**model_kinds.campaign(place.folder / "models", asked))
    # A model in Python and an ensemble with one are measured, then somebody presses Ctrl-C.
    early = {entry["name"] for entry in model_kinds.OFTEN[:2]}
    run = place.start()
    records = host_path(place.results) / "records"

    def all_early() -> bool:
        return records.is_dir() and early <= {row["model"] for row in place.rows()}

    assert in_time(all_early, 800)
    driver = running(place.box, "^/opt/venv/bin/python.* /opt/venv/bin/hpcbench run")
    place.box.said("kill", "-INT", *(line.split()[0] for line in driver))
    output = run.communicate(timeout=500)[0]
    assert run.returncode == 130, output
    first = {(row["point_id"], row["part_of"], row["ended_at"]) for row in place.rows()}
    done = place.run(timeout_s=800)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = place.rows()
    again = {(row["point_id"], row["part_of"], row["ended_at"]) for row in rows}
    assert first < again, "what was measured has been measured again"
    assert not model_kinds.wrong_rows(pd.DataFrame(rows), asked, {})
    assert {row["model"] for row in rows if row["part_of"]} == {
        *("add", "sub", "tau_inputs", "tau_core")
    }
    assert model_kinds.tree(repository) == before
