"""A server that is ready or says why not: ports, identity, shared memory."""

import socket
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from hpcbench.config.site import Container
from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.errors import ServerFailed
from hpcbench.measure import model_repository
from hpcbench.measure import server as triton
from hpcbench.plan import plan
from hpcbench.plan.point import ServerVariant
from hpcbench.runtime.loopback import Loopback, Port, free_ports
from tests.helpers.real import quick_run
from tests.helpers.traces import traces

OPTIONS = triton.ServerOptions(cpus=2)


def on_the_nodes_loopback(container: Container) -> Container:
    """Where this process sees who listens."""
    return container.model_copy(update={"network_isolation": "off"})


def test_free_ports_are_different_and_free() -> None:
    ports = [each.number for each in free_ports(3)]
    assert len(set(ports)) == 3
    for port in ports:
        with socket.socket() as entry:
            entry.bind(("127.0.0.1", port))


@pytest.fixture
def served(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> tuple[ServerVariant, Container]:
    campaign, site = quick_run(tmp_path, native_prefix, demo_models)
    (placement,) = plan.plan(campaign, site).placements["cpu"]
    return placement.points[0].variant, site.container


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_a_port_that_is_taken_meanwhile_is_replaced_by_another(
    tmp_path: Path,
    served: tuple[ServerVariant, Container],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, offered = triton.free_ports, []
    variant, container = served[0], on_the_nodes_loopback(served[1])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]

        def sometimes_busy(count: int, loopback: Loopback) -> list[Port]:
            found = real(count, loopback)
            offered.append([Port(busy), *found[1:]] if len(offered) < 1 else found)
            return offered[-1]

        monkeypatch.setattr(triton, "free_ports", sometimes_busy)
        log = tmp_path / "logs" / "server.log"
        with triton.serve([variant], container, log, OPTIONS) as server:
            assert server.alive
            assert server.http_port == offered[1][0]
    assert "already in use" in log.read_text()


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_all_ports_of_a_server_are_on_the_loopback(
    tmp_path: Path, served: tuple[ServerVariant, Container]
) -> None:
    variant, container = served[0], on_the_nodes_loopback(served[1])
    with triton.serve([variant], container, tmp_path / "log", OPTIONS) as server:
        ports = {each.number for each in (server.http_port, server.grpc_port, server.metrics_port)}
        addresses = {
            (entry.laddr.port, entry.laddr.ip.removeprefix("::ffff:"))
            for entry in psutil.net_connections("tcp")
            if entry.status == psutil.CONN_LISTEN and entry.laddr.port in ports
        }
    assert addresses == {(port, "127.0.0.1") for port in ports}


@pytest.mark.native
def test_shared_memory_of_a_server_carries_its_name_and_goes_with_it(
    tmp_path: Path, served: tuple[ServerVariant, Container]
) -> None:
    variant, container = served

    def segments() -> set[str]:
        # In /tmp, other tests may have folders at this moment.
        return {path for path in traces() if path.startswith("/dev/shm/hpcbench-")}

    before = segments()
    with triton.serve([variant], container, tmp_path / "log", OPTIONS):
        assert segments() - before
    assert segments() == before


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_a_configuration_that_the_server_changed_is_refused_with_both_values(
    tmp_path: Path,
    served: tuple[ServerVariant, Container],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No server does that by itself: here it is given another configuration than was asked for."""
    variant, container = served
    real = model_repository.write_overlay

    def otherwise(chosen: ServerVariant, config: ModelConfig, repository: Path) -> None:
        other = ModelConfig.FromString(config.SerializeToString())
        other.instance_group[0].count = 2
        real(chosen, other, repository)

    monkeypatch.setattr(model_repository, "write_overlay", otherwise)
    asked = replace(variant, changes=(("instance_count", 3),))
    message = r"instance_group\[0\].count: asked for 3, the server loaded 2"
    with (
        pytest.raises(ServerFailed, match=message),
        triton.serve([asked], container, tmp_path / "log", OPTIONS),
    ):
        pass


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_a_server_is_started_with_the_flags_of_its_campaign(
    tmp_path: Path, served: tuple[ServerVariant, Container]
) -> None:
    """Those of the campaign take the place of what hpcbench would say of the same thing."""
    variant, container = served
    flags = (
        "--backend-config=onnxruntime,enable-global-threadpool=1",
        "--cache-config=local,size=2097152",
    )
    changes = (*variant.changes, ("response_cache", True))
    variant = replace(variant, flags=flags, changes=changes)
    with triton.serve([variant], container, tmp_path / "server.log", OPTIONS) as server:
        words = psutil.Process(server.process.pid).cmdline()
        children = psutil.Process(server.process.pid).children(recursive=True)
        lines = [words, *(child.cmdline() for child in children)]
        assert any(set(flags) <= set(line) for line in lines)
        caches = {word for line in lines for word in line if word.startswith("--cache-config")}
        assert caches == {flags[1]}
        assert server.configs[0].response_cache.enable
