"""A campaign on GPUs, of which this computer may have none: workers see two invented ones.

Triton and perf_analyzer are the real ones, and serve on CPUs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from hpcbench import load_results
from hpcbench.records.columns import MEASURED
from tests.helpers import nvml
from tests.helpers.nvml import A100, INSTANCES, SLICE, UUIDS
from tests.helpers.paths import CHECKOUT
from tests.helpers.real import campaign_file, site_file

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("leaves_nothing")]

POOLS = {
    "slices": {"gpu": SLICE, "gpus_per_job": 1, "max_jobs": 2},
    "whole": {"gpu": A100, "gpus_per_job": 1},
}


@pytest.fixture
def serial(monkeypatch: pytest.MonkeyPatch) -> str:
    """The end of the UUIDs of the workers' GPUs."""
    found = f"-{uuid.uuid4()}"
    folder = str(Path(nvml.__file__).with_name("with_nvml"))
    path = [folder, str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setenv("HPCBENCH_TEST_SERIAL", found)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return found


def overlaps(rows: pd.DataFrame) -> list[Any]:
    """Placements that began on a GPU before the one before them had ended there."""
    spans = rows.groupby(["gpu_uuid", "placement_id"]).agg({"started_at": "min", "ended_at": "max"})
    spans = spans.reset_index().sort_values(["gpu_uuid", "started_at"])
    before = spans.groupby("gpu_uuid")["ended_at"].shift()
    return list(spans[spans["started_at"] < before]["placement_id"])


def test_two_pools_on_a_whole_gpu_and_mig_instances_have_the_right_gpu_in_every_row(
    tmp_path: Path, native_prefix: Path, demo_models: Path, serial: str
) -> None:
    site = site_file(tmp_path, native_prefix, cpus_only=True)
    site.write_text(yaml.safe_dump(yaml.safe_load(site.read_text()) | {"pools": POOLS}))
    load = {"batch_size": [1, 2], "concurrency": 2}
    campaign = campaign_file(tmp_path, demo_models, load=load, repeats=3)
    # A process of its own: workers are forked from a server that may be older than the environment.
    words = ("run", campaign, "--site", site, "--results", tmp_path / "results")
    ended = subprocess.run(
        [sys.executable, "-m", "hpcbench", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    rows = load_results(tmp_path / "results")
    assert len(rows) == 2 * 2 * 3
    assert set(rows["status"]) <= MEASURED
    instances = {each + serial: f"{7 + place}/0" for place, each in enumerate(INSTANCES)}
    for row in rows.to_dict("records"):
        found = (row["gpu_count"], row["gpu_name"], row["gpu_uuid"])
        part = (row["gpu_mig_instance"], row["gpu_mig_profile"])
        if row["pool"] == "whole":
            assert found == (1, A100, UUIDS[1] + serial)
            assert pd.isna(part[0])
            assert pd.isna(part[1])
            assert row["gpu_ecc"] == False  # noqa: E712 - pandas has its own
        else:
            assert found[:2] == (1, SLICE)
            assert part == (instances[found[2]], "1g.5gb")
            assert row["gpu_ecc"] == True  # noqa: E712
            assert row["gpu_memory_total_bytes"] == 4864 * 2**20
        assert row["cuda_visible_devices"] == found[2]
        assert row["gpu_persistence_mode"] == True  # noqa: E712
        assert "DEVICE" not in (row["invalid_reasons"] or "")
    assert overlaps(rows) == []
