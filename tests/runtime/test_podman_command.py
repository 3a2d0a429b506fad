"""Command lines for podman-hpc, its stores of images, and why a container did not start."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from hpcbench.config.container import ResolvedContainer
from hpcbench.errors import SiteError
from hpcbench.runtime import podman_hpc, supervisor
from hpcbench.runtime.command import NodeAccess
from hpcbench.runtime.ownership import check_cached
from hpcbench.runtime.podman_hpc import RUNTIME, image_id

MIG_UUID = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"
ID = "3cce5bdcef592d5f424af340a71a40574f21ed9d22df3a2da08edd6ceb6082ee"


def store(path: Path) -> Path:
    """What podman-hpc 1.2.2 makes of one image, with the files that hpcbench looks at."""
    (path / "overlay" / "l").mkdir(parents=True)
    (path / "overlay" / "l" / "7O2GTOBP2WEZJM47RAWOOLUET3.squash").touch()
    (path / "overlay-images").mkdir()
    (path / "overlay-images" / "images.json").write_text(
        json.dumps([{"id": ID, "names": ["registry.example/triton:1"], "layer": "46d7d3b4"}])
    )
    return path


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResolvedContainer:
    """Two images that are in the cache, on a machine that has podman-hpc."""
    (tmp_path / "bin").mkdir()
    for program in ("podman-hpc", "unshare"):
        (tmp_path / "bin" / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(podman_hpc, "SHARED_MEMORY", tmp_path)
    for digest in ("0", "1"):
        store(tmp_path / "cache" / f"sha256-{digest}.store")
    return resolved(tmp_path)


def resolved(tmp_path: Path, **changes: object) -> ResolvedContainer:
    return ResolvedContainer.model_validate(
        {
            "runtime": "podman-hpc",
            "server_image": "docker://registry.example/triton:1",
            "sdk_image": "docker://registry.example/triton:1-sdk",
            "cache": str(tmp_path / "cache"),
            "server_digest": "sha256:0",
            "sdk_digest": "sha256:1",
            **changes,
        }
    )


def mount_rows(argv: list[str]) -> list[list[str]]:
    values = [argv[place + 1] for place, word in enumerate(argv) if word == "--mount"]
    return [
        [word.removeprefix("source=").removeprefix("destination=") for word in row[1:]]
        for row in csv.reader(values[1:])  # the first is unshare's
    ]


def test_a_program_gets_a_podman_of_its_own_and_the_image_by_its_id(
    container: ResolvedContainer, tmp_path: Path
) -> None:
    access = NodeAccess(folder=tmp_path, shm_prefix="hpcbench-1-", env={"A": "0,1"})
    command = RUNTIME.server_command(container, ["--id=x", "--gpu"], access)
    argv = list(command.argv)
    assert argv[0] == "unshare"
    assert {"--user", "--mount", "--pid", "--kill-child"} < set(argv)
    assert argv[argv.index("podman-hpc") :][:4] == [
        *("podman-hpc", "--squash-dir", f"{tmp_path}/cache/sha256-0.store", "run")
    ]
    # Its own words end there: what is Triton's is not taken for an option of podman-hpc.
    assert argv[argv.index("run") + 1] == "--"
    assert argv[-4:] == [ID, "tritonserver", "--id=x", "--gpu"]
    assert "--env=A=0,1" in argv
    folders = ("PODMANHPC_GRAPH_ROOT", "PODMANHPC_RUN_ROOT", "PODMANHPC_CONFIG_HOME", "TMPDIR")
    assert all(command.env[name].startswith(f"{tmp_path}/.podman") for name in folders)
    assert [f"{tmp_path}/hpcbench-1-shm", str(tmp_path)] in mount_rows(argv)
    assert command.remove == (f"{tmp_path}/hpcbench-1-shm",)
    # Its perf_analyzers come and go meanwhile.
    assert RUNTIME.sdk_command(container, [], access).remove == ()


def test_models_and_binds_are_read_only_below_any_name(
    container: ResolvedContainer, tmp_path: Path
) -> None:
    assert container
    site = resolved(tmp_path, binds=["/cvmfs"])
    model = Path('/models/a,b:c d"e')
    access = NodeAccess(folder=tmp_path, mounts=((model, model),))
    rows = mount_rows(list(RUNTIME.sdk_command(site, [], access).argv))
    assert [row for row in rows if row[-1] == "ro"] == [
        ["/cvmfs", "/cvmfs", "ro"],
        [str(model), str(model), "ro"],
    ]


def test_gpus_are_asked_for_where_the_pool_has_them(
    container: ResolvedContainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"CUDA1,{MIG_UUID}")
    with_gpus, without = (
        list(RUNTIME.server_command(container, [], NodeAccess(folder=tmp_path, gpus=gpus)).argv)
        for gpus in (True, False)
    )
    assert with_gpus[with_gpus.index("run") + 1 :][:2] == ["--gpu", "--"]
    assert "--gpu" not in without
    assert f"--env=CUDA_VISIBLE_DEVICES=1,{MIG_UUID}" in with_gpus


def test_an_image_that_was_not_migrated_is_refused_before_anything_starts(
    container: ResolvedContainer, tmp_path: Path
) -> None:
    """podman-hpc ends with 0 also where it could not write the squashfs file."""
    RUNTIME.check_node(container)
    (tmp_path / "cache/sha256-1.store/overlay/l/7O2GTOBP2WEZJM47RAWOOLUET3.squash").unlink()
    with pytest.raises(SiteError, match=r"sha256-1\.store holds no image .* has migrated"):
        RUNTIME.check_node(container)
    with pytest.raises(SiteError, match="holds no image"):
        image_id(tmp_path)


def test_a_folder_that_podman_hpc_cannot_mount_is_refused(
    container: ResolvedContainer, tmp_path: Path
) -> None:
    assert container
    with pytest.raises(SiteError, match="podman-hpc cannot use /scratch/a b") as caught:
        RUNTIME.check_node(resolved(tmp_path, scratch="/scratch/a b"))
    assert "container.scratch" in caught.value.hint


def test_without_it_the_message_says_what_to_do(
    container: ResolvedContainer, tmp_path: Path
) -> None:
    (tmp_path / "bin" / "podman-hpc").unlink()
    assert not RUNTIME.is_installed()
    with pytest.raises(SiteError, match="podman-hpc is not in PATH"):
        RUNTIME.check_node(container)


# What the real ones printed: podman-hpc 1.2.2, Podman 5.4.2, util-linux 2.41.
CGROUP = "Error: OCI runtime error: crun: invalid file system type on `/sys/fs/cgroup`\n"
PARTS = "Error: No fuse-overlayfs-wrap binary found in PATH... Exiting\n"
GPU = "Error: unknown flag: --gpu\nSee 'podman run --help'\n"


@pytest.mark.parametrize(
    ("stderr", "reason", "words"),
    [
        (CGROUP, "OCI runtime error: crun: invalid file system", "tell its administrators"),
        (PARTS, "No fuse-overlayfs-wrap binary found", "installed here only in part"),
        (GPU, "unknown flag: --gpu", "no module for GPUs"),
        ("unshare: unshare failed: No space left on device\n", "unshare failed", "namespaces"),
    ],
)
def test_a_known_failure_comes_with_what_to_do(stderr: str, reason: str, words: str) -> None:
    found, hint = RUNTIME.explain_failure(stderr)
    assert found.startswith(reason) or reason in found
    assert words in hint


def test_a_store_that_everybody_can_change_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "x.store")
    check_cached(path)
    path.chmod(0o777)
    with pytest.raises(SiteError, match="can be changed by everybody"):
        check_cached(path)


def test_layers_whose_folders_are_closed_to_their_owner_are_deleted(tmp_path: Path) -> None:
    """As those of many images are: a pull that was killed leaves them."""
    (tmp_path / "layers" / "root" / "deeper").mkdir(parents=True)
    (tmp_path / "layers" / "root" / "file").touch()
    for folder in ("root/deeper", "root", ""):
        (tmp_path / "layers" / folder).chmod(0o555)
    supervisor.delete(str(tmp_path / "layers"))
    assert not (tmp_path / "layers").exists()
    shutil.rmtree(tmp_path, ignore_errors=True)
