"""Numbers on the command line: in a range that reads as words, and finite."""

from collections.abc import Callable
from math import isnan
from typing import Any, TypeVar

import click

LARGEST = 1e15
"""Limit for numbers on the command line, so that products of two of them stay finite."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _RangeInWords:
    min: Any
    max: Any
    min_open: bool
    max_open: bool

    def _describe_range(self) -> str:
        """What click itself writes as x>0."""
        above = "above" if self.min_open else "from"
        below = "below" if self.max_open else "to"
        if self.max is None:
            return f"above {self.min:g}" if self.min_open else f"{self.min:g} or more"
        return f"{above} {self.min:g} {'to ' * self.max_open}{below} {self.max:g}"


class Whole(_RangeInWords, click.IntRange):
    """A whole number in a range."""


class Number(_RangeInWords, click.FloatRange):
    """A finite number in a range. Click itself accepts NaN in any range, and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail with what is allowed.

        Parameters
        ----------
        value, param, ctx
            As for `click.ParamType.convert`.

        Returns
        -------
        int or float
            In the range, and at most LARGEST.
        """
        number = super().convert(value, param, ctx)
        if isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        if number > LARGEST:
            self.fail(f"{value} is not in the range up to {LARGEST:g}", param, ctx)
        return number


def positive(name: str, unit: str, meaning: str) -> Callable[[_Command], _Command]:
    """Return an option for a number above 0.

    Parameters
    ----------
    name
        The option with its dashes.
    unit
        Its unit, in capitals.
    meaning
        Its help.

    Returns
    -------
    callable
        A decorator of commands.
    """
    number = Number(min=0, min_open=True)
    return click.option(name, type=number, metavar=unit, help=meaning)
