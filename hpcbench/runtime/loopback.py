"""The loopback that a server listens on: the node's, which all its users share, or one of its own.

Programs enter a loopback of their own by its namespaces. This process cannot, because the kernel
lets no process with several threads into a user namespace: it gets sockets that were made there.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection

from hpcbench.runtime import namespaces, process
from hpcbench.runtime.process import Command, RunningProgram

ADDRESS = "127.0.0.1"

_ANSWER_S = 60.0


class NoLoopback(Exception):
    """This node does not let its users make networks of their own; the message says why."""


@dataclass(frozen=True, eq=False)
class Loopback:
    """A loopback interface.

    Attributes
    ----------
    namespaces
        Open files of the namespaces to enter; none for the node's own loopback.
    maker
        The program that makes sockets on it; None for the node's own.
    """

    namespaces: tuple[int, ...] = ()
    maker: RunningProgram | None = None
    _asks: socket.socket | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def alive(self) -> bool:
        """Whether this process still gets sockets on it."""
        return self.maker is None or self.maker.poll() is None

    def socket(self) -> socket.socket:
        """Return a new TCP socket on this loopback.

        Returns
        -------
        socket.socket
            Not yet bound or connected.

        Raises
        ------
        OSError
            If the program that makes them is gone.
        """
        if self._asks is None:
            return socket.socket()
        # Several threads read a server at the same time. Which of them gets which socket does not
        # matter.
        with self._turn:
            self._asks.sendall(b"1")
            _, files, _, _ = _receive(self._asks)
        if not files:
            raise ConnectionError("the program that makes sockets of the loopback has ended")
        return socket.socket(fileno=files[0])


NODE = Loopback()
"""That of the node."""


@dataclass(frozen=True)
class Port:
    """A TCP port.

    Attributes
    ----------
    number
        Its number.
    loopback
        Where it is.
    """

    number: int
    loopback: Loopback = NODE

    @property
    def address(self) -> str:
        """Host and port, for a program that is on the same loopback."""
        return f"{ADDRESS}:{self.number}"

    def connect(self, timeout_s: float) -> socket.socket:
        """Connect to the port.

        Parameters
        ----------
        timeout_s
            How long this and everything that is then done with the socket may take, in seconds.

        Returns
        -------
        socket.socket
            The connection.

        Raises
        ------
        OSError
            If nobody listens.
        """
        found = self.loopback.socket()
        try:
            found.settimeout(timeout_s)
            found.connect((ADDRESS, self.number))
        except BaseException:
            found.close()
            raise
        return found

    def http(self, timeout_s: float) -> HTTPConnection:
        """Connect to the port for requests over HTTP.

        Parameters
        ----------
        timeout_s
            How long each step may take, in seconds.

        Returns
        -------
        HTTPConnection
            To be closed by the caller.

        Raises
        ------
        OSError
            If nobody listens.
        """
        connection = HTTPConnection(self.address)
        # By itself it would make a socket of this process's network.
        connection.sock = self.connect(timeout_s)
        return connection


def free_ports(count: int, loopback: Loopback = NODE) -> list[Port]:
    """Find free ports of a loopback.

    Parameters
    ----------
    count
        How many.
    loopback
        Where.

    Returns
    -------
    list of Port
        All different. Another program may take one before it is used.
    """
    with contextlib.ExitStack() as stack:
        # All are bound before any is closed, so that no port is found twice.
        sockets = [stack.enter_context(loopback.socket()) for _ in range(count)]
        for entry in sockets:
            entry.bind((ADDRESS, 0))
        return [Port(entry.getsockname()[1], loopback) for entry in sockets]


@contextmanager
def own_loopback() -> Iterator[Loopback]:
    """Make a loopback that no other user of this node reaches; it is gone with the block.

    Yields
    ------
    Loopback
        With nobody on it.

    Raises
    ------
    NoLoopback
        Where this node does not allow it.
    """
    ours, theirs = socket.socketpair()
    command = Command([sys.executable, "-I", "-S", namespaces.__file__])
    with (
        ours,
        theirs,
        process.running(
            command, stdout=theirs.fileno(), stderr=subprocess.DEVNULL, grace_s=0.5
        ) as maker,
    ):
        # Else the end of the program would not be seen here.
        theirs.close()
        ours.settimeout(_ANSWER_S)
        try:
            word, files, _, _ = _receive(ours)
        except OSError as error:
            raise NoLoopback(str(error)) from error
        if not files:
            raise NoLoopback(word.decode(errors="replace") or "the program that makes it has ended")
        try:
            yield Loopback(tuple(files), maker, ours)
        finally:
            for file in files:
                os.close(file)


def _receive(asks: socket.socket) -> tuple[bytes, list[int], int, object]:
    try:
        # Without the flag every program that another thread starts meanwhile would have them, too.
        return socket.recv_fds(asks, 512, 2, socket.MSG_CMSG_CLOEXEC)
    except TimeoutError:
        raise ConnectionError("the loopback's program does not answer") from None
