"""Prints lines that may hold text from elsewhere; imports no rich, which takes long."""

from collections.abc import Sequence
from typing import Any

import click

from hpcbench.errors import HpcbenchError, printable


def say(text: Any, *, err: bool = False) -> None:
    """Print a line.

    Parameters
    ----------
    text
        The line, or several.
    err
        Whether it goes to stderr.
    """
    click.echo(printable(str(text)), err=err)


def say_damaged(damaged: Sequence[HpcbenchError]) -> int:
    """Name the damaged files that a command has left out.

    Parameters
    ----------
    damaged
        What is wrong with each; one may be there more than once.

    Returns
    -------
    int
        The exit code: 1 where there are any.
    """
    for message in dict.fromkeys(map(str, damaged)):
        say(f"left out: {message}", err=True)
    return int(bool(damaged))
