"""No two placements on one GPU, whoever gave it to both. A stand-in answers for NVML."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hpcbench.errors import UnusableNode
from hpcbench.measure import device, gpu_locks
from hpcbench.measure.gpu_locks import GpuInUse
from tests.helpers.nvml import A100, INSTANCES, SLICE, UUIDS, mismatch, nvml, refuse, use_nvml
from tests.helpers.stranger import UID, needs_root

HOLD = """
import sys
from hpcbench.measure.gpu_locks import locked_gpus
with locked_gpus(sys.argv[1:]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def elsewhere(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds locks until the block is left."""
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other
        other.kill()


@pytest.fixture
def serial() -> str:
    """Of GPUs that no other test has."""
    return f"-{uuid.uuid4()}"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, serial: str) -> list[str]:
    """Two GPUs, both visible."""
    use_nvml(monkeypatch, nvml(serial=serial))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return [f"{each}{serial}" for each in UUIDS]


def test_a_gpu_has_one_process_at_a_time_until_that_one_ends_however(
    gpus: list[str],
) -> None:
    with elsewhere(sys.executable, "-c", HOLD, gpus[0]) as other:
        with pytest.raises(GpuInUse) as error, gpu_locks.locked_gpus(gpus):
            pass
        assert error.value.pid == other.pid
        with gpu_locks.locked_gpus(gpus[1:]):
            pass
        other.kill()
        other.wait()
        with gpu_locks.locked_gpus(gpus):
            pass


def test_a_gpu_that_is_named_twice_is_locked_once(gpus: list[str]) -> None:
    with gpu_locks.locked_gpus([gpus[0], gpus[0]]):
        pass


@contextmanager
def taken_by_a_stranger(name: str) -> Iterator[int]:
    """Another user has the name of a lock until the block is left; gives the process."""
    ready, says_so = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.setresuid(UID, UID, UID)
            lock = socket.socket(socket.AF_UNIX)
            lock.bind(name)
            lock.listen()
            os.write(says_so, b"held")
            signal.pause()
        os._exit(1)
    os.close(says_so)
    try:
        assert os.read(ready, 4) == b"held"
        yield pid
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@needs_root
def test_nobody_else_can_keep_a_worker_from_its_gpu(
    gpus: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Every user of the node can take every name."""
    with taken_by_a_stranger(f"\0hpcbench-{gpus[0]}") as pid, gpu_locks.locked_gpus(gpus):
        pass
    assert f"GPU {gpus[0]}: its lock is held by process {pid} of user {UID}" in caplog.text


def test_two_jobs_that_were_given_the_same_gpu_are_an_error(
    gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "CUDA1")
    with elsewhere(sys.executable, "-c", HOLD, gpus[1]) as other:
        with (
            pytest.raises(UnusableNode, match="two jobs were given the same GPU") as error,
            gpu_locks.gpus_of_job(1),
        ):
            pass
        assert f"GPU {gpus[1]}: process {other.pid} measures on it" in error.value.message
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        with gpu_locks.gpus_of_job(1):
            assert device.gpu_columns()["gpu_uuid"] == gpus[0]


def test_a_job_without_gpus_locks_none(gpus: list[str]) -> None:
    with (
        elsewhere(sys.executable, "-c", HOLD, *gpus),
        gpu_locks.gpus_of_job(0),
        gpu_locks.gpus_of_computer(None, 0),
    ):
        assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_workers_of_one_computer_take_gpus_that_no_other_one_has(gpus: list[str]) -> None:
    with elsewhere(sys.executable, "-c", HOLD, gpus[0]):
        with gpu_locks.gpus_of_computer(None, 1):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == gpus[1]
            assert device.gpu_columns()["gpu_uuid"] == gpus[1]
        with (
            pytest.raises(UnusableNode, match="1 of 2 GPUs are too few for one more worker"),
            gpu_locks.gpus_of_computer(None, 2),
        ):
            pass
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    with gpu_locks.gpus_of_computer(None, 2):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(gpus)


def test_a_worker_of_a_pool_takes_gpus_of_that_kind(
    monkeypatch: pytest.MonkeyPatch, serial: str
) -> None:
    use_nvml(monkeypatch, nvml(divided=True, serial=serial))
    whole, part = UUIDS[1] + serial, INSTANCES[1] + serial
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{part},0,1")
    with gpu_locks.gpus_of_computer(A100, 1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == whole
    with gpu_locks.gpus_of_computer(SLICE, 1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == part
    assert os.environ["CUDA_VISIBLE_DEVICES"] == f"{part},0,1"
    with gpu_locks.gpus_of_computer("Tesla T4", 1):
        assert mismatch("Tesla T4", 1) == f"Tesla T4 promised, {SLICE} found"


def test_a_computer_without_gpus_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    use_nvml(monkeypatch, nvml(nvmlInit=refuse(1)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with gpu_locks.gpus_of_computer(None, 1):
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
