"""Pulls into the cache: once for all, and nothing of strangers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcbench.config.container import ResolvedContainer
from hpcbench.errors import SiteError
from hpcbench.runtime import apptainer, pull
from tests.helpers.sif import write_sif
from tests.helpers.stranger import as_stranger, needs_root


def test_two_pulls_of_one_image_at_once_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits for the first, and finds the file; what a killed pull left is deleted."""
    path = tmp_path / "cache" / "sha256-0.sif"
    left = path.parent / ".pull-sha256-0-killed"
    left.mkdir(parents=True)
    (left / "layer").write_text("half")
    pulls: list[Path] = []

    def slowly(reference: str, target: Path) -> None:
        pulls.append(target)
        time.sleep(0.3)
        write_sif(target)

    runtime = apptainer.RUNTIME
    monkeypatch.setattr(runtime, "pull", slowly)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: pull._pull(runtime, "docker://x/y@sha256:0", path), range(3)))
    assert len(pulls) == 1
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        ".lock-sha256-0",
        "sha256-0.sif",
    ]


# A cache that others can write to


def pull_of(folder: Path) -> tuple[ResolvedContainer, Path]:
    """A site whose server comes from a registry, and the file of the cache that it would be."""
    sdk = str(write_sif(folder / "sdk.sif"))
    digest = f"sha256:{'0' * 64}"
    container = ResolvedContainer(
        runtime="apptainer",
        server_image=f"docker://registry.example/triton@{digest}",
        sdk_image=sdk,
        cache=folder / "cache",
        server_digest=digest,
        sdk_digest="sha256:1",
    )
    return container, folder / "cache" / f"sha256-{'0' * 64}.sif"


@needs_root
def test_an_image_that_another_user_has_put_into_the_cache_is_refused(tmp_path: Path) -> None:
    container, path = pull_of(tmp_path)
    path.parent.mkdir()
    as_stranger('echo evil > "$1"', path, folder=path.parent)
    with pytest.raises(SiteError, match="who owns neither the cache nor this run"):
        pull.pull_images(container, lambda _: None)


def test_an_image_that_everybody_can_change_is_refused(tmp_path: Path) -> None:
    container, path = pull_of(tmp_path)
    path.parent.mkdir()
    write_sif(path).chmod(0o666)
    with pytest.raises(SiteError, match="can be changed by everybody"):
        pull.pull_images(container, lambda _: None)


def test_a_link_in_the_cache_is_refused_and_an_image_of_ones_own_is_not_pulled_again(
    tmp_path: Path,
) -> None:
    container, path = pull_of(tmp_path)
    path.parent.mkdir()
    path.symlink_to(tmp_path / "sdk.sif")
    with pytest.raises(SiteError, match=r"container\.cache"):
        pull.pull_images(container, lambda _: None)
    path.unlink()
    write_sif(path)
    pulled: list[str] = []
    pull.pull_images(container, pulled.append)
    assert pulled == []


def test_what_a_pull_has_written_is_counted_while_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, path = pull_of(tmp_path)
    counted: list[int] = []

    def write(_: str, target: Path) -> None:
        (target.parent / "layers").mkdir()
        (target.parent / "layers" / "one").write_bytes(bytes(5000))
        counted.append(pull.unfinished_bytes(container))
        write_sif(target)

    monkeypatch.setattr(apptainer.RUNTIME, "pull", write)
    pull.pull_images(container, lambda _: None)
    assert path.is_file()
    assert counted[0] >= 5000
    assert pull.unfinished_bytes(container) == 0


def test_nothing_is_pulled_into_a_folder_named_by_an_unset_variable(tmp_path: Path) -> None:
    container, _ = pull_of(tmp_path)
    elsewhere = container.model_copy(update={"cache": Path("$SCRATCH/images")})
    with pytest.raises(SiteError, match="a variable in it is not set on this host"):
        pull.pull_images(elsewhere, lambda _: None)
