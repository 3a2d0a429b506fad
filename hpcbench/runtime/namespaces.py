"""Make a network of its own, with nothing but a loopback, and sockets in it.

Run as ``python -I -S namespaces.py`` with a Unix socket as standard output. It sends the
namespaces there, as open files that other programs can enter, and then a new socket of the new
network for each byte that it receives: a socket belongs to the network that it was made in,
whoever uses it. It ends when the other side of its standard output is closed.

Root makes a network namespace only. Everybody else needs a user namespace around it, in which this
user is the same as outside, and no other is there.

Standard library only, and few imports: one of these starts before every server. Where the node
does not allow it, the word that it sends is the reason.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

_LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Make the namespaces, then sockets until nobody asks for more.

    Returns
    -------
    int
        0; 1 where this node does not allow it.
    """
    asks = socket.socket(fileno=1)
    try:
        files = _make()
    except OSError as error:
        asks.send(f"{error.filename}: {error.strerror}".encode())
        return 1
    socket.send_fds(asks, [b"made"], files)
    while asks.recv(1):
        with socket.socket() as made:
            socket.send_fds(asks, [b"socket"], [made.fileno()])
    return 0


def _make() -> list[int]:
    """Move this process into new namespaces; their files, in the order in which to enter them."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        _unshare(CLONE_NEWNET)
        names = ["net"]
    except PermissionError:
        _unshare(CLONE_NEWUSER | CLONE_NEWNET)
        # The kernel's condition for a map of groups without privileges.
        _write("setgroups", "deny")
        _write("uid_map", f"{uid} {uid} 1")
        _write("gid_map", f"{gid} {gid} 1")
        names = ["user", "net"]
    _raise_loopback()
    return [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in names]


def _unshare(kinds: int) -> None:
    if _LIBC.unshare(kinds):
        number = ctypes.get_errno()
        # The kernel's word for a limit of 0 (user.max_net_namespaces) is a full disk.
        text = "the limit is reached" if number == errno.ENOSPC else os.strerror(number)
        what = "user and network namespaces" if kinds & CLONE_NEWUSER else "network namespaces"
        raise OSError(number, text, what)


def _write(name: str, text: str) -> None:
    file = os.open(f"/proc/self/{name}", os.O_WRONLY)
    try:
        os.write(file, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error
    finally:
        os.close(file)


def _raise_loopback() -> None:
    """Bring up lo, as ``ip link set lo up`` does, which not every node has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
        except OSError as error:
            raise OSError(error.errno, error.strerror, "the loopback of the namespace") from error


if __name__ == "__main__":
    sys.exit(main())
