"""A loopback of one's own: programs of it reach each other, and nobody else reaches them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from hpcbench.runtime import loopback, process
from hpcbench.runtime.loopback import ADDRESS, Loopback, NoLoopback, Port, own_loopback
from hpcbench.runtime.process import Command
from tests.helpers.confined import AS_A_USER, WITHOUT_NETWORKS
from tests.helpers.stranger import as_stranger, needs_root
from tests.helpers.waiting import wait_until


@contextmanager
def web_server(own: Loopback, folder: Path) -> Iterator[Port]:
    """A program that listens on a loopback."""
    (port,) = loopback.free_ports(1, own)
    words = [sys.executable, "-m", "http.server", str(port.number), "--bind", ADDRESS]
    command = Command(words, namespaces=own.namespaces)
    with process.running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder):
        assert wait_until(lambda: answers(port))
        yield port


def answers(port: Port) -> bool:
    """Whether something that speaks HTTP listens."""
    # A busy machine may also take longer for the answer.
    with suppress(OSError), closing(port.http(5)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    return False


def test_programs_of_one_loopback_and_this_process_reach_each_other(tmp_path: Path) -> None:
    with own_loopback() as own, web_server(own, tmp_path) as port:
        assert not answers(Port(port.number))
        script = f"exec 3<>/dev/tcp/{ADDRESS}/{port.number} && echo reached"
        inside = Command(["bash", "-c", script], namespaces=own.namespaces)
        assert process.run(inside, folder=tmp_path, timeout_s=240).stdout == "reached\n"
        with own_loopback() as another:
            assert not answers(Port(port.number, another))


ATTACK = """\
set +e; exec 2>/dev/null
for pid in "$2" $(pgrep -P "$2"); do
    nsenter --net="/proc/$pid/ns/net" true && echo "entered the network of $pid"
    nsenter --target "$pid" --user --net --preserve-credentials true && echo "entered $pid"
    readlink "/proc/$pid/ns/net"
done
bash -c "exec 3<>/dev/tcp/127.0.0.1/$1" && echo connected
bash -c "exec 3<>/dev/tcp/::1/$1" && echo connected
ss -Hltn | grep -w "$1"
grep -i ":$(printf %04X "$1") " /proc/net/tcp
unshare --user --map-root-user nsenter --net="/proc/$2/ns/net" true && echo "entered as root"
echo done
"""


@needs_root
def test_another_user_neither_reaches_it_nor_enters_it(tmp_path: Path) -> None:
    with own_loopback() as own, web_server(own, tmp_path) as port:
        assert own.maker is not None
        assert as_stranger(ATTACK, str(port.number), str(own.maker.pid)) == "done\n"
    # As a check of the attack: on the node's own loopback it does reach the port.
    with web_server(loopback.NODE, tmp_path) as port:
        assert "connected" in as_stranger(ATTACK, str(port.number), str(os.getpid()))


def test_an_ordinary_user_gets_one_too_and_stays_the_same_user(tmp_path: Path) -> None:
    script = """
import os, pathlib, sys
from hpcbench.runtime import loopback, process
with loopback.own_loopback() as own:
    inside = process.Command(["sh", "-c", "id -u; grep CapEff /proc/self/status; cat mine"],
                             namespaces=own.namespaces)
    done = process.run(inside, folder=pathlib.Path(sys.argv[1]), timeout_s=240)
    loopback.free_ports(3, own)
    print(len(own.namespaces), *done.stdout.split(), done.stderr)
"""
    (tmp_path / "mine").write_text("read")
    (tmp_path / "mine").chmod(0o600)
    words = [*AS_A_USER, sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.split() == ["2", "61235", "CapEff:", "0" * 16, "read"], done.stderr


def test_where_the_node_does_not_allow_it_the_reason_is_said() -> None:
    script = """
from hpcbench.runtime import loopback
try:
    with loopback.own_loopback():
        print("made")
except loopback.NoLoopback as error:
    print(error)
"""
    words = [*WITHOUT_NETWORKS, sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout == "user and network namespaces: the limit is reached\n", done.stderr


def test_when_its_program_is_killed_sockets_are_refused_and_not_waited_for() -> None:
    with own_loopback() as own:
        assert own.maker is not None
        assert own.alive
        os.kill(own.maker.pid, signal.SIGKILL)
        assert own.maker.wait(60) is not None
        assert not own.alive
        with pytest.raises(OSError, match=r"ended|Broken pipe|reset"):
            own.socket()


def test_a_program_that_cannot_make_one_ends_in_a_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dies.py").write_text("raise SystemExit(3)\n")
    monkeypatch.setattr(loopback.namespaces, "__file__", str(tmp_path / "dies.py"))
    with pytest.raises(NoLoopback, match="has ended"), own_loopback():
        pass
