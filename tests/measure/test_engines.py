"""Engines are built before anything is measured, once, and only real ones count.

The server is a stand-in that logs what real ones with a GPU printed: there is none here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpcbench.config.container import Container
from hpcbench.errors import ServerFailed
from hpcbench.measure import engines, server
from hpcbench.measure.engines import Engines
from hpcbench.measure.server import ServerOptions
from tests.helpers.builders import triton_model, variant, write_prefix
from tests.helpers.paths import DATA

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
