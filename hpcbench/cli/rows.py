"""Which rows of results a command uses: what can be read, and what --accept and --all take in."""

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hpcbench.cli import completions
from hpcbench.cli.lines import say
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


ALL: Callable[[_Command], _Command] = click.option(
    "--all",
    "all_files",
    is_flag=True,
    help="Also use what was measured of earlier files of a model, marked by date and digest.",
)


def load_chosen(
    results: Path,
    columns: Sequence[str] | None = None,
    *,
    categories: bool = False,
    accepted: Collection[str] = (),
    all_files: bool = False,
) -> tuple["DataFrame", list[HpcbenchError]]:
    """Return the measurements that a user wants to be told of, and say which others there are.

    Parameters
    ----------
    results, columns, categories
        As for `hpcbench.records.frame.load_results`.
    accepted
        Codes of rules that leave no row out; what --accept says.
    all_files
        Whether to return those of earlier model files, too, marked; what --all says.

    Returns
    -------
    tuple
        As from `load_whole`.
    """
    from hpcbench.analysis.summary.invalid_rows import accept_rules
    from hpcbench.records import model_files

    current = model_files.current_digests(results)
    if current and columns is not None:
        columns = list(dict.fromkeys((*columns, *model_files.FILE_COLUMNS)))
    frame, damaged = load_whole(results, columns, categories=categories)
    if current and (earlier := model_files.is_earlier(frame, current)).any():
        if all_files:
            frame = model_files.mark_earlier(frame, earlier)
        else:
            say(earlier_text(int(earlier.sum())), err=True)
            frame = frame[~earlier].reset_index(drop=True)
    return accept_rules(frame, accepted), damaged


def earlier_text(count: int) -> str:
    """Say how many measurements of earlier model files are left out.

    Parameters
    ----------
    count
        How many, from 1.

    Returns
    -------
    str
        A line.
    """
    one, more = "measurement of an earlier model file is", "measurements of earlier model files are"
    are = one if count == 1 else more
    return f"{count} {are} left out; --all of recommend, plot and report brings them in"


def load_whole(
    results: Path,
    columns: Sequence[str] | None = None,
    points: Collection[str] | None = None,
    *,
    categories: bool = False,
) -> tuple["DataFrame", list[HpcbenchError]]:
    """Return what can be read of results, and what is wrong with the rest.

    Parameters
    ----------
    results, columns, points, categories
        As for `hpcbench.records.frame.load_results`.

    Returns
    -------
    tuple
        The measurements, and an error for each damaged file, for `say_damaged`.
    """
    from hpcbench.records.frame import load_results

    damaged: list[HpcbenchError] = []
    frame = load_results(results, columns, points, categories=categories, on_damage=damaged.append)
    return frame, damaged


def same_servers(results: Path) -> list[str]:
    """Return which server variants Triton made the same server of.

    Parameters
    ----------
    results
        A results folder.

    Returns
    -------
    list of str
        As in "2 instances (the same as default instances)", of the present model files.
    """
    from hpcbench.analysis.summary import same_servers
    from hpcbench.analysis.summary.configuration import ordered_variants
    from hpcbench.records import model_files

    columns = dict.fromkeys((*same_servers.SAME_SERVERS_COLUMNS, *model_files.FILE_COLUMNS))
    frame, _ = load_whole(results, [*columns], categories=True)
    earlier = model_files.is_earlier(frame, model_files.current_digests(results))
    frame = frame[~earlier].reset_index(drop=True)
    named = same_servers.with_one_name(frame.assign(variant=ordered_variants(frame["variant"])))
    return same_servers.same_servers_texts(named)
