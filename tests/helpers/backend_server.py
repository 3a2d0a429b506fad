"""A real tritonserver of the native prefix, which tests fill with models of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NOT_APPLICABLE = "hpcbench: not applicable: "
START_TIMEOUT_S = 240.0
EXIT_TIMEOUT_S = 200
SLOW_BATCHES = """
dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 100000000 }
instance_group [ { count: 1 kind: KIND_CPU } ]
"""


@dataclass(frozen=True)
class Server:
    """A running tritonserver in explicit mode: ``repository`` is empty until a test fills it."""

    pid: int
    url: str
    repository: Path
    log: Path

    def call(self, path: str, body: Any = None) -> Any:
        """One HTTP exchange; raises AssertionError with the server's text on an error."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/v2/{path}", data=data)
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(json.loads(error.read())["error"]) from None
        return json.loads(text) if text else None

    def add(
        self, name: str, config: str | None, model: bytes | Path, file: str = "model.onnx"
    ) -> None:
        """Put a model, the content of a file or a folder, into the repository, and load it."""
        version = self.repository / name / "1"
        version.mkdir(parents=True)
        if isinstance(model, Path):
            shutil.copytree(model, version / file)
        else:
            (version / file).write_bytes(model)
        if config is not None:
            (version.parent / "config.pbtxt").write_text(config)
        self.call(f"repository/models/{name}/load", {})

    def refused(
        self, name: str, config: str | None, model: bytes | Path, file: str = "model.onnx"
    ) -> str:
        """Like ``add`` for a model that must not load; returns the server's error."""
        with pytest.raises(AssertionError) as caught:
            self.add(name, config, model, file)
        return str(caught.value)

    def infer(
        self, model: str, inputs: dict[str, Any], outputs: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Run one request; strings come back as lists."""
        body: dict[str, Any] = {"inputs": [_tensor(name, a) for name, a in inputs.items()]}
        if outputs:
            body["outputs"] = [{"name": name} for name in outputs]
        answer = self.call(f"models/{model}/infer", body)
        return {
            out["name"]: out["data"]
            if out["datatype"] == "BYTES"
            else np.array(out["data"]).reshape(out["shape"])
            for out in answer["outputs"]
        }

    def answers(self, model: str, name: str, rows: Sequence[Any]) -> list[Any]:
        """The only output for each row of the only input, all asked for at once; errors as text."""

        def ask(row: Any) -> Any:
            try:
                (output,) = self.infer(model, {name: np.array([row])}).values()
            except AssertionError as error:
                return str(error)
            return output.tolist()

        with ThreadPoolExecutor(len(rows)) as pool:
            return list(pool.map(ask, rows))


def _tensor(name: str, array: Any) -> dict[str, Any]:
    names = {"float32": "FP32", "int64": "INT64", "float64": "FP64", "object": "BYTES"}
    data = array.ravel().tolist()
    kind = names[str(array.dtype)]
    return {"name": name, "shape": list(array.shape), "datatype": kind, "data": data}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _left_in_shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("triton_*")}


@pytest.fixture(scope="module")
def server(native_prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One tritonserver for all tests of this module, stopped by its pid."""
    folder = tmp_path_factory.mktemp("triton")
    (folder / "models").mkdir()
    http, grpc = _free_ports(2)
    before = _left_in_shared_memory()
    program = native_prefix / "bin/tritonserver"
    with (folder / "log").open("wb") as sink:
        process = subprocess.Popen(
            [
                program,
                f"--model-repository={folder / 'models'}",
                "--model-control-mode=explicit",
                # After this it would leave what its models have in shared memory.
                f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
                "--http-address=127.0.0.1",
                f"--http-port={http}",
                "--grpc-address=127.0.0.1",
                f"--grpc-port={grpc}",
                "--allow-metrics=false",
            ],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HPCBENCH_CPUS": "2"},
        )
    running = Server(process.pid, f"http://127.0.0.1:{http}", folder / "models", folder / "log")
    try:
        end = time.monotonic() + START_TIMEOUT_S
        while True:
            assert process.poll() is None, running.log.read_text()
            assert time.monotonic() < end, running.log.read_text()
            try:
                running.call("health/ready")
                break
            except (OSError, AssertionError):
                time.sleep(0.05)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(EXIT_TIMEOUT_S + 30)
        finally:
            process.kill()
            process.wait()
    assert _left_in_shared_memory() <= before


def versions(prefix: Path) -> dict[str, str]:
    """What a prefix says that it holds."""
    found: dict[str, str] = json.loads((prefix / "manifest.json").read_text())["versions"]
    return found
