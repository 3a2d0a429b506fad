"""Serves variants: ``with serve(...) as server:`` is ready, or raises an error that says why."""

import contextlib
import glob
import http.client
import json
import logging
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from hpcbench.config.container import Container
from hpcbench.config.triton_messages import ModelConfig
from hpcbench.errors import ServerFailed
from hpcbench.measure import loaded_config, model_repository, server_log
from hpcbench.plan import model_config
from hpcbench.plan.point import Request, ServerVariant
from hpcbench.runtime import command as containers
from hpcbench.runtime.command import NodeAccess
from hpcbench.runtime.process import RunningProgram, running

log = logging.getLogger(__name__)

MODELS = "models"
READY_TIMEOUT_S = 300.0
BUILD_TIMEOUT_S = 3600.0
PORT_ATTEMPTS = 5
EXIT_TIMEOUT_S = 8
POLLING = ("--model-control-mode=poll", "--repository-poll-secs=1")


class _PortTaken(Exception):
    """Another program took a port between our looking and Triton's binding."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A Triton that is ready, on the loopback.

    For each of its ``variants``, ``asked`` is the configuration that it was given, ``configs`` what
    it says that it loaded. It is ``fresh`` if it has never served any other, and ``ready_s`` is how
    long it took to serve these. ``requests`` are those that it makes its models ready for.
    """

    http_port: int
    grpc_port: int
    metrics_port: int
    version: str
    variants: tuple[ServerVariant, ...]
    asked: tuple[ModelConfig, ...]
    configs: tuple[ModelConfig, ...]
    requests: Mapping[str, Sequence[Request]]
    fresh: bool
    ready_s: float
    repository: Path
    log_path: Path
    process: RunningProgram
    shm: str
    """Its part of the node's shared memory, which a client needs that sends its tensors there."""

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def log_tail(self) -> str:
        return server_log.tail(self.log_path)

    def config_of(self, model: str, version: int) -> ModelConfig:
        """What it loaded for any of its models."""
        return _config(self.http_port, f"{model}/versions/{version}")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How Triton is started, besides what it serves.

    Attributes
    ----------
    cpus
        How many CPUs the backends may use.
    gpus
        Whether Triton gets the GPUs that this process was given.
    requests
        Requests that the models must be ready for, by the name of the model: TensorRT builds its
        profiles and warmup runs for them.
    engines
        Folders for the engines that a backend builds, by the name of the model.
    verbose
        Log everything, and allow as much time as building engines takes.
    poll_repository
        Look for changes in the model repository every second. That is how variants are swapped:
        Triton takes no commands over the network, which any user of this node could send.
    """

    cpus: int
    gpus: bool = False
    requests: Mapping[str, Sequence[Request]] = field(default_factory=dict)
    engines: Mapping[str, Path] = field(default_factory=dict)
    verbose: bool = False
    poll_repository: bool = False


@contextmanager
def serve(
    variants: Sequence[ServerVariant], container: Container, log_path: Path, options: ServerOptions
) -> Iterator[Server]:
    """Run Triton with these variants; it is gone when the block is left.

    Parameters
    ----------
    variants
        What to serve, one variant per model.
    container
        Where tritonserver comes from.
    log_path
        The file to which Triton's output is appended.
    options
        How it is started.

    Yields
    ------
    Server
        The server when it is ready, with every configuration checked.

    Raises
    ------
    ServerFailed
        If a model does not load, or loads with another configuration than requested.
    """
    asked = tuple(
        model_config.configure(
            v, options.requests.get(v.model.name, ()), options.engines.get(v.model.name)
        )
        for v in variants
    )
    extra = [word for config in asked for word in model_config.server_arguments(config)]
    extra = [*dict.fromkeys(extra), *(["--log-verbose=1"] if options.verbose else [])]
    extra += POLLING if options.poll_repository else []
    with tempfile.TemporaryDirectory(
        prefix="hpcbench-", dir=containers.scratch_folder(container), ignore_cleanup_errors=True
    ) as folder:
        repository = Path(folder) / MODELS
        for variant, config in zip(variants, asked, strict=True):
            model_repository.write_overlay(variant, config, repository)
        mounts = dict.fromkeys(
            pair for v in variants for pair in model_repository.paths_to_mount(v)
        )
        for attempt in range(PORT_ATTEMPTS):
            try:
                access = NodeAccess(
                    folder=repository.parent,
                    mounts=tuple(mounts),
                    writable=tuple(options.engines.values()),
                    gpus=options.gpus,
                    env={"HPCBENCH_CPUS": str(options.cpus)},
                )
                with _launched_for(variants, container, access, log_path, extra) as launched:
                    server = Server(
                        http_port=launched.ports[0],
                        grpc_port=launched.ports[1],
                        metrics_port=launched.ports[2],
                        version=launched.version,
                        variants=tuple(variants),
                        asked=asked,
                        configs=loaded_configs(launched.ports[0], variants),
                        requests=options.requests,
                        fresh=True,
                        ready_s=launched.ready_s,
                        repository=repository,
                        log_path=log_path,
                        process=launched.process,
                        shm=launched.shm,
                    )
                    check_loaded_configs(server)
                    yield server
                    return
            except _PortTaken:
                log.info("a port was taken meanwhile; trying others (%d)", attempt + 1)
        raise ServerFailed(f"no free ports in {PORT_ATTEMPTS} attempts", server_log.tail(log_path))


def loaded_configs(http_port: int, variants: Sequence[ServerVariant]) -> tuple[ModelConfig, ...]:
    """The configurations that the server says it has loaded."""
    found = []
    for variant in variants:
        suffix = f"/versions/{variant.version}" if variant.version is not None else ""
        found.append(_config(http_port, f"{variant.model.name}{suffix}"))
    return tuple(found)


def _config(http_port: int, model: str) -> ModelConfig:
    answer = get_json(http_port, f"/v2/models/{model}/config")
    return json_format.ParseDict(answer, ModelConfig(), ignore_unknown_fields=True)


def check_loaded_configs(server: Server) -> None:
    """Raises ServerFailed where the server loaded something else than was asked for."""
    wrong = [
        difference if len(server.variants) == 1 else f"{variant.model.name}: {difference}"
        for variant, asked, config in zip(
            server.variants, server.asked, server.configs, strict=True
        )
        for difference in loaded_config.config_differences(variant, asked, config)
    ]
    if wrong:
        raise ServerFailed("the server did not take the configuration: " + "; ".join(wrong))


def start_without_models(
    container: Container, *, log_path: Path, cpus: int, gpus: bool = False
) -> tuple[str, float]:
    """Starts Triton without a model and ends it: its version, and the seconds until it was ready.

    Raises ServerFailed where it is not ready in the end.
    """
    with tempfile.TemporaryDirectory(
        prefix="hpcbench-", dir=containers.scratch_folder(container), ignore_cleanup_errors=True
    ) as folder:
        repository = Path(folder) / MODELS
        repository.mkdir()
        access = NodeAccess(folder=Path(folder), gpus=gpus, env={"HPCBENCH_CPUS": str(cpus)})
        for _ in range(PORT_ATTEMPTS):
            with (
                contextlib.suppress(_PortTaken),
                _launch(container, access, log_path, ()) as launched,
            ):
                return launched.version, launched.ready_s
    raise ServerFailed(f"no free ports in {PORT_ATTEMPTS} attempts", server_log.tail(log_path))


@contextmanager
def _launched_for(
    variants: Sequence[ServerVariant],
    container: Container,
    access: NodeAccess,
    log_path: Path,
    extra: Sequence[str],
) -> "Iterator[_Launched]":
    with ExitStack() as stack:
        try:
            launched = stack.enter_context(_launch(container, access, log_path, extra))
        except ServerFailed as error:
            # The overlay is gone when somebody reads this; the model's own folder is not.
            own = str(variants[0].model.folder.parent)
            message = error.message.replace(str(access.folder / MODELS), own)
            raise ServerFailed(message, error.log_tail, error.not_applicable) from error
        yield launched


@dataclass(frozen=True)
class _Launched:
    """A Triton that is ready. ``ports`` are those for HTTP, GRPC and metrics."""

    ports: tuple[int, int, int]
    version: str
    ready_s: float
    process: RunningProgram
    shm: str


@contextmanager
def _launch(
    container: Container, access: NodeAccess, log_path: Path, extra: Sequence[str]
) -> Iterator[_Launched]:
    http_port, grpc_port, metrics_port = free_ports(3)
    identity = f"hpcbench-{uuid.uuid4().hex[:12]}"
    arguments = [
        f"--model-repository={access.folder / MODELS}",
        f"--id={identity}",
        *("--http-address=127.0.0.1", f"--http-port={http_port}"),
        *("--grpc-address=127.0.0.1", f"--grpc-port={grpc_port}"),
        f"--metrics-port={metrics_port}",  # on the address of HTTP; older ones know no other
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        *([] if POLLING[0] in extra else ["--model-control-mode=none"]),
        *extra,
    ]
    command = containers.runtime_of(container).server_command(
        container, arguments, replace(access, shm_prefix=f"{identity}-")
    )
    started = time.monotonic()
    log_path.parent.mkdir(parents=True, exist_ok=True)
    position = log_path.stat().st_size if log_path.exists() else 0
    with (
        log_path.open("ab") as stream,
        running(
            command,
            stdout=stream,
            stderr=stream,
            grace_s=EXIT_TIMEOUT_S + 2,
            orphaned=[glob.escape(str(access.folder))],
        ) as process,
    ):
        limit_s = BUILD_TIMEOUT_S if "--log-verbose=1" in extra else READY_TIMEOUT_S
        _wait_until_ready(process, http_port, identity, log_path, position, limit_s)
        version = get_json(http_port, "/v2")["version"]
        ports = http_port, grpc_port, metrics_port
        yield _Launched(ports, version, time.monotonic() - started, process, f"{identity}-")


def _wait_until_ready(
    process: RunningProgram, port: int, identity: str, log_path: Path, position: int, limit_s: float
) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if process.wait(timeout_s=0.05) is not None:
            text = server_log.read_from(log_path, position)
            if "already in use" in text:
                raise _PortTaken
            raise server_log.load_failure(text)
        try:
            if get_json(port, "/v2")["name"] != identity:
                raise _PortTaken
            if http_status(port, "/v2/health/ready") == 200:
                return
        except (OSError, http.client.HTTPException, ValueError):
            continue
    raise ServerFailed(
        f"the server was not ready within {limit_s:.0f} s", server_log.tail(log_path)
    )


def get_json(port: int, path: str) -> dict[str, Any]:
    """The JSON answer of the server to a GET; OSError or ValueError where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        return answer
    finally:
        connection.close()


def http_status(port: int, path: str) -> int:
    """The status of the server's answer to a GET; OSError or HTTPException where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for entry in sockets:
            entry.bind(("127.0.0.1", 0))
        return [entry.getsockname()[1] for entry in sockets]
    finally:
        for entry in sockets:
            entry.close()
