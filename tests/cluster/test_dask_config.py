"""Dask's configuration: hpcbench's, whatever the user's own files and variables say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dask
import pytest

from hpcbench.cluster import dask_config
from hpcbench.cluster.workers import local_workers
from hpcbench.config.site import Pool
from tests.helpers.waiting import wait_until


def test_what_a_user_has_set_for_dask_does_not_change_a_run(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "distributed: {scheduler: {worker-ttl: 1s, idle-timeout: 1s}, "
        "worker: {preload: [planted], lifetime: {duration: 1s}}, comm: {compression: zlib}}"
    )
    ask = (
        "import dask; from hpcbench.cluster.dask_config import settings\n"
        "with dask.config.set(settings()):\n"
        "    for key in ('scheduler.worker-ttl', 'scheduler.idle-timeout', 'worker.preload',"
        " 'worker.lifetime.duration', 'comm.compression', 'nanny.preload'):\n"
        "        print(dask.config.get(f'distributed.{key}'))"
    )
    variables = {"DASK_CONFIG": str(tmp_path), "DASK_DISTRIBUTED__NANNY__PRELOAD": "planted"}
    done = subprocess.run(
        [sys.executable, "-c", ask],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n") == ["None", "None", "[]", "None", "False", "[]", ""]


def test_a_setting_that_hpcbench_does_not_name_has_dasks_default() -> None:
    assert dask_config.settings()["distributed.comm.timeouts.tcp"] == "30s"


def test_workers_stay_when_their_driver_was_stopped_for_longer_than_dask_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dask's own limit is five minutes; here, what a stopped driver sees when it goes on."""
    with local_workers(Pool()) as workers:
        scheduler = workers.client.cluster.scheduler
        for state in scheduler.workers.values():
            state.last_seen -= 3600
        assert "worker-ttl" not in scheduler.periodic_callbacks
        assert scheduler.worker_ttl is None
        assert not wait_until(lambda: workers.live == 0, timeout_s=1)
    assert dask.config.get("distributed.scheduler.worker-ttl") is not None
