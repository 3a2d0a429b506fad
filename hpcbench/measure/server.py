"""Start Triton with variants: inside ``with serve(...) as server:`` it is ready and checked."""

import contextlib
import glob
import http.client
import logging
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpcbench.config.container import Container
from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.errors import ServerFailed
from hpcbench.measure import loaded_config, model_repository, server_log
from hpcbench.measure.isolation import loopback_for, network_explained
from hpcbench.plan import model_config
from hpcbench.plan.point import Request, ServerVariant
from hpcbench.runtime import command as containers
from hpcbench.runtime.command import NodeAccess
from hpcbench.runtime.loopback import ADDRESS, Loopback, Port, free_ports
from hpcbench.runtime.process import RunningProgram, running
from hpcbench.runtime.temporary import temporary_folder

log = logging.getLogger(__name__)

_MODELS = "models"
READY_TIMEOUT_S = 300.0
_BUILD_TIMEOUT_S = 3600.0  # TensorRT may build engines for minutes per instance
# Triton cannot choose free ports itself, and on a shared node others take them, too.
_PORT_ATTEMPTS = 5
_EXIT_TIMEOUT_S = 8
_POLLING = ("--model-control-mode=poll", "--repository-poll-secs=1")


class _PortTaken(Exception):
    """Another program took a port after `free_ports` found it and before Triton bound it."""


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """A Triton that is ready, on a loopback.

    Attributes
    ----------
    http_port, grpc_port, metrics_port
        Its ports.
    version
        Its version, such as 2.50.0.
    variants
        What it serves.
    asked
        For each variant the configuration that it was given.
    configs
        For each variant the configuration that it says it loaded.
    requests
        The requests that its models are prepared for, by the name of the model.
    fresh
        Whether it has never served other variants.
    ready_s
        How long it took to serve these variants, in seconds.
    repository
        Its overlay repository.
    log_path
        Its log, to which it still writes.
    process
        The running program.
    shm
        The prefix of its shared memory, which a client needs that sends its tensors there.
    """

    http_port: Port
    grpc_port: Port
    metrics_port: Port
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

    @property
    def alive(self) -> bool:
        """Whether the process runs, and this one can still talk to it."""
        return self.process.poll() is None and self.loopback.alive

    @property
    def loopback(self) -> Loopback:
        """Where it listens, and its clients run."""
        return self.http_port.loopback

    @property
    def log_tail(self) -> str:
        """The last lines of its log."""
        return server_log.tail(self.log_path)

    def config_of(self, model: str, version: int) -> ModelConfig:
        """Return the configuration with which it serves any of its models.

        Parameters
        ----------
        model
            Name of the model, which may be one that an ensemble calls.
        version
            Its version.

        Returns
        -------
        ModelConfig
            As Triton reports it now.
        """
        return loaded_config.get_config(self.http_port, f"{model}/versions/{version}")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How Triton is started, besides what it serves.

    Attributes
    ----------
    cpus
        How many CPUs the backends may use.
    pinned
        Which CPUs Triton may use; empty for all those of this process.
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
    pinned: tuple[int, ...] = ()
    gpus: bool = False
    requests: Mapping[str, Sequence[Request]] = field(default_factory=dict)
    engines: Mapping[str, Path] = field(default_factory=dict)
    verbose: bool = False
    poll_repository: bool = False


@contextmanager
def serve(
    variants: Sequence[ServerVariant], container: Container, log_path: Path, options: ServerOptions
) -> Iterator[RunningServer]:
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
    RunningServer
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
    # All variants of a server are of one campaign, which names its options for all of them.
    extra = model_config.server_arguments(asked, variants[0].flags)
    extra += ["--log-verbose=1"] if options.verbose else []
    extra += _POLLING if options.poll_repository else []
    # First: what links lead to is checked before any of it is copied.
    mounts = dict.fromkeys(
        pair for v in variants for pair in model_repository.paths_to_mount(v, container)
    )
    with temporary_folder(containers.scratch_folder(container)) as folder:
        repository = folder / _MODELS
        for variant, config in zip(variants, asked, strict=True):
            model_repository.write_overlay(variant, config, repository)
        for attempt in range(_PORT_ATTEMPTS):
            try:
                access = NodeAccess(
                    folder=repository.parent,
                    mounts=tuple(mounts),
                    writable=tuple(options.engines.values()),
                    gpus=options.gpus,
                    env={"HPCBENCH_CPUS": str(options.cpus)},
                    cpus=options.pinned,
                )
                with _launched_for(variants, container, access, log_path, extra) as launched:
                    configs = loaded_config.loaded_configs(launched.ports[0], variants)
                    loaded_config.check_loaded_configs(variants, asked, configs)
                    yield RunningServer(
                        http_port=launched.ports[0],
                        grpc_port=launched.ports[1],
                        metrics_port=launched.ports[2],
                        version=launched.version,
                        variants=tuple(variants),
                        asked=asked,
                        configs=configs,
                        requests=options.requests,
                        fresh=True,
                        ready_s=launched.ready_s,
                        repository=repository,
                        log_path=log_path,
                        process=launched.process,
                        shm=launched.shm,
                    )
                    return
            except _PortTaken:
                log.info("a port was taken meanwhile; trying others (%d)", attempt + 1)
        raise ServerFailed(
            f"Triton found no free ports in {_PORT_ATTEMPTS} attempts", server_log.tail(log_path)
        )


def start_without_models(
    container: Container, *, log_path: Path, cpus: int, gpus: bool = False
) -> tuple[str, float]:
    """Start Triton without a model, and stop it.

    Parameters
    ----------
    container
        Where tritonserver comes from.
    log_path
        The file to which its output is appended.
    cpus
        How many CPUs the backends may use.
    gpus
        Whether Triton gets the GPUs that this process was given.

    Returns
    -------
    tuple of str and float
        Its version, and the seconds until it was ready.

    Raises
    ------
    ServerFailed
        If it does not become ready.
    """
    with temporary_folder(containers.scratch_folder(container)) as folder:
        repository = folder / _MODELS
        repository.mkdir()
        access = NodeAccess(folder=folder, gpus=gpus, env={"HPCBENCH_CPUS": str(cpus)})
        for _ in range(_PORT_ATTEMPTS):
            with (
                contextlib.suppress(_PortTaken),
                _launch(container, access, log_path, ()) as launched,
            ):
                return launched.version, launched.ready_s
    raise ServerFailed(
        f"Triton found no free ports in {_PORT_ATTEMPTS} attempts", server_log.tail(log_path)
    )


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
            # When somebody reads this the overlay is gone. The model's own folder is not.
            own = str(variants[0].model.folder.parent)
            message = error.message.replace(str(access.folder / _MODELS), own)
            raise ServerFailed(message, error.log_tail, error.not_applicable) from error
        yield launched


@dataclass(frozen=True)
class _Launched:
    """A Triton that is ready. ``ports`` are those for HTTP, GRPC and metrics."""

    ports: tuple[Port, Port, Port]
    version: str
    ready_s: float
    process: RunningProgram
    shm: str


@contextmanager
def _launch(
    container: Container, access: NodeAccess, log_path: Path, extra: Sequence[str]
) -> Iterator[_Launched]:
    with (
        loopback_for(container, gpus=access.gpus) as loopback,
        _launch_on(loopback, container, access, log_path, extra) as launched,
    ):
        yield launched


@contextmanager
def _launch_on(
    loopback: Loopback,
    container: Container,
    access: NodeAccess,
    log_path: Path,
    extra: Sequence[str],
) -> Iterator[_Launched]:
    try:
        http_port, grpc_port, metrics_port = free_ports(3, loopback)
    except OSError as error:
        # Not as an OSError, by which a results folder that cannot be written is known.
        raise ServerFailed(f"there are no ports for Triton: {error}") from error
    identity = f"hpcbench-{uuid.uuid4().hex[:12]}"
    arguments = [
        f"--model-repository={access.folder / _MODELS}",
        f"--id={identity}",
        *(f"--http-address={ADDRESS}", f"--http-port={http_port.number}"),
        *(f"--grpc-address={ADDRESS}", f"--grpc-port={grpc_port.number}"),
        f"--metrics-port={metrics_port.number}",  # binds HTTP's address; --metrics-address is newer
        f"--exit-timeout-secs={_EXIT_TIMEOUT_S}",
        *([] if _POLLING[0] in extra else ["--model-control-mode=none"]),
        *extra,
    ]
    command = containers.runtime_of(container).server_command(
        container, arguments, replace(access, shm_prefix=f"{identity}-")
    )
    swept = dict.fromkeys([str(containers.scratch_folder(container)), tempfile.gettempdir()])
    command = replace(command, cpus=access.cpus, namespaces=loopback.namespaces, sweep=tuple(swept))
    started = time.monotonic()
    log_path.parent.mkdir(parents=True, exist_ok=True)
    # Several servers append to one log: what stands before this position is not of this one.
    position = log_path.stat().st_size if log_path.exists() else 0
    with (
        log_path.open("ab") as stream,
        running(
            command,
            stdout=stream,
            stderr=stream,
            # Triton waits for requests that are under way, and then gives up by itself.
            grace_s=_EXIT_TIMEOUT_S + 2,
            orphaned=[glob.escape(str(access.folder))],
        ) as process,
    ):
        # Only a Triton that builds engines logs verbosely.
        limit_s = _BUILD_TIMEOUT_S if "--log-verbose=1" in extra else READY_TIMEOUT_S
        with network_explained(loopback):
            version = _wait_until_ready(process, http_port, identity, log_path, position, limit_s)
        ports = http_port, grpc_port, metrics_port
        yield _Launched(ports, version, time.monotonic() - started, process, f"{identity}-")


def _wait_until_ready(
    process: RunningProgram, port: Port, name: str, log_path: Path, position: int, limit_s: float
) -> str:
    """Return Triton's version as soon as it is ready."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if process.wait(timeout_s=0.05) is not None:
            text = server_log.read_from(log_path, position)
            # Triton's words where it cannot bind a port.
            if "already in use" in text:
                raise _PortTaken
            raise server_log.load_failure(text)
        try:
            # Another user's Triton may answer on this port: only the id proves that it is ours.
            answer = loaded_config.get_json(port, "/v2")
            if answer["name"] != name:
                raise _PortTaken
            if loaded_config.get(port, "/v2/health/ready")[0] == 200:
                return str(answer["version"])
        # Triton binds its ports one after the other, and answers before it is ready.
        except (OSError, http.client.HTTPException, ValueError):
            if not port.loopback.alive:
                raise ServerFailed("the loopback of Triton has ended") from None
    why = server_log.still_loading(server_log.read_from(log_path, position))
    message = f"Triton was not ready within {limit_s:.0f} s"
    raise ServerFailed(f"{message}: {why}" if why else message, server_log.tail(log_path))
