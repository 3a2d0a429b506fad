"""Prints lines that may hold text from elsewhere; imports no rich, which takes long."""

from typing import Any

import click

from hpcbench.printable import printable


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
