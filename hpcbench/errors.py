"""One family of errors, and what makes a message of them that a terminal or a log may show.

Each error says what happened and what to do, and carries an exit code.
"""

import difflib
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path


class HpcbenchError(Exception):
    """Whatever a user sees as one message instead of a traceback.

    Parameters
    ----------
    message
        What is wrong, and where.
    hint
        What to do about it.
    """

    exit_code = 1

    # Whatever a subclass is made of goes to `args`: an error is pickled on its way back from a
    # worker, and made again from these.

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message says all that a traceback would."""
        return [printable(f"{type(self).__name__}: {self}")]


class BadInput(HpcbenchError):
    """A file, key, value or folder that the user gave cannot be used."""

    exit_code = 2


class DamagedFile(BadInput):
    """A file of records that cannot be read. Other files beside it can.

    Parameters
    ----------
    message
        What is wrong with it.
    hint
        What to do about it.
    path
        The file.
    """

    def __init__(self, message: str, hint: str, path: Path) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, path)
        self.path = path


class SiteError(HpcbenchError):
    """The site, its software or its batch system refuses."""

    exit_code = 3


class JobsDied(SiteError):
    """Jobs ended before their workers connected."""


class NoImage(SiteError):
    """What was named as an image was looked at: it is none, or it is damaged."""


class UnusableNode(SiteError):
    """This node cannot measure anything. Its work belongs on another one.

    Parameters
    ----------
    message
        What is wrong with it.
    hint
        What to do about it.
    node
        Its name for the batch system.
    worker
        The name of its worker for Dask.
    """

    def __init__(self, message: str, hint: str = "", node: str = "", worker: str = "") -> None:
        super().__init__(message, hint)
        self.args = (message, hint, node, worker)
        self.node = node
        self.worker = worker


class Interrupted(HpcbenchError):
    """A signal stopped the run. The same command continues it."""

    exit_code = 130


class ServerFailed(HpcbenchError):
    """Triton did not become ready, or died.

    Parameters
    ----------
    message
        What happened.
    log_tail
        The last lines of its log.
    not_applicable
        Whether the backend said that it cannot do what the configuration asks for.
    """

    def __init__(self, message: str, log_tail: str = "", not_applicable: bool = False) -> None:
        super().__init__(message)
        self.args = (message, log_tail, not_applicable)
        self.log_tail = log_tail
        self.not_applicable = not_applicable


def cause_chain(error: BaseException) -> list[BaseException]:
    """Return an error and the errors that led to it.

    Libraries wrap the first error, which says most, into others.

    Parameters
    ----------
    error
        What was caught.

    Returns
    -------
    list of BaseException
        The error itself first, the first cause last.
    """
    found = [error]
    while (cause := found[-1].__cause__) is not None:
        found.append(cause)
    return found


def hint_for(message: str, hints: Mapping[str, str]) -> str:
    """Return what to do about a message of another program.

    Parameters
    ----------
    message
        What it printed.
    hints
        What to do, by regular expressions; of those that match, the first one counts.

    Returns
    -------
    str
        The hint; empty where the message says nothing known.
    """
    return next((hint for pattern, hint in hints.items() if re.search(pattern, message)), "")


def reason_in(printed: str, starts: tuple[str, ...]) -> str:
    """Return the line in which another program says why it gave up.

    Parameters
    ----------
    printed
        What it printed on standard error.
    starts
        How such lines begin.

    Returns
    -------
    str
        The last of them; the last line of all where there is none.
    """
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    found = [line for line in lines if line.startswith(starts)]
    return (found or lines[-1:] or ["it printed nothing"])[-1]


def end_of(printed: str) -> str:
    """Return the last two lines that another program has printed, as one.

    Parameters
    ----------
    printed
        What it printed on standard error.

    Returns
    -------
    str
        Without blank lines.
    """
    lines = [line for line in printed.splitlines() if line.strip()]
    return " ".join(lines[-2:]) or "no reason given"


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return a question for an error message about an unknown word.

    Parameters
    ----------
    word
        What the user wrote.
    allowed
        The words that are known.

    Returns
    -------
    str
        As in " did you mean 'batch_size'?", with the space before it; empty if no word is close.
    """
    # The most usual slip is a wrong case, which difflib counts as another letter.
    known = {each.lower(): each for each in allowed}
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f" did you mean '{known[close[0]]}'?" if close else ""


# Results, campaigns and the output of other programs may hold escape sequences, which set a
# terminal's title, clipboard or keys, and file names that are no text at all.
_UNPRINTABLE = re.compile(
    # Controls but for tab and new line; what turns the direction of writing; halves of characters,
    # by which Python stands for bytes of a file name that are no UTF-8.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Return a text in which each character that controls a terminal is spelt out.

    Parameters
    ----------
    text
        Any text.

    Returns
    -------
    str
        With ``\x1b`` for an escape, and so on; tabs and ends of lines stay.
    """
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    r"""Return a text that stays on its line, as a cell of a table must.

    Parameters
    ----------
    text
        Any text.

    Returns
    -------
    str
        As `printable`, with ``\n`` for the end of a line and ``\t`` for a tab.
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class PrintableFormatter(logging.Formatter):
    """A formatter of a log whose lines are `printable`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record.

        Parameters
        ----------
        record
            What was logged.

        Returns
        -------
        str
            As `logging.Formatter` writes it, and printable.
        """
        return printable(super().format(record))
