"""Segments of shared memory are called alike: on one node, one perf_analyzer has them at a time."""

import threading
import time

from hpcbench import container
from hpcbench.runtime import Container


def test_workers_of_one_node_wait_for_each_other_where_they_share_names() -> None:
    native = Container(prefix="/native")
    inside: list[int] = []
    most: list[int] = []

    def hold() -> None:
        with container.alone(native):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_containers_have_shared_memory_of_their_own() -> None:
    images = Container(runtime="apptainer", server_image="a.sif", sdk_image="b.sif")
    with container.alone(images), container.alone(images):
        pass
