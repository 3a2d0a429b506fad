"""One family of errors: each says what happened and what to do, and carries an exit code."""


class HpcbenchError(Exception):
    """Anything hpcbench tells its user about in one message instead of a traceback.

    ``hint`` says what to do about it. Both arguments go to ``Exception`` so that the error
    survives pickling on its way back from a worker.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message


class BadInput(HpcbenchError):
    """A file, a key, a value or a folder that the user gave cannot be used."""

    exit_code = 2


class SiteError(HpcbenchError):
    """The site, its software or its batch system refused."""

    exit_code = 3


class JobsDied(SiteError):
    """Jobs ended before their workers connected."""


class UnusableNode(SiteError):
    """This node cannot measure anything; its work belongs elsewhere.

    ``node`` and ``worker`` are their names for the batch system and for Dask.
    """

    def __init__(self, message: str, hint: str = "", node: str = "", worker: str = "") -> None:
        super().__init__(message, hint)
        self.args = (message, hint, node, worker)
        self.node = node
        self.worker = worker


class Interrupted(HpcbenchError):
    """The run was stopped by a signal; the same command goes on where it stopped."""

    exit_code = 130


class ServerFailed(HpcbenchError):
    """Triton did not become ready, or died.

    ``log_tail`` holds the last lines of its log; ``not_applicable`` is true where the backend
    said that it cannot do what the configuration asks for.
    """

    def __init__(self, message: str, log_tail: str = "", not_applicable: bool = False) -> None:
        super().__init__(message)
        self.args = (message, log_tail, not_applicable)
        self.log_tail = log_tail
        self.not_applicable = not_applicable


def cause_chain(error: BaseException) -> list[BaseException]:
    """An error and those that led to it, the first of all last: a library's own words hide them."""
    found = [error]
    while (cause := found[-1].__cause__) is not None:
        found.append(cause)
    return found
