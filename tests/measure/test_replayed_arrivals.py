"""Arrivals of a file, sent again by the real perf_analyzer to the real Triton."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpcbench.records.columns import Record, Status
from tests.helpers import models, real
from tests.helpers.real import QUICK, quick_run

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("leaves_nothing")]


def bursts(path: Path, rate: float, size: int) -> Path:
    """Requests that come so many at once, with this mean rate."""
    path.write_text("\n".join(["0"] * (size - 1) + [str(round(1e6 * size / rate))]))
    return path


def test_a_file_of_arrivals_is_sent_over_and_over(tmp_path: Path, native_prefix: Path) -> None:
    models.ensemble(tmp_path / "models")
    text, table = tmp_path / "a.txt", tmp_path / "a.parquet"
    text.write_text("10000\n" * 20 + "200000\n")
    pq.write_table(pa.table({"at": [*(n / 100 for n in range(21)), 0.4]}), table)
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        tmp_path / "models",
        models=[{"name": "scale"}],
        load={"request_intervals": [str(text), str(table)]},
        measurement=QUICK | {"shared_memory": ["none", "system"]},
    )
    records = real.measured(campaign, site, tmp_path / "logs")
    # Both files hold the same arrivals.
    assert sorted(record.shared_memory or "" for record in records) == ["none", "system"]
    for record in records:
        assert record.status is Status.OK, (record.reason, record.log_tail)
        assert record.request_intervals == str(text)
        assert record.request_distribution == "intervals"
        assert (record.concurrency, record.request_rate) == (None, pytest.approx(21 / 0.4))
        assert record.measurement_interval_ms == 800
        assert record.request_count == pytest.approx(3 * 42, rel=0.05)
        assert record.foreign_requests == 0
        assert (record.overloaded, record.exit_code) == (False, None)
        assert "--request-intervals intervals.txt" in (record.command or "")


def test_a_file_that_has_changed_since_it_was_planned_is_not_sent(
    tmp_path: Path, native_prefix: Path
) -> None:
    models.ensemble(tmp_path / "models")
    path = bursts(tmp_path / "a.txt", 100, 5)
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        tmp_path / "models",
        models=[{"name": "scale"}],
        load={"request_intervals": str(path)},
    )
    planned = real.plan.plan(campaign, site).placements["cpu"]
    bursts(path, 100, 6)
    (record,) = real.measure(planned[0], site, tmp_path / "logs")
    assert record.status is Status.FAILED
    assert "has changed since it was planned" in (record.reason or "")


def compared(
    folder: Path, prefix: Path, demo_models: Path, share: float, **measurement: Any
) -> dict[str, Record]:
    """The same mean rate, a share of what one client gets, at even times, at random, in bursts."""
    (folder / "alone").mkdir(parents=True)
    closed = quick_run(
        folder / "alone", prefix, demo_models, load={"batch_size": 32, "concurrency": 1}
    )
    (alone,) = real.measured(*closed, folder / "logs")
    rate = share * (alone.throughput_infer_per_s or 0) / 32
    campaign, site = quick_run(
        folder,
        prefix,
        demo_models,
        load={
            "batch_size": 32,
            "request_rate": rate,
            "request_distribution": ["constant", "poisson"],
            "request_intervals": str(bursts(folder / "bursts.txt", rate, 10)),
        },
        measurement=QUICK | measurement,
    )
    records = real.measured(campaign, site, folder / "logs")
    return {record.request_distribution or "": record for record in records}


def test_requests_of_a_burst_wait_for_each_other(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    found = compared(tmp_path, native_prefix, demo_models, 0.3, measurement_interval_ms=1000)
    even, burst = found["constant"], found["intervals"]
    assert burst.request_rate == pytest.approx(even.request_rate, rel=0.01)
    # Half of ten requests wait for five others; the median does not mind what else is at work.
    assert (burst.latency_p50_us or 0) > 2 * (even.latency_p50_us or 0)


@pytest.mark.soak
def test_bursts_have_a_longer_tail_than_random_arrivals_and_these_than_even_ones(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    rounds = [
        compared(tmp_path / str(n), native_prefix, demo_models, 0.5, measurement_interval_ms=3000)
        for n in range(3)
    ]
    p99_ms = {
        name: [round((each[name].latency_p99_us or 0) / 1000, 1) for each in rounds]
        for name in ("constant", "poisson", "intervals")
    }
    even, random, burst = map(statistics.median, p99_ms.values())
    assert even < random < burst, p99_ms
