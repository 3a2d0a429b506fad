"""Variants that come in the place of others on one real Triton, beside fresh servers."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpcbench.config.site import Site
from hpcbench.errors import ServerFailed
from hpcbench.measure import server as triton
from hpcbench.measure import variants
from hpcbench.measure.measure import measure
from hpcbench.plan import plan
from hpcbench.plan.placement import Placement
from hpcbench.plan.point import ServerVariant
from hpcbench.records.columns import Record, Status
from tests.helpers import ratios
from tests.helpers.real import QUICK, UNHURRIED, quick_run

LOG = """I1124 15:40:28.4 10027 model_lifecycle.cc:624] "successfully unloaded 'jets' version 1"
I1124 15:40:28.5 10027 model_lifecycle.cc:624] "successfully unloaded 'jets' version 12"
I1124 15:40:29.4 10027 model_lifecycle.cc:472] "loading: second:1"
"""


def test_what_is_unloaded_is_read_from_the_log() -> None:
    assert variants.unloaded_versions(LOG) == {("jets", "1"), ("jets", "12")}
    assert not variants.load_refused(LOG)
    assert variants.load_refused(
        LOG + "E1124 1 x.cc:6] \"failed to load 'jets' version 1: Internal\"\n"
    )
    assert variants.load_refused(
        LOG + "E1124 1 x.cc:6] \"Poll failed for model directory 'jets': bad\"\n"
    )


def placed(
    folder: Path, prefix: Path, models: Path, **changes: Any
) -> tuple[list[Placement], Site]:
    campaign, site = quick_run(folder, prefix, models, **({"fresh_servers": False} | changes))
    return list(plan.plan(campaign, site).placements["cpu"]), site


Variants = tuple[ServerVariant, ...]


@contextmanager
def swapping(
    folder: Path, prefix: Path, models: Path
) -> Iterator[tuple[triton.RunningServer, Variants, Variants]]:
    """A server that swaps with one instance loaded, that variant and the one with two."""
    server = UNHURRIED | {"instance_count": [1, 2]}
    (placement,), site = placed(folder, prefix, models, server=server)
    first, second = placement.served
    log = folder / "log"
    options = triton.ServerOptions(cpus=2, poll_repository=True)
    # Where this process sees who listens.
    container = site.container.model_copy(update={"network_isolation": "off"})
    with triton.serve(first, container, log, options) as server:
        yield server, first, second


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_each_variant_is_loaded_as_asked_on_one_server(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    (placement,), site = placed(
        tmp_path,
        native_prefix,
        demo_models,
        server={"instance_count": [1, 2], "preferred_batch_size": [None, [2, 4]]},
        load={"batch_size": [1, 2], "concurrency": 1},
    )
    records = list(measure(placement, site, tmp_path / "logs"))
    assert {record.status for record in records} == {Status.OK}, records[0].reason
    found = [(r.instance_count, r.dynamic_batching, r.preferred_batch_size) for r in records]
    wanted = [(c, p is not None, p) for c in (1, 2) for p in (None, (2, 4))]
    assert found == [each for each in wanted for _ in (1, 2)]
    assert [record.server_fresh for record in records] == [True] * 2 + [False] * 6
    log = (tmp_path / "logs" / f"{placement.id}.server.log").read_text()
    assert log.count("Started HTTPService") == 1


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_a_server_that_swaps_takes_no_orders_from_the_network(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    with swapping(tmp_path, native_prefix, demo_models) as (server, _, second):
        for order in ("unload", "load"):
            connection = http.client.HTTPConnection(server.http_port.address, timeout=10)
            connection.request("POST", f"/v2/repository/models/jet_tagger/{order}")
            answer = connection.getresponse()
            assert answer.status >= 400
            assert b"not allowed" in answer.read()
            connection.close()
        after = variants.swap_variants(server, second)
        assert (after.fresh, after.variants) == (False, second)
        ports = {each.number for each in (server.http_port, server.grpc_port, server.metrics_port)}
        heard = {
            entry.laddr.ip.removeprefix("::ffff:")
            for entry in psutil.net_connections("tcp")
            if entry.status == psutil.CONN_LISTEN and entry.laddr.port in ports
        }
    assert heard == {"127.0.0.1"}


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_a_swap_that_fails_is_followed_by_a_fresh_server(
    tmp_path: Path, native_prefix: Path, demo_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (placement,), site = placed(
        tmp_path,
        native_prefix,
        demo_models,
        server=UNHURRIED | {"instance_count": [1, 2]},
        load={},
    )
    monkeypatch.setattr(variants, "UNLOAD_TIMEOUT_S", 0.0)
    records = list(measure(placement, site, tmp_path / "logs"))
    assert [(r.status, r.server_fresh) for r in records] == [(Status.OK, True)] * 2
    assert [record.instance_count for record in records] == [1, 2]


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_after_a_failure_another_variant_has_a_fresh_server(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    (placement,), site = placed(
        tmp_path,
        native_prefix,
        demo_models,
        server=UNHURRIED | {"instance_count": [1, 2]},
        load={},
        measurement={**QUICK, "timeout_s": 0.2},
    )
    records = list(measure(placement, site, tmp_path / "logs"))
    assert [(r.status, r.server_fresh) for r in records] == [(Status.TIMEOUT, True)] * 2


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_a_server_that_dies_while_it_swaps_says_so(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    with swapping(tmp_path, native_prefix, demo_models) as (server, _, second):
        (triton_process,) = [
            p for p in psutil.Process().children(recursive=True) if p.name() == "tritonserver"
        ]
        triton_process.suspend()
        triton_process.kill()
        with pytest.raises(ServerFailed):
            variants.swap_variants(server, second)


@pytest.mark.native
@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("leaves_nothing")
def test_swapped_variants_and_fresh_servers_measure_alike(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    """In turn, as the machine does other things, too; they may differ by a quarter.

    A smaller difference is for a quiet machine and `tests/benchmarks/swapping.py` to see.
    """
    settings: dict[str, Any] = {
        "server": {"instance_count": [1, 2, 3]},
        "load": {"batch_size": 8, "concurrency": 4},
        "measurement": {**QUICK, "measurement_interval_ms": 500},
        "repeats": 3,
    }
    shared, site = placed(tmp_path, native_prefix, demo_models, **settings)
    fresh, _ = placed(tmp_path, native_prefix, demo_models, fresh_servers=True, **settings)
    found: dict[str, list[Record]] = {"shared": [], "fresh": []}
    for repeat in range(3):
        ways = [("shared", shared), ("fresh", fresh)]
        for way, placements in ways if repeat % 2 else reversed(ways):
            for placement in placements:
                if placement.repeat == repeat:
                    found[way] += measure(placement, site, tmp_path / "logs")
    assert all(record.server_fresh for record in found["fresh"])
    pairs = ratios.pairs(found["shared"], found["fresh"])
    assert len(pairs) == 6
    for column in ("throughput_infer_per_s", "latency_p50_us"):
        low, middle, high = ratios.interval(ratios.of(pairs, column))
        assert low < 1.25, f"{column}: {middle:.2f}"
        assert high > 0.8, f"{column}: {middle:.2f}"
