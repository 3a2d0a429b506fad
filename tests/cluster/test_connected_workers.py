"""Who is connected to a scheduler, asked from another thread than the scheduler's."""

import threading
import time
from typing import Any

from distributed import Client, LocalCluster

from hpcbench.cluster.connected_workers import Roster
from tests.helpers.waiting import wait_until


def test_workers_are_known_by_name_while_they_are_there_and_remembered() -> None:
    roster = Roster()
    with (
        LocalCluster(
            n_workers=2, processes=False, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.scheduler.add_plugin(roster)
        assert roster.connected == frozenset(), "those of before are not seen"
        cluster.scale(4)
        assert wait_until(lambda: roster.connected == {"2", "3"} and len(cluster.workers) == 4)
        busy = client.submit(time.sleep, 1, workers=[cluster.workers[2].worker_address])
        assert wait_until(lambda: roster.idle == ["3"])
        busy.result()
        cluster.scale(2)
        assert wait_until(lambda: roster.connected == frozenset())
    assert roster.ever == {"2", "3"}


def test_it_can_be_asked_while_workers_come_and_go() -> None:
    class State:
        def __init__(self, name: str) -> None:
            self.name = name
            self.processing: dict[str, Any] = {}

    class Scheduler:
        def __init__(self) -> None:
            self.workers = {f"tls://{number}": State(str(number)) for number in range(200)}

    scheduler = Scheduler()
    roster, stop = Roster(), threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for address in scheduler.workers:
                roster.add_worker(scheduler, address)
            for address in scheduler.workers:
                roster.remove_worker(scheduler, address, stimulus_id="left")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        seen = [len(roster.connected) + len(roster.idle) for _ in range(2000)]
    finally:
        stop.set()
        thread.join()
    assert max(seen) > 0
