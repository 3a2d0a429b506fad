"""Text that came from elsewhere, as it may reach a terminal or a log.

Results, campaigns and the output of other programs may hold escape sequences, which set a
terminal's title, clipboard or keys, and file names that are no text at all.
"""

import logging
import re

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
