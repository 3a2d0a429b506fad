"""Plain lines for a terminal: printable, folded between words; no rich, which is slow to import."""

import shutil
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

import click

from hpcbench.errors import HpcbenchError, printable


def width_of(stream: TextIO) -> int | None:
    """Return how wide a line of a stream may be.

    Parameters
    ----------
    stream
        Where lines go.

    Returns
    -------
    int or None
        In characters; None where it is no terminal: programs that read lines want them whole.
    """
    return shutil.get_terminal_size().columns if stream.isatty() else None


def folded(text: str, width: int | None, indent: int = 0) -> str:
    """Fold a line between its words.

    Parameters
    ----------
    text
        The line, with the spaces that it begins with.
    width
        How wide a line may be; None for any width.
    indent
        How far the lines after the first one are indented.

    Returns
    -------
    str
        As many lines as are needed. A word that is wider, such as a path, stays whole.
    """
    if width is None or len(text) <= width:
        return text
    lines = textwrap.wrap(
        text,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def folded_phrases(phrases: Sequence[str], width: int | None, first: str, indent: int) -> str:
    """Join phrases with commas, and fold the line between them.

    Parameters
    ----------
    phrases
        What to join; one that is wider than a line is folded between its words.
    width
        How wide a line may be; None for any width.
    first
        What the first line begins with.
    indent
        How far the other lines are indented.

    Returns
    -------
    str
        As many lines as are needed.
    """
    lines, line = [], first
    for number, phrase in enumerate(phrases):
        text = phrase + "," * (number < len(phrases) - 1)
        fits = width is None or len(line) + len(text) <= width
        if not fits and line.strip():
            lines.append(line.rstrip())
            line = " " * indent
        line += f"{text} "
    lines.append(line.rstrip())
    return "\n".join(folded(each, width, indent) for each in lines)


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
