"""Whether a server has died, where its client has failed: that is known a little later."""

import contextlib

from hpcbench.measure.server import RunningServer

_KNOWN_S = 0.5
"""Seconds after which a supervisor has usually said that its program is dead."""

_ANSWER_S = 10.0
_ENDING_S = 60.0
"""Seconds that all of a dead server may take to go, where others have the node's CPUs."""


def wait_where_dead(server: RunningServer) -> None:
    """Wait until it is known that a server has died, if it has.

    Parameters
    ----------
    server
        A server whose client has ended by itself.
    """
    server.process.wait(timeout_s=_KNOWN_S)
    if not server.alive:
        return
    # Whoever dies listens no more, and one that hangs still does.
    with contextlib.suppress(OSError):
        server.http_port.connect(_ANSWER_S).close()
        return
    server.process.wait(timeout_s=_ENDING_S)
