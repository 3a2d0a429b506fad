"""Arrivals of a file, sent again by the real perf_analyzer to the real Triton."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpcbench.records.columns import Status
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
    # So far apart that a machine which is held up for a tenth of a second is late with two of them.
    text.write_text("50000\n" * 4 + "200000\n")
    pq.write_table(pa.table({"at": [*(n / 20 for n in range(5)), 0.4]}), table)
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        tmp_path / "models",
        models=[{"name": "scale"}],
        load={"request_intervals": [str(text), str(table)]},
        measurement=QUICK | {"measurement_interval_ms": 1600, "shared_memory": ["none", "system"]},
    )
    records = real.measured(campaign, site, tmp_path / "logs")
    # Both files hold the same arrivals.
    assert sorted(record.shared_memory or "" for record in records) == ["none", "system"]
    for record in records:
        assert record.status is Status.OK, (record.reason, record.log_tail)
        assert record.request_intervals == str(text)
        assert record.request_distribution == "intervals"
        assert (record.concurrency, record.request_rate) == (None, pytest.approx(5 / 0.4))
        assert record.measurement_interval_ms == 1600
        assert record.request_count == pytest.approx(3 * 20, abs=4)
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


def test_requests_that_come_in_bursts_wait_longer_than_at_random_and_these_than_in_turn(
    tmp_path: Path, native_prefix: Path
) -> None:
    models.sleeping(tmp_path / "models", seconds=0.01)
    measured = [
        record
        for kind, load in {
            "bursts": {"request_intervals": str(bursts(tmp_path / "a.txt", 60, 12))},
            "others": {"request_rate": 60, "request_distribution": ["poisson", "constant"]},
        }.items()
        for record in real.measured(
            *quick_run(
                tmp_path,
                native_prefix,
                tmp_path / "models",
                models=[{"name": "sleeper"}],
                load=load,
                measurement=QUICK | {"measurement_interval_ms": 600},
            ),
            tmp_path / kind,
        )
    ]
    found = {record.request_distribution: record for record in measured}
    # The mean rate is the same.
    assert {round(record.request_rate or 0) for record in measured} == {60}
    for less, more in [("constant", "poisson"), ("poisson", "intervals")]:
        # A machine that stalls for a tenth of a second may spoil a p99, and not this one.
        assert (found[less].latency_p90_us or 0) < (found[more].latency_p90_us or 0)
        assert (found[less].latency_avg_us or 0) < (found[more].latency_avg_us or 0)
    # The last one of twelve that are due at once waits for eleven.
    assert (found["intervals"].latency_p99_us or 0) >= 0.95 * 12 * 10_000
