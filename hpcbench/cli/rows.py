"""Which rows of results a command uses: what can be read of them, and what --accept takes in."""

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hpcbench.cli import completions
from hpcbench.errors import HpcbenchError

if TYPE_CHECKING:
    from pandas import DataFrame

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _known_rules(
    _context: click.Context, _option: click.Parameter, codes: Iterable[str]
) -> tuple[str, ...]:
    from hpcbench.analysis.summary.invalid_rows import ACCEPTABLE

    for code in codes:
        if code not in ACCEPTABLE:
            allowed = ", ".join(ACCEPTABLE)
            raise click.BadParameter(f"{code!r} cannot be accepted; these can: {allowed}")
    return tuple(codes)


ACCEPT: Callable[[_Command], _Command] = click.option(
    "--accept",
    "accepted",
    metavar="RULE",
    multiple=True,
    callback=_known_rules,
    shell_complete=completions.rules,
    help="Use the measurements that break this rule of hpcbench check, too, as in DISTURBED. The "
    "output says how many. Repeat the option for several.",
)


def load_whole(
    results: Path,
    columns: Sequence[str] | None = None,
    points: Collection[str] | None = None,
    *,
    categories: bool = False,
    accepted: Collection[str] = (),
) -> tuple["DataFrame", list[HpcbenchError]]:
    """Return what can be read of results, and what is wrong with the rest.

    Parameters
    ----------
    results, columns, points, categories
        As for `hpcbench.records.frame.load_results`.
    accepted
        Codes of rules that leave no row out.

    Returns
    -------
    tuple
        The measurements, and an error for each damaged file, for `say_damaged`.
    """
    from hpcbench.analysis.summary.invalid_rows import accept_rules
    from hpcbench.records.frame import load_results

    damaged: list[HpcbenchError] = []
    frame = load_results(results, columns, points, categories=categories, on_damage=damaged.append)
    return accept_rules(frame, accepted), damaged
