"""What is read while a point is measured, in the rows of a real measurement."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hpcbench.config.cpu_shares import CpuShares
from hpcbench.measure import cpu_sampling, gpu_sampling, meanwhile, sampling, visible_gpus
from hpcbench.measure.measure import measure
from hpcbench.plan import plan
from hpcbench.records.columns import SCHEMA, Record, Status
from hpcbench.records.validity import INPUTS, with_verdicts
from tests.helpers import models, own_cpus
from tests.helpers.nvml import UUIDS, nvml, use_nvml
from tests.helpers.real import quick_run

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("leaves_nothing")]
LONGER = {"measurement_interval_ms": 800, "stability_percentage": 900.0}


@pytest.fixture(autouse=True)
def _read_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a busy CPU, on which reading takes longer, is read every few seconds only."""
    monkeypatch.setattr(sampling, "_CPU_SHARE", 1.0)


def measured(
    folder: Path,
    prefix: Path,
    repository: Path,
    gpus: int = 0,
    cpus: CpuShares | None = None,
    **changes: Any,
) -> list[Record]:
    campaign, site = quick_run(folder, prefix, repository, **changes)
    placements = plan.plan(campaign, site).placements["cpu"]
    pool = site.pools["cpu"].model_copy(update={"gpus_per_job": gpus, "cpus": cpus})
    site = site.model_copy(update={"pools": {"cpu": pool}})
    return [record for p in placements for record in measure(p, site, folder / "logs")]


@pytest.mark.skipif(bool(visible_gpus.gpu_handles()), reason="this computer has a GPU")
def test_on_cpus_a_row_says_what_server_and_client_took_of_them(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    (record,) = measured(
        tmp_path,
        native_prefix,
        demo_models,
        server={"instance_count": 1},
        load={"request_rate": 100},
        measurement=LONGER | {"measurement_interval_ms": 3000},
    )
    assert record.status == Status.OK, record.reason
    windows_s = (record.request_count or 0) / (record.throughput_infer_per_s or 1)
    assert windows_s > 0.8 * 3 * 3
    assert 0.3 * windows_s < (record.cpu_sampled_s or 0) <= 1.3 * windows_s
    assert (record.server_cpu_s or 0) > (record.client_cpu_s or 0) > 0
    assert (record.server_memory_max_bytes or 0) > 50 * 2**20
    assert (record.client_memory_max_bytes or 0) > 5 * 2**20
    assert (record.client_context_switches or 0) > 100
    assert 0 < (record.client_busiest_thread or 0) < 1.1
    assert record.cpus_shared is True
    if cpu_sampling.find_rapl() is None:
        assert (record.device_source, record.energy_j_per_infer) == (None, None)


def test_energy_is_that_of_the_counted_windows_and_of_no_model_that_an_ensemble_calls(
    tmp_path: Path, native_prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for NVML counts 250 W, after 50 W at first: this computer may have no GPU."""
    watts, began = [50.0], meanwhile.time.monotonic()

    def energy_mj(_: int) -> int:
        return int(1000 * watts[0] * (meanwhile.time.monotonic() - began))

    use_nvml(monkeypatch, nvml(nvmlDeviceGetTotalEnergyConsumption=energy_mj))
    # So long that it does not matter when within a reading the energy is asked for.
    monkeypatch.setattr(meanwhile, "_IDLE_S", 3.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUIDS[0])
    idle = meanwhile.watch

    def then_busy(server: Any, *, gpus: bool) -> meanwhile.Watch:
        found = idle(server, gpus=gpus)
        watts[0] = 250.0
        return found

    monkeypatch.setattr("hpcbench.measure.measure.watch", then_busy)
    models.ensemble(tmp_path / "repository")
    records = measured(
        tmp_path,
        native_prefix,
        tmp_path / "repository",
        gpus=1,
        models=[{"name": "chain"}],
        load={"request_rate": 50},
        measurement=LONGER | {"measurement_interval_ms": 2000},
    )
    (whole,) = [record for record in records if record.part_of is None]
    parts = [record for record in records if record.part_of is not None]
    assert whole.status == Status.OK, whole.reason
    assert whole.device_source == gpu_sampling.NVML
    assert whole.idle_power_w == pytest.approx(50, rel=0.05)
    energy = (whole.energy_j_per_infer or 0) * (whole.throughput_infer_per_s or 0)
    assert energy == pytest.approx(250, rel=0.05)
    net = (whole.energy_j_per_infer_net or 0) * (whole.throughput_infer_per_s or 0)
    assert net == pytest.approx(200, rel=0.05)
    assert parts
    assert {part.energy_j_per_infer for part in parts} == {None}
    assert {part.executed_batch_sizes for part in parts} == {(1,)}
    assert {record.foreign_requests for record in (whole,)} == {0}
    assert whole.network_isolated


HALF_BUSY = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
while True:
    end = time.process_time() + 0.01
    while time.process_time() < end: pass
    time.sleep(0.01)
"""


@contextmanager
def half_of(cpus: Sequence[int]) -> Iterator[None]:
    """A program on each of these CPUs that burns it for half of the time."""
    words = [sys.executable, "-c", HALF_BUSY]
    programs = [subprocess.Popen([*words, str(cpu)]) for cpu in cpus]
    try:
        yield
    finally:
        for each in programs:
            each.kill()
            each.wait()


def broken_rules(record: Record) -> str:
    columns = {name: [getattr(record, name)] for name in INPUTS}
    row = pa.table(columns, schema=pa.schema([SCHEMA.field(name) for name in INPUTS]))
    return str(with_verdicts(row)["invalid_reasons"][0].as_py())


def test_rows_beside_programs_that_burn_the_cpus_half_of_the_time_are_disturbed_and_others_not(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    """Two points of one server, which keeps its CPUs busy: one alone, one beside such programs."""
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        demo_models,
        server={"instance_count": 2},
        load={"batch_size": [4, 8], "concurrency": 8},
        measurement=LONGER | {"measurement_interval_ms": 2000},
    )
    (placement,) = plan.plan(campaign, site).placements["cpu"]
    with own_cpus.at_most(2) as cpus:
        records = measure(placement, site, tmp_path / "logs")
        quiet = next(records)
        with half_of(cpus):
            disturbed = next(records)
        assert list(records) == []
    assert disturbed.throughput_infer_per_s, disturbed.reason
    assert "DISTURBED" in broken_rules(disturbed)
    assert (disturbed.other_cpu_s or 0) > 0.2 * len(cpus) * (disturbed.cpu_sampled_s or 0)

    # Other tests may run beside the first point. But what server and client had of the CPUs, nobody
    # else had, and who had less than a tenth did not disturb.
    assert quiet.throughput_infer_per_s, quiet.reason
    there_are_s = len(cpus) * (quiet.cpu_sampled_s or 0)
    left_s = there_are_s - (quiet.server_cpu_s or 0) - (quiet.client_cpu_s or 0)
    assert (quiet.other_cpu_s or 0) < left_s + 0.05 * there_are_s
    assert "DISTURBED" not in broken_rules(quiet) or left_s > 0.1 * there_are_s


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one CPU only")
def test_divided_cpus_keep_server_and_client_apart(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    (record,) = measured(
        tmp_path,
        native_prefix,
        demo_models,
        cpus=CpuShares(server=1, client=1),
        load={"concurrency": 4},
        measurement=LONGER | {"measurement_interval_ms": 3000},
    )
    assert record.status == Status.OK, record.reason
    assert record.cpus_shared is False
    assert (record.client_cpu_s or 0) <= 1.1 * (record.cpu_sampled_s or 0)
    assert record.client_cpu_share == pytest.approx(
        (record.client_cpu_s or 0) / (record.cpu_sampled_s or 1)
    )
