"""Command lines for both runtimes, and what stands for the native one's image."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbench.config.container import RUNTIMES, Container, ResolvedContainer
from hpcbench.errors import SiteError
from hpcbench.runtime import apptainer, process
from hpcbench.runtime.command import AGAIN, NodeAccess, image_runtime_of, runtime_of
from hpcbench.runtime.native import RUNTIME as NATIVE
from tests.helpers.builders import write_prefix
from tests.helpers.waiting import wait_until

APPTAINER = apptainer.RUNTIME
MIG_UUID = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"


@pytest.fixture
def native(tmp_path: Path) -> Container:
    return Container(prefix=write_prefix(tmp_path))


@pytest.fixture
def access(tmp_path: Path) -> NodeAccess:
    return NodeAccess(folder=tmp_path, shm_prefix="hpcbench-1-")


@pytest.fixture
def boxed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResolvedContainer:
    """A container of two images, on a machine that has apptainer."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "apptainer").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(apptainer, "SHARED_MEMORY", tmp_path)
    return resolved()


def resolved(**changes: object) -> ResolvedContainer:
    return ResolvedContainer.model_validate(
        {
            "runtime": "apptainer",
            "server_image": "/images/server.sif",
            "sdk_image": "docker://registry.example/sdk:1",
            "cache": "/cache",
            "server_digest": "sif:0",
            "sdk_digest": "sha256:1",
            **changes,
        }
    )


def mount_rows(argv: list[str]) -> list[list[str]]:
    """(source, destination, options...) of each --mount."""
    values = [argv[i + 1] for i, word in enumerate(argv) if word == "--mount"]
    rows = [next(csv.reader([value])) for value in values]
    assert all(row[0] == "type=bind" for row in rows)
    return [[word.partition("=")[2] or word for word in row[1:]] for row in rows]


def test_the_digest_of_the_prefix_stands_for_both_images(native: Container) -> None:
    software = NATIVE.find_software(native)
    assert software.server_digest == "native:0123456789abcdef"
    assert software.sdk_digest == "native:0123456789abcdef"


def test_another_prefix_has_another_digest(tmp_path: Path) -> None:
    digests = {
        NATIVE.find_software(
            Container(prefix=write_prefix(tmp_path / name, digest=name))
        ).server_digest
        for name in ("one", "two")
    }
    assert digests == {"native:one", "native:two"}


@pytest.mark.native
def test_the_prefix_of_this_checkout_is_understood(native_prefix: Path) -> None:
    manifest = json.loads((native_prefix / "manifest.json").read_text())
    found = NATIVE.find_software(Container(prefix=native_prefix))
    assert found.server_digest == f"native:{manifest['digest']}"


def test_a_prefix_that_is_not_there_is_reported_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SiteError) as caught:
        NATIVE.find_software(Container(prefix=tmp_path / "none"))
    assert caught.value.message.startswith(
        f"there is no complete Triton and perf_analyzer in {tmp_path / 'none'}"
    )
    assert "there is no such folder" in caught.value.message
    assert f"hpcbench native {tmp_path / 'none'}" in caught.value.hint


def test_no_message_advises_to_delete_a_folder_that_is_perhaps_another_one(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"no manifest\.json") as caught:
        NATIVE.find_software(Container(prefix=tmp_path))
    assert "rm -r" not in caught.value.hint
    assert "correct container.prefix" in caught.value.hint


def test_a_prefix_that_cannot_be_read_is_reported_as_such(tmp_path: Path) -> None:
    prefix = write_prefix(tmp_path)
    (prefix / "manifest.json").unlink()
    (prefix / "manifest.json").mkdir()
    with pytest.raises(SiteError, match=r"manifest\.json: Is a directory"):
        NATIVE.find_software(Container(prefix=prefix))


@pytest.mark.parametrize("lost", ["bin/tritonserver", "python", "backends"])
def test_a_prefix_of_which_a_part_is_lost_is_reported_with_the_part(
    native: Container, lost: str
) -> None:
    assert native.prefix is not None
    path = native.prefix / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(SiteError, match=f"{lost}.* is missing"):
        NATIVE.find_software(native)


@pytest.mark.parametrize("library", [None, "torch", "tensorflow"])
def test_a_backend_without_its_library_is_none_that_a_prefix_has(
    native: Container, library: str | None
) -> None:
    """The folders are in every prefix; torch and TensorFlow only where somebody wanted them."""
    assert native.prefix is not None
    for name in ("pytorch", "tensorflow"):
        (native.prefix / "backends" / name).mkdir()
    file = native.prefix / "manifest.json"
    manifest = json.loads(file.read_text())
    if library is not None:
        manifest["versions"][library] = "2.2.2"
    file.write_text(json.dumps(manifest))
    more = {None: set(), "torch": {"pytorch"}, "tensorflow": {"tensorflow"}}[library]
    assert NATIVE.find_software(native).backends == {"onnxruntime", "python", *more}


def test_a_prefix_with_a_space_in_its_path_is_refused_because_triton_cannot_take_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(SiteError, match="characters that Triton cannot take"):
        NATIVE.find_software(Container(prefix=write_prefix(tmp_path / "my folder")))


def test_no_command_is_advised_that_would_do_something_else_in_a_shell(tmp_path: Path) -> None:
    with pytest.raises(SiteError) as caught:
        NATIVE.find_software(Container(prefix=tmp_path / "none$(touch x)"))
    assert "$(" not in caught.value.hint


def test_the_server_is_started_from_the_prefix_with_memory_of_its_own(
    native: Container, access: NodeAccess
) -> None:
    command = NATIVE.server_command(native, ["--http-port=1"], access)
    assert command.argv == [
        f"{native.prefix}/bin/tritonserver",
        "--backend-config=onnxruntime,shm-region-prefix-name=hpcbench-1-",
        "--backend-config=python,shm-region-prefix-name=hpcbench-1-",
        "--backend-config=python,stub-timeout-seconds=600",
        "--http-port=1",
    ]
    assert command.remove == ("/dev/shm/hpcbench-1-*",)


def test_perf_analyzer_gets_its_arguments_unchanged(native: Container, access: NodeAccess) -> None:
    arguments = ["-m", "a model; rm -rf"]
    assert NATIVE.sdk_command(native, arguments, access).argv == [
        f"{native.prefix}/bin/perf_analyzer",
        *arguments,
    ]


def test_a_program_that_ends_is_started_again_where_it_runs(
    native: Container, boxed: ResolvedContainer, access: NodeAccess
) -> None:
    once = NATIVE.sdk_command(native, ["-m", "x"], access).argv
    assert NATIVE.sdk_command(native, ["-m", "x"], access, again=True).argv == [*AGAIN, *once]
    # In the container, not a container for each time.
    argv = APPTAINER.sdk_command(boxed, ["-m", "x"], access, again=True).argv
    assert argv[-7:] == [*AGAIN, "perf_analyzer", "-m", "x"]


def test_it_is_started_until_it_fails(tmp_path: Path) -> None:
    count = tmp_path / "count"
    program = f'echo >> {count}; [ "$(wc -l < {count})" -lt 3 ] || exit 7'
    ended = subprocess.run([*AGAIN, "/bin/sh", "-c", program], check=False)
    assert (ended.returncode, count.read_text().count("\n")) == (7, 3)


def test_at_a_signal_it_ends_in_order_and_is_not_started_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    end = f"trap 'sleep 0.3; echo end >> {log}; exit 0' INT"
    program = f"{end}; echo begin >> {log}; sleep 60 & wait"
    shell = subprocess.Popen([*AGAIN, "/bin/sh", "-c", program], start_new_session=True)
    try:
        assert wait_until(log.exists)
        os.killpg(shell.pid, signal.SIGINT)
        shell.wait(240)
        assert log.read_text().split() == ["begin", "end"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)


def test_in_a_container_nothing_of_the_session_is_seen_but_what_was_named(
    boxed: ResolvedContainer, access: NodeAccess, tmp_path: Path
) -> None:
    command = APPTAINER.server_command(boxed, ["--id=x"], access)
    assert command.argv[:4] == [f"{tmp_path}/bin/apptainer", "--quiet", "exec", "--containall"]
    assert command.argv[-5:] == [
        *("--pwd", str(tmp_path), "/images/server.sif"),
        *("tritonserver", "--id=x"),
    ]
    assert mount_rows(command.argv) == [
        [f"{tmp_path}/.tmp", "/tmp"],
        [f"{tmp_path}/.tmp", "/var/tmp"],
        [str(tmp_path), str(tmp_path)],
        [f"{tmp_path}/.hpcbench-1-shm", str(tmp_path)],
    ]
    # Apptainer skips a bind whose source is called /dev/... and whose end is not.
    assert (tmp_path / ".hpcbench-1-shm").readlink() == tmp_path / "hpcbench-1-shm"
    assert (tmp_path / "hpcbench-1-shm").stat().st_mode & 0o777 == 0o700
    assert command.remove == (f"{tmp_path}/hpcbench-1-shm",)
    # Its perf_analyzers come and go meanwhile.
    assert APPTAINER.sdk_command(boxed, ["-m", "x"], access).remove == ()


def test_models_and_the_sites_binds_are_read_only(boxed: ResolvedContainer, tmp_path: Path) -> None:
    mounts = ((Path("/real/model"), Path("/models/tagger")),)
    site = resolved(binds=["/cvmfs", "/data:/input"])
    command = APPTAINER.server_command(site, [], NodeAccess(folder=tmp_path, mounts=mounts))
    assert [row for row in mount_rows(command.argv) if row[-1] == "ro"] == [
        ["/cvmfs", "/cvmfs", "ro"],
        ["/data", "/input", "ro"],
        ["/real/model", "/models/tagger", "ro"],
    ]


def test_a_bind_around_the_scratch_folder_or_the_models_does_not_cover_them(
    boxed: ResolvedContainer, tmp_path: Path
) -> None:
    model, access = tmp_path / "models" / "tagger", tmp_path / "access"
    access.mkdir()
    site = resolved(binds=[str(tmp_path), "/data:/tmp/data"])
    command = APPTAINER.server_command(
        site, [], NodeAccess(folder=access, mounts=((model, model),))
    )
    order = [row[1] for row in mount_rows(command.argv)]
    assert order.index("/tmp") < order.index(str(tmp_path))
    assert order.index("/tmp") < order.index("/tmp/data")
    assert order.index(str(tmp_path)) < order.index(str(access))
    assert order.index(str(tmp_path)) < order.index(str(model))


def test_an_image_that_has_to_be_unpacked_is_so_on_the_scratch_disk(
    boxed: ResolvedContainer, access: NodeAccess
) -> None:
    assert APPTAINER.server_command(boxed, [], access).env["APPTAINER_TMPDIR"] == str(access.folder)


@pytest.mark.parametrize("name", ["a,b", "a:b", 'a"b', "a b", "a=b", "ä"])
def test_paths_with_any_characters_can_be_shown(
    boxed: ResolvedContainer, tmp_path: Path, name: str
) -> None:
    path = Path("/models") / name
    command = APPTAINER.sdk_command(boxed, [], NodeAccess(folder=tmp_path, mounts=((path, path),)))
    assert [str(path), str(path), "ro"] in mount_rows(command.argv)


def test_an_image_of_a_registry_is_run_from_the_cache_by_its_digest(
    boxed: ResolvedContainer, access: NodeAccess
) -> None:
    argv = APPTAINER.sdk_command(boxed, ["-m", "x"], access).argv
    assert argv[-4:] == ["/cache/sha256-1.sif", "perf_analyzer", "-m", "x"]


def test_nvidias_libraries_are_asked_for_where_the_pool_has_gpus(
    boxed: ResolvedContainer, tmp_path: Path
) -> None:
    argvs = [
        APPTAINER.server_command(boxed, [], NodeAccess(folder=tmp_path, gpus=g)).argv
        for g in (True, False)
    ]
    assert ["--nv" in argv for argv in argvs] == [True, False]


@pytest.mark.parametrize(
    ("given", "inside"), [("0,1", "0,1"), ("CUDA1,CUDA0", "1,0"), (MIG_UUID, MIG_UUID)]
)
def test_the_server_sees_the_gpus_that_the_batch_system_gave(
    boxed: ResolvedContainer,
    access: NodeAccess,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    inside: str,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    for command in (APPTAINER.server_command, APPTAINER.sdk_command):
        env = command(boxed, [], replace(access, gpus=True)).env
        assert env["APPTAINERENV_CUDA_VISIBLE_DEVICES"] == inside


@pytest.mark.parametrize("given", ["0", MIG_UUID])
def test_without_containers_the_programs_have_the_gpus_of_the_worker(
    access: NodeAccess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    show = process.Command(["sh", "-c", "echo $CUDA_VISIBLE_DEVICES"], access.env)
    done = process.run(show, folder=tmp_path, timeout_s=60)
    assert done.stdout.strip() == given


def test_an_old_singularity_takes_the_place_of_apptainer(
    boxed: ResolvedContainer, tmp_path: Path
) -> None:
    (tmp_path / "bin" / "apptainer").rename(tmp_path / "bin" / "singularity")
    command = APPTAINER.server_command(boxed, [], NodeAccess(folder=tmp_path, env={"A": "1"}))
    assert command.argv[0] == f"{tmp_path}/bin/singularity"
    assert command.env["SINGULARITYENV_A"] == "1"


def test_without_either_the_message_says_what_to_install(
    boxed: ResolvedContainer, tmp_path: Path
) -> None:
    (tmp_path / "bin" / "apptainer").unlink()
    with pytest.raises(SiteError, match="neither apptainer nor singularity is in PATH"):
        APPTAINER.server_command(boxed, [], NodeAccess(folder=tmp_path))


@pytest.mark.parametrize("name", list(RUNTIMES))
def test_every_runtime_of_the_one_list_has_its_module(name: str) -> None:
    container = Container.model_construct(runtime=name)
    assert runtime_of(container).__class__.__module__ == RUNTIMES[name].module
    assert (image_runtime_of(container) is None) == ("server_image" not in RUNTIMES[name].keys)


# Fails of the real Apptainer 1.4.5; the whole of each is in test_apptainer.py.
FUSE = (
    "FATAL:   container creation failed: image driver mount failure: image driver squashfuse_ll "
    "instance exited with error: squashfuse_ll exited: fuse: failed to open /dev/fuse: "
    "Permission denied\n"
)
CUT = (
    "FATAL:   While checking container encryption: could not open image /i.sif: reading "
    "descriptors: unexpected EOF\n"
)

FLAG = (
    'Error for command "exec": unknown flag: --mount\n\nOptions for exec command:\n\n'
    "      --add-caps string               a comma separated capability list to add\n"
)


def explained(stderr: str) -> tuple[str, str]:
    return APPTAINER.explain_failure(stderr)


def test_the_reason_is_apptainers_last_word() -> None:
    noise = "INFO:    converting\nWARNING: nothing\n"
    assert explained(noise + CUT)[0].startswith("While checking container encryption")
    assert explained(FLAG)[0].endswith("unknown flag: --mount")
    assert explained("")[0] == "it printed nothing"


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        (FUSE, "have /dev/fuse opened"),
        (CUT, "copy, pull or build it again"),
        (FLAG, "Singularity from 3.9 on"),
        ("FATAL: write /tmp/x: no space left on device", "container.scratch"),
        ("ERROR: Failed to create user namespace: Operation not permitted", "max_user_namespaces"),
    ],
)
def test_a_known_failure_comes_with_what_to_do(stderr: str, words: str) -> None:
    assert words in explained(stderr)[1]
    assert explained("FATAL: something new")[1] == ""
