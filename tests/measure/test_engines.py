"""Engines are built before anything is measured, once, and only real ones count.

The server is a stand-in that logs what real ones with a GPU printed: there is none here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpcbench.config.container import Container
from hpcbench.errors import BadInput, ServerFailed, UnusableNode
from hpcbench.measure import engines, server
from hpcbench.measure.engines import Engines
from hpcbench.measure.server import ServerOptions
from tests.helpers.builders import triton_model, variant, write_prefix
from tests.helpers.paths import DATA
from tests.helpers.stranger import as_stranger, needs_root

LOGS = DATA / "server_log"
FP16 = '{"name": "tensorrt", "precision_mode": "FP16"}'
REQUESTS = ((("x", (16,)),), 1), ((("x", (16,)),), 8)


@dataclass
class Server:
    ready_s: float = 42.0


@pytest.fixture
def prepare_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engines]:
    """Prepares a variant with a server that prints the log of that name."""
    (tmp_path / "scratch").mkdir()
    site = Container(prefix=write_prefix(tmp_path), scratch=str(tmp_path / "scratch"))
    log_path = tmp_path / "server.log"
    config = 'input { name: "x" data_type: TYPE_FP32 dims: 16 }'

    def make(log: str = "all_tensorrt", *, digest: str = "d1", **axes: Any) -> Engines:
        @contextmanager
        def serve(_: Any, __: Any, log_path: Path, options: ServerOptions) -> Iterator[Server]:
            assert options.verbose
            assert options.requests == {"tagger": REQUESTS}
            make.started.append(options.engines["tagger"])
            with log_path.open("a") as stream:
                stream.write((LOGS / f"{log}.txt").read_text())
            yield Server()

        monkeypatch.setattr(server, "serve", serve)
        return engines.prepare_engines(
            variant(triton_model(config=config, digest=digest), **axes),
            site,
            log_path,
            ServerOptions(cpus=1, gpus=True, requests={"tagger": REQUESTS}),
            "10.3",
        )

    make.started = []
    return make


def test_a_variant_without_an_accelerator_needs_none(
    prepare_engines: Callable[..., Engines],
) -> None:
    assert prepare_engines(instance_count=2) == Engines(None, {})
    assert prepare_engines.started == []


def test_engines_are_built_once_and_known_again(prepare_engines: Callable[..., Engines]) -> None:
    first, second = (
        prepare_engines(accelerator=FP16),
        prepare_engines(accelerator=FP16, instance_count=2),
    )
    assert prepare_engines.started == [first.folder]
    assert first.folder == second.folder
    assert first.columns["engine_build_s"] == second.columns["engine_build_s"] == 42.0
    assert (first.columns["engine_cached"], second.columns["engine_cached"]) == (False, True)
    assert json.loads(first.columns["accelerator_nodes"]) == {"TensorrtExecutionProvider": 1}


def test_another_model_has_engines_of_its_own(prepare_engines: Callable[..., Engines]) -> None:
    assert (
        prepare_engines(accelerator=FP16).folder
        != prepare_engines(accelerator=FP16, digest="d2").folder
    )


def test_an_engine_that_nothing_runs_on_is_not_applicable_each_time(
    prepare_engines: Callable[..., Engines],
) -> None:
    """A log that holds an older server's success, too, is read from this server's start."""
    prepare_engines(accelerator=FP16)
    for _ in range(2):
        with pytest.raises(ServerFailed, match="tensorrt was asked for and not used") as caught:
            prepare_engines("no_tensorrt", accelerator=FP16, digest="d2")
        assert caught.value.not_applicable
        assert "301 on CUDAExecutionProvider" in caught.value.message
    assert len(prepare_engines.started) == 3


# Another user of the node, who was there first


@needs_root
def test_engines_that_another_user_has_planted_are_not_served(
    prepare_engines: Callable[..., Engines], tmp_path: Path
) -> None:
    key = prepare_engines(accelerator=FP16).folder
    assert key is not None
    own = key.parent
    own.rename(tmp_path / "known")
    summary = '{"build_s": 1, "nodes": {"TensorrtExecutionProvider": 99}}'
    plant = 'mkdir -p "$1" && echo "$2" > "$1/built.json"'
    as_stranger(plant, key, summary, folder=own.parent)
    with pytest.raises(UnusableNode, match=r"hpcbench-engines-0: is not a folder of this user's"):
        prepare_engines(accelerator=FP16)


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_of_engines_that_others_can_write_is_not_used(
    prepare_engines: Callable[..., Engines], tmp_path: Path, mode: int
) -> None:
    own = tmp_path / "scratch" / f"hpcbench-engines-{os.getuid()}"
    own.mkdir()
    own.chmod(mode)
    with pytest.raises(UnusableNode, match="nobody else can change"):
        prepare_engines(accelerator=FP16)


def test_a_folder_of_engines_that_is_a_link_is_not_used(
    prepare_engines: Callable[..., Engines], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    own = tmp_path / "scratch" / f"hpcbench-engines-{os.getuid()}"
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnusableNode, match="is not a folder of this user's"):
        prepare_engines(accelerator=FP16)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_folder_of_engines_is_its_owners_alone(prepare_engines: Callable[..., Engines]) -> None:
    folder = prepare_engines(accelerator=FP16).folder
    assert folder is not None
    assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_a_lock_that_is_a_link_empties_no_file(
    prepare_engines: Callable[..., Engines], tmp_path: Path
) -> None:
    folder = prepare_engines(accelerator=FP16).folder
    assert folder is not None
    (tmp_path / "thesis.tex").write_text("five years")
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(BadInput, match="is a link"):
        prepare_engines(accelerator=FP16)
    assert (tmp_path / "thesis.tex").read_text() == "five years"
