"""The local cluster: one-thread worker processes, closed to everyone else on the machine."""

import itertools
import os
import socket
import ssl
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import psutil
import pytest
from distributed import Client
from distributed.core import Status
from distributed.security import Security

from hpcbench.cluster.fork_server import start_fork_server
from hpcbench.cluster.workers import local_workers
from hpcbench.config.site import Pool
from tests.helpers.waiting import wait_until


def _page(port: int) -> bytes:
    """What a port of the loopback answers to a browser that asks for Dask's status page."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.settimeout(5)
        try:
            connection.sendall(b"GET /json/counts.json HTTP/1.0\r\n\r\n")
            return connection.recv(1000)
        except OSError:
            return b""


def _nothing() -> int:
    return os.getpid()


def test_each_worker_is_a_process_with_one_thread() -> None:
    with local_workers(Pool(max_jobs=2)) as workers:
        client = workers.client
        threads = client.nthreads()
        pids = client.run(_nothing)
    assert list(threads.values()) == [1, 1]
    assert len({*pids.values(), os.getpid()}) == 3


def test_no_folder_is_searched_for_modules_that_another_user_may_have_made() -> None:
    """Whoever has made /tmp/dask-scratch-space can replace what Dask makes in it."""
    before = set(sys.path)
    with local_workers(Pool()) as workers:
        paths = itertools.chain(sys.path, *workers.client.run(lambda: sys.path).values())
        of_dask = {Path(each) for each in {*paths} - before if "dask-scratch-space" in each}
        assert len(of_dask) >= 2
        for path in of_dask:
            above = [folder.stat() for folder in path.parents]
            assert any(its.st_mode & 0o777 == 0o700 and its.st_uid == os.getuid() for its in above)


def test_nothing_is_left_when_the_block_ends() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with local_workers(Pool()) as workers:
        client = workers.client
        pids = set(client.run(_nothing).values())
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert wait_until(lambda: not any(map(psutil.pid_exists, pids)))
    after = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    running = [child for child in after if child.status() != psutil.STATUS_ZOMBIE]
    left = [" ".join(child.cmdline()) for child in running]
    assert not [words for words in left if "spawn_main" in words or "forkserver" in words]


def test_a_worker_has_the_environment_that_its_run_began_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the fork server was started before."""
    name = "HPCBENCH_TEST_OF_RUNS"
    for value in ("first", "second", None):
        start_fork_server()
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
            start_fork_server()
        with local_workers(Pool()) as workers:
            assert set(workers.client.run(os.environ.get, name).values()) == {value}


def test_nothing_is_left_either_where_a_connection_breaks_at_the_end() -> None:
    async def hang_up(comm: Any = None, **_: Any) -> None:
        comm.abort()

    with local_workers(Pool()) as workers:
        pids = set(workers.client.run(_nothing).values())
        scheduler = workers.client.cluster.scheduler
        scheduler.handlers["retire_workers"] = hang_up
    assert wait_until(lambda: not any(map(psutil.pid_exists, pids)))
    assert scheduler.status is Status.closed


def test_the_scheduler_listens_on_the_loopback_and_speaks_tls_only() -> None:
    with local_workers(Pool()) as workers:
        client = workers.client
        address = urlparse(client.scheduler.address)
        assert (address.scheme, address.hostname) == ("tls", "127.0.0.1")
        here = psutil.Process()
        listening = {
            (entry.laddr.ip, entry.laddr.port)
            for process in (here, *here.children(recursive=True))
            for entry in process.net_connections("tcp")
            if entry.status == psutil.CONN_LISTEN
        }
        assert {ip for ip, _ in listening} == {"127.0.0.1"}
        pages = [_page(port) for _, port in listening]
        assert not any(b" 200 " in page for page in pages), "a page can be read by everyone here"
        with socket.create_connection((address.hostname, address.port), 5) as plain:
            plain.settimeout(5)
            plain.sendall(b"\0" * 64)
            # An alert and the end, or a reset: nothing of Dask's own greeting.
            try:
                answer = plain.recv(1000)
            except ConnectionError:
                answer = b""
        assert b"compression" not in answer


def test_a_client_with_another_key_is_refused() -> None:
    with local_workers(Pool()) as workers:
        client = workers.client
        address = client.scheduler.address
        with pytest.raises((OSError, ssl.SSLError)):
            Client(address, security=Security.temporary(), timeout=3)
