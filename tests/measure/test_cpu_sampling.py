"""What programs take of the CPUs, and the energy of the CPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbench.measure import cpu_sampling
from hpcbench.measure.cpu_sampling import Programs, Usage
from hpcbench.measure.sampling import Reading
from tests.helpers import own_cpus
from tests.helpers.waiting import wait_until

BUSY = "import os; os.write(1, b'.')\nwhile True: pass"
IDLE = "import os, time; os.write(1, b'.'); time.sleep(600)"


@contextmanager
def below(code: str) -> Iterator[int]:
    """A process whose child has begun to run this code; its own id."""
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        # To start a Python takes CPU, too.
        assert process.stdout.read(1) == b"."
        children = cpu_sampling.descendants([process.pid])
        yield process.pid
        process.kill()
        for pid in children:
            os.kill(pid, 9)


def test_a_busy_and_an_idle_tree_are_distinguished() -> None:
    with below(IDLE) as server, below(BUSY) as client:
        source = cpu_sampling.ProcessTrees(server, lambda: [client])
        taken = [Reading(time.monotonic(), source.read())]

        def taken_s() -> float:
            taken.append(Reading(time.monotonic(), source.read()))
            columns = cpu_sampling.program_columns(taken)
            return min(columns["client_cpu_s"], columns["cpu_sampled_s"] / 3)

        # On a machine with other work it gets less than a whole CPU.
        assert wait_until(lambda: taken_s() > 0.2, every_s=0.4)
    columns = cpu_sampling.program_columns(taken)
    assert columns["client_cpu_s"] <= columns["cpu_sampled_s"] * 1.1
    assert columns["server_cpu_s"] < columns["client_cpu_s"]
    assert columns["client_threads"] == 1
    assert columns["server_memory_max_bytes"] > 2**20
    assert columns["cpus_shared"] is True


def test_a_client_that_waits_for_its_cpu_is_distinguished_from_who_has_it() -> None:
    with own_cpus.only_one(), below(IDLE) as server, below(BUSY) as client, below(BUSY):
        source = cpu_sampling.ProcessTrees(server, lambda: [client])
        first = Reading(time.monotonic(), source.read())
        # So long that it does not matter when within a reading the counters were read.
        time.sleep(4.0)
        last = Reading(time.monotonic(), source.read())
    columns = cpu_sampling.program_columns([first, last])
    own, waited, other = (
        columns[name] for name in ("client_cpu_s", "client_cpu_wait_s", "other_cpu_s")
    )
    assert columns["server_cpu_wait_s"] < 0.2 * waited
    # One CPU: what this client did not get, it waited for, and somebody else had.
    assert own + waited == pytest.approx(columns["cpu_sampled_s"], rel=0.15)
    assert own + other == pytest.approx(columns["cpu_sampled_s"], rel=0.15)
    assert waited > 0.3 * columns["cpu_sampled_s"]


def test_interrupts_and_a_hypervisor_keep_a_cpu_busy_and_waiting_for_a_disk_does_not(
    tmp_path: Path,
) -> None:
    tick = os.sysconf("SC_CLK_TCK")
    (tmp_path / "stat").write_text(
        "cpu  1 2 3 4 5 6 7 8 0 0\n"
        f"cpu0 {1 * tick} {2 * tick} {4 * tick} 999 999 {8 * tick} {16 * tick} {32 * tick} 999 0\n"
        "cpu11 0 0 0 999 0 0 0 0 0 0\nintr 1 2\nctxt 3\n"
    )
    assert cpu_sampling.busy_cpu_s(str(tmp_path / "stat")) == {0: 63.0, 11: 0.0}


def taken(
    client_s: float, threads: dict[int, float], cpus: set[int], server_cpus: set[int]
) -> Programs:
    client = Usage(
        {2: client_s}, threads, {2: client_s}, {2: int(100 * client_s)}, 100, frozenset(cpus)
    )
    return Programs(
        server=Usage({1: 0.0}, {1: 0.0}, {1: 0.0}, {1: 0}, 100, frozenset(server_cpus)),
        clients=client,
        busy_s={cpu: client_s / len(cpus) for cpu in cpus} | {99: 1000 * client_s},
    )


@pytest.mark.parametrize(
    ("cpu_s", "threads", "limited"),
    [
        (3.0, {2: 1.5, 3: 1.5}, False),
        (7.4, {2: 1.5, 3: 1.5}, True),  # 93 % of its four CPUs
        (2.0, {2: 1.9, 3: 0.1}, True),  # one thread cannot do more
    ],
)
def test_a_client_may_be_the_limit_where_its_cpus_or_its_busiest_thread_are_full(
    cpu_s: float, threads: dict[int, float], limited: bool
) -> None:
    own, servers = {0, 1, 2, 3}, {4, 5}
    before = taken(1.0, dict.fromkeys(threads, 0.0), own, servers)
    after = taken(1.0 + cpu_s, threads, own, servers)
    columns = cpu_sampling.program_columns([Reading(10.0, before), Reading(12.0, after)])
    assert columns["client_cpu_s"] == pytest.approx(cpu_s)
    assert columns["client_cpu_share"] == pytest.approx(cpu_s / 8)
    assert columns["client_context_switches"] == int(100 * (1 + cpu_s)) - 100
    assert columns["client_cpu_limited"] is limited
    assert columns["cpus_shared"] is False
    assert columns["other_cpu_s"] == pytest.approx(0, abs=1e-9)


def test_nothing_is_said_of_a_program_that_has_ended() -> None:
    gone = replace(taken(1.0, {2: 0.0}, {0}, {0}), server=Usage({}, {}, {}, {}, 0, frozenset()))
    assert cpu_sampling.program_columns([Reading(0.0, gone), Reading(1.0, gone)]) == {}
    assert cpu_sampling.program_columns([]) == {}


def powercap(folder: Path, **packages: tuple[str, int]) -> Path:
    """The files that Linux has for each: its name and its counter in microjoules."""
    for name, (content, microjoules) in packages.items():
        place = folder / name.replace("_", ":")
        place.mkdir()
        (place / "name").write_text(f"{content}\n")
        (place / "energy_uj").write_text(f"{microjoules}\n")
        (place / "max_energy_range_uj").write_text("262143328850\n")
    return folder


def test_the_energy_of_the_cpus_is_that_of_their_packages(tmp_path: Path) -> None:
    folder = powercap(
        tmp_path,
        **{
            "intel-rapl_0": ("package-0", 1_000_000),
            "intel-rapl_0_0": ("core", 400_000),
            "intel-rapl_1": ("package-1", 2_000_000),
            "intel-rapl_2": ("psys", 9_000_000),
        },
    )
    rapl = cpu_sampling.find_rapl(folder)
    assert rapl is not None
    assert rapl.read() == (1.0, 2.0)
    spent = rapl.energy([Reading(0.0, (1.0, 2.0)), Reading(0.5, (11.0, 7.0))])
    assert spent is not None
    assert (spent.joules, spent.seconds) == (15.0, 0.5)


def test_a_counter_that_starts_anew_goes_on(tmp_path: Path) -> None:
    rapl = cpu_sampling.find_rapl(powercap(tmp_path, **{"intel-rapl_0": ("package-0", 0)}))
    assert rapl is not None
    spent = rapl.energy([Reading(0.0, (262143.0,)), Reading(1.0, (1.0,)), Reading(2.0, (3.0,))])
    assert spent is not None
    assert spent.joules == pytest.approx(3.328850)


def test_counters_that_only_root_may_read_are_left_alone(tmp_path: Path) -> None:
    folder = powercap(tmp_path, **{"intel-rapl_0": ("package-0", 0)})
    (folder / "intel-rapl:0" / "energy_uj").unlink()
    assert cpu_sampling.find_rapl(folder) is None
    assert cpu_sampling.find_rapl(tmp_path / "nothing") is None
